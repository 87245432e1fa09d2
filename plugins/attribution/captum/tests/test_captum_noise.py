"""noise_tunnel around every method: against loops over noisy copies written by hand, in float64."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from ecco_captum import _METHODS

import ecco_core as ecco

PROMPT = "The captain is called Nora."
NAMES = [name for name, *_ in _METHODS if name != "noise_tunnel"]
GATED = ("guided_backprop", "deconvolution", "guided_grad_cam")
RANDOM = ("gradient_shap", "deep_lift_shap", "feature_permutation", "shapley_value_sampling", "kernel_shap", "lime")
KINDS = {
    "smoothgrad": lambda each: each.mean(0),
    "smoothgrad_sq": lambda each: each.square().mean(0),
    "vargrad": lambda each: each.var(0, unbiased=False),
}
N, NOISE, SEED, STEPS = 4, 0.2, 5, 6


@pytest.fixture(scope="module")
def run(make_lm):
    lm = make_lm("gpt2", n_layer=3)
    lm.model.double()
    return lm(PROMPT)


def own_options(name):
    return {"unit": 3, "layer": 1} if name.startswith("neuron") else {}


def noisy(run, upto, noise=NOISE):
    """The embeddings of the run's first tokens ``(1, token, unit)``, and the noisy copies that the seed gives."""
    here = run.lm.model.get_input_embeddings()(run.ids[None, :upto]).detach()
    rng = np.random.default_rng(SEED)
    draws = [torch.from_numpy(rng.standard_normal(tuple(here.shape))) for _ in range(N)]
    return here, [here + noise * here.std() * draw for draw in draws]


def forward(run):
    """Embeddings -> log-probabilities of the run's last token at the last row ``(batch,)``."""

    def scores(embeddings):
        return run.lm.model(inputs_embeds=embeddings).logits[:, -1].log_softmax(-1)[:, int(run.ids[-1])]

    return scores


def by_hand(run, name):
    """What Captum says of each noisy copy ``(copy, token, unit)``."""
    scores, model = forward(run), run.lm.model
    here, copies = noisy(run, len(run) if name.startswith("neuron_gradient") else len(run) - 1)
    there = model.get_input_embeddings()(torch.full_like(run.ids[None], run.lm.tokenizer.eos_token_id)).detach()
    start = {"baselines": there[:, : here.shape[1]], "n_steps": STEPS}
    block = model.transformer.h[1]
    explain = {
        "saliency": lambda x: captum.attr.Saliency(scores).attribute(x, abs=False),
        "input_x_gradient": lambda x: captum.attr.InputXGradient(scores).attribute(x),
        "integrated_gradients": lambda x: captum.attr.IntegratedGradients(scores).attribute(x, **start),
        "layer_gradient_x_activation": lambda x: captum.attr.LayerGradientXActivation(scores, block).attribute(x),
        "layer_integrated_gradients": lambda x: captum.attr.LayerIntegratedGradients(scores, block).attribute(
            x, **start
        ),
        "internal_influence": lambda x: captum.attr.InternalInfluence(scores, block).attribute(x, **start),
        "neuron_gradient": lambda x: captum.attr.NeuronGradient(scores, block.mlp.act).attribute(
            x, (x.shape[1] - 1, 3)
        ),
    }[name]
    rows = [explain(copy.clone().requires_grad_()) for copy in copies]
    return torch.cat([row[0] if isinstance(row, tuple) else row for row in rows]).detach()


@pytest.mark.parametrize("aggregation", ["sum", "l2"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["saliency", "input_x_gradient", "integrated_gradients", "layer_gradient_x_activation",
     "layer_integrated_gradients", "internal_influence", "neuron_gradient"],
)  # fmt: skip
def test_what_is_said_of_each_unit_is_averaged_before_units_are_aggregated(run, name, kind, aggregation):
    options = own_options(name) | ({"layer": 1} if "layer" in name or name == "internal_influence" else {})
    options |= {"n_steps": STEPS} if "integrated" in name or name == "internal_influence" else {}
    found = run.analyze(
        "noise_tunnel", method=name, kind=kind, aggregation=aggregation, n_samples=N, noise=NOISE, seed=SEED,
        targets=[-1], **options,
    )  # fmt: skip
    units = KINDS[kind](by_hand(run, name))
    expected = (units.sum(-1) if aggregation == "sum" else units.norm(dim=-1)).numpy()
    close = 1e-9 * float(units.abs().sum(-1).max())  # a LayerNorm has gradients' units cancel
    np.testing.assert_allclose(found.values.values[0], expected, rtol=0, atol=close)
    assert found.signed == (kind == "smoothgrad" and aggregation == "sum")
    assert found.unit.endswith(", squared") == (kind != "smoothgrad")


@pytest.mark.parametrize("noise", [NOISE, 1e-4])
@pytest.mark.parametrize("kind", KINDS)
def test_what_perturbations_say_of_each_feature_is_averaged(run, monkeypatch, kind, noise):
    """Also of copies so near that what the model keeps of the run's own tokens could be taken for theirs."""
    monkeypatch.setattr("ecco_captum.masking.ROWS_AT_ONCE", 1)  # each mask by itself goes on from more of the run
    options = {"n_samples": N, "noise": noise, "seed": SEED, "targets": [-1], "baseline": "zero"}
    found = run.analyze("noise_tunnel", method="occlusion", kind=kind, **options)
    scores, each = forward(run), []
    for copy in noisy(run, len(run) - 1, noise)[1]:
        without = copy.repeat(copy.shape[1], 1, 1)
        without[torch.arange(copy.shape[1]), torch.arange(copy.shape[1])] = 0
        with torch.no_grad():
            each.append(scores(copy) - scores(without))
    expected = KINDS[kind](torch.stack(each)).numpy()
    close = 1e-6 if kind != "vargrad" else 1e-6 / noise  # Captum's class computes drops in float32
    np.testing.assert_allclose(found.values.values[0], expected, rtol=0, atol=close * np.abs(expected).max())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*RANDOM, "captum_lrp")])
