"""Colours that stay readable: a text always brings its own ground, and the pair has a contrast of 4.5 or more.

Orange speaks for, blue against, as in ecco-html: they differ for every common kind of colour blindness. Terminals of
16 colours show three steps, those of 256 six of their fixed colours, and the letters' colour is chosen for the ground
really shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

RGB = tuple[int, int, int]
System = Literal["truecolor", "256", "16", "none", "plain"]
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
_CUBE = (0, 95, 135, 175, 215, 255)
WEAK, STRONG = 0.15, 0.5


class Ink(NamedTuple):
    """How a piece of text looks; colours as rich names them, empty for the terminal's own."""

    fg: str = ""
    bg: str = ""
    bold: bool = False
    underline: bool = False
    dim: bool = False
    italic: bool = False


class Theme(NamedTuple):
    """Ground and letters of the text block, and three ramps that start at its ground."""

    paper: RGB
    letters: RGB
    muted: RGB
    against: tuple[RGB, RGB]
    speaks_for: tuple[RGB, RGB]
    amount: tuple[RGB, RGB]


THEMES = {
    "dark": Theme(
        (30, 32, 40), (228, 228, 233), (146, 148, 160),
        ((28, 92, 164), (122, 196, 255)), ((150, 76, 8), (255, 170, 84)), ((14, 104, 98), (116, 224, 208)),
    ),
    "light": Theme(
        (246, 246, 242), (24, 24, 28), (98, 98, 106),
        ((158, 198, 238), (10, 88, 170)), ((248, 190, 134), (172, 70, 0)), ((150, 214, 206), (0, 100, 94)),
    ),
}  # fmt: skip
# The same ramps in the fixed colours of a 256-colour terminal, where nearest colours would change hue on the way.
STEPS: dict[str, dict[str, tuple[int, ...]]] = {
    "dark": {
        "against": (235, 24, 25, 32, 75, 117),
        "for": (235, 94, 130, 172, 208, 215),
        "amount": (235, 23, 30, 37, 80),
    },
    "light": {
        "against": (255, 153, 111, 75, 32, 25),
        "for": (255, 223, 215, 208, 166, 130),
        "amount": (255, 152, 116, 73, 30, 23),
    },
}
# Bars stand on the terminal's own ground, which may be dark or light: they keep a contrast of 3 to both.
BARS: dict[str, RGB] = {"against": (46, 128, 214), "for": (206, 104, 10), "amount": (22, 138, 128)}
# xterm's defaults for the 16 colours, to check contrasts with; names as rich has them.
NAMED: dict[str, RGB] = {
    "black": (0, 0, 0), "red": (205, 0, 0), "yellow": (205, 205, 0), "blue": (0, 0, 238),
    "cyan": (0, 205, 205), "bright_white": (255, 255, 255),
}  # fmt: skip
SIXTEEN = {
    "against": (Ink("black", "cyan"), Ink("bright_white", "blue", bold=True)),
    "for": (Ink("black", "yellow"), Ink("bright_white", "red", bold=True)),
    "amount": (Ink("black", "cyan"), Ink("bright_white", "blue", bold=True)),
}


def luminance(color: RGB) -> float:
    """Relative luminance, 0 (black) to 1 (white), after WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: RGB, other: RGB) -> float:
    """Contrast ratio, 1 to 21, after WCAG 2.1."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def nearest_256(color: RGB) -> int:
    """Number of the nearest of the 240 fixed colours of a 256-colour terminal."""
    places = [min(range(6), key=lambda i, c=c: abs(_CUBE[i] - c)) for c in color]  # type: ignore[misc]
    cube = 16 + 36 * places[0] + 6 * places[1] + places[2]
    grey = 232 + max(0, min(23, round((sum(color) / 3 - 8) / 10)))
    return min(cube, grey, key=lambda n: sum((a - b) ** 2 for a, b in zip(rgb_256(n), color)))


