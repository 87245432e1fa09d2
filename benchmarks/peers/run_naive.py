"""What people write without a library: per target one forward over its prefix, and one backward.

python run_naive.py MODEL
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from serve import Work, serve
from transformers import AutoModelForCausalLM, AutoTokenizer

Method = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def works(folder: str) -> dict[str, Work]:
    """Name -> work."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    embed = model.get_input_embeddings()

    def gradient(x: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Of a token's probability after the embeddings ``(batch, token, unit)``, of each entry of the batch."""
        leaf = x.detach().requires_grad_()
        score = model(inputs_embeds=leaf, use_cache=False).logits[:, -1].softmax(-1)[:, token].sum()
        return torch.autograd.grad(score, leaf)[0]

    def baseline(x: torch.Tensor) -> torch.Tensor:
        return embed.weight[tokenizer.unk_token_id].detach().expand_as(x)

    def each(method: Method, prompt: str, text: str) -> tuple[list[int], dict[str, torch.Tensor]]:
        """A method on every target: the sum and the L2 norm over units, ``(target, token)``; zero where unseen."""
        ids = tokenizer(text, return_tensors="pt").input_ids[0]
        start = len(tokenizer(prompt).input_ids)
        found = {name: torch.zeros(len(ids) - start, len(ids) - 1) for name in ("sum", "l2")}
        for row, position in enumerate(range(start, len(ids))):
            part = method(embed(ids[None, :position]).detach(), ids[position])[0]
            found["sum"][row, :position], found["l2"][row, :position] = part.sum(-1), part.norm(dim=-1)
        return ids.tolist(), found

    def saliency(prompt: str, text: str) -> Any:
        return each(gradient, prompt, text)

    def input_x_gradient(prompt: str, text: str) -> Any:
        return each(lambda x, token: gradient(x, token) * x, prompt, text)

    def gradient_x_difference(prompt: str, text: str) -> Any:
        """What DeepLift is where no module has a rule."""
        return each(lambda x, token: gradient(x, token) * (x - baseline(x)), prompt, text)

    def integrated_gradients(prompt: str, text: str, n_steps: int) -> Any:
        points, weights = np.polynomial.legendre.leggauss(n_steps)
        share = torch.tensor((1 + points) / 2, dtype=torch.float32)[:, None, None]
        weight = torch.tensor(weights / 2, dtype=torch.float32)[:, None, None]

        def along(x: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
            there = baseline(x)
            gradients = gradient(there + share * (x - there), token)
            return (gradients * weight).sum(0, keepdim=True) * (x - there)

        return each(along, prompt, text)

    methods = (saliency, input_x_gradient, gradient_x_difference, integrated_gradients)
    return {method.__name__: method for method in methods}


if __name__ == "__main__":
    serve(works(sys.argv[1]))
