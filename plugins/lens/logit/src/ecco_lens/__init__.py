"""ecco-lens: what a model would say at each layer, for Ecco: logit lens, candidates, rankings."""

from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return []
