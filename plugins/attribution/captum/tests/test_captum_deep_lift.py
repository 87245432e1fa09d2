"""DeepLift's rules: exact on whole models, Captum's own where that has rules, closed forms for each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from ecco_captum.rules import Tape, lifted, plain
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional

import ecco_core as ecco
from ecco_core.models.cuts import Cuts

DOUBLE = torch.float64
EXACT = (
    *((kind, "causal") for kind in ("gpt2", "llama", "gpt_neox", "opt", "gemma2", "phi3", "falcon", "mamba", "bloom",
                                    "mpt", "rwkv", "recurrent_gemma", "apertus", "granite_swa")),
    ("bert", "masked"), ("modernbert", "masked"), ("roberta", "token_classification"),
    ("bert", "sequence_classification"), ("gpt2", "sequence_classification"), ("t5", "seq2seq"), ("bart", "seq2seq"),
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
    assert np.abs(found.completeness.values).max() < 1e-5 * scale  # the most where a model computes in float32 inside
    first_order = run.analyze("integrated_gradients", n_steps=2, method="riemann_right")  # (x − x₀) · gradient at x
    assert np.abs(found.completeness.values).max() < 0.01 * np.abs(first_order.completeness.values).max()
    assert np.allclose([t.value for t in found.targets], [t.value for t in run.analyze("saliency").targets])


@pytest.mark.parametrize(("written", "function"), [("gelu_new", "gelu_pytorch_tanh"), ("quick_gelu", None)])
def test_an_activation_is_one_function_however_it_is_written(open_tiny, written, function):
    first = open_tiny("gpt2", dtype=DOUBLE, activation_function=written)
    second = open_tiny("gpt2", dtype=DOUBLE, activation_function=function or written)
    second.model.load_state_dict(first.model.state_dict())
    if function is None:  # x · sigmoid(1.702 x) is a SiLU of what is scaled, and SiLU has a rule of torch's own
        for block in second.model.transformer.h:
            block.mlp.act = type("Scaled", (nn.Module,), {"forward": lambda _, x: functional.silu(1.702 * x) / 1.702})()
    one, other = (lm.generate("Nora is here.", max_new_tokens=3).analyze("deep_lift") for lm in (first, second))
    np.testing.assert_allclose(one.values.values, other.values.values, rtol=1e-9, atol=1e-12)
    assert all("forward" not in vars(module) for module in first.model.modules())


def test_a_forward_that_is_repeated_finds_its_baseline_again(open_tiny, monkeypatch):
    run = run_of(open_tiny, "gpt2", "causal")
    expected, done, refused = run.analyze("deep_lift").values.values, Cuts.done, []

    def once(cuts, *args):
        if cuts.deep and not refused:
            refused.append(cuts)
            return None
        return done(cuts, *args)

    monkeypatch.setattr(Cuts, "done", once)
    np.testing.assert_allclose(run.analyze("deep_lift").values.values, expected, rtol=1e-9, atol=1e-12)
    assert refused


def test_on_a_trained_model_the_copied_name_comes_first(prose):
    run = prose.generate("We met a captain called Nora. The name of the captain was", max_new_tokens=1)
    found = run.analyze("deep_lift")
    assert found.relative_error().max() < 1e-3
    assert found.sources[int(found.values.values[0].argmax())].text == " Nora"
    several = run.analyze("deep_lift_shap", n_samples=4)
    assert several.relative_error().max() < 1e-3
    assert np.array_equal(several.values.values, run.analyze("deep_lift_shap", n_samples=4).values.values)


@pytest.mark.parametrize(("kind", "grown"), [("gpt2", "transformer.wpe"), ("llama", "model.embed_tokens")])
def test_norms_of_what_is_too_large_to_be_squared_in_float16(open_tiny, kind, grown):
    lm = open_tiny(kind, "causal", dtype=torch.float16)
    with torch.no_grad():
        lm.model.get_submodule(grown).weight *= 20_000
    run = lm.generate("Nora is here.", max_new_tokens=3)
    assert float(run.capture("resid_pre", layers=0).get("resid_pre", 0).abs().max()) > 256
    assert np.isfinite(run.analyze("deep_lift", baseline="sample", allow_degenerate=True).values.values).all()


def test_gradients_that_are_no_numbers_are_refused(open_tiny):
    lm = open_tiny("gpt2", "causal", dtype=torch.float16)
    run = lm.generate("Nora is here.", max_new_tokens=3)
    with torch.no_grad():
        lm.model.transformer.wte.weight *= 20_000  # the head's, too: infinite logits
    for method in ("saliency", "integrated_gradients"):
        with pytest.raises(ecco.ArchitectureError, match="no numbers"):
            run.analyze(method)


def test_it_is_captums_where_captum_has_all_rules():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3), nn.Sigmoid()).double()
    here, there = torch.randn(2, 1, 5, dtype=DOUBLE)
    for target in range(3):
        expected = DeepLift(net).attribute(here, there, target=target)
        run = here.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(plain(lifted(net, [run], [there]))[0, target], run)
        torch.testing.assert_close(gradient * (here - there), expected, rtol=1e-6, atol=1e-9)


class Cubed(torch.autograd.Function):
    """A function with a backward of its own, as BLOOM's GELU is."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


