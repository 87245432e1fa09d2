"""What attention heads do, as one number each: pure functions on patterns and token ids."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ecco_attention.paths import require_pattern

Looked = Literal["induction", "previous_token", "duplicate_token"]


def looked_at(ids: Any, what: Looked) -> np.ndarray:
    """Where a head of a kind would look: ``(query, key)`` booleans, keys before the query only.

    ``previous_token``: the token before. ``duplicate_token``: earlier occurrences of the query's token. ``induction``:
    the tokens right after earlier occurrences (Elhage et al., A Mathematical Framework for Transformer Circuits, 2021;
    Olsson et al., In-context Learning and Induction Heads, 2022: prefix matching).

    Args:
        ids: ``(token,)`` integers.

    Raises:
        ValueError: no such kind, or ids are no sequence.
    """
    tokens = np.asarray(ids)
    if tokens.ndim != 1:
        raise ValueError(f"ids are one sequence of tokens, found the shape {tokens.shape}.")
    n = len(tokens)
    if what == "previous_token":
        return np.eye(n, k=-1, dtype=bool)
    same: np.ndarray = np.tril(tokens[:, None] == tokens[None], -1)
    if what == "duplicate_token":
        return same
    if what == "induction":
        after: np.ndarray = np.tril(np.pad(same, ((0, 0), (1, 0)))[:, :n], -1)
        return after
    raise ValueError(f"Heads are scored as induction, previous_token or duplicate_token, found {what!r}.")


def attended(patterns: Any, keys: Any) -> np.ndarray:
    """Share of attention that goes to chosen keys, averaged over the queries that have any.

    Args:
        patterns: ``(layer, head, query, key)``. `keys`: ``(query, key)`` booleans, as of `looked_at`.

    Returns:
        ``(layer, head)`` float64, 0 to 1.

    Raises:
        ValueError: no query has a chosen key, or sizes do not fit each other.
    """
    weights, chosen = require_pattern(patterns, 4), np.asarray(keys, dtype=bool)
    if chosen.shape != weights.shape[2:]:
        raise ValueError(f"keys are chosen per query and key, {weights.shape[2:]}; found the shape {chosen.shape}.")
    queries = chosen.any(-1)
    if not queries.any():
        raise ValueError("No query has a key to look at.")
    found: np.ndarray = np.where(chosen, weights, 0.0).sum(-1)[..., queries].mean(-1)
    return found


def entropy(patterns: Any) -> np.ndarray:
    """Entropy of the attention of each query in nats, averaged over the queries that see more than one key.

    Args:
        patterns: ``(layer, head, query, key)``; if the first query attends to the first key alone in all heads, it is
            left out, as it has no choice. Rows that sum to less than 1 are divided by their sum.

    Returns:
        ``(layer, head)`` float64, from 0 (one key) to the logarithm of the number of keys (all alike).

    Raises:
        ValueError: no pattern, or a row of zeros, which has no entropy.
    """
    weights = require_pattern(patterns, 4)
    if is_causal(weights):
        weights = weights[:, :, 1:]
    if not weights.size:
        raise ValueError("The entropy of causal attention needs at least two tokens: the first sees itself alone.")
    sums = weights.sum(-1, keepdims=True)
    if not sums.min() > 0:
        raise ValueError("Some rows of the attention are all zero; they have no entropy.")
    p = weights / sums
    found: np.ndarray = -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1).mean(-1)
    return found.clip(min=0.0)


def is_causal(patterns: Any) -> bool:
    """Whether no query attends to a later key, in patterns ``(…, token, token)``."""
    return not np.triu(np.asarray(patterns), 1).any()


def uniform(seen: Any) -> np.ndarray:
    """The pattern of a head that attends alike to all keys that it can see: what chance gives.

    Args:
        seen: ``(…, query, key)`` booleans.

    Returns:
        The same shape in float64; rows sum to 1, or to 0 where nothing is seen.
    """
    keys = np.asarray(seen, dtype=np.float64)
    found: np.ndarray = keys / keys.sum(-1, keepdims=True).clip(min=1)
    return found
