"""What is known of each method beforehand: closed forms, axioms, Captum's own naive use, and that weights matter."""

from __future__ import annotations

import copy
import itertools

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnLasso
from hypothesis import given, settings, strategies as st
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

import ecco_core as ecco

DOUBLE = torch.float64
TEXT = "Nora is here. The cook"
FROM_A_BASELINE = (  # methods that tell how far the score is from a baseline's, and options that make them exact
    ("integrated_gradients", {"n_steps": 5}),
    ("deep_lift", {}),
    ("gradient_shap", {"n_samples": 3}),
    ("feature_ablation", {}),
    ("occlusion", {}),
    ("shapley_values", {}),
    ("shapley_value_sampling", {"n_samples": 2}),
    ("kernel_shap", {"n_samples": 60}),
    ("lime", {"alpha": 0.0}),
)
GRADIENTS = (("saliency", {"aggregation": "dot"}), ("input_x_gradient", {}), ("integrated_gradients", {"n_steps": 9}))


class SumConfig(PreTrainedConfig):
    model_type = "sum"


class SumModel(PreTrainedModel):
    """Logits of a function of the weighted sum of the embeddings so far; linear, or by a hidden layer."""

    config_class = SumConfig

    def __init__(self, config, vocabulary=400, width=16, hidden=None, weighted=True):
        super().__init__(config)
        self.words, self.out = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)
        self.inner, self.weighted = hidden, weighted
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def get_output_embeddings(self):
        return self.out

    def forward(self, input_ids=None, **_):
        x = self.words(input_ids)
        weights = torch.linspace(1, 2, 50, dtype=x.dtype)[: x.shape[1], None] if self.weighted else 1.0
        summed = torch.cumsum(x * weights, 1)
        return CausalLMOutput(logits=self.out(summed if self.inner is None else self.inner(summed)))


def sums(tokenizer, **options):
    torch.manual_seed(0)
    model = SumModel(SumConfig(), vocabulary=len(tokenizer), **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return ecco.from_pretrained((model.double().eval(), tokenizer))


@pytest.fixture(scope="module")
def linear(tokenizer):
    return sums(tokenizer)


def linear_answer(run, baseline):
    """(x - x0) w for each target and token: differences of embeddings ``(target, token)``."""
    model, found = run.lm.model, np.zeros((2, len(run) - 1))
    embed, out = model.words.weight.detach(), model.out.weight.detach()
    weights = torch.linspace(1, 2, 50, dtype=DOUBLE)
    for row, position in enumerate((len(run) - 1, 3)):
        change = (embed[run.ids[:position]] - baseline) * weights[:position, None]
        found[row, :position] = (change @ out[run.ids[position]]).numpy()
    return found


@pytest.mark.parametrize(("name", "options"), FROM_A_BASELINE)
def test_on_a_linear_model_all_methods_agree(linear, name, options):
    run = linear("Nora is here.")
    for baseline, embedding in (
        ("zero", torch.zeros(16, dtype=DOUBLE)),
        ("mean", linear.model.words.weight.detach().mean(0)),
        (" Felix", linear.model.words.weight.detach()[linear.tokenizer(" Felix").input_ids[0]]),
    ):
        found = run.analyze(name, targets=[-1, 3], score="logit", baseline=baseline, **options)
        expected = linear_answer(run, embedding)
        np.testing.assert_allclose(found.values.values, expected, atol=1e-6 * np.abs(expected).max())
        if found.change is not None:
            np.testing.assert_allclose(found.change.values, expected.sum(1), rtol=1e-9)


def test_on_a_linear_model_gradients_are_its_weights(linear):
    run = linear("Nora is here.")
    out, weights = linear.model.out.weight.detach(), torch.linspace(1, 2, 50, dtype=DOUBLE)
    targets = {"targets": [-1], "score": "logit"}
    rows = weights[: len(run) - 1, None] * out[run.ids[-1]]
    for name in ("saliency", "noise_tunnel"):
        found = run.analyze(name, **targets).values.values[0]
        np.testing.assert_allclose(found, rows.norm(dim=-1).numpy(), rtol=1e-9)
    absolute = run.analyze("saliency", absolute=True, aggregation="sum", **targets).values.values[0]
    np.testing.assert_allclose(absolute, rows.abs().sum(-1).numpy(), rtol=1e-9)
    here = linear.model.words.weight.detach()[run.ids[:-1]]
    found = run.analyze("input_x_gradient", **targets).values.values[0]
    np.testing.assert_allclose(found, (rows * here).sum(-1).numpy(), rtol=1e-9)
    squared = run.analyze("noise_tunnel", kind="vargrad", **targets).values.values
    assert squared.max() < 1e-20


@pytest.mark.parametrize("name", ["integrated_gradients", "deep_lift", "feature_ablation", "shapley_values"])
def test_symmetry_and_dummies(tokenizer, name):
    """Where order does not matter, a token that is there twice counts the same twice; the baseline's, nothing."""
    lm = sums(tokenizer, hidden=nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 16)), weighted=False)
    run = lm("A Nora Nora. Felix Nora. Felix.")
    found = run.analyze(name, targets=[-1], baseline=".").values.values[0]
    scale = np.abs(found).max()
    pairs = [(i, j) for i, j in itertools.combinations(range(len(found)), 2) if run.ids[i] == run.ids[j]]
    assert sum(int(run.ids[i]) != tokenizer(".").input_ids[0] for i, _ in pairs) >= 3
    for i, j in pairs:
        assert found[i] == pytest.approx(found[j], abs=1e-9 * scale)
    (point,) = tokenizer(".").input_ids
    assert point in run.ids[: len(found)].tolist()
    for i, value in enumerate(found):
        assert (abs(value) < 1e-12) == (run.ids[i] == point)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request, make_lm):
    lm = make_lm(request.param)
    lm.model.double()
    return lm


