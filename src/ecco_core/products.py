"""Matrix products in float32 on a processor, by the library that is fast there."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


def fast_products(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Compute products of this thread by oneDNN in the block, forwards and backwards, where it is known as faster.

    torch leaves products in float32 to MKL, which is made for Intel's processors; on AMD's, oneDNN, which torch has
    for narrower numbers, is 1.2 to 2.4 times faster (docs/benchmarks.md). Both round as float32 does.
    """
    plain = device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return _ByOneDNN() if plain and _onednn_is_faster() else contextlib.nullcontext()  # type: ignore[no-untyped-call]


class _ByOneDNN(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _PRODUCTS and not kwargs and all(tensor.dtype == torch.float32 for tensor in args):
            *bias, left, right = args
            if all(tensor.ndim == 1 for tensor in bias) and left.numel() and right.numel():
                return _linear(left, right.t(), *bias)
        return function(*args, **(kwargs or {}))


def _linear(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``left @ right.T + bias``."""
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return found


@functools.cache
def _onednn_is_faster() -> bool:
    """Whether the processor is AMD's and this torch has a product of oneDNN's for float32 that gives what mm gives."""
    told = Path("/proc/cpuinfo")
    with contextlib.suppress(AttributeError, RuntimeError, OSError, TypeError):
        name = told.read_text(errors="replace") if told.is_file() else os.environ.get("PROCESSOR_IDENTIFIER", "")
        left, right = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
        return "AuthenticAMD" in name and torch.equal(_linear(left, right), left @ right.T)
    return False
