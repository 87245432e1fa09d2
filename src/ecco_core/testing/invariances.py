"""Changes of activations that a measure may promise not to notice, and the search for one that it does notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ecco_core.data.results import Result
from ecco_core.testing import comparing, strategies

EXAMPLES = 8


def rotated(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``(token, unit)`` with its units rotated or reflected."""
    rotation, triangle = np.linalg.qr(rng.standard_normal((values.shape[-1],) * 2))
    return np.asarray(values @ (rotation * np.sign(np.diag(triangle))))


def scaled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``(token, unit)`` times one positive number."""
    return np.asarray(values * np.exp(rng.uniform(-2, 2)))


def shifted(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``(token, unit)`` with one vector added to every token."""
    return np.asarray(values + rng.standard_normal(values.shape[-1]))


def units_permuted(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``(token, unit)`` with its units in another order."""
    return np.asarray(values[..., rng.permutation(values.shape[-1])])


def counterexample(
    call: Callable[[Sequence[Any]], Any],
    runs: Sequence[Any],
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    tolerance: float,
) -> str:
    """Return how the numbers of ``call(runs)`` differ after a change of what it captures, or an empty string."""
    from hypothesis import Phase, given, settings, strategies as st

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(captured=strategies.captured(runs), seed=st.integers(0, 2**16))
    def unchanged(captured: list[strategies.CapturedRun], seed: int) -> None:
        one, other = call(captured), call([run.changed(change, seed) for run in captured])
        found = comparing.difference(one, other, tolerance) if isinstance(one, Result) else "no result"
        if found:
            raise _FoundError(found)

    try:
        unchanged()
    except _FoundError as found:
        return str(found)
    return ""


class _FoundError(AssertionError):
    pass
