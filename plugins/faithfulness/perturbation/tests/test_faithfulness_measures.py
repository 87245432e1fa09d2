"""The measures on arrays, against closed forms, naive loops, scipy, and what must not change them."""

import itertools
import math
import subprocess
import sys

import ecco_faithfulness as f
import numpy as np
import pytest
from ecco_faithfulness import measures
from hypothesis import given, settings, strategies as st
from scipy import stats

VALUES = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=3, max_size=9)


def test_counts_round_half_up_and_take_at_least_one():
    assert f.counts(4, [0.1, 0.25, 0.375, 0.5, 1.0]).tolist() == [1, 1, 2, 2, 4]
    assert f.counts(60, [0.1, 0.25, 0.75]).tolist() == [6, 15, 45]
    for wrong in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            f.counts(4, [wrong])
    with pytest.raises(ValueError, match="there must be a source"):
        f.counts(0, [0.5])


@given(VALUES, st.randoms())
def test_order_sorts_by_signed_score_and_breaks_ties_as_told(values, random):
    ties = random.sample(range(len(values)), len(values))
    expected = sorted(range(len(values)), key=lambda i: (-values[i], ties.index(i)))
    assert f.order(np.array(values), np.array(ties)).tolist() == expected


def test_order_refuses_what_has_no_rank():
    with pytest.raises(ValueError, match="NaN or infinite"):
        f.order(np.array([1.0, math.nan]), np.arange(2))


def test_area_is_the_integral_of_the_line_through_the_points():
    shares = np.array([0, 0.2, 0.2, 0.5, 1.0])
    assert f.area(shares, np.ones(5)) == pytest.approx(1)
    assert f.area(shares, shares) == pytest.approx(0.5)  # of a line exactly
    assert f.area(shares, np.array([1, 0.5, 0.5, 0.5, 0])) == pytest.approx(0.2 * 0.75 + 0.3 * 0.5 + 0.5 * 0.25)
    with pytest.raises(ValueError, match="from 0 to 1"):
        f.area(shares[:-1], np.ones(4))


@given(VALUES, st.data())
def test_rank_correlation_is_spearmans(values, data):
    other = data.draw(st.lists(st.floats(-10, 10).map(round), min_size=len(values), max_size=len(values)))
    found = f.rank_correlation(np.array(values), np.array(other, dtype=float))
    if len(set(other)) == 1:
        assert math.isnan(found)
    elif len(set(values)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(values, other).statistic, abs=1e-9)


def naive_infidelity(scores, masks, drops):
    """The best of many scales, by trying."""
    foretold = [sum(s for s, gone in zip(scores, mask) if gone) for mask in masks]
    scales = [0.0, *np.geomspace(1e-3, 1e3, 20_001)]
    return min(sum((b * p - d) ** 2 for p, d in zip(foretold, drops)) for b in scales) / sum(d * d for d in drops)


def test_infidelity_is_what_the_best_scale_leaves():
    rng = np.random.default_rng(0)
    for _ in range(3):
        scores, masks = rng.standard_normal(5), rng.random((12, 5)) < 0.5
        drops = masks @ (scores + 0.7 * rng.standard_normal(5))
        assert f.infidelity(scores, masks, drops) == pytest.approx(naive_infidelity(scores, masks, drops), abs=1e-6)
    assert f.infidelity(scores, masks, 3 * (masks @ scores)) == pytest.approx(0, abs=1e-12)
    assert f.infidelity(-scores, masks, masks @ scores) == 1.0  # the wrong sign is as bad as nothing
    assert f.infidelity(np.zeros(5), masks, drops) == 1.0
    assert math.isnan(f.infidelity(scores, masks, np.zeros(12)))


def test_no_scores_have_less_infidelity_than_the_fitted_ones():
    rng = np.random.default_rng(1)
    masks, drops = rng.random((30, 6)) < 0.5, rng.standard_normal(30)
    least = measures.least_infidelity(masks, drops)
    assert 0 < least <= min(f.infidelity(rng.standard_normal(6), masks, drops) for _ in range(500))
    fitted = np.linalg.lstsq(masks.astype(float), drops, rcond=None)[0]
    assert least == pytest.approx(np.sum((masks @ fitted - drops) ** 2) / np.sum(drops**2))


