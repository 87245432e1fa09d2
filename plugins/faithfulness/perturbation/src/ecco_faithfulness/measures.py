"""Measures of faithfulness as functions of arrays: what a ranking foretells of the model without some sources.

A ranking counts sources from 0, the one with the largest signed score first. `k` counts sources, of the `n` that a
target sees and that may be replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_EXACT = 12  # sources of the exact ceiling: 4,096 masks


def counts(n: int, fractions: Sequence[float] | np.ndarray) -> np.ndarray:
    """How many of `n` sources a fraction is: floor(q n + 1/2), but at least 1 and at most n; integers ``(fraction,)``.

    Raises:
        ValueError: a fraction is not above 0 and at most 1, or n is below 1.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if n < 1:
        raise ValueError(f"there must be a source to count, found {n}.")
    if not ((shares > 0) & (shares <= 1)).all():
        raise ValueError(f"fractions are above 0 and at most 1, found {shares.tolist()}.")
    return np.asarray(np.clip(np.floor(shares * n + 0.5).astype(int), 1, n))


def order(scores: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Indices ``(source,)`` by descending signed score.

    Args:
        scores: ``(source,)``. `ties`: a permutation of the sources, which decides between equal scores.

    Raises:
        ValueError: a score is no finite number.
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinite numbers, which have no rank.")
    return np.asarray(ties)[np.argsort(-np.asarray(scores)[ties], kind="stable")]


def area(shares: np.ndarray, values: np.ndarray) -> float:
    """Area under a curve by the trapezoidal rule, of ``(point,)`` shares from 0 to 1; equal shares count once.

    Petsiuk, Das, Saenko: RISE, BMVC 2018. The shares are those of the sources that were really counted, k / n.

    Raises:
        ValueError: the shares do not go from 0 to 1.
    """
    x, first = np.unique(np.asarray(shares, dtype=np.float64), return_index=True)
    if x[0] != 0 or x[-1] != 1:
        raise ValueError(f"shares go from 0 to 1, found {x[0]:g} to {x[-1]:g}.")
    y = np.asarray(values, dtype=np.float64)[first]
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))  # np.trapezoid came with numpy 2


def rank_correlation(scores: np.ndarray, drops: np.ndarray) -> float:
    """Spearman's rank correlation, -1 to 1, of scores with the drop when each source alone is replaced.

    Equal values share their mean rank. NaN if the drops are all equal or there are fewer than two sources, since then
    nothing is to be foretold; 0 if only the scores are all equal, since then they foretell nothing.

    Args:
        scores, drops: ``(source,)``.
    """
    from scipy.stats import rankdata

    if len(drops) < 2 or np.ptp(drops) == 0:
        return float("nan")
    if np.ptp(scores) == 0:
        return 0.0
    return float(np.clip(np.corrcoef(rankdata(scores), rankdata(drops))[0, 1], -1, 1))


def infidelity(scores: np.ndarray, masks: np.ndarray, drops: np.ndarray) -> float:
    """Share of squared drops that scores leave unexplained, 0 (all explained) to 1: min over b >= 0 of

    sum_m (b sum_i masks[m, i] scores[i] - drops[m])^2 / sum_m drops[m]^2.

    Yeh et al.: On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition 2.1, with the optimal
    scale b that they allow for, which makes methods in other units comparable; b is not negative, or scores of the
    wrong sign would be as good. The division makes targets comparable. NaN if no mask changes anything.

    Args:
        scores: ``(source,)``. `masks`: ``(mask, source)``, 1 where a source is replaced. `drops`: ``(mask,)``, the
            target's score at the run's input minus its score with these replaced.
    """
    total = float(np.sum(np.square(drops)))
    if total == 0:
        return float("nan")
    size = float(np.max(np.abs(scores), initial=0.0))
    if size == 0:
        return 1.0
    foretold = np.asarray(masks, dtype=np.float64) @ (np.asarray(scores, dtype=np.float64) / size)
    norm = float(foretold @ foretold)
    scale = max(0.0, float(foretold @ drops) / norm) if norm > 0 else 0.0
    return float(np.sum(np.square(scale * foretold - drops)) / total)


def max_sensitivity(scores: np.ndarray, moved: np.ndarray) -> float:
    """Largest change of the scores over small moves of the input, relative to their norm: max_r |moved_r - s| / |s|.

    Yeh et al. 2019, definition 3.1, estimated by random moves; from 0, smaller is more stable. NaN if all scores are 0.

    Args:
        scores: ``(source,)``. `moved`: ``(move, source)``, the same method's scores after each move.
    """
    norm = float(np.linalg.norm(scores))
    return float(np.max(np.linalg.norm(moved - scores, axis=1)) / norm) if norm > 0 else float("nan")


def best_subsets(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest score without any k sources, and the highest with only k, for k from 0 to n; each ``(n + 1,)``.

    No ranking does better at any k: these are bounds, and the sets need not lie inside of each other.

    Args:
        values: ``(2 ** n,)``, the score where source i is replaced if bit i of the index is set.

    Raises:
        ValueError: the number of values is no power of 2.
    """
    n = len(values).bit_length() - 1
    if len(values) != 1 << n:
        raise ValueError(f"there are 2 ** n subsets of n sources, found {len(values)} values.")
    size = subsets(n).sum(1)
    without = np.array([values[size == k].min() for k in range(n + 1)])
    only = np.array([values[size == n - k].max() for k in range(n + 1)])
    return without, only


def subsets(n: int) -> np.ndarray:
    """All sets of `n` sources, boolean ``(2 ** n, source)``: source i is in the set if bit i of its index is set."""
    return np.asarray((np.arange(1 << n)[:, None] >> np.arange(n)) & 1 == 1)


def least_infidelity(masks: np.ndarray, drops: np.ndarray) -> float:
    """The infidelity that no scores can go below on these masks: that of a least-squares fit. NaN as there."""
    fitted, *_ = np.linalg.lstsq(np.asarray(masks, dtype=np.float64), drops, rcond=None)
    return infidelity(fitted, masks, drops)
