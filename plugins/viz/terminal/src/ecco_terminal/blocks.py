"""Any kind of result in a terminal: its heat maps and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ecco_core import Rows, visible
from ecco_terminal.palette import Ink
from ecco_terminal.screen import Colour, Piece, Screen, ThemeName, cells, clip, headline, number, padded

if TYPE_CHECKING:
    from ecco_core import Heat, Result

MOST_ROWS = 60
MOST_BANDS = 3
WIDEST_CELL = 14
WIDEST_LABEL = 24
SHADES = " ░▒▓█"


def render(result: Result, *, width: int | None = None, colour: Colour = "auto", theme: ThemeName = "auto") -> str:
    """Show a result as its kind is read best, or its blocks: heat maps with coloured cells, aligned tables.

    Options:
        width: cells in a line, 20 or more; the terminal's if not given.
        colour: what the terminal can show; found out if not given.
        theme: the ground of cells near zero; found out if not given.

    Returns:
        Text with ANSI colour codes and newlines, and no other control character.

    Raises:
        OptionError: the width is too small.
    """
    from ecco_terminal import kinds, token_scores

    if "TokenScores" in result.kinds():
        return token_scores.render(result, width=width, colour=colour, theme=theme)  # type: ignore[arg-type]
    screen = Screen(width, colour, theme)
    headline(screen, result, result.kinds()[0])
    view = next((kinds.VIEWS[kind] for kind in result.kinds() if kind in kinds.VIEWS), None)
    if view:
        view(screen, result)
    else:
        for block in result.blocks():
            heading(screen, block.title.removeprefix(result.title).strip())
            table(screen, block) if isinstance(block, Rows) else heat(screen, block)
    if result.notes:
        screen.blank()
    for note in result.notes:
        screen.note(note)
    return screen.text()


def heading(screen: Screen, text: str) -> None:
    """A line that names what follows."""
    screen.blank()
    if text:
        screen.flow([(visible(text), Ink(bold=True))])


def table(screen: Screen, block: Rows) -> None:
    """Columns, narrowed or dropped until they fit."""
    texts = [[_cell(v) for v in row] for row in block.rows[:MOST_ROWS]]
    head = [visible(str(c)) for c in block.columns]
    columns = list(zip(head, *texts)) if head else []
    numeric = [all(_is_number(row[c]) for row in block.rows[:MOST_ROWS]) and bool(texts) for c in range(len(head))]
    widths = _fitted([max(cells(t) for t in column) for column in columns], numeric, screen.width)
    for r, row in enumerate([head, *texts]):
        ink = Ink(bold=True, underline=True) if r == 0 else Ink()
        line: list[Piece] = []
        for c, room in enumerate(widths):
            line += [(padded(row[c], room, right=numeric[c]), ink), ("  " if c < len(widths) - 1 else "", Ink())]
        screen.line(*line)
    left = [f"{n} more {what}" for n, what in (
        (len(block.rows) - MOST_ROWS, "rows"), (len(head) - len(widths), "columns")) if n > 0]  # fmt: skip
    if left:
        screen.flow([(f"… and {', '.join(left)}", Ink(dim=True))])
    if not block.rows:
        screen.line(("no rows", Ink(dim=True)))


def _fitted(widths: list[int], numeric: list[bool], room: int) -> list[int]:
    """Narrow the widest columns of words until the row fits; drop columns where that is not enough."""
    widths = [max(w, 1) for w in widths]
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > room:
        words = [c for c in range(len(widths)) if not numeric[c] and widths[c] > 6]
        if words:
            widths[max(words, key=lambda c: widths[c])] -= 1
        else:
            widths.pop()
    return [min(w, room) for w in widths]


def _is_number(value: Any) -> bool:
    return not isinstance(value, (bool, str)) and hasattr(value, "__float__")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) or (hasattr(value, "dtype") and getattr(value.dtype, "kind", "") == "f"):
        return number(value)
    return visible(str(value))


class Matrix:
    """A heat block as rows and columns; further axes in front become part of the rows' labels."""

    def __init__(self, block: Heat) -> None:
        array = block.values
        values = array.values
        shape = values.shape if values.ndim > 1 else (1, values.size)
        self.values: list[list[float]] = [
            [_float(v) for v in row] for row in values.reshape(math.prod(shape[:-1]), shape[-1]).tolist()
        ]
        self.texts: list[list[str]] | None = None
        if block.texts is not None:
            texts = block.texts.values.reshape(len(self.values), shape[-1]).tolist()
            self.texts = [[visible(str(t)) for t in row] for row in texts]
        front, last = array.dims[:-1], array.dims[-1:]
        self.columns = [visible(str(v)) for v in array.labels(last[0])] if last else [""]
        self.rows = [""]
        for dim in front:
            self.rows = [f"{a} {visible(str(b))}".strip() for a in self.rows for b in array.labels(dim)]
        self.corner = visible("\\".join(d for d in (" ".join(front), *last) if d))
        self.rank = block.title.startswith("rank")
        finite = [v for row in self.values for v in row if math.isfinite(v)]
        self.low, self.high = min(finite, default=0.0), max(finite, default=0.0)
        self.signed = self.low < 0
        if self.signed:
            self.high = max(-self.low, self.high)
            self.low = -self.high
        elif self.low <= self.high / 2:
            self.low = 0.0

    def share(self, value: float) -> float:
        """Where a value stands on the scale: -1 to 1 if some are negative, else 0 to 1."""
        if math.isnan(value):
            return 0.0
        if self.rank and value >= 1:
            return 1 - math.log(value) / math.log(max(self.high, value, 2))
        if self.signed:
            share = value / self.high if self.high else 0.0
        else:
            share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return min(max(share, -1.0), 1.0)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def heat(screen: Screen, block: Heat, *, whole: bool = False) -> None:
    """A heat map: with numbers where they fit, else as coloured cells.

    Args:
        whole: whether the cells' texts tell their numbers.
    """
    matrix = Matrix(block)
    if not matrix.values or not matrix.columns:
        screen.line(("empty", Ink(dim=True)))
        return
    labels = max(cells(t) for t in (matrix.corner, *matrix.rows[:MOST_ROWS]))
    labels = min(labels, WIDEST_LABEL, screen.width // 3)
    room = screen.width - labels - 1
    shown = matrix.texts[:MOST_ROWS] if whole and matrix.texts else _with_numbers(matrix, _numbers(matrix))
    each = _widest(shown, matrix.columns) + 2
    dense = matrix.texts is None and len(matrix.columns) > MOST_BANDS * max(room // each, 1)
    if dense:
        _dense(screen, matrix, labels)
    else:
        if each * len(matrix.columns) > room and matrix.texts is not None and not whole:
            shown = matrix.texts[:MOST_ROWS]
            each = min(_widest(shown, matrix.columns) + 2, WIDEST_CELL, room)
        _bands(screen, matrix, shown, labels, min(each, room))
    if len(matrix.rows) > MOST_ROWS:
        screen.line((f"… and {len(matrix.rows) - MOST_ROWS} more rows", Ink(dim=True)))
    _scale(screen, matrix, shaded=dense or matrix.texts is not None)


def _numbers(matrix: Matrix) -> list[list[str]]:
    form = _short if matrix.texts is None else shorter
    return [[form(v) for v in row] for row in matrix.values[:MOST_ROWS]]


def _with_numbers(matrix: Matrix, numbers: list[list[str]]) -> list[list[str]]:
    """What a cell says where there is room: its text, aligned, and its number."""
    if matrix.texts is None:
        return numbers
    wide = min(max(cells(t) for row in matrix.texts[:MOST_ROWS] for t in row), WIDEST_CELL)
    digits = max(len(n) for row in numbers for n in row)
    return [
        [f"{padded(text, wide)} {n:>{digits}}" for text, n in zip(texts, row)]
        for texts, row in zip(matrix.texts, numbers)
    ]


def _widest(shown: list[list[str]], columns: list[str]) -> int:
    return max(max(cells(t) for row in shown for t in row), max(min(cells(t), WIDEST_CELL) for t in columns))


def _short(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value + 0.0:.0f}" if abs(value) < 1e6 and value.is_integer() else f"{value:.3g}"


def shorter(value: float) -> str:
    """A number in two digits, without a leading zero."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("0.", ".") if 0.01 <= value < 1 else f"{value:.2g}"


def _bands(screen: Screen, matrix: Matrix, shown: list[list[str]], labels: int, each: int) -> None:
    per_band = max((screen.width - labels - 1) // each, 1)
    total = len(matrix.columns)
    for band, start in enumerate(range(0, total, per_band)):
        if band == MOST_BANDS:
            screen.line((f"… and {total - start} more columns", Ink(dim=True)))
            return
        if band:
            screen.blank()
        places = range(start, min(start + per_band, total))
        heads = [_in_cell(screen, matrix.columns[c], 0.0, each, matrix) for c in places]
        _row(screen, matrix.corner, heads, labels)
        for r, row in enumerate(shown):
            pieces: list[Piece] = []
            for c in places:
                share = matrix.share(matrix.values[r][c])
                ink = screen.palette.score(share, signed=matrix.signed)
                if screen.marks and abs(share) >= 0.9:
                    ink = Ink(bold=True)
                pieces.append((_in_cell(screen, row[c], share, each, matrix), ink))
            screen.line((padded(matrix.rows[r], labels, right=True) + " ", Ink(dim=True)), *pieces)


def _in_cell(screen: Screen, text: str, share: float, each: int, matrix: Matrix) -> str:
    """A cell's text; where colours are missing and the text is not the number, a shade stands before it."""
    if screen.marks and matrix.texts is not None:
        return padded(shade(share) + text, each - 1) + " "
    if matrix.texts is not None:
        return " " + padded(text, each - 2) + " " if each > 2 else padded(text, each)
    return padded(text, each - 1, right=True) + " "


def shade(share: float) -> str:
    """A character that is the darker the larger a share is."""
    return SHADES[min(round(abs(share) * (len(SHADES) - 1)), len(SHADES) - 1)]


def _row(screen: Screen, label: str, texts: Sequence[str], labels: int) -> None:
    screen.line((padded(label, labels, right=True) + " ", Ink(dim=True)), ("".join(texts), Ink(bold=True)))


def _dense(screen: Screen, matrix: Matrix, labels: int) -> None:
    """A map of coloured cells without numbers, for matrices that are wider than the screen."""
    room = screen.width - labels - 1
    each = 2 if 2 * len(matrix.columns) <= room else 1
    count = min(len(matrix.columns), room // each)
    _row(screen, matrix.corner, [ticks(matrix.columns[:count], each, room)], labels)
    for r, row in enumerate(matrix.values[:MOST_ROWS]):
        pieces: list[Piece] = []
        for value in row[:count]:
            share = matrix.share(value)
            ink = screen.palette.score(share, signed=matrix.signed)
            mark = " " if not screen.marks else "-" if share < -0.25 else shade(share)
            pieces.append((mark * each, ink))
        screen.line((padded(matrix.rows[r], labels, right=True) + " ", Ink(dim=True)), *pieces)
    if count < len(matrix.columns):
        screen.line((f"… and {len(matrix.columns) - count} more columns", Ink(dim=True)))


def ticks(labels: Sequence[str], each: int, room: int) -> str:
    """Every tenth label above its column, which is `each` cells wide; cut where it would reach the next."""
    line = ""
    for c in range(0, len(labels), 10):
        label = clip(labels[c], min(10 * each - 1, room - c * each))
        if cells(line) <= c * each and label:
            line = padded(line, c * each) + label
    return line


def _scale(screen: Screen, matrix: Matrix, *, shaded: bool) -> None:
    if screen.marks:
        shades = f"  {SHADES.strip()} from little to much" if shaded else ""
        if shaded and matrix.signed:
            shades += ", - negative" if matrix.texts is None else ", either sign"
        screen.flow([(f"from {_short(matrix.low)} to {_short(matrix.high)}{shades}", Ink(dim=True))])
        return
    scale(screen, matrix.low, matrix.high, signed=matrix.signed, rank=matrix.rank)


def scale(screen: Screen, low: float, high: float, *, signed: bool, rank: bool = False) -> None:
    """The colours from `low` to `high`; of ranks from the best, in colours for logarithms."""
    steps = 13
    pieces: list[Piece] = [("1 (best) " if rank else f"{_short(low)} ", Ink())]
    for i in range(steps)[:: -1 if rank else 1]:
        share = 2 * i / (steps - 1) - 1 if signed else i / (steps - 1)
        pieces.append((" ", screen.palette.score(share, signed=signed)))
    screen.flow([*pieces, (f" {_short(high)}", Ink())])
