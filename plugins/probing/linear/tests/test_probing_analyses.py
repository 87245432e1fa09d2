"""Probes on runs: trained and random models, labels of tokens and of runs, what is kept, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ecco_probing import grouped_splits, interval, predict, probe as probe_arrays, sentences, word_kinds

import ecco_core as ecco

REVIEWS = Path(__file__).parents[3] / "models/tiny/src/ecco_tiny/models/classifier/known_answers.json"
CURVES = ("accuracy, unseen words", "accuracy, seen words", "control task", "selectivity", "word type", "majority")


@pytest.fixture(scope="module")
def prose():
    return ecco.from_pretrained("tiny:prose")


@pytest.fixture(scope="module")
def runs(prose):
    return prose(sentences(120))


@pytest.fixture(scope="module")
def result(runs):
    return ecco.analyze("probe", runs, concept="kinds")


def test_a_model_that_was_trained_on_the_words_knows_the_kind_of_words_that_the_probe_never_met(result):
    assert result.kinds()[0] == "Curves"
    assert (result.values.labels("curve"), result.values.labels("layer")) == (CURVES, (0, 1, 2, 3))
    scores = {name: result.values.sel(curve=name).values for name in CURVES}
    assert scores["accuracy, unseen words"][-1] > 0.9 > scores["word type"][-1] > scores["majority"][-1]
    assert scores["majority"].max() < 0.5
    assert np.allclose(scores["selectivity"], scores["accuracy, seen words"] - scores["control task"])
    assert scores["selectivity"].min() > 0.3
    assert (result.low.values <= result.values.values).all()
    assert (result.values.values <= result.high.values).all()
    assert any("no run is in training and test both" in note for note in result.notes)
    assert any("Unseen words: no word type" in note for note in result.notes)


def test_the_curves_are_the_numbers_of_the_function_on_arrays(runs, result):
    rows = [(i, *row) for i, run in enumerate(runs) for row in word_kinds(run.tokens.texts)]
    x = np.stack([run.capture("resid_post").numpy("resid_post", 2)[row[1]] for row in rows for run in [runs[row[0]]]])
    sequence, _, labels, words = (np.array(column) for column in zip(*rows))
    unseen = probe_arrays(x, labels, words)
    shared = probe_arrays(x, labels, sequence, words)
    at = result.values.sel(layer=2)
    assert at.sel(curve="accuracy, unseen words").values == interval(unseen.scores["accuracy"])[0]
    assert at.sel(curve="control task").values == interval(shared.scores["control"])[0]
    low = result.low.sel(layer=2, curve="selectivity").values
    assert low == interval(shared.scores["selectivity"], floor=-1)[1]
    assert len(grouped_splits(labels, words)) == 5


def test_the_seed_decides_and_the_result_is_kept(runs, result, tmp_path):
    again = ecco.analyze("probe", runs, concept="kinds", layers=[1], splits=5)
    assert np.array_equal(again.values.values[:, 0], result.values.values[:, 1])
    other = ecco.analyze("probe", runs, concept="kinds", layers=[1], seed=1)
    assert not np.array_equal(again.values.values, other.values.values)
    kept = ecco.load(result.save(tmp_path / "probe.ecco"))
    assert np.array_equal(kept.values.values, result.values.values)
    assert "selectivity" in str(kept)


def test_hidden_states_against_neurons_is_one_call(runs, result):
    found = ecco.analyze("probe_comparison", runs, concept="kinds", layers=[0, 3])
    names = ("resid_post", "mlp_post", "resid_post, selectivity", "mlp_post, selectivity", "majority")
    assert (found.values.labels("curve"), found.values.labels("layer")) == (names, (0, 3))
    expected = result.values.sel(curve="accuracy, unseen words", layer=[0, 3]).values
    assert np.array_equal(found.values.sel(curve="resid_post").values, expected)
    neurons = ecco.analyze("probe", runs, concept="kinds", layers=3, site="mlp_post")
    assert found.values.sel(curve="mlp_post", layer=3).values == neurons.values.sel(curve=CURVES[0], layer=3).values
    assert "resid_post against mlp_post" in found.title


SOURCE = '''def {0}(text, {1}=3):  # keep {2} of the text
    """Return {1} of the {2}."""
    if {1} > {3}:
        raise ValueError("no {2} in {0}")
    return [{2}.{0}({1} + {3}) for {2} in text if not {2}]
'''


def test_python_is_read_off_one_run_by_tokens(prose):
    words = ["first", "lines", "word", "count", "other", "parse", "value", "name", "items", "result"]
    text = "\n".join(SOURCE.format(*np.roll(words, -i)[:3], 7 * i + 1) for i in range(4))
    found = prose(text).analyze("probe", concept="python", layers=[0, 2])
    assert "token classes of Python source" in found.title
    assert any("no token is in training and test both" in note for note in found.notes)
    assert found.values.sel(curve="accuracy, seen words", layer=2).values > 0.7
    assert found.values.sel(curve="majority", layer=2).values < 0.6


def test_classes_with_too_few_words_are_left_out_and_named(prose):
    line = "def f{0}(x{0}): return y{0} + z{0} * w{0} - v{0} / u{0} % 3 if t{0} else not s{0}\n"
    found = prose("".join(line.format(i) for i in "abcd")).analyze("probe", concept="python", layers=0, splits=2)
    assert "Left out, as they have fewer than 5 word types: number." in found.notes
    assert "3 classes" in found.title


def test_labels_of_runs_are_read_off_the_mean_or_the_last_state():
    lm = ecco.from_pretrained("tiny:classifier")
    answers = [json.loads(line.rstrip(",")) for line in REVIEWS.read_text("utf-8").splitlines() if line.startswith("{")]
    answers = [a for a in answers if a["kind"] == "plain"][:60]
    runs = lm([a["text"] for a in answers])
    labels = [a["answer"] for a in answers]
    for state in ("mean", "last"):
        found = ecco.analyze("probe", runs, labels=labels, state=state, layers=-1)
        assert found.values.labels("curve") == ("accuracy", "control task", "selectivity", "majority")
        assert found.values.sel(curve="accuracy").values > 0.85
        assert abs(found.values.sel(curve="control task").values - 0.5) < 0.3
    kept = ecco.analyze("fit_probe", runs, labels=labels, layers=-1)
    x = np.stack(
        [run.capture("resid_post").numpy("resid_post", lm.architecture.n_layers("encoder") - 1).mean(0) for run in runs]
    )
    said = [kept.settings["classes"][i] for i in predict(kept.parameters, x).argmax(1)]
    assert np.mean(np.array(said) == labels) > 0.95
    with pytest.raises(ecco.OptionError, match="fitted on whole runs"):
        runs[0].analyze("apply_probe", fitted=kept)


def test_a_probe_is_kept_saved_loaded_and_says_what_it_reads_of_each_token(prose, runs, tmp_path):
    fitted = ecco.analyze("fit_probe", runs, concept="kinds", layers=3)
    fitted = ecco.load(fitted.save(tmp_path / "kinds.ecco"))
    run = prose("The baker bought a lantern for Nora.")
    found = run.analyze("apply_probe", fitted=fitted, top=2)
    assert found.values.shape == (len(run), 2)
    said = dict(zip(found.values.labels("position"), found.texts.values[:, 0]))
    assert (said["1  baker"], found.texts.values[run.tokens.texts.index(" Nora"), 0]) == ("role", "name")
    direct = predict(fitted.parameters, run.capture("resid_post", layers=3).numpy("resid_post", 3))
    assert np.allclose(found.values.values, -np.sort(-direct, axis=1)[:, :2])


@pytest.mark.parametrize(
    ("kind", "task", "stack"),
    [("llama", "causal", None), ("bert", "masked", None), ("t5", "seq2seq", "encoder"), ("t5", "seq2seq", None),
     ("mixtral", "causal", None), ("mamba", "causal", None)],
)  # fmt: skip
def test_random_labels_of_tokens_are_not_read_off_random_models(open_tiny, kind, task, stack):
    lm = open_tiny(kind, task)
    texts = ["The captain is called Nora.", "Felix thanked the cook.", "Everyone called the captain Felix."] * 2
    runs = [lm.generate(t, max_new_tokens=12) for t in texts] if task == "seq2seq" else lm(texts)
    stack = stack or runs[0].transcript.stack
    n = sum(len(run.transcript.tokens[stack]) for run in runs)
    labels = [str(label) for label in np.random.default_rng(0).choice(["a", "b", ""], size=n)]
    found = ecco.analyze("probe", runs, labels=labels, stack=stack, unseen_words=False, splits=3)
    assert len(found.values.labels("layer")) == lm.architecture.n_layers(stack)
    assert np.isfinite(found.values.values).all()
    accuracy = found.values.sel(curve="accuracy, seen words").values
    assert accuracy.min() > 0.2
    assert accuracy.max() < 0.8
    assert found.values.labels("curve") == CURVES[1:]


def test_sites_of_other_shapes(runs):
    heads = ecco.analyze("probe", runs, concept="kinds", site="q", layers=0, splits=2)
    assert heads.values.sel(curve="accuracy, seen words").values[0] > 0.8
    outside = ecco.analyze("probe", runs, concept="kinds", site="embedding", splits=2)
    assert outside.values.labels("layer") == ("embedding",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Give labels, one per run or per token, or a concept that makes them: python, kinds."),
        ({"labels": ["a"] * 5}, "found 5."),
        ({"labels": ["a", "b"] * 60, "concept": "kinds"}, "makes its labels itself"),
        ({"labels": ["a"] * 120}, "found only the class 'a', expected two or more"),
        ({"labels": [""] * 120}, "found no class"),
        ({"labels": ["a"] * 117 + ["b"] * 3}, "The class 'b' has 3 texts, 5 are needed"),
        ({"concept": "kinds", "layers": 4}, "No layer 4; there are 4, from 0 to 3."),
        ({"concept": "kinds", "site": "cross_attn_out"}, "cross_attn_out"),
        ({"concept": "kinds", "site": "pattern"}, "has no state per token"),
        ({"concept": "kinds", "stack": "encoder"}, "No stack 'encoder' in this run; it has decoder."),
        ({"concept": "kinds", "penalty": -1.0}, "penalty is a number above 0, found -1.0."),
        ({"concept": "kinds", "splits": 1}, "splits is a number from 2, found 1."),
        ({"concept": "kinds", "classifier": "mlp", "hidden_units": 0}, "hidden_units is a number from 1, found 0."),
        ({"concept": "poetry"}, "concept"),
    ],
)
def test_bad_input_is_said_in_a_sentence(runs, options, said):
    with pytest.raises(ecco.OptionError) as caught:
        ecco.analyze("probe", runs, **options)
    assert said in str(caught.value)


def test_labels_of_tokens_need_words_that_differ(prose):
    run = prose("Nora and Felix and Nora and Felix and Nora and Felix and Nora and Felix and Nora")
    labels = ["a" if i % 2 else "b" for i in range(len(run))]
    with pytest.raises(ecco.OptionError, match=r"word types, 5 are needed.*unseen_words=False"):
        run.analyze("probe", labels=labels)
    assert run.analyze("probe", labels=labels, unseen_words=False, splits=2, layers=0).values.shape == (5, 1)


def test_the_other_analyses_say_what_they_cannot(prose, runs):
    for options, said in (
        ({"sites": ["resid_post"]}, "names two or more to compare, found resid_post"),
        ({"sites": ["resid_post", "embedding"]}, "share no layer"),
    ):
        with pytest.raises(ecco.OptionError, match=said):
            ecco.analyze("probe_comparison", runs, concept="kinds", layers=0, splits=2, **options)
    with pytest.raises(ecco.OptionError, match="at one layer, found 4: name it"):
        ecco.analyze("fit_probe", runs, concept="kinds")
    fitted = ecco.analyze("fit_probe", runs, concept="kinds", layers=0)
    with pytest.raises(ecco.OptionError, match="top is a number from 1, found 0"):
        runs[0].analyze("apply_probe", fitted=fitted, top=0)
    lens = ecco.Fitted(parameters={"w": np.ones(2)})
    with pytest.raises(ecco.OptionError, match="fitted is no probe"):
        runs[0].analyze("apply_probe", fitted=lens)
    with pytest.raises(ecco.OptionError, match="found 0 classes"):
        prose("Nothing here.").analyze("probe", concept="kinds")
    with pytest.raises(ecco.OptionError, match="reads one model; these runs are of several"):
        ecco.analyze("probe", [runs[0], ecco.from_pretrained("tiny:prose")("Nora")], concept="kinds")


def test_special_tokens_are_neither_source_nor_words(monkeypatch):
    import ecco_probing.rows as rows

    seen = []
    maker = rows.MAKERS["python"]
    monkeypatch.setitem(rows.MAKERS, "python", (lambda texts: seen.append(texts) or maker[0](texts), maker[1]))
    run = ecco.from_pretrained("tiny:masked")("x = 1 ; y = 2")
    with pytest.raises(ecco.OptionError):
        run.analyze("probe", concept="python")
    assert run.tokens.special[0]
    assert seen == [["" if special else text for text, special in zip(run.tokens.texts, run.tokens.special)]]


def test_white_space_and_bytes_are_word_types_of_their_own(prose):
    from ecco_probing.rows import word_type

    tokens = prose("The é\n €").tokens
    kinds = [word_type(tokens, p) for p in range(len(tokens))]
    assert kinds[0] == "the"
    assert len(set(kinds)) == len(set(tokens.ids.tolist()))
    assert "" not in kinds


def test_runs_of_the_same_text_are_not_split(prose):
    """Random labels of texts that occur twice: a probe that trained on the other copy would know them."""
    texts = sentences(60)
    runs = [*prose(texts), *prose(texts)]
    once = [str(label) for label in np.random.default_rng(0).choice(["a", "b"], sum(len(r) for r in runs[:60]))]
    found = ecco.analyze("probe", runs, labels=once * 2, unseen_words=False, layers=2, penalty=0.01)
    assert found.values.sel(curve="accuracy, seen words").values[0] < 0.65


def test_a_tokenizer_that_forgets_line_breaks_is_named():
    lm = ecco.from_pretrained("tiny:masked")
    source = (
        "def first(a, b=2, c=1): return a + b - c * 3 / 4 if not a or b and c in a else lambda x: x.y % 5 // 6 <= 7"
    )
    found = lm(source).analyze("probe", concept="python", layers=0, splits=2)
    assert any("forgets line breaks" in note for note in found.notes)
