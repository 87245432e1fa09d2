"""What logits say about tokens: the best ones, ranks, log-probabilities, divergences; functions on arrays.

Arrays are numpy's or torch's, on any device, of any float type; half precision is taken to float32 first. Logits are
``(row, token)``: one distribution per row, which is their softmax. Answers are numpy arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_ROWS = 4  # whose numbers stay in the processor's cache from one pass over them to the next


def top_tokens(logits: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` tokens with the greatest logits, best first, and their log-probabilities.

    Args:
        logits: ``(row, token)``. `k`: from 1 to the number of tokens.

    Returns:
        Ids ``(row, k)``, integers, and log-probabilities ``(row, k)`` in nats, at most 0.

    Raises:
        ValueError: `k` is out of range; or logits have another shape, no finite greatest one, or NaN among them.
    """
    rows = _checked(logits)
    if not 1 <= k <= rows.shape[1]:
        raise ValueError(f"k is from 1 to the number of tokens, {rows.shape[1]}, found {k}.")
    ids = rows.topk(k).indices
    return _numpy(ids), _numpy(_gathered(rows, ids))


def logprobs_of(logits: Any, ids: Any) -> np.ndarray:
    """Return log-probabilities ``(row, n)`` in nats of tokens `ids` ``(row, n)`` under logits ``(row, token)``.

    Raises:
        ValueError: as `top_tokens`; or an id is no token, or ids are not one row per row of logits.
    """
    rows = _checked(logits)
    return _numpy(_gathered(rows, _ids(ids, rows)))


def ranks_of(logits: Any, ids: Any) -> np.ndarray:
    """Return ranks ``(row, n)`` of tokens `ids` ``(row, n)`` among all tokens; 1 is the best.

    A rank is 1 and the number of tokens with a greater logit, so that equal logits share the better rank: in
    half precision many are equal.

    Raises:
        ValueError: as `logprobs_of`.
    """
    rows = _checked(logits)
    own = rows.gather(1, _ids(ids, rows))
    above = [
        torch.stack([(some > value[:, None]).sum(-1, dtype=torch.int32) for value in values.unbind(1)], 1)
        for some, values in zip(torch.split(rows, _ROWS), torch.split(own, _ROWS))
    ]
    return _numpy(torch.cat(above).long() + 1)


def kl_divergence(logits: Any, others: Any) -> np.ndarray:
    """Return the divergence ``(row,)`` KL(p || q) in nats of each distribution p of `logits` from q of `others`.

    It is 0 where they are the same and infinite where q excludes a token (logit -inf) that p does not. What rounding
    takes below 0 is 0.

    Args:
        logits, others: ``(row, token)``, of one shape.

    Raises:
        ValueError: as `top_tokens`; or the shapes differ.
    """
    ours, theirs = _checked(logits), _checked(others)
    if ours.shape != theirs.shape:
        raise ValueError(f"Two arrays of logits of one shape are compared, found {ours.shape} and {theirs.shape}.")
    found = []
    for p, q in zip(torch.split(ours, _ROWS), torch.split(theirs, _ROWS)):
        log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
        terms = log_p.exp() * (log_p - log_q)
        found.append(torch.where(log_p == -torch.inf, 0, terms).sum(-1).clamp(min=0))
    return _numpy(torch.cat(found))


def _gathered(rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities ``(row, n)`` of tokens, by a few rows at a time."""
    return torch.cat(
        [some.log_softmax(-1).gather(1, own) for some, own in zip(torch.split(rows, _ROWS), torch.split(ids, _ROWS))]
    )


def _checked(logits: Any) -> torch.Tensor:
    """Logits as a tensor ``(row, token)`` of float32 or float64, with a distribution in each row."""
    rows = _tensor(logits)
    if rows.ndim != 2 or 0 in rows.shape or not rows.is_floating_point():
        raise ValueError(f"Logits are floats (row, token), found {rows.dtype} of the shape {tuple(rows.shape)}.")
    rows = rows if rows.dtype == torch.float64 else rows.float()
    bad = (~rows.amax(-1).isfinite()).nonzero()
    if len(bad):
        raise ValueError(f"The logits of row {int(bad[0])} are no numbers (NaN or infinite): they say nothing.")
    return rows


def _ids(ids: Any, rows: torch.Tensor) -> torch.Tensor:
    found = _tensor(ids).to(rows.device)
    if found.ndim != 2 or len(found) != len(rows) or found.is_floating_point():
        raise ValueError(f"ids are integers ({len(rows)}, n), found {found.dtype} of the shape {tuple(found.shape)}.")
    if found.numel() and (int(found.min()) < 0 or int(found.max()) >= rows.shape[1]):
        raise ValueError(f"ids are from 0 to {rows.shape[1] - 1}, found {int(found.min())} to {int(found.max())}.")
    return found


def _tensor(array: Any) -> torch.Tensor:
    """A tensor as it is; of anything else a copy, as torch takes no read-only arrays."""
    return array.detach() if isinstance(array, torch.Tensor) else torch.tensor(np.asarray(array))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.cpu().numpy())
