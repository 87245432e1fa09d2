"""A matrix of numbers as an HTML table whose cells are coloured, and what its script needs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ecco_core import Heat, LabelledArray, visible
from ecco_html.escape import escaped, number, quoted
from ecco_html.packing import pack_words, short
from ecco_html.page import Part
from ecco_html.palette import background
from ecco_html.table import scrolling

MOST_COLUMNS, MOST_CELLS = 100, 10_000
_WIDE = 16  # more columns than this are shown as rows, or without numbers
_OF_TOKENS = ("position", "token", "query", "key", "source", "target", "from", "to")


@attrs.frozen
class Scale:
    """How numbers become colours: around 0 if there are negative ones, else from the least to the greatest.

    Attributes:
        bend: ``"log"`` of ranks, where 1 is the strongest colour and each further one counts less; ``"root"`` of
            shares from 0 to 1, most of them small, whose square root is painted.
    """

    low: float
    high: float
    signed: bool
    bend: str = ""

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

    @classmethod
    def of_ranks(cls, values: Any) -> Scale:
        """The scale of ranks, 1 the best."""
        return cls(1.0, max(cls.of(values).high, 1.0), signed=False, bend="log")

    def level(self, value: float) -> float:
        """Where a number stands, -1 to 1."""
        if self.bend == "root":
            return math.sqrt(max(value, 0.0))
        if self.bend:
            return 1 - math.log(max(value, 1.0)) / (math.log(self.high) or 1.0)
        if self.signed:
            return value / self.high
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5


@attrs.frozen
class Label:
    """A place along an axis.

    Attributes:
        head: markup at the edge of the table. `words`: in a sentence. `position`: of the token, if it is one.
    """

    head: str
    words: str
    position: int | None = None

    @classmethod
    def of(cls, dim: str, label: object) -> Label:
        """Label of a place: a token's is its position, a blank, and its text."""
        found = re.fullmatch(r"([0-9]{1,9}) (.*)", str(label), re.DOTALL) if dim in _OF_TOKENS else None
        if found:
            position, text = found.groups()
            told = text if text == "(next)" else quoted(text)
            gap = "" if text.startswith(" ") else " "
            return cls(f"<small>{position}</small>{gap}{escaped(text)}", f"{dim} {position} {told}", int(position))
        words = quoted(str(label)) if dim == "token" else visible(str(label))
        return cls(escaped(label), f"{visible(dim)} {words}".strip() if dim else "")