def test_without_noise_it_is_the_method_itself(run, name):
    options = own_options(name) | ({"allow_degenerate": True} if name in GATED else {})
    options |= {"targets": [-1, 3], "features": ["0:2", "2:4", f"4:{len(run)}"]}
    plain = run.analyze(name, **options)
    mean, spread = (
        run.analyze("noise_tunnel", method=name, n_samples=2, noise=0.0, kind=kind, **options)
        for kind in ("smoothgrad", "vargrad")
    )
    scale = np.abs(plain.values.values).max()
    np.testing.assert_allclose(mean.values.values, plain.values.values, atol=1e-9 * scale)
    assert np.abs(spread.values.values).max() < 1e-9 * scale
    assert mean.targets == plain.targets
    assert mean.sources == plain.sources
    assert (mean.signed, mean.unit, mean.baseline) == (plain.signed, plain.unit, plain.baseline)
    assert mean.completeness is None
    assert mean.change is None
    assert mean.notes == plain.notes
    assert mean.title == f"noise tunnel around {plain.title}"
    assert mean.provenance.options["method"] == name


@pytest.mark.parametrize("name", RANDOM)
def test_random_methods_draw_anew_for_each_copy_from_the_seed(run, name):
    options = {"method": name, "n_samples": 2, "targets": [-1]}
    once, again, other = (run.analyze("noise_tunnel", seed=seed, **options).values.values for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    spread = run.analyze("noise_tunnel", kind="vargrad", noise=0.0, **options).values.values
    assert (spread >= 0).all()
    assert spread.any()


@pytest.mark.parametrize("name", ["deep_lift", "layer_conductance", "layer_deep_lift", "neuron_conductance", "lime"])
def test_the_score_is_the_one_without_noise(run, name):
    plain = run.analyze("saliency", targets=[-1, 3], score="prob")
    found = run.analyze(
        "noise_tunnel", method=name, targets=[-1, 3], score="prob", n_samples=2, noise=0.5, **own_options(name)
    )
    assert found.targets == plain.targets
    assert not found.notes


def test_a_divergence_is_from_the_prediction_without_noise(run):
    here, copies = noisy(run, len(run) - 1)
    own = run.lm.model(inputs_embeds=here).logits[:, -1].log_softmax(-1).detach()

    def divergence(embeddings):
        logprobs = run.lm.model(inputs_embeds=embeddings).logits[:, -1].log_softmax(-1)
        return (own.exp() * (logprobs - own)).sum(-1)

    options = {"score": "kl", "n_samples": N, "noise": NOISE, "seed": SEED, "targets": [-1], "aggregation": "sum"}
    plain = run.analyze("noise_tunnel", method="input_x_gradient", **options)
    expected = torch.cat([captum.attr.InputXGradient(divergence).attribute(c.requires_grad_()) for c in copies])
    expected = expected.detach().mean(0).sum(-1).numpy()
    np.testing.assert_allclose(plain.values.values[0], expected, atol=1e-9 * np.abs(expected).max())
    inside = run.analyze("noise_tunnel", method="layer_gradient_x_activation", layer=1, **options)
    explainer = captum.attr.LayerGradientXActivation(divergence, run.lm.model.transformer.h[1])
    rows = [explainer.attribute(copy.detach()) for copy in copies]
    expected = torch.cat([row[0] if isinstance(row, tuple) else row for row in rows]).detach().mean(0).sum(-1).numpy()
    np.testing.assert_allclose(inside.values.values[0], expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("score", ["logprob", "kl"])
@pytest.mark.parametrize("name", ["input_x_gradient", "layer_gradient_x_activation"])
def test_masked_places_are_averaged_each_with_its_own_mask(open_tiny, name, score):
    run = open_tiny("bert", "masked", dtype=torch.float64)(PROMPT)
    options = {"score": score, "n_samples": N, "noise": NOISE, "seed": SEED, "method": name}
    both = run.analyze("noise_tunnel", targets=[2, 4], **options)
    alone = [run.analyze("noise_tunnel", targets=place, **options).values.values[0] for place in (2, 4)]
    np.testing.assert_allclose(both.values.values, alone, atol=1e-9 * np.abs(alone).max())


def test_targets_that_are_explained_in_groups_see_the_noise(run):
    from ecco_captum.sampled import _moved

    scores = run.scores([2, 4])
    (noisy_one,) = noisy(run, 4)[1][:1]
    moved = _moved(scores, (noisy_one,))
    assert torch.equal(moved.inputs()[0], noisy_one)
    part = moved.only(scores.targets[:1])
    (seen,) = part.inputs()
    assert torch.equal(seen, noisy_one[:, : seen.shape[1]])
    torch.testing.assert_close(part(seen), moved(noisy_one)[:, :1])


@pytest.mark.parametrize(
    ("kind", "task"), [("bert", "masked"), ("bart", "seq2seq"), ("bert", "sequence_classification")]
)
@pytest.mark.parametrize("name", ["saliency", "ig", "occlusion", "layer_conductance", "neuron_conductance"])
def test_on_every_task_it_is_the_mean_over_copies(open_tiny, kind, task, name):
    lm = open_tiny(kind, task, dtype=torch.float64)
    run = lm.generate(PROMPT, output="Nora is.") if task == "seq2seq" else lm(PROMPT)
    options = {"targets": [1, 0] if task == "sequence_classification" else [2, 3]} | own_options(name)
    options |= {"layer": 0} if name.startswith("layer") else {}
    plain = run.analyze(name, **options)
    found = run.analyze("noise_tunnel", method=name, n_samples=2, noise=0.0, **options)
    scale = np.abs(plain.values.values).max()
    np.testing.assert_allclose(found.values.values, plain.values.values, atol=1e-9 * scale)
    noise = run.analyze("noise_tunnel", method=name, n_samples=2, noise=0.3, **options)
    assert np.abs(noise.values.values - plain.values.values).max() > 1e-3 * scale
    assert noise.targets == plain.targets


def test_aliases_and_options_are_passed_on(run):
    long, short = (
        run.analyze("noise_tunnel", method=name, n_samples=2, noise=0.0, n_steps=STEPS, baseline="mean", targets=[-1])
        for name in ("integrated_gradients", "ig")
    )
    np.testing.assert_array_equal(long.values.values, short.values.values)
    plain = run.analyze("ig", n_steps=STEPS, baseline="mean", targets=[-1])
    np.testing.assert_allclose(long.values.values, plain.values.values, atol=1e-12)
    assert long.baseline == "mean of all embeddings"


def test_many_copies_take_little_memory_and_few_forwards(run, monkeypatch):
    """Copies are taken together, but never all of them."""
    from ecco_core import ScoreModule

    batches = []
    whole = ScoreModule.values_and_gradients

    def counted(self, *embeddings):
        batches.append(len(embeddings[0]))
        return whole(self, *embeddings)

    monkeypatch.setattr(ScoreModule, "values_and_gradients", counted)
    run.analyze("noise_tunnel", n_samples=500, targets=[-1])
    assert sum(batches) == 501  # and the run itself
    assert 1 < len(batches) < 12
    assert max(batches) * (len(run) - 1) <= 800


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "noise_tunnel"}, "noise_tunnel runs any other method of ecco-captum, found 'noise_tunnel'"),
        ({"method": "salency"}, r"found 'salency'\. Did you mean 'saliency'\?"),
        ({"method": ""}, "found ''"),
        ({"method": 3}, "takes str, found 3"),
        ({"n_steps": 5}, "noise_tunnel runs saliency, which has no option 'n_steps'"),
        ({"method": "lime", "aggregation": "sum"}, "noise_tunnel runs lime, which has no option 'aggregation'"),
        ({"method": "ig", "layer": 1}, "noise_tunnel runs integrated_gradients, which has no option 'layer'"),
        ({"method": "neuron_gradient", "layer": 1}, "runs neuron_gradient, which needs the option 'unit'"),
        ({"method": "layer_conductance", "layer": 9}, "No layer 9"),
        ({"method": "ig", "n_steps": 1}, "n_steps is at least 2, found 1"),
        ({"method": "neuron_gradient", "unit": 1, "layer": 1, "score": "prob"}, "has no contrast and no score"),
        ({"method": "guided_backprop"}, "guided_backprop is refused: a GPT2LMHeadModel has no ReLU"),
        ({"method": "captum_lrp"}, "Captum's LRP has no rule for"),
        ({"n_samples": 0}, "n_samples is at least 1"),
        ({"noise": float("nan")}, "noise is at least 0"),
    ],
)
def test_bad_options_are_one_sentence(run, options, message):
    with pytest.raises(ecco.EccoError, match=message) as raised:
        run.analyze("noise_tunnel", **options)
    assert not isinstance(raised.value, ecco.PluginError)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith((".", "?"))
