"""One target of token scores as the text itself, each token on a box in the colour of its score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ecco_core import OptionError, TokenScores
from ecco_matplotlib import palette
from ecco_matplotlib.sheet import Sheet, Wanted
from ecco_matplotlib.wording import facts_of, led_to, stands
from ecco_matplotlib.words import LABEL, SMALL

if TYPE_CHECKING:
    from ecco_core import Target, Tokens

_LINE, _PAD, _GAP = 13.0, 1.6, 1.2  # points
_MOST_LINES = 45


class Box(NamedTuple):
    """A token in its place: line, left edge and width in points."""

    stack: str
    position: int
    text: str
    line: int
    left: float
    width: float


def boxes(sheet: Sheet, result: TokenScores, row: int, values: np.ndarray) -> tuple[Any, Wanted, list[str], bool]:
    """Draw the text of each stack, as far as there is room, up to the target."""
    if not sheet.own:
        raise OptionError("view='text' needs a figure of its own, whose height it sets; leave ax out.")
    from matplotlib.collections import LineCollection, PolyCollection

    ax, target = sheet.panels()[0, 0], result.targets[row]
    space = (sheet.width - 0.2) * 72
    placed, heads, lines = _placed(sheet, result, target, space)
    scale = palette.scale(values, signed=result.signed)
    painted = _by_place(result, values)
    corners: list[Any] = []
    grounds: list[Any] = []
    edges: list[Any] = []
    underlined: list[Any] = []
    for box in placed:
        value = painted.get((box.stack, box.position), np.nan)
        own = (box.stack, box.position) == (target.stack, target.position) and target.kind != "class"
        ground = scale.colour(value) if np.isfinite(value) else "none"
        edge = palette.INK if own else "none"
        y = box.line * _LINE + 1
        right, bottom = box.left + box.width, y + _LINE - 2.5
        corners.append([(box.left, y), (right, y), (right, bottom), (box.left, bottom)])
        grounds.append(ground)
        edges.append(edge)
        style: dict[str, Any] = {"size": LABEL, "va": "center_baseline", "ha": "left", "in_layout": False}
        ink = scale.ink(value) if np.isfinite(value) else palette.QUIET
        ax.text(box.left + _PAD, y + (_LINE - 2.5) / 2, box.text, color=ink, **style)
        if box.stack == target.stack and box.position >= result.n_input_tokens and len(result.tokens) == 1:
            underlined.append([(box.left, bottom + 0.7), (right, bottom + 0.7)])
    ax.add_collection(PolyCollection(corners, facecolors=grounds, edgecolors=edges, linewidths=0.8))
    ax.add_collection(LineCollection(underlined, colors=palette.QUIET, linewidths=0.5))
    for line, head in heads:
        ax.text(0, line * _LINE + _LINE / 2, head, size=SMALL, color=palette.QUIET, va="center", in_layout=False)
    ax.set_xlim(0, space)
    ax.set_ylim(lines * _LINE, 0)
    ax.set_axis_off()
    title = sheet.words.wrapped(led_to(target, result, sheet.words), LABEL, sheet.width - 0.3)
    ax.set_title("\n".join(title), fontsize=LABEL)
    sheet.colours(scale, ax, f"score: {sheet.words.shown(result.described)}")
    facts = facts_of(result, sheet.words, row)
    if stands(target, result):
        facts.append("Framed: the target.")
    if len(result.tokens) == 1 and any(b.position >= result.n_input_tokens for b in placed):
        facts.append("Underlined: what the model wrote.")
    return ax, lambda _: [lines * _LINE / 72], facts, True


def _by_place(result: TokenScores, values: np.ndarray) -> dict[tuple[str, int], float]:
    """(stack, position) -> the strongest score that covers it."""
    painted: dict[tuple[str, int], float] = {}
    for source, value in zip(result.sources, values):
        for position in source.positions:
            if not abs(painted.get((source.stack, position), 0.0)) > abs(value):
                painted[source.stack, position] = float(value)
    return painted


def _placed(
    sheet: Sheet, result: TokenScores, target: Target, space: float
) -> tuple[list[Box], list[tuple[int, str]], int]:
    """Where each token stands, the lines that name a stack, and how many lines there are."""
    placed: list[Box] = []
    heads, start = [], 0
    for stack, tokens in result.tokens.items():
        if len(result.tokens) > 1:
            heads.append((start, sheet.words.shown(stack)))
            start += 1
        flow = list(_flow(sheet, stack, tokens, space))
        end = next((b.line for b in flow if stack == target.stack and b.position == target.position), None)
        end = flow[-1].line if end is None and flow else end or 0
        first = max(0, min(end - _MOST_LINES * 2 // 3, flow[-1].line + 1 - _MOST_LINES)) if flow else 0
        kept = [b for b in flow if first <= b.line < first + _MOST_LINES]
        if len(kept) < len(flow):
            sheet.say(
                f"{len(flow) - len(kept)} of {len(flow)} tokens are left out: shown are the positions "
                f"{kept[0].position} to {kept[-1].position}."
            )
        placed += [b._replace(line=b.line - first + start) for b in kept]
        start += (kept[-1].line - first + 1) if kept else 0
    return placed, heads, start


def _flow(sheet: Sheet, stack: str, tokens: Tokens, space: float) -> Iterator[Box]:
    """Tokens one after the other, a new line where one is full and after a newline."""
    line, left = 0, 0.0
    for position, label in enumerate(tokens.labels):
        text = sheet.words.cut(sheet.words.shown(label, spaces=False).strip() or sheet.words.token(label), LABEL,
                               (space - 2 * _PAD) / 72)  # fmt: skip
        width = sheet.words.width(text, LABEL) * 72 + 2 * _PAD
        left += (_GAP + 1.6 * tokens.starts_word[position]) * (left > 0)
        if left + width > space:
            line, left = line + 1, 0.0
        yield Box(stack, position, text, line, left, width)
        left += width
        if "\n" in tokens.texts[position]:
            line, left = line + 1, 0.0
