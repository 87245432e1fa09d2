"""Token scores: target × source; one target as bars by token, or as its text on coloured boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecco_core import TargetError, TokenScores
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import cells, numbers, row_height, short, write_in_cells
from ecco_matplotlib.sheet import HIGHEST, Sheet, Wanted
from ecco_matplotlib.text_view import boxes
from ecco_matplotlib.wording import facts_of, label_of, led_to
from ecco_matplotlib.words import LABEL

Drawn = tuple[Any, Wanted, list[str], bool]
_BAR_HEIGHT = 1.6  # inches


def draw(sheet: Sheet, result: TokenScores, *, view: str | None, target: int | str | None) -> Drawn:
    """Draw scores as `view` says: by default a matrix, or bars where there is one target."""
    from ecco_core import OptionError

    if view == "lines":
        raise OptionError("view of token scores takes 'matrix', 'bars' or 'text', found 'lines'.")
    if not result.targets:
        raise TargetError("There is nothing to draw: no target was explained.")
    row = _row_of(result, target, sheet) if target is not None else None
    view = view or ("bars" if row is not None or len(result.targets) == 1 else "matrix")
    if view != "matrix" and row is None:
        row = len(result.targets) - 1
    if view == "matrix":
        return _matrix(sheet, result, [row] if row is not None else list(range(len(result.targets))))
    assert row is not None
    values = visible_scores(result)[row]
    return boxes(sheet, result, row, values) if view == "text" else _bars(sheet, result, row, values)


def _row_of(result: TokenScores, wanted: int | str, sheet: Sheet) -> int:
    """The row of the target at a position, or of a class."""
    for i, target in enumerate(result.targets):
        if str(wanted) == str(target.position) or (target.kind == "class" and wanted == target.text):
            return i
    there = [t.text if t.kind == "class" else str(t.position) for t in result.targets]
    more = " …" if len(there) > 12 else ""
    raise TargetError(
        f"{wanted!r} was not explained; option 'target' takes one of: {sheet.words.shown(', '.join(there[:12]))}{more}."
    )


def visible_scores(scores: TokenScores) -> np.ndarray:
    """The scores, not a number where a target cannot see the source: in a causal model's future."""
    values = numbers(scores.values.values).copy()
    first = np.array([source.positions[0] for source in scores.sources])
    stacks = np.array([source.stack for source in scores.sources], dtype=object)
    for i, target in enumerate(scores.targets):
        if target.kind == "token":
            values[i, (stacks == target.stack) & (first >= target.position)] = np.nan
    return values


def source_labels(scores: TokenScores, sheet: Sheet) -> list[str]:
    """Position and text of each source."""
    return [f"{s.positions[0]} {sheet.words.token(s.text)}" for s in scores.sources]


def _matrix(sheet: Sheet, result: TokenScores, rows: list[int]) -> Drawn:
    ax = sheet.panels()[0, 0]
    values = visible_scores(result)[rows]
    scale = palette.scale(values, signed=result.signed)
    labels = [label_of(result.targets[i], result, sheet.words) for i in rows], source_labels(result, sheet)
    painted = cells(sheet, ax, values, scale, labels, ("target", "source"))
    if len(result.sources) <= 24:
        write_in_cells(sheet, ax, painted, scale, lambda i, j: short(painted[i, j]))
    _boundaries(sheet, ax, result, across=painted.shape[1])
    sheet.colours(scale, ax, f"score: {sheet.words.shown(result.described)}")
    if np.isnan(values).any():
        sheet.say("White: what the target cannot see, because it comes later.")
    one = rows[0] if len(rows) == 1 else None
    return (
        ax,
        lambda width: [row_height(painted.shape[0], painted.shape[1], width)],
        facts_of(result, sheet.words, one),
        False,
    )


def _boundaries(sheet: Sheet, ax: Any, result: TokenScores, across: int) -> None:
    """Lines between the sources of two stacks, and between those of the prompt and those of the output."""
    stacks = [source.stack for source in result.sources]
    for j in (j for j in range(1, len(stacks)) if stacks[j] != stacks[j - 1]):
        ax.axvline(j / len(stacks) * across - 0.5, color=palette.INK, linewidth=0.9)
        before, after = (sheet.words.shown(name) for name in stacks[j - 1 : j + 1])
        sheet.say(f"Solid line: to its left the tokens of the {before}, to its right of the {after}.")
    stack = result.targets[0].stack
    own = [j for j, s in enumerate(result.sources) if s.stack == stack]
    output = [j for j in own if result.sources[j].positions[0] >= result.n_input_tokens]
    if output and len(output) < len(own):
        ax.axvline(output[0] / len(result.sources) * across - 0.5, color=palette.QUIET, linewidth=0.7, linestyle="--")
        sheet.say("Dashed line: the end of the prompt.")


def _bars(sheet: Sheet, result: TokenScores, row: int, values: np.ndarray) -> Drawn:
    from matplotlib.collections import PolyCollection

    ax = sheet.panels()[0, 0]
    seen = np.flatnonzero(np.isfinite(values))
    last = int(seen[-1]) + 1 if seen.size else len(values)
    heights = values[:last]
    signed = result.signed and bool((heights < 0).any())
    colours = [palette.AMOUNT if not result.signed else palette.FOR if v >= 0 else palette.AGAINST for v in heights]
    bars = [[(j - 0.4, 0), (j - 0.4, v), (j + 0.4, v), (j + 0.4, 0)] for j, v in enumerate(np.nan_to_num(heights))]
    ax.add_collection(PolyCollection(bars, facecolors=colours, linewidths=0))
    ax.autoscale_view()
    if not (heights < 0).any():
        ax.set_ylim(bottom=0)
    ax.set_xlim(-0.6, last - 0.4)
    if signed:
        ax.axhline(0, color=palette.QUIET, linewidth=0.5)
    ax.yaxis.grid(True)
    sheet.name(ax, "x", source_labels(result, sheet)[:last])
    words = sheet.words
    unit = words.wrapped(f"score, {words.shown(result.unit)}", LABEL, _BAR_HEIGHT - 0.1)
    ax.set_ylabel("\n".join([*unit[:2], "…"] if len(unit) > 3 else unit))
    ax.set_xlabel("source")
    if sheet.own:
        title = words.wrapped(led_to(result.targets[row], result, words), LABEL, sheet.width * 0.84)
        ax.set_title("\n".join(title), fontsize=LABEL)
    _boundaries(sheet, ax, result, across=len(values))
    facts = [f"Score: {words.shown(result.described)}.", *facts_of(result, words, row)]
    if result.signed:
        facts.insert(1, "Orange speaks for it, blue against it.")
    if len(result.targets) > 1:
        facts.append(f"One of {len(result.targets)} targets.")
    return ax, lambda _: [min(_BAR_HEIGHT, HIGHEST)], facts, False
