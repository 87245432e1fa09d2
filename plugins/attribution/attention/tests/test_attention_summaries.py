"""Scores of heads against naive loops, perfect heads, chance, and the copy heads of the trained model."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
from ecco_attention import attended, entropy, is_causal, looked_at, uniform
from hypothesis import given, settings, strategies as st

import ecco_core as ecco


def causal(n):
    """What each of `n` positions of a causal model sees."""
    return np.tri(n, dtype=bool)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9))
@settings(max_examples=80, deadline=None)
def test_where_heads_look_is_the_definition(ids):
    places = {name: looked_at(ids, name) for name in ("previous_token", "duplicate_token", "induction")}
    for q in range(len(ids)):
        for k in range(len(ids)):
            assert places["previous_token"][q, k] == (k == q - 1)
            assert places["duplicate_token"][q, k] == (k < q and ids[k] == ids[q])
            assert places["induction"][q, k] == (0 < k < q and ids[k - 1] == ids[q])


@pytest.mark.parametrize("what", ["previous_token", "duplicate_token", "induction"])
def test_a_perfect_head_scores_one_and_its_opposite_nothing(what):
    ids = [5, 6, 7, 5, 6, 7, 5]
    keys = looked_at(ids, what)
    perfect = np.where(keys.any(1, keepdims=True), keys / np.maximum(keys.sum(1, keepdims=True), 1), np.eye(7))
    none = np.where(keys, 0, np.tril(np.ones((7, 7))))
    heads = np.stack([perfect, none / none.sum(1, keepdims=True)])[None]
    np.testing.assert_allclose(attended(heads, keys), [[1, 0]], atol=1e-15)


def test_chance_is_the_mean_share_of_such_keys():
    ids = [1, 2, 1, 2, 1]
    chance = attended(uniform(causal(5))[None, None], looked_at(ids, "induction")).item()
    assert chance == pytest.approx(np.mean([1 / 3, 1 / 4, 2 / 5]))  # after 1 comes 2 at 1; after 2, 1 at 2; 2 at 1, 3
    assert uniform(np.ones((3, 3))).tolist() == [[1 / 3] * 3] * 3


def test_entropy_is_between_one_key_and_all_alike():
    alike, sure = uniform(causal(6)), np.eye(6)
    found = entropy(np.stack([alike, sure])[None])
    np.testing.assert_allclose(found, [[np.log(range(2, 7)).mean(), 0]], atol=1e-15)
    np.testing.assert_allclose(entropy(0.3 * alike[None, None]), found[:, :1])  # what goes to a sink is left out
    np.testing.assert_allclose(entropy(uniform(np.ones((6, 6)))[None, None]), [[np.log(6)]])
    assert is_causal(alike)
    assert not is_causal(uniform(np.ones((6, 6))))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: looked_at([1, 2], "copying"), "induction, previous_token or duplicate_token, found 'copying'"),
        (lambda: looked_at([[1, 2]], "induction"), "one sequence of tokens"),
        (lambda: attended(uniform(causal(3))[None, None], np.zeros((3, 3))), "No query has a key"),
        (lambda: attended(uniform(causal(3))[None, None], np.ones((2, 3))), "chosen per query and key"),
        (lambda: entropy(np.zeros((1, 1, 2, 2))), "all zero"),
        (lambda: entropy(np.ones((1, 1, 1, 1))), "at least two tokens"),
    ],
)
def test_bad_numbers_are_refused_in_one_sentence(made, message):
    with pytest.raises(ValueError, match=message):
        made()


@pytest.fixture(scope="module")
def twice(prose):
    """Thirty random words, said twice."""
    words = np.random.default_rng(0).choice(np.arange(300, 4000), size=30, replace=False)
    text = prose.tokenizer.decode(words.tolist())
    return prose(text + text)


def test_the_copy_heads_of_the_trained_model_are_found(twice):
    result = twice.analyze("head_scores")
    scores, chance = result.values.values, result.null.values
    best = sorted(zip(*np.unravel_index(np.argsort(-scores, axis=None)[:2], scores.shape)))
    assert [(int(layer), int(head)) for layer, head in best] == [(3, 1), (3, 5)]
    assert np.sort(scores, axis=None)[-2] > 0.5
    assert np.sort(scores, axis=None)[-3] < 0.1
    assert chance.max() < 0.03
    assert np.unique(chance).size == 1
    before = twice.analyze("head_scores", measure="previous_token").values.sel(layer=2).values
    assert before.argmax() == 2
    assert before.max() > 0.95


def test_without_the_copy_heads_the_model_does_not_copy(prose):
    """The two heads with the induction score are the ones that copy: without two others, it copies as before."""
    prompts = json.loads(files("ecco_tiny").joinpath("models/prose/copy_prompts.json").read_text())[:20]

    def right(*changes):
        with prose.intervene(*changes):
            return sum(prose.generate(p["text"], max_new_tokens=1).output_text == p["answer"] for p in prompts)

    assert right() >= 15
    assert right(ecco.ablate("z", layer=3, heads=[1, 5])) == 0
    assert right(ecco.ablate("z", layer=3, heads=[0, 2])) >= 15


@pytest.mark.parametrize("measure", ["induction", "previous_token", "duplicate_token", "entropy"])
def test_each_measure_is_its_definition_on_the_patterns(prose, measure):
    run = prose("The captain is called Nora. The cook thanked the captain called Nora. Nora is happy and tall.")
    result = run.analyze("head_scores", measure=measure, layers=[3])
    patterns = run.analyze("attention", layers=[3]).values.values[0].astype(float)
    ids, n = run.tokens.ids, len(run)
    for head in range(6):
        rows = []
        for q in range(1, n):
            if measure == "entropy":
                p = patterns[head, q, : q + 1]
                rows.append(-(p[p > 0] * np.log(p[p > 0])).sum() / p.sum() + np.log(p.sum()))
                continue
            keys = {
                "previous_token": [q - 1],
                "duplicate_token": [k for k in range(q) if ids[k] == ids[q]],
                "induction": [k for k in range(1, q) if ids[k - 1] == ids[q]],
            }[measure]
            if keys:
                rows.append(patterns[head, q, keys].sum())
        assert result.values.values[0, head] == pytest.approx(np.mean(rows), rel=1e-6)
    assert result.values.labels("layer") == (3,)
    assert any("attends equally" in note for note in result.notes)


@pytest.mark.parametrize(("kind", "task"), [("mistral", "causal"), ("modernbert", "masked")])
def test_the_null_sees_what_a_sliding_window_lets_it_see(open_tiny, kind, task):
    """A head that attends alike to all keys in its window, as the config says it."""
    window = {"sliding_window": 3}
    if kind == "modernbert":  # in transformers 5.15 it does not open without a layer of each type
        window = {"local_attention": 4, "layer_types": ["sliding_attention", "full_attention"]}
    run = open_tiny(kind, task, **window)("the cat sat on the mat and the cat")
    n = len(run)

    def of_first_layer(measure):
        null = run.analyze("head_scores", measure=measure).null.values
        return null if kind == "mistral" else null[0]

    distance = np.arange(n)[:, None] - np.arange(n)
    seen = (distance >= 0) & (distance < 3) if task == "causal" else abs(distance) <= 2
    expected = np.mean([1 / seen[q].sum() for q in range(1, n)])
    np.testing.assert_allclose(of_first_layer("previous_token"), expected)
    counts = seen.sum(1)[1 if task == "causal" else 0 :]
    np.testing.assert_allclose(of_first_layer("entropy"), np.log(counts).mean())


def test_layers_that_see_different_keys_have_a_null_each(open_tiny):
    layers = ["sliding_attention", "full_attention"]
    run = open_tiny("gemma2", sliding_window=3, layer_types=layers)("the cat sat on the mat and the cat")
    scores = run.analyze("head_scores", measure="previous_token")
    n, null = len(run), scores.null.values
    np.testing.assert_allclose(null[0], np.mean([1 / min(q + 1, 3) for q in range(1, n)]))
    np.testing.assert_allclose(null[1], np.mean([1 / (q + 1) for q in range(1, n)]))
    assert any(f"scores {null[1, 0]:.3g} to {null[0, 0]:.3g}, by layer, here" in note for note in scores.notes)


def test_a_head_that_is_switched_off_has_no_entropy(prose):
    run = prose("The captain is called Nora.")
    with prose.intervene(ecco.ablate("pattern", layer=3, heads=[1])):
        with pytest.raises(ecco.OptionError, match="Head 1 of layer 3 attends to nothing at position 0, so it has no"):
            run.analyze("head_scores", measure="entropy")
        assert run.analyze("head_scores", measure="entropy", layers=[0]).values.shape == (1, 6)
    with prose.intervene(ecco.ablate("pattern", layer=3)):
        scores = run.analyze("head_scores", measure="previous_token")
    assert not scores.values.values[3].any()
    assert not scores.null.values[3].any()
