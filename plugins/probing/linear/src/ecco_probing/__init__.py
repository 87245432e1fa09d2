"""ecco-probing: probes for Ecco: what can be read off a model's states, against control tasks and baselines."""

from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return []
