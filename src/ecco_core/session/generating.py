"""Have a model generate answers to token ids, one prompt or several in one batch, with its own ``generate``."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ecco_core.errors import OptionError, saying
from ecco_core.models.architecture import Place
from ecco_core.models.hooks import alone, evaluating, hooked
from ecco_core.models.interventions import prompted
from ecco_core.models.scores import require_numbers
from ecco_core.options import convert

if TYPE_CHECKING:
    from ecco_core.session.language_model import LanguageModel


def checked(
    max_new_tokens: Any, generate: Any, seed: Any, options: dict[str, Any], there: int
) -> tuple[int, int | None]:
    """Return how many tokens to generate, and the seed; takes ``max_length`` out of the options.

    Args:
        there: how many tokens ``max_length`` counts that are not generated.

    Raises:
        OptionError: an option is wrong.
    """
    options.pop("attribution", None)  # of the original, which attributed while generating; here it is asked for
    if "beam_size" in options:
        options["num_beams"] = options.pop("beam_size")
    length, config = options.pop("max_length", None), options.get("generation_config")
    given = {"max_new_tokens": max_new_tokens, "generate": generate, "max_length": length}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise OptionError(f"{' and '.join(named)} say the same; give one of them.")
    count = getattr(config, "max_new_tokens", None) or 20
    if named:
        count = convert(given[named[0]], int, named[0]) - (there if length is not None else 0)
    seed = convert(seed, int | None, "seed")
    if length is not None and count < 0:
        raise OptionError(f"max_length={length} leaves nothing to generate: it counts the prompt's {there} tokens.")
    if count < 0 or not -(2**63) <= (seed or 0) < 2**63:
        raise OptionError(f"max_new_tokens counts from 0 and seed has 64 bits, found {count} and {seed}.")
    if (options.get("num_return_sequences") or getattr(config, "num_return_sequences", None) or 1) != 1:
        raise OptionError("A run is one sequence: leave num_return_sequences out and call generate again.")
    return count, seed


def answers(lm: LanguageModel, prompts: Sequence[list[int]], count: int, options: dict[str, Any]) -> list[list[int]]:
    """Return the ids that the model adds to each prompt; of an encoder-decoder model, all of the decoder's.

    Padding goes to the left of a decoder's prompts and to the right of an encoder's; none is returned.

    Raises:
        OptionError: the model's generate refuses an option. ArchitectureError: its logits are no numbers.
    """
    model, decoder_only = lm.model, lm.task == "causal"
    padded = decoder_only and len({*map(len, prompts)}) > 1
    if len(prompts) > 1 and (_ENDING & set(options) or (padded and not _masks(model, prompts[0], lm.device))):
        return [answers(lm, [ids], count, dict(options))[0] for ids in prompts]
    if model.generation_config.pad_token_id is None and "pad_token_id" not in options:
        options["pad_token_id"] = _pad(lm)
    pad = options.get("pad_token_id", model.generation_config.pad_token_id)
    rows = [torch.tensor(ids, device=lm.device) for ids in prompts]
    batch = functools.partial(pad_sequence, batch_first=True, padding_side="left" if decoder_only else "right")
    given = [len(ids) if decoder_only else 1 for ids in prompts]
    mode = evaluating(model) if model.training else alone(model)
    with saying("The model's generate stopped", OptionError), mode, _numbers_only(model), prompted(model, *given):
        output = model.generate(
            input_ids=batch(rows, padding_value=pad or 0),
            attention_mask=batch([torch.ones_like(ids) for ids in rows]),
            max_new_tokens=count,
            **options,
        )
    sequences = (output if isinstance(output, torch.Tensor) else output.sequences).tolist()
    ends = options.get("eos_token_id", getattr(options.get("generation_config"), "eos_token_id", None))
    ends = model.generation_config.eos_token_id if ends is None else ends
    width = max(map(len, prompts))
    return [_ended(row[width:] if decoder_only else row, ends, 0 if decoder_only else 1) for row in sequences]


def _pad(lm: LanguageModel) -> int | None:
    eos = lm.model.generation_config.eos_token_id
    pad: int | None = lm.tokenizer.pad_token_id
    return pad if pad is not None else eos[0] if isinstance(eos, list) else eos


def _ended(ids: list[int], ends: Any, first: int) -> list[int]:
    """Cut what was filled up after the token that ended it; the first may be an end token that starts a decoder."""
    last = set() if ends is None else set(torch.as_tensor(ends).flatten().tolist())
    end = next((n for n, token in enumerate(ids) if n >= first and token in last), len(ids))
    return ids[: end + 1]


#: Options that end a sequence by other things than a token: how far one of a batch was filled up cannot be told.
_ENDING = {"stop_strings", "stopping_criteria", "generation_config", "max_time"}
_MASKS: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def _masks(model: Any, ids: list[int], device: torch.device) -> bool:
    """Whether a model leaves masked tokens unread; found out once, with two paddings (RWKV reads them)."""
    if model not in _MASKS:
        rows = torch.tensor([[padding, padding, *ids[-16:]] for padding in (0, 1)], device=device)
        mask = torch.ones_like(rows)
        mask[:, :2] = 0
        with evaluating(model), torch.no_grad():
            one, other = model(input_ids=rows, attention_mask=mask).logits[:, -1].float()
        _MASKS[model] = bool((one - other).abs().max() <= 1e-4 * one.abs().max())
    return _MASKS[model]


def _numbers_only(model: Any) -> contextlib.AbstractContextManager[None]:
    """Refuse a head whose logits are no numbers, instead of generating nonsense from them; looks at the last ones."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        return contextlib.nullcontext()
    return hooked(Place(head, "output"), lambda logits: require_numbers(logits[..., -1, :], model))
