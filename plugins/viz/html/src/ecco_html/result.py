"""Any kind of result as a page: the parts of its own kind's view, between its title and where it comes from."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ecco_core import Heat, Result, Rows
from ecco_html import page
from ecco_html.about import head, provenance, title_of
from ecco_html.escape import escaped
from ecco_html.heat_map import heat_map
from ecco_html.page import Part
from ecco_html.table import table

#: Kinds with a view of their own -> the module whose `parts` makes it; `lines` there tell more below the title.
VIEWS: Mapping[str, str] = MappingProxyType(
    {
        "TokenScores": "token_scores",
        "TokenGrid": "grids",
        "Grid": "grids",
        "Predictions": "predictions",
        "Patterns": "patterns",
        "Components": "components",
        "Curves": "curves",
        "Points": "points",
        "Result": "result",
    }
)


def fragment(result: Result) -> str:
    """Return any result as a self-contained HTML fragment."""
    return page.wrap([*body(result), *foot(result)])


def document(result: Result) -> str:
    """Return any result as a complete HTML document, to save."""
    return page.document(fragment(result), title_of(result))


def body(result: Result, **options: Any) -> list[Part]:
    """Title, notes and view of a result, by the nearest kind that has a view."""
    kind = next(kind for kind in result.kinds() if kind in VIEWS)
    view = importlib.import_module(f"ecco_html.{VIEWS[kind]}")
    return [Part(head(result, view.lines(result))), *view.parts(result, **options)]


def foot(*results: Result) -> list[Part]:
    """Where results come from, if anything is known of it."""
    told = provenance(*results)
    return [Part(told)] if told else []


def lines(result: Result) -> tuple[str, ...]:
    """Nothing is known of any kind of result but its blocks."""
    return ()


def parts(result: Result) -> Iterator[Part]:
    """Its blocks; a caption that only repeats the title is left to screen readers."""
    block: Heat | Rows | None = None
    for block in result.blocks():
        yield (
            heat_map(block, caption(block, result))
            if isinstance(block, Heat)
            else Part(table(block, caption(block, result)))
        )
    if block is None:
        yield Part("<div>There is nothing to show.</div>")


def caption(block: Heat | Rows, result: Result) -> str:
    """The caption of a block, unseen if the page's title says the same."""
    title = block.title.removeprefix(result.title).strip() if result.title else block.title
    shown = title not in ("", "values")
    return (
        f'<caption style="text-align:left"{"" if shown else " class=unseen"}>'
        f"{escaped(title if shown else block.title or title_of(result))}</caption>"
    )
