"""Similarity of layers, within and between models."""

from __future__ import annotations

import subprocess
import sys

import ecco_similarity
import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

import ecco_core as ecco

TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called Nora."
OPTIONS = {"svcca": {"n_components": 3}, "knn_overlap": {"k": 4}}
NAMES = ("cka", "cca", "svcca", "pwcca", "procrustes", "rsa", "knn_overlap")


def states(run, site, layer, stack=None):
    return run.capture(site, stack=stack).numpy(site, layer, stack)


@pytest.fixture(scope="module")
def run(prose):
    return prose.generate(TEXT, max_new_tokens=20)


@pytest.fixture(scope="module")
def wide(open_tiny):
    """A model whose text has more tokens than a layer has dimensions."""
    return open_tiny("gpt2", n_embd=8, n_head=2)


@pytest.fixture(scope="module")
def other_tokenizer():
    """Cuts text at white space and punctuation only."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<unk>", *sorted(set(TEXT.replace(".", " .").split()))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


@pytest.mark.parametrize("name", NAMES)
def test_a_grid_of_layers_is_the_function_of_their_states(name, wide):
    run = wide(f"{TEXT} {TEXT}")
    options = OPTIONS.get(name, {})
    result = run.analyze(name, bootstrap=20, permutations=5, **options)
    assert isinstance(result, ecco.Grid)
    assert result.values.dims == ("layer", "other layer")
    assert result.values.labels("layer") == (0, 1)
    function = getattr(ecco_similarity, name)
    for i, j in np.ndindex(2, 2):
        expected = function(states(run, "resid_post", i), states(run, "resid_post", j), **options)
        assert result.values.values[i, j] == pytest.approx(expected, abs=1e-6)
    assert (result.low.values <= result.values.values + 1e-9).all()
    assert (result.high.values >= result.values.values - 1e-9).all()
    assert (result.null.values < result.values.values).all()
    assert f"of resid_post within {wide.name}, {len(run)} tokens" in result.title
    assert "5 random orders" in result.to_text()
    assert "20 draws" in result.to_text()


def test_the_null_and_the_interval_can_be_left_out_and_are_drawn_by_seed(run):
    bare = run.analyze("cka", bootstrap=0, permutations=0)
    assert bare.low is bare.high is bare.null is None
    assert not bare.notes
    a, b, c = (run.analyze("cka", bootstrap=20, permutations=2, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.low.values, b.low.values)
    assert (a.low.values != c.low.values).any()
    assert (a.null.values != c.null.values).any()
    np.testing.assert_array_equal(a.values.values, c.values.values)


def test_layers_and_positions_are_those_asked_for(run):
    result = run.analyze("cka", layers=[1, 3], positions=range(2, 20), bootstrap=0, permutations=0, site="mlp_post")
    assert result.values.labels("layer") == (1, 3)
    expected = ecco_similarity.cka(states(run, "mlp_post", 1)[2:20], states(run, "mlp_post", 3)[2:20])
    assert result.values.values[0, 1] == pytest.approx(expected, abs=1e-9)


def test_what_is_no_layer_is_compared_too(run):
    result = run.analyze("cka", site="embedding", bootstrap=0, permutations=0)
    assert result.values.labels("layer") == ("embedding",)
    assert result.values.values[0, 0] == pytest.approx(1.0, abs=1e-9)


def test_heads_are_laid_side_by_side(run):
    result = run.analyze("cka", site="q", layers=[0, 1], bootstrap=0, permutations=0)
    a, b = (states(run, "q", layer).reshape(len(run), -1) for layer in (0, 1))
    assert result.values.values[0, 1] == pytest.approx(ecco_similarity.cka(a, b), abs=1e-9)


def test_runs_of_one_model_are_taken_together(prose, run):
    second = prose("The pilot is called Emma.")
    result = ecco.analyze("cka", [run, second], bootstrap=0, permutations=0)
    joined = [np.concatenate([states(r, "resid_post", k) for r in (run, second)]) for k in (0, 1)]
    assert result.values.values[0, 1] == pytest.approx(ecco_similarity.cka(*joined), abs=1e-9)
    last = [prose(f"The {w} is called Nora.") for w in ("captain", "cook", "pilot", "queen", "king")]
    result = ecco.analyze("cka", last, positions=-1, bootstrap=0, permutations=0)
    assert "5 tokens" in result.title


def test_two_models_on_one_text(open_tiny, wide):
    other = open_tiny("llama")
    pair = wide(TEXT), other(TEXT)
    result = ecco.analyze("svcca", pair, n_components=3, bootstrap=20, permutations=3, labels=["old", "new"])
    assert result.values.dims == ("layer of old", "layer of new")
    expected = ecco_similarity.svcca(*(states(r, "resid_post", k) for r, k in zip(pair, (0, 1))), n_components=3)
    assert result.values.values[0, 1] == pytest.approx(expected, abs=1e-6)
    assert result.null.values.shape == (2, 2)
    same = ecco.analyze("cka", (pair[0], ecco.from_pretrained((wide.model, wide.tokenizer))(TEXT)), bootstrap=0)
    np.testing.assert_allclose(np.diag(same.values.values), 1.0, atol=1e-9)
    assert same.values.dims[0].endswith(", first")


def test_a_model_before_and_after_a_change(prose):
    before = prose(TEXT)
    with prose.intervene(ecco.ablate("mlp_out", layer=1)):
        after = prose(TEXT)
    result = ecco.analyze("cka", (before, after), bootstrap=0, permutations=0)
    assert result.values.values[0, 0] == pytest.approx(1.0, abs=1e-9)
    assert result.values.values[1, 1] < 0.9999
    assert result.values.dims[0] == "layer of tiny:prose, unchanged"
    assert "tiny:prose, changed: ablate mlp_out" in result.to_text()


def test_other_tokenizers_are_aligned_by_characters(prose, other_tokenizer):
    from ecco_core.proving.tiny_models import tiny_model

    other = ecco.from_pretrained((tiny_model("gpt2", "causal"), other_tokenizer))
    a, b = prose(TEXT), other(TEXT)
    result = ecco.analyze("procrustes", (a, b), bootstrap=0, permutations=2)
    assert len(a) != len(b)
    spans, ignored = ecco_similarity.alignment.aligned(a.tokens, b.tokens)
    means = [[states(r, "resid_post", 0)[list(span[k])].mean(0) for span in spans] for k, r in enumerate((a, b))]
    assert result.values.values[0, 0] == pytest.approx(ecco_similarity.procrustes(*map(np.array, means)), abs=1e-6)
    assert ignored
    assert ignored in result.to_text()
    some = ecco.analyze("procrustes", (a, b), positions=range(8), bootstrap=0, permutations=0)
    assert some.title.endswith(f"{sum(min(span[0]) < 8 for span in spans)} tokens")


@pytest.mark.parametrize(("kind", "task"), [("bert", "masked"), ("t5", "seq2seq"), ("bert", "token_classification"),
                                            ("mamba", "causal"), ("bert", "sequence_classification")])  # fmt: skip
def test_other_tasks(open_tiny, kind, task):
    lm = open_tiny(kind, task)
    run = lm.generate(TEXT, max_new_tokens=8) if task == "seq2seq" else lm(TEXT)
    result = run.analyze("cka", bootstrap=0, permutations=2)
    np.testing.assert_allclose(np.diag(result.values.values), 1.0, atol=1e-9)
    if task == "seq2seq":
        encoder = run.analyze("cka", stack="encoder", bootstrap=0, permutations=0)
        expected = ecco_similarity.cka(*(states(run, "resid_post", k, "encoder") for k in (0, 1)))
        assert encoder.values.values[0, 1] == pytest.approx(expected, abs=1e-9)
        with pytest.raises(ecco.OptionError, match="Positions count over the tokens of the decoder; leave them out"):
            run.analyze("cka", stack="encoder", positions=[0, 1, 2, 3])


def test_reduced_precision(open_tiny):
    run = open_tiny("gpt2", dtype=torch.bfloat16)(TEXT)
    result = run.analyze("cka", bootstrap=0, permutations=0)
    expected = ecco_similarity.cka(*(run.capture("resid_post").get("resid_post", k).float().numpy() for k in (0, 1)))
    assert result.values.values[0, 1] == pytest.approx(expected, abs=1e-6)


def test_half_precision_of_many_tokens_is_computed_in_float32(monkeypatch, open_tiny):
    monkeypatch.setattr("ecco_similarity.arrays.MANY", 8)
    run = open_tiny("gpt2", dtype=torch.float16)(TEXT)
    assert states(run, "resid_post", 0).dtype == np.float16
    for name in ("cka", "procrustes"):
        result = run.analyze(name, bootstrap=20, permutations=0)
        pair = [states(run, "resid_post", k).astype(np.float64) for k in (0, 1)]
        assert result.values.values[0, 1] == pytest.approx(getattr(ecco_similarity, name)(*pair), abs=2e-6)
        ends = result.low.values[0, 1], result.high.values[0, 1]
        assert ends == pytest.approx(ecco_similarity.interval(name, *pair, draws=20), abs=2e-6)


def test_patterns_are_no_states_whatever_their_shape(prose):
    run = prose("The captain is called Nora.")
    assert run.capture("pattern", layers=0).numpy("pattern", 0).shape == (6,) * 3  # as many heads as tokens
    with pytest.raises(ecco.OptionError, match="a vector for each token, and pattern has the shape"):
        run.analyze("cka", site="pattern", bootstrap=0)


def test_a_stack_that_the_second_model_lacks(prose, open_tiny):
    pair = open_tiny("t5", "seq2seq").generate(TEXT, max_new_tokens=5), prose(TEXT)
    with pytest.raises(ecco.OptionError, match="No stack 'encoder' in the run of tiny:prose; it has decoder"):
        ecco.analyze("cka", pair, stack="encoder")


def test_results_are_kept_and_shown(run, tmp_path):
    result = run.analyze("cka", bootstrap=20, permutations=2)
    kept = ecco.load(result.save(tmp_path / "cka.ecco"))
    np.testing.assert_array_equal(kept.null.values, result.null.values)
    assert "Debiased linear CKA of resid_post within tiny:prose" in result.to_html()


@pytest.mark.parametrize(("options", "sentence"), [
    ({"name": "cca"}, "too few for canonical correlations of .*svcca with n_components up to"),
    ({"name": "svcca", "n_components": 500}, "At layer 0 of tiny:prose: n_components is 500, and"),
    ({"name": "svcca", "n_components": 0}, "n_components is at least 1, found 0"),
    ({"name": "cka", "positions": [0, 1]}, "layer 0 of tiny:prose needs at least 4 samples"),
    ({"name": "cka", "positions": [0, 1, 2, 3]}, "For the interval, drawn from 80 % of 4 tokens: .* bootstrap=0"),
    ({"name": "cka", "bootstrap": 5}, "an interval needs at least 20 draws, found 5"),
    ({"name": "cka", "confidence": 1.5}, "confidence is between 0 and 1"),
    ({"name": "cka", "permutations": -1}, "numbers from 0, found 100 and -1"),
    ({"name": "cka", "site": "pattern"}, "Similarity needs a vector for each token, and pattern has the shape"),
    ({"name": "cka", "site": "resid_posst"}, "resid_posst"),
    ({"name": "cka", "layers": [9]}, "No layer 9"),
    ({"name": "cka", "stack": "encoder"}, "No stack 'encoder' in the run of tiny:prose; it has decoder"),
    ({"name": "cka", "labels": ["a", "b"]}, "labels names what is compared: 1, found 2"),
    ({"name": "knn_overlap", "k": 90}, "At layer 0 of tiny:prose: k is 90, and"),
])  # fmt: skip
def test_bad_options_are_one_sentence(run, options, sentence):
    options = dict(options)
    with pytest.raises(ecco.EccoError, match=sentence) as caught:
        run.analyze(options.pop("name"), **options)
    assert "\n" not in str(caught.value)


def test_runs_that_cannot_be_compared(run, prose, wide, open_tiny):
    text = prose(TEXT)
    third = open_tiny("gpt2")
    for runs, sentence in [
        ((run, run), "Two runs are of the same model and the same tokens"),
        ((text, wide("Another text.")), "compared on the same text; the texts differ: after"),
        ((text, wide(TEXT), third(TEXT)), "are compared at a time, found 3"),
        ((text, run, wide(TEXT)), "found 2 runs of one and 1 of the other"),
    ]:
        with pytest.raises(ecco.OptionError, match=sentence):
            ecco.analyze("cka", runs)
    with pytest.raises(ecco.OptionError, match="labels differ from each other, found 'a' twice"):
        ecco.analyze("cka", (text, wide(TEXT)), labels=["a", "a"])


def test_many_tokens_are_refused_before_they_fill_the_memory(run, monkeypatch):
    monkeypatch.setattr("ecco_similarity.analyses._MOST", 1000)
    for name, options in (("rsa", {}), ("cka", {"kernel": "rbf"}), ("knn_overlap", {})):
        with pytest.raises(ecco.OptionError, match=r"matrices of \d+ x \d+ tokens need .*; name fewer"):
            run.analyze(name, **options)


def test_the_package_is_light_and_works_without_a_model():
    code = "import ecco_similarity, sys; assert not {'numpy', 'scipy', 'torch', 'transformers'} & set(sys.modules)\n"
    code += "from ecco_similarity import cka; import numpy; cka(*numpy.random.rand(2, 9, 3))\n"
    code += "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_specs_name_what_is_there():
    assert {"cka", "grid", "ecco_analyses"} <= set(dir(ecco_similarity))
    specs = ecco_similarity.ecco_analyses()
    assert [spec.name for spec in specs] == list(NAMES)
    assert all(callable(spec.load()) for spec in specs)
    assert all(getattr(ecco_similarity, name).__doc__ for name in ecco_similarity.__all__)
