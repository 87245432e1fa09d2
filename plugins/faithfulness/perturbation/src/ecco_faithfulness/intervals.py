"""What can be concluded: bootstrap means and intervals, who is best and how sure that is, agreement of orders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLES = 1000
SURE = 95  # of 100 samples: below, two methods are not told apart


def resampled(groups: np.ndarray, rng: np.random.Generator, n_samples: int = SAMPLES) -> np.ndarray:
    """How often each target counts in each bootstrap sample, integers ``(sample, target)``.

    Whole groups (texts) are drawn with replacement, as targets of one text are not independent; targets if there is
    only one group. Efron, Tibshirani: An Introduction to the Bootstrap, 1993.

    Args:
        groups: ``(target,)``, which text each target is of.
    """
    _, index = np.unique(groups, return_inverse=True)
    index = np.arange(len(groups)) if index.max(initial=0) == 0 else index
    n = int(index.max()) + 1
    return rng.multinomial(n, np.full(n, 1 / n), size=n_samples)[:, index]


def means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means ``(sample, ...)`` of ``(..., target)`` over the targets that have a number; NaN if none has."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    total = np.tensordot(weights, np.moveaxis(known, -1, 0).astype(np.float64), 1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.tensordot(weights, np.moveaxis(filled, -1, 0), 1) / total)


def interval(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle 95 % of samples ``(sample, ...)``: low and high, over the samples that have a number."""
    known = np.isfinite(samples).any(0)
    filled = np.where(known, samples, 0.0)
    low, high = np.nanpercentile(filled, [2.5, 97.5], axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def recommendation(
    names: Sequence[str],
    values: np.ndarray,
    floor: np.ndarray,
    weights: np.ndarray,
    *,
    lower_is_better: bool,
    does: str,
    measure: str,
    over: str,
) -> str:
    """Say which method does best by one measure, and how sure that is.

    Args:
        names: of the methods. `values`: ``(method, target)``. `floor`: ``(target,)``, a random ranking's.
        weights: ``(sample, target)`` as from `resampled`.
        does, measure, over: words: ``"deletes"``, ``"deletion AUC"``, ``"20 targets"``.
    """
    sign, side = (-1.0, "lower") if lower_is_better else (1.0, "higher")
    whole = sign * means(np.vstack([values, floor[None]]), np.ones((1, values.shape[1])))[0]
    mean, random = whole[:-1], whole[-1]
    if not np.isfinite(mean).any():
        return f"No method has a {measure} on these targets, so none can be recommended by it."
    best = int(np.nanargmax(mean))
    if values.shape[1] < 2 or int(np.max(np.ptp(weights, axis=0), initial=0)) == 0:
        unsure = "on one target: nothing can be said of how sure that is."
        if not mean[best] > random:
            return f"No method has a {side} {measure} than a random ranking ({names[best]} comes nearest), {unsure}"
        even = [name for name, number in zip(names, mean) if number == mean[best]]
        best_of_all = f"{even[0]} {does} best" if len(even) == 1 else f"{_listed(even)} are even: best"
        return f"{best_of_all} by {measure}, {unsure}"
    drawn = sign * means(np.vstack([values, floor[None]]), weights)

    def wins(one: int, other: int) -> int:
        known = np.isfinite(drawn[:, one]) & np.isfinite(drawn[:, other])
        return int(100 * np.mean(drawn[known, one] > drawn[known, other])) if known.any() else 0

    above = [wins(i, len(names)) for i in range(len(names))]
    sure = [name for name, many in zip(names, above) if many >= SURE]
    samples = f"of 100 bootstrap samples of {over}"
    if above[best] < SURE:
        text = f"the best by its {measure}, {names[best]}, is {side} than random in {above[best]} {samples}"
        if sure:
            return (
                f"No method is shown to be the best: {text}; {_listed(sure)} in {SURE} or more, but less so on average."
            )
        return f"None of these is shown to do better than a random ranking: {text}."
    others = sorted((i for i in range(len(names)) if i != best), key=lambda i: -mean[i])
    told = [f"than {names[i]} in {wins(best, i)}" for i in others] + [f"than a random ranking in {above[best]}"]
    text = f"{names[best]} {does} best: {side} {measure} {_listed(told)} {samples}."
    even = [names[i] for i in others if wins(best, i) < SURE]
    if even:
        text += f" {names[best]} cannot be told from {_listed(even, 'or')} on this (fewer than {SURE} of 100)."
    return text


def _listed(names: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(names[:-1])] * (len(names) > 1) + [names[-1]])


def agreement(values: np.ndarray) -> np.ndarray:
    """Kendall's tau-b, -1 to 1, between the orders of methods ``(replacement, method)``: a square of replacements.

    1 on the diagonal; NaN where an order has nothing but ties or a number is missing.
    """
    from scipy.stats import kendalltau

    found = np.full((len(values), len(values)), np.nan)
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            if np.isfinite(a).all() and np.isfinite(b).all() and np.ptp(a) > 0 and np.ptp(b) > 0:
                found[i, j] = 1.0 if i == j else kendalltau(a, b).statistic
    return found
