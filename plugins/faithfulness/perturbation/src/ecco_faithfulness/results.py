"""What a comparison returns: tables of numbers with intervals, that show themselves as a short table and as curves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import attrs
import numpy as np

from ecco_core import Curves, Heat, LabelledArray, Rows, Table

Metric = Literal[
    "deletion", "insertion", "comprehensiveness", "sufficiency", "leave_one_out", "infidelity", "max_sensitivity"
]
FLOOR, CEILING = "random", "best possible"
COLUMNS = ("method", "measure", "share", "mean", "low", "high")
LOWER_IS_BETTER = ("deletion", "sufficiency", "infidelity", "max_sensitivity")
_WORDS = {
    "deletion": "deletion AUC",
    "insertion": "insertion AUC",
    "leave_one_out": "leave-one-out rank correlation",
    "max_sensitivity": "max-sensitivity",
}
CURVES = {
    "deletion curve": "deletion: mean score without the sources ranked first",
    "insertion curve": "insertion: mean score with only the sources ranked first",
}


def words(metric: str) -> str:
    """The name of a measure as one reads it."""
    return _WORDS.get(metric, metric)


def headed(metric: str) -> str:
    """The name of a measure, with an arrow to where it is better."""
    return f"{words(metric)} {'↓' if metric in LOWER_IS_BETTER else '↑'}"


def number(value: float | None) -> str:
    """A number as one reads it; a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Faithfulness(Table):
    """How faithful methods are, next to random rankings and, on short inputs, the best possible ones.

    Its `rows` hold all means with their intervals in long form: ``(method, measure, share, mean, low, high)``, where
    the share of sources is given for points of the curves only. A process without this plugin shows those.

    Attributes:
        recommendation: which method to believe by the first measure, and how sure that is.
        forwards: how many masked inputs went through the model, of `tokens` tokens together.
        each: ``(method, measure, target)``, what the means are of; NaN where a target has no number.
    """

    recommendation: str = ""
    forwards: int = 0
    tokens: int = 0
    each: LabelledArray | None = None

    def _methods(self) -> list[str]:
        return list(dict.fromkeys(row[0] for row in self.rows))

    def measures(self) -> list[str]:
        """The measures, the one that the recommendation goes by first."""
        return list(dict.fromkeys(row[1] for row in self.rows if row[2] is None))

    def value(self, method: str, measure: str) -> tuple[float | None, float | None, float | None]:
        """Mean, low and high end of a method's measure; None where there is none."""
        found = next((row[3:] for row in self.rows if row[:3] == (method, measure, None)), (None, None, None))
        return found[0], found[1], found[2]

    def curves(self) -> Iterator[Curves]:
        """The deletion and the insertion curve of every method, as results that can be drawn."""
        for name, title in CURVES.items():
            rows = [row for row in self.rows if row[1] == name]
            if rows:
                methods = [m for m in self._methods() if any(row[0] == m for row in rows)]
                shares = list(dict.fromkeys(row[2] for row in rows))
                at = {row[:1] + row[2:3]: row[3:] for row in rows}

                def array(i: int, methods: list[str] = methods, shares: list[float] = shares, at: Any = at) -> Any:
                    numbers = [[_float(at[m, share][i]) for share in shares] for m in methods]
                    coords: dict[str, list[Any]] = {"method": methods, "share of sources": shares}
                    return LabelledArray(np.array(numbers), ("method", "share of sources"), coords)

                some = any(row[4] is not None for row in rows)
                yield Curves(
                    title=title, values=array(0), low=array(1) if some else None, high=array(2) if some else None
                )

    def table(self) -> Rows:
        """Method × measure: mean, and its 95 % interval."""
        measures = self.measures()
        rows = tuple((m, *(self._cell(m, measure) for measure in measures)) for m in self._methods())
        title = "mean over targets (95 % interval)"
        return Rows(title=title, columns=("method", *map(headed, measures)), rows=rows)

    def _cell(self, method: str, measure: str) -> str:
        mean, low, high = self.value(method, measure)
        ends = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
        return f"{number(mean)}{ends}"

    def blocks(self) -> Iterator[Heat | Rows]:
        """The table, then the curves as heat maps."""
        yield self.table()
        for curve in self.curves():
            yield Heat(title=curve.title, values=curve.values)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ReplacementEffect(Table):
    """One measure of every method under several ways to take tokens away, and whether the methods' order agrees.

    Its `rows` are ``(replacement, method, mean, low, high)``.

    Attributes:
        agreement: Kendall's tau between the orders of methods, ``(replacement, other)``; NaN where it has none.
        measure: what the numbers are. `forwards`: how many masked inputs went through the model.
    """

    agreement: LabelledArray | None = None
    measure: str = ""
    forwards: int = 0

    def blocks(self) -> Iterator[Heat | Rows]:
        """Method × replacement, the orders, and their agreement."""
        replacements = list(dict.fromkeys(row[0] for row in self.rows))
        methods = list(dict.fromkeys(row[1] for row in self.rows))
        at = {row[:2]: row[2:] for row in self.rows}

        def cell(replacement: str, method: str) -> str:
            mean, low, high = at[replacement, method]
            return number(mean) + ("" if low is None else f" ({number(low)} to {number(high)})")

        yield Rows(
            title=f"{headed(self.measure)}: mean over targets (95 % interval)",
            columns=("method", *replacements),
            rows=tuple((m, *(cell(r, m) for r in replacements)) for m in methods),
        )
        sign = 1 if self.measure in LOWER_IS_BETTER else -1
        ranked = [m for m in methods if m not in (FLOOR, CEILING)]
        orders = tuple((r, " > ".join(sorted(ranked, key=lambda m: sign * _float(at[r, m][0])))) for r in replacements)
        yield Rows(title="order of the methods, best first", columns=("replacement", "order"), rows=orders)
        if self.agreement is not None:
            yield Heat(title="agreement of these orders (Kendall's tau, -1 to 1)", values=self.agreement)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
