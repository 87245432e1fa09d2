"""Which fonts have the glyphs of a text, and what to write where none has."""

from __future__ import annotations

import functools
from collections.abc import Iterable

_BASE = "DejaVu Sans"
#: Looked through in this order for what the base lacks; families that begin so, in alphabetical order.
_FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Noto Sans Arabic",
    "Noto Naskh Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji",
    "Noto Sans Symbols", "Noto Sans Math", "Noto Sans", "Noto Serif", "Symbola", "Unifont", "Arial Unicode MS",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Apple Symbols", "Microsoft YaHei", "Yu Gothic",
    "Malgun Gothic", "Segoe UI Symbol", "Segoe UI Emoji", "Nirmala UI", "WenQuanYi", "Droid Sans Fallback",
)  # fmt: skip


def families_for(characters: Iterable[str]) -> tuple[list[str], frozenset[str]]:
    """Installed families that the base font needs beside it for these characters, and those that none of them has."""
    families: list[str] = []
    missing = set()
    for character in sorted(set(characters)):
        if ord(character) in _base():
            continue
        family = next((f for f in families if ord(character) in _glyphs(_installed()[f])), "") or _covering(character)
        if not family:
            missing.add(character)
        elif family not in families:
            families.append(family)
    return families, frozenset(missing)


@functools.cache
def _base() -> frozenset[int]:
    """Code points of the base font, in both weights that are used."""
    return _glyphs(file_of(_BASE, bold=False)) & _glyphs(file_of(_BASE, bold=True))


def file_of(family: str, *, bold: bool) -> str:
    """The file of a family's upright face; of a fallback, the only face that is looked through."""
    from matplotlib.font_manager import FontProperties, findfont

    if family != _BASE:
        return _installed()[family]
    return str(findfont(FontProperties(family=[_BASE], weight="bold" if bold else "normal")))


@functools.cache
def _glyphs(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())


@functools.cache
def _installed() -> dict[str, str]:
    """Fallback family -> file of its upright face, in order of preference; none of coloured bitmaps."""
    from matplotlib.font_manager import fontManager

    faces = sorted(
        (f.name, f.fname) for f in fontManager.ttflist if f.style == "normal" and f.weight in (400, "normal", "regular")
    )
    found: dict[str, str] = {}
    for start in _FALLBACKS:
        found |= {n: file for n, file in faces if n.startswith(start) and "Color" not in n and n not in found}
    return found


@functools.cache
def _covering(character: str) -> str:
    return next((name for name, path in _installed().items() if ord(character) in _glyphs(path)), "")
