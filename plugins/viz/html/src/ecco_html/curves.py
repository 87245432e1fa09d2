"""Curves as a drawing of lines with their intervals, and as a table for those who cannot see it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ecco_core import Curves, Rows, visible
from ecco_html.about import title_of
from ecco_html.escape import escaped, number
from ecco_html.packing import short
from ecco_html.page import Part
from ecco_html.table import table

MOST_CURVES, MOST_NUMBERS = 12, 40  # drawn, and not folded away
#: Colours that people who see few can tell apart (Okabe, Ito: Color Universal Design, 2008), then the same dashed.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#b58900", "#56b4e9")
_DASHES = ("", "6 4")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 72, 16, 12, 44
_TICKS = 5
_FAR = 1e300  # ends of an axis are no farther, so that its length is a number


def lines(result: Curves) -> tuple[str, ...]:
    """The drawing says it all."""
    return ()


def parts(result: Curves) -> Iterator[Part]:
    """Lines, then all numbers, folded away where there are many."""
    yield drawing(result)
    numbers = f'<div class="numbers">{_numbers(result)}</div>'
    long = result.values.values.size > MOST_NUMBERS
    yield Part(f'<details class="fold"><summary>all numbers</summary>{numbers}</details>' if long else numbers)


def drawing(result: Curves, *, ranks: bool = False) -> Part:
    """Return the lines, alive.

    Args:
        ranks: the values are ranks, 1 the best: it is on top, and each further one counts less.
    """
    values, xs = np.asarray(result.values.values, dtype=np.float64)[:MOST_CURVES], _places(result)
    bands = [None if end is None else np.asarray(end.values, dtype=np.float64) for end in (result.low, result.high)]
    every = np.concatenate([part[:MOST_CURVES].ravel() for part in (values, *bands) if part is not None])
    x, y = _Scale(xs, _LEFT, _WIDTH - _RIGHT), _Scale(every, _HEIGHT - _BOTTOM, _TOP, ranks=ranks)
    across, down = result.values.dims[1], result.values.dims[0]
    levels = np.array([[y.share(value) for value in row] for row in values])
    data = {
        "names": [visible(str(name)) for name in result.values.labels(down)[:MOST_CURVES]],
        "places": [visible(f"{across} {label}") for label in result.values.labels(across)],
        "values": [[short(value, 3) for value in row] for row in values.tolist()],
        "levels": [[short(level, 3) for level in row] for row in levels.tolist()],
        "ends": None if bands[0] is None or bands[1] is None else [
            [f"{number(a, 3)} to {number(b, 3)}" if a != b else "" for a, b in zip(*row)]
            for row in zip(bands[0].tolist(), bands[1].tolist())
        ],
        "colours": [_colour(i) for i in range(len(values))],
    }  # fmt: skip
    svg = _svg(result, values, bands, xs, (x, y))
    return Part(f'<div class="figure">{svg}{_legend(result, ranks=ranks)}</div>', "curves", data)


class _Scale:
    """Where values of an axis stand in the drawing.

    Args:
        values: that it has to hold. `start`, `end`: where its ends are drawn.
        ranks: they stand by their logarithm, 1 at the end.
    """

    def __init__(self, values: np.ndarray, start: float, end: float, *, ranks: bool = False) -> None:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if ranks:
            low, high = -math.log10(max(high, 2.0)), 0.0
        low, high = max(low, -_FAR), min(high, _FAR)
        if high - low <= max(1e-12 * max(abs(low), abs(high)), 1 / _FAR):
            pad = max(0.5, abs(low) / 2)
            low, high = low - pad, high + pad
        self.low, self.high, self.start, self.end, self.ranks = low, high, start, end, ranks

    def share(self, value: float) -> float:
        """How far up the axis, 0 to 1."""
        return ((-math.log10(max(value, 1.0)) if self.ranks else value) - self.low) / (self.high - self.low)

    def __call__(self, value: float) -> float:
        return round(self.start + self.share(value) * (self.end - self.start), 1)

    def ticks(self) -> Iterator[float]:
        """Round numbers within the ends."""
        if self.ranks:
            every = [n * 10**power for power in range(7) for n in ((1, 2, 5) if self.low > -2 else (1,))]
            yield from (rank for rank in every if rank <= 10**-self.low * 1.001)
            return
        raw = (self.high - self.low) / _TICKS
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= raw)
        for n in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1):
            yield n * step


def _places(result: Curves) -> np.ndarray:
    """Where the points of a curve stand: at their labels if all are finite numbers, else one after the other."""
    labels = result.values.labels(result.values.dims[1])
    numeric = all(
        isinstance(label, (int, float)) and not isinstance(label, bool) and abs(label) < _FAR for label in labels
    )
    return np.asarray(labels if numeric else range(len(labels)), dtype=np.float64)


def _svg(
    result: Curves,
    values: np.ndarray,
    bands: Sequence[np.ndarray | None],
    xs: np.ndarray,
    scales: tuple[_Scale, _Scale],
) -> str:
    """Lines with bands, in a box with axes, and a strip for each place along the axis that can be pointed at."""
    (x, y), (low, high) = scales, bands
    drawn = [*_axes(result, xs, x, y)]
    if low is not None and high is not None:
        drawn += [_band(low[i], high[i], xs, x, y, i) for i in range(len(values)) if (high[i] > low[i]).any()]
    for i, row in enumerate(values):
        seen = [(x(a), y(b)) for a, b in zip(xs, row) if math.isfinite(b)]
        points = " ".join(f"{a:g},{b:g}" for a, b in seen)
        dots = "".join(f'<circle cx="{a:g}" cy="{b:g}" r="3" fill="{_colour(i)}"/>' for a, b in seen)
        drawn.append(f'<polyline points="{points}" fill="none" {_stroke(i)}/>{dots}')
    told = f"{escaped(title_of(result))}: lines"
    return (
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" aria-label="{told}" '
        f'style="width:100%;max-width:{_WIDTH}px;height:auto;display:block;margin:.6em 0" '
        f'font-size="12" font-family="inherit">{"".join(drawn)}{_stops([x(place) for place in xs])}</svg>'
    )


def _stops(xs: list[float]) -> str:
    """A strip around each place, up to half way to its neighbours."""
    order = sorted(range(len(xs)), key=lambda i: xs[i])
    ends = [_LEFT, *((xs[a] + xs[b]) / 2 for a, b in itertools.pairwise(order)), _WIDTH - _RIGHT]
    strips = {i: (ends[n], ends[n + 1] - ends[n]) for n, i in enumerate(order)}
    return "".join(
        f'<g class="stop"><rect x="{strips[i][0]:g}" y="{_TOP}" width="{strips[i][1]:g}" height="{_HEIGHT - _BOTTOM}" '
        f'fill="transparent"/><path d="M{x:g} {_TOP}V{_HEIGHT - _BOTTOM}"/></g>'
        for i, x in enumerate(xs)
    )


def _axes(result: Curves, xs: np.ndarray, x: _Scale, y: _Scale) -> Iterator[str]:
    """Lines at round values, and the labels along the axis."""
    for tick in y.ticks():
        yield (
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):g}" y2="{y(tick):g}" stroke="currentColor" '
            f'stroke-opacity="{0.45 if abs(tick) < 1e-12 else 0.15}"/><text x="{_LEFT - 8}" y="{y(tick) + 4:g}" '
            f'text-anchor="end" fill="currentColor">{number(tick, 3)}</text>'
        )
    name, labels = result.values.dims[1], result.values.labels(result.values.dims[1])
    each = math.ceil(len(labels) / 11) or 1
    for place, label in list(zip(xs, labels))[::each]:
        yield (
            f'<text class="x" x="{x(place):g}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="currentColor">'
            f"{escaped(str(label)[:12])}</text>"
        )
    yield (
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 3}" text-anchor="middle" fill="currentColor" '
        f'fill-opacity=".75">{escaped(name)}</text>'
    )


def _band(low: np.ndarray, high: np.ndarray, xs: np.ndarray, x: _Scale, y: _Scale, i: int) -> str:
    """The interval of a curve as a strip."""
    known = np.isfinite(low) & np.isfinite(high)
    there = [f"{x(a):g},{y(b):g}" for a, b in zip(xs[known], high[known])]
    back = [f"{x(a):g},{y(b):g}" for a, b in zip(xs[known], low[known])]
    return f'<polygon points="{" ".join(there + back[::-1])}" fill="{_colour(i)}" fill-opacity=".13"/>'


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]


def _stroke(i: int) -> str:
    dash = _DASHES[i // len(_COLOURS) % len(_DASHES)]
    return f'stroke="{_colour(i)}" stroke-width="2"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _legend(result: Curves, *, ranks: bool) -> str:
    """Which line is which."""
    names = result.values.labels(result.values.dims[0])
    items = "".join(
        '<span style="display:inline-block;margin-right:1.2em">'
        f'<svg width="26" height="10" aria-hidden="true"><line x1="0" x2="26" y1="5" y2="5" {_stroke(i)}/></svg> '
        f"{escaped(name)}</span>"
        for i, name in enumerate(names[:MOST_CURVES])
    )
    more = f" … and {len(names) - MOST_CURVES} more curves, in the table only" if len(names) > MOST_CURVES else ""
    told = " Strips are the intervals." if result.low is not None else ""
    told += " The best rank, 1, is on top; the axis is logarithmic." if ranks else ""
    return f'<div class="legend" style="display:block">{items}<span class="quiet">{more}{told}</span></div>'


def _numbers(result: Curves) -> str:
    """Every value with its interval, as a table."""
    down, across = result.values.dims
    ends = None if result.low is None or result.high is None else (result.low.values, result.high.values)
    rows = tuple(
        (str(name), *(_cell(result.values.values[i, j], None if ends is None else (ends[0][i, j], ends[1][i, j]))
                      for j in range(result.values.shape[1])))
        for i, name in enumerate(result.values.labels(down))
    )  # fmt: skip
    columns = (f"{down} ↓ {across} →", *map(str, result.values.labels(across)))
    caption = f'<caption class="unseen">{escaped(title_of(result))}</caption>'
    return table(Rows(title=title_of(result), columns=columns, rows=rows), caption)


def _cell(value: float, ends: tuple[float, float] | None) -> str:
    alone = ends is None or ends[0] == ends[1]
    return number(value, 3) + ("" if alone or ends is None else f" ({number(ends[0], 3)} to {number(ends[1], 3)})")
