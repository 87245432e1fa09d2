"""Attention: every head as a small picture, one of them as a matrix and as lines between tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecco_core import Heat, LabelledArray, Patterns, Tokens, visible
from ecco_html import palette
from ecco_html.escape import quoted
from ecco_html.heat_map import Scale, heat_map
from ecco_html.packing import pack
from ecco_html.page import Part

_WIRES = (
    '<svg class="wires" width="0" height="0" preserveAspectRatio="none" aria-hidden="true"><line x1="0" x2="10" '
    f'stroke="rgb{palette.AMOUNT}" stroke-width="2" vector-effect="non-scaling-stroke"></line></svg>'
)
MOST_TOKENS, MOST_NUMBERS = 100, 500_000


def lines(result: Patterns) -> tuple[str, ...]:
    """The title says it."""
    return ()


def parts(result: Patterns) -> Iterator[Part]:
    """The heads to pick from, and the mean of all of them as a matrix."""
    n_layers, n_heads, *sizes = result.values.shape
    most = min(MOST_TOKENS, max(2, int((MOST_NUMBERS / max(n_layers * n_heads, 1)) ** 0.5)))
    values = np.asarray(result.values.values[:, :, :most, :most], dtype=np.float64)
    stacks = (("from", result.query_stack), ("to", result.key_stack))
    coords = {dim: _labels(result.tokens.get(stack), most) for dim, stack in stacks if stack in result.tokens}
    mean = LabelledArray(values.mean((0, 1)), ("from", "to"), coords)
    told = '<caption class="unseen">mean of all heads</caption>'
    block = Heat(title="attention from each token to each", values=mean)
    scale = Scale(0.0, 1.0, signed=False, bend="root")
    matrix = heat_map(block, told, scale=scale, stack=result.query_stack, turn=False)
    cut = [f"the first {most} of {size} {name}" for name, size in zip(("queries", "keys"), sizes) if size > most]
    rest = f'<div class="quiet">shown: {" and ".join(cut)}; fewer layers leave room for more</div>' if cut else ""
    causal = bool(values.shape[2] == values.shape[3] and not np.triu(values, 1).any())
    assert isinstance(matrix.data, dict)
    data = {
        "grid": matrix.data | {"invite": "a box to see which token attends to which", "joint": "attention"},
        "layers": [f"layer {visible(str(label))}" for label in result.values.labels(result.values.dims[0])],
        "heads": [f"head {visible(str(label))}" for label in result.values.labels(result.values.dims[1])],
        "tokens": [_texts(result.tokens.get(stack), size, most) for (_, stack), size in zip(stacks, sizes)],
        "causal": causal,
        "packed": [[pack(_flat(head, causal=causal), 1.0) for head in layer] for layer in values],
    }
    yield Part(f'<div class="heads"></div><div class="one">{matrix.markup}</div>{rest}{_WIRES}', "patterns", data)


def _labels(tokens: Tokens | None, most: int) -> list[str]:
    return [] if tokens is None else [f"{i} {label}" for i, label in enumerate(tokens.labels[:most])]


def _texts(tokens: Tokens | None, size: int, most: int) -> list[str]:
    if tokens is None:
        return [str(i) for i in range(min(size, most))]
    return [quoted(label) for label in tokens.labels[:most]]


def _flat(head: np.ndarray, *, causal: bool) -> np.ndarray:
    return head[np.tril_indices(len(head))] if causal else head.ravel()
