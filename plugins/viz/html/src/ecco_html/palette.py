"""Colours of numbers: translucent, so that one colour reads on light and on dark pages alike.

Orange speaks for, blue against, teal is for numbers without a sign; people who see few colours tell the three
apart. Opacity is proportional to the number, and its highest is chosen so that a page's own text on top keeps a
contrast of at least 4.5 to 1 on white and on dark pages (a test computes it).
"""

from __future__ import annotations

import math

FOR = (213, 94, 0)
AGAINST = (45, 120, 220)
AMOUNT = (0, 140, 125)
OPAQUE = 0.62


def shade(level: float, *, signed: bool, most: float = OPAQUE) -> str:
    """Return the CSS colour of a level from -1 to 1, or an empty string where there is nothing to paint.

    Args:
        most: the opacity of level 1; more than `OPAQUE` only where no text stands on top.
    """
    if not math.isfinite(level):
        return ""
    alpha = round(most * min(abs(level), 1.0), 2)
    if alpha == 0:
        return ""
    red, green, blue = (FOR if level > 0 else AGAINST) if signed else AMOUNT
    return f"rgba({red},{green},{blue},{alpha:g})"


def background(level: float, *, signed: bool, short: bool = False) -> str:
    """Return the declaration that paints a level, or an empty string; `short` leaves out what can hardly be seen."""
    colour = shade(level, signed=signed)
    if short and colour:
        *mixed, alpha = map(float, colour.removeprefix("rgba(").removesuffix(")").split(","))
        return f"background:#{bytes([*map(int, mixed), round(255 * alpha)]).hex()}" if alpha > 0.02 else ""
    return f"background-color:{colour}" if colour else ""


#: Colours of factors, after Okabe and Ito (Color Universal Design, 2008), who chose them for all to tell apart;
#: their yellow is darker here, so that text on it can be read on dark pages, and black is grey.
FACTORS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (0, 114, 178), (213, 94, 0), (190, 180, 30),
    (130, 130, 130),
)  # fmt: skip
TINT = 0.42


def tint(factor: int) -> str:
    """Return the declaration that paints a factor's tokens; after the last colour the first comes again."""
    red, green, blue = FACTORS[factor % len(FACTORS)]
    return f"background-color:rgba({red},{green},{blue},{TINT})"
