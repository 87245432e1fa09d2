"""Many targets, few forwards: gradients of all scores from shared graphs.

Targets are taken in parts that one forward serves (for a causal model: neighbouring rows, over the prefix that they can
see). Per part, what lies between the last attention and the scores is passed backwards once for all targets, because
each has a row of its own there; the rest by batched vector-Jacobian products. When memory runs out, parts are halved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import attrs
import torch

from ecco_core.errors import halves, halving, out_of_memory
from ecco_core.products import fast_products

CHUNK = 17  # targets per forward of a causal model: measured best of 10, 13, 17, 25 on one core
BATCHED_ROWS = 400  # rows (cotangents × batch × tokens) of a backward: 800 are 3 % faster, and a tenth more memory


@attrs.frozen
class Cut:
    """A place where the graph was cut in two.

    Attributes:
        root: the end of the earlier part ``(variant · batch, token, unit)``.
        gradients: of each score with respect to what the later part began with, at its row ``(batch, target, unit)``.
        start: the beginning of the earlier part, if that is another cut and not the inputs.
    """

    root: torch.Tensor
    gradients: torch.Tensor
    start: torch.Tensor | None = None


@attrs.frozen
class Pass:
    """One forward: the scores and, if it was split, its cuts from the head to the inputs.

    Attributes:
        scores: ``(batch, target)``.
        which, rows: ``(target,)``, the variant and the position that each is read at.
    """

    scores: torch.Tensor
    which: torch.Tensor
    rows: torch.Tensor
    cuts: tuple[Cut, ...] = ()


#: Scores the targets at some places from embeddings; with ``split=True``, cut where the model allows it.
RunPart = Callable[..., Pass]


def values_and_gradients(
    run_part: RunPart,
    parts: Sequence[torch.Tensor],
    embeddings: Sequence[torch.Tensor],
    around: Sequence[torch.Tensor] = (),
    *,
    only: torch.Tensor | None = None,
    known: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Return scores ``(batch, target)``, per stack gradients ``(target, batch, token, unit)``, and those at the cuts.

    Args:
        parts: indices of targets, together all of them; each is one forward.
        embeddings: per stack ``(batch, token, unit)``; the batch's entries are independent of each other.
        around: more of the kind, which `run_part` is given behind them and no gradient is taken of.
        only: which targets' gradients are wanted, boolean ``(target,)``; the others' are left out of the result.
        known: gradients at the cuts, from an earlier call; forwards end there, and there are no scores.

    Returns:
        With the gradients at the cuts, ``(batch, target, unit)`` each, of all targets; none if passes differ in cuts.
    """
    n, first = sum(len(places) for places in parts), embeddings[0]
    values = first.new_zeros(len(first), n, dtype=torch.promote_types(first.dtype, torch.float32))
    wanted = torch.ones(n, dtype=torch.bool) if only is None else only.cpu()
    slots, at_cuts = wanted.cumsum(0) - 1, []
    gradients = tuple(tensor.new_zeros(int(wanted.sum()), *tensor.shape) for tensor in embeddings)

    def pass_piece(piece: tuple[torch.Tensor, range]) -> None:
        places, batch = piece[0], slice(piece[1].start, piece[1].stop)
        leaves = [tensor[batch].detach().clone().requires_grad_() for tensor in embeddings]
        given = [*leaves, *(tensor[batch] for tensor in around)]
        more = {"known": [tensor[batch][:, places.to(tensor.device)] for tensor in known]} if known else {}
        done = run_part(given, places, split=True, **more)
        values[batch, places] = done.scores.detach().to(values)
        for which, of_stacks in _backward(done, leaves, torch.nonzero(wanted[places.cpu()])[:, 0]):
            for gradient, part in zip(gradients, of_stacks):
                gradient[slots[places.cpu()[which]], batch] = part.to(gradient.dtype)
        at_cuts.append((batch, places, [cut.gradients for cut in done.cuts]))

    whole = range(len(first))
    # also inside of a user's no_grad or inference_mode
    with torch.inference_mode(False), torch.enable_grad(), fast_products(first.device):
        for _ in halving(pass_piece, [(places, whole) for places in parts], _halves):
            pass
    return values, gradients, () if only is None else _joined(at_cuts, len(first), n)


def _joined(
    pieces: Sequence[tuple[slice, torch.Tensor, Sequence[torch.Tensor]]], batch: int, n: int
) -> tuple[torch.Tensor, ...]:
    """Per cut, the gradients ``(batch, target, unit)`` of several passes; none if they were cut at different places."""
    if len({len(of_cuts) for *_, of_cuts in pieces}) > 1:
        return ()
    joined = tuple(part.new_zeros(batch, n, part.shape[-1]) for part in pieces[0][2])
    for some, places, of_cuts in pieces:
        for whole, part in zip(joined, of_cuts):
            whole[some, places.to(whole.device)] = part
    return joined


def _halves(piece: tuple[torch.Tensor, range]) -> list[tuple[torch.Tensor, range]]:
    """Two smaller pieces of the same work, of half of the targets each or of the batch."""
    places, batch = piece
    return [(half, batch) for half in halves(places)] or [(places, half) for half in halves(batch)]


def _backward(
    done: Pass, leaves: list[torch.Tensor], wanted: torch.Tensor
) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
    """Yield (some of the wanted targets of a pass, their gradients per stack ``(target, batch, token, unit)``)."""
    n, batch = len(wanted), len(leaves[0])
    if not done.cuts:
        for i in wanted:
            singles = torch.autograd.grad(
                done.scores[:, i].sum(), leaves, retain_graph=True, materialize_grads=True, allow_unused=True
            )
            yield i[None], tuple(single[None] for single in singles)
        return
    rows, most = done.cuts[0].root[..., 0].numel(), BATCHED_ROWS
    most *= 2 if torch.is_autocast_enabled(done.scores.device.type) else 1  # most numbers are half as wide then
    for which in torch.tensor_split(wanted, math.ceil(n / max(1, most // rows))) if n else ():
        found = tuple(leaf.new_zeros(len(which), *leaf.shape) for leaf in leaves)
        carried: torch.Tensor | None = None
        for cut in done.cuts:
            root, starts = cut.root, leaves if cut.start is None else [cut.start, *leaves]
            cotangents = root.new_zeros(len(which), *root.shape)
            apart = cotangents.view(len(which), -1, batch, *root.shape[1:])
            own = cut.gradients[:, which.to(cut.gradients.device)].transpose(0, 1).to(root)
            apart[torch.arange(len(which)), done.which[which], :, done.rows.cpu()[which]] = own
            cotangents += 0 if carried is None else carried
            carried, *_ = got = _vector_jacobian(root, starts, cotangents)  # the last cut carries nothing further
            for sums, more in zip(found, got[-len(leaves) :]):
                sums += 0 if more is None else more
        yield which, found


def _vector_jacobian(
    root: torch.Tensor, starts: Sequence[torch.Tensor], cotangents: torch.Tensor
) -> list[torch.Tensor | None]:
    """Return, per start, one gradient per cotangent, or None; batched where the model's operations allow it."""
    options = {"retain_graph": True, "allow_unused": True}
    if len(cotangents) > 1:
        try:
            return list(torch.autograd.grad(root, starts, cotangents, is_grads_batched=True, **options))
        except RuntimeError as error:
            if out_of_memory(error):
                raise
    singles = [torch.autograd.grad(root, starts, cotangent, **options) for cotangent in cotangents]
    return [None if of_start[0] is None else torch.stack(of_start) for of_start in zip(*singles)]