COMPLETE = (
    ("integrated_gradients", {"n_steps": 200}, 1e-3),
    ("deep_lift", {}, 2e-5),  # LLaMA's norms and softmax are float32: up to 3e-6 in 800 texts
    ("shapley_values", {}, 1e-6),
    ("shapley_value_sampling", {"n_samples": 2}, 1e-6),
    ("kernel_shap", {"n_samples": 40}, 1e-5),
)


@pytest.mark.parametrize(("name", "options", "near"), COMPLETE)
@settings(max_examples=8, deadline=None)
@given(
    words=st.lists(st.sampled_from([" Nora", " is", ".", " The", " cook", " Felix"]), min_size=2, max_size=4),
    baseline=st.sampled_from(["mean", " Felix", "<|end|>", "."]),
    score=st.sampled_from(["logit", "logprob", "prob", "entropy", "kl"]),
)
def test_completeness(lm, name, options, near, words, baseline, score):
    """Contributions add up to the change of the score, which is computed here from the model's own inputs_embeds."""
    run = lm("".join(words))
    features = [f"{p}:{p + 1}" for p in range(min(len(run), 4))] + ([f"4:{len(run)}"] if len(run) > 4 else [])
    found = run.analyze(name, targets=[len(run)], score=score, baseline=baseline, features=features, **options)
    embed = lm.model.get_input_embeddings().weight.detach()
    start = embed.mean(0) if baseline == "mean" else embed[lm.tokenizer(baseline).input_ids[0]]

    here = embed[run.ids][None]
    with torch.no_grad():
        own = lm.model(inputs_embeds=here).logits[0, -1].log_softmax(-1)

    def by_hand(x):
        with torch.no_grad():
            logits = lm.model(inputs_embeds=x).logits[0, -1]
        if score == "kl":
            return -float(functional.kl_div(logits.log_softmax(-1), own, log_target=True, reduction="sum"))
        if score == "entropy":
            return float(torch.distributions.Categorical(logits=logits).entropy())
        of = {"logit": logits, "logprob": logits.log_softmax(-1), "prob": logits.softmax(-1)}[score]
        return float(of[found.targets[0].token_id])

    change = by_hand(here) - by_hand(start.expand_as(here).contiguous())
    size = np.abs(found.values.values).sum() + abs(change)
    assert found.values.values.sum() == pytest.approx(change, abs=near * size + 1e-12)
    assert found.completeness.values[0] == pytest.approx(change - found.values.values.sum(), abs=1e-6 * size + 1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [*GRADIENTS, ("deep_lift", {}), ("feature_ablation", {}), ("shapley_value_sampling", {"n_samples": 3})],
)
def test_a_contrast_is_the_difference_of_both(lm, name, options):
    """Linearity: of logits, why A rather than B is why A less why B."""
    run, (nora, felix) = lm(TEXT), (lm.tokenizer(text).input_ids[0] for text in (" Nora", " Felix"))
    forced = {text: lm(TEXT + text) for text in (" Nora", " Felix")}
    at = len(run)
    assert [int(forced[t].ids[at]) for t in forced] == [nora, felix]
    both = forced[" Nora"].analyze(name, targets=[at], contrast=" Felix", score="logit", **options).values.values
    one, other = (f.analyze(name, targets=[at], score="logit", **options).values.values for f in forced.values())
    np.testing.assert_allclose(both, one - other, atol=5e-6 * np.abs(one).max())


