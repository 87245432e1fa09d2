"""ecco-attention: attention for Ecco: patterns, rollout, flow, value-weighted norms, what each head does."""

from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return []
