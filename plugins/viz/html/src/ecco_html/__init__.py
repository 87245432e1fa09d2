"""Results of Ecco as self-contained HTML: a fragment for notebooks, a whole document for files."""

from __future__ import annotations

from ecco_core import RendererSpec, hookimpl

FRAGMENT = "text/html"
DOCUMENT = "text/html;profile=document"

# kind of result, module that renders it, what is to be seen
_VIEWS = (
    ("TokenScores", "token_scores", "Token scores: point at a token to see what led to it"),
    ("TokenGrid", "result", "Layers, neurons and positions: boxes with a token and a number, each with its details"),
    ("Predictions", "predictions", "Candidates with bars; point at one to find it in the other rows"),
    ("Patterns", "result", "Attention: pick a layer and a head; matrix and lines between tokens"),
    ("Components", "result", "Factors: a line for each above the text; point at one to see where it is active"),
    ("Grid", "result", "A number for each pair, its interval and what chance gives in the same box"),
    ("Curves", "result", "Lines with their intervals, and their numbers"),
    ("Points", "result", "Places in a plane; point at one to see its token"),
    ("Report", "report", "Several results in one page, with one position chosen in all of them"),
    ("Result", "result", "Any other result: its tables and heat maps"),
)


@hookimpl
def ecco_renderers() -> list[RendererSpec]:
    """Offer a fragment and a document of every kind of result."""
    return [
        RendererSpec(
            name=f"html_{kind.lower()}{'_page' if suffixes else ''}",
            summary=summary,
            target=f"ecco_html.{module}:{function}",
            accepts=(kind,),
            media_type=media_type,
            suffixes=suffixes,
        )
        for kind, module, summary in _VIEWS
        for function, media_type, suffixes in (("fragment", FRAGMENT, ()), ("document", DOCUMENT, (".html", ".htm")))
    ]
