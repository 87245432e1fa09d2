"""Scores of one target as levels from -1 to 1, and the legend that says what a level is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ecco_core import TokenScores
from ecco_html.escape import escaped, number
from ecco_html.palette import background

Place = tuple[str, int]


def strongest(values: Any) -> float:
    """Return the greatest finite magnitude among `values`, 0 if there is none."""
    finite = np.abs(np.asarray(values, dtype=np.float64))
    finite = finite[np.isfinite(finite)]
    return float(finite.max()) if finite.size else 0.0


def by_place(scores: TokenScores, target: int) -> Mapping[Place, float]:
    """Return (stack, position) -> score for one target; where sources overlap, the stronger one."""
    painted: dict[Place, float] = {}
    for source, value in zip(scores.sources, scores.values.values[target].tolist()):
        for position in source.positions:
            place = (source.stack, position)
            if place not in painted or abs(value) > abs(painted[place]):
                painted[place] = value
    return painted


def legend(greatest: float, *, signed: bool, shared: bool) -> str:
    """Colours with the numbers at their ends; `shared` says that all targets have this scale."""
    levels = [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1] if signed else [0, 0.25, 0.5, 0.75, 1]
    swatches = "".join(
        f'<span class="swatch" style="{background(x, signed=signed)}">&nbsp;&nbsp;&nbsp;</span>' for x in levels
    )
    low, high = (-greatest, greatest) if signed else (0.0, greatest)
    words = ("against ", " for") if signed else ("", "")
    scope = "one scale for all targets" if shared else "scale of this target"
    return (
        f'<div class="legend">{words[0]}<span class="low">{number(low, 3)}</span> '
        f'<span class="swatches" aria-hidden="true">{swatches}</span> '
        f'<span class="high">{number(high, 3, plus=signed)}</span>{words[1]} '
        f'<span class="quiet">· {escaped(scope)}</span></div>'
    )
