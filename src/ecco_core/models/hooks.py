"""Read and replace what flows through modules, for the time of a ``with`` block only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ecco_core import guard
from ecco_core.errors import ArchitectureError
from ecco_core.interrupts import patient
from ecco_core.models.architecture import Place
from ecco_core.models.attention import Change, watched


@contextlib.contextmanager
def hooked(place: Place, change: Change, *, first: bool = False) -> Iterator[None]:
    """Call `change` with the tensor at `place` at each pass; what it returns, if not None, takes its place.

    A place inside of the attention is passed only while the model is `attending`. The hook is gone when the block
    ends, also after an error or an interrupt.

    Args:
        first: have it called before the hooks that are there.
    """
    with contextlib.ExitStack() as scope:
        change = _at_call(place, _scaled(change, place.scale), scope)
        if place.side in ("input", "output"):
            scope.callback((_on_input if place.side == "input" else _on_output)(place.module, change, first).remove)
        else:
            scope.enter_context(watched(place.module, place.side, change))
        yield


def _scaled(change: Change, scale: float) -> Change:
    """The same change of what is multiplied by `scale` afterwards; what it leaves alone stays bit-identical."""
    if scale == 1:
        return change

    def scaled(tensor: torch.Tensor) -> torch.Tensor | None:
        seen = tensor * scale
        new = change(seen)
        if new is None or new.requires_grad:  # what a gradient is taken of takes the tensor's place for good
            return None if new is None else new / scale
        return torch.where(new == seen, tensor, new / scale)

    return scaled


def _at_call(place: Place, change: Change, scope: contextlib.ExitStack) -> Change:
    """The same change at one of the calls of a module that several layers share."""
    if place.call is None:
        return change
    wanted, owner = place.call
    calls: list[None] = []  # those of the forward that runs

    def at_call(tensor: torch.Tensor) -> torch.Tensor | None:
        calls.append(None)
        return change(tensor) if len(calls) == wanted + 1 else None

    scope.callback(owner.register_forward_pre_hook(lambda *_: calls.clear()).remove)
    return at_call


def _on_input(module: nn.Module, change: Change, first: bool) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and isinstance(args[0], torch.Tensor):
            return None if (new := change(args[0])) is None else ((new, *args[1:]), kwargs)
        name = next((n for n, v in kwargs.items() if isinstance(v, torch.Tensor)), None)
        if name is None:
            raise ArchitectureError(f"No tensor enters {type(module).__name__}; its site cannot be read.")
        new = change(kwargs[name])
        return None if new is None else (args, {**kwargs, name: new})

    return module.register_forward_pre_hook(hook, with_kwargs=True, prepend=first)


def _on_output(module: nn.Module, change: Change, first: bool) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        name: Any = 0
        if isinstance(output, Mapping):  # such as a whole model's, with a loss before its logits if labels were given
            name = "logits" if "logits" in output else next(iter(output))
        tensor = output if isinstance(output, torch.Tensor) else output[name]
        if not isinstance(tensor, torch.Tensor):
            raise ArchitectureError(f"No tensor leaves {type(module).__name__} first; its site cannot be read.")
        new = change(tensor)
        if new is None or isinstance(output, torch.Tensor):
            return new
        if isinstance(output, Mapping):
            return type(output)(**{**output, name: new})
        return [new, *output[1:]] if isinstance(output, list) else (new, *output[1:])

    return module.register_forward_hook(hook, prepend=first)


def state_of(model: nn.Module) -> str:
    """Tell the state of a model's weights: it differs after an edit, also of ``.data`` (64 numbers are seen)."""
    found = []
    for tensor in (*model.parameters(), *model.buffers()):
        version = 0 if tensor.is_inference() else tensor._version
        some = tensor.detach().flatten()[:: max(1, tensor.numel() // 64)] if tensor.is_contiguous() else tensor[:1]
        look = "" if tensor.is_meta else some.double().sum().item()
        found.append(f"{tensor.data_ptr()} {tensor.dtype} {version} {look}")
    return " ".join(found)


_LOCKS_LOCK = threading.Lock()


@contextlib.contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Keep other threads' calls of ours from the model for the block: hooks are seen by whoever runs it."""
    with guard.lock_of(model), patient():
        yield


_EAGER: list[Any] = []  # one entry for each block, in whichever thread


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Run what torch.compile made as it was written for the block: compiled code does not see hooks that come later."""
    with _LOCKS_LOCK:
        _EAGER.append(None if _EAGER else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _LOCKS_LOCK:
            if (stance := _EAGER.pop()) is not None:  # the last block ends
                stance.__exit__(None, None, None)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have the model alone, uncompiled, in evaluation mode for the block; give each module its own mode back after."""
    with alone(model), uncompiled():
        training = [module for module in model.modules() if module.training]
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True