def rgb_256(number: int) -> RGB:
    """What the fixed colour `number` (16 to 255) looks like."""
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    places = number - 16
    return _CUBE[places // 36], _CUBE[places // 6 % 6], _CUBE[places % 6]


def _between(stops: tuple[RGB, ...], share: float) -> RGB:
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(place), len(stops) - 2)
    red, green, blue = (round(a + (b - a) * (place - i)) for a, b in zip(stops[i], stops[i + 1]))
    return red, green, blue


class Palette:
    """The inks of one colour system and theme. Without colours the inks are empty, and marks have to do."""

    def __init__(self, system: System, theme: Literal["dark", "light"]) -> None:
        self.system = system
        self.theme = THEMES[theme]
        self.steps = STEPS[theme]
        self.colours = system in ("truecolor", "256", "16")
        self.painted = system in ("truecolor", "256")

    def score(self, share: float, *, signed: bool) -> Ink:
        """Ink of a score: -1 speaks most against, 1 most for; unsigned 0 to 1."""
        side = "amount" if not signed else "for" if share >= 0 else "against"
        strength = abs(share)
        if not self.colours:
            return Ink()
        if not self.painted:
            return Ink() if strength < WEAK else SIXTEEN[side][strength >= STRONG]
        if self.system == "256":
            step = self.steps[side][round(strength * (len(self.steps[side]) - 1))]
            return Ink(self._name(self._letters(rgb_256(step))), f"color({step})")
        ends = {"for": self.theme.speaks_for, "against": self.theme.against, "amount": self.theme.amount}[side]
        ground = _between((self.theme.paper, *ends), strength)
        return Ink(self._name(self._letters(ground)), self._name(ground))

    def _letters(self, ground: RGB) -> RGB:
        """The theme's letters where they are clear on that ground, else black or white, whichever is clearer."""
        if contrast(self.theme.letters, ground) >= 7:
            return self.theme.letters
        return max((BLACK, WHITE), key=lambda color: contrast(color, ground))

    @property
    def paper(self) -> Ink:
        """The text block's own ground and letters."""
        return Ink(self._name(self.theme.letters), self._name(self.theme.paper)) if self.painted else Ink()

    @property
    def muted(self) -> Ink:
        """Text that plays no part."""
        if not self.painted:
            return Ink(dim=True)
        return Ink(self._name(self.theme.muted), self._name(self.theme.paper))

    @property
    def mark(self) -> Ink:
        """What is looked at: the paper's colours, reversed."""
        if not self.painted:
            return Ink(bold=True)
        return Ink(self._name(self.theme.paper), self._name(self.theme.letters), bold=True)

    @property
    def warning(self) -> Ink:
        """The head of a note."""
        return Ink("black", "yellow", bold=True) if self.colours else Ink(bold=True)

    def bar(self, side: str) -> Ink:
        """Ink of a bar on the terminal's own ground; `side` is ``for``, ``against`` or ``amount``."""
        if self.painted:
            return Ink(self._name(BARS[side]))
        sixteen = {"for": "red", "against": "bright_blue", "amount": "bright_blue"}
        return Ink(sixteen[side]) if self.colours else Ink()

    def _name(self, color: RGB) -> str:
        if self.system == "truecolor":
            return "#{:02x}{:02x}{:02x}".format(*color)
        return f"color({nearest_256(color)})"


def system_of(environment: Mapping[str, str] = os.environ) -> System:
    """What the terminal can show, by ``NO_COLOR``, ``TERM`` and ``COLORTERM``."""
    term = environment.get("TERM", "").lower()
    if term in ("dumb", "unknown"):
        return "plain"
    if environment.get("NO_COLOR"):
        return "none"
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "WT_SESSION" in environment:
        return "truecolor"
    if "direct" in term or "kitty" in term:
        return "truecolor"
    return "16" if term in ("linux", "xterm", "ansi", "vt100", "vt220", "cygwin", "screen") else "256"


def theme_of(environment: Mapping[str, str] = os.environ) -> Literal["dark", "light"]:
    """Whether the terminal's ground is light, where it says so in ``COLORFGBG``; else dark."""
    ground = environment.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if ground in ("7", "15") else "dark"
