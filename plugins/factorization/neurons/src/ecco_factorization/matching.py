"""Which components of two fits are the same, how stable components are, and how many to take. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ROUNDING = 32  # what a forward pass adds to the rounding of its numbers: twelve times more than was seen in tests


class Match(NamedTuple):
    """Components of a first fit and their partners in a second.

    Attributes:
        pairs: ``(pair, 2)``: component of the first, component of the second; in the first's order.
        cosines: ``(pair,)`` cosine of their loadings, -1 to 1; unsigned (0 to 1) if signs were ignored.
    """

    pairs: np.ndarray
    cosines: np.ndarray


def match_loadings(first: np.ndarray, second: np.ndarray, *, signed: bool = True) -> Match:
    """Pair the components of two fits one to one so that the sum of their cosines is greatest.

    Args:
        first, second: loadings ``(component, unit)`` over the same units; where one has more components, some of
            them stay without a partner.
        signed: whether a component and its negative differ; PCA's and ICA's signs are arbitrary, so False there.

    Raises:
        ValueError: the shapes do not fit, or there is a number that is not finite, or a component is all zero.

    References:
        Kuhn: The Hungarian method for the assignment problem, 1955.
    """
    from scipy.optimize import linear_sum_assignment

    rows = [np.asarray(each, dtype=np.float64) for each in (first, second)]
    if any(each.ndim != 2 or not each.size for each in rows) or rows[0].shape[1] != rows[1].shape[1]:
        raise ValueError(
            f"Loadings are matched as (component, unit) over the same units, found {rows[0].shape} and {rows[1].shape}."
        )
    lengths = [np.linalg.norm(each, axis=1, keepdims=True) for each in rows]
    if not all(np.isfinite(each).all() and each.all() for each in lengths):
        raise ValueError("A component is all zero or has numbers that are not finite; it matches nothing.")
    cosines = (rows[0] / lengths[0]) @ (rows[1] / lengths[1]).T
    cosines = np.clip(cosines if signed else np.abs(cosines), -1, 1)
    pairs = np.stack(linear_sum_assignment(cosines, maximize=True), axis=1)
    return Match(pairs, cosines[pairs[:, 0], pairs[:, 1]])


def stability(loadings: np.ndarray, others: Sequence[np.ndarray], *, signed: bool = True) -> np.ndarray:
    """How well each component is found again: the mean cosine to its partners in other fits, ``(component,)``.

    1 says that every other start found the same component. A component that is all zero in another fit counts as 0.

    Args:
        loadings: ``(component, unit)``. `others`: loadings of fits of the same data from other starts.

    Raises:
        ValueError: there are no others, or shapes do not fit.
    """
    if not others:
        raise ValueError("Stability compares with at least one other fit, found none.")
    found = np.zeros(len(loadings))
    for other in others:
        there = other[np.linalg.norm(other, axis=1) > 0]
        if len(there):
            match = match_loadings(loadings, there, signed=signed)
            found[match.pairs[:, 0]] += match.cosines
    return found / len(others)


def elbow(values: Sequence[float] | np.ndarray) -> int:
    """The place where a rising or falling curve bends most: the greatest distance from the line between its ends.

    Args:
        values: the curve at evenly spaced places, two at least. The first place of a curve that does not bend is 0.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    References:
        Satopää et al.: Finding a "kneedle" in a haystack, 2011.
    """
    curve = np.asarray(values, dtype=np.float64)
    if curve.ndim != 1 or len(curve) < 2 or not np.isfinite(curve).all():
        raise ValueError(f"An elbow needs two finite values at least, found {values}.")
    line = np.linspace(curve[0], curve[-1], len(curve))
    bend = (curve - line) * np.sign(curve[-1] - curve[0])
    return int(bend.argmax())


def explained_variance(x: np.ndarray, activations: np.ndarray, loadings: np.ndarray, mean: np.ndarray | float) -> float:
    """Share of the variance over tokens that ``mean + activations @ loadings`` explains; 1 is all, below 0 is harm.

    Args:
        x: ``(token, unit)``. `activations`: ``(token, component)``. `loadings`: ``(component, unit)``.
        mean: what was taken away before factoring, ``(unit,)`` or 0.

    Raises:
        ValueError: x does not vary over the tokens.
    """
    return 1 - _missed(x, activations, loadings, mean) / spread(x)


def spread(x: np.ndarray) -> float:
    """Sum of squares of what varies over the tokens in ``(token, unit)``.

    Raises:
        ValueError: nothing varies beyond the rounding of the numbers' type, so that only noise would be factored.
    """
    varies = float(np.square(x - x.mean(0, dtype=np.float64)).sum())
    rounding = _ROUNDING * np.finfo(np.result_type(x, np.float32)).eps
    if varies <= rounding**2 * float(np.square(x, dtype=np.float64).sum()):
        raise ValueError("No unit varies over the tokens (beyond rounding), so there is no variance to explain.")
    return varies


def relative_error(x: np.ndarray, activations: np.ndarray, loadings: np.ndarray, mean: np.ndarray | float) -> float:
    """``‖X - mean - activations @ loadings‖ / ‖X‖``; arguments as of `explained_variance`."""
    total = float(np.square(x, dtype=np.float64).sum())
    return float(np.sqrt(_missed(x, activations, loadings, mean) / total))


def _missed(x: np.ndarray, activations: np.ndarray, loadings: np.ndarray, mean: np.ndarray | float) -> float:
    return float(np.square(x - mean - activations @ loadings, dtype=np.float64).sum())