class Mixed(Cubed):
    """The same of sums, so not elementwise."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.cumsum(-1) ** 3

    @staticmethod
    def backward(ctx, gradient):
        return (3 * ctx.saved_tensors[0].cumsum(-1) ** 2 * gradient).flip(-1).cumsum(-1).flip(-1)


def in_place(x):
    y = x * 2
    y *= torch.sigmoid(x)
    y.clamp_(max=3.0)
    y /= 1 + x.abs()
    return y.exp_()


def shuffled(x):
    """Rows in another order, by expert as a mixture of experts does, and back."""
    order = torch.tensor([2, 0, 3, 1])
    rows = functional.silu(x[0][order].transpose(0, 1)).transpose(0, 1)
    return torch.zeros_like(rows).index_add(0, order, rows)[None]


def recurrence(x):
    """A running maximum as RWKV keeps it."""
    state, found = torch.full_like(x[:, 0], -1e38), []
    for t in range(x.shape[1]):
        state = torch.maximum(state, x[:, t])
        found.append(torch.exp(x[:, t] - state))
    return torch.stack(found, 1)


FUNCTIONS = {
    "gelu": functional.gelu,
    "tanh gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": functional.silu,
    "relu squared": lambda x: functional.relu(x) ** 2,
    "cubed": lambda x: x**3,
    "a Function": Cubed.apply,
    "gate": lambda x: functional.silu(x) * (x @ torch.ones(6, 6, dtype=x.dtype)),
    "ratio": lambda x: x / (1 + x * x),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: torch.logsumexp(x, -1, keepdim=True) - x.logsumexp(dim=1, keepdim=True),
    "entropy": lambda x: torch.special.entr(x.softmax(-1)),
    "layer norm": lambda x: functional.layer_norm(x, (6,)),
    "rms norm": lambda x: functional.rms_norm(x, (6,), eps=1e-6),
    "variance": lambda x: x.var(dim=-1, unbiased=False) - torch.var(x, -1),
    "unit length": lambda x: functional.normalize(x, dim=-1),
    "attention": lambda x: functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True),
    "einsum": lambda x: torch.einsum("btd,bsd->bts", x, x),
    "cap": lambda x: 3 * torch.tanh(x / 3),
    "masked": lambda x: x.masked_fill(torch.eye(6, dtype=torch.bool)[:4], -torch.inf).exp() * x,
    "clamp": lambda x: torch.clamp(x, -0.5, 1.0) + x.clamp(max=0.2),
    "maximum": lambda x: torch.maximum(x, x.flip(1)) + torch.min(x, torch.tensor(0.3, dtype=x.dtype)),
    "largest": lambda x: x.max(dim=-1).values + x.amax(-1) * x.min(-1)[0],
    "where": lambda x: torch.where(x > 0, x * x + x, x.clamp(max=0).expm1()),
    "jump": lambda x: torch.where(x > x.flip(-1), x, 3.0).masked_fill(x < -1, 2.0),
    "in place": in_place,
    "other rows": shuffled,
    "recurrence": recurrence,
}


def multiplied(function, here, there):
    """Whether contributions add up to the change of a random sum of the outputs; the outputs."""
    weights = torch.randn(1000, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        after, before = function(here).flatten(), function(there).flatten()
        change = float((after - before) @ weights[: len(after)])
    run = here.clone().requires_grad_()
    outputs = plain(lifted(function, [run], [there])).flatten()
    torch.testing.assert_close(outputs, after, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(outputs @ weights[: len(outputs)], run)
    each = gradient * (here - there)
    assert float(each.sum()) == pytest.approx(change, abs=1e-8 * max(float(each.abs().sum()) + abs(change), 1e-6))
    return gradient


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(1e-3, 30))
def test_each_rule_is_exact(name, seed, size):
    rng = torch.Generator().manual_seed(seed)
    here, there = size * torch.randn(2, 1, 4, 6, dtype=DOUBLE, generator=rng)
    multiplied(FUNCTIONS[name], here, there)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_maximum_is_shared_as_relu_shares_it(seed):
    here, there = torch.randn(2, 1, 2, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    gradient = multiplied(lambda x: torch.maximum(x[:, 0], x[:, 1]), here, there)
    by_relu = multiplied(lambda x: x[:, 1] + functional.relu(x[:, 0] - x[:, 1]), here, there)
    torch.testing.assert_close(gradient, by_relu, rtol=1e-9, atol=1e-9)
    ones = torch.ones(6, dtype=DOUBLE)
    run = here.clone().requires_grad_()
    (each,) = torch.autograd.grad(plain(lifted(lambda x: x.amax(1), [run], [there])).sum(), run)
    torch.testing.assert_close(each[0].sum(0), ones)
    assert (each >= 0).all()


def test_other_scores_and_callers_modes(open_tiny):
    run = run_of(open_tiny, "gpt2", "causal")
    for score in ("entropy", "kl", "prob", "logit"):
        found = run.analyze("deep_lift", score=score)
        assert np.abs(found.completeness.values).max() < 1e-8 * np.abs(found.change.values).max()
    expected = run.analyze("deep_lift").values.values
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            np.testing.assert_allclose(run.analyze("deep_lift").values.values, expected, atol=1e-12)
    with run.lm.intervene(ecco.scale("mlp_out", 0.5, layer=1)):
        changed = run.analyze("deep_lift")
    assert np.abs(changed.completeness.values).max() < 1e-8 * np.abs(changed.change.values).max()
    assert np.abs(changed.values.values - expected).max() > 1e-3 * np.abs(expected).max()


def test_what_has_no_rule_is_named():
    here, there = torch.randn(2, 1, 4, 6, dtype=DOUBLE)
    names = set()
    with_gradient = here.clone().requires_grad_()

    def function(x):
        y = torch.cumprod(x, -1) + torch.lgamma(x.abs() + 1)
        return Mixed.apply(y).cumsum(-1).sort(-1).values @ torch.ones(6, 6, dtype=DOUBLE) + functional.gelu(x)

    lifted(function, [with_gradient], [there], Tape(names))
    assert names == {"cumprod", "lgamma", "Mixed"}


def test_a_model_with_a_function_without_rule_is_refused_by_its_name(open_tiny):
    lm = open_tiny("gpt2", dtype=DOUBLE)
    for block in lm.model.transformer.h:
        block.mlp.act = Gammas()
    run = lm("Nora is here.")
    with pytest.raises(ecco.OptionError, match=r"deep_lift is refused: no rule for lgamma of this GPT2LMHeadModel"):
        run.analyze("deep_lift", targets=[-1])
    found = run.analyze("deep_lift", targets=[-1], allow_degenerate=True)
    assert any("DEGENERATE" in note and "lgamma" in note for note in found.notes)
    assert np.abs(found.completeness.values[0]) > 0.05 * np.abs(found.change.values[0])


class Gammas(nn.Module):
    def forward(self, x):
        return 0.3 * torch.lgamma(x.abs() + 0.5)


@pytest.fixture(scope="module")
def experts(open_tiny):
    lm = open_tiny("mixtral", "causal", dtype=DOUBLE)
    lm.model.set_experts_implementation("eager")  # the grouped product is not offered in float64
    return lm


def test_the_choice_of_experts_is_the_runs_and_the_rest_is_exact(experts):
    run = experts("Nora is here. The cook")
    found = run.analyze("deep_lift", targets=[-1], score="logit")
    (note,) = [note for note in found.notes if "choices of this model" in note]
    assert f"of {2 * found.targets[0].position} choices" in note  # one of each token in each of two layers
    model, target = experts.model, found.targets[0]
    chosen, routers = {}, [m for m in model.modules() if type(m).__name__ == "MixtralTopKRouter"]

    def remember(router, _, output):
        chosen[router] = output[2]

    def repeat(router, _, output):
        weights = output[0].softmax(-1).gather(-1, chosen[router])
        return output[0], weights / weights.sum(-1, keepdim=True), chosen[router]

    embed, ids = model.get_input_embeddings(), run.ids[None, : target.position]
    logits = []
    for hook, tokens in ((remember, ids), (repeat, torch.full_like(ids, experts.tokenizer.mask_token_id))):
        handles = [router.register_forward_hook(hook) for router in routers]
        with torch.no_grad():
            logits.append(float(model(inputs_embeds=embed(tokens)).logits[0, -1, target.token_id]))
        for handle in handles:
            handle.remove()
    assert found.values.values.sum() == pytest.approx(logits[0] - logits[1], rel=1e-5)  # routers in float32
    assert np.abs(found.completeness.values[0]) > 0.01 * np.abs(found.change.values[0])  # what choosing changes


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_experts_without_a_choice_are_exact(open_tiny, kind):
    lm = open_tiny(kind, "causal", dtype=DOUBLE, num_experts_per_tok=4)
    lm.model.set_experts_implementation("eager")
    found = lm("Nora is here. The cook").analyze("deep_lift", targets=[-1])
    assert found.relative_error().max() < 1e-5
    assert not found.notes


def test_how_experts_are_computed_does_not_matter(open_tiny):
    found = []
    for name in ("eager", "batched_mm", "grouped_mm"):
        lm = open_tiny("mixtral", "causal")
        lm.model.set_experts_implementation(name)
        found.append(lm("Nora is here. The cook").analyze("deep_lift", targets=[-1, 3]).values.values)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-5 * np.abs(found[0]).max())


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
        ("noise_tunnel", {"method": "nothing"}, "found 'nothing'"),
    ],
)
def test_bad_options_are_one_sentence(open_tiny, name, options, message):
    with pytest.raises(ecco.EccoError, match=message):
        run_of(open_tiny, "gpt2", "causal").analyze(name, **options)
