"""Results of Ecco as self-contained HTML: a fragment for notebooks, a whole document for files."""

from __future__ import annotations

from ecco_core import RendererSpec, hookimpl

FRAGMENT = "text/html"
DOCUMENT = "text/html;profile=document"


@hookimpl
def ecco_renderers() -> list[RendererSpec]:
    """Offer a fragment and a document, for token scores, for curves, and for every other kind of result."""
    return [
        RendererSpec(
            name="html_token_scores",
            summary="Token scores as a fragment: point at a token to see what led to it",
            target="ecco_html.token_scores:fragment",
            accepts=("TokenScores",),
            media_type=FRAGMENT,
        ),
        RendererSpec(
            name="html_token_scores_page",
            summary="Token scores as a document: point at a token to see what led to it",
            target="ecco_html.token_scores:document",
            accepts=("TokenScores",),
            media_type=DOCUMENT,
            suffixes=(".html", ".htm"),
        ),
        RendererSpec(
            name="html_curves",
            summary="Curves as a fragment: lines with their intervals, and their numbers",
            target="ecco_html.curves:fragment",
            accepts=("Curves",),
            media_type=FRAGMENT,
        ),
        RendererSpec(
            name="html_curves_page",
            summary="Curves as a document: lines with their intervals, and their numbers",
            target="ecco_html.curves:document",
            accepts=("Curves",),
            media_type=DOCUMENT,
            suffixes=(".html", ".htm"),
        ),
        RendererSpec(
            name="html_result",
            summary="Any result as a fragment: its tables and heat maps",
            target="ecco_html.result:fragment",
            accepts=("Result",),
            media_type=FRAGMENT,
        ),
        RendererSpec(
            name="html_result_page",
            summary="Any result as a document: its tables and heat maps",
            target="ecco_html.result:document",
            accepts=("Result",),
            media_type=DOCUMENT,
            suffixes=(".html", ".htm"),
        ),
    ]
