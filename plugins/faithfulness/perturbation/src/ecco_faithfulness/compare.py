"""Comparisons over runs: what is measured of each, and what the numbers of all come to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from ecco_core import EccoError, LabelledArray, OptionError, plugins
from ecco_faithfulness import intervals, masking
from ecco_faithfulness.given import aligned, made, matched, method, moved, targets_of, wanted
from ecco_faithfulness.results import CEILING, CURVES, FLOOR, LOWER_IS_BETTER
from ecco_faithfulness.texts import Kept, Plan, Text, key_of, measured, weights_of

if TYPE_CHECKING:
    from ecco_core import Context, Result, Run, ScoreModule, Source, TokenScores
    from ecco_faithfulness.given import Method

FEW = 10  # texts or targets: with fewer, bootstrap intervals are too narrow
Row = tuple[str, str, float | None, float | None, float | None, float | None]


class Comparison:
    """Methods that are compared on the runs of a context.

    Args:
        methods: by name. `scores`: results. `resume`: folder to keep each run's numbers in.
        moves: how often, and how far, the input is moved for max-sensitivity.

    Raises:
        OptionError: there is nothing to compare, or results do not belong to the runs.
    """

    def __init__(
        self,
        ctx: Context,
        methods: Sequence[str],
        scores: Sequence[Result],
        resume: Path | None,
        moves: tuple[int, float] = (0, 0.0),
    ) -> None:
        if not methods and not scores:
            raise OptionError(
                "Nothing to compare: name methods, as methods=['saliency', 'ig'], or give results as scores=[...]."
            )
        self.ctx, self.moves = ctx, moves
        named: dict[Any, Method] = {}
        for each in map(method, methods):
            named.setdefault((each.version, each.name, repr(each.options)), each)  # an alias is the same method
        self.methods = {each.label: each for each in named.values()}
        taken = re.compile("|".join([rf"{FLOOR}( \d+)?", *map(re.escape, (CEILING, *self.methods))]))
        self.given = [
            {n + " (given)" * bool(taken.fullmatch(n)): result for n, result in each.items()}
            for each in (matched(scores, ctx.runs) if scores else [{}] * len(ctx.runs))
        ]
        self._kept = Kept(resume)
        self._modules: dict[int, ScoreModule] = {}
        self._made: dict[tuple[int, str], TokenScores] = {}
        self._weights: dict[int, str] = {}

    def texts(self, plan: Plan) -> list[Text]:
        """Measure every run, or read what was measured before.

        Raises:
            OptionError: every method failed.
        """
        several = len(self.ctx.runs) > 1
        numbers: Iterable[int] = range(len(self.ctx.runs))
        found = [self._text(i, plan, not several) for i in (self.ctx.progress(numbers) if several else numbers)]
        failed: dict[str, str] = {}
        for text in found:
            failed = text["failed"] | failed
        for name, why in failed.items():
            self.ctx.note(f"{name} was left out: {why}")
            for text in found:
                for kind in ("values", "curves"):
                    text[kind].pop(name, None)
        if not any(name in text["values"] for text in found for name in self.names):
            name, why = next(iter(failed.items()))
            raise OptionError(f"No method is left to compare; {name} failed: {why}")
        return found

    @property
    def names(self) -> list[str]:
        """Of what is compared, in order."""
        return [*self.methods, *self.given[0]]

    def module(self, i: int) -> ScoreModule:
        """What is explained of a run: the targets asked for, else those of given results, else the run's own."""
        if i not in self._modules:
            options = {name: self.ctx.options[name] for name in ("targets", "contrast", "score")}
            first = next(iter(self.given[i].values()), None)
            if options["targets"] is None and first is not None:
                options["targets"] = wanted(first)
                if options["contrast"] is None:
                    options["contrast"] = first.targets[0].contrast_id
            self._modules[i] = self.ctx.runs[i].scores(**options)
        return self._modules[i]

    def sources(self, i: int) -> list[Source]:
        """What the scores of a run are of."""
        return self.ctx.runs[i].features(self.ctx.options["features"], self.module(i))

    def most_sources(self) -> int:
        """The most that any target has."""
        runs = enumerate(self.ctx.runs)
        return max(int(masking.seen(run, self.module(i), self.sources(i)).sum(1).max()) for i, run in runs)

    def _text(self, i: int, plan: Plan, alone: bool) -> Text:
        run, module, sources = self.ctx.runs[i], self.module(i), self.sources(i)
        key = key_of(run, module, self._told(i, plan), self._weights_of(run)) if self._kept.folder else ""
        text = self._kept.read(key)
        failing = [name for name in self.methods if text and name in text["failed"]]
        if text is not None and not self._attributed(i, failing, masking.seen(run, module, sources))[0]:
            return text
        failed: dict[str, str] = {}

        def scores(seen: np.ndarray) -> dict[str, np.ndarray]:
            found, why = self._attributed(i, self.methods, seen)
            failed.update(why)
            given = self.given[i].items()
            return found | {name: aligned(name, result, module, sources, seen) for name, result in given}

        def after_moves(seen: np.ndarray) -> dict[str, list[np.ndarray]]:
            found = {}
            for name, how in self.methods.items():
                try:
                    if name not in failed:
                        results = moved(self.ctx, run, module, how, *self.moves, plan.rng(run, "moves"))
                        found[name] = [aligned(name, each, module, sources, seen) for each in results]
                except EccoError as error:
                    failed[f"max-sensitivity of {name}"] = str(error)
            return found

        def progress(items: Iterable[int]) -> Iterable[int]:
            return self.ctx.progress(items, total=len(module.targets)) if alone else items

        text = measured(run, module, sources, plan, scores, after_moves, progress) | {"failed": failed}
        self._kept.write(key, text)
        return text

    def _attributed(
        self, i: int, names: Iterable[str], seen: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Scores ``(target, source)`` of a run by methods that are named, and why others have none."""
        run, module, sources = self.ctx.runs[i], self.module(i), self.sources(i)
        found, failed = {}, {}
        for name in names:
            try:
                if (i, name) not in self._made:
                    self._made[i, name] = made(self.ctx, run, self.methods[name], targets_of(module))
                found[name] = aligned(name, self._made[i, name], module, sources, seen)
            except EccoError as error:
                failed[name] = str(error)
        return found, failed

    def _weights_of(self, run: Run) -> str:
        model = id(run.lm.model)
        if model not in self._weights:
            self._weights[model] = weights_of(run)
        return self._weights[model]

    def _told(self, i: int, plan: Plan) -> Mapping[str, Any]:
        offer = plugins().analysis(self.ctx.spec.name)
        options = {name: self.ctx.options[name] for name in ("contrast", "score", "features")}
        return attrs.asdict(plan) | {
            "plugin": [offer.distribution, offer.version, self.ctx.spec.name],
            "methods": [(each.label, each.name, each.options, each.version) for each in self.methods.values()],
            "given": {name: _of_given(result) for name, result in self.given[i].items()},
            "options": options,
            "moves": self.moves,
        }


def _of_given(result: TokenScores) -> str:
    """A hash of what a result says: its numbers, of which targets and sources."""
    numbers = result.values.values
    told = repr((numbers.dtype, numbers.shape, [attrs.asdict(t) for t in result.targets], result.sources)).encode()
    return hashlib.sha256(told + np.ascontiguousarray(numbers).tobytes()).hexdigest()


class Numbers:
    """What the numbers of all texts come to: means over targets, and their intervals.

    Attributes:
        names: the methods, then the floor and, where it is computed, the ceiling.
        weights: ``(sample, target)``, the bootstrap's.
    """

    def __init__(self, texts: Sequence[Text], methods: Sequence[str], plan: Plan) -> None:
        self.texts, self.plan = texts, plan
        self.methods = [name for name in methods if all(name in text["values"] for text in texts)]
        self.exact = plan.exact
        self.names = [*self.methods, FLOOR, *([CEILING] if self.exact else [])]
        groups = np.concatenate([np.full(len(text["targets"]), i) for i, text in enumerate(texts)])
        rng = np.random.default_rng([plan.seed, len(groups)])
        self.weights = intervals.resampled(groups, rng)
        self.random = rng.integers(0, plan.n_random, size=self.weights.shape)
        self.uncertain = len(groups) > 1

    def of(self, name: str, kind: str, what: str) -> np.ndarray:
        """A method's ``values`` ``(target,)`` or ``curves`` ``(target, point)``; NaN where there is no number."""
        parts = [text[kind][name][what] for text in self.texts]
        return np.array([number for part in parts for number in part], dtype=np.float64)

    def rankings(self, kind: str, what: str) -> np.ndarray:
        """The same of all random rankings, ``(ranking, target, ...)``."""
        return np.stack([self.of(f"{FLOOR} {r}", kind, what) for r in range(self.plan.n_random)])

    def summary(self, name: str, kind: str, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean over targets with its interval, each ``()`` or ``(point,)``.

        The floor's interval is that of one random ranking per target, drawn anew in each bootstrap sample.
        """
        if name == FLOOR:
            every = self.rankings(kind, what)
            mean = self._floor(every)
            samples = np.array(
                [
                    intervals.means(np.moveaxis(every[chosen, np.arange(every.shape[1])], 0, -1), weight[None])[0]
                    for chosen, weight in zip(self.random, self.weights)
                ]
            )
        else:
            mean = self.of(name, kind, what)
            samples = intervals.means(np.moveaxis(mean, 0, -1), self.weights)
        whole = intervals.means(np.moveaxis(mean, 0, -1), np.ones((1, len(mean))))[0]
        low, high = intervals.interval(samples)
        return whole, low, high

    def _floor(self, every: np.ndarray) -> np.ndarray:
        """Mean over rankings of ``(ranking, ...)``; NaN where none has a number."""
        return np.asarray(intervals.means(np.moveaxis(every, 0, -1), np.ones((1, len(every))))[0])

    def rows(self) -> list[Row]:
        """All of them, as `Faithfulness.rows`."""
        found: list[Row] = []
        for name in self.names:
            for metric in self.plan.metrics:
                found.append((name, metric, None, *self._plain(*self.summary(name, "values", metric))))
        shares = (0.0, *self.plan.fractions, 1.0)
        for name in self.names:
            for curve in self.plan.curves:
                for share, *point in zip(shares, *self.summary(name, "curves", curve)):
                    found.append((name, f"{curve} curve", share, *self._plain(*point)))
        assert all(row[1] in CURVES for row in found if row[2] is not None)
        return found

    def _plain(self, *numbers: Any) -> tuple[float | None, float | None, float | None]:
        mean, low, high = (float(n) if np.isfinite(n) else None for n in numbers)
        return (mean, low, high) if self.uncertain else (mean, None, None)

    def each(self) -> LabelledArray:
        """What the means are of: ``(method, measure, target)``."""
        targets = [
            (f"{i}: " if len(self.texts) > 1 else "") + target
            for i, text in enumerate(self.texts)
            for target in text["targets"]
        ]
        values = np.array(
            [
                [
                    self._floor(self.rankings("values", metric)) if name == FLOOR else self.of(name, "values", metric)
                    for metric in self.plan.metrics
                ]
                for name in self.names
            ]
        )
        coords: dict[str, list[Any]] = {"method": self.names, "measure": [*self.plan.metrics], "target": targets}
        return LabelledArray(values, ("method", "measure", "target"), coords)

    def recommendation(self, metric: str, does: str, measure: str) -> str:
        """Which method to believe by a measure."""
        n, texts = len(self.weights[0]), len(self.texts)
        over = f"{texts} texts" if texts > 1 else f"{n} targets"
        units = texts if texts > 1 else n
        few = f" But {over} are few, and the intervals too narrow: take more." if 1 < units < FEW else ""
        return (
            intervals.recommendation(
                self.methods,
                np.stack([self.of(name, "values", metric) for name in self.methods]),
                self._floor(self.rankings("values", metric)),
                self.weights,
                lower_is_better=metric in LOWER_IS_BETTER,
                does=does,
                measure=measure,
                over=over,
            )
            + few
        )
