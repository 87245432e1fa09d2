"""Marks a function that is no hook: a typo."""

from ecco_core import hookimpl


@hookimpl
def ecco_analysis():
    return []
