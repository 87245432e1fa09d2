"""Read sites of a model in one forward pass, of one sequence or of several together."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Architecture
from ecco_core.models.attention import Change, attending, routable
from ecco_core.models.feed import Feed
from ecco_core.models.hooks import evaluating, hooked
from ecco_core.registry.structure import ATTENTION_SITES, CROSS_ATTENTION_SITES, OUTSIDE_BLOCKS

#: (stack, site, layer); the layer of a site outside of the blocks is None.
Key = tuple[str, str, "int | None"]
_INSIDE_ATTENTION = (*ATTENTION_SITES, *CROSS_ATTENTION_SITES)


def read(
    model: nn.Module,
    architecture: Architecture,
    feed: Feed,
    keys: Sequence[Key],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> list[dict[Key, torch.Tensor]]:
    """Read sites in ONE forward pass; neither the head nor what it needs is computed unless ``logits`` are asked for.

    Args:
        keys: what to read. `device`, `dtype`: what to read it to; the model's own if left out.

    Returns:
        One dict per sequence, without padding: key -> detached tensor ``(token, unit)``; ``(token, head, unit)`` for
        ``q``, ``k`` and ``v`` (keys and values have the model's own number of key-value heads);
        ``(head, query, key)`` for ``pattern``.

    Raises:
        OptionError: no such site or layer. ArchitectureError: a site is not passed in this forward.
    """
    keys = list(dict.fromkeys((s, site, None if site in OUTSIDE_BLOCKS else layer) for s, site, layer in keys))
    found: dict[Key, torch.Tensor] = {}

    def to(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(device=device, dtype=dtype, copy=True)

    def keep(key: Key) -> Change:
        def change(tensor: torch.Tensor) -> None:
            if key in found:
                raise ArchitectureError(f"{key[1]} of layer {key[2]} is passed more than once in one forward.")
            found[key] = to(tensor)

        return change

    reported = [key for key in keys if _is_reported(architecture, key)]
    extra = {"output_attentions": True} if reported else {}
    with contextlib.ExitStack() as scope:
        scope.enter_context(evaluating(model))
        scope.enter_context(torch.inference_mode(False))
        scope.enter_context(torch.no_grad())
        if any(site in _INSIDE_ATTENTION for _, site, _ in keys):
            scope.enter_context(attending(model))
        for key in keys:
            stack, site, layer = key
            place = architecture.place(site, layer, stack)
            if site != "logits" and key not in reported:
                scope.enter_context(hooked(place, keep(key)))
        runner = _runner(model, architecture, feed, keys)
        output = runner(**feed.arguments(), **without_cache(runner), **extra, return_dict=True)
    for key in keys:
        if key[1] == "logits":
            found[key] = to(output.logits)
    found |= {key: to(tensor) for key, tensor in _reports(architecture, output, reported).items()}
    missed = next((key for key in keys if key not in found), None)
    if missed:
        raise ArchitectureError(
            f"The site {missed[1]!r} of layer {missed[2]} is not part of this model's forward pass."
        )
    rows = {key: as_tokens(tensor, key[1], feed, key[0]) for key, tensor in found.items()}
    return [{key: _cut(rows[key], key[1], feed, key[0], n) for key in keys} for n in range(len(feed))]


def without_cache(model: nn.Module) -> dict[str, bool]:
    """The argument that keeps a forward from making a cache, of a model that has one."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def _runner(model: Any, architecture: Architecture, feed: Feed, keys: Sequence[Key]) -> Any:
    """The model, or its body where that is enough."""
    whole = any(site == "logits" for _, site, _ in keys) or len(architecture.stacks) > len(feed.ids)
    return model if whole else getattr(model, "base_model", model)


def _is_reported(architecture: Architecture, key: Key) -> bool:
    """Whether a pattern is to be had from the model's ``output_attentions`` only."""
    stack, site, layer = key
    if not site.endswith("pattern") or site not in architecture.sites(stack) or layer is None:
        return False
    attention = architecture.attention(layer, stack, cross=site.startswith("cross_")) if layer >= 0 else None
    return attention is not None and not routable(attention)


def _reports(architecture: Architecture, output: Any, keys: Sequence[Key]) -> dict[Key, torch.Tensor]:
    """Patterns ``(batch, head, query, key)`` as the model itself reports them, by layer."""
    found = {}
    for key in keys:
        stack, site, layer = key
        name = "cross_attentions" if site.startswith("cross_") else f"{stack}_attentions"
        told = getattr(output, name, None) or getattr(output, "attentions", None)
        layers = architecture.layers_with(site, stack)
        if not told or len(told) != len(layers) or told[layers.index(layer or 0)] is None:
            name = type(architecture.model).__name__
            raise ArchitectureError(f"{name} reports no attention patterns; load it with attn_implementation='eager'.")
        found[key] = told[layers.index(layer or 0)]
    return found


def as_tokens(tensor: torch.Tensor, site: str, feed: Feed, stack: str) -> torch.Tensor:
    """Bring what was read to ``(sequence, token, …)``; patterns stay ``(sequence, head, query, key)``."""
    if site.endswith("pattern"):
        return tensor
    if site in _INSIDE_ATTENTION:
        return tensor.transpose(1, 2)
    if stack not in feed.ids or (tensor.shape[0] == len(feed) and tensor.ndim == 2 and site == "logits"):
        return tensor
    batch, tokens = feed.ids[stack].shape
    if tensor.shape[:2] == (batch, tokens) or tensor.shape[0] == batch * tokens:  # OPT's neurons, routers
        return tensor.reshape(batch, tokens, -1)
    raise ArchitectureError(
        f"What is read as {site} has the shape {tuple(tensor.shape)}; expected {batch} × {tokens} tokens along it."
    )


def _cut(tensor: torch.Tensor, site: str, feed: Feed, stack: str, n: int) -> torch.Tensor:
    """One sequence without its padding; a copy where something is cut away, so that no more is kept than asked for."""
    row, lengths = tensor[n], {stack: of_stack[n] for stack, of_stack in feed.lengths.items()}
    if site.endswith("pattern"):
        row = row[:, : lengths.get(stack), : lengths.get("encoder" if site.startswith("cross_") else stack)]
    elif row.ndim > 1:
        row = row[: lengths.get("encoder" if site in ("cross_k", "cross_v") else stack)]
    return row if row.numel() == tensor.numel() else row.clone()
