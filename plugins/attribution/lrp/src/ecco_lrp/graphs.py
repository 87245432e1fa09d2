"""Whether every operation between the inputs and the scores has a rule: told by the graph, not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ecco_lrp.rules import live_node

_SELECTED = {"max", "amax", "min", "amin", "maximum", "minimum", "fmax", "fmin", "topk", "sort", "median"}
#: Nodes that are linear in all of their inputs together; those that select keep the selected value, so they are too.
_LINEAR = {
    "accumulategrad", "add", "alias", "asstrided", "avgpool1d", "broadcasttensors", "cat", "clone", "complex", "conj",
    "constantpadnd", "copy", "cumsum", "diagonal", "embedding", "expand", "fftc2c", "fftc2r", "fftr2c",
    "fill", "flip", "gather", "imag", "index", "indexadd", "indexcopy", "indexput", "indexselect",
    "maskedfill", "maskedscatter", "maskedselect", "mean", "nantonum", "neg", "permute", "real", "reflectionpad1d",
    "repeat", "repeatinterleave", "replicationpad1d", "reshape", "reshapealias", "roll", "rsub", "scatter",
    "scatteradd", "select", "selectscatter", "slice", "slicescatter", "split", "splitwithsizes", "squeeze", "stack",
    "sub", "sum", "swapaxes", "t", "take", "to", "tocopy", "transpose", "tril", "triu", "unbind", "unfold",
    "unsafesplit", "unsafesplitwithsizes", "unsafeview", "unsqueeze", "view", "viewascomplex", "viewasreal", "where",
} | _SELECTED  # fmt: skip
#: Node -> which of its inputs it multiplies with each other; of these one may depend on the inputs of the model.
_MULTILINEAR = {
    "mul": (0, 1), "mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "addmm": (1, 2), "addmv": (1, 2),
    "baddbmm": (1, 2), "addbmm": (1, 2), "addcmul": (1, 2), "convolution": (0, 1), "linear": (0, 1),
    "groupedmm": (0, 1), "matmul": (0, 1),
}  # fmt: skip


#: Functions that change a part of a tensor in place and are linear.
_WRITTEN = {"setitem", "copy", "fill", "zero", "masked_fill", "masked_scatter", "add", "iadd", "sub", "isub", "neg",
            "index_add", "index_copy", "index_fill", "index_put", "scatter", "scatter_add"}  # fmt: skip


def unruled(scores: torch.Tensor) -> Iterator[tuple[str, str]]:
    """Yield (operation, name of the module) of what is not linear and has no rule, from scores back to the inputs."""
    todo: list[tuple[Any, str]] = [(scores.grad_fn, "")]
    seen = set()
    while todo:
        node, where = todo.pop()
        if node is None or node in seen or not live_node(node):
            continue
        seen.add(node)
        name, here, ruled = node.metadata.get("called", ("", where, False))
        where = here or where
        if not ruled and not _linear(node, name):
            yield name or _kind(node), where
        todo += [(before, where) for before, _ in node.next_functions]


def _kind(node: Any) -> str:
    return str(node.name()).split("::")[-1].rstrip("0123456789").removesuffix("Backward").lower()


def _linear(node: Any, called: str) -> bool:
    kind, inputs = _kind(node), [n is not None and live_node(n) for n, _ in node.next_functions]
    if kind in _MULTILINEAR:
        return sum(inputs[i] for i in _MULTILINEAR[kind] if i < len(inputs)) < 2
    if kind == "copyslices":  # a function in place, on a part of a tensor
        return called in _WRITTEN or (called in ("mul", "imul") and sum(inputs) < 2)
    return kind in _LINEAR or (kind == "div" and not any(inputs[1:]))
