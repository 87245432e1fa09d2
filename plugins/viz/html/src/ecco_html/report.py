"""Several results in one page: a position that is chosen in one is shown in all."""

from __future__ import annotations

import attrs

from ecco_core import Patterns, Report, Result, TokenScores
from ecco_html import page
from ecco_html.about import head, stack_of, title_of
from ecco_html.page import Part
from ecco_html.result import body, foot


def fragment(report: Report) -> str:
    """Return several results as one self-contained HTML fragment; where they come from stands at the foot."""
    own = [Part(head(report))] if report.title or report.notes else []
    home = _home(report)
    parts = (part for result in report.results for part in body(_placed(result, home)))
    return page.wrap([*own, *parts, *foot(*report.results)])


def _home(report: Report) -> str:
    """The stack that positions count in where a result does not say: the decoder, if there is one."""
    named = [stack for result in report.results for stack in getattr(result, "tokens", None) or {}
             if isinstance(result, (TokenScores, Patterns))]  # fmt: skip
    return "decoder" if "decoder" in named else next(iter(named), "decoder")


def _placed(result: Result, home: str) -> Result:
    """The same result, which says the stack of its positions."""
    origin = result.provenance
    options = {**origin.options, "stack": stack_of(result) or home}
    return attrs.evolve(result, provenance=attrs.evolve(origin, options=options))


def document(report: Report) -> str:
    """Return several results as one complete HTML document, to save."""
    title = report.title or ", ".join(map(title_of, report.results))
    return page.document(fragment(report), title)
