"""A comparison as a page: a report of its table and its curves, which ecco-html draws."""

from __future__ import annotations

from typing import Any

from ecco_core import RenderError, Report, Table, plugins
from ecco_faithfulness.results import Faithfulness


def fragment(result: Faithfulness) -> str:
    """Return a comparison as a self-contained HTML fragment."""
    return _drawn("html_report", result)


def document(result: Faithfulness) -> str:
    """Return a comparison as a complete HTML document, to save."""
    return _drawn("html_report_page", result)


def _drawn(renderer: str, result: Faithfulness) -> str:
    offer: Any = plugins().find("ecco_renderers", renderer)
    if offer is None:
        raise RenderError("A comparison's page is drawn by ecco-html, which is not installed: pip install ecco-html")
    short = result.table()
    table = Table(title=short.title, columns=short.columns, rows=short.rows, provenance=result.provenance)
    report = Report([table, *result.curves()], title=result.title, notes=result.notes)
    return str(offer.load()(report))
