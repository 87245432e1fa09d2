"""Every way to show a result that is installed here."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ecco_core.data.results import Result
from ecco_core.plugin.manager import plugins
from ecco_core.rendering import find_renderer, render


def of(result: Result, starts: Sequence[str]) -> list[str]:
    """Media that something installed shows this kind of result in, of those whose name starts so."""
    known = dict.fromkeys(offer.spec.media_type for offer in plugins().offers("ecco_renderers"))
    return [name for name in known if name.startswith(tuple(starts)) and find_renderer(result, media_type=name)]


def rendered(result: Result, medium: str) -> str | bytes:
    """Return a result in a medium.

    Raises:
        EccoError: the renderer failed, or gave nothing.
    """
    from ecco_core.errors import RenderError

    content = render(result, medium)
    if not content:
        raise RenderError(f"the renderer for {medium} returned nothing.")
    return content


def acting(text: str) -> str:
    """Return the first character of a text that acts instead of showing, or an empty string."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return next((c for c in text if c not in "\n\u200c\u200d" and unicodedata.category(c) in kinds), "")
