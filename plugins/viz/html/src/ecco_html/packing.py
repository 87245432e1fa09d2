"""The numbers and words that the script needs, small."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from ecco_core import Source, TokenScores, visible
from ecco_html import palette, wording
from ecco_html.escape import quoted
from ecco_html.painting import strongest

EXACT_CELLS = 60_000
_HALF_TOP = 2.0**15


def payload(scores: TokenScores, *, shared: bool) -> dict[str, Any]:
    """Return what the script is given; up to `EXACT_CELLS` scores have six significant digits, more have three."""
    values = np.asarray(scores.values.values, dtype=np.float64)
    packed = values.size > EXACT_CELLS
    stacks = list(scores.tokens)
    return {
        "signed": scores.signed,
        "colours": [palette.FOR, palette.AGAINST] if scores.signed else [palette.AMOUNT, palette.AMOUNT],
        "opaque": palette.OPAQUE,
        "digits": 3 if packed else 4,
        "shared": _short(strongest(values)) if shared else None,
        "targets": [
            [
                _index(stacks, t.stack),
                t.position,
                wording.goal(t),
                wording.where(t, scores),
                wording.facts(scores, i),
                _short(strongest(values[i])),
                wording.spoken(t, scores),
                visible(t.text),
            ]
            for i, t in enumerate(scores.targets)
        ],
        "key": wording.key(scores, alive=True),
        "names": stacks if len(stacks) > 1 else [],
        "sources": [_source(s, scores) for s in scores.sources],
        "rows": [_halves(row) if packed else _digits(row) for row in values],
    }


def source_text(source: Source, scores: TokenScores) -> str:
    """A source's text in quotes; for a part of a split character, its bytes."""
    tokens = scores.tokens.get(source.stack)
    if not source.text and tokens is not None and len(source.positions) == 1:
        return quoted(tokens.labels[source.positions[0]])
    return quoted(source.text)


def _source(source: Source, scores: TokenScores) -> list[Any]:
    """Stack, text, positions."""
    stacks = list(scores.tokens)
    return [_index(stacks, source.stack), source_text(source, scores), *source.positions]


def _index(stacks: list[str], stack: str) -> int:
    return stacks.index(stack) if stack in stacks else -1


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _digits(row: np.ndarray) -> list[float | int | None]:
    """Numbers of six significant digits, without the zeros at the end (a causal model's later tokens)."""
    short = [_short(value) for value in row.tolist()]
    while short and short[-1] == 0:
        short.pop()
    return [int(x) if x is not None and x == int(x) else x for x in short]


def _halves(row: np.ndarray) -> str:
    """Half-precision floats, scaled so that the row's greatest is 2^15, little-endian, in base 64."""
    scale = strongest(row) or 1.0
    halves = (np.trim_zeros(row, "b") / scale * _HALF_TOP).astype("<f2")
    return base64.b64encode(halves.tobytes()).decode("ascii")
