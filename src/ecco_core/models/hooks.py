"""Read and replace what flows through modules, for the time of a ``with`` block only."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Place
from ecco_core.models.attention import Change, watched


@contextlib.contextmanager
def hooked(place: Place, change: Change) -> Iterator[None]:
    """Call `change` with the tensor at `place` at each pass; what it returns, if not None, takes its place.

    A place inside of the attention is passed only while the model is `attending`. The hook is gone when the block
    ends, also after an error or an interrupt.
    """
    change = _at_call(place, _scaled(change, place.scale))
    if place.side not in ("input", "output"):
        with watched(place.module, place.side, change):
            yield
        return
    handle = (_on_input if place.side == "input" else _on_output)(place.module, change)
    try:
        yield
    finally:
        handle.remove()


def _scaled(change: Change, scale: float) -> Change:
    """The same change of what is multiplied by `scale` afterwards; what it leaves alone stays bit-identical."""
    if scale == 1:
        return change

    def scaled(tensor: torch.Tensor) -> torch.Tensor | None:
        seen = tensor * scale
        new = change(seen)
        return None if new is None else torch.where(new == seen, tensor, new / scale)

    return scaled


def _at_call(place: Place, change: Change) -> Change:
    """The same change at one of the calls of a module that several layers share."""
    if place.call is None:
        return change
    wanted, calls = place.call
    count = -1

    def at_call(tensor: torch.Tensor) -> torch.Tensor | None:
        nonlocal count
        count += 1
        return change(tensor) if count % calls == wanted else None

    return at_call


def _on_input(module: nn.Module, change: Change) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and isinstance(args[0], torch.Tensor):
            new = change(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        name = next((n for n, v in kwargs.items() if isinstance(v, torch.Tensor)), None)
        if name is None:
            raise ArchitectureError(f"No tensor enters {type(module).__name__}; its site cannot be read.")
        new = change(kwargs[name])
        return None if new is None else (args, {**kwargs, name: new})

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def _on_output(module: nn.Module, change: Change) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        first = output if isinstance(output, torch.Tensor) else output[0]
        if not isinstance(first, torch.Tensor):
            raise ArchitectureError(f"No tensor leaves {type(module).__name__} first; its site cannot be read.")
        new = change(first)
        if new is None or isinstance(output, torch.Tensor):
            return new
        return [new, *output[1:]] if isinstance(output, list) else (new, *output[1:])

    return module.register_forward_hook(hook)


def state_of(model: nn.Module) -> str:
    """Tell the state of a model's weights: it differs after an edit, also of ``.data`` (64 numbers are seen)."""
    found = []
    for tensor in (*model.parameters(), *model.buffers()):
        version = 0 if tensor.is_inference() else tensor._version
        some = tensor.detach().flatten()[:: max(1, tensor.numel() // 64)] if tensor.is_contiguous() else tensor[:1]
        look = "" if tensor.is_meta else some.double().sum().item()
        found.append(f"{tensor.data_ptr()} {tensor.dtype} {version} {look}")
    return " ".join(found)


_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


@contextlib.contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Keep other threads' calls of ours from the model for the block: hooks are seen by whoever runs it."""
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        yield


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have the model alone and in evaluation mode for the block; put each module back to its own mode after it."""
    with alone(model):
        training = [module for module in model.modules() if module.training]
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True
