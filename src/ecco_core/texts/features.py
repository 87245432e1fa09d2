"""Features: the tokens, words, sentences or spans that an attribution gives one score each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ecco_core.data.results import Source
from ecco_core.data.tokens import Tokens
from ecco_core.errors import OptionError, did_you_mean, listed

KINDS = ("tokens", "words", "sentences")
_ENDS = re.compile(r"[.!?…。！？][\"'”’)\]]*\s*$|\n\s*$")
_SPAN = re.compile(r"(?:([a-z]+) )?(\d+):(\d+)")


def features_of(tokens: Mapping[str, Tokens], seen: Mapping[str, int], wanted: str | Sequence[str]) -> list[Source]:
    """Return the features of a run, in the order of its stacks and tokens; each token belongs to exactly one.

    Args:
        tokens: by stack. `seen`: stack -> how many of them some target can see; the others are left out.
        wanted: ``tokens``; ``words``, as the tokenizer begins them; ``sentences``, which end with a full stop, a
            question or exclamation mark, or a line break; or spans such as ``["0:4", "4:9"]``, from a position up to
            another, with the stack before it where there are two: ``"encoder 0:4"``.

    Raises:
        OptionError: no such kind; or spans that are malformed, outside of the run, overlap, or leave tokens out.
    """
    if not isinstance(wanted, str) or wanted not in KINDS:
        return _spans(tokens, seen, wanted.split(",") if isinstance(wanted, str) else wanted)
    found = []
    for stack, n in seen.items():
        firsts = [p for p in range(n) if p == 0 or _begins(tokens[stack], p, wanted)]
        found += [_source(tokens[stack], stack, first, end) for first, end in zip(firsts, [*firsts[1:], n])]
    return found


def _begins(tokens: Tokens, position: int, kind: str) -> bool:
    """Whether a token, a word or a sentence begins at a position."""
    if kind == "tokens" or tokens.special[position] or tokens.special[position - 1]:
        return True
    before = "".join(tokens.texts[max(0, position - 8) : position])
    return tokens.starts_word[position] and (kind == "words" or bool(_ENDS.search(before)))


def _source(tokens: Tokens, stack: str, first: int, end: int) -> Source:
    text = tokens.labels[first] if end == first + 1 else "".join(tokens.texts[first:end])
    return Source(stack=stack, positions=tuple(range(first, end)), text=text or "".join(tokens.labels[first:end]))


def _spans(tokens: Mapping[str, Tokens], seen: Mapping[str, int], wanted: Sequence[str]) -> list[Source]:
    found: dict[str, list[tuple[int, int]]] = {stack: [] for stack in seen}
    for text in wanted:
        match = _SPAN.fullmatch(text.strip())
        if not match:
            raise OptionError(
                f"features are {listed(KINDS)} or spans such as '0:4' (with two stacks 'encoder 0:4'), found {text!r}."
                + (" A kind stands alone, not in a list." if text.strip() in KINDS else did_you_mean(text, KINDS))
            )
        stack, first, end = match[1] or next(iter(seen)), int(match[2]), int(match[3])
        if stack not in seen or (match[1] is None and len(seen) > 1):
            raise OptionError(f"The feature {text!r} names no stack of this run; begin it with {listed(seen)}.")
        if not first < end <= len(tokens[stack]):
            n = len(tokens[stack])
            raise OptionError(
                f"The feature {text!r} is no span of the run's {n} tokens, which have positions 0 to {n - 1}."
            )
        found[stack].append((first, end))
    kept = []
    for stack, n in seen.items():
        spans, at = sorted(found[stack]), 0
        for first, end in [*spans, (max(n, *(end for _, end in spans), 0), 0)]:
            if first != at:
                what = f"leave out position {at}" if first > at else f"overlap at position {first}"
                raise OptionError(f"The features {what} of the {stack}; each token belongs to exactly one.")
            at = end
        kept += [_source(tokens[stack], stack, first, min(end, n)) for first, end in spans if first < n]
    return kept
