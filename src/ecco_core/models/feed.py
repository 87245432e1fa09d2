"""Feed: token sequences as a model's forward takes them, padded where they differ in length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def mask(self, stack: str) -> torch.Tensor | None:
        """1 for tokens and 0 for padding ``(sequence, token)``; None if nothing is padded."""
        ids, lengths = self.ids[stack], torch.tensor(self.lengths[stack])
        if bool((lengths == ids.shape[1]).all()):
            return None
        return (torch.arange(ids.shape[1]) < lengths[:, None]).long().to(ids.device)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the model's forward."""
        arguments: dict[str, Any] = {}
        for stack, ids in self.ids.items():
            before = "decoder_" if stack == "decoder" and len(self.ids) > 1 else ""
            arguments[f"{before}input_ids"] = ids
            mask = self.mask(stack)
            if mask is not None:
                arguments[f"{before}attention_mask"] = mask
        return arguments


def of_tokens(ids: Mapping[str, Sequence[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Return token ids by stack as tensors ``(token,)`` on a device."""
    return {stack: torch.as_tensor(list(row), dtype=torch.long, device=device) for stack, row in ids.items()}
