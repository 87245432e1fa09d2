"""The original library's ``ecco.analysis``: similarity of two arrays ``(neuron, token)``, by its calls.

What is computed are the textbook definitions of ecco-similarity, which takes ``(token, unit)``; where the original's
numbers differ, ecco-similarity's page says how.
"""

from __future__ import annotations

from typing import Any

from ecco_core.errors import optional_library


def cca(acts1: Any, acts2: Any) -> float:
    """Mean of all canonical correlations, 0 to 1."""
    return _similarity("cca", acts1, acts2)


def svcca(acts1: Any, acts2: Any, dims: int = 20) -> float:
    """Mean canonical correlation of the first `dims` singular directions of each (all, if it has less), 0 to 1."""
    return _similarity("svcca", acts1, acts2, n_components=min(dims, len(acts1), len(acts2)))


def pwcca(acts1: Any, acts2: Any, epsilon: float = 1e-10) -> float:
    """Canonical correlations weighted by how much of `acts1` lies along their directions, 0 to 1.

    Args:
        epsilon: taken, and without effect: the original added it to covariances, of which none is inverted here.
    """
    return _similarity("pwcca", acts1, acts2)


def cka(acts1: Any, acts2: Any, *, debiased: bool = True) -> float:
    """Centred kernel alignment, linear.

    Args:
        debiased: around 0 for arrays that have nothing in common; the original's is not, and depends on their sizes.
    """
    return _similarity("cka", acts1, acts2, debiased=debiased)


def _similarity(name: str, acts1: Any, acts2: Any, **options: Any) -> float:
    functions = optional_library("ecco_similarity", "ecco.analysis")
    import numpy as np

    return float(getattr(functions, name)(np.asarray(acts1).T, np.asarray(acts2).T, **options))
