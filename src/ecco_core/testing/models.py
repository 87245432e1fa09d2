"""The small random models that checks run on: any architecture of transformers, no network, no other plugin."""

from __future__ import annotations

import copy
import functools
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecco_core.session.language_model import LanguageModel

TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called Nora."
_MARKS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}


@functools.cache
def tokenizer() -> Any:
    """A byte-level BPE tokenizer of a few hundred entries, with tokens for padding, masks and ends."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(_MARKS.values())
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **_MARKS)


@functools.cache
def language_model(model_type: str, task: str = "causal") -> LanguageModel:
    """Return a random model of two layers, in float64 so that rounding does not look like a broken promise."""
    from ecco_core.proving.tiny_models import tiny_model
    from ecco_core.session.opening import from_pretrained

    words = tokenizer()
    sizes = {"vocab_size": len(words), "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    sizes |= {"pad_token_id": words.pad_token_id, "decoder_start_token_id": words.bos_token_id}
    return from_pretrained((tiny_model(model_type, task, sizes).double(), words))


def spoiled(lm: LanguageModel) -> LanguageModel:
    """The same model with NaN in every matrix but the embeddings."""
    import torch

    from ecco_core.session.language_model import LanguageModel

    model = copy.deepcopy(lm.model)
    kept = [module.weight for module in (model.get_input_embeddings(), model.get_output_embeddings()) if module]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and all(parameter is not weight for weight in kept):
                parameter.fill_(math.nan)
    return LanguageModel(model, lm.tokenizer, "a model of NaN", task=lm.task)
