"""Activations as functions of each number by itself, which a method may compute in its own way."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

#: Activations of transformers and torch that treat each number by itself, as most models have them.
BY_ELEMENT = ("FastGELUActivation", "GELU", "GELUActivation", "GELUTanh", "Mish", "NewGELUActivation",
              "QuickGELUActivation", "SiLU", "SiLUActivation", "Tanh")  # fmt: skip


_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


@contextlib.contextmanager
def each_activation(model: Any, compute: Callable[[Callable[..., torch.Tensor], torch.Tensor], Any]) -> Iterator[None]:
    """Have ``compute(function, tensor)`` do the work of each of a model's activations in the block.

    GPT-2's GELU, which transformers writes out in eight operations, is torch's one then: the same function. Other
    threads that want the same of this model wait.
    """
    homes = ("transformers.activations", "torch.nn.modules.activation")
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        found = [m for m in model.modules() if type(m).__name__ in BY_ELEMENT and type(m).__module__ in homes]
        found = [module for module in found if "forward" not in vars(module)]
        try:
            for module in found:
                module.forward = functools.partial(compute, _function(module))
            yield
        finally:
            for module in found:
                vars(module).pop("forward", None)


def _function(module: Any) -> Callable[..., torch.Tensor]:
    """What an activation computes, leaving alone what it computes it of."""
    if type(module).__name__ == "NewGELUActivation":
        return functools.partial(torch.nn.functional.gelu, approximate="tanh")
    forward: Callable[..., torch.Tensor] = module.forward
    return (lambda tensor: forward(tensor.clone())) if getattr(module, "inplace", False) else forward
