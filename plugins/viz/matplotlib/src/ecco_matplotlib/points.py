"""Points: a scatter with a label at each point that has room for one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecco_core import Points
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import numbers
from ecco_matplotlib.sheet import Sheet, Wanted
from ecco_matplotlib.words import SMALL

MOST_LABELS = 80
_AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # where a label may stand
_RADIUS = 3.0  # points between a point and its label


def draw(sheet: Sheet, result: Points) -> tuple[Any, Wanted, list[str], bool]:
    """Draw the first two axes; of one axis, its values over the points."""
    ax, words = sheet.panels()[0, 0], sheet.words
    values = numbers(result.values.values)
    names = [words.shown(name) for name in result.values.labels(result.values.dims[1])]
    flat = values.shape[1] == 1
    x, y = (np.arange(len(values)), values[:, 0]) if flat else (values[:, 0], values[:, 1])
    known = np.isfinite(x) & np.isfinite(y)
    many = len(values) > 2000
    ax.scatter(x[known], y[known], s=7 if len(values) <= 300 else 2.5, color=palette.LINES[1], linewidths=0, alpha=0.8,
               rasterized=many)  # fmt: skip
    ax.margins(0.06)
    ax.set_xlabel("point" if flat else names[0])
    ax.set_ylabel(names[0] if flat else names[1])
    facts = [f"The first two of {values.shape[1]} axes: {names[0]}, {names[1]}."] if values.shape[1] > 2 else []
    if (missing := int((~known).sum())) > 0:
        facts.append(f"{missing} of {len(values)} points are left out: they have no finite place.")
    if result.labels and len(values) <= MOST_LABELS:
        texts = [words.cut(words.token(label), SMALL, 0.25 * sheet.width) for label in result.labels]
        sheet.later(lambda: _label(sheet, ax, x, y, texts))
    elif result.labels:
        facts.append(f"Labels are left out: there are {len(values)} points.")
    return ax, lambda width: [min(width * 0.72, 4.2)], facts, False


def _label(sheet: Sheet, ax: Any, x: np.ndarray, y: np.ndarray, texts: list[str]) -> None:
    """Write each label beside its point where it covers neither another label nor a point, or leave it out."""
    wide, high = (72 * inches for inches in sheet.size(ax))
    (left, right), (low, top) = ax.get_xlim(), ax.get_ylim()
    places = np.stack([(x - left) / (right - left) * wide, (y - low) / (top - low) * high], axis=1)
    taken: list[tuple[float, float, float, float]] = [
        (px - 1.5, py - 1.5, px + 1.5, py + 1.5) for px, py in places if np.isfinite(px + py)
    ]
    left_out = 0
    for (px, py), text in zip(places, texts):
        if not np.isfinite(px + py) or not text:
            continue
        w, h = sheet.words.width(text, SMALL) * 72 + 0.6, SMALL * 1.2
        for dx, dy in _AROUND:
            r = _RADIUS if not (dx and dy) else _RADIUS * 0.75
            cx, cy = px + dx * (r + w / 2), py + dy * (r + h / 2)
            box = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= wide and box[3] <= high
            if inside and not any(_cover(box, other) for other in taken):
                taken.append(box)
                ax.annotate(text, (left + px / wide * (right - left), low + py / high * (top - low)),
                            xytext=(cx - px, cy - py), textcoords="offset points", size=SMALL, ha="center", va="center",
                            color=palette.INK)  # fmt: skip
                break
        else:
            left_out += 1
    ax.set_xlim(left, right)
    ax.set_ylim(low, top)
    if left_out:
        sheet.say(f"{left_out} of {len(texts)} labels are left out: they would cover others.")


def _cover(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
