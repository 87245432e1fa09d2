"""Attention patterns: small maps of all heads, one head as a matrix with its tokens, or as lines between tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ecco_core import OptionError, Patterns
from ecco_matplotlib import palette
from ecco_matplotlib.matrix import cells, drawn_together, numbers
from ecco_matplotlib.sheet import HIGHEST, Sheet, Wanted
from ecco_matplotlib.words import LABEL

Drawn = tuple[Any, Wanted, list[str], bool]
_MOST_LINES_TOKENS = 60
_MOST_DOTS = 1600  # of a mosaic, along its longer side
_LABEL = "attention weight; the weights of a query sum to 1"


def draw(sheet: Sheet, result: Patterns, *, view: str | None, layer: int | None, head: int | None) -> Drawn:
    """Draw all heads, those of `layer`, or one `head`.

    Raises:
        OptionError: there is no such view, layer or head, or lines are asked for of several heads.
    """
    if view not in (None, "matrix", "lines"):
        raise OptionError(f"view of attention takes 'matrix' or 'lines', found {view!r}.")
    layers, heads = (list(result.values.labels(dim)) for dim in result.values.dims[:2])
    chosen = result.values.values
    if layer is not None:
        chosen = chosen[[_place("layer", layer, layers)]]
        layers = [layer]
    if head is not None:
        if len(layers) > 1:
            raise OptionError(f"head={head} needs a layer too; there are the layers {layers[0]} to {layers[-1]}.")
        place = _place("head", head, heads)
        chosen, heads = chosen[:, [place]], [head]
    if view == "lines" and chosen.shape[:2] != (1, 1):
        raise OptionError("view='lines' shows one head; choose it by layer and head.")
    values = numbers(chosen)
    future = np.triu(np.ones(values.shape[2:], bool), 1)
    causal = result.query_stack == result.key_stack and values.shape[2] == values.shape[3] > 1
    if causal and not values[:, :, future].any():
        values[:, :, future] = np.nan
        if view != "lines":
            sheet.say("White: what a query cannot see, because it comes later.")
    if values.shape[:2] == (1, 1):
        draw_one = _lines if view == "lines" else _matrix
        return draw_one(sheet, result, values[0, 0], f"layer {layers[0]}, head {heads[0]}")
    return _mosaic(sheet, result, values, layers, heads)


def _place(what: str, wanted: int, known: list[Any]) -> int:
    if wanted not in known:
        raise OptionError(f"There is no {what} {wanted} here; there are {known[0]} to {known[-1]}.")
    return known.index(wanted)


def _labels(sheet: Sheet, result: Patterns, stack: str, size: int) -> list[str]:
    tokens = result.tokens.get(stack)
    texts = tokens.labels if tokens is not None and len(tokens) == size else ("",) * size
    return [f"{i} {sheet.words.token(text)}".strip() for i, text in enumerate(texts)]


def _matrix(sheet: Sheet, result: Patterns, values: np.ndarray, title: str) -> Drawn:
    ax = sheet.panels()[0, 0]
    labels = tuple(_labels(sheet, result, stack, size)
                   for stack, size in zip((result.query_stack, result.key_stack), values.shape))  # fmt: skip
    scale = palette.scale(values, signed=False, low=0.0)
    painted = cells(sheet, ax, values, scale, labels, ("query", "key"), square=True)  # type: ignore[arg-type]
    if sheet.own:
        ax.set_title(title, fontsize=LABEL)
    sheet.colours(scale, ax, _LABEL)
    rows, columns = painted.shape
    return ax, lambda width: [min(width / columns, 0.3) * rows], [], False


def _lines(sheet: Sheet, result: Patterns, values: np.ndarray, title: str) -> Drawn:
    """Queries at the left, keys at the right, a line between them as strong as the weight."""
    from matplotlib.collections import LineCollection

    most = max(values.shape)
    if most > _MOST_LINES_TOKENS:
        raise OptionError(f"Lines between {most} tokens cannot be told apart; take view='matrix'.")
    ax, words = sheet.panels()[0, 0], sheet.words
    pairs = [(i, j) for i, j in np.ndindex(*values.shape) if np.isfinite(values[i, j])]
    weights = np.array([values[pair] for pair in pairs])
    strength = np.clip(weights / (weights.max(initial=0.0) or 1.0), 0, 1)
    lines = LineCollection(
        [[(0, i), (1, j)] for i, j in pairs], colors=palette.AMOUNT, alpha=list(strength),
        linewidths=0.3 + 1.7 * strength,
    )  # fmt: skip
    lines.set_array(None)
    ax.add_collection(lines)
    share = 0.3 * sheet.width
    for stack, size, x, side in ((result.query_stack, values.shape[0], -0.01, "right"),
                                 (result.key_stack, values.shape[1], 1.01, "left")):  # fmt: skip
        for i, label in enumerate(_labels(sheet, result, stack, size)):
            ax.text(x, i, words.cut(label, LABEL, share), size=LABEL, ha=side, va="center")
        ax.text(x, -1, "query" if side == "right" else "key", size=LABEL, ha=side, va="center", color=palette.QUIET)
    ax.set_xlim(0, 1)
    ax.set_ylim(most - 0.5, -1.5)
    ax.set_axis_off()
    if sheet.own:
        ax.set_title(title, fontsize=LABEL)
    top = f"{weights.max(initial=0.0):.2g}"
    facts = [f"Lines: the stronger, the more of the query's attention goes to the key; the strongest is {top}."]
    return ax, lambda _: [(most + 1) * 0.15], facts, True


def _mosaic(sheet: Sheet, result: Patterns, values: np.ndarray, layers: list[Any], heads: list[Any]) -> Drawn:
    """All maps in one axes: layers downward, heads to the right; of one layer, heads in rows."""
    one = len(layers) == 1
    rows = math.ceil(len(heads) / max(1, int(sheet.width / 1.15))) if one else len(layers)
    columns = math.ceil(len(heads) / rows) if one else len(heads)
    tiles = values.reshape(-1, *values.shape[2:])
    together = max(1, _MOST_DOTS // max(rows, columns))
    tiles, groups = drawn_together(tiles, together, 1)
    tiles, across = drawn_together(tiles, together, 2)
    if max(groups, across) > 1:
        sheet.say(f"Each dot stands for {max(groups, across)} neighbours: the strongest is shown.")
    ax = sheet.panels()[0, 0]
    scale = palette.scale(values, signed=False, low=0.0)
    high, wide = tiles.shape[1:]
    above, beside = max(1, round(high * (0.3 if one else 0.1))), max(1, round(wide * 0.1))
    sheet_of_maps = np.full((rows * (high + above), columns * (wide + beside)), np.nan)
    for k, tile in enumerate(tiles):
        i, j = divmod(k, columns)
        top, left = i * (high + above) + above, j * (wide + beside)
        sheet_of_maps[top : top + high, left : left + wide] = tile
        if one:
            ax.text(j, i + 0.12, f"head {heads[k]}", size=LABEL, ha="left", va="center", clip_on=True)
    ax.imshow(sheet_of_maps, cmap=scale.cmap, norm=scale.norm, interpolation="nearest", aspect="auto",
              extent=(0, columns, rows, 0))  # fmt: skip
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([])
    if one:
        if sheet.own:
            ax.set_title(f"layer {layers[0]}", fontsize=LABEL)
    else:
        _name_tiles(sheet, ax, layers, heads)
    sheet.colours(scale, ax, _LABEL)
    ends = [_labels(sheet, result, stack, size)
            for stack, size in zip((result.query_stack, result.key_stack), values.shape[2:])]  # fmt: skip
    facts = [f"In each map, queries go down from {ends[0][0]} to {ends[0][-1]}, keys to the right from {ends[1][0]} to "
             f"{ends[1][-1]}."]  # fmt: skip
    return (
        ax,
        lambda width: [min(width / columns * (high / wide if high < wide else 1.0), HIGHEST / rows) * rows],
        facts,
        False,
    )


def _name_tiles(sheet: Sheet, ax: Any, layers: list[Any], heads: list[Any]) -> None:
    """Number the layers and heads, at the middle of their maps."""
    sheet.name(ax, "y", [str(layer) for layer in layers])
    sheet.name(ax, "x", [str(head) for head in heads])
    ax.set_ylabel("layer")
    ax.set_xlabel("head")

    def centre() -> None:
        for axis in (ax.xaxis, ax.yaxis):
            labels = [text.get_text() for text in axis.get_ticklabels()]
            axis.set_ticks([place + 0.5 for place in axis.get_ticklocs()], labels)

    sheet.later(centre)
