"""Run an analysis: find it, check its options, hand it a context, stamp what it returns."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import numpy as np

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import Provenance, Result, Source, Target, TokenScores
from ecco_core.errors import EccoError, OptionError, PluginError, did_you_mean, listed
from ecco_core.options import Option, bind, convert, options_of
from ecco_core.plugin.manager import Offer, plugins
from ecco_core.plugin.specs import AnalysisSpec

if TYPE_CHECKING:
    from ecco_core.data.capture import Capture
    from ecco_core.models.scores import ScoreModule
    from ecco_core.session.run import Run

Item = TypeVar("Item")


def _targets(
    *,
    targets: int | Sequence[int] | None = None,
    contrast: int | str | None = None,
    score: Literal["logprob", "logit", "prob"] = "logprob",
) -> None:
    """What is explained.

    Options:
        targets: positions of the tokens to explain; -1 is the last, the run's length the token not chosen yet.
            All generated tokens if left out.
        contrast: a token (text or id): explain why the target rather than this.
        score: the target's log-probability, logit or probability.
    """


def _sites(*, site: str = "resid_post") -> None:
    """Where to read.

    Options:
        site: what to read in each block, such as resid_post or mlp_post, or a plugin's capture.
    """


def _layers(*, layers: int | Sequence[int] | None = None) -> None:
    """Which layers.

    Options:
        layers: layers from 0; all if left out.
    """


def _positions(*, positions: int | Sequence[int] | None = None) -> None:
    """Which positions.

    Options:
        positions: positions of tokens in the run; -1 is the last; all if left out.
    """


def _labels(*, labels: Sequence[str] | None = None) -> None:
    """What the runs are called.

    Options:
        labels: one name per run or token group.
    """


def _seed(*, seed: int = 0) -> None:
    """Randomness.

    Options:
        seed: start of everything random in the analysis.
    """


_GROUPS: dict[str, Callable[..., None]] = {
    "targets": _targets,
    "sites": _sites,
    "layers": _layers,
    "positions": _positions,
    "labels": _labels,
}


def common_options(spec: AnalysisSpec) -> dict[str, Option]:
    """Return the options of an analysis that core owns: its groups', and the seed."""
    options: dict[str, Option] = {}
    for group in spec.takes:
        options |= options_of(_GROUPS[group]) if group in _GROUPS else {}
    return options | options_of(_seed)


class Context:
    """What an analysis is given: runs, common options already checked, and ways to compute.

    Attributes:
        runs: the runs it works on; `run` the first, `pair` the first two.
        options: common option -> value.
        rng: numpy random generator started from the seed; `seed` that seed.
    """

    def __init__(self, runs: Sequence[Run], spec: AnalysisSpec, options: Mapping[str, Any]) -> None:
        self.runs = tuple(runs)
        self.spec = spec
        self.options = dict(options)
        self.seed: int = self.options["seed"]
        self.rng = np.random.default_rng(self.seed)
        self.notes: list[str] = []

    @property
    def run(self) -> Run:
        """The run, or the first of several."""
        return self.runs[0]

    @property
    def pair(self) -> tuple[Run, Run]:
        """The two runs to compare."""
        return self.runs[0], self.runs[1]

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per run."""
        return tuple(self.options.get("labels") or [f"run {i}" for i in range(len(self.runs))])

    @functools.cached_property
    def scores(self) -> ScoreModule:
        """The chosen targets as a module from embeddings to scores."""
        wanted = {name: self.options[name] for name in ("targets", "contrast", "score") if name in self.options}
        return self.run.scores(**wanted)

    @property
    def site(self) -> str:
        """The site that was asked for."""
        return str(self.options["site"])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were asked for, as numbers from 0; all of them by default."""
        return self.run.resolve_layers(self.options.get("layers"))

    @property
    def positions(self) -> tuple[int, ...]:
        """The positions that were asked for, as numbers from 0; all of them by default."""
        return self.run.resolve_positions(self.options.get("positions"))

    def capture(self, *sites: str, layers: int | Sequence[int] | None = None, run: Run | None = None) -> Capture:
        """Read sites (or plugins' captures) of a run in one forward pass; see `Run.capture`."""
        return (run or self.run).capture(*sites, layers=layers)

    def analyze(self, name: str, **options: Any) -> Result:
        """Run another analysis on the same runs."""
        return analyze(name, self.runs if len(self.runs) > 1 else self.run, **options)

    def note(self, text: str) -> None:
        """Say something that a reader of the result has to know; it is shown with it."""
        if text not in self.notes:
            self.notes.append(text)

    def progress(self, items: Iterable[Item], total: int | None = None, what: str = "") -> Iterator[Item]:
        """Iterate with a progress bar on standard error if it is a terminal and it takes more than 2 s."""
        from tqdm import tqdm

        quiet = sys.stderr is None or not sys.stderr.isatty()
        bar: Iterable[Item] = tqdm(items, total=total, desc=what or self.spec.name, delay=2, leave=False, disable=quiet)
        yield from bar

    def token_scores(
        self,
        values: np.ndarray,
        *,
        target_values: np.ndarray,
        aggregation: str = "sum",
        signed: bool = True,
        change: np.ndarray | None = None,
        total: np.ndarray | None = None,
        baseline: str = "",
    ) -> TokenScores:
        """Make the result of an attribution from its numbers.

        Args:
            values: ``(target, source)`` over ``scores.n_sources`` tokens.
            target_values: ``(target,)``, each score at the run's input.
            change: ``(target,)``, score(input) − score(baseline), for methods that promise to add up to it.
            total: ``(target,)``, what the method's contributions add up to; the sum of `values` if left out.
            baseline: what absence was taken to be, in words.
        """
        scores, run = self.scores, self.run
        if change is not None:
            total = values.sum(1) if total is None else total
        targets = [_valued(target, float(value)) for target, value in zip(scores.targets, target_values)]
        tokens = run.tokens
        sources = [Source(stack="decoder", positions=(p,), text=tokens.labels[p]) for p in range(scores.n_sources)]
        coords = {"target": [t.position for t in targets]}
        return TokenScores(
            values=LabelledArray(values, ("target", "source"), coords),
            tokens=run.transcript.tokens,
            sources=sources,
            targets=targets,
            n_input_tokens=run.n_input_tokens,
            aggregation=aggregation,
            signed=signed,
            completeness=None if change is None else LabelledArray(change - total, ("target",), coords),
            change=None if change is None else LabelledArray(change, ("target",), coords),
            baseline=baseline,
        )


