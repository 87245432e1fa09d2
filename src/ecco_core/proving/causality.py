"""Proof that a model is causal: what is predicted at a position does not depend on later tokens."""

from __future__ import annotations

import torch
from torch import nn

from ecco_core.errors import ArchitectureError
from ecco_core.models.hooks import evaluating
from ecco_core.models.scores import require_numbers


def require_causal(model: nn.Module, ids: torch.Tensor) -> None:
    """Prove on `ids` ``(token,)`` that what is predicted at a position does not depend on later tokens.

    Raises:
        ArchitectureError: it does, as in a masked language model, or the model returns no logits.
    """
    ids = ids if len(ids) > 1 else ids.repeat(2)  # one token has nothing earlier to compare
    other = ids.clone()
    other[-1] = (other[-1] + 1) % int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    pair = torch.stack([ids, other])
    with evaluating(model), torch.no_grad():
        output = model(input_ids=pair, attention_mask=torch.ones_like(pair), use_cache=False, return_dict=True)
    logits = getattr(output, "logits", None)
    if logits is None or logits.ndim != 3 or logits.shape[1] != len(ids):
        raise ArchitectureError(f"{type(model).__name__} returns no logits per token; give a causal language model.")
    require_numbers(logits, model)
    share = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    before = logits[:, :-1].float()
    if not torch.allclose(before[0], before[1], atol=share * float(before.abs().max()), rtol=share):
        raise ArchitectureError(
            f"{type(model).__name__} lets earlier positions see later tokens: it is not causal. If it was "
            "trained to fill masks, open its checkpoint with task='masked'."
        )
