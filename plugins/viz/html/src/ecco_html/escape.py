"""Text of a model or a user as inert HTML or JSON."""

from __future__ import annotations

import html
import json
import math
import unicodedata
from typing import Any

from ecco_core import visible

_JSON_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def escaped(text: object) -> str:
    """Return `text` for use between tags or in a quoted attribute; what would not show is made visible."""
    return html.escape(visible(str(text)), quote=True)


def laid_out(text: str, *, spaces: bool = False) -> str:
    """Return a token's text where ⏎ marks a newline and the line really breaks after it; not yet escaped."""
    return "⏎\n".join(visible(part, spaces=spaces) for part in text.split("\n"))


def quoted(text: str) -> str:
    """Return a token's text in quotes, for a sentence; not yet escaped."""
    return f"'{visible(text)}'"


def direction(text: str) -> str:
    """Return ``"rtl"`` or ``"ltr"``: the direction of the first letter that has one."""
    for c in text:
        kind = unicodedata.bidirectional(c)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def number(value: Any, digits: int = 4, *, plus: bool = False) -> str:
    """Return a number with so many significant digits, a real minus sign, and a plus sign if asked for.

    Whole numbers, such as ranks, have all their digits.
    """
    x = float(value) + 0.0  # no negative zero
    if not math.isfinite(x):
        return "not a number" if math.isnan(x) else ("∞" if x > 0 else "−∞")
    text = f"{x:.0f}" if x.is_integer() and abs(x) < 1e6 else f"{x:.{digits}g}"
    text = text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", "−")
    return f"+{text}" if plus and x > 0 else text


def script_json(data: object) -> str:
    """Return `data` as JSON that cannot end the script element it stands in, in ASCII."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_JSON_ESCAPES)
