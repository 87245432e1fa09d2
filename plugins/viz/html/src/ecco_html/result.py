"""Any kind of result as a page of tables and heat maps."""

from __future__ import annotations

from ecco_core import Heat, Result, Rows, TokenGrid
from ecco_html import page
from ecco_html.about import head, provenance, title_of
from ecco_html.escape import escaped
from ecco_html.heat_map import heat_map
from ecco_html.table import table


def fragment(result: Result) -> str:
    """Return any result as a self-contained HTML fragment."""
    blocks = [_block(block, result) for block in result.blocks()]
    quantity = (result.quantity,) if isinstance(result, TokenGrid) and result.quantity else ()
    parts = [head(result, quantity), *(blocks or ["<div>There is nothing to show.</div>"]), provenance(result)]
    return page.wrap("\n".join(part for part in parts if part))


def document(result: Result) -> str:
    """Return any result as a complete HTML document, to save."""
    return page.document(fragment(result), title_of(result))


def _block(block: Heat | Rows, result: Result) -> str:
    """One block; a caption that only repeats the title is left to screen readers."""
    title = block.title.removeprefix(result.title).strip() if result.title else block.title
    shown = title not in ("", "values")
    caption = (
        f'<caption style="text-align:left"{"" if shown else " class=unseen"}>'
        f"{escaped(title if shown else block.title or title_of(result))}</caption>"
    )
    return heat_map(block, caption) if isinstance(block, Heat) else table(block, caption)
