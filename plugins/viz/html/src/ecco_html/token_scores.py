"""Which tokens led to a token, as a page: coloured without scripts, and alive with them."""

from __future__ import annotations

from typing import Literal

from ecco_core import TokenScores
from ecco_html import page, wording
from ecco_html.about import head, provenance, title_of
from ecco_html.escape import escaped, number
from ecco_html.packing import payload, source_text
from ecco_html.painting import by_place, legend, strongest
from ecco_html.palette import background
from ecco_html.token_rows import token_rows

MOST_SOURCES = 8


def fragment(result: TokenScores, *, scale: Literal["row", "all"] = "row") -> str:
    """Return token scores as a self-contained HTML fragment.

    Options:
        scale: what the strongest colour stands for: the greatest score of the target that is shown ("row"), or
            the greatest of all targets ("all"), so that colours can be compared across targets.
    """
    shared = scale == "all"
    shown = len(result.targets) - 1 if result.targets else None
    values = result.values.values
    greatest = strongest(values if shared or shown is None else values[shown])
    painted = by_place(result, shown) if shown is not None else {}
    parts = [
        head(result, wording.summary(result)),
        token_rows(result, shown, painted, greatest),
        _panel(result, shown, greatest, shared=shared),
        provenance(result),
    ]
    data = payload(result, shared=shared) if shown is not None else None
    return page.wrap("\n".join(part for part in parts if part), data, ("token_scores.js",) if data else ())


def document(result: TokenScores, *, scale: Literal["row", "all"] = "row") -> str:
    """Return token scores as a complete HTML document, to save.

    Options:
        scale: what the strongest colour stands for: the greatest score of the target that is shown ("row"), or
            the greatest of all targets ("all"), so that colours can be compared across targets.
    """
    return page.document(fragment(result, scale=scale), title_of(result))


def _panel(scores: TokenScores, shown: int | None, greatest: float, *, shared: bool) -> str:
    """What is said about the target that is shown: its numbers, the legend, its strongest sources."""
    if shown is None:
        return '<div class="panel">No target was explained.</div>'
    target = scores.targets[shown]
    return (
        '<div class="panel" style="margin-top:1em">\n'
        f'<div class="what">What led to <b class="name">{escaped(wording.goal(target))}</b> '
        f'<span class="where">{escaped(wording.where(target, scores))}</span></div>\n'
        f'<div class="facts quiet">{escaped(wording.facts(scores, shown))}</div>\n'
        f"{legend(greatest, signed=scores.signed, shared=shared)}\n{_strongest(scores, shown, greatest)}\n"
        f'<p class="key quiet">{escaped(wording.key(scores, alive=False))}</p>\n</div>'
    )


def _strongest(scores: TokenScores, shown: int, greatest: float) -> str:
    """The sources that count most, as a table."""
    row = scores.values.values[shown].tolist()
    order = sorted((j for j, v in enumerate(row) if v), key=lambda j: -abs(row[j]))[:MOST_SOURCES]
    several = len(scores.tokens) > 1
    body = ""
    for j in order:
        source = scores.sources[j]
        paint = background(row[j] / greatest if greatest else 0.0, signed=scores.signed)
        places = f"{source.positions[0]}" + (f"–{source.positions[-1]}" if len(source.positions) > 1 else "")
        stack = f"{source.stack} " if several else ""
        body += (
            f'<tr><td class="quiet">{escaped(stack)}{places}</td><td class="source" style="{paint}"><bdi>'
            f'{escaped(source_text(source, scores))}</bdi></td><td class="num" style="text-align:right">'
            f"{number(row[j], plus=scores.signed)}</td><td></td></tr>"
        )
    return (
        '<table class="top"><caption style="text-align:left">strongest sources</caption><thead><tr>'
        '<th scope="col">position</th><th scope="col">source</th><th scope="col" class="num">score</th><td></td>'
        f"</tr></thead><tbody>{body}</tbody></table>"
    )
