"""What tests of core and of every plugin share: small random models, a tokenizer, and the trained tiny model."""

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: tests of Ctrl-C would wait for ever
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called Nora."


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Models this small are many times slower with threads that wait for each other on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE tokenizer of a few hundred entries."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|end|>", eos_token="<|end|>")


def random_model(kind: str, vocabulary: int, **changes):
    """A random model of an architecture: two layers, 32 units, in evaluation mode."""
    import torch
    import transformers as t

    shared = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    wide = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    configs = {
        "gpt2": (t.GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
        "llama": (t.LlamaConfig, wide | {"num_key_value_heads": 2, "max_position_embeddings": 64}),
        "mistral": (t.MistralConfig, wide | {"num_key_value_heads": 2, "max_position_embeddings": 64}),
        "qwen2": (t.Qwen2Config, wide | {"num_key_value_heads": 2, "max_position_embeddings": 64}),
        "qwen3": (t.Qwen3Config, wide | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}),
        "gpt_neox": (t.GPTNeoXConfig, wide | {"max_position_embeddings": 64}),
    }
    config_class, options = configs[kind]
    torch.manual_seed(0)
    return t.AutoModelForCausalLM.from_config(config_class(**{**shared, **options, **changes})).eval()


KINDS = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gpt_neox")


@pytest.fixture(scope="session")
def kinds():
    """The architectures that `lm` goes through."""
    return KINDS


@pytest.fixture(scope="session")
def make_lm(tokenizer):
    """A function: kind of architecture (and changes to its config) -> LanguageModel with random weights."""
    import ecco_core as ecco

    def make(kind="gpt2", **changes):
        return ecco.from_pretrained((random_model(kind, len(tokenizer), **changes), tokenizer))

    return make


@pytest.fixture(scope="session", params=KINDS)
def lm(request, make_lm):
    """A random model of each architecture of the registry."""
    return make_lm(request.param)


@pytest.fixture(scope="session")
def marked_tokenizer(tokenizer):
    """The same entries with tokens for padding, masks, and the ends of a text."""
    from copy import deepcopy

    from transformers import PreTrainedTokenizerFast

    backend = deepcopy(tokenizer.backend_tokenizer)
    backend.add_special_tokens(["<pad>", "<mask>", "<s>", "</s>"])
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **marks)


@pytest.fixture(scope="session")
def open_tiny(marked_tokenizer):
    """A function: model type and task (and changes to its config) -> LanguageModel, all of its weights random."""
    import ecco_core as ecco
    from ecco_core.proving.tiny_models import tiny_model

    marks = marked_tokenizer
    shared = {"vocab_size": len(marks), "bos_token_id": marks.bos_token_id, "eos_token_id": marks.eos_token_id}
    shared |= {"pad_token_id": marks.pad_token_id, "decoder_start_token_id": marks.bos_token_id}

    def open_(kind, task="causal", dtype=None, **changes):
        if kind in ("roberta", "marian", "m2m_100"):  # their positions begin after the padding token's number
            changes = {"max_position_embeddings": 512, **changes}
        model = tiny_model(kind, task, {**shared, **changes})
        return ecco.from_pretrained((model.to(dtype) if dtype else model, marks))

    return open_


@pytest.fixture(scope="session")
def gpt2(make_lm):
    """A random GPT-2."""
    return make_lm("gpt2")


@pytest.fixture(scope="session")
def prose():
    """The trained model that ships with ecco-tiny."""
    import ecco_core as ecco

    return ecco.from_pretrained("tiny:prose")
