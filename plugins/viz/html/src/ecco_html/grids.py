"""A number for each layer and position, each pair of layers, or each neuron and token, as boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ecco_core import Curves, Grid, Heat, LabelledArray, Rows, TokenGrid
from ecco_html.about import stack_of
from ecco_html.curves import drawing
from ecco_html.escape import quoted
from ecco_html.heat_map import Scale, heat_map
from ecco_html.page import Part
from ecco_html.result import caption
from ecco_html.table import table


def lines(result: TokenGrid | Grid) -> tuple[str, ...]:
    """What the numbers are, and how to see more."""
    quantity = result.quantity if isinstance(result, TokenGrid) else ""
    return (quantity,) if quantity else ()


def parts(result: TokenGrid | Grid) -> Iterator[Part]:
    """The boxes, with all numbers of a place in its own box; tables that a kind of its own adds come first."""
    if isinstance(result, Grid):
        yield heat_map(_block(result), caption(_block(result), result), more=_beside(result))
        return
    for block in result.blocks():
        if isinstance(block, Rows):
            yield Part(table(block, caption(block, result)))
    scale = Scale.of_ranks(result.values.values) if result.quantity.startswith("rank") else None
    if result.values.dims == ("layer", "token"):  # watched tokens
        yield drawing(_lines(result), ranks=scale is not None)
    pair = (result.candidates, result.candidate_values)
    best = None if pair[0] is None or pair[1] is None else (pair[0], pair[1])
    yield heat_map(_block(result), caption(_block(result), result), scale=scale, stack=stack_of(result),
                   unit=result.quantity, candidates=best)  # fmt: skip


def _block(result: TokenGrid | Grid) -> Heat:
    texts = result.texts if isinstance(result, TokenGrid) else None
    return Heat(title=result.title, values=result.values, texts=texts)


def _lines(result: TokenGrid) -> Curves:
    """A line for each token over the layers."""
    values = result.values
    coords = {"token": [quoted(str(label)) for label in values.labels("token")], "layer": values.labels("layer")}
    return Curves(title=result.title, values=LabelledArray(values.values.T, ("token", "layer"), coords))


def _beside(result: Grid) -> Mapping[str, Sequence[LabelledArray]]:
    """The interval, and what chance gives, of each cell."""
    more: dict[str, Sequence[LabelledArray]] = {}
    if result.low is not None and result.high is not None:
        more["interval"] = (result.low, result.high)
    if result.null is not None:
        more["chance"] = (result.null,)
    return more
