"""Activations as functions of each number by itself, which a method may compute in its own way."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

#: Activations of transformers and torch that treat each number by itself, as most models have them.
BY_ELEMENT = ("FastGELUActivation", "GELU", "GELUActivation", "GELUTanh", "Mish", "NewGELUActivation",
              "QuickGELUActivation", "SiLU", "SiLUActivation", "Tanh")  # fmt: skip


@contextlib.contextmanager
def each_activation(model: Any, compute: Callable[[Callable[..., torch.Tensor], torch.Tensor], Any]) -> Iterator[None]:
    """Have ``compute(function, tensor)`` do the work of each of a model's activations in the block.

    GPT-2's GELU, which transformers writes out in eight operations, is torch's one then: the same function.
    """
    homes = ("transformers.activations", "torch.nn.modules.activation")
    found = [m for m in model.modules() if type(m).__name__ in BY_ELEMENT and type(m).__module__ in homes]
    found = [module for module in found if "forward" not in vars(module)]
    one = functools.partial(torch.nn.functional.gelu, approximate="tanh")
    try:
        for module in found:
            function = one if type(module).__name__ == "NewGELUActivation" else module.forward
            module.forward = functools.partial(compute, function)
        yield
    finally:
        for module in found:
            vars(module).pop("forward", None)
