"""Norms of what attention carries: the weight times the value, through the output projection. Pure functions on arrays.

Kobayashi, Kuribayashi, Yokoi, Inui: Attention is Not Only a Weight, EMNLP 2020.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ecco_attention.paths import require_pattern


def transformed(values: Any, projection: Any, n_heads: int) -> np.ndarray:
    """What each key's value adds to the output if a head attends to it alone, ``f(x)`` of Kobayashi et al.

    Args:
        values: ``(key, value head, unit)`` with their bias. Each value head serves a group of `n_heads` / value heads
            neighbouring heads.
        projection: ``(head × unit, output unit)``, the matrix of the output projection; its bias stays out, as in the
            paper.

    Returns:
        ``(head, key, output unit)`` float64.

    Raises:
        ValueError: sizes do not fit each other.
    """
    v, matrix = np.asarray(values, dtype=np.float64), np.asarray(projection, dtype=np.float64)
    if v.ndim != 3 or matrix.ndim != 2 or n_heads % v.shape[1] or len(matrix) != n_heads * v.shape[2]:
        raise ValueError(
            f"values of shape {v.shape} and a projection of shape {matrix.shape} do not fit {n_heads} heads: expected "
            "(key, value head, unit), heads a multiple of value heads, and (head × unit, output unit)."
        )
    v = v.repeat(n_heads // v.shape[1], axis=1).transpose(1, 0, 2)
    found: np.ndarray = np.matmul(v, matrix.reshape(n_heads, v.shape[2], -1))
    return found


def value_vectors(pattern: Any, values: Any, projection: Any) -> np.ndarray:
    """What each key adds to each query: the weighted transformed values, summed over the heads as vectors.

    Args:
        pattern: ``(head, query, key)``. `values`, `projection`: as of `transformed`.

    Returns:
        ``(query, key, output unit)`` float64. Their sum over keys and the projection's bias are the attention's output.

    Raises:
        ValueError: no pattern, or sizes do not fit each other.
    """
    weights, f = _fitting(pattern, values, projection)
    return np.stack([np.einsum("hk,hkd->kd", row, f) for row in weights.transpose(1, 0, 2)])


def value_norms(pattern: Any, values: Any, projection: Any) -> np.ndarray:
    """Length of what each key adds to each query: ``‖Σ_h α_h f_h(x)‖`` of Kobayashi et al.

    Arguments and errors are those of `value_vectors`.

    Returns:
        ``(query, key)`` float64: L2 norms, in units of the attention's output.
    """
    weights, f = _fitting(pattern, values, projection)
    return np.stack([np.linalg.norm(np.einsum("hk,hkd->kd", row, f), axis=-1) for row in weights.transpose(1, 0, 2)])


def _fitting(pattern: Any, values: Any, projection: Any) -> tuple[np.ndarray, np.ndarray]:
    weights = require_pattern(pattern, 3)
    f = transformed(values, projection, len(weights))
    if f.shape[1] != weights.shape[2]:
        raise ValueError(f"The pattern has {weights.shape[2]} keys, there are {f.shape[1]} values.")
    return weights, f
