"""Grids: a heat map of square cells with numbers and intervals, and what chance gives beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecco_core import Grid, LabelledArray
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import cells, numbers, square_height, write_in_cells
from ecco_matplotlib.sheet import Sheet, Wanted
from ecco_matplotlib.words import LABEL, number

_FLAT = 0.05  # a null that varies by less, as a share of the largest number, is told in words


def draw(sheet: Sheet, result: Grid) -> tuple[Any, Wanted, list[str], bool]:
    """Draw the grid, and a panel of the null if that is not the same everywhere."""
    values = numbers(result.values.values)
    null = numbers(result.null.values) if result.null is not None else None
    flat = null is not None and bool(np.ptp(null) <= _FLAT * np.nanmax(np.abs(values), initial=0.0))
    arrays = [values] if null is None or flat else [values, null]
    wide = sheet.width >= 5 or len(arrays) == 1
    panels = sheet.panels(1, len(arrays)) if wide else sheet.panels(len(arrays), 1)
    every = np.concatenate([array.ravel() for array in arrays])
    positive = bool(np.nanmin(values, initial=1.0) >= 0)
    scale = palette.scale(every, signed=False if positive else None, low=0.0 if positive else None)
    names = tuple(sheet.words.shown(dim) for dim in result.values.dims)
    labels = tuple([sheet.words.token(label) for label in result.values.labels(dim)] for dim in result.values.dims)
    for ax, array in zip(panels.flat, arrays):
        painted = cells(sheet, ax, array, scale, labels, names, square=True)  # type: ignore[arg-type]
        ends = (result.low, result.high) if array is values else (None, None)
        if painted.shape == array.shape and array.size <= 1200:
            _numbers(sheet, ax, painted, scale, ends)
    if len(arrays) > 1:
        panels.flat[0].set_title("found", fontsize=LABEL)
        panels.flat[1].set_title("by chance (null)", fontsize=LABEL)
    sheet.colours(scale, panels.ravel().tolist(), sheet.words.shown(result.title or "value"))
    facts = [f"By chance (null): {_span(null)}."] if flat and null is not None else []
    rows, columns = values.shape
    axes = panels.ravel() if len(arrays) > 1 else panels[0, 0]
    return axes, lambda width: [square_height(rows, columns, width)] * len(panels), facts, False


def _span(null: np.ndarray) -> str:
    """The least and the most of a null that is much the same everywhere."""
    least, most = number(null.min(), 2), number(null.max(), 2)
    return f"{least} everywhere" if least == most else f"{least} to {most}"


def _ends(low: LabelledArray, high: LabelledArray, i: int, j: int, digits: int) -> tuple[str, ...]:
    return number(low.values[i, j], digits), number(high.values[i, j], digits)


def _numbers(
    sheet: Sheet, ax: Any, values: np.ndarray, scale: palette.Scale, ends: tuple[LabelledArray | None, ...]
) -> None:
    low, high = ends

    def lines(i: int, j: int) -> tuple[str, ...]:
        text = number(values[i, j], 2 if abs(values[i, j]) < 100 else 3)
        if low is None or high is None:
            return (text,)
        ends = next((e for digits in (2, 3, 4) if len(set(e := _ends(low, high, i, j, digits))) > 1), ())
        return (text, " to ".join(ends)) if ends else (text,)

    write_in_cells(sheet, ax, values, scale, lines)
    if low is not None and high is not None:
        sheet.say("Small numbers: the interval from low to high.")