def heat_map(
    block: Heat,
    caption: str,
    *,
    scale: Scale | None = None,
    more: Mapping[str, Sequence[LabelledArray]] | None = None,
    stack: str = "",
    unit: str = "",
    candidates: tuple[LabelledArray, LabelledArray] | None = None,
    turn: bool = True,
) -> Part:
    """Return the block as a table with a legend, alive; what is beyond 10,000 cells is counted, not shown.

    Args:
        unit: what the numbers are, in words.
        scale: how numbers become colours, if not as they are. `stack`: whose positions its tokens' are, if known.
        more: name -> one or two further numbers of each cell, such as the ends of an interval.
        candidates: the best tokens of each cell, ``(row, column, rank)``, and their probabilities.
        turn: whether many columns and few rows may change places.
    """
    rows, columns = block.values.shape if block.values.values.ndim == 2 else (1, 0)
    turned = turn and _WIDE < columns > rows and rows <= (_WIDE if columns <= MOST_COLUMNS else MOST_COLUMNS)

    def laid(array: LabelledArray) -> LabelledArray:
        return _turned(array) if turned else _as_matrix(array)

    matrix, words = laid(block.values), None if block.texts is None else laid(block.texts)
    best = [array.values.swapaxes(0, 1) if turned else array.values for array in candidates or ()]
    scale = scale or Scale.of(matrix.values)
    high, wide = min(matrix.shape[0], MOST_CELLS // min(matrix.shape[1] or 1, MOST_COLUMNS)), MOST_COLUMNS
    most = dict(zip(matrix.dims, (high, wide)))
    axes = [[Label.of(dim, label) for label in matrix.labels(dim)[: most[dim]]] for dim in matrix.dims]
    shown = matrix.values[:high, :wide]
    texts = None if words is None else words.values[:high, :wide]
    extras = {name: [laid(end).values[:high, :wide] for end in ends] for name, ends in (more or {}).items()}
    markup = _table(matrix.dims, axes, shown, texts, extras, scale, caption)
    hidden = _hidden(matrix, (high, wide))
    return Part(
        f'<div class="figure">{scrolling(markup, block.title or "values", hidden, "maps")}{_legend(scale)}</div>',
        "grid",
        {
            "axes": [[label.words for label in axis] for axis in axes],
            **pack_words(texts, *(array[:high, :wide] for array in best)),
            "values": _digits(shown),
            "more": [[name, *map(_digits, ends)] for name, ends in extras.items()],
            "low": scale.low, "high": scale.high, "signed": scale.signed, "bend": scale.bend,
            "unit": visible(unit),
            "joint": "for" if words is None else "at",
            **_along(matrix.dims),
            **_places(axes, stack),
        },
    )  # fmt: skip


def _as_matrix(array: LabelledArray) -> LabelledArray:
    if array.values.ndim == 2:
        return array
    return LabelledArray(array.values.reshape(1, -1), ("", array.dims[-1]), dict(array.coords))


def _turned(array: LabelledArray) -> LabelledArray:
    return LabelledArray(array.values.T, array.dims[::-1], dict(array.coords))


def _along(dims: tuple[str, ...]) -> dict[str, Any]:
    """Which cells are listed beside one: those of all layers, or of a neuron or position the strongest; else none."""
    if "layer" in dims and set(dims) & set(_OF_TOKENS):
        return {"along": dims.index("layer"), "strongest": False}
    return {"along": 1 if dims[1] in _OF_TOKENS else -1, "strongest": True}


def _places(axes: list[list[Label]], stack: str) -> dict[str, Any]:
    """Which token of the run each row or column is."""
    for placed, axis in enumerate(axes):
        if any(label.position is not None for label in axis):
            places = [None if label.position is None else f"{visible(stack)}-{label.position}" for label in axis]
            return {"placed": placed, "places": places}
    return {"placed": 0, "places": None}


def _digits(values: Any) -> list[list[float | None]]:
    return [[short(value) for value in row] for row in np.asarray(values, dtype=np.float64).tolist()]


def _table(
    dims: tuple[str, ...], axes: list[list[Label]], values: Any, texts: Any, more: Any, scale: Scale, caption: str
) -> str:
    dense = " dense" if texts is None and len(axes[1]) > _WIDE else ""
    beside = more if len(axes[1]) <= 8 else {}  # grid.js knows the same number
    corner = "<br>".join(f"{escaped(name)} {arrow}" for name, arrow in zip(dims, "↓→") if name)
    head = f'<td class="corner">{corner}</td>' + "".join(
        f'<th scope="col" dir="auto">{label.head}</th>' for label in axes[1]
    )
    body = "\n".join(
        f'<tr><th scope="row" dir="auto">{label.head if dims[0] else ""}</th>'
        + "".join(
            _cell(float(value), scale, None if texts is None else str(texts[i][j]), _beside(beside, i, j))
            for j, value in enumerate(row)
        )
        + "</tr>"
        for i, (label, row) in enumerate(zip(axes[0], values))
    )
    return f'<table class="heat{dense}">{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _beside(more: Mapping[str, Any], i: int, j: int) -> str:
    """The further numbers of a cell, small."""
    told = (f"{name} {' to '.join(number(end[i][j], 2) for end in ends)}" for name, ends in more.items())
    return "".join(f' <small class="aside">{escaped(text)}</small>' for text in told)


def _cell(value: float, scale: Scale, text: str | None, beside: str) -> str:
    shown = number(value, 3)
    style = background(scale.level(value), signed=scale.signed, short=True)
    word = "" if text is None else f"<bdi>{escaped(text)}</bdi> "
    return f'<td style="{style}">{word}{f"<small>{shown}</small>" if word else shown}{beside}</td>'


def _hidden(matrix: LabelledArray, most: tuple[int, int]) -> str:
    parts = [f"{n - m} more along {dim or 'rows'}" for dim, n, m in zip(matrix.dims, matrix.shape, most) if n > m]
    return f"… and {', '.join(parts)}" if parts else ""


def _legend(scale: Scale) -> str:
    levels: list[float] = [-1, -0.5, 0, 0.5, 1] if scale.signed else [0, 0.25, 0.5, 0.75, 1]
    levels = levels[::-1] if scale.bend == "log" else levels
    levels = [x**0.5 for x in levels] if scale.bend == "root" else levels
    how = {"log": "logarithmic, the best rank strongest", "root": "by the square root, so that small ones show"}
    told = f' <span class="quiet">· {how[scale.bend]}</span>' if scale.bend else ""
    swatches = "".join(
        f'<span class="swatch" style="{background(x, signed=scale.signed)}">&nbsp;&nbsp;&nbsp;</span>' for x in levels
    )
    return (
        f'<div class="legend">{number(scale.low, 3)} <span class="swatches" aria-hidden="true">{swatches}</span> '
        f"{number(scale.high, 3)}{told}</div>"
    )
