"""Kinds of results that a terminal shows better than by their blocks: bars, sparklines, charts, maps, scatters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ecco_core import Heat, LabelledArray, visible
from ecco_terminal.blocks import heading, heat, scale, shade, shorter, ticks
from ecco_terminal.palette import Ink
from ecco_terminal.screen import Piece, Screen, cells, number, padded
from ecco_terminal.token_scores import bar

if TYPE_CHECKING:
    from ecco_core import Components, Curves, Grid, Patterns, Points, Predictions

PANEL, MOST_PANELS, MOST_BARS = 36, 12, 5  # cells of a panel of bars; panels; bars in each
WIDEST_MAP, MOST_MAPS, GAP = 32, 16, 2  # cells of a map; maps; between two
CHART_LINES, WIDEST_CHART, MOST_CURVES = 11, 72, 12
SCATTER_LINES, WIDEST_SCATTER = 20, 90
SIDES = ("for", "against", "amount")
MOST_TOKENS = 200  # of the text below sparklines
HEIGHTS = " ▁▂▃▄▅▆▇█"
FLAT = 0.05  # a null that varies by less, as a share of the largest number, is told in words


def predictions(screen: Screen, result: Predictions) -> None:
    """A panel of bars per row, as many beside each other as fit."""
    values, dim = _finite(result.values.values), result.values.dims[0]
    rows = _evenly(len(values), MOST_PANELS)
    across = max(1, min((screen.width + GAP) // (PANEL + GAP), len(rows)))
    each = min((screen.width + GAP) // across - GAP, 2 * PANEL)
    shown = min(MOST_BARS, values.shape[1])
    texts = [[f"'{visible(str(t))}'" for t in row[:shown]] for row in result.texts.values]
    wide = min(max((cells(t) for row in rows for t in texts[row]), default=0), each // 2)
    most = float(np.nanmax(values, initial=0.0)) or 1.0
    for start in range(0, len(rows), across):
        group = rows[start : start + across]
        screen.blank()
        names = [padded(f"{visible(dim)} {visible(str(result.values.labels(dim)[row]))}", each) for row in group]
        screen.line(((" " * GAP).join(names).rstrip(), Ink(bold=True)))
        for k in range(shown):
            line: list[Piece] = []
            for row in group:
                share, room = max(float(np.nan_to_num(values[row, k])) / most, 0.0), max(each - wide - 8, 0)
                told = padded(f" {values[row, k]:.3f}", 7)
                filled = bar(share, room, "amount", screen.marks)
                beside = padded(told, each - wide - 1 - cells(filled)) + " " * GAP
                line += [(padded(texts[row][k], wide) + " ", Ink()), (filled, screen.palette.bar("amount")),
                         (beside if row != group[-1] else told.rstrip(), Ink())]  # fmt: skip
            screen.line(*line)
    _left_out(screen, values.shape[1] - shown, "candidates")
    _left_out(screen, len(values) - len(rows), f"rows along {dim}")


def components(screen: Screen, result: Components) -> None:
    """A sparkline per component over the tokens, with its range and the units that load most."""
    values, (down, across) = _finite(result.values.values), result.values.dims
    names = [visible(str(label)) for label in result.values.labels(down)]
    tokens = result.tokens.labels if result.tokens is not None else None
    labels = [f"{i} {t}" for i, t in enumerate(tokens)] if tokens is not None else result.values.labels(across)
    side = min(max(map(cells, names), default=0), screen.width // 4)
    joined, group = _joined(values, screen.width - side - 1, 1)
    screen.blank()
    above = ticks([visible(str(label)) for label in labels[::group]], 1, screen.width - side - 1)
    screen.line((" " * (side + 1), Ink()), (above, Ink(dim=True)))
    units = result.loadings.labels(result.loadings.dims[1])
    signed = bool((values < 0).any())
    for name, row, whole, loadings in zip(names, joined, values, _finite(result.loadings.values)):
        screen.line((padded(name, side, right=True) + " ", Ink(bold=True)), *_sparkline(screen, row, signed))
        order = np.argsort(-np.abs(np.nan_to_num(loadings)), kind="stable")[:3]
        most = ", ".join(f"{visible(str(units[i]))} {loadings[i]:+.2g}" for i in order)
        span = f"{number(np.nanmin(whole))} to {number(np.nanmax(whole))}" if np.isfinite(whole).any() else "no number"
        first = np.argsort(-np.abs(np.nan_to_num(whole)), kind="stable")[:3]
        where = ", ".join(visible(str(labels[i])) for i in first)
        told = [(f"{span}; most of {most}; at {where}", Ink(dim=True))]
        screen.flow(told, first=(" " * (side + 1), Ink()), rest=" " * (side + 1))
    how = "heights: activation, each component on its own scale"
    signs = "; - stands for negative" if screen.marks else "; orange positive, blue negative"
    each = f"; a column stands for {group} tokens, the strongest is shown" if group > 1 else ""
    screen.flow([(how + signs * signed + each, Ink(dim=True))])
    fit = " · ".join(f"{visible(k)} {number(v)}" for k, v in result.quality.items() if " component " not in k)
    if fit:
        screen.flow([(f"fit: {fit}", Ink())])
    if tokens is not None:
        more = " …" * (len(tokens) > MOST_TOKENS)
        screen.flow([("text: " + "".join(visible(token) for token in tokens[:MOST_TOKENS]) + more, Ink())])


def _sparkline(screen: Screen, row: np.ndarray, signed: bool) -> list[Piece]:
    top = float(np.nanmax(np.abs(row), initial=0.0)) or 1.0
    pieces: list[Piece] = []
    for value in np.nan_to_num(row):
        share = float(value) / top
        mark = HEIGHTS[round(abs(share) * 8)]
        if screen.marks and share < 0:
            mark = "-" if share < -0.25 else " "
        pieces.append((mark, screen.palette.bar("amount" if not signed else "for" if share >= 0 else "against")))
    return pieces


def grid(screen: Screen, result: Grid) -> None:
    """The numbers with their intervals, and what chance gives."""
    screen.blank()
    _with_intervals(screen, result)
    if result.null is None:
        return
    null = _finite(result.null.values)
    known = null[np.isfinite(null)]
    if known.size and np.ptp(known) <= FLAT * np.nanmax(np.abs(_finite(result.values.values)), initial=0.0):
        span = f"{known.min():.2g} to {known.max():.2g}" if np.ptp(known) else f"{known[0]:.2g} everywhere"
        screen.flow([(f"by chance (null): {span}", Ink())])
        return
    heading(screen, "by chance (null)")
    heat(screen, Heat(title="", values=result.null))


def _with_intervals(screen: Screen, result: Grid | Curves) -> None:
    values, low, high = result.values, result.low, result.high
    texts = None
    if low is not None and high is not None:
        texts = np.empty(values.shape, dtype=object)
        for at in np.ndindex(*values.shape):
            ends = shorter(float(low.values[at])), shorter(float(high.values[at]))
            texts[at] = f"{values.values[at]:.3g}" + (f" {'–'.join(ends)}" if ends[0] != ends[1] else "")
    block = Heat(title="", values=values, texts=None if texts is None else LabelledArray(texts, values.dims))
    heat(screen, block, whole=True)
    if texts is not None:
        screen.flow([("after each number: the interval from low to high", Ink(dim=True))])


def curves(screen: Screen, result: Curves) -> None:
    """A chart in which each curve has a letter, and the numbers below."""
    values, (down, across) = _finite(result.values.values)[:MOST_CURVES], result.values.dims
    names = [visible(str(n)) for n in result.values.labels(down)]
    known = values[np.isfinite(values)]
    room = min(screen.width - 9, WIDEST_CHART)
    if known.size and values.shape[1] > 1:
        low, high = float(known.min()), float(known.max())
        columns = np.linspace(0, room - 1, values.shape[1]).round().astype(int)
        canvas = _lines(screen, values, columns, low, high)
        screen.blank()
        for line in range(CHART_LINES):
            at = {0: high, CHART_LINES // 2: (low + high) / 2, CHART_LINES - 1: low}.get(line)
            edge = "        │" if at is None else padded(f"{at:.3g}", 7, right=True) + " ┤"
            pieces = [canvas.get((line, column), (" ", Ink())) for column in range(room)]
            screen.line((edge, Ink(dim=True)), *pieces)
        _below(screen, [visible(str(x)) for x in result.values.labels(across)], columns, room, visible(across))
        for i, name in enumerate(names[:MOST_CURVES]):
            screen.flow([(_letter(i), _ink(screen, i)), (f" {name}", Ink())], rest="  ")
        if any(mark == "+" for mark, _ in canvas.values()):
            screen.flow([("+ several of them", Ink(dim=True))])
        _left_out(screen, len(names) - len(values), "curves in the chart")
        screen.blank()
    _with_intervals(screen, result)


def _lines(screen: Screen, values: np.ndarray, columns: np.ndarray, low: float, high: float) -> dict[Any, Piece]:
    """(line, column) -> what stands there: a letter at each number, dots between them."""
    canvas: dict[Any, Piece] = {}
    scaled = (high - values) / ((high - low) or 1.0) * (CHART_LINES - 1)
    for i, row in enumerate(scaled):
        for (a, b), (start, end) in zip(pairwise(row), pairwise(columns)):
            if np.isfinite(a) and np.isfinite(b):
                for column in range(start, end):
                    place = round(float(a + (b - a) * (column - start) / (end - start))), column
                    canvas.setdefault(place, ("·", _ink(screen, i)))
    for i, row in enumerate(scaled):
        for place, column in zip(row, columns):
            if np.isfinite(place):
                at = round(float(place)), int(column)
                several = canvas.get(at, ("·", Ink()))[0] != "·"
                canvas[at] = ("+" if several else _letter(i), _ink(screen, i)._replace(bold=True))
    return canvas


def _below(screen: Screen, labels: list[str], columns: np.ndarray, room: int, name: str) -> None:
    """The labels of the places, where they do not touch each other, and the axis' name."""
    line = ""
    for label, column in zip(labels, columns):
        start = max(min(int(column), room - cells(label)), 0)
        if cells(line) < start or not line:
            line = padded(line, start) + label
    screen.line((" " * 9 + line, Ink(dim=True)))
    screen.line((" " * 9 + name, Ink(dim=True)))


