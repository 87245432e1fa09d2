"""Read and replace what flows through modules, for the time of a ``with`` block only."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Architecture, Place
from ecco_core.models.structure import OUTSIDE_BLOCKS

Change = Callable[[torch.Tensor], "torch.Tensor | None"]


@contextlib.contextmanager
def hooked(place: Place, change: Change) -> Iterator[None]:
    """Call `change` with the tensor at `place` at each pass; what it returns, if not None, takes its place.

    The hook is gone when the block ends, also after an error or an interrupt.
    """
    handle = (_on_input if place.side == "input" else _on_output)(place.module, change)
    try:
        yield
    finally:
        handle.remove()


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
        return (new, *output[1:])

    return module.register_forward_hook(hook)


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


def read(
    model: nn.Module,
    architecture: Architecture,
    ids: torch.Tensor,
    places: Sequence[tuple[str, int | None]],
    stack: str = "decoder",
) -> dict[tuple[str, str, int | None], torch.Tensor]:
    """Read sites in ONE forward pass over the token ids of one sequence.

    The head is not computed unless ``logits`` are asked for.

    Args:
        ids: ``(token,)`` integers. `places`: (site, layer) pairs; the layer is None outside of the blocks.

    Returns:
        (stack, site, layer) -> tensor ``(token, unit)``, detached, in the model's dtype and on its device.

    Raises:
        OptionError: no such site or layer. ArchitectureError: a site was not passed in this forward.
    """
    found: dict[tuple[str, str, int | None], torch.Tensor] = {}

    def keep(key: tuple[str, str, int | None]) -> Change:
        def change(tensor: torch.Tensor) -> None:
            if key in found:
                raise ArchitectureError(f"{key[1]} of layer {key[2]} is passed more than once in one forward.")
            found[key] = tensor.detach().reshape(len(ids), -1).clone()

        return change

    runner = model if any(site == "logits" for site, _ in places) else getattr(model, "base_model", model)
    with contextlib.ExitStack() as scope:
        scope.enter_context(evaluating(model))
        scope.enter_context(torch.no_grad())
        for site, layer in places:
            key = (stack, site, None if site in OUTSIDE_BLOCKS else layer)
            if site != "logits":
                scope.enter_context(hooked(architecture.place(site, layer, stack), keep(key)))
        output = runner(input_ids=ids[None], use_cache=False, return_dict=True)
    if ("logits", None) in places:
        found[stack, "logits", None] = output.logits.detach()[0].clone()
    for site, layer in places:
        if (stack, site, None if site in OUTSIDE_BLOCKS else layer) not in found:
            raise ArchitectureError(f"The site {site!r} of layer {layer} is not part of this model's forward pass.")
    return found
