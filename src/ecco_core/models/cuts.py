"""Where a forward's graph may be cut in two: at the head, and at the last block's attention."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import nn

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Place
from ecco_core.models.gradients import CHUNK, Cut
from ecco_core.models.hooks import hooked


class _Known(Exception):  # noqa: N818 - it ends a forward, and is no error
    """What follows in a forward is known."""


@attrs.define
class Cuts:
    """Hooks on a forward: only the targets' rows enter the head and, with `split`, the graph is cut.

    What follows the last attention treats each position by itself, so it is passed backwards once for all targets.
    That is not taken on trust: gradients past the cut to the inputs, or at any row but the target's own, forbid it;
    targets weighted differently tell gradients at each other's rows.
    A model whose head does not see one tensor ``(variant · batch, token, unit)`` exactly once is left as it is.

    Attributes:
        rows, which: ``(target,)``, the row of each target, and the variant that it is in.
        deep: what enters the last block, and the output projection of its attention; none if it is not to be cut there.
        known: the gradients of each cut, from the head to the inputs; the forward ends at the first of them, then.
    """

    model: Any
    rows: torch.Tensor
    which: torch.Tensor
    variants: int
    batch: int
    length: int
    split: bool
    deep: Sequence[Place] = ()
    known: Sequence[torch.Tensor] = ()
    applied: bool = False
    _ends: list[tuple[torch.Tensor, torch.Tensor]] = attrs.field(factory=list)  # (before, after) each cut
    _head: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None  # all that enters it; the rows, cut in two

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Hook the head, and the last block, for the time of the block."""
        head = self.model.get_output_embeddings() if hasattr(self.model, "get_output_embeddings") else None
        with contextlib.ExitStack() as scope:
            scope.enter_context(contextlib.suppress(_Known))
            if isinstance(head, nn.Module):
                scope.enter_context(hooked(Place(head, "input"), self._at_head))
                for place in self.deep if self.split and torch.is_grad_enabled() else ():
                    scope.enter_context(hooked(place, self._cut))
            yield

    def chosen(self, tensor: torch.Tensor) -> torch.Tensor:
        """The targets' rows ``(batch, target, unit)`` of ``(variant · batch, token, unit)``."""
        apart = tensor.view(self.variants, self.batch, *tensor.shape[1:])
        return apart[self.which.to(tensor.device), :, self.rows.to(tensor.device)].transpose(0, 1)

    def _fits(self, tensor: torch.Tensor) -> bool:
        return tensor.ndim == 3 and tensor.shape[:2] == (self.variants * self.batch, self.length)

    def _cut(self, tensor: torch.Tensor) -> torch.Tensor | None:
        if not self._fits(tensor) or not tensor.requires_grad:
            return None
        self._ends.append((tensor, tensor.detach().requires_grad_()))
        if len(self._ends) == len(self.deep) and self.known:
            raise _Known
        return self._ends[-1][1] * 1  # a model that adds in place must not change a leaf

    def _at_head(self, hidden: torch.Tensor) -> torch.Tensor | None:
        if self.applied:
            raise ArchitectureError(f"{type(self.model).__name__} uses its head more than once in one forward.")
        if not self._fits(hidden):
            return None
        self.applied = True
        rows = self.chosen(hidden)
        if not (self.split and torch.is_grad_enabled()):
            return rows
        self._head = (hidden, rows, rows.detach().requires_grad_())
        if self.known:
            raise _Known
        return self._head[2]

    def done(self, scores: torch.Tensor, inputs: Sequence[torch.Tensor]) -> tuple[Cut, ...] | None:
        """The cuts, with the gradients of ``scores`` ``(batch, target)``; None if it must not be cut so deep."""
        ends = self._ends[::-1]
        if self.known:
            roots = [self._head[0]] if self._head else [root for root, _ in ends]
            starts = [*(start for _, start in ends[1:]), None]
            return tuple(Cut(*cut) for cut in zip(roots, self.known, starts, strict=True))
        if self._head is None or (self.deep and len(ends) != len(self.deep)):
            return None if self.deep else ()
        hidden, rows, leaf = self._head
        (of_head,) = torch.autograd.grad(scores.sum(), leaf)
        if not self.deep:
            return (Cut(hidden, of_head),)
        weights = torch.pow(0.5, torch.arange(len(self.rows)) % CHUNK)[:, None].to(of_head)  # tell neighbours apart
        wanted = [*(end for _, end in ends), *inputs]
        found, weighted = (
            torch.autograd.grad(rows, wanted, of_head * w, retain_graph=True, allow_unused=True) for w in (1, weights)
        )
        cuts = []
        for n, (root, _) in enumerate(ends):
            own, other = found[n], weighted[n]
            if own is None or other is None or own.count_nonzero() > self.chosen(own).count_nonzero():
                return None
            alone = self.chosen(own) * weights.to(own)
            if not bool(alone.isfinite().all()) or not torch.allclose(
                self.chosen(other), alone, rtol=1e-3, atol=1e-6 * float(alone.abs().max())
            ):
                return None
            cuts.append(Cut(root, self.chosen(own), start=ends[n + 1][1] if n + 1 < len(ends) else None))
        return None if any(past is not None for past in found[len(ends) :]) else tuple(cuts)
