"""Have a model generate answers to token ids, one prompt or several in one batch, with its own ``generate``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ecco_core.errors import EccoError, OptionError
from ecco_core.models.interventions import prompted
from ecco_core.models.scores import require_numbers
from ecco_core.options import convert

if TYPE_CHECKING:
    from ecco_core.session.language_model import LanguageModel


def checked(max_new_tokens: Any, generate: Any, seed: Any, options: dict[str, Any]) -> tuple[int, int | None]:
    """Return how many tokens to generate, and the seed.

    Raises:
        OptionError: an option is wrong.
    """
    if generate is not None and max_new_tokens is not None:
        raise OptionError("generate and max_new_tokens say the same; give one of them.")
    count = generate if generate is not None else 20 if max_new_tokens is None else max_new_tokens
    count, seed = convert(count, int, "max_new_tokens"), convert(seed, int | None, "seed")
    if count < 0 or not -(2**63) <= (seed or 0) < 2**63:
        raise OptionError(f"max_new_tokens counts from 0 and seed has 64 bits, found {count} and {seed}.")
    if options.get("num_return_sequences", 1) != 1:
        raise OptionError("A run is one sequence: leave num_return_sequences out and call generate again.")
    return count, seed


def answers(lm: LanguageModel, prompts: Sequence[list[int]], count: int, options: dict[str, Any]) -> list[list[int]]:
    """Return the ids that the model adds to each prompt; of an encoder-decoder model, all of the decoder's.

    Padding goes to the left of a decoder's prompts and to the right of an encoder's; none is returned.

    Raises:
        OptionError: the model's generate refuses an option. ArchitectureError: its logits are no numbers.
    """
    model, decoder_only = lm.model, lm.task == "causal"
    if model.generation_config.pad_token_id is None and "pad_token_id" not in options:
        options["pad_token_id"] = _pad(lm)
    pad = options.get("pad_token_id", model.generation_config.pad_token_id)
    width = max(map(len, prompts))
    filler = [[0 if pad is None else pad] * (width - len(ids)) for ids in prompts]
    rows = [[*f, *ids] if decoder_only else [*ids, *f] for ids, f in zip(prompts, filler)]
    masks = [
        [0] * len(f) + [1] * len(ids) if decoder_only else [1] * len(ids) + [0] * len(f)
        for ids, f in zip(prompts, filler)
    ]
    device = lm.device
    try:
        with _numbers_only(model), prompted(model, *(map(len, prompts) if decoder_only else [1] * len(prompts))):
            output = model.generate(
                input_ids=torch.tensor(rows, device=device),
                attention_mask=torch.tensor(masks, device=device),
                max_new_tokens=count,
                **options,
            )
    except EccoError:
        raise
    except Exception as error:
        from ecco_core.session.opening import told

        raise OptionError(f"The model's generate stopped: {told(error)}") from error
    sequences = (output if isinstance(output, torch.Tensor) else output.sequences).tolist()
    ends = options.get("eos_token_id", model.generation_config.eos_token_id)
    return [_ended(row[width:] if decoder_only else row, ends, 0 if decoder_only else 1) for row in sequences]


def _pad(lm: LanguageModel) -> int | None:
    eos = lm.model.generation_config.eos_token_id
    pad: int | None = lm.tokenizer.pad_token_id
    return pad if pad is not None else eos[0] if isinstance(eos, list) else eos


def _ended(ids: list[int], ends: int | list[int] | None, first: int) -> list[int]:
    """Cut what was filled up after the token that ended it; the first may be an end token that starts a decoder."""
    last = {ends} if isinstance(ends, int) else set(ends or ())
    end = next((n for n, token in enumerate(ids) if n >= first and token in last), len(ids))
    return ids[: end + 1]


@contextlib.contextmanager
def _numbers_only(model: Any) -> Iterator[None]:
    """Refuse a head whose logits are no numbers, instead of generating nonsense from them; looks at one per row."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        yield
        return

    def look(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            require_numbers(output[..., :1], model)

    handle = head.register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()
