"""Read and replace queries, keys, values and attention patterns, whatever kernel a model runs with.

transformers lets a model call an attention function by name. Ours calls the eager function of the model's own module,
which has the architecture's sinks, caps and position biases, and shows its parts to whoever watches that module. The
model is switched to it by name for the time of a block, and back.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from ecco_core.errors import ArchitectureError

Change = Callable[[torch.Tensor], "torch.Tensor | None"]
NAME = "ecco"

_WATCHED: weakref.WeakKeyDictionary[nn.Module, dict[str, list[Change]]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def watched(attention: nn.Module, part: str, change: Change) -> Iterator[None]:
    """Call `change` with a part of an attention at each pass; what it returns, if not None, takes its place.

    Args:
        part: ``q`` ``(batch, head, token, unit)``; ``k`` or ``v``, the same with the model's own number of key-value
            heads; or ``pattern`` ``(batch, head, query, key)``.
    """
    changes = _WATCHED.setdefault(attention, {}).setdefault(part, [])
    changes.append(change)
    try:
        yield
    finally:
        changes.remove(change)


def routable(attention: nn.Module) -> bool:
    """Whether an attention module calls transformers' attention interface, where its parts can be read."""
    return hasattr(sys.modules.get(type(attention).__module__), "ALL_ATTENTION_FUNCTIONS")


@contextlib.contextmanager
def attending(model: Any) -> Iterator[None]:
    """Have the model compute its attention where it can be watched, for the time of the block.

    One without routable attention is switched to "eager": under another kernel, some (Falcon) report wrong patterns,
    and compute wrong states on the way.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["eager"])
    parts = {id(m.config): m for m in model.modules() if hasattr(m, "set_attn_implementation")}
    before = [(part, part.config._attn_implementation) for part in parts.values()]
    routed = any(map(routable, model.modules()))
    try:
        for part in [model, *parts.values()] if routed else []:  # transformers before 5.20 leaves T5's stacks out
            part.set_attn_implementation(NAME)
        for part, name in before:
            if not routed and name == "sdpa":  # one that transformers does not switch looks into its config
                part.config._attn_implementation = "eager"
        yield
    finally:
        for part, name in before:
            if part.config._attn_implementation != name and routed:
                part.set_attn_implementation(name)
            part.config._attn_implementation = name


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The eager attention of the module's own architecture; returns ``(batch, token, head, unit)`` and the pattern.

    Keys that the mask forbids, later ones and padding, stay without weight in a changed pattern.
    """
    watch = _WATCHED.get(module, {})
    query, key, value = (_changed(watch, part, t) for part, t in (("q", query), ("k", key), ("v", value)))
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise ArchitectureError(f"{type(module).__name__} keeps no eager attention; its pattern cannot be read.")
    output, pattern = eager(module, query, key, value, attention_mask, **options)
    new = _changed(watch, "pattern", pattern)
    if new is pattern:
        return output, pattern
    if attention_mask is not None:
        new = new.masked_fill(attention_mask[..., : new.shape[-1]] < torch.finfo(attention_mask.dtype).min / 2, 0)
    return mixed(new, value), new


def _changed(watch: dict[str, list[Change]], part: str, tensor: torch.Tensor) -> torch.Tensor:
    for change in watch.get(part, ()):
        new = change(tensor)
        tensor = tensor if new is None else new
    return tensor


def mixed(pattern: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Values mixed by a pattern: ``(batch, query, head, unit)``; each key-value head serves a group of query heads."""
    heads, groups = pattern.shape[1], value.shape[1]
    value = value.repeat_interleave(heads // groups, dim=1) if heads != groups else value
    return (pattern.to(value.dtype) @ value).transpose(1, 2).contiguous()
