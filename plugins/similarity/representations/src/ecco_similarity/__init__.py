"""ecco-similarity: how alike representations are, for Ecco: CCA, SVCCA, PWCCA, CKA, Procrustes, RSA, nearest neighbours."""

from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return []
