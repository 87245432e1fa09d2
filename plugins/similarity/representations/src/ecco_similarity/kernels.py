"""Centred kernel alignment."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ecco_similarity.arrays import Measure, centred, product

_ENTRIES = 16_000_000  # of one block of all Gram matrices
_HUGE = 0.01  # share of all squared lengths; beside a sample that has more, float32 loses the others


class Features:
    """Centred samples and the squared length of each; the linear kernel's alignment needs no more."""

    def __init__(self, x: np.ndarray, debiased: bool) -> None:
        self.x = x
        self.debiased = debiased
        self.lengths = np.einsum("ij,ij->i", x, x, dtype=np.float64)

    @functools.cached_property
    def norm(self) -> float:
        """Square root of the dependence on itself."""
        return self.norm_of(float(_dependences([self], None)[0, 0]))

    def norm_of(self, own: float) -> float:
        """Return the square root of the dependence on itself.

        Raises:
            ValueError: it is 0, up to rounding.
        """
        if own <= 10 * np.finfo(self.x.dtype).eps * self.lengths.sum() ** 2:
            raise ValueError("debiased CKA of these samples is 0 / 0: take more samples, or debiased=False.")
        return float(np.sqrt(own))


@dataclass(frozen=True)
class LinearCKA(Measure):
    """Centred kernel alignment with the linear kernel."""

    debiased: bool = True

    @property
    def lowest(self) -> float:  # type: ignore[override]
        """Debiased, it can fall below 0."""
        return -1.0 if self.debiased else 0.0

    def prepare(self, x: np.ndarray) -> Features:
        """Return the centred samples, in float64 if one of them is huge."""
        found = Features(centred(x), self.debiased)
        if found.x.dtype == np.float32 and found.lengths.max() > _HUGE * found.lengths.sum():
            found = Features(centred(x.astype(np.float64)), self.debiased)
        return found

    def compare(self, a: Features, b: Features) -> float:
        """Return the alignment of two."""
        return float(self.grid([a], [b])[0, 0])

    def reordered(self, a: Features, order: np.ndarray) -> Features:
        """Return the samples in another order."""
        found = Features(a.x[order], self.debiased)
        found.norm = a.norm
        return found

    def grid(self, rows: Sequence[Features], columns: Sequence[Features] | None = None) -> np.ndarray:
        """Return all alignments; of `rows` with each other, each product of features is made once."""
        values = _dependences(rows, columns)
        if columns is None:
            for side, own in zip(rows, np.diag(values)):
                side.norm = side.norm_of(own)
        norms = [np.array([side.norm for side in sides]) for sides in (rows, rows if columns is None else columns)]
        return np.asarray(np.clip(values / np.outer(*norms), -1.0, 1.0))


def _dependences(rows: Sequence[Features], columns: Sequence[Features] | None) -> np.ndarray:
    """HSIC of prepared sides, up to a constant factor: the inner products of their centred Gram matrices.

    Debiased, it is n (n - 3) HSIC_1 of Song et al. 2012, eq. 5, for the linear kernel of centred samples: a Gram
    matrix without its diagonal sums to minus the squared lengths, whatever is centred.
    """
    others = rows if columns is None else columns
    n = len(rows[0].x)
    features = sum(a.x.shape[1] * b.x.shape[1] for a in rows for b in others) * (0.5 if columns is None else 1)
    samples = n / 2 * sum(side.x.shape[1] for side in (*rows, *(columns or ())))
    inner = (_by_features if features <= samples else _by_samples)(rows, columns)
    if not rows[0].debiased:
        return inner
    k, m = (np.stack([side.lengths for side in sides]) for sides in (rows, others))
    return np.asarray(inner - n / (n - 2) * k @ m.T + np.outer(k.sum(1), m.sum(1)) / ((n - 1) * (n - 2)))


def _by_features(rows: Sequence[Features], columns: Sequence[Features] | None) -> np.ndarray:
    """Squared norms of the products of features: <X X', Y Y'> = |X' Y|^2."""
    values = np.empty((len(rows), len(columns or rows)))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns or rows):
            if columns is None and j < i:
                values[i, j] = values[j, i]
            else:
                found = product(a.x, b.x)
                values[i, j] = np.vdot(found, found)
    return values


