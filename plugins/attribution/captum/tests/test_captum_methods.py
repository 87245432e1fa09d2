"""Every method on every kind of model: what docs/attribution.md says of each is checked, and the page is up to date."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import attrs
import numpy as np
import pytest

import ecco_core as ecco

DOCS = Path(__file__).parents[4] / "docs"
TEXT = (DOCS / "attribution.md").read_text(encoding="utf-8")
GENERATOR = runpy.run_path(str(DOCS / "generate_attribution.py"))
METHODS, MODELS = list(GENERATOR["methods"]()), list(GENERATOR["MODELS"])
TOLD = GENERATOR["marks"](TEXT)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_each_cell_is_what_the_page_says(method, model):
    assert GENERATOR["cell"](method, model).mark == TOLD.get((method, model)), "write the page anew: make docs"


def test_the_page_has_exactly_the_methods_that_are_registered():
    assert set(TOLD) == {(method, model) for method in METHODS for model in MODELS}, "write the page anew: make docs"
    assert {"integrated_gradients", "deep_lift", "occlusion", "kernel_shap"} <= set(METHODS)


def test_all_but_two_methods_work_on_text():
    assert set(METHODS) - {method for (method, _), mark in TOLD.items() if mark == "works"} == {
        "guided_grad_cam",
        "captum_lrp",
    }


def test_the_page_is_what_its_generator_writes():
    assert GENERATOR["page"](TEXT) == TEXT, "write the page anew: make docs"


def test_the_pages_example_prints_what_it_says():
    (block,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "attribution.md", "exec"), {})
    assert printed.getvalue().splitlines() == re.findall(r"  # -> (.*)$", block, re.MULTILINE)


@pytest.mark.parametrize("model", ["gpt2", "bert"])
@pytest.mark.parametrize("method", [method for method in METHODS if method != "noise_tunnel"])
def test_noise_goes_around_every_method_that_works(method, model):
    run, targets = GENERATOR["run_on"](model)
    own = GENERATOR["options_for"](method, run)
    passed = {option: own[option] for option in ("n_steps", "layer", "site", "unit", "targets") if option in own}
    options = {**targets, **passed, "method": method, "n_samples": 2}
    if TOLD[method, model] == "works":
        assert GENERATOR["checked"]("noise_tunnel", run, options) == ""
    else:
        with pytest.raises(ecco.OptionError):
            run.analyze("noise_tunnel", **options)


class Wrong:
    """A run whose analyses are real but for one thing that is spoilt."""

    def __init__(self, spoil):
        self.run, _ = GENERATOR["run_on"].__wrapped__("gpt2")
        self.spoil, self.calls = spoil, 0

    def __getattr__(self, name):
        return getattr(self.run, name)

    def analyze(self, name, **options):
        self.calls += 1
        return self.spoil(self.run.analyze(name, **options), self)


def with_values(change):
    """Spoil the scores ``(target, source)``."""

    def spoil(result, wrong):
        values = change(result.values.values.copy(), result, wrong)
        return attrs.evolve(result, values=attrs.evolve(result.values, values=values))

    return spoil


def put(array, place, value):
    array[place] = value
    return array


def missing(result, wrong):
    error = attrs.evolve(result.completeness, values=result.completeness.values + 1)
    return attrs.evolve(result, completeness=error)


def far_off(result, wrong):
    values, error = (attrs.evolve(a, values=v) for a, v in (
        (result.values, result.values.values * 0.5),
        (result.completeness, result.change.values - result.values.values.sum(1) * 0.5),
    ))  # fmt: skip
    return attrs.evolve(result, values=values, completeness=error)


def noted(result, wrong):
    return attrs.evolve(result, notes=("DEGENERATE, as allowed",))


def leaving(change):
    """Spoil what an analysis leaves behind."""

    def spoil(result, wrong):
        change(wrong.lm.model)
        return result

    return spoil


def random_state(_model):
    import torch

    torch.rand(1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_values(lambda v, r, w: put(v, (0, 0), np.nan)), "no numbers"),
        (with_values(lambda v, r, w: put(v, (0, -1), 1e-12)), "to what comes after it"),
        (with_values(lambda v, r, w: v * 0), "are the same"),
        (lambda r, w: attrs.evolve(r, sources=r.sources[::-1]), "its features are"),
        (lambda r, w: attrs.evolve(r, sources=[*r.sources[1:], r.sources[1]]), "its features are"),
        (
            lambda r, w: attrs.evolve(r, targets=[attrs.evolve(t, value=t.value + 1e-3) for t in r.targets]),
            "values are not what the model gives",
        ),
        (with_values(lambda v, r, w: v * (1 + 1e-15 * w.calls)), "other scores with the same seed"),
        (with_values(lambda v, r, w: v), None),
        (lambda r, w: attrs.evolve(r, signed=False), "signed says the opposite"),
        (missing, "is not what the scores miss"),
        (far_off, "of the change"),
        (noted, "should not say that it degenerates"),
        (leaving(lambda m: m.train(not m.training)), "the mode changed"),
        (leaving(lambda m: m.lm_head.register_forward_hook(lambda *_: None)), "hooks changed"),
        (leaving(lambda m: setattr(m.lm_head, "rule", 1)), "attributes of modules changed"),
        (leaving(lambda m: m.lm_head.weight.requires_grad_(not m.lm_head.weight.requires_grad)), "gradients changed"),
        (leaving(lambda m: m.lm_head.weight.data.add_(1e-9)), "parameters changed"),
        (leaving(random_state), "torch's random state changed"),
    ],
)
def test_a_result_that_breaks_a_promise_is_noticed(spoil, message):
    expected = pytest.raises(GENERATOR["WrongError"], match=message) if message else contextlib.nullcontext()
    with expected:
        GENERATOR["checked"]("integrated_gradients", Wrong(spoil), {"n_steps": 32})


def test_fitted_shapley_values_of_early_targets_are_near_the_exact_ones_and_add_up(make_lm):
    lm = make_lm("llama")
    lm.model.double()
    run = lm("The captain is called Nora. The cook")
    assert len(run) > 7
    spans = [*(f"{p}:{p + 1}" for p in range(5)), f"5:{len(run)}"]
    options = {"targets": [3, 5, -1], "features": spans}
    exact, fitted = run.analyze("shapley_values", **options), run.analyze("kernel_shap", n_samples=400, **options)
    np.testing.assert_allclose(fitted.completeness.values, 0, atol=1e-9)
    np.testing.assert_allclose(fitted.values.values.sum(1), exact.change.values, atol=1e-9)
    assert np.abs(fitted.values.values - exact.values.values).max() < 0.1 * np.abs(exact.values.values).max()
    first = run.analyze("kernel_shap", targets=1, features=spans)
    np.testing.assert_allclose(first.values.values[0, 0], first.change.values[0], atol=1e-9)


def test_a_baselines_name_is_never_taken_for_a_text(prose):
    run = prose.generate("The captain is", output=" called Nora.")
    n = len(prose.tokenizer("auto").input_ids)
    assert n > 1
    assert run.analyze("deep_lift", targets=n, baseline="auto").baseline == "token '<|endoftext|>' in every place"


def test_a_text_as_a_baseline_is_as_long_as_the_run_or_as_what_its_targets_see(prose):
    run = prose.generate("The captain is", output=" called Nora.")
    long, short = (run.analyze("deep_lift", targets=-1, baseline=f"The cook is called Felix{end}") for end in (".", ""))
    assert "the text" in long.baseline
    np.testing.assert_array_equal(long.values.values, short.values.values)
    with pytest.raises(ecco.TargetError, match=r"a text of 5 tokens\): 'The cook' is 2 tokens of this vocabulary"):
        run.analyze("deep_lift", targets=-1, baseline="The cook")


@pytest.mark.parametrize("method", ["shapley_value_sampling", "gradient_shap", "lime"])
def test_a_seed_of_any_size_gives_the_same_numbers_again(prose, method):
    run = prose("The captain is called Nora.")
    once, again, other = (run.analyze(method, targets=-1, seed=s).values.values for s in (10**30, 10**30, 10**30 + 1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
