"""Measures by name: grids of many arrays, intervals, and what chance gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ecco_similarity.arrays import Measure, checked
from ecco_similarity.canonical import CCA, PWCCA, SVCCA
from ecco_similarity.kernels import cka_measure
from ecco_similarity.neighbours import RSA, KNNOverlap
from ecco_similarity.shapes import Procrustes

MEASURES: dict[str, Callable[..., Measure]] = {
    "cca": CCA,
    "svcca": SVCCA,
    "pwcca": PWCCA,
    "cka": cka_measure,
    "procrustes": Procrustes,
    "rsa": RSA,
    "knn_overlap": KNNOverlap,
}
SHARE = 0.8  # of the samples, in each draw of an interval
_Sides = Sequence[np.ndarray]


def measure(name: str, **options: Any) -> Measure:
    """Return a measure by the name of its function, with that function's options.

    Raises:
        ValueError: no such measure, or an option that it does not take.
    """
    if name not in MEASURES:
        raise ValueError(f"no measure {name!r}; there are {', '.join(MEASURES)}.")
    try:
        return MEASURES[name](**options)
    except TypeError as error:
        raise ValueError(f"{name} does not take these options: {', '.join(options)}.") from error


def grid(name: str, rows: _Sides, columns: _Sides | None = None, **options: Any) -> np.ndarray:
    """Return the similarities ``(row, column)`` of many arrays of the same samples; pairs share what they can.

    Args:
        name: of a measure: ``cca svcca pwcca cka procrustes rsa knn_overlap``. `options`: of that function.
        rows: arrays ``(sample, unit)``. `columns`: likewise; `rows` are compared with each other if left out.

    Raises:
        ValueError: as of the measure.
    """
    return _grid(measure(name, **options), *_checked(rows, columns))


def _checked(rows: _Sides, columns: _Sides | None) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    every = checked([*rows, *(columns or ())])
    return every[: len(rows)], None if columns is None else every[len(rows) :]


def _grid(of: Measure, rows: _Sides, columns: _Sides | None) -> np.ndarray:
    return of.grid([of.prepare(x) for x in rows], None if columns is None else [of.prepare(x) for x in columns])


def resampled(
    of: Measure, rows: _Sides, columns: _Sides | None = None, *, draws: Iterable[Any], rng: np.random.Generator
) -> np.ndarray:
    """Return grids ``(draw, row, column)`` of random 80 % of the samples, each sample at most once."""
    n = len(rows[0])
    found = []
    for _ in draws:
        chosen = np.sort(rng.choice(n, size=round(SHARE * n), replace=False))
        some = _checked([x[chosen] for x in rows], columns and [x[chosen] for x in columns])
        found.append(_grid(of, *some))
    return np.stack(found)


def bounds(
    values: np.ndarray, grids: np.ndarray, n: int, confidence: float, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends of the confidence intervals of `values` from `resampled` grids.

    A draw of m of n samples differs from its mean by sqrt((n - m) / m) of what n samples differ from the truth.
    """
    m = round(SHARE * n)
    errors = (grids - grids.mean(0)) * np.sqrt(m / (n - m))
    upper, lower = np.quantile(errors, [(1 + confidence) / 2, (1 - confidence) / 2], axis=0)
    return (values - upper).clip(lowest, 1.0), (values - lower).clip(lowest, 1.0)


def interval(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    draws: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    **options: Any,
) -> tuple[float, float]:
    """Return a confidence interval of a similarity, over samples.

    An m out of n bootstrap without replacement: 80 % of the samples in each draw, deviations scaled to n. A bootstrap
    with replacement repeats samples; a repeated sample is its own nearest neighbour and lowers the rank. Samples are
    taken as independent: tokens of one text are not quite, so the interval is too narrow rather than too wide.

    Args:
        name, options: as of `grid`. `x`, `y`: ``(sample, unit)``, of the same samples.
        draws: how many subsets. `confidence`: probability that the interval covers the truth. `seed`: of the draws.

    Raises:
        ValueError: as of the measure, of 80 % of the samples too; too few draws, or no such confidence.

    References:
        Politis, Romano, Large Sample Confidence Regions Based on Subsamples, Annals of Statistics 1994;
        Bickel, Gotze, van Zwet, Resampling Fewer Than n Observations, Statistica Sinica 1997.
    """
    check_draws(draws, confidence)
    of = measure(name, **options)
    x, y = checked([x, y])
    grids = resampled(of, [x], [y], draws=range(draws), rng=np.random.default_rng(seed))
    low, high = bounds(_grid(of, [x], [y]), grids, len(x), confidence, of.lowest)
    return float(low[0, 0]), float(high[0, 0])


def check_draws(draws: int, confidence: float) -> None:
    """Refuse what gives no interval.

    Raises:
        ValueError: fewer than 20 draws, or a confidence that is not between 0 and 1.
    """
    if draws < 20:
        raise ValueError(f"an interval needs at least 20 draws, found {draws}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is between 0 and 1, found {confidence}.")


def shuffled(
    of: Measure, rows: Sequence[Any], columns: Sequence[Any], draws: Iterable[Any], rng: np.random.Generator, n: int
) -> np.ndarray:
    """Return grids ``(draw, row, column)`` of prepared sides, the samples of `columns` permuted."""
    found = []
    for _ in draws:
        order = rng.permutation(n)
        found.append(of.grid(rows, [of.reordered(b, order) for b in columns]))
    return np.stack(found)


def permutation_null(
    name: str, x: np.ndarray, y: np.ndarray, *, draws: int = 100, seed: int = 0, **options: Any
) -> np.ndarray:
    """Return similarities ``(draw,)`` of `x` with `y` in random order: what chance gives for these two.

    ``(1 + (null >= value).sum()) / (1 + draws)`` is the p-value of a similarity as high as `value`.

    Args:
        name, options: as of `grid`. `x`, `y`: ``(sample, unit)``, of the same samples. `draws`: how many orders.
        seed: of the orders.

    Raises:
        ValueError: as of the measure; no draws.
    """
    if draws < 1:
        raise ValueError(f"a null needs at least 1 draw, found {draws}.")
    of = measure(name, **options)
    x, y = checked([x, y])
    a, b = of.prepare(x), of.prepare(y)
    return shuffled(of, [a], [b], range(draws), np.random.default_rng(seed), len(x))[:, 0, 0]
