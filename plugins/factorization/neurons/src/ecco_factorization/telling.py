"""Which units tell some tokens from the others, and which behave alike. Pure functions on arrays."""

from __future__ import annotations

import math

import numpy as np

_ROUNDING = 128  # of a single number, as a share of the numbers' root mean square


def telling_apart(x: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How well each unit tells the chosen tokens from the others.

    Args:
        x: ``(token, unit)``. `chosen`: ``(token,)`` booleans, some true and some false.

    Returns:
        auc: ``(unit,)``, the chance that the unit is higher at a chosen token than at another, ties counted half: 1
            tells them apart, 0.5 is chance, 0 tells them apart by being low.
        gap: ``(unit,)``, mean at the chosen minus mean at the others, in standard deviations of the unit; 0 where it
            is constant.

    Raises:
        ValueError: all tokens are chosen, or none.

    References:
        Mann, Whitney: On a test of whether one of two random variables is stochastically larger, 1947.
    """
    from scipy.stats import rankdata

    chosen = np.asarray(chosen, dtype=bool)
    n, m = len(chosen), int(chosen.sum())
    if not 0 < m < n:
        raise ValueError(f"Some tokens are told from others: {m} of {n} are chosen, take at least one and not all.")
    ranks = rankdata(x, axis=0)[chosen].sum(0)
    auc = np.where(varying(x), (ranks - m * (m + 1) / 2) / (m * (n - m)), 0.5)
    spread = x.std(0, dtype=np.float64)
    difference = x[chosen].mean(0, dtype=np.float64) - x[~chosen].mean(0, dtype=np.float64)
    gap = np.divide(difference, spread, out=np.zeros_like(spread), where=varying(x))
    return auc, gap


def apart_by_chance(n_units: int, n_tokens: int, n_chosen: int) -> float:
    """How many of `n_units` units that know nothing would still tell the chosen tokens apart without an error."""
    return n_units / math.comb(n_tokens, n_chosen)


def varying(x: np.ndarray) -> np.ndarray:
    """Whether each unit has more than one value over the tokens, beyond the rounding of a forward pass, ``(unit,)``."""
    size = np.sqrt(np.square(x, dtype=np.float64).mean())
    return np.asarray(np.ptp(x, axis=0) > _ROUNDING * np.finfo(np.result_type(x, np.float32)).eps * size)


def deviations(x: np.ndarray) -> np.ndarray:
    """Activations in standard deviations from each unit's mean over the tokens; 0 where a unit is constant."""
    spread = x.std(0, dtype=np.float64)
    return np.asarray(np.divide(x - x.mean(0, dtype=np.float64), spread, out=np.zeros(x.shape), where=varying(x)))


def alike(x: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster units whose activations rise and fall together over the tokens.

    Average linkage of 1 - Pearson correlation, leaves ordered so that neighbours are as alike as can be.

    Args:
        x: ``(token, unit)``, no unit constant. `n_clusters`: from 1 to the number of units.

    Returns:
        order: ``(unit,)``, the units as they stand side by side.
        cluster: ``(unit,)``, the cluster of each unit in x's order, numbered from 0 along `order`. There can be fewer
            than asked for where units are equally alike.

    Raises:
        ValueError: fewer than two units or tokens, a constant unit, or n_clusters does not fit.

    References:
        Bar-Joseph, Gifford, Jaakkola: Fast optimal leaf ordering for hierarchical clustering, 2001.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import squareform

    if min(x.shape) < 2 or not varying(x).all():
        raise ValueError("Units are clustered by correlation: take two tokens and two units at least, none constant.")
    if not 1 <= n_clusters <= x.shape[1]:
        raise ValueError(f"{n_clusters} clusters do not fit {x.shape[1]} units: ask for 1 to {x.shape[1]}.")
    z = deviations(x)
    distance = np.clip(1 - z.T @ z / len(z), 0, 2)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    order, found = leaves_list(tree), fcluster(tree, n_clusters, criterion="maxclust")
    numbers = {old: new for new, old in enumerate(dict.fromkeys(found[order]))}
    return order, np.array([numbers[old] for old in found])
