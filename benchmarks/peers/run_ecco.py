"""The same work in Ecco 0.1.2. python run_ecco.py MODEL

It has no forced text: what its model generates is replaced by the answer that is to be explained, which leaves the
time of generating out. It explains by L2 norms that add up to 1 for each target.
"""

from __future__ import annotations

import functools
import sys
from types import SimpleNamespace
from typing import Any

import ecco
import torch
from serve import Work, serve

METHODS = {"input_x_gradient": "grad_x_input", "saliency": "saliency", "integrated_gradients": "ig"}
CONFIG = {
    "embedding": "transformer.wte.weight",
    "type": "causal",
    "activations": [r"mlp\.c_proj"],
    "token_prefix": "\u0120",
    "partial_token_prefix": "",
}


class ForcedDecoderOnlyOutput(SimpleNamespace):
    """What `generate` returns; Ecco looks at the end of the class's name."""


def works(folder: str) -> dict[str, Work]:
    """Name -> work."""
    lm = ecco.from_pretrained(folder, model_config=CONFIG, verbose=False)
    lm.model.eval()
    scores = torch.zeros(1, lm.model.config.vocab_size)

    def attribute(method: str, prompt: str, text: str, n_steps: int = 50) -> tuple[list[int], dict[str, Any]]:
        assert n_steps == 50, "Ecco 0.1.2 takes Captum's default"
        ids = lm.tokenizer(text, return_tensors="pt").input_ids
        n = ids.shape[1] - len(lm.tokenizer(prompt).input_ids)
        lm.model.generate = lambda **_: ForcedDecoderOnlyOutput(sequences=ids, scores=(scores,) * n)
        out = lm.generate(prompt, generate=n, do_sample=False, attribution=[method])
        found = torch.zeros(n, ids.shape[1] - 1)
        for row, values in zip(found, out.attribution[method]):
            row[: len(values)] = torch.as_tensor(values)
        return out.token_ids[0].tolist(), {"normalised": found}

    return {name: functools.partial(attribute, method) for name, method in METHODS.items()}


if __name__ == "__main__":
    serve(works(sys.argv[1]))
