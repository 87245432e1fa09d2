"""Several results in one page: a position that is chosen in one is shown in all."""

from __future__ import annotations

from ecco_core import Report
from ecco_html import page
from ecco_html.about import head, title_of
from ecco_html.page import Part
from ecco_html.result import body, foot


def fragment(report: Report) -> str:
    """Return several results as one self-contained HTML fragment; where they come from stands at the foot."""
    own = [Part(head(report))] if report.title or report.notes else []
    return page.wrap([*own, *(part for result in report.results for part in body(result)), *foot(*report.results)])


def document(report: Report) -> str:
    """Return several results as one complete HTML document, to save."""
    title = report.title or ", ".join(map(title_of, report.results))
    return page.document(fragment(report), title)
