"""Text of a model or of a plugin made safe to show."""

from __future__ import annotations

import unicodedata

_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", " ": "·"}


def visible(text: str, *, spaces: bool = False) -> str:
    r"""Return `text` with every character that would not show, or would act, made visible.

    Newline, tab and carriage return become ⏎ ⇥ ␍ (and with `spaces` a blank becomes ·); other control,
    format (bidi marks, zero-width) and surrogate characters become ``\u202e``-like escapes, so that no text
    of a model can move a cursor, change the writing direction or fail to encode. Joiners between visible
    characters (emoji sequences, Indic scripts) are kept.
    """
    return "".join(_shown(c, spaces) for c in text)


def _shown(c: str, spaces: bool) -> str:
    if c in _NAMED and (c != " " or spaces):
        return _NAMED[c]
    if c in "\u200c\u200d":
        return c
    if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" if ord(c) < 65536 else f"\\U{ord(c):08x}"
    return c
