"""Which tokens led to a token, as a page: coloured without scripts, and alive with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ecco_core import Heat, TokenScores
from ecco_html import page, wording
from ecco_html.about import title_of
from ecco_html.escape import escaped
from ecco_html.heat_map import heat_map
from ecco_html.packing import payload, source_text
from ecco_html.page import Part
from ecco_html.painting import by_place, legend, strongest
from ecco_html.result import body, caption, foot
from ecco_html.table import bars
from ecco_html.token_rows import token_rows

MOST_SOURCES = 8

Style = Literal["detailed", "minimal", "matrix"]
Reach = Literal["row", "all"]


def fragment(result: TokenScores, *, scale: Reach = "row", style: Style = "detailed", whitespace: bool = False) -> str:
    """Return token scores as a self-contained HTML fragment.

    Options:
        scale: what the strongest colour stands for: the greatest score of the target that is shown ("row"), or
            the greatest of all targets ("all"), so that colours can be compared across targets.
        style: the text with numbers and the strongest sources ("detailed"), only the text ("minimal"), or a table of
            targets and sources ("matrix").
        whitespace: mark each blank, as newlines and tabs always are.
    """
    return page.wrap([*body(result, scale=scale, style=style, whitespace=whitespace), *foot(result)])


def document(result: TokenScores, *, scale: Reach = "row", style: Style = "detailed", whitespace: bool = False) -> str:
    """Return token scores as a complete HTML document, to save.

    Options:
        scale: what the strongest colour stands for: the greatest score of the target that is shown ("row"), or
            the greatest of all targets ("all"), so that colours can be compared across targets.
        style: the text with numbers and the strongest sources ("detailed"), only the text ("minimal"), or a table of
            targets and sources ("matrix").
        whitespace: mark each blank, as newlines and tabs always are.
    """
    return page.document(fragment(result, scale=scale, style=style, whitespace=whitespace), title_of(result))


def lines(result: TokenScores) -> tuple[str, ...]:
    """What the numbers are, and what absence was taken to be."""
    return wording.summary(result)


def parts(
    result: TokenScores, *, scale: Reach = "row", style: Style = "detailed", whitespace: bool = False
) -> Iterator[Part]:
    """The tokens, painted for the last target, and what is said of it; or all targets in a matrix."""
    if style == "matrix" and result.targets:
        for block in result.blocks():
            if isinstance(block, Heat):
                yield heat_map(block, caption(block, result), stack=result.targets[0].stack)
        return
    shared = scale == "all"
    shown = len(result.targets) - 1 if result.targets else None
    values = result.values.values
    greatest = strongest(values if shared or shown is None else values[shown])
    painted = by_place(result, shown) if shown is not None else {}
    markup = token_rows(result, shown, painted, greatest, whitespace=whitespace)
    markup += _panel(result, shown, greatest, shared=shared, minimal=style == "minimal")
    yield Part(markup, "token_scores", payload(result, shared=shared) if shown is not None else None)


def _panel(scores: TokenScores, shown: int | None, greatest: float, *, shared: bool, minimal: bool) -> str:
    """What is said about the target that is shown: its numbers, the legend, its strongest sources."""
    if shown is None:
        return '<div class="panel">No target was explained.</div>'
    target = scores.targets[shown]
    what = (
        f'<div class="what">{escaped(wording.heading(scores))} <b class="name">{escaped(wording.goal(target))}</b> '
        f'<span class="where">{escaped(wording.where(target, scores))}</span></div>'
    )
    rest = (
        f'<div class="facts quiet">{escaped(wording.facts(scores, shown))}</div>\n'
        f"{legend(greatest, signed=scores.signed, shared=shared)}\n{_strongest(scores, shown, greatest)}\n"
        f'<p class="key quiet">{escaped(wording.key(scores, alive=False))}</p>'
    )
    return f'<div class="panel" style="margin-top:1em">\n{what}\n{"" if minimal else rest}\n</div>'


def _strongest(scores: TokenScores, shown: int, greatest: float) -> str:
    """The sources that count most, as a table."""
    row = scores.values.values[shown].tolist()
    order = sorted((j for j, v in enumerate(row) if v), key=lambda j: -abs(row[j]))[:MOST_SOURCES]
    rows = []
    for j in order:
        source = scores.sources[j]
        places = f"{source.positions[0]}" + (f"–{source.positions[-1]}" if len(source.positions) > 1 else "")
        stack = f"{source.stack} " if len(scores.tokens) > 1 else ""
        rows.append((stack + places, source_text(source, scores), row[j], row[j] / greatest if greatest else 0.0))
    caption = '<caption style="text-align:left">strongest sources</caption>'
    return bars(caption, ("position", "source", "score"), rows, signed=scores.signed)
