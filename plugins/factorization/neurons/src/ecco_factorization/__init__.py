"""ecco-factorization: factors of neuron activations for Ecco: NMF, PCA, ICA, k-means, UMAP, and single neurons."""

from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses() -> list[AnalysisSpec]:
    """Offer the analyses."""
    return []
