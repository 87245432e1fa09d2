"""Places in a plane as a drawing of dots, each with its token."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import numpy as np

from ecco_core import Points, visible
from ecco_html import palette
from ecco_html.about import stack_of, title_of
from ecco_html.escape import escaped, number
from ecco_html.heat_map import Label
from ecco_html.page import Part

MOST_POINTS = 2000
_WIDTH, _HEIGHT, _EDGE, _LETTER, _LINE = 720.0, 480.0, 24.0, 6.5, 13.0


def lines(result: Points) -> tuple[str, ...]:
    """Which axes are drawn."""
    axes = [str(name) for name in result.values.labels(result.values.dims[1])]
    more = f"; {len(axes) - 2} further axes are not drawn" if len(axes) > 2 else ""
    return (f"{' across, '.join(map(str, axes[:2]))}{' up' if len(axes) > 1 else ''}{more}",)


def parts(result: Points) -> Iterator[Part]:
    """The dots, with as many labels as there is room for."""
    values = np.asarray(result.values.values, dtype=np.float64)[:MOST_POINTS, :2]
    if values.shape[1] < 2:
        values = np.concatenate([values, np.zeros((len(values), 2 - values.shape[1]))], 1)
    given = result.labels or result.values.labels(result.values.dims[0])
    names = [Label.of("position", label) for label in given[: len(values)]]
    known = np.asarray(np.isfinite(values).all(1))
    dots, taken = [], [(x - 5, y - 5, x + 5, y + 5) for x, y in _places(values)[known]]
    for i, (x, y) in enumerate(_places(values)):
        if known[i]:
            text = _text(str(given[i]))
            dots.append(_dot(i, x, y, text if _room(x, y, text, taken) else ""))
    told = f"{escaped(title_of(result))}: {len(dots)} points"
    rest = len(result.values.values) - len(dots)
    more = f'<div class="quiet">… and {rest} more, not drawn</div>' if rest > 0 else ""
    stack = stack_of(result)
    yield Part(
        f'<svg class="plane" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="group" aria-label="{told}" font-size="11" '
        'style="width:100%;max-width:720px;height:auto;display:block;border:1px solid rgba(128,128,128,.3)">'
        f"{''.join(dots)}</svg>{more}",
        "points",
        {
            "names": [name.words for name in names],
            "at": [", ".join(number(x, 3) for x in row) for row in values],
            "places": [None if name.position is None else f"{stack}-{name.position}" for name in names],
        },
    )


def _places(values: np.ndarray) -> np.ndarray:
    """Where the points stand in the drawing; both axes have one scale, so that distances can be compared."""
    finite = values[np.isfinite(values).all(1)]
    if not len(finite):
        return np.zeros_like(values)
    low, high = finite.min(0), finite.max(0)
    room = np.array([_WIDTH - 2 * _EDGE - 60, _HEIGHT - 2 * _EDGE])
    scale = float((room / np.maximum(high - low, 1e-12)).min()) if (high > low).any() else 1.0
    placed = (values - (low + high) / 2) * scale
    return np.asarray(placed * [1, -1] + [(_WIDTH - 60) / 2, _HEIGHT / 2])


def _text(label: str) -> str:
    found = Label.of("position", label)
    return label.split(" ", 1)[1].strip() if found.position is not None else label.strip()


def _room(x: float, y: float, text: str, taken: list[tuple[float, float, float, float]]) -> bool:
    """Whether a label right of a dot overlaps nothing; if so its place is taken from now on."""
    size = sum(1.7 if unicodedata.east_asian_width(c) in "WF" else 1.0 for c in visible(text))
    box = (x + 6, y - _LINE / 2, x + 6 + _LETTER * size, y + _LINE / 2)
    free = all(box[2] < a or c < box[0] or box[3] < b or d < box[1] for a, b, c, d in taken)
    if free and box[2] < _WIDTH:
        taken.append(box)
        return True
    return False


def _dot(i: int, x: float, y: float, text: str) -> str:
    label = f'<text x="{x + 6:.1f}" y="{y + 4:.1f}" fill="currentColor">{escaped(text)}</text>' if text else ""
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="rgb{palette.AMOUNT}"></circle>'
    return f'<g class="dot" data-i="{i}">{circle}{label}</g>'
