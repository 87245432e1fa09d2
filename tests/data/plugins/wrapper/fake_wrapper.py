"""Tries to wrap what others register."""

from ecco_core import hookimpl


@hookimpl(wrapper=True)
def ecco_analyses():
    return (yield)
