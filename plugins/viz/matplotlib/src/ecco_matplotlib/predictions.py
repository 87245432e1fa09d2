"""Predictions: the candidates of each layer or position as bars of their probability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ecco_core import Predictions
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import numbers
from ecco_matplotlib.sheet import HIGHEST, Sheet, Wanted
from ecco_matplotlib.words import LABEL, SMALL, number

_BAR, _HEAD, _PANEL = 0.145, 0.3, 1.6  # inches: a bar, a panel's title, the least width of a panel


def draw(sheet: Sheet, result: Predictions) -> tuple[Any, Wanted, list[str], bool]:
    """Draw a panel of bars per row."""
    values, words = numbers(result.values.values), sheet.words
    dim = result.values.dims[0]
    columns = min(len(values), max(1, int(sheet.width / _PANEL)))
    bars = min(values.shape[1], 10)
    chosen = _chosen(len(values), columns * max(1, int(HIGHEST / (bars * _BAR + _HEAD))))
    rows = math.ceil(len(chosen) / columns)
    panels = sheet.panels(rows, columns)
    most = float(np.nanmax(values, initial=0.0)) or 1.0
    for ax, row in zip(panels.flat, chosen):
        _panel(sheet, ax, values[row, :bars], [words.token(t) for t in result.texts.values[row, :bars]], most, columns)
        label = f"{words.shown(dim)} {words.token(result.values.labels(dim)[row])}"
        ax.set_title(words.cut(label, LABEL, sheet.width / columns - 0.25), fontsize=LABEL)
    for ax in list(panels.flat)[len(chosen) :]:
        ax.set_axis_off()
    facts = ["Bars: probability, 0 to 1."]
    if bars < values.shape[1]:
        facts.append(f"The first {bars} of {values.shape[1]} candidates.")
    if len(chosen) < len(values):
        facts.append(f"{len(chosen)} of {len(values)} rows, evenly spaced.")
    axes = panels.ravel()[: len(chosen)] if len(chosen) > 1 else panels[0, 0]
    return axes, lambda _: [bars * _BAR] * rows, facts, False


def _chosen(rows: int, most: int) -> list[int]:
    """The rows that there is room for, evenly spaced."""
    return sorted({round(i) for i in np.linspace(0, rows - 1, min(rows, most))})


def _panel(sheet: Sheet, ax: Any, values: np.ndarray, texts: list[str], most: float, columns: int) -> None:
    words = sheet.words
    ax.barh(np.arange(len(values)), values, height=0.74, color=palette.AMOUNT, linewidth=0, in_layout=False)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlim(0, most * (1.05 + 0.45 / (sheet.width / columns - 0.5)))
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    labels = [words.cut(text, LABEL, sheet.width / columns * 0.4) for text in texts]
    ax.set_yticks(np.arange(len(values)), labels, fontsize=LABEL)
    ax.tick_params(axis="y", length=0)
    for i, value in enumerate(values):
        if np.isfinite(value):
            ax.annotate(
                number(value, 3 if value >= 0.1 else 2),
                (value, i),
                xytext=(2, 0),
                textcoords="offset points",
                in_layout=False,
                size=SMALL,
                va="center_baseline",
                color=palette.QUIET,
            )
