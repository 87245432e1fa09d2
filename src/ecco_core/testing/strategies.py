"""Hypothesis strategies for what analyses, captures and renderers are given: token texts, runs, captures, results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ecco_core.data.capture import Capture
from ecco_core.data.results import Result
from ecco_core.data.tokens import Tokens
from ecco_core.data.transcript import Transcript
from ecco_core.testing.examples import HOSTILE, KINDS, example, tokens_of_texts
from ecco_core.texts.tokenizing import tokens_of

_SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda values: values,
    "one large unit": lambda values: values * np.where(np.arange(values.shape[-1]) == 0, 50.0, 1.0),
    "far from zero": lambda values: values + 3.0,
    "small": lambda values: values * 1e-3,
}


def token_texts(*, max_size: int = 12) -> st.SearchStrategy[str]:
    """Texts of tokens: words, markup, control and format characters, halves of characters, nothing."""
    anything = st.text(st.characters(codec=None), max_size=max_size)
    return st.one_of(st.sampled_from(HOSTILE), st.from_regex(r"\A ?[a-z]{1,8}\Z"), anything)


def tokens(*, min_size: int = 1, max_size: int = 8) -> st.SearchStrategy[Tokens]:
    """`Tokens` of such texts."""
    return st.lists(token_texts(), min_size=min_size, max_size=max_size).map(tokens_of_texts)


@st.composite
def captures(
    draw: st.DrawFn, *, site: str = "resid_post", layers: int = 2, units: int = 8, max_tokens: int = 8
) -> Capture:
    """A `Capture` of one site at some layers, ``(token, unit)`` in float64."""
    import torch

    of = draw(tokens(max_size=max_tokens))
    rng, shape = np.random.default_rng(draw(st.integers(0, 2**16))), _SHAPES[draw(st.sampled_from(sorted(_SHAPES)))]
    values: Mapping[Any, Any] = {
        ("decoder", site, layer): torch.tensor(shape(rng.standard_normal((len(of), units)))) for layer in range(layers)
    }
    return Capture(values, {"decoder": of})


@st.composite
def runs(draw: st.DrawFn, lm: Any, *, min_size: int = 1, max_size: int = 8) -> Any:
    """A `Run` of a causal model over any of its tokens, some of them given and the others generated."""
    vocabulary = st.integers(0, min(lm.vocabulary, len(lm.tokenizer)) - 1)
    ids = draw(st.lists(vocabulary, min_size=min_size, max_size=max_size))
    of = tokens_of(lm.tokenizer, ids)
    return lm.replay(Transcript({lm.stack: of}, draw(st.integers(1, len(ids))), lm.stack, lm.task, lm.name))


@st.composite
def results(draw: st.DrawFn, kind: str = "") -> Result:
    """A result of a kind, or of any, whose texts are hostile."""
    texts = draw(st.lists(token_texts(), min_size=2, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return example(kind or draw(st.sampled_from(KINDS)), texts, rng.standard_normal)


@st.composite
def captured(draw: st.DrawFn, of: Sequence[Any]) -> list[CapturedRun]:
    """The same runs with drawn numbers in the place of what the model computes."""
    seed, shape = draw(st.integers(0, 2**16)), draw(st.sampled_from(sorted(_SHAPES)))
    return [CapturedRun(run, (seed, place), shape) for place, run in enumerate(of)]


class CapturedRun:
    """A run whose captures are random numbers of a shape; all else is the run's.

    Attributes:
        run: the run that it stands for.
    """

    def __init__(
        self,
        run: Any,
        seed: tuple[int, int],
        shape: str,
        change: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], int] | None = None,
    ) -> None:
        self.run, self._seed, self._shape, self._change = run, seed, shape, change

    def changed(self, change: Callable[[np.ndarray, np.random.Generator], np.ndarray], seed: int) -> CapturedRun:
        """The same run with its captures changed; all of one site and layer by the same random numbers."""
        return CapturedRun(self.run, self._seed, self._shape, (change, seed))

    def capture(self, *sites: str, **options: Any) -> Capture:
        """Return what `Run.capture` would, with other numbers."""
        import torch

        capture = self.run.capture(*sites, **options)
        values: Mapping[Any, Any] = {
            key: torch.tensor(self._values(key, tuple(tensor.shape))).to(tensor.dtype)
            for key, tensor in capture.tensors.items()
        }
        return Capture(values, capture.tokens, capture.stack)

    def _values(self, key: tuple[str, str, int | None], size: tuple[int, ...]) -> np.ndarray:
        place = [*map(ord, key[0] + key[1]), key[2] or 0]
        values = _SHAPES[self._shape](np.random.default_rng([*self._seed, *place]).standard_normal(size))
        if self._change is None:
            return values
        change, seed = self._change
        return change(values, np.random.default_rng([seed, *place]))

    def missing(self, *_: Any) -> list[Any]:
        """Nothing has to be read."""
        return []

    def __len__(self) -> int:
        return len(self.run)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)
