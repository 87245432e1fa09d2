import itertools

import numpy as np
import pytest
from ecco_factorization import alike, elbow, match_loadings, stability, telling_apart
from ecco_factorization.telling import apart_by_chance, deviations
from hypothesis import given, settings, strategies as st
from scipy.stats import mannwhitneyu


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_matching_is_the_best_of_all_pairings(seed, n, m, signed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 7)), rng.normal(size=(m, 7))
    match = match_loadings(a, b, signed=signed)
    cosine = np.array([[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in b] for u in a])
    cosine = cosine if signed else np.abs(cosine)
    few, many = sorted((n, m))
    totals = [
        sum(cosine[(i, j) if n <= m else (j, i)] for i, j in zip(range(few), chosen))
        for chosen in itertools.permutations(range(many), few)
    ]
    assert match.cosines.sum() == pytest.approx(max(totals))
    assert len(set(match.pairs[:, 0])) == len(set(match.pairs[:, 1])) == few


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_permuted_scaled_components_are_the_same_and_signs_count_only_if_asked(seed, n):
    rng = np.random.default_rng(seed)
    a, order = rng.normal(size=(n, 9)), rng.permutation(n)
    b = a[order] * rng.uniform(0.1, 9, (n, 1))
    match = match_loadings(a, b)
    assert match.cosines == pytest.approx(1)
    assert (order[match.pairs[:, 1]] == match.pairs[:, 0]).all()
    assert match_loadings(a, -b, signed=False).cosines == pytest.approx(1)
    assert match_loadings(a, -b).cosines.mean() < 1
    assert stability(a, [b, b]) == pytest.approx(1)


def test_stability_of_what_is_not_found_again_is_low():
    a = np.eye(4, 100)
    assert stability(a, [np.eye(4, 100), np.eye(4, 100, 50)]) == pytest.approx(0.5)
    assert stability(a, [np.zeros((4, 100))]) == pytest.approx(0)


def test_the_elbow_of_a_broken_line_is_its_break():
    curve = [0, 3, 6, 9, 9.5, 10, 10.5]
    assert elbow(curve) == elbow([-v for v in curve]) == elbow([v * 7 + 2 for v in curve]) == 3
    assert elbow([1, 1, 1]) == elbow([1, 2, 3]) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 20))
def test_telling_apart_is_scipys_mann_whitney(seed, n):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(n, 6)), 1)
    chosen = np.zeros(n, dtype=bool)
    chosen[rng.choice(n, rng.integers(1, n), replace=False)] = True
    x[:, 5] = 2.5
    auc, gap = telling_apart(x, chosen)
    oracle = mannwhitneyu(x[chosen], x[~chosen], axis=0).statistic / (chosen.sum() * (~chosen).sum())
    np.testing.assert_allclose(auc, oracle)
    assert (auc[5], gap[5]) == (0.5, 0)
    expected = (x[chosen, 0].mean() - x[~chosen, 0].mean()) / (x[:, 0].std() or 1)
    assert gap[0] == pytest.approx(expected)


def test_luck_is_what_random_units_do():
    rng, chosen = np.random.default_rng(0), np.arange(8) < 2
    auc, _ = telling_apart(rng.normal(size=(8, 20_000)), chosen)
    assert (auc == 1).sum() == pytest.approx(apart_by_chance(20_000, 8, 2), rel=0.15)


def test_units_that_rise_together_are_one_cluster():
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(40, 3))
    groups = rng.permutation(np.repeat(np.arange(3), 5))
    x = causes[:, groups] * rng.uniform(1, 9, 15) + 0.05 * rng.normal(size=(40, 15)) + 4
    order, cluster = alike(x, 3)
    assert all(len(set(groups[cluster == c])) == 1 for c in range(3))
    assert list(cluster[order]) == sorted(cluster)
    assert sorted(order) == list(range(15))


def test_deviations_are_zscores_and_a_constant_unit_has_none():
    x = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]])
    np.testing.assert_allclose(deviations(x)[:, 0], (x[:, 0] - 3) / x[:, 0].std())
    assert not deviations(x)[:, 1].any()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: match_loadings(np.ones((2, 3)), np.ones((2, 4))), r"found \(2, 3\) and \(2, 4\)"),
        (lambda: match_loadings(np.zeros((1, 3)), np.ones((2, 3))), "all zero or has numbers that are not finite"),
        (lambda: match_loadings(np.full((1, 3), np.nan), np.ones((2, 3))), "not finite"),
        (lambda: stability(np.ones((2, 3)), []), "at least one other fit"),
        (lambda: elbow([1]), "two finite values"),
        (lambda: elbow([1, np.nan]), "two finite values"),
        (lambda: telling_apart(np.ones((3, 2)), np.zeros(3)), "0 of 3 are chosen"),
        (lambda: telling_apart(np.ones((3, 2)), np.ones(3)), "3 of 3 are chosen"),
        (lambda: alike(np.array([[1.0, 2], [1, 3]]), 1), "none constant"),
        (lambda: alike(np.array([[1.0, 2], [2, 3]]), 3), "3 clusters do not fit 2 units"),
    ],
)
def test_what_does_not_fit_is_said(call, said):
    with pytest.raises(ValueError, match=said):
        call()
