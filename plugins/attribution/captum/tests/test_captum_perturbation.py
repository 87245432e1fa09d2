"""The perturbation methods against naive loops, closed forms and Captum's own classes on embeddings, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from captum.attr import Occlusion, ShapleyValues
from hypothesis import given, settings, strategies as st

import ecco_core as ecco

DOUBLE = torch.float64
METHODS = ("feature_ablation", "occlusion", "feature_permutation", "shapley_value_sampling", "kernel_shap", "lime")


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt_neox"])
def run(request, make_lm):
    lm = make_lm(request.param)
    lm.model.double()
    return lm.generate("The captain is called Nora.", max_new_tokens=5, do_sample=True, seed=3)


def scores_by_hand(run, embeddings):
    """Log-probabilities of all generated tokens for one input, from the model's own inputs_embeds."""
    with torch.no_grad():
        logits = run.lm.model(inputs_embeds=embeddings).logits[0].log_softmax(-1)
    return np.array([float(logits[p - 1, run.ids[p]]) for p in range(run.n_input_tokens, len(run))])


def ends(run, token):
    """The run's embeddings and those of a token in every place, up to what the last target sees."""
    embed, ids = run.lm.model.get_input_embeddings(), run.ids[None, : len(run) - 1]
    return embed(ids).detach(), embed(torch.full_like(ids, token)).detach()


def test_feature_ablation_is_the_naive_difference(run):
    token = 7
    here, there = ends(run, token)
    expected = []
    for f in range(here.shape[1]):
        without = here.clone()
        without[:, f] = there[:, f]
        expected.append(scores_by_hand(run, here) - scores_by_hand(run, without))
    result = run.analyze("feature_ablation", baseline=run.label(token))
    np.testing.assert_allclose(result.values.values, np.array(expected).T, atol=1e-9)
    later = [s.positions[0] >= t.position for t in result.targets for s in result.sources]
    assert not result.values.values.reshape(-1)[later].any()


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_occlusion_is_captums_on_the_embeddings(run, window, stride):
    here, there = ends(run, 7)
    shape = (window, here.shape[2])
    result = run.analyze("occlusion", window=window, stride=stride, baseline=run.label(7))
    for row, target in enumerate(result.targets):
        position = target.position

        def forward(x, position=position, token=target.token_id):
            return run.lm.model(inputs_embeds=x).logits[:, position - 1].log_softmax(-1)[:, token]

        naive = Occlusion(forward).attribute(here, shape, strides=(stride, here.shape[2]), baselines=there)
        seen = naive[0, :position, 0].numpy()
        np.testing.assert_allclose(result.values.values[row, :position], seen, atol=1e-9)


def test_exact_shapley_values_are_captums_and_add_up(run):
    spans = ["0:2", "2:4", "4:5", f"5:{len(run)}"]
    result = run.analyze("shapley_values", features=spans, baseline=run.label(7))
    np.testing.assert_allclose(result.completeness.values, 0, atol=1e-9)
    here, there = ends(run, 7)

    def forward(masks):
        rows = []
        for mask in masks:
            kept = torch.repeat_interleave(mask > 0.5, torch.tensor([len(s.positions) for s in result.sources]))
            rows.append(scores_by_hand(run, torch.where(kept[None, :, None], here, there)))
        return torch.tensor(np.array(rows))

    for row in range(len(result.targets)):
        explainer = ShapleyValues(lambda masks, row=row: forward(masks)[:, row])
        expected = explainer.attribute(torch.ones(1, len(spans)), baselines=0).numpy()[0]
        np.testing.assert_allclose(result.values.values[row], expected, atol=1e-6)
        if row == 1:
            break


def test_sampled_and_fitted_shapley_values_come_near_the_exact_ones(run):
    common = {"features": "words", "targets": -1}
    exact = run.analyze("shapley_values", **common)
    assert len(exact.sources) <= 12
    scale = np.abs(exact.values.values).max()
    for name in ("shapley_value_sampling", "kernel_shap"):
        found = run.analyze(name, n_samples=400, **common)
        assert np.abs(found.values.values - exact.values.values).max() < 0.1 * scale
        np.testing.assert_allclose(found.completeness.values, 0, atol=1e-5 * scale)
        again = run.analyze(name, n_samples=400, **common)
        assert np.array_equal(found.values.values, again.values.values)
        other = run.analyze(name, n_samples=400, seed=1, **common)
        assert not np.array_equal(found.values.values, other.values.values)