def split(layer):
    """Two linear layers that make up transformers' Conv1D: W = Q (Qᵀ W)."""
    weight = layer.weight.detach()
    q = torch.linalg.qr(torch.randn(len(weight), len(weight), dtype=weight.dtype))[0]
    made = nn.Sequential(nn.Linear(len(weight), len(weight), bias=False), nn.Linear(*weight.shape)).to(weight)
    with torch.no_grad():
        made[0].weight.copy_(q.T)
        made[1].weight.copy_((q.T @ weight).T)
        made[1].bias.copy_(layer.bias)
    return made


class ByHand(nn.Module):
    """The tanh approximation of GELU from its formula."""

    def forward(self, x):
        return 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x.pow(3))))


class ByCases(nn.Module):
    """The same by cases, with a clamp and a maximum that change nothing."""

    def forward(self, x):
        y = functional.gelu(x, approximate="tanh")
        return torch.where(x > 0, torch.maximum(y, -y.abs() - 1), y.clamp(min=-10))


def changed(lm, how):
    """The same function of the same weights, computed otherwise."""
    model = copy.deepcopy(lm.model)
    if how == "eager attention":
        model.set_attn_implementation("eager")
    for block in model.transformer.h:
        if how == "a layer in two":
            block.mlp.c_fc = split(block.mlp.c_fc)
        if how in ("a formula", "by cases"):
            block.mlp.act = ByHand() if how == "a formula" else ByCases()
        if how == "a fused function":
            block.mlp.act = nn.GELU(approximate="tanh")
    return ecco.from_pretrained((model, lm.tokenizer))


@pytest.fixture(scope="module")
def gpt2(make_lm):
    lm = make_lm("gpt2")
    lm.model.double()
    return lm


@pytest.mark.parametrize("how", ["eager attention", "a layer in two", "a formula", "a fused function", "by cases"])
@pytest.mark.parametrize(
    ("name", "options"),
    [*GRADIENTS, ("deep_lift", {}), ("feature_ablation", {}), ("shapley_value_sampling", {"n_samples": 3})],
)
def test_implementation_invariance(gpt2, how, name, options):
    """DeepLift too: an exact multiplier of a function of one number is its slope, however the function is written."""
    found = [m(TEXT).analyze(name, targets=[-1, 4], **options).values.values for m in (gpt2, changed(gpt2, how))]
    np.testing.assert_allclose(found[0], found[1], atol=1e-8 * np.abs(found[0]).max())


def test_deep_lift_is_not_invariant_of_how_a_softmax_is_written(gpt2):
    """Of several numbers there are several exact rules: a ratio's and softmax's differ, and add up alike."""
    from transformers import AttentionInterface

    def by_ratio(module, query, key, value, attention_mask, scaling=None, **_):
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5)
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        raised = scores.exp() * allowed
        pattern = raised / raised.sum(-1, keepdim=True)
        return (pattern @ value).transpose(1, 2), pattern

    AttentionInterface.register("by_ratio", by_ratio)
    model = copy.deepcopy(gpt2.model)
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight *= 10  # or the patterns are nearly even
    other = copy.deepcopy(model)
    other.config._attn_implementation = "by_ratio"
    both = [ecco.from_pretrained((m, gpt2.tokenizer)) for m in (model, other)]
    for name, options in GRADIENTS:
        found = [lm(TEXT).analyze(name, targets=[-1], **options).values.values for lm in both]
        np.testing.assert_allclose(found[0], found[1], atol=1e-8 * np.abs(found[0]).max())
    found = [lm(TEXT).analyze("deep_lift", targets=[-1]) for lm in both]
    assert all(f.relative_error().max() < 1e-6 for f in found)
    a, b = (f.values.values for f in found)
    assert np.abs(a - b).max() > 1e-3 * np.abs(a).max()


