"""The numbers and words that the scripts need, small."""

from __future__ import annotations

import math
import string
from typing import Any

import numpy as np

from ecco_core import Source, TokenScores, visible
from ecco_html import wording
from ecco_html.escape import quoted
from ecco_html.painting import strongest

EXACT_CELLS, MOST_CANDIDATES = 60_000, 50_000
_CHARACTERS = np.array(list(string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"))
_DECADES, _TOP, _NONE = 5, 2046, 2047


def payload(scores: TokenScores, *, shared: bool) -> dict[str, Any]:
    """Return what the script is given; up to `EXACT_CELLS` scores have six significant digits, more are packed."""
    values = np.asarray(scores.values.values, dtype=np.float64)
    packed = values.size > EXACT_CELLS
    stacks = list(scores.tokens)
    return {
        "signed": scores.signed,
        "digits": 3 if packed else 4,
        "shared": short(strongest(values)) if shared else None,
        "led": wording.led(scores),
        "targets": [
            [
                _index(stacks, t.stack),
                t.position,
                wording.goal(t),
                wording.where(t, scores),
                wording.facts(scores, i),
                short(strongest(values[i])),
                "" if wording.plain(t, scores) else wording.spoken(t, scores),
                *([visible(t.text)] if wording.comes_next(t, scores) else []),
            ]
            for i, t in enumerate(scores.targets)
        ],
        "key": wording.key(scores, alive=True),
        "names": [visible(stack) for stack in stacks],
        "sources": [_source(j, s, scores) for j, s in enumerate(scores.sources)],
        "rows": [pack(np.trim_zeros(row, "b"), strongest(row)) if packed else _digits(row) for row in values],
    }


def source_text(source: Source, scores: TokenScores) -> str:
    """A source's text in quotes; for a part of a split character, its bytes."""
    tokens = scores.tokens.get(source.stack)
    if not source.text and tokens is not None and len(source.positions) == 1:
        return quoted(tokens.labels[source.positions[0]])
    return quoted(source.text)


def _source(j: int, source: Source, scores: TokenScores) -> str | list[Any]:
    """Stack, text, positions; the text alone if the source is the token of that number of the first stack."""
    stacks = list(scores.tokens)
    if source.stack == stacks[0] and source.positions == (j,):
        return source_text(source, scores)
    return [_index(stacks, source.stack), source_text(source, scores), *source.positions]


def _index(stacks: list[str], stack: str) -> int:
    return stacks.index(stack) if stack in stacks else -1


def short(value: float, digits: int = 6) -> float | int | None:
    """A number of so many significant digits, whole where it is; None for what JSON has no number for."""
    if not math.isfinite(value):
        return None
    value = float(value if value.is_integer() and abs(value) < 1e6 else f"{value:.{digits}g}")
    return int(value) if value.is_integer() else value


def _digits(row: np.ndarray) -> list[float | int | None]:
    """Numbers without the zeros at the end (a causal model's later tokens)."""
    return [short(value) for value in np.trim_zeros(row, "b").tolist()]


def pack(row: np.ndarray, greatest: float) -> str:
    """Return numbers as two characters each: a sign, and the logarithm of the size as a share of `greatest`.

    A step is 0.56 %, so a number is off by at most 0.28 %; what is below a 100,000th of the greatest becomes 0.
    """
    sizes = np.abs(row) / (greatest or 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.round(_TOP + _TOP / _DECADES * np.log10(sizes))
    codes = np.where(np.isfinite(row), np.clip(np.nan_to_num(logs, neginf=0), 0, _TOP), _NONE).astype(int)
    codes += np.where((row < 0) & (codes > 0), 2048, 0)
    return letters(codes, 2)


def letters(numbers: np.ndarray, size: int) -> str:
    """Return whole numbers from 0 as so many characters each, to the base of 64."""
    digits = numbers.reshape(-1, 1) // 64 ** np.arange(size)[::-1] % 64
    return "".join(_CHARACTERS[digits.ravel()].tolist())


def pack_words(texts: Any, candidates: Any = None, probabilities: Any = None) -> dict[str, Any]:
    """Return the text of each cell, and the best candidates of each with their probabilities, small.

    Args:
        texts: ``(row, column)``, or None. `candidates`: ``(row, column, rank)``, or None; `probabilities` alike.

    Returns:
        ``words``, all of them in quotes; ``texts``, numbers of words of 3 characters each; ``best``, such a number and
        the probability as minus its logarithm times 4096, within 0.02 % from 1e-27 on, in 3 characters each, of
        ``ranks`` candidates of each cell.
    """
    index: dict[str, int] = {}

    def numbered(array: Any) -> np.ndarray:
        return np.array([index.setdefault(quoted(str(text)), len(index)) for text in np.ravel(array)], dtype=int)

    packed = {"texts": None if texts is None else letters(numbered(texts), 3), "best": None, "ranks": 0}
    if candidates is not None:
        ranks = max(1, min(candidates.shape[2], MOST_CANDIDATES // max(candidates[..., 0].size, 1)))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.nan_to_num(-4096 * np.log(probabilities[..., :ranks].astype(float)), nan=np.inf)
        codes = np.clip(np.round(logs), 0, 64**3 - 1).astype(int)
        pairs = np.stack([numbered(candidates[..., :ranks]), codes.ravel()], -1)
        packed |= {"best": letters(pairs, 3), "ranks": ranks}
    return packed | {"words": list(index)}
