"""Tokens: a sequence of token ids and how a person reads them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from ecco_core.data.fields import as_tuple

_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", " ": "·"}


def visible(text: str, *, spaces: bool = False) -> str:
    r"""Return `text` with every character that would not show, or would act, made visible.

    Newline, tab and carriage return become ⏎ ⇥ ␍ (and with `spaces` a blank becomes ·); other control,
    format (bidi marks, zero-width) and surrogate characters become ``\u202e``-like escapes, so that no text
    of a model can move a cursor, change the writing direction or fail to encode. Joiners between visible
    characters (emoji sequences, Indic scripts) are kept.
    """
    return "".join(_shown(c, spaces) for c in text)


def _shown(c: str, spaces: bool) -> str:
    if c in _NAMED and (c != " " or spaces):
        return _NAMED[c]
    if c in "\u200c\u200d":
        return c
    if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" if ord(c) < 65536 else f"\\U{ord(c):08x}"
    return c


def _strings(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(v) for v in values)


def _ids(values: Any) -> np.ndarray:
    ids = np.array(values, dtype=np.int64)
    ids.flags.writeable = False
    return ids


@attrs.frozen(eq=False, repr=False)
class Tokens:
    """Token ids with their texts.

    Attributes:
        ids: ``(token,)`` integers.
        texts: one per token; together they are the decoded string. The text of a character that is split
            over several tokens sits on the last of them, the others are empty.
        labels: one per token, never empty where a token stands for bytes: the text, or for a part of a
            split character its bytes as ``<E2 82>``.
        starts_word: whether a token begins a word.
        special: whether a token is one of the tokenizer's special tokens.
    """

    ids: np.ndarray = attrs.field(converter=_ids)
    texts: tuple[str, ...] = attrs.field(converter=_strings)
    labels: tuple[str, ...] = attrs.field(converter=_strings)
    starts_word: tuple[bool, ...] = attrs.field(converter=as_tuple)
    special: tuple[bool, ...] = attrs.field(converter=as_tuple)

    def __attrs_post_init__(self) -> None:
        lengths = {len(self.ids), len(self.texts), len(self.labels), len(self.starts_word), len(self.special)}
        if len(lengths) != 1:
            raise ValueError(f"ids, texts, labels and flags must be equally long, found {sorted(lengths)}")

    @property
    def text(self) -> str:
        """The decoded string."""
        return "".join(self.texts)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> str:
        return self.texts[position]

    def part(self, places: slice) -> Tokens:
        """The tokens of a slice of positions."""
        return Tokens(
            self.ids[places], self.texts[places], self.labels[places], self.starts_word[places], self.special[places]
        )

    def __repr__(self) -> str:
        return f"Tokens({len(self)}: {visible(self.text[:60])!r}{'…' if len(self.text) > 60 else ''})"
