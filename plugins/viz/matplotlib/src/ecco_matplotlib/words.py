"""The texts of one figure: made visible, given fonts, measured, cut and wrapped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from ecco_core import Result, visible
from ecco_matplotlib.fonts import families_for

_MEASURED_AT = 300.0  # dots per inch
_SLACK = 1.06  # for lower resolutions, where glyphs stand on whole dots
_GLUE = "\N{NO-BREAK SPACE}"  # after a quotation mark that opens before a blank
_PARTS = re.compile(r"[^_/]*[_/]+|[^_/]+")  # of a long word, for the end of a line
LABEL, SMALL, TITLE = 6.5, 5.8, 8.5  # points


class Words:
    """How the texts of a result are written.

    Attributes:
        families: fonts they need beside the base font. `missing`: characters that no font here has.
    """

    def __init__(self, result: Result) -> None:
        letters = {c for text in _texts(result) for c in text}
        self.families, self.missing = families_for(visible("".join(sorted(letters)), spaces=False))
        self._escapes = str.maketrans({c: f"\\u{ord(c):04x}" if ord(c) < 65536 else f"\\U{ord(c):08x}"
                                       for c in self.missing})  # fmt: skip
        self._widths: dict[tuple[str, float, str], float] = {}
        self._renderer: Any = None

    def shown(self, text: object, *, spaces: bool = False) -> str:
        """A text with everything visible; characters without a glyph as escapes."""
        return visible(str(text), spaces=spaces).translate(self._escapes)

    def token(self, text: object) -> str:
        """A token's text with the blanks before and after it visible; a label may begin with its position."""
        position, blank, rest = str(text).partition(" ")
        if blank and position.isdigit() and rest:
            return f"{position} {self.token(rest)}"
        inner = str(text).strip(" ")
        before, _, after = str(text).partition(inner) if inner else (str(text), "", "")
        return "".join(self.shown(part, spaces=part is not inner) for part in (before, inner, after))

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """How wide a line is, in inches. To be asked within the style, which has the fonts."""
        key = (text, size, weight)
        if key not in self._widths:
            from matplotlib.backends import backend_agg
            from matplotlib.font_manager import FontProperties

            if self._renderer is None:
                make: Any = backend_agg.RendererAgg
                self._renderer = make(1, 1, _MEASURED_AT)
            font = FontProperties(size=size, weight=weight)
            wide = self._renderer.get_text_width_height_descent(text, font, ismath=False)[0] if text else 0.0
            self._widths[key] = float(wide) / _MEASURED_AT * _SLACK
        return self._widths[key]

    def cut(self, text: str, size: float, inches: float) -> str:
        """The text, or as much of it as fits and an ellipsis; empty where not even that fits."""
        if self.width(text[:200], size) <= inches and len(text) <= 200:
            return text
        low, high = 0, min(len(text), 200)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle] + "…", size) <= inches else (low, middle - 1)
        return text[:low] + "…" if low else ""

    def wrapped(self, text: str, size: float, inches: float, weight: str = "normal") -> list[str]:
        """The text as lines that fit; a word that is too long is broken."""
        lines = [""]
        for word in text.replace(" ' ", f" '{_GLUE}").split(" "):
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if self.width(longer, size, weight) <= inches:
                lines[-1] = longer
                continue
            if lines[-1]:
                lines.append("")
            for part in _PARTS.findall(word):
                if lines[-1] and self.width(lines[-1] + part, size, weight) > inches:
                    lines.append("")
                for character in part:
                    if self.width(lines[-1] + character, size, weight) > inches and lines[-1]:
                        lines.append("")
                    lines[-1] += character
        return [line.replace(_GLUE, " ") for line in lines]


def _texts(value: Any) -> Iterator[str]:
    """All strings in a result."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, np.ndarray):
        yield from map(str, value.ravel() if value.dtype.kind in "OU" else ())
    elif isinstance(value, Mapping):
        yield from _texts((tuple(value), tuple(value.values())))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _texts(item)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from _texts(getattr(value, field.name))
    elif not isinstance(value, (bool, int, float, type(None))):
        yield str(value)


def number(value: Any, digits: int = 3, *, plus: bool = False) -> str:
    """A number with so many significant digits and a real minus sign; whole numbers have all of theirs."""
    x = float(value) + 0.0
    if not math.isfinite(x):
        return "not a number" if math.isnan(x) else "∞" if x > 0 else "−∞"
    text = f"{x:.0f}" if x.is_integer() and abs(x) < 1e6 else f"{x:.{digits}g}"
    text = text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", "−")
    return f"+{text}" if plus and x > 0 else text
