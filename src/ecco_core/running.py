"""Run an analysis: find it, check its options, hand it a context, stamp what it returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import numpy as np

from ecco_core import guard
from ecco_core.data.results import Result
from ecco_core.errors import OptionError, PluginError, listed
from ecco_core.interrupts import patient
from ecco_core.options import Option, convert, fill, options_of
from ecco_core.plugin.manager import Offer, plugins
from ecco_core.plugin.specs import AnalysisSpec

if TYPE_CHECKING:
    from ecco_core.data.capture import Capture
    from ecco_core.data.results import Source
    from ecco_core.models.scores import ScoreModule
    from ecco_core.session.run import Run

Item = TypeVar("Item")
PLACES = int | Sequence[int] | None
TARGETS = int | str | Sequence[int | str] | None
SCORES = Literal["logprob", "logit", "prob", "entropy", "kl"]

#: Options that core owns, by the group that an analysis takes them with: name, type, default, help.
_GROUPS: dict[str, tuple[tuple[str, Any, Any, str], ...]] = {
    "targets": (
        ("targets", TARGETS, None, "positions (-1: last, length: next), spans ('3:6') or classes; else the output."),
        ("contrast", int | str | None, None, "a token or class: explain why the target rather than this."),
        ("score", SCORES, "logprob", "explain this of the target, or the entropy or divergence of the prediction."),
    ),
    "features": (("features", str | Sequence[str], "tokens", "tokens, words, sentences, or spans (0:4,4:9)."),),
    "sites": (("site", str, "resid_post", "what to read in each block: a site, or a plugin's capture."),),
    "layers": (("layers", PLACES, None, "layers from 0; -1 is the last; all if left out."),),
    "positions": (("positions", PLACES, None, "positions in the run; -1: last; those that it is about if left out."),),
    "labels": (("labels", Sequence[str] | None, None, "one name per run, or per token of them all."),),
    "seed": (("seed", int, 0, "start of everything random in the analysis."),),
}


def options_for(spec: AnalysisSpec, function: Callable[..., Any]) -> dict[str, Option]:
    """Return all options of an analysis: those core owns (of its groups, and the seed), then its own.

    Raises:
        PluginError: one of its own has a name that is taken.
    """
    rows = [row for group in (*spec.takes, "seed") for row in _GROUPS[group]]
    common = {
        name: Option(name, annotation, convert(spec.defaults.get(name, default), annotation, name), False, text)
        for name, annotation, default, text in rows
    }
    own = options_of(function)
    if unknown := spec.defaults.keys() - common.keys():
        raise PluginError(f"The analysis {spec.name!r} has a default of {min(unknown)!r}, which it does not take.")
    of_commands = "model text texts max_new_tokens output generation stream task device dtype save json as_json help"
    if taken := [name for name in own if name in common.keys() | set(of_commands.split())]:
        raise PluginError(f"The analysis {spec.name!r} has an option {taken[0]!r}, a name that is Ecco's own.")
    return common | own


def places(wanted: int | Sequence[int] | None, n: int, what: str) -> tuple[int, ...]:
    """Return layers or positions as numbers from 0, of `n`; all of them for None; -1 is the last.

    Raises:
        OptionError: no such place, or none at all.
    """
    wanted = convert(wanted, PLACES, f"{what}s")
    if wanted is None:
        return tuple(range(n))
    given = [wanted] if isinstance(wanted, int) else list(wanted)
    if not given:
        raise OptionError(f"No {what} was named; leave it out for all of them.")
    for place in given:
        if not -n <= place < n:
            raise OptionError(f"No {what} {place!r}; there are {n}, from 0 to {n - 1}.")
    return tuple(place % n for place in given)


class Context:
    """What an analysis is given: runs, common options already checked, and ways to compute.

    Attributes:
        runs: the runs it works on; `run` the first, `pair` the first two of them.
        options: option -> value, common and own.
        rng: numpy random generator started from the seed; `seed` that seed.
    """

    def __init__(self, runs: Sequence[Run], spec: AnalysisSpec, options: Mapping[str, Any]) -> None:
        self.runs, self.run, self.pair = tuple(runs), runs[0], tuple(runs[:2])
        self.spec = spec
        self.options = dict(options)
        self.seed: int = self.options["seed"]
        if self.seed < 0:
            raise OptionError(f"seed is a number from 0, found {self.seed}.")
        self.rng = np.random.default_rng(self.seed)
        self.notes: list[str] = []

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per run."""
        return tuple(self.options.get("labels") or [f"run {i}" for i in range(len(self.runs))])

    @guard.cached_property
    def scores(self) -> ScoreModule:
        """The chosen targets as a module from embeddings to scores."""
        wanted = {name: self.options[name] for name in ("targets", "contrast", "score") if name in self.options}
        return self.run.scores(**wanted)

    @guard.cached_property
    def features(self) -> list[Source]:
        """The tokens, words, sentences or spans that were asked for, of what the targets can see."""
        return self.run.features(self.options["features"], self.scores)

    @property
    def site(self) -> str:
        """The site that was asked for."""
        return str(self.options["site"])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of the first run that were asked for, as numbers from 0; all of them by default."""
        return self.run.resolve_layers(self.options.get("layers"))

    @property
    def positions(self) -> tuple[int, ...]:
        """The positions of the first run that were asked for, as numbers from 0; all of them by default."""
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


def analyze(name: str, runs: Run | Sequence[Run], **options: Any) -> Result:
    """Run the analysis `name` on one run, or on several; with gradients also where the caller wants none.

    Args:
        name: name or alias of an analysis, or ``distribution:name``.
        options: its own options and the common ones that it takes.

    Raises:
        AnalysisNotFoundError, OptionError: bad input. PluginError: the analysis failed.
    """
    offer = plugins().analysis(convert(name, str, "the name of an analysis"))
    function = offer.load()
    given = (runs,) if not isinstance(runs, Sequence) else tuple(runs)
    _check_inputs(offer.spec, given)
    for run in given:
        guard.lock_of(run.lm.model)
    with sys.modules["torch"].inference_mode(False), patient(), offer.at_work(f"The analysis {name!r}") as left:
        values = fill(options_for(offer.spec, function), options, of=f"the analysis {offer.spec.name!r}")
        context = Context(given, offer.spec, values)
        returned = function(context, **{option: values[option] for option in options_of(function)})
        result = _stamped(returned, offer, context)
    told = (f"{offer.distribution} {offer.version} {listed(left)}; Ecco put it right.",) if left else ()
    return attrs.evolve(result, notes=(*result.notes, *told))


def _check_inputs(spec: AnalysisSpec, runs: Sequence[Any]) -> None:
    n = len(runs)
    each = {"run": ("one run", n == 1), "pair": ("a pair of runs", n == 2), "runs": ("one or more runs", n > 0)}
    expected, fits = each[spec.inputs]
    if not fits or not all(hasattr(run, "transcript") for run in runs):
        found = [type(run).__name__ for run in runs] if len(runs) < 4 else f"{len(runs)} of them"
        raise OptionError(f"The analysis {spec.name!r} works on {expected}, found {found}.")


def _stamped(result: Any, offer: Offer[AnalysisSpec], context: Context) -> Result:
    """Check that the result is of the declared kind and note where it comes from."""
    if not isinstance(result, Result) or offer.spec.produces not in result.kinds():
        raise TypeError(f"it promises a {offer.spec.produces}, returned {type(result).__name__}")
    plain = {k: v for k, v in context.options.items() if v is not None and k != "seed" and not _holds_results(v)}
    made, by = context.run.provenance(), f"{offer.distribution} {offer.version}"
    made = attrs.evolve(made, analysis=offer.spec.name, plugin=by, options=plain, seed=context.seed)
    title = result.title or offer.spec.name.replace("_", " ")
    return attrs.evolve(result, provenance=made, title=title, notes=(*result.notes, *context.notes))


def _holds_results(value: Any) -> bool:
    return any(isinstance(one, Result) for one in (value if isinstance(value, tuple) else (value,)))
