"""Tokens: a sequence of token ids and how a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from ecco_core.data.fields import as_tuple
from ecco_core.data.shown import visible


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
        lengths = set(map(len, attrs.astuple(self, recurse=False)))
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
        return Tokens(*(values[places] for values in attrs.astuple(self, recurse=False)))

    def __repr__(self) -> str:
        return f"Tokens({len(self)}: {visible(self.text[:60])!r}{'…' if len(self.text) > 60 else ''})"
