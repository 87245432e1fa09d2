"""The same work in Inseq. python run_inseq.py MODEL"""

from __future__ import annotations

import functools
import sys
from typing import Any

import inseq
from serve import Work, serve

METHODS = {
    "input_x_gradient": "input_x_gradient",
    "saliency": "saliency",
    "integrated_gradients": "integrated_gradients",
    "occlusion": "occlusion",
    "deep_lift": "deeplift",
}


def works(folder: str) -> dict[str, Work]:
    """Name -> work."""
    models: dict[str, Any] = {}

    def attribute(method: str, prompt: str, text: str, **options: Any) -> tuple[list[int], dict[str, Any]]:
        if method not in models:
            models.clear()
            models[method] = inseq.load_model(folder, method, device="cpu")
        silent = {"show_progress": False, "pretty_progress": False}
        out = models[method].attribute(prompt, text, device="cpu", **silent, **options)
        found = out.sequence_attributions[0]
        rows = found.target_attributions.nan_to_num().transpose(0, 1)[:, :-1].float()  # NaN: not seen
        ids = [token.id for token in found.target]
        if rows.ndim == 2:  # occlusion's magnitudes: one per token
            return ids, {"magnitude": rows}
        return ids, {"sum": rows.sum(-1), "l2": rows.norm(dim=-1)}

    return {name: functools.partial(attribute, method) for name, method in METHODS.items()}


if __name__ == "__main__":
    serve(works(sys.argv[1]))
