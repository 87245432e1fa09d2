"""SVG that holds its texts as texts, and the glyphs that these need: searched and edited, the same everywhere."""

from __future__ import annotations

import base64
import functools
import html
import io
import re

from ecco_matplotlib.fonts import families_for, file_of

_TEXT = re.compile(r"<text style=\"([^\"]*)\"[^>]*>([^<]*)</text>")


def with_fonts(svg: bytes) -> bytes:
    """The same SVG with the fonts of its texts in it, cut down to their characters."""
    characters: dict[bool, set[str]] = {False: set(), True: set()}
    for look, text in _TEXT.findall(svg.decode("utf-8")):
        characters["font-weight: 700" in look or "font: 700" in look].update(html.unescape(text))
    rules = []
    for bold, used in characters.items():
        for family in ("DejaVu Sans", *families_for(used)[0]) if used else ():
            file, weight = file_of(family, bold=bold), 700 if bold else 400
            data = base64.b64encode(_cut_down(file, "".join(sorted(used)))).decode("ascii")
            rules.append(
                f"@font-face{{font-family:'{family}';font-weight:{weight};src:url(data:font/woff;base64,{data})}}"
            )
    start = svg.index(b">", svg.index(b"<svg")) + 1
    return svg[:start] + f"\n<style>{''.join(rules)}</style>".encode() + svg[start:]


@functools.lru_cache(maxsize=32)
def _cut_down(file: str, characters: str) -> bytes:
    """A font with the glyphs of some characters only, as WOFF."""
    from fontTools import subset  # type: ignore[import-untyped]

    options = subset.Options(
        flavor="woff", hinting=False, recalc_timestamp=False, name_IDs=[1, 2], notdef_outline=True, font_number=0
    )
    options.drop_tables += ["FFTM"]  # FontForge's own
    buffer = io.BytesIO()
    with subset.load_font(file, options) as font:
        cutter = subset.Subsetter(options)
        cutter.populate(text=characters)
        cutter.subset(font)
        subset.save_font(font, buffer, options)
    return buffer.getvalue()
