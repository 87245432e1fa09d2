"""Orthogonal Procrustes similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecco_similarity.arrays import Measure, centred, length, product


@dataclass(frozen=True)
class Procrustes(Measure):
    """Orthogonal Procrustes similarity."""

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Return centred samples of norm 1 with at most as many units as samples: more are rotated away."""
        moved = centred(x)
        if moved.shape[1] > len(moved):
            moved = np.asarray(np.linalg.qr(moved.T.astype(np.float64), mode="r")).T
        return np.asarray(moved / length(moved))

    def compare(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the sum of the singular values of a' b."""
        from scipy.linalg import svdvals

        return float(min(svdvals(product(a, b), check_finite=False).sum(), 1.0))

    def reordered(self, a: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the samples in another order."""
        return np.asarray(a[order])


def procrustes(x: np.ndarray, y: np.ndarray) -> float:
    """Return how well `x` lies on `y` after the best rotation, reflection and scale, 0 to 1.

    It is |x'y|_* / (|x| |y|): the nuclear norm of the product of the centred arrays over their Frobenius norms, the
    cosine of the angular shape distance of Williams et al.; the squared Procrustes distance of Ding et al., of arrays
    of norm 1, is 2 - 2 times it. The side with fewer units is taken as padded with zeros.

    Args:
        x, y: ``(sample, unit)``, of the same samples.

    Raises:
        ValueError: not two matrices of finite numbers of the same samples.

    References:
        Williams, Kunz, Kornblith, Linderman, Generalized Shape Metrics on Neural Representations, NeurIPS 2021, eq. 6;
        Ding, Denain, Steinhardt, Grounding Representation Similarity Through Statistical Testing, NeurIPS 2021.
    """
    return Procrustes().between(x, y)