def _by_samples(rows: Sequence[Features], columns: Sequence[Features] | None) -> np.ndarray:
    """Inner products of Gram matrices ``(sample, sample)``, a block of rows right of the diagonal at a time."""
    sides = [*rows, *(columns or ())]
    n = len(rows[0].x)
    step = max(1, min(n, _ENTRIES // (n * len(sides))))
    total = np.zeros((len(sides), len(sides)))
    for start in range(0, n, step):
        here = min(step, n - start)
        blocks = [side.x[start : start + here] @ side.x[start:].T for side in sides]
        square = np.stack([block[:, :here].reshape(-1) for block in blocks])
        right = np.stack([block[:, here:].reshape(-1) for block in blocks])
        total += product(square.T, square.T) + 2 * product(right.T, right.T)
    return total if columns is None else total[: len(rows), len(rows) :]


@dataclass(frozen=True)
class RBFCKA(Measure):
    """Centred kernel alignment with a Gaussian kernel."""

    debiased: bool = True
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 1e-3 <= self.sigma <= 1e3:
            raise ValueError(f"sigma is a share of the median distance, from 0.001 to 1000, found {self.sigma}.")

    @property
    def lowest(self) -> float:  # type: ignore[override]
        """Debiased, it can fall below 0."""
        return -1.0 if self.debiased else 0.0

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Return the centred Gram matrix ``(sample, sample)``, of norm 1."""
        from scipy.spatial.distance import pdist, squareform

        distances = pdist(centred(x).astype(np.float64))
        median = float(np.median(distances))
        if not median > 0:
            raise ValueError("more than half of the distances between samples are 0, so the RBF kernel has no width.")
        pairs = np.exp(-((distances / median) ** 2) / (2 * self.sigma**2))
        gram = squareform(pairs)
        gram = _centred_without_diagonal(gram) if self.debiased else _centred_gram(gram + np.eye(len(gram)))
        norm = np.linalg.norm(gram)
        if norm <= 1e-10 * len(gram) or np.ptp(pairs) <= 1e-10:
            raise ValueError(f"the RBF kernel of width {self.sigma} takes all samples for equally alike.")
        return np.asarray(gram / norm)

    def compare(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the inner product of two centred Gram matrices."""
        return float(np.clip(np.vdot(a, b), -1.0, 1.0))

    def reordered(self, a: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the Gram matrix of the samples in another order."""
        return np.asarray(a[np.ix_(order, order)])


def _centred_gram(gram: np.ndarray) -> np.ndarray:
    means = gram.mean(0)
    return np.asarray(gram - means[:, None] - means + means.mean())


def _centred_without_diagonal(gram: np.ndarray) -> np.ndarray:
    """U-centring (Szekely & Rizzo 2014, eq. 2.5) of a matrix with a diagonal of 0: products are n (n - 3) HSIC_1."""
    n = len(gram)
    sums = gram.sum(0) / (n - 2)
    found = gram - sums[:, None] - sums + gram.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def cka_measure(
    debiased: bool = True, kernel: Literal["linear", "rbf"] = "linear", sigma: float = 1.0
) -> LinearCKA | RBFCKA:
    """Return the measure for a kernel."""
    if kernel not in ("linear", "rbf"):
        raise ValueError(f"kernel is 'linear' or 'rbf', found {kernel!r}.")
    return LinearCKA(debiased) if kernel == "linear" else RBFCKA(debiased, sigma)


def cka(
    x: np.ndarray,
    y: np.ndarray,
    *,
    debiased: bool = True,
    kernel: Literal["linear", "rbf"] = "linear",
    sigma: float = 1.0,
) -> float:
    """Return the centred kernel alignment of two arrays, at most 1.

    Args:
        x, y: ``(sample, unit)``, of the same samples.
        debiased: estimate without bias: about 0 for independent data, below 0 as often as above. If not, independent
            data scores high where there are fewer samples than units (0.68 for 363 samples of 768 units).
        kernel: ``"linear"``, or ``"rbf"``: exp(-distance^2 / (2 width^2)).
        sigma: width of the RBF kernel, in median distances between samples.

    Raises:
        ValueError: not two matrices of finite numbers of the same samples, or the alignment is 0 / 0.

    References:
        Kornblith, Norouzi, Lee, Hinton, Similarity of Neural Network Representations Revisited, ICML 2019, eq. 4;
        Song, Smola, Gretton, Bedo, Borgwardt, Feature Selection via Dependence Maximization, JMLR 2012, eq. 5.
    """
    return cka_measure(debiased, kernel, sigma).between(x, y)
