"""Token grids: layer × position, the first layer at the bottom, a token in each cell; the best rank is strongest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ecco_core import TokenGrid
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import ROW, cells, numbers, row_height, short, write_in_cells
from ecco_matplotlib.sheet import HIGHEST, Sheet, Wanted

_TOKEN_CELL, _LABELS = 0.43, 0.75  # inches: width of a cell with a token; height of a band's labels


def draw(sheet: Sheet, result: TokenGrid) -> tuple[Any, Wanted, list[str], bool]:
    """Draw a grid, in several bands where that gives each token its room."""
    values, words = numbers(result.values.values), sheet.words
    down, across = result.values.dims
    scale = _scale(result, values)
    labels = [[words.token(label) for label in result.values.labels(dim)] for dim in (down, across)]
    texts = result.texts.values if result.texts is not None else None
    bands = _bands(sheet, values.shape) if texts is not None else 1
    length = -(-values.shape[1] // bands)
    panels = sheet.panels(bands)
    shapes = []
    for band, ax in enumerate(panels[:, 0]):
        part = slice(band * length, min((band + 1) * length, values.shape[1]))
        names = words.shown(down), words.shown(across) if band == bands - 1 else ""
        painted = cells(sheet, ax, values[:, part], scale, (labels[0], labels[1][part]), names, level=bands > 1,
                        upward=down == "layer")  # fmt: skip
        ax.set_xlim(-0.5, max(length if bands > 1 else 0, painted.shape[1]) - 0.5)
        shapes.append(painted.shape)
        if texts is not None:
            _write(sheet, ax, painted, scale, texts[:, part], length)
        elif values.size <= 400:
            write_in_cells(sheet, ax, painted, scale, lambda i, j, p=painted: short(p[i, j]))  # type: ignore[misc]
    sheet.colours(
        scale, panels.ravel().tolist(), words.shown(result.quantity or result.title), _rank_ticks(result, scale)
    )
    axes = panels[:, 0] if bands > 1 else panels[0, 0]

    def wanted(width: float) -> list[float]:
        return [row_height(rows, max(length, columns) if bands > 1 else columns, width) for rows, columns in shapes]

    return axes, wanted, [], False


def _write(sheet: Sheet, ax: Any, painted: np.ndarray, scale: palette.Scale, texts: np.ndarray, length: int) -> None:
    """The token of each cell, if each cell was painted alone."""
    if painted.shape != texts.shape:
        sheet.say("The cells' tokens are left out: there is no room for them.")
        return
    words = sheet.words
    write_in_cells(sheet, ax, painted, scale, lambda i, j: (words.token(texts[i, j]),),
                   tokens=True)  # fmt: skip


def _bands(sheet: Sheet, shape: tuple[int, ...]) -> int:
    """Into how many bands the positions are cut: 1 where they fit, or where so many would not fit on a page."""
    rows, columns = shape
    most = max(1, int((sheet.width - 0.6) / _TOKEN_CELL))
    bands = math.ceil(columns / most)
    return bands if sheet.own and bands * (rows * ROW + _LABELS) <= HIGHEST else 1


def _is_rank(result: TokenGrid) -> bool:
    return result.quantity.lower().startswith("rank")


def _scale(result: TokenGrid, values: np.ndarray) -> palette.Scale:
    quantity = result.quantity.lower()
    if _is_rank(result):
        return palette.rank_scale(values)
    if quantity.startswith("probability"):
        return palette.scale(values, signed=False, low=0.0, high=1.0)
    return palette.scale(values)


def _rank_ticks(result: TokenGrid, scale: palette.Scale) -> list[float] | None:
    """1, 10, 100 …, as far as the ranks go."""
    if not _is_rank(result):
        return None
    assert scale.norm.vmax is not None
    return [10.0**k for k in range(int(math.log10(scale.norm.vmax) + 1e-9) + 1)]
