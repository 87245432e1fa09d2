"""Read sites of a model in one forward pass, of one sequence or of several together."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Architecture
from ecco_core.models.attention import attending, routable
from ecco_core.models.feed import Feed
from ecco_core.models.hooks import evaluating, hooked
from ecco_core.registry.structure import INSIDE_ATTENTION, OUTSIDE_BLOCKS, base_of

#: (stack, site, layer); the layer of a site outside of the blocks is None.
Key = tuple[str, str, "int | None"]


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
    places = {(stack, site, layer): architecture.place(site, layer, stack) for stack, site, layer in keys}
    logits = [key for key in keys if key[1] == "logits"]
    reported = [key for key, place in places.items() if place.side == "pattern" and not routable(place.module)]
    extra = {"output_attentions": True} if reported else {}
    found: dict[Key, torch.Tensor] = {}

    def keep(key: Key, tensor: torch.Tensor) -> None:
        if key in found:
            raise ArchitectureError(f"{key[1]} of layer {key[2]} is passed more than once in one forward.")
        found[key] = tensor.detach().to(device=device, dtype=dtype, copy=True)

    with evaluating(model), torch.inference_mode(False), torch.no_grad(), contextlib.ExitStack() as scope:
        if any(site in INSIDE_ATTENTION for _, site, _ in keys):
            scope.enter_context(attending(model))
        for key, place in places.items():
            if key not in (*logits, *reported):
                scope.enter_context(hooked(place, functools.partial(keep, key)))
        whole = bool(logits) or len(architecture.stacks) > len(feed.ids)
        runner: Any = model if whole else base_of(model)
        if runner is base_of(model) and set(feed.ids) == {"encoder"} and len(architecture.stacks) > 1:
            runner = runner.get_encoder()  # a bare T5 runs no decoder without an answer
        output = runner(**feed.arguments(), **without_cache(runner), **extra, return_dict=True)
    for key in logits:
        keep(key, output.logits)
    for key in reported:
        keep(key, _reported(architecture, output, *key))
    for _, site, layer in (key for key in keys if key not in found):
        raise ArchitectureError(f"The site {site!r} of layer {layer} is not part of this model's forward pass.")
    rows = {key: as_tokens(tensor, key[1], feed, key[0]) for key, tensor in found.items()}
    return [{key: _cut(rows[key], key[1], feed, key[0], n) for key in keys} for n in range(len(feed))]


def without_cache(model: nn.Module) -> dict[str, bool]:
    """The argument that keeps a forward from making a cache, of a model that has one."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def _reported(architecture: Architecture, output: Any, stack: str, site: str, layer: int | None) -> torch.Tensor:
    """The pattern ``(batch, head, query, key)`` of a layer as the model itself reports it."""
    name = "cross_attentions" if site.startswith("cross_") else f"{stack}_attentions"
    patterns = getattr(output, name, None) or getattr(output, "attentions", None) or ()
    layers = architecture.layers_with(site, stack)
    pattern: torch.Tensor | None = patterns[layers.index(layer)] if len(patterns) == len(layers) else None
    if pattern is None:
        name = type(architecture.model).__name__
        raise ArchitectureError(f"{name} reports no attention patterns; load it with attn_implementation='eager'.")
    return pattern


def as_tokens(tensor: torch.Tensor, site: str, feed: Feed, stack: str) -> torch.Tensor:
    """Bring what was read to ``(sequence, token, …)``; patterns stay ``(sequence, head, query, key)``."""
    if site.endswith("pattern"):
        return tensor
    if site in INSIDE_ATTENTION:
        return tensor.transpose(1, 2)
    if stack not in feed.ids or (tensor.shape[0] == len(feed) and tensor.ndim == 2 and site == "logits"):
        return tensor
    batch, tokens = feed.ids[stack].shape
    if tensor.shape[:2] == (batch, tokens) or tensor.shape[0] == batch * tokens:  # OPT's neurons, routers
        return tensor.reshape(batch, tokens, -1)
    raise ArchitectureError(f"{site} has the shape {tuple(tensor.shape)}; expected {batch} × {tokens} tokens along it.")


def _cut(tensor: torch.Tensor, site: str, feed: Feed, stack: str, n: int) -> torch.Tensor:
    """One sequence without its padding; a copy where something is cut away, so that no more is kept than asked for."""
    row, lengths = tensor[n], {stack: of_stack[n] for stack, of_stack in feed.lengths.items()}
    if site.endswith("pattern"):
        row = row[:, : lengths.get(stack), : lengths.get("encoder" if site.startswith("cross_") else stack)]
    elif row.ndim > 1:
        row = row[: lengths.get("encoder" if site in ("cross_k", "cross_v") else stack)]
    return row if row.numel() == tensor.numel() else row.clone()
