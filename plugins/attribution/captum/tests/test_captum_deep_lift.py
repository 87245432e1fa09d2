"""DeepLift's rules: exact on whole models, Captum's own where that has rules, closed forms for each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from ecco_captum.rules import pair, plain
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional

import ecco_core as ecco

DOUBLE = torch.float64
EXACT = (
    *((kind, "causal") for kind in ("gpt2", "llama", "gpt_neox", "opt", "gemma2", "phi3", "falcon", "mamba")),
    ("bert", "masked"), ("modernbert", "masked"), ("roberta", "token_classification"),
    ("bert", "sequence_classification"), ("t5", "seq2seq"), ("bart", "seq2seq"),
)  # fmt: skip


def run_of(open_tiny, kind, task, dtype=DOUBLE):
    lm = open_tiny(kind, task, dtype=dtype)
    if task in ("causal", "seq2seq"):
        return lm.generate("Nora is here.", max_new_tokens=3)
    return lm("The <mask> is <mask>." if task == "masked" else "Nora is here.")


@pytest.mark.parametrize(("kind", "task"), EXACT)
def test_contributions_add_up_to_the_change(open_tiny, kind, task):
    run = run_of(open_tiny, kind, task)
    found = run.analyze("deep_lift")
    scale = np.abs(found.change.values).max()
    assert np.abs(found.completeness.values).max() < 1e-4 * scale
    first_order = run.analyze("integrated_gradients", n_steps=2, method="riemann_right")  # (x − x₀) · gradient at x
    assert np.abs(found.completeness.values).max() < 0.01 * np.abs(first_order.completeness.values).max()
    assert np.allclose([t.value for t in found.targets], [t.value for t in run.analyze("saliency").targets])


def test_on_a_trained_model_the_copied_name_comes_first(prose):
    run = prose.generate("We met a captain called Nora. The name of the captain was", max_new_tokens=1)
    found = run.analyze("deep_lift")
    assert found.relative_error().max() < 1e-3
    assert found.sources[int(found.values.values[0].argmax())].text == " Nora"
    several = run.analyze("deep_lift_shap", n_samples=4)
    assert several.relative_error().max() < 1e-3
    assert np.array_equal(several.values.values, run.analyze("deep_lift_shap", n_samples=4).values.values)


def test_it_is_captums_where_captum_has_all_rules():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3), nn.Sigmoid()).double()
    here, there = torch.randn(2, 1, 5, dtype=DOUBLE)
    for target in range(3):
        expected = DeepLift(net).attribute(here, there, target=target)
        both = pair(here, there).requires_grad_()
        (gradient,) = torch.autograd.grad(plain(net(both))[0, target], both)
        torch.testing.assert_close(plain(gradient)[:1] * (here - there), expected, rtol=1e-6, atol=1e-9)


FUNCTIONS = {
    "gelu": functional.gelu,
    "tanh gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": functional.silu,
    "relu squared": lambda x: functional.relu(x) ** 2,
    "cubed": lambda x: x**3,
    "gate": lambda x: functional.silu(x) * (x @ torch.ones(6, 6, dtype=x.dtype)),
    "ratio": lambda x: x / (1 + x * x),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "layer norm": lambda x: functional.layer_norm(x, (6,)),
    "rms norm": lambda x: functional.rms_norm(x, (6,), eps=1e-6),
    "attention": lambda x: functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True),
    "einsum": lambda x: torch.einsum("btd,bsd->bts", x, x),
    "cap": lambda x: 3 * torch.tanh(x / 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(1e-3, 30))
def test_each_rule_is_exact(name, seed, size):
    rng = torch.Generator().manual_seed(seed)
    here, there = size * torch.randn(2, 1, 4, 6, dtype=DOUBLE, generator=rng)
    function, weights = FUNCTIONS[name], torch.randn(1000, dtype=DOUBLE, generator=rng)
    with torch.no_grad():
        values = function(torch.cat([here, there])).flatten(1)
        change = float((values[0] - values[1]) @ weights[: values.shape[1]])
    both = pair(here, there).requires_grad_()
    after = plain(function(both)).flatten(1)
    torch.testing.assert_close(after, values, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad((after[0] * weights[: after.shape[1]]).sum(), both)
    told = float((plain(gradient)[:1] * (here - there)).sum())
    parts = float((plain(gradient)[:1] * (here - there)).abs().sum()) + abs(change)
    assert told == pytest.approx(change, abs=1e-8 * max(parts, 1e-6))


def test_experts_have_no_rule_and_the_result_says_so(open_tiny):
    found = run_of(open_tiny, "mixtral", "causal", dtype=None).analyze("deep_lift")
    assert any("have no rule" in note for note in found.notes) == (found.relative_error().max() > 0.05)


@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_guided_backprop_runs_where_there_are_relus(open_tiny, kind):
    run = run_of(open_tiny, kind, "seq2seq" if kind == "t5" else "causal")
    plain_gradient = run.analyze("saliency").values.values
    for name in ("guided_backprop", "deconvolution"):
        found = run.analyze(name).values.values
        assert np.abs(found - plain_gradient).max() > 1e-3 * plain_gradient.max()


def test_methods_that_would_degenerate_are_refused_with_the_reason(open_tiny):
    run = run_of(open_tiny, "gpt2", "causal")
    for name in ("guided_backprop", "deconvolution"):
        with pytest.raises(ecco.OptionError, match=r"has no ReLU, so .* would be the plain gradient\. Take saliency"):
            run.analyze(name)
        found = run.analyze(name, allow_degenerate=True)
        assert "DEGENERATE" in found.to_text()
        assert "DEGENERATE" in found.to_html()
        np.testing.assert_allclose(found.values.values, run.analyze("saliency").values.values, rtol=1e-9)
    with pytest.raises(ecco.OptionError, match=r"no rule for Conv1D \(8\), LayerNorm \(5\)"):
        run.analyze("lrp")
    with pytest.raises(ecco.OptionError, match="has none over places of a text"):
        run.analyze("guided_grad_cam")


def test_averages_over_noise_and_baselines(open_tiny):
    run = run_of(open_tiny, "gpt2", "causal")
    smooth = run.analyze("noise_tunnel", noise=0.0, n_samples=2)
    np.testing.assert_allclose(smooth.values.values, run.analyze("saliency").values.values, rtol=1e-9)
    product = run.analyze("noise_tunnel", method="input_x_gradient", noise=0.0, n_samples=2)
    np.testing.assert_allclose(product.values.values, run.analyze("input_x_gradient").values.values, atol=1e-12)
    assert run.analyze("noise_tunnel", kind="vargrad", noise=0.0).values.values.max() < 1e-20
    assert run.analyze("noise_tunnel").values.values.any()
    for seed in (0, 1):
        found = run.analyze("gradient_shap", n_samples=300, seed=seed, baseline="mean")
        ig = run.analyze("integrated_gradients", baseline="mean", n_steps=100)
        assert np.abs(found.values.values - ig.values.values).max() < 0.1 * np.abs(ig.values.values).max()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deep_lift_shap", {"n_samples": 0}, "n_samples is at least 1"),
        ("deep_lift_shap", {"baseline": "zero"}, "draws its baselines"),
        ("gradient_shap", {"n_samples": 0}, "n_samples is at least 1"),
        ("noise_tunnel", {"noise": -1.0}, "noise at least 0"),
        ("noise_tunnel", {"method": "lime"}, "'saliency' or 'input_x_gradient'"),
    ],
)
def test_bad_options_are_one_sentence(open_tiny, name, options, message):
    with pytest.raises(ecco.EccoError, match=message):
        run_of(open_tiny, "gpt2", "causal").analyze(name, **options)
