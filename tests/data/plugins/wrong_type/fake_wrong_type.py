"""Returns dicts where specs are expected."""

from ecco_core import hookimpl


@hookimpl
def ecco_analyses():
    return [{"name": "a_dict", "target": "fake_wrong_type:run"}]
