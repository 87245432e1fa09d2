"""Curves: lines with their intervals as bands, each named at its end; what chance or a control gives dashed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ecco_core import Curves
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import numbers
from ecco_matplotlib.sheet import Sheet, Wanted
from ecco_matplotlib.words import LABEL

MOST_CURVES = 12
_REFERENCE = re.compile(r"\b(chance|baseline|control|random|majority|null|untrained|shuffled)", re.IGNORECASE)
_HEIGHT = 2.2  # inches


def draw(sheet: Sheet, result: Curves) -> tuple[Any, Wanted, list[str], bool]:
    """Draw up to twelve curves."""
    ax, words = sheet.panels()[0, 0], sheet.words
    down, across = result.values.dims
    values = numbers(result.values.values)[:MOST_CURVES]
    names = [words.token(name) for name in result.values.labels(down)]
    places = _places(ax, result, sheet)
    bands = [numbers(end.values) for end in (result.low, result.high) if end is not None]
    for i, row in enumerate(values):
        colour, dash = palette.LINES[i % len(palette.LINES)], palette.DASHES[i // len(palette.LINES)]
        dash = "--" if _REFERENCE.search(names[i]) else dash
        if len(bands) == 2 and bool((bands[1][i] > bands[0][i]).any()):
            ax.fill_between(places, bands[0][i], bands[1][i], color=colour, alpha=0.12, linewidth=0)
        marker = "o" if len(places) <= 30 else ""
        ax.plot(places, row, color=colour, linestyle=dash, marker=marker, label=names[i])
    ax.margins(x=0.02)
    ax.yaxis.grid(True)
    ax.set_xlabel(words.cut(words.shown(across), LABEL, 0.7 * sheet.width))
    if len(values) > 1:
        _name_ends(sheet, ax, values, places, names)
    else:
        ax.set_ylabel(words.cut(names[0], LABEL, _HEIGHT - 0.3))
    facts = ["Bands: intervals from low to high."] if len(bands) == 2 else []
    if len(names) > MOST_CURVES:
        facts.append(f"The first {MOST_CURVES} of {len(names)} curves.")
    return ax, lambda _: [_HEIGHT], facts, False


def _places(ax: Any, result: Curves, sheet: Sheet) -> np.ndarray:
    """Where the points of a curve stand: at their labels if these are numbers, else one after the other."""
    from matplotlib.ticker import MaxNLocator

    labels = result.values.labels(result.values.dims[1])
    if all(isinstance(label, (int, float)) and not isinstance(label, bool) for label in labels):
        whole = all(float(label).is_integer() for label in labels)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=whole))
        return np.asarray(labels, dtype=np.float64)
    sheet.name(ax, "x", [sheet.words.token(label) for label in labels])
    return np.arange(len(labels), dtype=np.float64)


def _name_ends(sheet: Sheet, ax: Any, values: np.ndarray, places: np.ndarray, names: list[str]) -> None:
    """Names at the lines' ends, moved apart until none covers another."""
    share = 0.36 if sheet.width < 5 else 0.22
    texts = [sheet.words.cut(name, LABEL, share * sheet.width) for name in names[: len(values)]]
    marks = []
    for i, row in enumerate(values):
        known = np.flatnonzero(np.isfinite(row))
        if known.size:
            at = float(row[known[-1]])
            text = ax.annotate(
                texts[i], (1.0, at), xycoords=("axes fraction", "data"), xytext=(9, 0), textcoords="offset points",
                size=LABEL, color=palette.LINES[i % len(palette.LINES)], va="center", ha="left", annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": palette.RULE, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0,
                            "relpos": (0.0, 0.5)},
            )  # fmt: skip
            marks.append((at, text))

    def apart() -> None:
        _, high = sheet.size(ax)
        low, top = ax.get_ylim()
        line, scale = LABEL * 1.25, high * 72 / (top - low)
        marks.sort(key=lambda mark: mark[0])
        wanted = np.array([(at - low) * scale for at, _ in marks])
        placed = _spread(wanted, line, high * 72)
        for (_, text), have, want in zip(marks, placed, wanted):
            text.set_position((9, have - want))

    sheet.later(apart)


def _spread(wanted: np.ndarray, least: float, most: float) -> np.ndarray:
    """Ascending places as near to the wanted ones as keeps them `least` apart, within 0 to `most` if they fit."""
    placed = wanted.copy()
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + least)
    over = placed[-1] - most if len(placed) else 0.0
    if over > 0:
        placed[-1] -= over
        for i in range(len(placed) - 2, -1, -1):
            placed[i] = min(placed[i], placed[i + 1] - least)
    return placed