@given(VALUES, st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_nothing_changes_when_scores_are_rescaled(values, scale, seed):
    rng, scores = np.random.default_rng(seed), np.array(values)
    drops, ties = rng.standard_normal(len(values)), rng.permutation(len(values))
    masks = rng.random((20, len(values))) < 0.5
    effects = rng.standard_normal(20)
    assert f.order(scale * scores, ties).tolist() == f.order(scores, ties).tolist()
    same = pytest.approx(f.rank_correlation(scores, drops), abs=1e-9)
    assert f.rank_correlation(scale * scores, drops) == same
    assert f.infidelity(scale * scores, masks, effects) == pytest.approx(f.infidelity(scores, masks, effects), abs=1e-9)
    moved = scores + rng.standard_normal((3, len(values)))
    if np.linalg.norm(scores) > 0:
        expected = pytest.approx(f.max_sensitivity(scores, moved))
        assert f.max_sensitivity(scale * scores, scale * moved) == expected


def test_max_sensitivity_is_the_largest_relative_change():
    moved = np.array([[3.0, 4.0], [3.0, 5.0], [0.0, 4.0]])
    assert f.max_sensitivity(np.array([3.0, 4.0]), moved) == pytest.approx(3 / 5)
    assert math.isnan(f.max_sensitivity(np.zeros(2), moved))


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_best_subsets_are_found_by_trying_all(n, seed):
    values = np.random.default_rng(seed).standard_normal(2**n)
    without, only = f.best_subsets(values)
    index = {frozenset(s): sum(1 << i for i in s) for k in range(n + 1) for s in itertools.combinations(range(n), k)}
    for k in range(n + 1):
        assert without[k] == min(values[i] for s, i in index.items() if len(s) == k)
        assert only[k] == max(values[i] for s, i in index.items() if len(s) == n - k)
    assert measures.subsets(n)[index[frozenset({0})]].tolist() == [True] + [False] * (n - 1)
    with pytest.raises(ValueError, match="2 \\*\\* n"):
        f.best_subsets(np.zeros(3))


def test_bootstrap_draws_whole_texts_or_else_targets():
    rng = np.random.default_rng(0)
    weights = f.resampled(np.array([7, 7, 9, 9, 9, 3]), rng, 4000)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 5]].sum(1) == 3).all()
    assert weights.mean(0) == pytest.approx(np.ones(6), abs=0.05)
    alone = f.resampled(np.zeros(5, dtype=int), rng, 4000)
    assert (alone.sum(1) == 5).all()
    assert alone.std(0) == pytest.approx(np.full(5, math.sqrt(0.8)), abs=0.05)


def test_means_and_intervals_are_those_of_the_normal_law():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(400)
    low, high = f.interval(f.means(values, f.resampled(np.zeros(400), rng, 4000)))
    expected = 1.96 * values.std() / 20
    assert float(low) == pytest.approx(values.mean() - expected, abs=0.02)
    assert float(high) == pytest.approx(values.mean() + expected, abs=0.02)
    with_gap = np.array([[1.0, math.nan, 3.0], [math.nan] * 3])
    found = f.means(with_gap, np.array([[1, 1, 1], [3, 0, 0], [0, 3, 0]]))
    np.testing.assert_array_equal(found, [[2, math.nan], [1, math.nan], [math.nan, math.nan]])
    assert np.isnan(f.interval(found)[0][1])


def recommended(values, floor, **options):
    weights = f.resampled(np.zeros(len(floor)), np.random.default_rng(0))
    told = {"lower_is_better": True, "does": "deletes", "measure": "deletion AUC", "over": "30 targets"} | options
    return f.recommendation(["a", "b", "c"], np.array(values), np.array(floor), weights, **told)


def test_the_recommendation_says_who_is_best_and_who_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    floor = rng.random(30)
    near = floor - 0.499 + 0.1 * np.tile([1.0, -1.0], 15)
    text = recommended([floor - 0.5, near, floor - 0.1], floor)
    assert text.startswith("a deletes best: lower deletion AUC than b in")
    assert "than c in 100 and than a random ranking in 100 of 100 bootstrap samples of 30 targets." in text
    assert text.endswith(" a cannot be told from b on this (fewer than 95 of 100).")
    clear = recommended([floor - 0.5, floor - 0.3, floor - 0.1], floor)
    assert clear == (
        "a deletes best: lower deletion AUC than b in 100, than c in 100 and than a random ranking in 100 of 100 "
        "bootstrap samples of 30 targets."
    )
    higher = recommended([floor - 0.5, floor + 0.3, floor + 0.9], floor, lower_is_better=False, does="inserts")
    assert higher.startswith("c inserts best: higher")


def test_the_recommendation_recommends_nothing_that_is_no_better_than_random():
    rng = np.random.default_rng(0)
    text = recommended(rng.random((3, 30)), rng.random(30) - 0.1)
    assert text.startswith("None of these is shown to do better than a random ranking")
    assert "nothing can be said of how sure" in recommended([[1.0], [0.5], [2.0]], [1.0])
    nothing = recommended(np.full((3, 30), math.nan), rng.random(30))
    assert nothing == "No method has a deletion AUC on these targets, so none can be recommended by it."


def test_agreement_is_kendalls_tau():
    values = np.array([[1.0, 2, 3, 4], [2.0, 1, 3, 4], [4.0, 3, 2, 1], [1.0, 1, 1, 1]])
    found = f.agreement(values)
    assert found[0, 1] == pytest.approx(stats.kendalltau(values[0], values[1]).statistic) == pytest.approx(2 / 3)
    assert found[0, 2] == -1
    assert np.isnan(found[3]).all()


def test_the_measures_need_no_model_library():
    code = "import sys, numpy as np, ecco_faithfulness as f; f.order(np.ones(2), np.arange(2)); f.resampled; "
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = f.nothing
