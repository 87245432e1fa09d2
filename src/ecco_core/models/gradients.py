"""Many targets, few forwards: gradients of all scores from shared graphs.

Targets are taken in parts that one forward serves (for a causal model: neighbouring rows, over the prefix that they can
see). Per part, the head's gradients of all targets come from one backward through the head, and the body's from batched
vector-Jacobian products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import attrs
import torch

CHUNK = 10  # targets per forward of a causal model: measured best of 5, 10, 17, 25 on two cores
BATCHED_ROWS = 800  # rows (cotangents × batch × tokens) at which a backward's matrix products are at full speed


@attrs.frozen
class Pass:
    """One forward: the scores and, if it was split, the two ends of the cut between body and head.

    Attributes:
        scores: ``(batch, target)``.
        hidden: ``(variant · batch, token, unit)``, the body's end, or None if the forward could not be split.
        leaf: ``(batch, target, unit)``, the head's beginning.
        which, rows: ``(target,)``, the variant and the position that each is read at.
    """

    scores: torch.Tensor
    hidden: torch.Tensor | None = None
    leaf: torch.Tensor | None = None
    which: torch.Tensor | None = None
    rows: torch.Tensor | None = None


class RunPart(Protocol):
    """A function that scores the targets at `places` from `embeddings`."""

    def __call__(self, embeddings: Sequence[torch.Tensor], places: torch.Tensor, *, split: bool) -> Pass:
        """Return the pass; with `split`, cut between body and head where the model allows it."""
        ...


def values_and_gradients(
    run_part: RunPart, parts: Sequence[torch.Tensor], embeddings: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return scores ``(batch, target)`` and, per stack, their gradients ``(target, batch, token, unit)``.

    Args:
        parts: indices of targets, together all of them; each is one forward.
        embeddings: per stack ``(batch, token, unit)``; the batch's entries are independent of each other.
    """
    n, first = sum(len(places) for places in parts), embeddings[0]
    values = first.new_zeros(len(first), n, dtype=torch.promote_types(first.dtype, torch.float32))
    gradients = tuple(tensor.new_zeros(n, *tensor.shape) for tensor in embeddings)
    with torch.inference_mode(False), torch.enable_grad():  # also inside of a user's no_grad or inference_mode
        for places in parts:
            leaves = [tensor.detach().clone().requires_grad_() for tensor in embeddings]
            done = run_part(leaves, places, split=True)
            values[:, places] = done.scores.detach().to(values.dtype)
            for which, of_stacks in _backward(done, leaves):
                for gradient, part in zip(gradients, of_stacks):
                    gradient[places[which]] = part.to(gradient.dtype)
    return values, gradients


def _backward(done: Pass, leaves: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
    """Yield (indices of targets in the pass, their gradients per stack ``(target, batch, token, unit)``)."""
    n, batch = done.scores.shape[1], len(leaves[0])
    if done.hidden is None or done.leaf is None or done.which is None or done.rows is None:
        for i in range(n):
            singles = torch.autograd.grad(
                done.scores[:, i].sum(), leaves, retain_graph=i < n - 1, materialize_grads=True, allow_unused=True
            )
            yield torch.tensor([i]), tuple(single[None] for single in singles)
        return
    root = done.hidden
    (head,) = torch.autograd.grad(done.scores.sum(), done.leaf)
    for which in torch.split(torch.arange(n, device=root.device), max(1, BATCHED_ROWS // root[..., 0].numel())):
        cotangents = root.new_zeros(len(which), *root.shape)
        apart = cotangents.view(len(which), -1, batch, *root.shape[1:])
        each = torch.arange(len(which), device=root.device)
        of_head = head[:, which.to(head.device)].transpose(0, 1).to(root)
        apart[each, done.which.to(root.device)[which], :, done.rows.to(root.device)[which]] = of_head
        yield which, _vector_jacobian(root, leaves, cotangents, last=int(which[-1]) == n - 1)


def _vector_jacobian(
    root: torch.Tensor, leaves: list[torch.Tensor], cotangents: torch.Tensor, last: bool
) -> tuple[torch.Tensor, ...]:
    """Return, per leaf, one gradient per cotangent; batched where the model's operations allow it."""
    if len(cotangents) > 1:
        try:
            return torch.autograd.grad(root, leaves, cotangents, is_grads_batched=True, retain_graph=True)
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                raise
    singles = [
        torch.autograd.grad(root, leaves, c, retain_graph=not (last and i == len(cotangents) - 1))
        for i, c in enumerate(cotangents)
    ]
    return tuple(torch.stack(of_leaf) for of_leaf in zip(*singles))
