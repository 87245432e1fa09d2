"""Canonical correlations: CCA, SVCCA and PWCCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ecco_similarity.arrays import MANY, Measure, centred, checked, product

#: Least reciprocal condition number at which a Gram matrix of that precision is good enough to whiten with.
_WELL = {np.dtype(np.float32): 3e-5, np.dtype(np.float64): 1e-9}
#: Least share of the first eigenvalue at which an eigenvector of a Gram matrix of that precision is good enough.
_SEEN = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis ``columns @ inverse(factor).T`` of what centred samples span.

    Attributes:
        columns: ``(sample, rank)``.
        factor: lower triangular ``(rank, rank)``; None where `columns` are the basis.
        coordinates: of the centred units in the basis, ``(rank, unit)``.
    """

    columns: np.ndarray
    factor: np.ndarray | None
    coordinates: np.ndarray

    @property
    def rank(self) -> int:
        """Number of directions."""
        return int(self.columns.shape[1])


def basis_of(x: np.ndarray) -> Basis:
    """Return an orthonormal basis of samples ``(sample, unit)`` minus their mean, by Cholesky where that is safe.

    The Gram matrix squares the condition number, so it is only trusted where it is well conditioned after every unit
    was scaled to length 1, and its least direction is no rounding; float32 is tried before float64. Else by singular
    values: directions that are no longer than the rounding of the samples in their own type do not count.
    """
    if len(x) > x.shape[1]:
        for kind in _ladder(x):
            found = _by_cholesky(centred(x.astype(kind, copy=False)), _rounding(x))
            if found is not None:
                return found
    return _by_svd(x)


def _ladder(x: np.ndarray) -> list[np.dtype[Any]]:
    """Types to try, fastest first: with many samples, and checked, float32 is within 2e-6 of float64."""
    return [*([x.dtype] if x.dtype == np.float32 and len(x) >= MANY else []), np.dtype(np.float64)]


def _rounding(x: np.ndarray) -> np.ndarray:
    """How long each unit's rounding in the samples' type can be; a direction that is no longer than all is nothing."""
    return np.asarray(4 * np.finfo(x.dtype).eps * np.sqrt(np.einsum("ij,ij->j", x, x, dtype=np.float64)))


def _by_cholesky(x: np.ndarray, rounding: np.ndarray) -> Basis | None:
    from scipy.linalg import lapack

    gram = product(x, x)
    lengths = np.sqrt(np.diag(gram))
    if not lengths.all():
        return _by_cholesky(x[:, lengths > 0], rounding[lengths > 0])
    correlations = gram / np.outer(lengths, lengths)
    factor, failed = lapack.dpotrf(correlations, lower=1)
    size = np.abs(correlations).sum(0).max()
    least = 0.0 if failed else lapack.dpocon(factor, size, uplo="L")[0]
    if least < max(_WELL[x.dtype], np.sum((rounding / lengths) ** 2) / size):
        return None
    factor = np.asfortranarray(lengths[:, None] * factor)
    return Basis(x, factor, factor.T)


def _by_svd(x: np.ndarray) -> Basis:
    from scipy.linalg import svd

    moved = centred(x.astype(np.float64))
    varying = moved.any(0)
    lengths = np.sqrt((moved[:, varying] ** 2).sum(0))
    left, sizes, right = svd(moved[:, varying] / lengths, full_matrices=False, check_finite=False)
    kept = sizes > np.linalg.norm(_rounding(x)[varying] / lengths)
    return Basis(left[:, kept], None, sizes[kept, None] * right[kept] * lengths)