@pytest.mark.parametrize("source", ["tiny:prose", "tiny:classifier"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("saliency", {}), ("input_x_gradient", {}), ("integrated_gradients", {"n_steps": 20}), ("deep_lift", {}),
     ("feature_ablation", {}), ("kernel_shap", {})],
)  # fmt: skip
def test_randomised_weights_change_the_map(source, name, options):
    """Adebayo et al.: Sanity Checks for Saliency Maps, 2018: weights replaced from the head down, the map must go."""
    texts = {
        "tiny:prose": ("We met a captain called Nora. The name of the captain was Nora",
                       "The cook is called Felix. Everyone thanked the cook called Felix"),
        "tiny:classifier": ("The acting was wonderful and the music was dull.", "A boring story, but a brilliant end."),
    }[source]  # fmt: skip
    lm = ecco.from_pretrained(source)
    options = {"targets": [-1], **options} if source == "tiny:prose" else options
    model = copy.deepcopy(lm.model)
    names = [n for n, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    embeddings = {n for n, m in model.named_modules() if isinstance(m, nn.Embedding)}
    order = [n for n in reversed(names) if n not in embeddings]
    stages = [order[: max(1, len(order) * share // 3)] for share in range(4)]

    def maps(lm):
        return [lm(text).analyze(name, **options).values.values[0] for text in texts]

    before, similar = maps(lm), []
    torch.manual_seed(0)
    done = set()
    for stage in stages[1:]:
        for module_name in stage:
            if module_name not in done:
                done.add(module_name)
                module = model.get_submodule(module_name)
                for parameter in module.parameters(recurse=False):
                    shuffled = parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter)
                    parameter.data.copy_(shuffled)
        after = maps(ecco.from_pretrained((model, lm.tokenizer)))
        similar.append(np.mean([spearmanr(a, b)[0] for a, b in zip(before, after)]))
    assert maps(lm)[0] == pytest.approx(before[0])
    assert similar[-1] < 0.6


PROMPT = "Nora is here."


@pytest.fixture(scope="module")
def naive(gpt2):
    """A run, its last target's embeddings, a baseline and the plain function that Captum is given by hand."""
    run = gpt2.generate(PROMPT, max_new_tokens=1)
    at, token = len(run) - 1, int(run.ids[-1])
    embed = gpt2.model.get_input_embeddings()
    here = embed(run.ids[None, :at]).detach()
    start = embed(torch.full((1, at), 7)).detach()

    def forward(x):
        return gpt2.model(inputs_embeds=x).logits[:, -1].log_softmax(-1)[:, token]

    return run, here, start, forward


def same(found, expected, near=1e-8):
    np.testing.assert_allclose(found.values.values[0], expected, atol=near * np.abs(expected).max())


def per_token(run, here):
    """Captum's mask of features: one per token."""
    return torch.arange(here.shape[1])[None, :, None].repeat(1, 1, here.shape[2])


def test_shapley_value_sampling_is_captums_with_the_same_draws(naive):
    run, here, start, forward = naive
    found = run.analyze("shapley_value_sampling", n_samples=4, baseline=run.label(7), seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng(3).integers(2**63)))
        expected = captum.attr.ShapleyValueSampling(forward).attribute(
            here, baselines=start, feature_mask=per_token(run, here), n_samples=4
        )
    same(found, expected[0, :, 0].detach().numpy(), 1e-6)


def test_feature_ablation_is_captums(naive):
    run, here, start, forward = naive
    expected = captum.attr.FeatureAblation(forward).attribute(here, baselines=start, feature_mask=per_token(run, here))
    same(run.analyze("feature_ablation", baseline=run.label(7)), expected[0, :, 0].detach().numpy())


@pytest.mark.parametrize(("alpha", "width"), [(0.001, 0.25), (0.05, 1.0)])
def test_lime_is_captums_on_the_same_masks(naive, alpha, width):
    run, here, start, forward = naive
    n = here.shape[1]
    found = run.analyze("lime", n_samples=120, alpha=alpha, width=width, baseline=run.label(7), seed=5)
    masks = np.random.default_rng(5).integers(0, 2, size=(120, n)).astype(float)
    drawn = iter(torch.from_numpy(masks))

    def mixed(mask):
        return torch.where(mask.bool().view(1, n, 1), here, start)

    with torch.no_grad():
        scores = torch.cat([forward(mixed(mask)) for mask in torch.from_numpy(masks)])
    explainer = captum.attr.LimeBase(
        forward,
        SkLearnLasso(alpha=alpha * float(scores.std(correction=0)), max_iter=100_000, tol=1e-10),
        similarity_func=lambda _original, _perturbed, mask, **_k: torch.exp(-((1 - mask.mean()) ** 2) / width**2),
        perturb_func=lambda *_a, **_k: next(drawn)[None],
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda mask, *_a, **_k: mixed(mask[0]),
        to_interp_rep_transform=None,
    )
    expected = explainer.attribute(here, n_samples=120)[0].numpy()
    same(found, expected, 2e-3)
    assert (found.values.values[0] == 0).sum() == (expected == 0).sum()


def test_kernel_shap_comes_to_the_exact_values(naive):
    run, *_ = naive
    features = [f"{p}:{p + 1}" for p in range(4)] + [f"4:{len(run)}"]
    common = {"baseline": run.label(7), "features": features}
    exact = run.analyze("shapley_values", **common).values.values
    far = [np.abs(run.analyze("kernel_shap", n_samples=n, **common).values.values - exact).max() for n in (30, 3000)]
    assert far[1] < 0.02 * np.abs(exact).max()
    assert far[1] < far[0] + 1e-12


def test_gradient_shap_is_captums_with_the_same_draws(naive, monkeypatch):
    run, here, start, forward = naive
    found = run.analyze("gradient_shap", n_samples=6, baseline=run.label(7), seed=2)
    rng = np.random.default_rng(2)
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: np.array([rng.random() for _ in range(size)]))
    explainer = captum.attr.GradientShap(forward)
    expected = explainer.attribute(here, baselines=start, n_samples=6, stdevs=0.0)
    same(found, expected[0].sum(-1).detach().numpy())


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient"])
@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_noise_tunnel_is_the_loop_over_noisy_copies(naive, method, kind):
    run, here, _, forward = naive
    found = run.analyze("noise_tunnel", method=method, kind=kind, n_samples=5, noise=0.2, aggregation="sum", seed=4)
    rng, each = np.random.default_rng(4), []
    for _ in range(5):
        noisy = (here + 0.2 * here.std() * torch.from_numpy(rng.standard_normal(tuple(here.shape)))).requires_grad_()
        (gradient,) = torch.autograd.grad(forward(noisy).sum(), noisy)
        each.append((gradient * noisy.detach() if method == "input_x_gradient" else gradient)[0])
    stacked = torch.stack(each)
    expected = {"smoothgrad": stacked.mean(0), "smoothgrad_sq": stacked.square().mean(0),
                "vargrad": stacked.square().mean(0) - stacked.mean(0).square()}[kind]  # fmt: skip
    np.testing.assert_allclose(
        found.values.values[0], expected.sum(-1).numpy(), atol=1e-8 * float(expected.abs().sum(-1).max())
    )


def test_deep_lift_shap_adds_up_to_the_distance_from_its_baselines(naive):
    run, here, _, forward = naive
    found = run.analyze("deep_lift_shap", n_samples=3, seed=6)
    rng, embed = np.random.default_rng(6), run.lm.model.get_input_embeddings()
    drawn = [torch.from_numpy(rng.integers(0, embed.num_embeddings, here.shape[1])) for _ in range(3)]
    with torch.no_grad():
        change = forward(here) - sum(forward(embed(ids)[None]) for ids in drawn) / 3
    assert found.values.values.sum() == pytest.approx(float(change), rel=1e-8)


def test_feature_permutation_is_the_drop_with_shuffled_tokens(naive):
    run, here, _, forward = naive
    found = run.analyze("feature_permutation", n_samples=3, seed=8)
    rng, expected = np.random.default_rng(8), np.zeros(here.shape[1])
    with torch.no_grad():
        for _ in range(3):
            order = torch.from_numpy(rng.permutation(here.shape[1]))
            for position in range(here.shape[1]):
                exchanged = here.clone()
                exchanged[:, position] = here[:, order[position]]
                expected[position] += float(forward(here) - forward(exchanged)) / 3
    same(found, expected)