def _valued(target: Target, value: float) -> Target:
    probability = {"logprob": float(np.exp(value)), "prob": value}.get(target.score)
    return attrs.evolve(target, value=value, probability=None if target.contrast_id is not None else probability)


def analyze(name: str, runs: Run | Sequence[Run], **options: Any) -> Result:
    """Run the analysis `name` on one run, or on several.

    Args:
        name: name or alias of an analysis, or ``distribution:name``.
        options: its own options and the common ones that it takes.

    Raises:
        AnalysisNotFoundError, OptionError: bad input. PluginError: the analysis failed.
    """
    offer = plugins().analysis(name)
    function = offer.load()
    given = (runs,) if not isinstance(runs, Sequence) else tuple(runs)
    _check_inputs(offer.spec, given)
    common, own = split_options(offer, function, options)
    context = Context(given, offer.spec, common)
    try:
        result = function(context, **own)
    except EccoError:
        raise
    except Exception as error:
        raise PluginError(
            f"The analysis {name!r} of {offer.distribution} {offer.version} failed: {type(error).__name__}: {error}"
        ) from error
    return _stamped(result, offer, context, own)


def _check_inputs(spec: AnalysisSpec, runs: Sequence[Any]) -> None:
    expected = {"run": "one run", "pair": "a pair of runs", "runs": "one or more runs"}.get(spec.inputs, spec.inputs)
    fits = {"run": len(runs) == 1, "pair": len(runs) == 2, "runs": len(runs) >= 1}.get(spec.inputs, True)
    if not fits or not all(hasattr(run, "transcript") for run in runs):
        found = [type(run).__name__ for run in runs] if len(runs) < 4 else f"{len(runs)} of them"
        raise OptionError(f"The analysis {spec.name!r} works on {expected}, found {found}.")


def split_options(
    offer: Offer[AnalysisSpec], function: Callable[..., Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the checked common options (with defaults) and the checked own options of an analysis.

    Raises:
        OptionError: an option is unknown or wrong.
    """
    common, own = common_options(offer.spec), options_of(function)
    what = f"the analysis {offer.spec.name!r}"
    for name in given:
        if name not in common and name not in own:
            known = [*own, *common]
            raise OptionError(
                f"{what} has no option {name!r}.{did_you_mean(name, known)} It takes: {listed(known, 20)}."
            )
    values = {name: option.default for name, option in common.items()}
    for name in common:
        if name in given:
            values[name] = convert(given[name], common[name].annotation, f"option {name!r} of {what}")
    return values, bind(function, {k: v for k, v in given.items() if k not in common}, of=what)


def _stamped(result: Any, offer: Offer[AnalysisSpec], context: Context, own: Mapping[str, Any]) -> Result:
    """Check that the result is of the declared kind and note where it comes from."""
    spec = offer.spec
    if not isinstance(result, Result) or spec.produces not in result.kinds():
        raise PluginError(
            f"The analysis {spec.name!r} of {offer.distribution} promises a {spec.produces}, returned "
            f"{type(result).__name__}."
        )
    run = context.run
    options = {k: v for k, v in {**context.options, **own}.items() if v is not None and not isinstance(v, Result)}
    options.pop("seed", None)
    versions = {name: _version(name) for name in ("ecco-core", "torch", "transformers")}
    provenance = Provenance(
        analysis=spec.name,
        plugin=f"{offer.distribution} {offer.version}",
        model=run.lm.name,
        model_type=run.lm.model_type,
        options=options,
        seed=context.seed,
        precision=run.lm.precision,
        device=run.lm.device,
        versions=versions,
        interventions=run.transcript.interventions,
    )
    title = result.title or spec.name.replace("_", " ")
    return attrs.evolve(result, provenance=provenance, title=title, notes=(*result.notes, *context.notes))


@functools.cache
def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)
