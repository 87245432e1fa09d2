"""Tensors that take the place of what passes in a forward: embeddings, or values inside of the model."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Place
from ecco_core.models.hooks import hooked


@contextlib.contextmanager
def replaced(model: nn.Module, tensors: Sequence[tuple[Place, str, torch.Tensor]], *, inside: bool) -> Iterator[None]:
    """Have tensors take the place of what passes in the forward of the block, before interventions see it.

    Raises:
        ArchitectureError: something does not pass exactly once or, `inside` of the model, lies token by token.
    """
    uses: Counter[str] = Counter()

    def put(what: str, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        uses[what] += 1
        placed = _laid_out(new, old)
        if placed.ndim == 3 and len(placed) != len(new) and inside:
            raise ArchitectureError(f"{type(model).__name__} lays out tokens before entries inside.")
        return placed * 1  # a model that edits its embeddings in place must not edit ours

    with contextlib.ExitStack() as scope:
        for place, what, tensor in tensors:
            scope.enter_context(hooked(place, functools.partial(put, what, tensor), first=True))
        yield
    for n, what in ((uses[what], what) for _, what, _ in tensors if uses[what] != 1):
        raise ArchitectureError(f"{type(model).__name__} passes its {what} {n} times in one forward, not once.")


def _laid_out(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """Return ``(batch, token, unit)`` in the layout of what it replaces, which is of the same tokens in each entry.

    OPT's neurons are ``(batch · token, unit)``, XLNet's embeddings ``(token, batch, unit)``.

    Raises:
        ArchitectureError: it is none of these.
    """
    swapped = new.transpose(0, 1)
    if old.ndim == 2 and old.numel() == new.numel():
        return new.flatten(0, 1)
    if old.shape == swapped.shape and (
        old.shape != new.shape or bool((old == old[:, :1]).all() > (old == old[:1]).all())
    ):
        return swapped
    if old.shape != new.shape:
        raise ArchitectureError(f"What passes here is {tuple(old.shape)}; its replacement is {tuple(new.shape)}.")
    return new


@contextlib.contextmanager
def embedded_again(module: nn.Module, ids: torch.Tensor, embeddings: torch.Tensor) -> Iterator[None]:
    """Put embeddings in where a decoder embeds the encoder's tokens, as they are or one place later."""
    seen: list[torch.Tensor] = []

    def change(embedded: torch.Tensor) -> torch.Tensor:
        given = seen[-1]
        if given.shape == ids.shape and bool((given == ids).all()):
            return embeddings * 1
        if given.shape == ids.shape and bool((given[:, 1:] == ids[:, :-1]).all()):
            return torch.cat([embedded[:, :1], embeddings[:, :-1]], 1)
        raise ArchitectureError("The decoder reads other tokens than the encoder; its inputs cannot be substituted.")

    with hooked(Place(module, "input"), seen.append), hooked(Place(module, "output"), change, first=True):
        yield
