"""Rows and columns as an accessible HTML table, and rows with bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ecco_core import Rows
from ecco_html.escape import escaped, number
from ecco_html.palette import background

MOST_ROWS = 500


def table(block: Rows, caption: str) -> str:
    """Return the block as a table; numbers stand right, and rows beyond `MOST_ROWS` are counted, not shown."""
    rows = block.rows[:MOST_ROWS]
    right = [all(_is_number(row[i]) or row[i] is None for row in rows) for i in range(len(block.columns))]
    head = "".join(
        f'<th scope="col"{end * " class=num"}>{escaped(name)}</th>' for name, end in zip(block.columns, right)
    )
    body = "\n".join(f"<tr>{''.join(map(_cell, row, right))}</tr>" for row in rows)
    more = f"… and {len(block.rows) - MOST_ROWS} more rows" if len(block.rows) > MOST_ROWS else ""
    return scrolling(
        f'<table class="rows">{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>',
        block.title or "table", more,
    )  # fmt: skip


def scrolling(markup: str, label: str, more: str = "", kind: str = "") -> str:
    """Return a table in a box that scrolls when it is too wide, reachable by keyboard."""
    rest = f'<div class="quiet">{escaped(more)}</div>' if more else ""
    return (
        f'<div class="{f"scroll {kind}".strip()}" role="region" tabindex="0" aria-label="{escaped(label)}" '
        f'style="overflow-x:auto;overflow-wrap:normal">{markup}</div>{rest}'
    )


def bars(
    caption: str,
    heads: tuple[str, str, str],
    rows: Iterable[tuple[str, str, float, float]],
    *,
    signed: bool,
    digits: int = 4,
) -> str:
    """Return rows of a place, a text, a number and its level (-1 to 1) as a table with a bar in each."""
    body = "".join(
        f'<tr><td class="quiet">{escaped(place)}</td>'
        f'<td class="source" style="min-width:5em"><bdi>{escaped(text)}</bdi></td>'
        f'<td class="num" style="text-align:right">{number(value, digits, plus=signed)}</td>'
        f'<td class="bars"><span class="bar" style="display:block;height:.7em;width:{100 * min(abs(level), 1):.3g}%;'
        f'{background(1 if level > 0 else -1, signed=signed)}"></span></td></tr>'
        for place, text, value, level in rows
    )
    first, second, third = map(escaped, heads)
    return (
        f'<table class="top" style="width:100%">{caption}<thead><tr><th scope="col">{first}</th>'
        f'<th scope="col">{second}</th><th scope="col" class="num">{third}</th>'
        f'<td style="width:35%"></td></tr></thead><tbody>{body}</tbody></table>'
    )


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def _cell(value: Any, right: bool) -> str:
    """A cell; where a column has nothing but numbers they stand right."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    text = (escaped(value).replace("-", "−") if whole else number(value)) if _is_number(value) else escaped(
        "—" if value is None else value)  # fmt: skip
    return f'<td class="num" style="text-align:right">{text}</td>' if right else f'<td dir="auto">{text}</td>'
