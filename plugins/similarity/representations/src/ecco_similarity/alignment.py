"""Tokens of one text by two tokenizers: which of them stand for the same characters."""

from __future__ import annotations

import bisect
import itertools
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecco_core import Tokens

Spans = list[tuple[tuple[int, ...], tuple[int, ...]]]


def aligned(a: Tokens, b: Tokens) -> tuple[Spans, str]:
    """Return the finest spans of text that both token sequences cut at, and how the texts were compared.

    Special tokens stand for no characters and are left out. Texts that differ are compared again without white space,
    case and accents, which tokenizers for uncased models do not keep; tokens of nothing else are left out then. The
    parts of a character that is split over several tokens go to its span.

    Returns:
        (positions in a, positions in b) per span, each position in one span; and ``""``, or what was ignored.

    Raises:
        ValueError: the texts differ: where, and what stands there.
    """
    for key, ignored in ((str, ""), (_loose, "white space, case and accents")):
        texts = [[key(text) for text in tokens.texts] for tokens in (a, b)]
        kept = [_kept(tokens, found) for tokens, found in zip((a, b), texts)]
        left, right = ("".join(found[i] for i in places) for found, places in zip(texts, kept))
        if left == right:
            return _spans(*([(i, len(found[i])) for i in places] for found, places in zip(texts, kept))), ignored
    raise ValueError(_difference(left, right))


def _loose(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if not c.isspace() and not unicodedata.combining(c))


def _kept(tokens: Tokens, keys: Sequence[str]) -> list[int]:
    """Positions of what stands for characters: not special, and not emptied by the comparison."""
    return [i for i, key in enumerate(keys) if not tokens.special[i] and (key or not tokens.texts[i])]


def _spans(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> Spans:
    """Cut both sequences of (position, number of characters) wherever both have a boundary."""
    ends = [list(itertools.accumulate(size for _, size in side)) for side in (a, b)]
    spans, starts = [], [0, 0]
    for cut in sorted(set(ends[0]) & set(ends[1]) - {0}):
        last = cut == ends[0][-1]
        stops = [len(found) if last else bisect.bisect_left(found, cut) + 1 for found in ends]
        groups = [tuple(i for i, _ in side[start:stop]) for side, start, stop in zip((a, b), starts, stops)]
        spans.append((groups[0], groups[1]))
        starts = stops
    return spans


def _difference(left: str, right: str) -> str:
    place = next((i for i, (one, other) in enumerate(zip(left, right)) if one != other), min(len(left), len(right)))
    found = [repr(text[place : place + 20]) if text[place:] else "its end" for text in (left, right)]
    return f"the texts differ: after {left[max(0, place - 20) : place]!r}, one has {found[0]}, the other {found[1]}"
