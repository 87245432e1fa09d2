"""Results of Ecco as figures for publication, by matplotlib: `plot`, `style`, and files by their suffix."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ecco_core import RendererSpec, hookimpl

if TYPE_CHECKING:
    from ecco_matplotlib.plotting import plot
    from ecco_matplotlib.styling import style

__all__ = ["ecco_renderers", "plot", "style"]
_LIVES_IN = {"plot": "plotting", "style": "styling"}
_MEDIA = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}


@hookimpl
def ecco_renderers() -> list[RendererSpec]:
    """Offer SVG, PDF and PNG for every kind of result."""
    return [
        RendererSpec(
            name=f"matplotlib_{suffix}",
            summary=f"A figure of any kind of result for publication, as {suffix.upper()}",
            target=f"ecco_matplotlib.files:{suffix}",
            accepts=("Result",),
            media_type=media_type,
            suffixes=(f".{suffix}",),
        )
        for suffix, media_type in _MEDIA.items()
    ]


def __getattr__(name: str) -> Any:
    if name in _LIVES_IN:
        return getattr(importlib.import_module(f"ecco_matplotlib.{_LIVES_IN[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
