"""What stands for "no information" in a token's place, as an embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ecco_core import Context, ScoreModule, TargetError, did_you_mean

_NAMES = ("auto", "mean", "zero", "sample")
_SPECIAL = ("mask", "unk", "eos", "bos", "pad")
_AT_ONCE = 64  # embeddings: of larger pieces, glibc can leave holes of a hundred megabytes
_SMALL = 0.1  # of the vocabulary's median norm: below, an RMS norm blows the path's first steps up


def baseline(name: str, ctx: Context) -> tuple[tuple[torch.Tensor, ...], str]:
    """Return a baseline, per stack ``(1, token, unit)``, and what it is, in words.

    The token that every answer of an encoder-decoder starts from stays as it is: it tells nothing.

    Args:
        name: ``auto`` (the tokenizer's mask, unknown, end, begin or padding token, the first that has a proper
            embedding; else, of the tokens that have one, the nearest to the mean), ``mean`` (of all embeddings),
            ``zero``, ``sample`` (tokens drawn from the vocabulary), a token's text, or a text of as many tokens as
            the run has in its first stack (or as its targets can see of it).

    Raises:
        TargetError: the text is neither one token nor as many as the run has.
    """
    filled, described = _filled(name, ctx)
    if ctx.scores.transcript.task == "seq2seq":
        decoder = ctx.scores.stacks.index("decoder")
        here, there = ctx.scores.inputs()[decoder], filled[decoder]
        kept = torch.cat([here[:, :1], there[:, 1:].to(here)], 1)
        filled, described = (*filled[:decoder], kept, *filled[decoder + 1 :]), f"{described} but the answer's start"
    return filled, described


def _filled(name: str, ctx: Context) -> tuple[tuple[torch.Tensor, ...], str]:
    scores, tokenizer = ctx.scores, ctx.run.lm.tokenizer
    inputs = scores.inputs()
    if name == "zero":
        return tuple(map(torch.zeros_like, inputs)), "zero embedding"
    if name == "mean":
        means = [_mean(scores, stack) for stack in scores.stacks]
        return tuple(m.expand_as(t).contiguous() for m, t in zip(means, inputs)), "mean of all embeddings"
    if name == "sample":
        drawn = {s: torch.from_numpy(ctx.rng.integers(0, _size(scores, s), len(scores.ids[s]))) for s in scores.stacks}
        return tuple(
            scores.embed(drawn[s], s)[None] for s in scores.stacks
        ), "tokens drawn at random from the vocabulary"
    other = _text(name, scores, tokenizer)
    if other is not None:
        return other, f"the text {name!r}"
    token = _auto(scores, tokenizer) if name == "auto" else _token(name, ctx)
    text = tokenizer.convert_ids_to_tokens(token)
    filled = tuple(scores.embed(torch.full_like(scores.ids[stack], token), stack)[None] for stack in scores.stacks)
    return filled, f"token {text!r} in every place"


def _text(text: str, scores: ScoreModule, tokenizer: Any) -> tuple[torch.Tensor, ...] | None:
    """Embeddings of another text of as many tokens in the first stack, the other stack's own beside it."""
    first = scores.stacks[0]
    seen, whole = len(scores.ids[first]), len(scores.transcript.tokens[first])
    is_text = text and text not in _NAMES and text.encode(errors="ignore").decode() == text
    ids = tokenizer(text)["input_ids"] if is_text else []
    if len(ids) not in (seen, whole) or len(ids) == 1:
        return None
    return (scores.embed(torch.tensor(ids[:seen]), first)[None], *scores.inputs()[1:])


def _token(text: str, ctx: Context) -> int:
    """The id of a text that is one token."""
    n = len(ctx.scores.ids[ctx.scores.stacks[0]])
    try:
        return ctx.run.token_id(text, f"baseline ({', '.join(_NAMES)}, one token, or a text of {n} tokens)")
    except TargetError as error:
        near = did_you_mean(text.strip().lower(), _NAMES)
        if not near:
            raise
        raise TargetError(f"The baseline {text!r} is not one token.{near}") from error


def _vocabulary(scores: ScoreModule, stack: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and embeddings ``(token, unit)``, a few at a time: together they can be a large part of a model.

    What is kept of each is written into one tensor: small ones made in between would keep their memory apart.
    """
    size = _size(scores, stack)
    for start in range(0, size, _AT_ONCE):
        ids = torch.arange(start, min(start + _AT_ONCE, size))
        yield ids, scores.embed(ids, stack)


def _size(scores: ScoreModule, stack: str) -> int:
    return len(scores.embeddings[stack].weight)


def _mean(scores: ScoreModule, stack: str) -> torch.Tensor:
    """Mean of all embeddings ``(unit,)``."""
    total = scores.embed(torch.tensor([0]), stack)[0].double().zero_()
    for _, some in _vocabulary(scores, stack):
        total += some.sum(0, dtype=torch.float64)
    return (total / _size(scores, stack)).to(scores.embeddings[stack].weight.dtype)


def _norms(scores: ScoreModule, stack: str, origin: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Distance of each token's embedding from one ``(unit,)``, ``(vocabulary,)``."""
    found = scores.embed(torch.tensor([0]), stack).new_empty(_size(scores, stack))
    for where, some in _vocabulary(scores, stack):
        found[where] = (some - origin).norm(dim=-1)
    return found


def _auto(scores: ScoreModule, tokenizer: Any) -> int:
    stack = scores.stacks[0]
    norms = _norms(scores, stack)
    proper = norms > _SMALL * norms.median()
    for kind in _SPECIAL:
        token = getattr(tokenizer, f"{kind}_token_id", None)
        if isinstance(token, int) and token < len(norms) and proper[token]:
            return token
    distance = _norms(scores, stack, _mean(scores, stack))
    return int(distance.masked_fill(~proper, torch.inf).argmin())
