"""Save a model of distilgpt2's shape with random weights, and a tokenizer that makes one token of each byte.

    python make_model.py FOLDER

Run it with the oldest versions of transformers and tokenizers that shall read them: new ones read what old ones wrote.
"""

from __future__ import annotations

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
POSITIONS = 2048  # distilgpt2 has 1,024; a prompt of 1,000 tokens with 200 more needs them, and they cost nothing else


def main(folder: str) -> None:
    """Write both into the folder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*alphabet, END])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special)
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    config = GPT2Config(n_layer=6, n_positions=POSITIONS, bos_token_id=end, eos_token_id=end, pad_token_id=end)
    GPT2LMHeadModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
