"""Feed: token sequences as a model's forward takes them, padded where they differ in length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch


@attrs.frozen(eq=False)
class Feed:
    """Token ids by stack, of one sequence or of several that go through the model together.

    Attributes:
        ids: stack -> integers ``(sequence, token)``, padded on the right.
        lengths: stack -> number of tokens of each sequence without padding.
    """

    ids: Mapping[str, torch.Tensor]
    lengths: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, *sequences: Mapping[str, torch.Tensor], pad: int = 0) -> Feed:
        """Return a feed of sequences, each stack -> integers ``(token,)``; `pad` fills up the shorter ones."""
        rows = {stack: [sequence[stack] for sequence in sequences] for stack in sequences[0]}
        ids = {s: torch.nn.utils.rnn.pad_sequence(r, batch_first=True, padding_value=pad) for s, r in rows.items()}
        return cls(ids, {stack: tuple(len(row) for row in of_stack) for stack, of_stack in rows.items()})

    def __len__(self) -> int:
        return len(next(iter(self.ids.values())))

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the model's forward; where there is padding, with a mask ``(sequence, token)`` of it."""
        arguments: dict[str, Any] = {}
        for stack, ids in self.ids.items():
            before = "decoder_" if stack == "decoder" and len(self.ids) > 1 else ""
            arguments[f"{before}input_ids"] = ids
            there = torch.arange(ids.shape[1]) < torch.tensor(self.lengths[stack])[:, None]
            if not there.all():
                arguments[f"{before}attention_mask"] = there.long().to(ids.device)
        return arguments
