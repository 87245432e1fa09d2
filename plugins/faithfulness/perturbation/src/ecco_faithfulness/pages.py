"""A comparison as a page: its table, then its curves drawn, put together from the pages of plainer results."""

from __future__ import annotations

import html

from ecco_core import Table
from ecco_faithfulness.results import Faithfulness

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def fragment(result: Faithfulness) -> str:
    """Return a comparison as a self-contained HTML fragment."""
    short = result.table()
    table = Table(
        title=result.title, notes=result.notes, provenance=result.provenance, columns=short.columns, rows=short.rows
    )
    return "\n".join([table.to_html(), *(curve.to_html() for curve in result.curves())])


def document(result: Faithfulness) -> str:
    """Return a comparison as a complete HTML document, to save."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(result.title)}</title>\n"
        "<style>:root{color-scheme:light dark}body{margin:0 auto;max-width:72rem;padding:2rem 1.25rem;"
        "font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}</style>\n"
        f"</head>\n<body>\n{fragment(result)}\n</body>\n</html>\n"
    )
