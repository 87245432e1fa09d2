import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from ecco_factorization import (
    NeuronFactors,
    explained_variance,
    factoring,
    independent_components,
    match_components,
    neurons,
    nonnegative_factors,
    semi_nonnegative_factors,
    telling_apart,
)
from ecco_factorization.nonnegative import singular
from ecco_factorization.telling import deviations

import ecco_core as ecco

TEXT = "The captain is called Nora. The cook is called Felix."


@pytest.mark.parametrize("factor", [nonnegative_factors, semi_nonnegative_factors])
@pytest.mark.parametrize("seed", [None, 3])
def test_float32_ends_where_float64_does_where_tokens_share_a_strong_direction(factor, seed):
    rng = np.random.default_rng(1)
    x = np.maximum(rng.normal(size=(100, 8)) @ rng.normal(size=(8, 300)) + 0.5 * rng.normal(size=(100, 300)), 0) + 50
    fine, coarse = (factor(x.astype(dtype), 5, seed=seed) for dtype in (np.float64, np.float32))
    error = [np.linalg.norm(x - f.activations.astype(float) @ f.loadings) / np.linalg.norm(x) for f in (fine, coarse)]
    assert error[1] == pytest.approx(error[0], rel=5e-3)
    assert coarse.errors[-1] == pytest.approx(error[1], rel=1e-4)
    assert coarse.activations.dtype == coarse.loadings.dtype == np.float32


def test_a_start_from_fewer_directions_than_components_meets_no_overflow():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.exponential(size=(3, 9)), 3, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (np.float32, np.float64):
            u, _, v = singular(x.astype(dtype), 7)
            assert np.abs(u).max() <= 1.001
            assert np.isfinite(v).all()
            assert np.abs(v).max() < 1e3
            assert nonnegative_factors(x.astype(dtype), 6).errors[-1] < 1e-2


def test_rounding_of_a_forward_pass_is_no_variance():
    rng = np.random.default_rng(0)
    same = np.tile(rng.normal(size=200), (20, 1)).astype(np.float32)
    noisy = same + np.float32(2e-7) * rng.normal(size=same.shape).astype(np.float32)
    with pytest.raises(ValueError, match="No unit varies"):
        explained_variance(noisy, np.ones((20, 1)), same[:1], 0.0)
    auc, gap = telling_apart(noisy, np.arange(20) < 3)
    assert set(auc) == {0.5}
    assert not gap.any()
    assert not deviations(noisy).any()


def test_one_token_over_and_over_has_nothing_to_factor(open_tiny):
    run = open_tiny("llama").generate("a" * 20, max_new_tokens=0)
    assert len(set(run.tokens.ids)) == 1
    for name in ("nmf", "pca", "ica", "kmeans", "umap", "top_neurons", "neuron_map"):
        options = {"n_components": 2} if name in ("nmf", "pca", "ica", "kmeans") else {}
        with pytest.raises(ecco.OptionError, match=r"No unit varies|vary in 0 directions"):
            run.analyze(name, **options)


def test_keys_of_cross_attention_belong_to_the_encoders_tokens(open_tiny):
    run = open_tiny("t5", "seq2seq").generate(TEXT, max_new_tokens=4)
    encoder = run.transcript.tokens["encoder"]
    for site in ("cross_k", "cross_v"):
        result = run.analyze("pca", site=site, n_components=2)
        assert result.tokens.texts == encoder.texts
        assert result.values.shape == (2, len(encoder))
    last = run.analyze("pca", site="cross_k", n_components=2, positions=[0, 1, -1])
    assert last.tokens.texts[-1] == encoder.texts[-1]
    assert run.analyze("pca", site="cross_q", n_components=2).tokens.texts == run.tokens.texts


def test_a_special_token_is_found_by_its_whole_text_only(open_tiny):
    run = open_tiny("bert", "masked")("The captain is <mask> called Nora <b>")
    assert run.analyze("neuron_activations", token="<").notes[0].startswith("1 of ")
    assert run.analyze("neuron_activations", token="<mask>").notes[0].startswith("1 of ")
    with pytest.raises(ecco.OptionError, match="No token contains 'mask'"):
        run.analyze("neuron_activations", token="mask")


def test_auc_is_shown_as_1_only_where_it_is_1():
    made = np.arange(60.0)[:, None] * [1, 1, -1]
    made[0, 0] = 50.5  # above one of the chosen: AUC 499 / 500
    tokens = SimpleNamespace(texts=["a"] * 50 + ["("] * 10, special=[False] * 60)
    samples = neurons.Samples(made, ("0:0", "0:1", "0:2"), tokens, (), "numbers")
    labels = neurons._knowing(SimpleNamespace(note=print), samples, "(", 3)[1]
    assert labels == ["0:1 (AUC 1.00)", "0:0 (AUC 0.99)", "0:2 (AUC 0.00)"]


