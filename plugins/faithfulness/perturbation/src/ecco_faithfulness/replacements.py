"""Ways to take a token away: what stands in its place, as an embedding."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ecco_core import OptionError

if TYPE_CHECKING:
    import torch

    from ecco_core import Run, ScoreModule

Replacement = Literal["auto", "mask", "pad", "mean", "zero", "sample", "remove"]
_AT_ONCE = 1024  # embeddings

WORDS = {
    "mask": "the tokenizer's mask token",
    "pad": "the tokenizer's padding token",
    "mean": "the mean of all embeddings",
    "zero": "an embedding of zeros",
    "sample": "tokens drawn uniformly from the vocabulary without special tokens",
    "remove": "nothing: the sequence gets shorter and later tokens move up",
}


def resolved(replacement: str, runs: Sequence[Run]) -> str:
    """The way that is meant: ``auto`` is the mask token where all tokenizers have one, else the mean embedding.

    Raises:
        OptionError: a tokenizer has no such token, or tokens cannot be removed from one of the runs.
    """
    if replacement == "auto":
        return "mean" if any(run.lm.tokenizer.mask_token_id is None for run in runs) else "mask"
    for run in runs:
        _require(replacement, run)
    return replacement


def _require(replacement: str, run: Run) -> None:
    tokenizer = run.lm.tokenizer
    if replacement in ("mask", "pad") and getattr(tokenizer, f"{replacement}_token_id") is None:
        there = [name for name in ("mask", "pad") if getattr(tokenizer, f"{name}_token_id") is not None]
        raise OptionError(
            f"The tokenizer of {run.lm.name} has no {replacement} token to put in a token's place; there are "
            f"{', '.join([*there, 'mean', 'zero', 'sample', 'remove'])}."
        )
    if replacement == "remove":
        _require_removable(run)


def fitting(runs: Sequence[Run]) -> list[str]:
    """The ways that are for all of these runs; a padding token only where there is no mask token."""
    found = []
    for way in WORDS:
        with contextlib.suppress(OptionError):
            found.append(resolved(way, runs))
    return [way for way in found if way != "pad" or "mask" not in found]


def _require_removable(run: Run) -> None:
    task = run.transcript.task
    why = ""
    if task == "token_classification":
        why = "the token whose class is explained would itself be removed"
    elif run.under:
        why = "interventions name positions, which would be other tokens'"
    elif task == "sequence_classification" and len(run.lm.architecture.stacks) > len(run.transcript.tokens):
        why = "this classifier reads its text a second time in its decoder"
    if why:
        raise OptionError(f"replacement='remove' is not for this run: {why}; take mean, zero or sample.")


def filled(replacement: str, run: Run, module: ScoreModule, n_draws: int, rng: Any) -> list[tuple[torch.Tensor, ...]]:
    """What stands in every place, per draw and stack ``(1, token, unit)``; several draws only of ``sample``.

    One draw is one other text: each place has the same token in all masked inputs, so that their scores compare.
    """
    import torch

    stacks = module.stacks
    if replacement == "sample":
        special = set(run.lm.tokenizer.all_special_ids)
        sizes = {s: min(len(run.lm.tokenizer), len(module.embeddings[s].weight)) for s in stacks}  # no spare rows
        ordinary = {s: [i for i in range(sizes[s]) if i not in special] for s in stacks}
        drawn = [
            {s: torch.from_numpy(rng.choice(ordinary[s], len(module.ids[s]))) for s in stacks} for _ in range(n_draws)
        ]
        return [tuple(module.embed(each[s], s)[None] for s in stacks) for each in drawn]
    if replacement == "zero":
        return [tuple(map(torch.zeros_like, module.inputs()))]
    if replacement in ("mean", "remove"):
        return [tuple(mean(module, s).expand(1, len(module.ids[s]), -1) for s in stacks)]
    token = getattr(run.lm.tokenizer, f"{replacement}_token_id")
    return [tuple(module.embed(torch.full_like(module.ids[s], token), s)[None] for s in stacks)]


def mean(module: ScoreModule, stack: str) -> torch.Tensor:
    """Mean of all embeddings ``(unit,)``."""
    import torch

    weight = module.embeddings[stack].weight
    starts = range(0, len(weight), _AT_ONCE)
    parts = [module.embed(torch.arange(n, min(n + _AT_ONCE, len(weight))), stack) for n in starts]
    return (torch.stack([p.sum(0, dtype=torch.float64) for p in parts]).sum(0) / len(weight)).to(weight.dtype)
