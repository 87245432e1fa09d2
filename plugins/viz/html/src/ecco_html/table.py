"""Rows and columns as an accessible HTML table."""

from __future__ import annotations

from typing import Any

from ecco_core import Rows
from ecco_html.escape import escaped, number

MOST_ROWS = 500


def table(block: Rows, caption: str) -> str:
    """Return the block as a table; numbers stand right, and rows beyond `MOST_ROWS` are counted, not shown."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in block.columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in block.rows[:MOST_ROWS])
    more = f"… and {len(block.rows) - MOST_ROWS} more rows" if len(block.rows) > MOST_ROWS else ""
    return scrolling(
        f'<table class="rows">{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>',
        block.title or "table", more,
    )  # fmt: skip


def scrolling(markup: str, label: str, more: str = "") -> str:
    """Return a table in a box that scrolls when it is too wide, reachable by keyboard."""
    rest = f'<div class="quiet">{escaped(more)}</div>' if more else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label)}" style="overflow-x:auto">'
        f"{markup}</div>{rest}"
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return f'<td dir="auto">{escaped("—" if value is None else value)}</td>'
    if isinstance(value, int) or not hasattr(value, "__float__"):
        return f'<td class="num">{escaped(value).replace("-", "−")}</td>'
    return f'<td class="num" style="text-align:right">{number(value)}</td>'
