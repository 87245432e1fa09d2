"""Candidates with their probabilities: a list with bars for each layer or position."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecco_core import LabelledArray, OptionError, Predictions, visible
from ecco_html import page
from ecco_html.about import stack_of, title_of
from ecco_html.escape import escaped, number, quoted
from ecco_html.heat_map import Label
from ecco_html.page import Part
from ecco_html.painting import strongest
from ecco_html.result import body, foot
from ecco_html.table import bars

MOST_LISTS = 100


def fragment(result: Predictions, *, low: float | None = None, high: float | None = None) -> str:
    """Return candidates as a self-contained HTML fragment.

    Options:
        low: the probability that a bar starts from, 0 if left out.
        high: the probability of the longest bar, the greatest there is if left out.
    """
    return page.wrap([*body(result, low=low, high=high), *foot(result)])


def document(result: Predictions, *, low: float | None = None, high: float | None = None) -> str:
    """Return candidates as a complete HTML document, to save.

    Options:
        low: the probability that a bar starts from, 0 if left out.
        high: the probability of the longest bar, the greatest there is if left out.
    """
    return page.document(fragment(result, low=low, high=high), title_of(result))


def lines(result: Predictions) -> tuple[str, ...]:
    """What the numbers are."""
    return ("probabilities, 0 to 1",)


def parts(result: Predictions, *, low: float | None = None, high: float | None = None) -> Iterator[Part]:
    """A list for each row, side by side where there is room.

    Raises:
        OptionError: `low` is not below `high`.
    """
    low, high = low or 0.0, strongest(result.values.values) if high is None else high
    if low >= high and (low or high):
        raise OptionError(f"Bars run from low to high, a greater number; found {low:g} and {high:g}.")
    down = result.values.dims[0]
    names = [Label.of(down, label).words for label in result.values.labels(down)][:MOST_LISTS]
    markup = "\n".join(_list(result, i, name, (low, high)) for i, name in enumerate(names))
    ends = (
        f'<div class="quiet">a full bar is {number(high, 3)}{f", an empty one {number(low, 3)}" if low else ""}</div>'
    )
    more = result.values.shape[0] - len(names)
    rest = f'<div class="quiet">… and {more} more</div>' if more > 0 else ""
    stack = stack_of(result)
    places = [Label.of(down, label).position for label in result.values.labels(down)][:MOST_LISTS]
    ranks = result.values.labels(result.values.dims[1])
    data = {
        "names": names,
        "places": [None if place is None else f"{stack}-{place}" for place in places],
        "texts": [[quoted(str(text)) for text in row] for row in result.texts.values[: len(names)]],
        "values": [[number(value, 3) for value in row] for row in result.values.values[: len(names)]],
        "keys": _keys(result.ids or result.texts)[: len(names)],
        "ranks": [visible(str(rank)) for rank in ranks],
    }
    yield Part(f'{ends}<div class="lists">{markup}</div>{rest}', "predictions", data if len(names) > 1 else None)


def _list(result: Predictions, row: int, name: str, ends: tuple[float, float]) -> str:
    low, reach = ends[0], ends[1] - ends[0] or 1.0
    ranks = result.values.labels(result.values.dims[1])
    rows = [
        (str(rank), quoted(str(text)), float(value), max(0.0, float(value) - low) / reach)
        for rank, text, value in zip(ranks, result.texts.values[row], result.values.values[row])
    ]
    caption = f'<caption style="text-align:left">{escaped(name)}</caption>'
    return bars(caption, ("rank", "candidate", "probability"), rows, signed=False, digits=3)


def _keys(candidates: LabelledArray) -> list[list[int]]:
    """The same number for the same candidate."""
    _, numbers = np.unique(candidates.values.astype(str), return_inverse=True)
    return [list(map(int, row)) for row in numbers.reshape(candidates.shape)]