def overlap(a: Basis, b: Basis) -> np.ndarray:
    """Return the inner products ``(rank, rank)`` of two bases; their singular values are canonical correlations.

    Raises:
        ValueError: the two span more directions than the samples have, so that some correlations are 1 for any data.
    """
    from scipy.linalg.blas import dtrsm

    n = len(a.columns)
    if a.rank + b.rank > n - 1:
        raise ValueError(
            f"{n} samples are too few for canonical correlations of {a.rank} with {b.rank} dimensions: some are 1 "
            f"whatever the data, below {a.rank + b.rank + 1} samples; take more samples, or fewer dimensions (svcca "
            f"with n_components up to {(n - 1) // 2})."
        )
    inner = product(a.columns, b.columns)
    if a.factor is not None:
        inner = dtrsm(1.0, a.factor, inner, lower=1)
    if b.factor is not None:
        inner = dtrsm(1.0, b.factor, inner, side=1, lower=1, trans_a=1)
    return np.asarray(inner)


@dataclass(frozen=True)
class CCA(Measure):
    """Mean canonical correlation."""

    def prepare(self, x: np.ndarray) -> Basis:
        """Return the basis of what the samples span."""
        return basis_of(x)

    def compare(self, a: Basis, b: Basis) -> float:
        """Return the mean over min(rank, rank) coefficients."""
        inner = overlap(a, b)
        squares = np.linalg.eigvalsh(inner @ inner.T if a.rank <= b.rank else inner.T @ inner)
        return float(np.sqrt(squares.clip(0.0, 1.0)).mean())

    def reordered(self, a: Basis, order: np.ndarray) -> Basis:
        """Return the basis with its samples in another order."""
        return Basis(a.columns[order], a.factor, a.coordinates)


def coefficients(inner: np.ndarray) -> np.ndarray:
    """Return the singular values of a matrix of inner products, descending, within [0, 1]."""
    from scipy.linalg import svdvals

    return np.asarray(np.clip(svdvals(inner, check_finite=False), 0.0, 1.0))


@dataclass(frozen=True)
class PWCCA(CCA):
    """Canonical correlations weighted by how much of the first side each accounts for."""

    symmetric = False

    def compare(self, a: Basis, b: Basis) -> float:
        """Return the mean weighted by the sum of |inner product| of each canonical vector and the units of `a`."""
        inner = overlap(a, b)
        if a.rank <= b.rank:
            squares, left = np.linalg.eigh(inner @ inner.T)
            sizes = np.sqrt(squares.clip(0.0, 1.0))
        else:
            left, sizes, _ = np.linalg.svd(inner, full_matrices=False)
        weights = np.abs(left.T @ a.coordinates).sum(1)
        return float(weights @ sizes.clip(0.0, 1.0) / weights.sum())


@dataclass(frozen=True)
class SVCCA(CCA):
    """Mean canonical correlation of leading principal components.

    Attributes:
        n_components: how many; by `variance` if left out.
        variance: keep the fewest components that have this share of the variance, above 0 and at most 1.
    """

    n_components: int | None = None
    variance: float = 0.99

    def __post_init__(self) -> None:
        if self.n_components is not None and self.n_components < 1:
            raise ValueError(f"n_components is at least 1, found {self.n_components}.")
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is a share above 0 and at most 1, found {self.variance}.")

    def prepare(self, x: np.ndarray) -> Basis:
        """Return the basis of the leading principal components."""
        return basis_of(principal(x, self.n_components, self.variance))


def principal(x: np.ndarray, n_components: int | None, variance: float) -> np.ndarray:
    """Return the leading principal components' scores ``(sample, component)`` of samples minus their mean, in float64.

    Raises:
        ValueError: the samples have fewer than `n_components` directions.
    """
    from scipy.linalg import svd

    n, d = x.shape
    if n_components is not None and n_components > min(n - 1, d):
        raise ValueError(f"n_components is {n_components}, and {n} samples of {d} units have at most {min(n - 1, d)}.")
    rounding = float(np.linalg.norm(_rounding(x)))
    for kind in _ladder(x):
        found = _by_gram(centred(x.astype(kind, copy=False)), n_components, variance, rounding)
        if found is not None:
            return found
    left, sizes, _ = svd(centred(x.astype(np.float64)), full_matrices=False, check_finite=False)
    rank = int((sizes > rounding).sum())
    count = min(_count(sizes**2, variance), rank) if n_components is None else n_components
    if count > rank:
        raise ValueError(f"n_components is {count}, and the samples vary in {rank} directions only.")
    return np.asarray(left[:, :count] * sizes[:count])


