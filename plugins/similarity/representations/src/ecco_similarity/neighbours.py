"""Measures of who is near whom: representational similarity analysis, and the overlap of nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from ecco_similarity.arrays import Measure, centred

Distance = Literal["correlation", "euclidean", "cosine"]
_TIED = 1e-9  # distances that differ by less, relatively, are equal


def _distances(x: np.ndarray, distance: str) -> np.ndarray:
    """Distances between samples, condensed; of centred samples, so that a mean common to all has no say.

    Raises:
        ValueError: no such distance, or a sample that it is not defined for.
    """
    from scipy.spatial.distance import pdist

    moved = centred(x).astype(np.float64)
    rows = moved - moved.mean(1, keepdims=True) if distance == "correlation" else moved
    flat = np.flatnonzero(np.linalg.norm(rows, axis=1) <= 1e-12 * np.linalg.norm(moved, axis=1).max())
    if distance != "euclidean" and len(flat):
        raise ValueError(f"sample {flat[0]} has no direction for the {distance} distance; take euclidean.")
    return np.asarray(pdist(rows, "cosine" if distance == "correlation" else distance))


def _ranks(distances: np.ndarray) -> np.ndarray:
    """Ranks, the mean rank for equal ones; neighbours in order that differ by rounding alone are equal."""
    from scipy.stats import rankdata

    order = np.argsort(distances)
    ordered = distances[order]
    groups = np.empty_like(order)
    groups[order] = np.cumsum(np.diff(ordered, prepend=0.0) > _TIED * ordered[-1])
    return np.asarray(rankdata(groups))


def _check_distance(distance: str) -> None:
    if distance not in get_args(Distance):
        raise ValueError(f"distance is one of {', '.join(get_args(Distance))}, found {distance!r}.")


@dataclass(frozen=True)
class RSA(Measure):
    """Spearman correlation of distances."""

    distance: Distance = "correlation"
    lowest: ClassVar[float] = -1.0

    def __post_init__(self) -> None:
        _check_distance(self.distance)

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Return the centred ranks of the distances ``(sample, sample)``, of norm 1 and with a diagonal of 0."""
        from scipy.spatial.distance import squareform

        ranks = _ranks(_distances(x, self.distance))
        ranks -= ranks.mean()
        norm = np.linalg.norm(ranks) * np.sqrt(2)
        if not norm > 0:
            raise ValueError("all samples are equally far from each other, so their distances have no ranks.")
        return np.asarray(squareform(ranks / norm, checks=False))

    def compare(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the correlation of two sides' ranks."""
        return float(np.clip(np.vdot(a, b), -1.0, 1.0))

    def reordered(self, a: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the ranks of the samples in another order."""
        return np.asarray(a[np.ix_(order, order)])


@dataclass(frozen=True)
class KNNOverlap(Measure):
    """Share of nearest neighbours in common."""

    k: int = 10
    distance: Distance = "cosine"

    def __post_init__(self) -> None:
        _check_distance(self.distance)
        if self.k < 1:
            raise ValueError(f"k is at least 1, found {self.k}.")

    def prepare(self, x: np.ndarray) -> Any:
        """Return a sparse matrix ``(sample, neighbour)``: 1 for the nearest k, ties share what is left of the k."""
        from scipy.sparse import csr_array
        from scipy.spatial.distance import squareform

        if self.k > len(x) - 2:
            raise ValueError(f"k is {self.k}, and {len(x)} samples leave a choice of at most {len(x) - 2} neighbours.")
        distances = squareform(_distances(x, self.distance))
        np.fill_diagonal(distances, np.inf)
        last = np.partition(distances, self.k - 1, axis=1)[:, self.k - 1, None]
        slack = _TIED * np.abs(distances[np.isfinite(distances)]).max()
        nearer = distances < last - slack
        tied = (distances <= last + slack) & ~nearer
        left = self.k - nearer.sum(1, keepdims=True)
        return csr_array(nearer + tied * (left / tied.sum(1, keepdims=True)))

    def compare(self, a: Any, b: Any) -> float:
        """Return the mean share of neighbours that both have."""
        return float(a.minimum(b).sum() / (self.k * a.shape[0]))

    def reordered(self, a: Any, order: np.ndarray) -> Any:
        """Return the neighbours of the samples in another order."""
        return a[order][:, order]


def rsa(x: np.ndarray, y: np.ndarray, *, distance: Distance = "correlation") -> float:
    """Return the Spearman correlation of the distances between samples in two arrays, -1 to 1.

    Args:
        x, y: ``(sample, unit)``, of the same samples; the mean sample is subtracted first.
        distance: ``"correlation"`` (1 - Pearson over units), ``"cosine"`` or ``"euclidean"``.

    Raises:
        ValueError: not two matrices of finite numbers of the same samples, a sample without direction, or distances
            that are all the same.

    References:
        Kriegeskorte, Mur, Bandettini, Representational Similarity Analysis, Frontiers in Systems Neuroscience 2008.
    """
    return RSA(distance).between(x, y)


def knn_overlap(x: np.ndarray, y: np.ndarray, *, k: int = 10, distance: Distance = "cosine") -> float:
    """Return the mean share of each sample's `k` nearest neighbours that two arrays have in common, 0 to 1.

    Chance gives k / (n - 1). Neighbours at the same distance as the k-th share the places that are left.

    Args:
        x, y: ``(sample, unit)``, of the same samples; the mean sample is subtracted first.
        k: how many neighbours, at most n - 2. `distance`: as of `rsa`.

    Raises:
        ValueError: not two matrices of finite numbers of the same samples, or k leaves no choice.

    References:
        Huh, Cheung, Wang, Isola, The Platonic Representation Hypothesis, ICML 2024, appendix A (mutual kNN).
    """
    return KNNOverlap(k, distance).between(x, y)
