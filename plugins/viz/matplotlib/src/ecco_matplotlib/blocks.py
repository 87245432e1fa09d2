"""Tables, fitted things, and any kind that has no figure of its own: each block as a typeset table or a heat map."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecco_core import Heat, Result, Rows
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import as_matrix, cells, numbers, row_height, short, write_in_cells
from ecco_matplotlib.sheet import HIGHEST, Sheet, Wanted
from ecco_matplotlib.words import LABEL, Words, number

MOST_ROWS, _MOST_BLOCKS = 50, 8
_LINE, _GAP = 10.0, 9.0  # points: height of a line, space between columns


def draw(sheet: Sheet, result: Result) -> tuple[Any, Wanted, list[str], bool]:
    """Draw the blocks one below the other."""
    blocks = list(result.blocks())
    facts = []
    if len(blocks) > _MOST_BLOCKS:
        facts.append(f"The first {_MOST_BLOCKS} of {len(blocks)} parts.")
        blocks = blocks[:_MOST_BLOCKS]
    panels = sheet.panels(max(len(blocks), 1))[:, 0]
    heights: list[Any] = []
    for ax, block in zip(panels, blocks):
        heights.append(_table(sheet, ax, block) if isinstance(block, Rows) else _heat(sheet, ax, block))
        title = sheet.words.shown(block.title) if isinstance(block, Rows) else ""  # of a heat map, below its colours
        if title and block.title != result.title:
            ax.set_title(sheet.words.cut(title, LABEL, sheet.width - 0.3), fontsize=LABEL)
    if not blocks:
        panels[0].set_axis_off()
        facts.append("There is nothing in it to draw.")
    rigid = any(isinstance(block, Rows) for block in blocks)

    def wanted(width: float) -> list[float]:
        return [height(width) if callable(height) else height for height in heights] or [0.3]

    return (panels if len(panels) > 1 else panels[0]), wanted, facts, rigid


def _heat(sheet: Sheet, ax: Any, block: Heat) -> Any:
    matrix = as_matrix(block.values)
    values = numbers(matrix.values)
    scale = palette.scale(values)
    labels = [[sheet.words.token(label) for label in matrix.labels(dim)] for dim in matrix.dims]
    labels[0] = labels[0] if matrix.dims[0] else [""]
    names = tuple(sheet.words.shown(dim) for dim in matrix.dims)
    painted = cells(sheet, ax, values, scale, (labels[0], labels[1]), names)  # type: ignore[arg-type]
    if values.size <= 400:
        write_in_cells(sheet, ax, painted, scale, lambda i, j: short(painted[i, j]))
    sheet.colours(scale, ax, sheet.words.shown(block.title))
    return lambda width: row_height(painted.shape[0], painted.shape[1], width)


def _table(sheet: Sheet, ax: Any, block: Rows) -> float:
    """Typeset a table with rules above, below the head, and at the end; return its height in inches."""
    words = sheet.words
    block, rows = _full(block), _full(block).rows[:MOST_ROWS]
    space = (sheet.width - 0.2) * 72
    right = [
        all(_is_number(row[c]) or row[c] is None for row in rows) and bool(rows) for c in range(len(block.columns))
    ]
    texts = [[words.shown(str(name)) for name in block.columns], *([_cell(v, words) for v in row] for row in rows)]
    widths = _widths(words, texts, space)
    if len(widths) < len(block.columns):
        sheet.say(f"The first {len(widths)} of {len(block.columns)} columns.")
    y, shown = 2.0, 0
    rules = [0.0]
    for r, row in enumerate(texts):
        if y > (HIGHEST - 0.5) * 72:
            break
        shown, cells_ = r, [words.wrapped(text, LABEL, width / 72, "bold" if r == 0 else "normal")
                     for text, width in zip(row, widths)]  # fmt: skip
        cells_ = [[*lines[:3], lines[3] + " …"] if len(lines) > 4 else lines for lines in cells_]
        x = 0.0
        for lines, width, to_right in zip(cells_, widths, right):
            for k, line in enumerate(lines):
                ax.text(x + width * to_right, y + (k + 0.5) * _LINE, line, size=LABEL, in_layout=False,
                        ha="right" if to_right else "left", va="center_baseline",
                        weight="bold" if r == 0 else "normal")  # fmt: skip
            x += width + _GAP
        y += max((len(lines) for lines in cells_), default=1) * _LINE + 1
        if r == 0:
            rules.append(y + 1)
            y += 3
    if shown < len(block.rows):
        sheet.say(f"The first {shown} of {len(block.rows)} rows.")
    total = max(sum(widths) + _GAP * (len(widths) - 1), 1.0)
    for rule, weight in zip([*rules, y + 1], (0.8, 0.5, 0.8)):
        ax.plot([0, total], [rule, rule], color=palette.INK, linewidth=weight, clip_on=False)
    ax.set_xlim(0, space)
    sheet.across(ax)
    ax.set_ylim(y + 1, 0)
    ax.set_axis_off()
    return (y + 1) / 72


def _full(block: Rows) -> Rows:
    """The table without the columns in which nothing stands."""
    kept = [c for c in range(len(block.columns)) if not block.rows or any(row[c] is not None for row in block.rows)]
    return Rows(
        title=block.title,
        columns=tuple(block.columns[c] for c in kept),
        rows=tuple(tuple(row[c] for c in kept) for row in block.rows),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))


def _cell(value: Any, words: Words) -> str:
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return number(value, 4) if _is_number(value) else words.shown(str(value))


def _widths(words: Words, texts: list[list[str]], space: float) -> list[float]:
    """Widths of the columns that fit, in points: as wide as their longest text, the widest narrowed until all fit."""
    columns = list(zip(*texts))
    needed = [
        max(words.width(text[:400], LABEL, "bold" if r == 0 else "normal") for r, text in enumerate(column)) * 72 + 1
        for column in columns
    ]
    least = [min(width, 34.0) for width in needed]
    while len(least) > 1 and sum(least) + _GAP * (len(least) - 1) > space:
        least.pop()
        needed.pop()
    room = space - _GAP * (len(needed) - 1)
    while sum(needed) > room + 1e-6:
        widest = max(needed)
        others = [w for w in needed if w < widest - 1e-9]
        count = len(needed) - len(others)
        target = max((room - sum(others)) / count, max(others, default=0.0), min(least))
        needed = [min(w, target) for w in needed]
    return needed