def _by_gram(x: np.ndarray, n_components: int | None, variance: float, rounding: float) -> np.ndarray | None:
    """Scores by the eigenvectors of the smaller Gram matrix; None where its precision is too low for the last one."""
    from scipy.linalg import eigh

    tall = len(x) > x.shape[1]
    gram = product(x, x) if tall else product(x.T, x.T)
    last = len(gram) - 1
    wanted = None if n_components is None else [last + 1 - n_components, last]
    sizes, vectors = eigh(gram, subset_by_index=wanted, check_finite=False)
    sizes, vectors = sizes[::-1], vectors[:, ::-1]
    count = n_components or _count(sizes, variance)
    if sizes[count - 1] < max(_SEEN[x.dtype] * sizes[0], rounding**2):
        return None
    vectors = vectors[:, :count]
    return np.asarray(x.astype(np.float64, copy=False) @ vectors if tall else vectors * np.sqrt(sizes[:count]))


def _count(sizes: np.ndarray, variance: float) -> int:
    """How many of descending variances have this share of their sum."""
    shares = np.cumsum(sizes.clip(0)) / sizes.clip(0).sum()
    return min(int(np.searchsorted(shares, variance * (1 - 1e-12))) + 1, len(sizes))


def canonical_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return all canonical correlations of two arrays, descending, within [0, 1].

    Args:
        x, y: ``(sample, unit)`` and ``(sample, unit)``, of the same samples; centred here. Units that are constant or
            follow from others add no dimension.

    Returns:
        ``(min(rank of x, rank of y),)``: the cosines of the angles between what the units of either span.

    Raises:
        ValueError: not two matrices of finite numbers of the same samples, or too few samples: below
            rank + rank + 1 some correlations are 1 for any data.

    References:
        Hotelling, Relations between Two Sets of Variates, Biometrika 1936.
    """
    x, y = checked([x, y])
    return coefficients(overlap(basis_of(x), basis_of(y)))


def cca(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean of all canonical correlations, 0 to 1.

    Arguments and errors are those of `canonical_correlations`. The mean is over min(rank, rank) coefficients
    (Kornblith et al. 2019, mean CCA correlation); it rises with fewer samples: see `permutation_null`.
    """
    return CCA().between(x, y)


def svcca(x: np.ndarray, y: np.ndarray, *, n_components: int | None = None, variance: float = 0.99) -> float:
    """Return the mean canonical correlation of the leading principal components of each array, 0 to 1.

    Args:
        x, y: ``(sample, unit)``, of the same samples.
        n_components: how many components of each; by `variance` if left out.
        variance: keep the fewest that have this share of the variance.

    Raises:
        ValueError: as of `canonical_correlations`, for the components; an array has fewer than `n_components`.

    References:
        Raghu, Gilmer, Yosinski, Sohl-Dickstein, SVCCA, NeurIPS 2017, section 2.
    """
    return SVCCA(n_components, variance).between(x, y)


def pwcca(x: np.ndarray, y: np.ndarray) -> float:
    """Return the canonical correlations' mean, weighted by what each accounts for in `x`, 0 to 1. Not symmetric.

    The weight of the canonical vector h (of length 1, in the span of `x`) is the sum over units of |<h, unit of x>|,
    so it depends on the units of `x`, not only on their span. Arguments and errors: `canonical_correlations`.

    References:
        Morcos, Raghu, Bengio, Insights on Representational Similarity in Neural Networks with Canonical Correlation,
        NeurIPS 2018, section 2.2.
    """
    return PWCCA().between(x, y)
