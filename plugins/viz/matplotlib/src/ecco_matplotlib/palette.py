"""Colours of numbers: orange speaks for, blue against, teal is an amount; as in ecco-html and ecco-terminal.

The three differ for every common kind of colour blindness, and each ramp only darkens, so that it survives a grey
print. What is zero is a light grey, so that white paper is left for what is not there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

FOR, AGAINST, AMOUNT, ZERO, INK, QUIET, RULE = (
    "#d55e00", "#2d78dc", "#008c7d", "#f0f0f0", "#1a1a1a", "#4d4d4d", "#b3b3b3",
)  # fmt: skip
#: Lines (Okabe, Ito: Color Universal Design, 2008), then the same with the next dash.
LINES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#b58900", "#56b4e9")
DASHES = ("-", (0, (1, 1)), (0, (5, 1, 1, 1)))


class Scale(NamedTuple):
    """How numbers become colours."""

    cmap: Colormap
    norm: Normalize
    signed: bool

    def colour(self, value: float) -> tuple[float, float, float, float]:
        """The colour of a number."""
        red, green, blue, alpha = self.cmap(float(self.norm(value)))
        return (red, green, blue, alpha)

    def ink(self, value: float) -> str:
        """Black or white, whichever reads better on the number's colour."""
        if not np.isfinite(value):
            return INK
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in self.colour(value)[:3]]
        return "white" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.179 else "black"


@functools.cache
def _ramp(signed: bool, reverse: bool) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    strong = ["#00443d", AMOUNT, "#74c2b8", ZERO]
    colours = ["#0f3468", AGAINST, ZERO, FOR, "#6e2f00"] if signed else strong if reverse else strong[::-1]
    return LinearSegmentedColormap.from_list("ecco", colours)


def scale(
    values: np.ndarray, *, signed: bool | None = None, low: float | None = None, high: float | None = None
) -> Scale:
    """The scale of an array's finite numbers: around 0 where they have both signs, else from the least to the most.

    Args:
        signed: say which, instead of looking. `low`, `high`: ends of an unsigned scale.
    """
    from matplotlib.colors import Normalize

    finite = values[np.isfinite(values)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if signed is None:
        signed = least < 0 < most
    if signed:
        end = max(abs(least), abs(most)) or 1.0
        return Scale(_ramp(True, False), Normalize(-end, end), True)
    least = low if low is not None else min(least, 0.0) if least >= 0 else least
    most = high if high is not None else most
    return Scale(_ramp(False, False), Normalize(least, most if most > least else least + 1.0), False)


def rank_scale(values: np.ndarray) -> Scale:
    """The scale of ranks: logarithmic, the best (1) strongest."""
    from matplotlib.colors import LogNorm

    finite = values[np.isfinite(values)]
    return Scale(_ramp(False, True), LogNorm(1.0, max(float(finite.max(initial=1.0)), 10.0)), False)
