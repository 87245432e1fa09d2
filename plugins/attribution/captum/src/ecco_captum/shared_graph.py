"""Let a Captum method explain many targets from shared forwards, by replacing its ``gradient_func``.

Captum calls ``gradient_func(forward, inputs, target)`` with one input per target. Here every target's input is the
same run, so the copies are recognised, the run is passed once, and core's many-target gradients answer for all.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ecco_captum.activations import each_activation
from ecco_core import EccoError, ScoreModule


class SharedGraph:
    """A replacement for the ``gradient_func`` of Captum's gradient methods, and what it saw.

    Args:
        scores: the targets. Give the method `expanded` inputs and ``target=None``.
        rounded: take matrix products in bfloat16; what blocks add to stays in float32.
        compared: the index of a target; only blocks are rounded then, and its gradients are found exactly, too.

    Attributes:
        values: scores ``(target,)`` of the last inputs it was called with, None before.
        exact: gradients per stack ``(step, token, unit)`` of the target that is compared.
    """

    def __init__(self, scores: ScoreModule, *, rounded: bool = False, compared: int | None = None) -> None:
        self.scores = scores
        self.rounded = rounded
        self.compared = compared
        self.values: torch.Tensor | None = None
        self.exact: tuple[torch.Tensor, ...] = ()

    def expanded(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return ``(1, token, unit)``, each, as one copy per target ``(target, token, unit)``, sharing memory."""
        return tuple(tensor.expand(len(self.scores.targets), -1, -1).requires_grad_() for tensor in tensors)

    def __call__(
        self,
        forward_fn: Any,
        inputs: tuple[torch.Tensor, ...],
        target_ind: Any = None,
        additional_forward_args: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, ...]:
        """Return the gradients of all targets.

        Args:
            inputs: per stack ``(step · target, token, unit)``, the targets' copies side by side within a step.

        Raises:
            EccoError: the copies differ, so that they cannot share a forward.
        """
        n = len(self.scores.targets)
        steps = [tensor.reshape(-1, n, *tensor.shape[1:]) for tensor in inputs]
        if not all(torch.equal(step, step[:, :1].expand_as(step)) for step in steps):
            raise EccoError("This Captum method changes each target's input in its own way; no graph can be shared.")
        at = [step[:, 0] for step in steps]
        # autocast keeps its copies of parameters, and of nothing else
        scope = in_bfloat16(inputs[0].device.type) if self.rounded else _Constant()
        with sloped(self.scores.model):
            if self.rounded and self.compared is not None:
                values, gradients, exact = self.scores.rounded_gradients(lambda: scope, self.compared, *at)
                self.exact = tuple(part[0] for part in exact)
            else:
                with scope:
                    values, gradients = self.scores.values_and_gradients(*at)
        self.values = values[-1]
        return tuple(g.transpose(0, 1).reshape(-1, *g.shape[2:]) for g in gradients)


@contextlib.contextmanager
def in_bfloat16(device: str) -> Iterator[None]:
    """Have matrix products take bfloat16; on a CPU also those of attention, whose fused kernel is slow in it."""
    with torch.autocast(device, dtype=torch.bfloat16), _unfused() if device == "cpu" else contextlib.nullcontext():
        yield


_UNFUSED_LOCK = threading.Lock()
_UNFUSED: list[Any] = []  # one entry for each block, in whichever thread; the first is what switches


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Compute attention in single operations of its inputs' dtype.

    torch's switches of this are for all threads: the first block that is entered sets them, the last puts them back.
    """
    with _UNFUSED_LOCK:
        scope = None if _UNFUSED else _switched()
        if scope is not None:
            scope.__enter__()
        _UNFUSED.append(scope)
    try:
        yield
    finally:
        with _UNFUSED_LOCK:
            if (scope := _UNFUSED.pop()) is not None:  # the last block ends
                scope.__exit__(None, None, None)


@contextlib.contextmanager
def _switched() -> Iterator[None]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    switch = torch.backends.cuda  # of a CPU's, too
    before: bool = switch.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    try:
        switch.allow_fp16_bf16_reduction_math_sdp(True)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        switch.allow_fp16_bf16_reduction_math_sdp(before)


#: Functions of a parameter that keep what they multiply it by, for the parameter's gradient.
_KEEPING = (torch.addmm, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.nn.functional.linear)


class _Constant(TorchFunctionMode):
    """In products, parameters count as constants, so that a forward keeps nothing for gradients of weights."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _KEEPING:
            args = tuple(arg.detach() if type(arg) is torch.nn.Parameter else arg for arg in args)
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def sloped(model: Any) -> Iterator[None]:
    """Have activations keep their slope in the forward: each target's backward multiplies by it and finds none anew."""
    with each_activation(model, _with_slope):
        yield


def _with_slope(function: Callable[[torch.Tensor], torch.Tensor], tensor: torch.Tensor) -> torch.Tensor:
    if not (torch.is_grad_enabled() and tensor.requires_grad):
        return function(tensor)
    found: torch.Tensor = _Sloped.apply(tensor, function)  # type: ignore[no-untyped-call]
    return found


class _Sloped(torch.autograd.Function):
    """A function of each number by itself, differentiated where it is computed."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        with torch.enable_grad():
            wide = torch.promote_types(tensor.dtype, torch.float32)
            inside = tensor.detach().to(wide).requires_grad_()
            value = function(inside)
        slope = torch.autograd.grad(value, inside, torch.ones_like(value))[0]
        ctx.save_for_backward(slope.to(tensor.dtype))  # a product of two dtypes would be copied twice
        return value.detach().to(tensor.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * ctx.saved_tensors[0], None
