"""Results of Ecco as coloured text in a terminal: every kind, at any width, with and without colours."""

from __future__ import annotations

from collections.abc import Iterable

from ecco_core import RendererSpec, hookimpl

__all__ = ["ecco_renderers"]


@hookimpl
def ecco_renderers() -> Iterable[RendererSpec]:
    """Offer ANSI text for token scores, for reports, and for every other kind through its blocks."""
    return [
        RendererSpec(
            name="terminal_token_scores",
            summary="The run's text with its tokens coloured by their score, and the strongest sources",
            target="ecco_terminal.token_scores:render",
            accepts=("TokenScores",),
            media_type="text/x-ansi",
            suffixes=(".ansi",),
        ),
        RendererSpec(
            name="terminal_report",
            summary="Several results, each in its own view",
            target="ecco_terminal.report:render",
            accepts=("Report",),
            media_type="text/x-ansi",
            suffixes=(".ansi",),
        ),
        RendererSpec(
            name="terminal_blocks",
            summary="Coloured tables and heat maps of any kind of result",
            target="ecco_terminal.blocks:render",
            accepts=("Result",),
            media_type="text/x-ansi",
            suffixes=(".ansi",),
        ),
    ]
