"""Raises after it has offered one good spec."""

from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses():
    yield AnalysisSpec(name="half_way", summary="Offered before it fails", target="fake_raising_hook:run")
    raise ValueError("no second spec\nand more on a second line")
