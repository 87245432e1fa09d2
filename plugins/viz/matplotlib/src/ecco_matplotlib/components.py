"""Components: the activation of each over the tokens as a sparkline, above the text, beside the units it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecco_core import Components
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import numbers
from ecco_matplotlib.sheet import Sheet, Wanted
from ecco_matplotlib.words import LABEL, SMALL, number

MOST_COMPONENTS = 16
_HEIGHT, _UNITS = 0.46, 3  # inches of a sparkline; units named beside it


def draw(sheet: Sheet, result: Components) -> tuple[Any, Wanted, list[str], bool]:
    """Draw a panel per component, all over the same tokens."""
    values, words = numbers(result.values.values)[:MOST_COMPONENTS], sheet.words
    down, across = result.values.dims
    labels = (
        [f"{i} {text}" for i, text in enumerate(result.tokens.labels)]
        if result.tokens is not None else result.values.labels(across)
    )  # fmt: skip
    panels = sheet.panels(len(values))[:, 0]
    for i, (ax, row) in enumerate(zip(panels, values)):
        _sparkline(ax, row)
        ax.set_xlim(-0.5, values.shape[1] - 0.5)
        ax.set_yticks([])
        label = result.values.labels(down)[i]
        name = f"{down} {label}" if isinstance(label, int) else words.token(label)
        name = words.cut(words.shown(name), LABEL, 0.2 * sheet.width)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", color=palette.INK, fontsize=LABEL)
        beside = "\n".join([_range(row), *_units(result, i, sheet)])
        ax.text(1.01, 0.5, beside, transform=ax.transAxes, size=SMALL, va="center", ha="left", color=palette.QUIET)
        if ax is not panels[-1]:
            ax.set_xticks([])
    sheet.name(panels[-1], "x", [words.token(label) for label in labels])
    whole = [f"{words.shown(k)} {number(v)}" for k, v in result.quality.items() if " component" not in k]
    facts = ["Heights: activation, each component on a scale of its own; beside it its range, and the units with the "
             "largest loadings."]  # fmt: skip
    if whole:
        facts.append(f"Fit: {' · '.join(whole[:6])}.")
    if len(result.values.values) > MOST_COMPONENTS:
        facts.append(f"The first {MOST_COMPONENTS} of {len(result.values.values)} components.")
    return (panels if len(panels) > 1 else panels[0]), lambda _: [_HEIGHT] * len(panels), facts, False


def _sparkline(ax: Any, row: np.ndarray) -> None:
    """Steps, one per token, filled from 0."""
    edges = np.arange(len(row) + 1) - 0.5
    signed = bool((row < 0).any())
    for part, colour in ((row > 0, palette.FOR if signed else palette.AMOUNT), (row < 0, palette.AGAINST)):
        if part.any():
            ax.stairs(np.where(part, row, 0.0), edges, fill=True, color=colour, alpha=0.55, linewidth=0)
    ax.stairs(row, edges, baseline=None, color=palette.QUIET, linewidth=0.6)
    if signed:
        ax.axhline(0, color=palette.RULE, linewidth=0.4)
        ax.spines["bottom"].set_visible(False)


def _range(row: np.ndarray) -> str:
    known = row[np.isfinite(row)]
    return f"{number(known.min(), 2)} to {number(known.max())}" if known.size else "no number"


def _units(result: Components, component: int, sheet: Sheet) -> list[str]:
    """The units with the largest loadings, with these."""
    loadings, units = numbers(result.loadings.values)[component], result.loadings.labels(result.loadings.dims[1])
    order = np.argsort(-np.abs(np.nan_to_num(loadings)), kind="stable")[:_UNITS]
    texts = [f"{sheet.words.shown(units[i])} {number(loadings[i], 2, plus=True)}" for i in order]
    return [sheet.words.cut(text, SMALL, 0.2 * sheet.width) for text in texts]