@pytest.fixture(scope="module")
def run_of_prose(prose):
    text = "The function open(file, mode) returns a file object. See also: print(), and the list [1, 2, 3].\n\n"
    return prose.generate(text + "    >>> print(len([1, 2]))\n    2\n\n    >>> str(3)", max_new_tokens=0)


def test_no_position_of_an_encoder_is_said(open_tiny):
    run = open_tiny("t5", "seq2seq").generate(TEXT, max_new_tokens=2)
    for name in ("nmf", "neuron_activations", "neuron_map", "umap"):
        with pytest.raises(ecco.OptionError, match="No position was named"):
            run.analyze(name, stack="encoder", positions=[])


@pytest.mark.parametrize(("rank", "name"), [(1, "pca"), (1, "nmf"), (2, "pca"), (3, "nmf"), (3, "ica"), (3, "kmeans")])
def test_the_elbow_finds_how_many_causes_there_were(run_of_prose, monkeypatch, rank, name):
    rng = np.random.default_rng(rank)
    if name == "kmeans":
        made = 3 * rng.normal(size=(rank, 300))[np.arange(80) % rank] + 0.5 * rng.normal(size=(80, 300))
    else:
        w = rng.exponential(size=(80, rank)) * (rng.random((80, rank)) < 0.5)
        made = w @ (rng.exponential(size=(rank, 300)) * (rng.random((rank, 300)) < 0.4)) + 0.05 * rng.random((80, 300))
    samples = factoring.Samples(made, tuple(map(str, range(300))), None, tuple(map(str, range(80))), "numbers")
    monkeypatch.setattr(factoring, "read", lambda ctx, stack: samples)
    options = {} if name == "pca" else {"n_seeds": 0}
    assert run_of_prose.analyze(name, n_components="auto", **options).values.shape[0] == rank


def test_more_components_than_the_numbers_have_are_said_and_not_tried_by_auto(run_of_prose, monkeypatch):
    made = np.kron(np.eye(2), np.ones((4, 5)))
    samples = factoring.Samples(made, tuple(map(str, range(10))), None, tuple(map(str, range(8))), "numbers")
    monkeypatch.setattr(factoring, "read", lambda ctx, stack: samples)
    for n_seeds in (0, 2):
        with pytest.raises(ecco.OptionError, match="Only 3 of 5 components are in use, the others are zero: ask for 3"):
            run_of_prose.analyze("nmf", n_components=5, n_seeds=n_seeds)
        result = run_of_prose.analyze("nmf", n_components="auto", n_seeds=n_seeds)
        assert result.values.shape[0] == 2
        assert result.curve.labels("components") == (1, 2, 3, 4)


def test_components_of_different_sites_are_not_matched(open_tiny):
    run = open_tiny("t5", "seq2seq").generate(TEXT, max_new_tokens=4)
    first, second = (run.analyze("pca", n_components=2, site=site) for site in ("resid_post", "mlp_out"))
    with pytest.raises(ecco.OptionError, match="of the site 'resid_post', the second of 'mlp_out'"):
        match_components(first, second)
    named, other = (run.analyze("pca", n_components=2, site="resid_post", stack=s) for s in ("decoder", "encoder"))
    assert "of resid_post in layers 0, 1 of the encoder" in other.title
    with pytest.raises(ecco.OptionError, match="of the stack 'decoder', the second of 'encoder'"):
        match_components(named, other)
    assert [row[2] for row in match_components(first, named).rows] == pytest.approx([1, 1])


def test_a_group_of_tokens_without_activation_is_a_group(open_tiny):
    lm = open_tiny("llama")
    run = lm.generate(TEXT, max_new_tokens=2)
    with lm.intervene(ecco.ablate("mlp_post", positions=[3])):
        groups = run.analyze("kmeans", n_components=len(run), n_seeds=0)
    assert not groups.loadings.values.any(1).all()


def test_strongest_tokens_say_which_are_negative():
    from ecco_core import LabelledArray

    factors = NeuronFactors(
        values=LabelledArray([[3.0, -4.0, 0.0]], ("component", "token"), {"token": ["a", "b", "c"]}),
        loadings=LabelledArray([[1.0]], ("component", "unit"), {"unit": ["0:0"]}),
    )
    assert factors.strongest_tokens(0) == "−'b' · 'a'"


@pytest.mark.parametrize(("n", "said"), [(1, "found 1"), (2, "found 2"), (3, "found 3")])
def test_umap_says_how_many_tokens_it_needs(run_of_prose, n, said):
    with pytest.raises(ecco.OptionError, match=f"UMAP needs 4 tokens at least, {said}"):
        run_of_prose.analyze("umap", positions=list(range(n)))


def test_ica_turns_activations_and_loadings_together():
    rng = np.random.default_rng(0)
    x = rng.laplace(size=(40, 4)) @ rng.normal(size=(4, 30))
    for seed in range(4):
        factors = independent_components(x, 4, seed=seed)
        np.testing.assert_allclose(factors.activations @ factors.loadings, x - x.mean(0), atol=1e-6)
        assert (factors.activations[np.abs(factors.activations).argmax(0), range(4)] > 0).all()
