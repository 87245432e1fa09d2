"""Factors as a result: what each component stands for, how good they are, and how their number was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from ecco_core import Components, Heat, LabelledArray, OptionError, Rows, Table, TokenGrid, Tokens, lm_plots, visible

_SHOWN = 5  # tokens and neurons that describe a component
_BETWEEN = " · "
_MEASURES = ("explained variance", "stability")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NeuronFactors(Components):
    """Components of neurons, shown by their strongest tokens and neurons.

    `quality` holds all numbers about them, so that they are kept where this plugin is missing: of the whole, of each
    component (``stability of component 0``), and of each number that was tried (``stability with 3 components``).
    """

    @property
    def components(self) -> np.ndarray:
        """The original library's name of the activations ``(component, token)``."""
        return self.values.values

    def explore(self, input_sequence: int = 0, *, printJson: bool = False) -> dict[str, Any] | None:
        """Display it, as the original library names it; all sequences are shown, whichever is asked for.

        Args:
            printJson: return the tokens and the factors ``(1, component, token)`` in lists instead.
        """
        if printJson:
            return {"tokens": list(self.tokens.texts) if self.tokens else [], "factors": [self.components.tolist()]}
        self.show()
        return None

    def plot(self, n_components: int = 3) -> Any:
        """The first components as a figure: matplotlib axes (needs ecco-matplotlib); of the original library."""
        return lm_plots.plot_components(self, n_components)

    @property
    def stability(self) -> np.ndarray | None:
        """How well each component is found again from other starts, 0 to 1, ``(component,)``; None if not asked."""
        found = [self.quality.get(f"stability of component {i}") for i in range(self.values.shape[0])]
        return None if any(value is None for value in found) else np.array(found, dtype=float)

    @property
    def curve(self) -> LabelledArray | None:
        """Quality ``(measure, components)`` of each number of components that was tried; None if none was."""
        columns = [k for k in range(1, 1 + len(self.quality)) if tried("explained variance", k) in self.quality]
        if not columns:
            return None
        measures = [m for m in _MEASURES if any(tried(m, k) in self.quality for k in columns)]
        values = [[self.quality.get(tried(measure, k), np.nan) for k in columns] for measure in measures]
        return LabelledArray(values, ("measure", "components"), {"measure": measures, "components": columns})

    def blocks(self) -> Iterator[Heat | Rows]:
        """What each component stands for, its activation at each token, quality, and the curve."""
        stable = self.stability
        columns = ("component", "strongest tokens", "neurons most its own (layer:unit, loading)")
        rows = tuple(
            (i, self.strongest_tokens(i), self.own_neurons(i), *([] if stable is None else [float(stable[i])]))
            for i in range(self.values.shape[0])
        )
        yield Rows(title="components", columns=(*columns, *(["stability"] * (stable is not None))), rows=rows)
        yield Heat(title="activation of each component at each token", values=self.values)
        whole = [(name, value) for name, value in self.quality.items() if " component" not in name]
        yield Rows(title="quality", columns=("measure", "value"), rows=tuple(whole))
        if self.curve is not None:
            yield Heat(title="quality by number of components", values=self.curve)

    def strongest_tokens(self, component: int) -> str:
        """The different texts at which a component is strongest, strongest first, in one line."""
        texts = self.tokens.labels if self.tokens is not None else self.values.labels("token")
        return strongest(self.values.values[component], texts, either=True)

    def own_neurons(self, component: int) -> str:
        """The units whose loading here most exceeds, in size, their loading on any other component, in one line."""
        sizes, units = np.abs(self.loadings.values), self.loadings.labels("unit")
        others = np.delete(sizes, component, axis=0).max(0, initial=0)
        order = np.argsort(others - sizes[component], kind="stable")[:_SHOWN]
        return _BETWEEN.join(f"{units[i]} {self.loadings.values[component, i]:+.2f}" for i in order)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NeuronGrid(TokenGrid):
    """Single neurons over the text, shown by the tokens at which each fires most, then token by token.

    Attributes:
        tokens: the tokens along the axis.
    """

    tokens: Tokens

    def blocks(self) -> Iterator[Heat | Rows]:
        """The strongest tokens of each neuron, and the heat map of all."""
        texts = self.tokens.labels
        rows = [(name, strongest(row, texts)) for name, row in zip(self.values.labels("neuron"), self.values.values)]
        yield Rows(title="where each neuron fires most", columns=("neuron", "tokens"), rows=tuple(rows))
        yield from super().blocks()


def strongest(row: np.ndarray, texts: Sequence[object], *, either: bool = False) -> str:
    """The different texts at which a row is greatest (and above 0, where it ever is), greatest first, in one line.

    Args:
        either: in size, of either sign; a minus stands before the texts at which it is negative.
    """
    sizes = np.abs(row) if either else row
    least = 0 if sizes.max() > 0 else -np.inf
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i] > least]
    minus = ["−" if either and row[i] < 0 else "" for i in order]
    different = list(dict.fromkeys(f"{sign}'{visible(str(texts[i]))}'" for sign, i in zip(minus, order)))
    return _BETWEEN.join(different[:_SHOWN])


def tried(measure: str, components: int) -> str:
    """Name in `quality` of a measure of a number of components that was tried."""
    return f"{measure} with {components} component{'s' if components > 1 else ''}"


def match_components(first: Components, second: Components, *, signed: bool | None = None) -> Table:
    """Say which component of one result is which of another, by the cosine of their loadings.

    Args:
        first, second: results of the same method, site and layers, of any runs.
        signed: whether a component and its negative differ; by default they do unless either result has loadings and
            activations below zero, whose sign is arbitrary.

    Raises:
        OptionError: the results have different units, or units of two sites or stacks.
    """
    from ecco_factorization.matching import match_loadings
    from ecco_factorization.reading import asking

    units = [result.loadings.labels("unit") for result in (first, second)]
    if units[0] != units[1]:
        raise OptionError(
            f"Components are matched over the same units: the first result has {len(units[0])} ({units[0][0]} to "
            f"{units[0][-1]}), the second {len(units[1])} ({units[1][0]} to {units[1][-1]}); take one site and layers."
        )
    for option in ("site", "stack"):
        read = [result.provenance.options.get(option) for result in (first, second)]
        if all(read) and read[0] != read[1]:
            raise OptionError(
                f"Components are matched over the same units: the first result is of the {option} {read[0]!r}, the "
                f"second of {read[1]!r}."
            )
    if signed is None:
        signed = not any(r.loadings.values.min() < 0 and r.values.values.min() < 0 for r in (first, second))
    with asking():
        match = match_loadings(first.loadings.values, second.loadings.values, signed=signed)
    rows = [(int(a), int(b), float(cosine)) for (a, b), cosine in zip(match.pairs, match.cosines)]
    title = f"Components matched, mean cosine {match.cosines.mean():.3f}"
    return Table(title=title, columns=("first", "second", "cosine"), rows=rows)