@settings(max_examples=50, deadline=None)
@given(weights=st.lists(st.floats(-5, 5), min_size=2, max_size=6), pair=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_the_fits_recover_games_that_are_known(weights, pair, seed):
    from ecco_captum.perturbation import constrained_fit, kernel_masks, sparse_fit

    n, rng = len(weights), np.random.default_rng(seed)
    drawn = kernel_masks(60, n, rng)
    assert set(drawn.sum(1)) <= set(range(1, n))
    np.testing.assert_array_equal(drawn[30:], 1 - drawn[:30])
    masks = np.array([m for m in itertools.product((0.0, 1.0), repeat=n) if 0 < sum(m) < n])
    sizes = masks.sum(1).astype(int)
    kernel = [1 / (sum(sizes == k) * k * (n - k)) for k in sizes]
    counts = np.rint(np.array(kernel) / min(kernel)).astype(int)
    repeated = np.repeat(masks, counts, axis=0)

    def game(m):  # additive, and a pair that earns more together: the exact values share it
        return m @ np.array(weights) + pair * m[:, 0] * m[:, 1]

    total = game(np.ones((1, n)))
    exact = np.array(weights)
    exact[:2] += pair / 2
    if np.allclose(np.array(kernel) / min(kernel), counts):
        found = constrained_fit(repeated, game(repeated)[:, None], total)
        np.testing.assert_allclose(found[0], exact, atol=1e-8)
    everything = np.array(list(itertools.product((0.0, 1.0), repeat=n)))
    additive = everything @ np.array(weights)
    found = sparse_fit(everything, additive[:, None], np.ones(len(everything)), 0.0)
    np.testing.assert_allclose(found[0], weights, atol=1e-8)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("kind", "task"),
    [("bert", "masked"), ("bert", "sequence_classification"), ("roberta", "token_classification"),
     ("t5", "seq2seq"), ("bart", "seq2seq"), ("mamba", "causal")],
)  # fmt: skip
def test_every_task_is_served(open_tiny, name, kind, task):
    lm = open_tiny(kind, task)
    text = "The <mask> is here." if task == "masked" else "Nora is here."
    run = lm.generate(text, max_new_tokens=2) if task in ("causal", "seq2seq") else lm(text)
    result = run.analyze(name, features="words")
    assert np.isfinite(result.values.values).all()
    assert np.abs(result.values.values).max() > 0
    assert sum(len(s.positions) for s in result.sources) == sum(map(len, run.scores().ids.values()))


def test_each_mask_goes_through_the_model_once_and_from_little_before_its_first_change_on(run):
    passed = []
    run.scores()  # proves causality, once per model
    count = lambda _, args, kwargs: passed.append((*args, kwargs.get("input_ids"))[0].shape)  # noqa: E731
    handle = run.lm.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        run.analyze("feature_ablation", internal_batch_size=1)
    finally:
        handle.remove()
    n = len(run) - 1
    trial, masks = passed[:3], passed[3:]  # the run's own scores, its cache, and going on from half of it
    assert trial == [(1, n), (1, n), (1, n - n // 2)]
    assert masks == [(1, n - same // 4 * 4) for same in reversed(range(n))], "few lengths"


def test_batches_are_halved_when_memory_runs_out(run, monkeypatch):
    expected = run.analyze("feature_ablation").values.values
    scores = type(run.scores())
    whole, sizes = scores.run_part, []

    def short(self, embeddings, places, **options):
        sizes.append(len(embeddings[0]))
        if len(embeddings[0]) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, embeddings, places, **options)

    monkeypatch.setattr(scores, "run_part", short)
    found = run.analyze("feature_ablation", internal_batch_size=16)
    np.testing.assert_allclose(found.values.values, expected, atol=1e-9)
    assert max(sizes) > 3
    assert sum(size > 3 for size in sizes) <= 3, "what was too much once is not tried again"

    def never(self, *args, **options):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(scores, "run_part", never)
    with pytest.raises(ecco.EccoError, match="OutOfMemoryError"):
        run.analyze("feature_ablation")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("occlusion", {"window": 0}, "window is from 1 to the number of features"),
        ("occlusion", {"window": 2, "stride": 3}, "stride is from 1 to the window"),
        ("kernel_shap", {"n_samples": 2}, "n_samples is at least the number of features"),
        ("lime", {"alpha": -1.0}, "alpha is at least 0"),
        ("shapley_value_sampling", {"n_samples": 0}, "n_samples is at least 1"),
        ("feature_permutation", {"n_samples": 0}, "n_samples is at least 1"),
        ("feature_ablation", {"internal_batch_size": 0}, "internal_batch_size is at least 1"),
        ("feature_ablation", {"features": "wrods"}, "Did you mean 'words'"),
        ("feature_ablation", {"features": ["0:3", "4:99"]}, "is no span of the run"),
        ("feature_ablation", {"features": ["0:3", "4:6"]}, "leave out position 3"),
        ("feature_ablation", {"features": ["0:3", "2:6"]}, "overlap at position 2"),
        ("feature_ablation", {"baseline": "several words of it"}, "not one"),
        ("feature_ablation", {"n_steps": 3}, "has no option 'n_steps'"),
    ],
)
def test_bad_options_are_one_sentence(run, name, options, message):
    with pytest.raises(ecco.EccoError, match=message) as raised:
        run.analyze(name, **options)
    assert "\n" not in str(raised.value)


def test_other_baselines(run):
    drawn = run.analyze("feature_ablation", baseline="sample", seed=1)
    assert "drawn at random" in drawn.baseline
    assert not np.array_equal(drawn.values.values, run.analyze("feature_ablation", baseline="sample").values.values)


def test_exact_shapley_values_of_many_features_are_refused(run):
    longer = run.lm.generate("The captain is called Nora. The cook is called Felix.", max_new_tokens=3)
    with pytest.raises(ecco.OptionError, match=r"need 2\^\d+ forward passes; up to 12 .* Take larger features"):
        longer.analyze("shapley_values")
