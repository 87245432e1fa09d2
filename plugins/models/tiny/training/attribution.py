"""Integrated gradients over the token embeddings of a GPT-2 model, written out without any library."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

STEPS = 50
TARGETS = ("logprob", "logit")
BASELINES = ("endoftext", "mean")


@dataclass(frozen=True)
class Attribution:
    """Signed scores of the source tokens for one target, and how far their sum is from the difference."""

    scores: Tensor
    difference: float
    gap: float


def baseline_embeddings(model: GPT2LMHeadModel, baseline: str, length: int) -> Tensor:
    """Return the baseline: the embedding of `<|endoftext|>`, or the mean of all, at every position."""
    table = model.transformer.wte.weight.detach()
    row = table[0] if baseline == "endoftext" else table.mean(dim=0)
    return row.expand(length, -1)


def target_values(model: GPT2LMHeadModel, embeddings: Tensor, answer: int) -> dict[str, Tensor]:
    """Return the answer's logit and log-probability at the last position, for a batch of embeddings."""
    hidden = model.transformer(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1]
    logits = model.lm_head(hidden)
    return {"logprob": logits.log_softmax(-1)[:, answer], "logit": logits[:, answer]}


def integrated_gradients(
    model: GPT2LMHeadModel, tokens: list[int], answer: int, baseline: str
) -> dict[str, Attribution]:
    """Return the integrated gradients of both targets with `STEPS` Gauss-Legendre points on the straight path.

    Only what `wte` gives moves from the baseline to the input; the position embeddings stay as they are.
    """
    inputs = model.transformer.wte(torch.tensor(tokens)).detach()
    base = baseline_embeddings(model, baseline, len(tokens))
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    points = torch.tensor((nodes + 1) / 2, dtype=inputs.dtype)[:, None, None]
    shares = torch.tensor(weights / 2, dtype=inputs.dtype)[:, None, None]
    path = (base + points * (inputs - base)).requires_grad_()
    values = target_values(model, path, answer)
    with torch.inference_mode():
        ends = target_values(model, torch.stack([base, inputs]), answer)
    results = {}
    for target in TARGETS:
        (gradients,) = torch.autograd.grad(values[target].sum(), path, retain_graph=True)
        scores = ((shares * gradients).sum(0) * (inputs - base)).sum(-1)
        difference = float(ends[target][1] - ends[target][0])
        results[target] = Attribution(scores, difference, float(scores.sum()) - difference)
    return results
