"""A matrix of numbers as an HTML table whose cells are coloured."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from ecco_core import Heat, LabelledArray
from ecco_html.escape import escaped, number
from ecco_html.palette import background
from ecco_html.table import scrolling

MOST_ROWS, MOST_COLUMNS = 100, 100


@attrs.frozen
class Scale:
    """How numbers become colours: around 0 if there are negative ones, else from the least to the greatest."""

    low: float
    high: float
    signed: bool

    @classmethod
    def of(cls, values: Any) -> Scale:
        """The scale of an array's finite numbers."""
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if not finite.size:
            return cls(0.0, 0.0, signed=False)
        low, high = float(finite.min()), float(finite.max())
        if low < 0:
            end = max(-low, high)
            return cls(-end, end, signed=True)
        return cls(low, high, signed=False)

    def level(self, value: float) -> float:
        """Where a number stands, -1 to 1."""
        if self.signed:
            return value / self.high
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5


def heat_map(block: Heat, caption: str) -> str:
    """Return the block as a table with a legend; what is beyond 100 × 100 cells is counted, not shown."""
    matrix, texts = _as_matrix(block.values), block.texts
    scale = Scale.of(matrix.values)
    down, across = matrix.dims
    rows, columns = matrix.labels(down)[:MOST_ROWS], matrix.labels(across)[:MOST_COLUMNS]
    words = texts.values.reshape(matrix.shape) if texts is not None else None
    corner = "<br>".join(f"{escaped(name)} {arrow}" for name, arrow in ((down, "↓"), (across, "→")) if name)
    head = f'<th scope="col" class="corner">{corner}</th>' + "".join(
        f'<th scope="col" dir="auto">{escaped(label)}</th>' for label in columns
    )
    body = "\n".join(
        f'<tr><th scope="row" dir="auto">{escaped(label) if down else ""}</th>'
        + "".join(
            _cell(float(matrix.values[i, j]), scale, None if words is None else str(words[i, j]))
            for j in range(len(columns))
        )
        + "</tr>"
        for i, label in enumerate(rows)
    )
    markup = f'<table class="heat">{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
    return scrolling(markup, block.title or "values", _hidden(matrix)) + _legend(scale)


def _as_matrix(array: LabelledArray) -> LabelledArray:
    if array.values.ndim == 2:
        return array
    return LabelledArray(array.values.reshape(1, -1), ("", array.dims[-1]), dict(array.coords))


def _cell(value: float, scale: Scale, text: str | None) -> str:
    shown = number(value, 3)
    style = background(scale.level(value), signed=scale.signed)
    if text is None:
        return f'<td class="num" style="{style}">{shown}</td>'
    return f'<td style="{style}"><span dir="auto" class="word">{escaped(text)}</span> <small>{shown}</small></td>'


def _hidden(matrix: LabelledArray) -> str:
    sizes = zip(matrix.dims, matrix.shape, (MOST_ROWS, MOST_COLUMNS))
    parts = [f"{size - most} more along {dim or 'rows'}" for dim, size, most in sizes if size > most]
    return f"… and {', '.join(parts)}" if parts else ""


def _legend(scale: Scale) -> str:
    levels = [-1, -0.5, 0, 0.5, 1] if scale.signed else [0, 0.25, 0.5, 0.75, 1]
    swatches = "".join(
        f'<span class="swatch" style="{background(x, signed=scale.signed)}">&nbsp;&nbsp;&nbsp;</span>' for x in levels
    )
    return (
        f'<div class="legend">{number(scale.low, 3)} <span class="swatches" aria-hidden="true">{swatches}</span> '
        f"{number(scale.high, 3)}</div>"
    )
