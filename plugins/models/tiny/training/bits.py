"""Bits per character of a language model on whole held-out files."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONTEXT = 512


@dataclass(frozen=True)
class Bits:
    """A measurement: bits per character and per token, and how many of both were scored."""

    per_character: float
    per_token: float
    characters: int
    tokens: int
    stride: int


def window_nats(model: PreTrainedModel, tokens: list[int], start: int, score_from: int) -> tuple[float, int]:
    """Return the summed loss of the targets in one window, without those before `score_from`."""
    window = torch.tensor(tokens[start : start + CONTEXT + 1])
    with torch.inference_mode():
        logits = model(window[None, :-1], use_cache=False).logits[0]
    losses = functional.cross_entropy(logits.float(), window[1:], reduction="none")[score_from - start :]
    return float(losses.double().sum()), len(losses)


def bits_per_character(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], stride: int
) -> Bits:
    """Return the bits per character over all texts, every token of every text scored once.

    A text is preceded by `<|endoftext|>`.  Windows of 512 inputs move on by `stride`: with 256 every token
    but those of a file's first window is predicted from 256 to 512 tokens; with 512 the windows touch
    without overlap, and a token is predicted from what its own window holds before it.
    """
    nats, scored = 0.0, 0
    for text in texts:
        tokens = [tokenizer.bos_token_id, *tokenizer(text, verbose=False)["input_ids"]]
        start, done = 0, 0
        while done < len(tokens) - 1:
            loss, count = window_nats(model, tokens, start, done)
            nats, scored, done = nats + loss, scored + count, done + count
            start += stride
    characters = sum(len(text) for text in texts)
    return Bits(nats / math.log(2) / characters, nats / math.log(2) / scored, characters, scored, stride)
