"""A number for each layer and position, each pair of layers, or each neuron and token, as boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ecco_core import Grid, Heat, LabelledArray, Rows, TokenGrid
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
    yield heat_map(_block(result), caption(_block(result), result), scale=scale, stack=_stack(result),
                   unit=result.quantity)  # fmt: skip


def _block(result: TokenGrid | Grid) -> Heat:
    texts = result.texts if isinstance(result, TokenGrid) else None
    return Heat(title=result.title, values=result.values, texts=texts)


def _stack(result: TokenGrid) -> str:
    return str(result.provenance.options.get("stack") or "")


def _beside(result: Grid) -> Mapping[str, Sequence[LabelledArray]]:
    """The interval, and what chance gives, of each cell."""
    more: dict[str, Sequence[LabelledArray]] = {}
    if result.low is not None and result.high is not None:
        more["interval"] = (result.low, result.high)
    if result.null is not None:
        more["chance"] = (result.null,)
    return more
