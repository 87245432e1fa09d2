"""The promises of an analysis."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from ecco_core.data.results import Result
from ecco_core.errors import EccoError, OptionError, PluginError, listed, one_line
from ecco_core.options import Option, fill, options_of
from ecco_core.plugin.manager import Offer
from ecco_core.plugin.specs import AnalysisSpec
from ecco_core.testing import comparing, media as showing, models
from ecco_core.testing.contract import TargetContract, broken

Invariance = Callable[[Any, np.random.Generator], Any]
#: Axes along which a result has one place for each token, or feature, of its run.
TOKEN_AXES = ("position", "token", "source", "query", "key")
#: Sites that are read in one padded forward before a batch is explained.
SITES = ("resid_post", "mlp_post", "attn_out")


#: Checks of a result: an analysis that refuses the kit's models has none.
OF_RESULTS = (
    "test_dims_and_labels",
    "test_same_seed_same_result",
    "test_saved_and_loaded",
    "test_batch_and_padding_do_not_matter",
    "test_shown_in_every_medium",
)


@attrs.define
class Made:
    """What one call made of an analysis: a result or an error, and what it changed that is not its own."""

    result: Any = None
    error: Exception | None = None
    changed: list[str] = attrs.field(factory=list)
    drawn: list[str] = attrs.field(factory=list)


class AnalysisContract(TargetContract):
    """What users of an analysis rely on.

    Attributes:
        name: the analysis to check; or `distribution`: all of its analyses.
        options: given to each analysis that takes them: what it needs, or what makes it cheap.
        model_type, task: the small random model that it explains. `texts`: one run of each is made.
        max_new_tokens: how many tokens each run generates.
        tolerance: how far numbers of a second call, and of a run in a padded batch, may be from those of the run
            alone, relative to the largest; the model computes in float64, and sums differ in the last digits.
        refuses: analysis -> what its EccoError says, for analyses that by their nature refuse the kit's models.
        invariances: name -> function of ``(values (token, unit), rng)`` that changes what the analysis captures in a
            way that must not change the numbers of its result; see `ecco_core.testing.invariances`.
        media: beginnings of the media that its result is shown in, such as ``"text/"``; all that are installed if
            left out.
    """

    hook = "ecco_analyses"
    options: ClassVar[Mapping[str, Any]] = {}
    model_type: ClassVar[str] = "gpt2"
    task: ClassVar[str] = "causal"
    texts: ClassVar[Sequence[str]] = (
        "The captain is called Nora. Everyone",
        "The cook is called Felix. Everyone thanked the captain and the cook",
    )
    max_new_tokens: ClassVar[int] = 2
    tolerance: ClassVar[float] = 1e-6
    refuses: ClassVar[Mapping[str, str]] = {}
    invariances: ClassVar[Mapping[str, Invariance]] = {}
    media: ClassVar[Sequence[str]] = ("",)
    _made: ClassVar[dict[tuple[str, str], Made]] = {}
    _batch: ClassVar[list[Any]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._made, cls._batch = {}, []
        if "test_declared_invariance" not in vars(cls):  # none declared, none checked
            declared = AnalysisContract.test_declared_invariance if cls.invariances else None
            setattr(cls, "test_declared_invariance", declared)  # noqa: B010

    @classmethod
    def offers(cls, check: str = "") -> list[Offer[Any]]:
        """The analyses; a check of results is about those that have one on the kit's models."""
        refused = cls.refuses if check in OF_RESULTS else ()
        return [offer for offer in super().offers(check) if offer.spec.name not in refused]

    # What a subclass may override besides the attributes.

    def lm(self) -> Any:
        """The model whose runs are explained."""
        return models.language_model(self.model_type, self.task)

    def given(self, spec: AnalysisSpec, runs: Sequence[Any]) -> dict[str, Any]:
        """The options given to one analysis of these runs: those of `options` that it takes."""
        return {name: value for name, value in self.options.items() if name in self._options(spec)}

    @classmethod
    def teardown_class(cls) -> None:
        """Where a call changed its model, let the checks of other plugins start from a new one."""
        if any(made.changed for made in cls._made.values()):
            models.language_model.cache_clear()
            _spoiled.cache_clear()

    # The promises.

    def test_options_are_explicit(self, offer: Offer[AnalysisSpec]) -> None:
        """Its options are keyword-only parameters with types that an option can have and names that are free."""
        try:
            self._options(offer.spec)
        except PluginError as error:
            broken(offer.spec.name, str(error).rstrip("."), "Write each option as *, name: type = default.")

    def test_options_are_documented(self, offer: Offer[AnalysisSpec]) -> None:
        """Each of its own options has a line under ``Options:`` in the docstring, and no other has."""
        target, function = offer.spec.target, self.target(offer)
        doc = inspect.getdoc(function) or ""
        if not doc.strip():
            broken(offer.spec.name, f"{target} has no docstring", "Say in one sentence what it shows.")
        options = {} if self._unreadable(offer) else options_of(function)
        silent = [name for name, option in options.items() if not option.help]
        section = doc.partition("\nOptions:\n")[2].split("\n\n")[0]
        gone = [name for name in re.findall(r"^ {4}(\w+):", section, re.MULTILINE) if name not in options]
        if options and (silent or gone):
            found = f"{listed(silent)} is not documented" if silent else f"{listed(gone)} is documented but not taken"
            broken(offer.spec.name, found, f"Write 'name: what it is' under Options: in the docstring of {target}.")

    def test_result_is_of_the_declared_kind(self, offer: Offer[AnalysisSpec]) -> None:
        """It explains the runs, and returns the kind of result that its spec says."""
        if self._unreadable(offer):
            pytest.skip("its options cannot be read; test_options_are_explicit says why")
        taken = {name for each in self.offers() for name in self._options(each.spec)}
        if unknown := self.options.keys() - taken:
            broken(type(self).__name__, f"no analysis here has the option {min(unknown)!r}", "Take it out of options.")
        made, who = self._alone(offer), offer.spec.name
        if who in self.refuses:
            if not isinstance(made.error, EccoError) or self.refuses[who] not in str(made.error):
                found = one_line(made.error) if made.error else f"a {type(made.result).__name__}"
                broken(who, f"it was to refuse with {self.refuses[who]!r}, found {found}", "Take it out of refuses.")
            return
        if isinstance(made.error, OptionError):
            mend = f"Set options = {{...}} in {type(self).__name__}."
            if offer.spec.inputs == "runs":
                mend += " ctx.positions are the first run's: use run.resolve_positions(ctx.options['positions'])."
            broken(who, str(made.error), mend)
        if made.error is not None:
            broken(who, f"it raises {one_line(made.error)}", "Mend it, or give options that it works with.")
        if not isinstance(made.result, Result) or offer.spec.produces not in made.result.kinds():
            found = f"its spec says produces={offer.spec.produces!r}, it returns a {type(made.result).__name__}"
            broken(who, found, "Say what it returns.")

    def test_dims_and_labels(self, offer: Offer[AnalysisSpec]) -> None:
        """Arrays have the axes of their kind, one label for each place, layers that exist and finite numbers."""
        result = self._result(offer)
        n_layers = self._n_layers()
        for wrong in comparing.misnamed(result, n_layers):
            broken(offer.spec.name, wrong, "docs/api.md says what the axes of each kind are.")
        if place := comparing.not_finite(result):
            broken(offer.spec.name, f"{place} is not finite", "Say why there is no number, by an EccoError.")

    def test_inputs_are_untouched(self, offer: Offer[AnalysisSpec]) -> None:
        """Runs, weights, buffers, modes, hooks, options and the process's own switches are as they were."""
        changed = [*self._alone(offer).changed, *self._call(offer, self._runs(), "batch").changed]
        if changed:
            broken(offer.spec.name, f"it leaves {listed(changed, 3)} changed", "Work on copies; hooks in with blocks.")

    def test_same_seed_same_result(self, offer: Offer[AnalysisSpec]) -> None:
        """The same seed gives the same result, whatever else is random in the process."""
        result = self._result(offer)
        again = self._call(offer, self._replays(), "again", seed=1)
        if again.error is not None:
            broken(offer.spec.name, f"the second call raises {one_line(again.error)}", "Keep no state between calls.")
        if found := comparing.difference(result, again.result, self.tolerance):
            broken(offer.spec.name, f"two calls differ: {found}", "Take what is random from ctx.rng or ctx.seed.")
        if again.drawn:
            found = f"it draws from or reseeds {listed(again.drawn)} random generator, which all code shares"
            broken(offer.spec.name, found, "Take what is random from ctx.rng or ctx.seed.")

    def test_saved_and_loaded(self, offer: Offer[AnalysisSpec], tmp_path: Path) -> None:
        """Its result is the same after ``result.save("name.ecco")`` and ``ecco.load``, and reads the same."""
        import ecco_core as ecco

        result = self._result(offer)
        try:
            loaded = ecco.load(result.save(tmp_path / "result.ecco"))
        except EccoError as error:
            broken(
                offer.spec.name, f"its result cannot be saved: {error}", "Put arrays, labels and plain values in it."
            )
        found = comparing.difference(result, loaded)
        if found or loaded.to_text() != result.to_text():
            broken(offer.spec.name, f"loaded, it differs: {found or 'as text'}", "Keep all of it in its fields.")

    def test_batch_and_padding_do_not_matter(self, offer: Offer[AnalysisSpec]) -> None:
        """A run that was made and read in a padded batch is explained like the same run alone."""
        result = self._result(offer)
        self._repeatable(offer)
        if offer.spec.inputs == "run":
            other = self._call(offer, self._runs()[1:], "other")
            per_token = any(dim in TOKEN_AXES for array in result.arrays().values() for dim in array.dims)
            if per_token and not other.error and not comparing.difference(result, other.result):
                broken(offer.spec.name, "two runs of other texts have one result", "Keep no state between calls.")
        batch = self._call(offer, self._runs(), "batch")
        if batch.error is not None:
            broken(offer.spec.name, f"in a batch it raises {one_line(batch.error)}", "Treat each run by itself.")
        if found := comparing.difference(result, batch.result, self.tolerance):
            broken(offer.spec.name, f"alone and in a batch differ: {found}", "Treat each run by itself.")

    def test_short_input(self, offer: Offer[AnalysisSpec]) -> None:
        """One token, and a run where nothing was generated: a finite result, or an EccoError that says why not."""
        first = self._runs()[0]
        size = first.n_input_tokens
        prompts = [first.text[:1], "b", *self.texts]
        short = [self._read(first.lm, text) for text in prompts]
        for what, runs in (("one token", short[:2]), (f"{size} tokens and nothing generated", short[2:])):
            self._finite(offer, self._call(offer, runs, what), what)

    def test_other_sites(self, offer: Offer[AnalysisSpec]) -> None:
        """A site outside of layers (embedding) or with other axes (pattern): a finite result, or an EccoError."""
        if "sites" in offer.spec.takes and not self._unreadable(offer):
            for site in ("embedding", "pattern"):
                self._finite(offer, self._call(offer, self._replays(), f"site={site!r}", site=site), f"site={site!r}")

    def test_no_number_is_said(self, offer: Offer[AnalysisSpec]) -> None:
        """A model whose weights are NaN: an EccoError that says so, or a finite result; never NaN in silence."""
        broken_model = _spoiled(self.lm())
        runs = [broken_model.replay(run.transcript) for run in self._runs()]
        self._finite(offer, self._call(offer, runs, "nan"), "a model of NaN")

    def test_shown_in_every_medium(self, offer: Offer[AnalysisSpec]) -> None:
        """Every installed medium shows its result; plain text is there, without control characters."""
        result = self._result(offer)
        text = result.to_text()
        if acting := showing.acting(text):
            broken(offer.spec.name, f"its plain text has the control character {acting!r}", "Make texts visible().")
        if len(text.splitlines()) < 2:
            broken(offer.spec.name, f"its plain text is only {text!r}", "Give the result blocks(), or values.")
        for medium in showing.of(result, self.media):
            try:
                showing.rendered(result, medium)
            except EccoError as error:
                broken(offer.spec.name, f"{medium}: {error}", "Mend the result or the renderer.")

    def test_declared_invariance(self, offer: Offer[AnalysisSpec], invariance: str) -> None:
        """A change of what it reads that is declared not to matter does not change its numbers (hypothesis)."""
        from ecco_core.testing.invariances import counterexample

        self._repeatable(offer)
        call = functools.partial(self._compute, offer)
        found = counterexample(call, self._runs(), self.invariances[invariance], self.tolerance)
        if found:
            broken(offer.spec.name, f"{invariance!r} changes its result: {found}", "Mend it, or declare it no more.")

    # How.

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One id for each analysis that the check is about and, of what is declared, each invariance."""
        super().pytest_generate_tests(metafunc)
        if "invariance" in metafunc.fixturenames:
            metafunc.parametrize("invariance", list(self.invariances))

    def _unreadable(self, offer: Offer[AnalysisSpec]) -> bool:
        try:
            options_of(self.target(offer))
        except PluginError:
            return True
        return False

    def _options(self, spec: AnalysisSpec) -> dict[str, Option]:
        from ecco_core.running import options_for

        return options_for(spec, spec.load())

    def _runs(self) -> Any:
        """Runs of the texts, made and read as one padded batch."""
        if not self._batch:
            lm = self.lm()
            make = lm.generate if lm.task in ("causal", "seq2seq") else lambda texts, **_: lm(texts)
            runs = make(list(self.texts), max_new_tokens=self.max_new_tokens)
            runs.capture(*[site for site in SITES if site in lm.architecture.sites(lm.stack)])
            self._batch.append(runs)
        return self._batch[0]

    def _replays(self) -> list[Any]:
        """The same runs, each by itself and with nothing read yet."""
        return [run.lm.replay(run.transcript) for run in self._runs()]

    def _read(self, lm: Any, text: str) -> Any:
        return lm.generate(text, max_new_tokens=0) if lm.task in ("causal", "seq2seq") else lm(text)

    def _n_layers(self) -> int:
        architecture = self.lm().architecture
        return max(int(architecture.n_layers(stack)) for stack in architecture.stacks)

    def _result(self, offer: Offer[AnalysisSpec]) -> Result:
        made = self._alone(offer)
        if not isinstance(made.result, Result):
            pytest.skip("it gives no result; test_result_is_of_the_declared_kind says why")
        return made.result

    def _repeatable(self, offer: Offer[AnalysisSpec]) -> None:
        again = self._call(offer, self._replays(), "again", seed=1)
        if comparing.difference(self._result(offer), again.result, self.tolerance):
            pytest.skip("two calls differ; test_same_seed_same_result says so")

    def _alone(self, offer: Offer[AnalysisSpec]) -> Made:
        return self._call(offer, self._replays(), "alone")

    def _compute(self, offer: Offer[AnalysisSpec], runs: Sequence[Any], **more: Any) -> Any:
        """Call the function itself, so that what it raises is seen as it is."""
        from ecco_core.running import Context

        spec, function = offer.spec, self.target(offer)
        some = runs[: {"run": 1, "pair": 2}.get(spec.inputs, len(runs))]
        if spec.inputs == "runs":  # the longest first: its positions are not those of all
            some = sorted(some, key=len, reverse=True)
        values = fill(self._options(spec), self.given(spec, some) | more, of=f"the analysis {spec.name!r}")
        context = Context(some, spec, values)
        result = function(context, **{option: values[option] for option in options_of(function)})
        return attrs.evolve(result, notes=(*result.notes, *context.notes)) if isinstance(result, Result) else result

    def _call(self, offer: Offer[AnalysisSpec], runs: Sequence[Any], what: str, seed: int = 0, **more: Any) -> Made:
        """Call it once, and keep what came of it; `seed` starts the generators that it must not use."""
        key = (f"{offer.distribution}:{offer.spec.name}", what)
        if key not in self._made:
            made = self._made[key] = Made()
            before = _state(runs) | {"the options given": repr(self.options)}
            comparing.reseeded(seed)
            generators = comparing.state_of_generators()
            try:
                made.result = self._compute(offer, runs, **more)
            except Exception as error:
                made.error = error
            made.drawn = comparing.changed(generators, comparing.state_of_generators())
            made.changed = comparing.changed(before, _state(runs) | {"the options given": repr(self.options)})
        return self._made[key]

    def _finite(self, offer: Offer[AnalysisSpec], made: Made, what: str) -> None:
        error = made.error.__cause__ if isinstance(made.error, PluginError) and made.error.__cause__ else made.error
        if error is not None and not isinstance(error, EccoError):
            broken(
                offer.spec.name, f"{what}: it raises {one_line(error)}", "Raise an EccoError with one clear sentence."
            )
        if isinstance(made.result, Result) and (place := comparing.not_finite(made.result)):
            broken(offer.spec.name, f"{what}: {place} is not finite", "Raise an EccoError that says why.")


@functools.cache
def _spoiled(lm: Any) -> Any:
    return models.spoiled(lm)


def _state(runs: Sequence[Any]) -> dict[str, Any]:
    """What an analysis is given and must leave as it is: its runs and what was read of them, the model, switches."""
    found = comparing.state_of_model(runs[0].lm.model) | comparing.state_of_process()
    for place, run in enumerate(runs):
        found[f"transcript of run {place}"] = (run.transcript, repr(list(comparing.leaves(run.transcript.tokens))))
        for (*_, (_, site, layer)), tensor in run._read.items():
            found[f"captured {site} of layer {layer}, run {place}"] = tensor.detach().double().cpu().numpy().tobytes()
    return found