def _letter(i: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[i]


def _ink(screen: Screen, i: int) -> Ink:
    return screen.palette.bar(SIDES[i % len(SIDES)])


def points(screen: Screen, result: Points) -> None:
    """A scatter of the first two axes, with as many labels as fit."""
    values = _finite(result.values.values)
    if values.shape[1] < 2 or not len(values):
        for block in result.blocks():
            heat(screen, block)  # type: ignore[arg-type]
        return
    values = values[:, :2]
    known = np.isfinite(values).all(1)
    room = min(screen.width - 2, WIDEST_SCATTER)
    low, span = (values[known].min(0), np.ptp(values[known], axis=0)) if known.any() else (np.zeros(2), np.ones(2))
    placed = (values - low) / np.where(span > 0, span, 1) * (room - 1, SCATTER_LINES - 1)
    lines = [[""] * room for _ in range(SCATTER_LINES)]
    at = [(SCATTER_LINES - 1 - round(y), round(x)) if k else None for (x, y), k in zip(placed.tolist(), known)]
    for place in filter(None, at):
        lines[place[0]][place[1]] = "•"
    left_out = sum(place is None or not _labelled(lines[place[0]], place[1], visible(text), room)
                   for place, text in zip(at, result.labels))  # fmt: skip
    screen.blank()
    for line in lines:
        told = [c or " " for c in line if c != "\0"]
        screen.line(("│ ", Ink(dim=True)), *((c, screen.palette.bar("against") if c == "•" else Ink()) for c in told))
    screen.line(("└" + "─" * room, Ink(dim=True)))
    names = [visible(str(name)) for name in result.values.labels(result.values.dims[1])]
    screen.flow([(f"{len(values)} points; to the right {names[0]}, up {names[1]}", Ink(dim=True))])
    if left_out:
        screen.flow([(f"{left_out} labels left out: no room", Ink(dim=True))])


def _labelled(line: list[str], column: int, text: str, room: int) -> bool:
    """Write a label beside its point, a cell kept free around it; whether there was room."""
    wide = min(cells(text), 14)
    text = padded(text, wide)
    for start in (column + 1, column - wide):
        free = range(max(start - 1, 0), min(start + wide + 1, room))
        if start < 0 or start + wide > room or any(line[c] for c in free if c != column):
            continue
        line[start] = text
        line[start + 1 : start + wide] = ["\0"] * (wide - 1)  # taken by what stands before
        return True
    return False


def patterns(screen: Screen, result: Patterns) -> None:
    """A small map per layer, the mean over its heads, and where the last query of each looks."""
    layers, heads = result.values.labels("layer"), result.values.shape[1]
    maps = np.nan_to_num(_finite(result.values.values)).mean(1)
    rows = _evenly(len(layers), MOST_MAPS)
    tokens = result.tokens.get(result.key_stack)
    labels = [f"{i} '{visible(t)}'" for i, t in enumerate(tokens.labels)] if tokens is not None else None
    most = min(WIDEST_MAP, screen.width)
    small = [_joined(_joined(m, most, 1)[0], most, 0)[0] for m in maps[rows]]
    group = _joined(maps[0], most, 1)[1]
    top = float(maps.max(initial=0.0)) or 1.0
    wide = max(small[0].shape[1], min(cells(f"layer {layers[-1]}"), most)) if small else most
    across = max(1, (screen.width + GAP) // (wide + GAP))
    for start in range(0, len(rows), across):
        screen.blank()
        names = [padded(f"layer {visible(str(layers[row]))}", wide) for row in rows[start : start + across]]
        screen.line(((" " * GAP).join(names), Ink(bold=True)))
        for first in range(0, small[0].shape[0], 2):
            line: list[Piece] = []
            for one in small[start : start + across]:
                line += [_two(screen, one[first : first + 2, c] / top) for c in range(one.shape[1])]
                line.append((" " * (wide - one.shape[1] + GAP), Ink()))
            screen.line(*line)
    if screen.marks:
        screen.flow([(f"from 0 to {top:.2g}", Ink(dim=True))])
    else:
        scale(screen, 0.0, top, signed=False)
    mean = f"the mean over {heads} heads; " * (heads > 1)
    joined = f", {group} positions in a cell" * (group > 1)
    screen.flow([(f"{mean}queries go down, keys to the right{joined}", Ink(dim=True))])
    _left_out(screen, len(layers) - len(rows), "layers")
    _most_looked_at(screen, maps, [str(layers[row]) for row in rows], rows, labels)


def _most_looked_at(
    screen: Screen, maps: np.ndarray, layers: list[str], rows: list[int], labels: list[str] | None
) -> None:
    heading(screen, "the last query looks most at")
    for layer, row in zip(layers, rows):
        last = maps[row][-1]
        order = np.argsort(-last, kind="stable")[:4]
        told = "  ".join(f"{labels[i] if labels and i < len(labels) else i} {last[i]:.2g}" for i in order)
        screen.flow([(f"layer {visible(layer)}  ", Ink(dim=True)), (told, Ink())], rest="  ")


def _two(screen: Screen, shares: np.ndarray) -> Piece:
    """Two cells, one above the other, as one: two colours, or the stronger where there are few."""
    inks = [screen.palette.score(float(share), signed=False) for share in shares]
    if screen.palette.painted and len(inks) == 2:
        return "▀", Ink(inks[0].bg, inks[1].bg)
    strongest = float(shares.max())
    return (shade(strongest) if screen.marks else " "), screen.palette.score(strongest, signed=False)


def _finite(values: Any) -> np.ndarray:
    floats = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(floats), floats, np.nan)


def _evenly(count: int, most: int) -> list[int]:
    """Up to `most` of so many places, evenly spaced."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}) if count else []


def _joined(values: np.ndarray, most: int, axis: int) -> tuple[np.ndarray, int]:
    """Neighbours joined until at most `most` are left, of each group what is farthest from 0; and the group's size."""
    group = -(-values.shape[axis] // max(most, 1)) or 1
    parts = [
        values.take(range(k, min(k + group, values.shape[axis])), axis) for k in range(0, values.shape[axis], group)
    ]
    strongest = [np.take_along_axis(p, np.abs(np.nan_to_num(p)).argmax(axis, keepdims=True), axis) for p in parts]
    return (np.concatenate(strongest, axis) if strongest else values), group


def _left_out(screen: Screen, count: int, what: str) -> None:
    if count > 0:
        screen.flow([(f"{count} {visible(what)} left out", Ink(dim=True))])


#: Kind -> its view.
VIEWS: dict[str, Callable[[Screen, Any], None]] = {
    "Predictions": predictions,
    "Components": components,
    "Grid": grid,
    "Curves": curves,
    "Points": points,
    "Patterns": patterns,
}
