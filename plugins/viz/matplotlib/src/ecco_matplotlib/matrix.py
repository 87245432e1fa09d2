"""A matrix of numbers as coloured cells, with a text in each where it fits; used by most kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecco_core import LabelledArray
from ecco_matplotlib.palette import Scale
from ecco_matplotlib.sheet import HIGHEST, Sheet
from ecco_matplotlib.words import LABEL, SMALL, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.16  # inches
_MOST_CELLS = 1500  # with a text
_VECTOR_CELLS = 4000  # more than these are an image inside of a vector format
_LEAST_CELL = 0.011  # inches: narrower cells are drawn together
_LEAST_TEXT = 4.6  # points


def drawn_together(values: np.ndarray, most: int, axis: int) -> tuple[np.ndarray, int]:
    """Join neighbours along an axis so that there are at most `most`: of each group the number that is farthest from 0.

    Returns:
        the joined values, and how many neighbours make a group.
    """
    group = -(-values.shape[axis] // most)
    if group == 1:
        return values, 1
    moved = np.moveaxis(values, axis, -1)
    padded = np.full((*moved.shape[:-1], -(-moved.shape[-1] // group) * group), np.nan)
    padded[..., : moved.shape[-1]] = moved
    groups = padded.reshape(*moved.shape[:-1], -1, group)
    strongest = np.where(np.isfinite(groups), np.abs(groups), -1).argmax(-1)
    return np.moveaxis(np.take_along_axis(groups, strongest[..., None], -1)[..., 0], -1, axis), group


def cells(
    sheet: Sheet,
    ax: Axes,
    values: np.ndarray,
    scale: Scale,
    labels: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str],
    *,
    upward: bool = False,
    square: bool = False,
    level: bool = False,
) -> np.ndarray:
    """Paint a matrix ``(down, across)``; what is not finite is left white.

    Args:
        labels: of the rows and the columns; `names`: of the two axes.
        upward: whether the first row is the lowest. `square`: whether cells are. `level`: see `Sheet.name`.

    Returns:
        the numbers that were painted: `values`, or fewer where they were drawn together.
    """
    most = max(int(sheet.width * 0.85 / _LEAST_CELL), 1), max(int(HIGHEST / _LEAST_CELL), 1)
    down, across = labels
    values, wide = drawn_together(values, most[0], 1)
    values, high = drawn_together(values, most[1], 0)
    for group, axis in ((wide, names[1]), (high, names[0])):
        if group > 1:
            sheet.say(f"Each cell stands for {group} neighbours along {axis or 'the axis'}: the strongest is shown.")
    rows, columns = values.shape
    few = rows * columns <= _VECTOR_CELLS
    painted = np.ma.masked_invalid(values)
    if few:
        ax.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, painted, cmap=scale.cmap,
                      norm=scale.norm, edgecolors="white", linewidth=0.4)  # fmt: skip
    else:
        ax.imshow(painted, cmap=scale.cmap, norm=scale.norm, interpolation="nearest", aspect="auto", origin="lower")
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(*((-0.5, rows - 0.5) if upward else (rows - 0.5, -0.5)))
    if square:
        ax.set_aspect("equal")
        ax.set_anchor("NW")
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    sheet.name(ax, "y", list(down)[::high])
    sheet.name(ax, "x", list(across)[::wide], level=level)
    ax.set_ylabel(sheet.words.cut(names[0], LABEL, 1.6))
    ax.set_xlabel(sheet.words.cut(names[1], LABEL, 0.8 * sheet.width))
    return values


def write_in_cells(
    sheet: Sheet,
    ax: Axes,
    values: np.ndarray,
    scale: Scale,
    text_of: Callable[[int, int], Sequence[str]],
    *,
    tokens: bool = False,
) -> None:
    """Write lines into the cells, later, when their size is known; numbers only if they fit.

    Args:
        text_of: (row, column) -> its lines, the first in full size.
        tokens: whether the texts are tokens, which may be cut to fit; if not even that helps, this is said.
    """
    rows, columns = values.shape

    def write() -> None:
        wide, high = sheet.cell(ax)
        cell = wide * 0.92, high
        lines = {(i, j): text_of(i, j) for i, j in np.ndindex(rows, columns)} if values.size <= _MOST_CELLS else {}
        size = _fitting(sheet, [line for several in lines.values() for line in several[:1]], cell, tokens)
        if not lines or not size:
            if tokens:
                sheet.say("The cells' tokens are left out: there is no room for them.")
            return
        second = max((len(several) for several in lines.values()), default=1) > 1 and all(
            sheet.words.width(line, size * 0.75) <= cell[0] for several in lines.values() for line in several[1:]
        )
        second = second and cell[1] * 72 >= size * 2.2
        for (i, j), several in lines.items():
            if np.isfinite(values[i, j]):
                shift = 0.17 if second and len(several) > 1 else 0.0
                ink = scale.ink(float(values[i, j]))
                style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": ink,
                                         "clip_on": True, "in_layout": False}  # fmt: skip
                up = -1 if ax.yaxis_inverted() else 1
                ax.text(j, i + up * shift, sheet.words.cut(several[0], size, cell[0]), size=size, **style)
                if shift:
                    ax.text(j, i - up * 0.25, several[1], size=size * 0.75, **style)

    sheet.later(write)


def _fitting(sheet: Sheet, texts: list[str], cell: tuple[float, float], tokens: bool) -> float:
    """The largest readable size at which the texts fit into a cell, or the tokens' first letters; 0 if none."""
    size = min(LABEL, cell[1] * 72 / 1.25)
    width = cell[0]
    if tokens:
        return size if size >= _LEAST_TEXT and width >= 0.26 else 0.0
    widest = max((sheet.words.width(text, SMALL) for text in texts), default=0.0)
    size = min(size, SMALL * width / widest) if widest else size
    return size if size >= _LEAST_TEXT else 0.0


def row_height(rows: int, columns: int, width: float) -> float:
    """Height of a matrix whose cells are as high as a line, or higher where they are wide."""
    return min(max(ROW, min(width / columns * 0.45, 0.36)) * rows, HIGHEST - 1)


def square_height(rows: int, columns: int, width: float, most: float = 0.62) -> float:
    """Height of a matrix of square cells, `most` inches large."""
    return min(min(width / columns, most) * rows, HIGHEST - 1)


def as_matrix(array: LabelledArray) -> LabelledArray:
    """The array with two dimensions."""
    if array.values.ndim == 2:
        return array
    return LabelledArray(array.values.reshape(1, -1), ("", array.dims[-1]), dict(array.coords))


def numbers(values: np.ndarray) -> np.ndarray:
    """As floats, in which what is infinite is not painted either."""
    floats = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(floats), floats, np.nan)


def short(value: float) -> tuple[str]:
    """A number as it stands in a cell."""
    return (number(value, 3 if abs(value) < 1e4 else 2),)
