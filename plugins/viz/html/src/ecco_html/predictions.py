"""Candidates with their probabilities: a list with bars for each layer or position."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecco_core import LabelledArray, Predictions
from ecco_html.escape import escaped, number, quoted
from ecco_html.heat_map import Label
from ecco_html.page import Part
from ecco_html.painting import strongest
from ecco_html.table import bars

MOST_LISTS = 100


def lines(result: Predictions) -> tuple[str, ...]:
    """What a bar stands for."""
    return (f"probabilities, 0 to 1; the longest bar is {number(strongest(result.values.values), 3)}",)


def parts(result: Predictions) -> Iterator[Part]:
    """A list for each row, side by side where there is room."""
    down = result.values.dims[0]
    names = [Label.of(down, label).words for label in result.values.labels(down)][:MOST_LISTS]
    markup = "\n".join(_list(result, i, name) for i, name in enumerate(names))
    more = result.values.shape[0] - len(names)
    rest = f'<div class="quiet">… and {more} more</div>' if more > 0 else ""
    stack = str(result.provenance.options.get("stack") or "")
    places = [Label.of(down, label).position for label in result.values.labels(down)][:MOST_LISTS]
    ranks = result.values.labels(result.values.dims[1])
    data = {
        "names": names,
        "places": [None if place is None else f"{stack}-{place}" for place in places],
        "texts": [[quoted(str(text)) for text in row] for row in result.texts.values[: len(names)]],
        "values": [[number(value, 3) for value in row] for row in result.values.values[: len(names)]],
        "keys": _keys(result.ids or result.texts)[: len(names)],
        "ranks": [str(rank) for rank in ranks],
    }
    yield Part(f'<div class="lists">{markup}</div>{rest}', "predictions", data if len(names) > 1 else None)


def _list(result: Predictions, row: int, name: str) -> str:
    longest = strongest(result.values.values) or 1.0
    ranks = result.values.labels(result.values.dims[1])
    rows = [
        (str(rank), quoted(str(text)), float(value), float(value) / longest)
        for rank, text, value in zip(ranks, result.texts.values[row], result.values.values[row])
    ]
    caption = f'<caption style="text-align:left">{escaped(name)}</caption>'
    return bars(caption, ("rank", "candidate", "probability"), rows, signed=False, digits=3)


def _keys(candidates: LabelledArray) -> list[list[int]]:
    """The same number for the same candidate."""
    _, numbers = np.unique(candidates.values.astype(str), return_inverse=True)
    return [list(map(int, row)) for row in numbers.reshape(candidates.shape)]
