"""Attention rollout and attention flow: how much of a token can reach a position through all layers.

Pure functions on arrays. Both follow Abnar & Zuidema, Quantifying Attention Flow in Transformers, ACL 2020: the heads
of a layer are averaged, the residual connection is mixed in as attention to oneself, and the layers form a graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

RESIDUAL = 0.5  # share of the residual connection in a layer
SCALE = 2**30  # scipy's capacities are int32: a weight of 1 is this many units
_TOLERANCE = 0.02  # by which rows of a pattern in bfloat16 miss their sum


def require_pattern(pattern: Any, dims: int) -> np.ndarray:
    """Return attention weights as float64.

    Raises:
        ValueError: they have another number of axes, are no numbers, negative, or a row sums to more than 1.
    """
    found = np.asarray(pattern, dtype=np.float64)
    if found.ndim != dims or 0 in found.shape:
        raise ValueError(f"A pattern has {dims} axes, none of them empty; found the shape {found.shape}.")
    if not np.isfinite(found).all():
        raise ValueError("The attention weights hold NaN or infinite numbers.")
    if found.min() < 0 or found.sum(-1).max() > 1 + _TOLERANCE:
        raise ValueError(
            f"Attention weights are from 0, and a row sums to 1 at most; found a weight of {found.min():.4g} and a row "
            f"that sums to {found.sum(-1).max():.4g}."
        )
    return found


def averaged(pattern: Any) -> np.ndarray:
    """Mean over the heads of ``(head, query, key)`` as float64 ``(query, key)``."""
    found: np.ndarray = require_pattern(pattern, 3).mean(0)
    return found


def with_residual(pattern: Any) -> np.ndarray:
    """Mean over heads with the residual connection: rows of ``0.5 W + 0.5 I``, divided by their sum.

    Args:
        pattern: ``(head, token, token)``, query before key.

    Returns:
        ``(token, token)`` float64; rows sum to 1. Where a row of the pattern sums to less than 1 (attention sinks, a
        head that is switched off), less comes from the layer, so the residual's share is larger than one half.

    Raises:
        ValueError: it is not square or no pattern.
    """
    mean = averaged(pattern)
    if mean.shape[0] != mean.shape[1]:
        raise ValueError(f"Attention within one sequence has as many queries as keys, found {mean.shape}.")
    step = (1 - RESIDUAL) * mean + RESIDUAL * np.eye(len(mean))
    found: np.ndarray = step / step.sum(-1, keepdims=True)
    return found


def joined(encoder: Iterable[Any], decoder: Sequence[Any], cross: Sequence[Any]) -> list[np.ndarray]:
    """Steps through an encoder-decoder as one graph, whose first tokens are the encoder's.

    A decoder layer is two steps, attention within the decoder and attention to the encoder, each beside its own
    residual connection; the tokens of the stack that does not work in a step stay as they are.

    Args:
        encoder: of each layer ``(head, token, token)``. `decoder`: the same. `cross`: of each layer of the decoder,
            ``(head, decoder token, encoder token)``.

    Returns:
        Steps from the first to the last, each ``(token, token)`` float64, rows sum to 1.

    Raises:
        ValueError: sizes do not fit each other.
    """
    crosses, within = [averaged(each) for each in cross], [with_residual(each) for each in decoder]
    if len(crosses) != len(within):
        raise ValueError(f"Each decoder layer attends to the encoder; found {len(within)} and {len(crosses)} layers.")
    n_target, n_source = crosses[0].shape
    steps = []
    for each in encoder:
        steps.append(np.eye(n_source + n_target))
        steps[-1][:n_source, :n_source] = with_residual(each)
    for self_step, weights in zip(within, crosses):
        both = np.eye(n_source + n_target), np.eye(n_source + n_target)
        both[0][n_source:, n_source:] = self_step
        both[1][n_source:] *= RESIDUAL
        both[1][n_source:, :n_source] = (1 - RESIDUAL) * weights
        both[1][n_source:] /= both[1][n_source:].sum(-1, keepdims=True)
        steps += both
    return steps


def rollout(patterns: Iterable[Any]) -> np.ndarray:
    """Attention rollout: the share of each token in each position of the last layer.

    Args:
        patterns: ``(layer, head, token, token)``, or one ``(head, token, token)`` per layer, query before key.

    Returns:
        ``(token, token)`` float64: rows are positions, columns the tokens; rows sum to 1. It is the sum, over all paths
        from a position down to a token, of the product of the weights along the path (Abnar & Zuidema).

    Raises:
        ValueError: no layer, or no pattern.
    """
    return rollout_of([with_residual(pattern) for pattern in patterns])


def rollout_of(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Rollout of steps ``(token, token)`` whose rows sum to 1, from the first to the last."""
    if not len(steps):
        raise ValueError("There is no layer to follow attention through.")
    found = np.eye(len(steps[0]))
    for step in steps:
        found = step @ found
    return found


def flow(patterns: Iterable[Any], position: int) -> np.ndarray:
    """Attention flow: the most that can pass from a position of the last layer down to each token.

    Args:
        patterns: ``(layer, head, token, token)``, or one ``(head, token, token)`` per layer, query before key.
        position: from 0, the row in the last layer.

    Returns:
        ``(token,)`` float64 from 0 to 1: for each token by itself the maximum flow, weights being capacities (Abnar &
        Zuidema, 2020). They do not sum to 1. See `rounding` for how exact they are.

    Raises:
        ValueError: no layer, no pattern, or no such position.
    """
    return flow_of([with_residual(pattern) for pattern in patterns], position)


def flow_of(steps: Sequence[np.ndarray], position: int) -> np.ndarray:
    """Flow through steps ``(token, token)`` whose rows sum to 1, from the first to the last."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_flow

    if not len(steps):
        raise ValueError("There is no layer to follow attention through.")
    n = len(steps[0])
    if not 0 <= position < n:
        raise ValueError(f"No position {position}; there are {n}, from 0 to {n - 1}.")
    depth = len(steps)
    ends, starts, capacities = [], [], []
    below = np.flatnonzero(np.arange(n) == position)  # what can be reached from the position, one layer further down
    for level in range(depth, 0, -1):  # node of a token between steps: level * n + token, the tokens at level 0
        edges = np.floor(steps[level - 1][below] * SCALE).astype(np.int32)
        rows, tokens = np.nonzero(edges)
        starts.append(level * n + below[rows])
        ends.append((level - 1) * n + tokens)
        capacities.append(edges[rows, tokens])
        below = np.unique(tokens)
    size = (depth + 1) * n
    places = np.concatenate(starts), np.concatenate(ends)
    graph = csr_matrix((np.concatenate(capacities), places), shape=(size, size))
    found = np.zeros(n)
    for token in below:
        found[token] = maximum_flow(graph, depth * n + position, int(token), method="dinic").flow_value / SCALE
    return found


def rounding(steps: Sequence[np.ndarray]) -> float:
    """How much less than the exact flow `flow` can return at most: its weights are cut to multiples of 2^-30.

    A cut through the graph loses less than one unit per edge.
    """
    return float(sum(np.count_nonzero(step) for step in steps)) / SCALE
