"""Arrays ``(sample, unit)``: checked, centred, multiplied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

LEAST_SAMPLES = 4  # HSIC_1 divides by n - 3
MANY = 4096  # samples from which float32 is worth its loss of precision
_ROWS = 2048


class Measure(ABC):
    """A measure of similarity, split so that pairs share what depends on one side only.

    Attributes:
        lowest: the smallest value that it can take; the largest is 1.
        symmetric: whether (a, b) gives what (b, a) gives.
    """

    lowest: ClassVar[float] = 0.0
    symmetric: ClassVar[bool] = True

    @abstractmethod
    def prepare(self, x: np.ndarray) -> Any:
        """What can be computed of checked samples ``(sample, unit)`` alone."""

    @abstractmethod
    def compare(self, a: Any, b: Any) -> float:
        """The similarity of two prepared sides."""

    @abstractmethod
    def reordered(self, a: Any, order: np.ndarray) -> Any:
        """A prepared side with its samples in another order."""

    def between(self, x: np.ndarray, y: np.ndarray) -> float:
        """The similarity of two arrays.

        Raises:
            ValueError: they are not two arrays of the same samples, or too degenerate for the measure.
        """
        x, y = checked([x, y])
        return self.compare(self.prepare(x), self.prepare(y))

    def grid(self, rows: Sequence[Any], columns: Sequence[Any] | None = None) -> np.ndarray:
        """Similarities ``(row, column)`` of prepared sides; of `rows` with each other if `columns` is left out."""
        others = rows if columns is None else columns
        values = np.empty((len(rows), len(others)))
        for i, a in enumerate(rows):
            for j, b in enumerate(others):
                mirrored = columns is None and self.symmetric and j < i
                values[i, j] = values[j, i] if mirrored else self.compare(a, b)
        return values


def checked(arrays: Sequence[Any], names: Sequence[str] = ()) -> list[np.ndarray]:
    """Return arrays ``(sample, unit)`` of the same samples as float32 (where they are no wider) or float64.

    `names` are what errors call them; by their number if left out. Numbers so large or small that squares would leave
    the type's range are scaled; every measure here is invariant to that.

    Raises:
        ValueError: one is no matrix of finite real numbers, has too few samples, other samples than the first, or
            the same values in all of its samples.
    """
    if not arrays:
        raise ValueError("similarity needs at least one array, found none.")
    found: list[np.ndarray] = []
    for number, given in enumerate(arrays):
        name = names[number] if names else f"array {number + 1}"
        x = _array(given, name)
        if x.ndim != 2 or x.dtype.kind not in "biuf":
            raise ValueError(f"{name} is a matrix (samples x units) of real numbers, found {_described(x)}.")
        x = x.astype(np.float32 if x.dtype.kind == "f" and x.dtype.itemsize <= 4 else np.float64, copy=False)
        if len(x) < LEAST_SAMPLES or not x.shape[1]:
            raise ValueError(
                f"{name} needs at least {LEAST_SAMPLES} samples and a unit, found {_described(x)}; rows are "
                "samples (tokens), columns are units."
            )
        if found and len(x) != len(found[0]):
            raise ValueError(
                f"the arrays need the same samples in the same order, found {len(found[0])} and {len(x)}; rows are "
                "samples (tokens), columns are units."
            )
        least, most = float(x.min()), float(x.max())
        if not np.isfinite(most - least):
            raise ValueError(f"{name} has {_not_finite(x)}; similarity needs finite numbers.")
        if (x == x[0]).all():
            raise ValueError(f"{name} is the same in all of its {len(x)} samples, so it is like nothing.")
        largest = max(abs(least), abs(most))
        found.append(x if 1e-6 < largest < 1e6 else x / largest)
    return found


def _array(given: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors of other types or with gradients
        raise ValueError(
            f"{name} is a matrix (samples x units) of real numbers, found a {type(given).__name__} that numpy cannot "
            f"read: {str(error).rstrip('.')}."
        ) from error


def _described(x: np.ndarray) -> str:
    return f"the shape {tuple(x.shape)} of {x.dtype}"


def _not_finite(x: np.ndarray) -> str:
    bad = np.argwhere(~np.isfinite(x))
    return f"{x[tuple(bad[0])]} at sample {bad[0][0]}, unit {bad[0][1]}" if len(bad) else "numbers beyond its range"


def centred(x: np.ndarray) -> np.ndarray:
    """Return samples minus their mean, in float64 or, if they are many, their own type.

    A unit that never changes becomes exactly 0.
    """
    x = x if len(x) >= MANY else x.astype(np.float64)
    mean = x.mean(0, dtype=np.float64)
    first = mean.astype(x.dtype)
    moved = x - first
    moved -= (mean - first).astype(x.dtype)  # what the mean lost in the samples' type
    moved[:, (x == x[0]).all(0)] = 0.0  # the mean of equal numbers can miss them by a rounding
    return np.asarray(moved)


def length(x: np.ndarray) -> float:
    """Return the Frobenius norm, added up in float64."""
    return float(np.sqrt(np.einsum("ij,ij->", x, x, dtype=np.float64)))


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a.T @ b`` in float64: float32 times float32 in short sums of float32, added up in float64."""
    if a.dtype == b.dtype == np.float32:
        total = np.zeros((a.shape[1], b.shape[1]))
        for start in range(0, len(a), _ROWS):
            total += a[start : start + _ROWS].T @ b[start : start + _ROWS]
        return total
    return np.asarray(a.astype(np.float64, copy=False).T @ b.astype(np.float64, copy=False))
