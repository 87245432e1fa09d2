"""Measures against independent formulas in float64, and what they must not change under."""

from __future__ import annotations

import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ecco_similarity import (
    canonical_correlations,
    cca,
    cka,
    grid,
    interval,
    knn_overlap,
    permutation_null,
    procrustes,
    pwcca,
    rsa,
    svcca,
)
from ecco_similarity.arrays import checked
from ecco_similarity.canonical import basis_of
from ecco_similarity.kernels import LinearCKA, _by_features, _by_samples
from ecco_similarity.measures import MEASURES, bounds
from hypothesis import given, settings, strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from sklearn.cross_decomposition import CCA as SklearnCCA
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

GOOD_300 = np.random.default_rng(1).standard_normal((300, 4))
README = Path(__file__).parent.parent / "README.md"


def related(n=80, p=6, q=5, shared=3, seed=0, mean=2.0):
    """Two arrays of `n` samples that share some directions, with means and units of unequal size."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, shared))
    x = z @ rng.standard_normal((shared, p)) + rng.standard_normal((n, p))
    y = z @ rng.standard_normal((shared, q)) + rng.standard_normal((n, q))
    return (x + mean) * np.linspace(0.5, 3, p), (y - mean) * np.linspace(2, 0.7, q)


def independent(n, p, q, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, p)), rng.standard_normal((n, q))


def by_qr(x, y):
    """Canonical correlations as Bjorck & Golub 1973 compute them."""
    q, r = (np.linalg.qr(a - a.mean(0))[0] for a in (x, y))
    return np.linalg.svd(q.T @ r, compute_uv=False)


# --- oracles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(80, 6, 5), (80, 5, 6), (40, 19, 20), (500, 30, 7), (9, 1, 1)])
def test_canonical_correlations_are_those_of_qr(shape):
    x, y = related(*shape)
    np.testing.assert_allclose(canonical_correlations(x, y), by_qr(x, y), atol=1e-12)
    assert cca(x, y) == pytest.approx(by_qr(x, y).mean(), abs=1e-9)


def test_the_first_canonical_correlation_is_sklearns():
    x, y = related(200)
    u, v = SklearnCCA(n_components=3, max_iter=5000, tol=1e-12).fit_transform(x, y)
    theirs = [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(canonical_correlations(x, y)[:3], theirs, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 7), st.integers(16, 60))
@settings(max_examples=30, deadline=None)
def test_canonical_correlations_of_any_shape(seed, p, q, n):
    x, y = related(n, p, q, seed=seed)
    np.testing.assert_allclose(canonical_correlations(x, y), by_qr(x, y), atol=1e-10)


@pytest.mark.parametrize("worst", [1e-2, 1e-4, 1e-6, 1e-8])
def test_badly_conditioned_units_do_not_spoil_canonical_correlations(worst):
    x, y = related(400, 8, 8)
    mix = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    x = (x - x.mean(0)) @ mix @ np.diag(np.geomspace(1, worst, 8)) @ mix.T
    np.testing.assert_allclose(canonical_correlations(x, y), by_qr(x, y), atol=1e-12 / worst)
    single = canonical_correlations(x.astype(np.float32), y.astype(np.float32))
    if worst >= 1e-4:  # beyond, float32 numbers do not hold the smallest direction
        np.testing.assert_allclose(single, by_qr(*(v.astype(np.float32).astype(float) for v in (x, y))), atol=1e-6)


@pytest.mark.parametrize("worst", [1.0, 1e-2, 1e-3, 1e-4])
def test_many_float32_samples_give_what_float64_gives(worst):
    x, y = related(4100, 24, 24, shared=8)
    mix = np.linalg.qr(np.random.default_rng(1).standard_normal((24, 24)))[0]
    x, y = (x * np.geomspace(1, worst, 24) @ mix).astype(np.float32), y.astype(np.float32)
    kind = basis_of(x).columns.dtype
    assert kind == (np.float32 if worst >= 1e-2 else np.float64)  # neither way is dead
    exact = x.astype(np.float64), y.astype(np.float64)
    np.testing.assert_allclose(canonical_correlations(x, y), by_qr(*exact), atol=2e-6)
    for measure in (pwcca, partial(svcca, n_components=5), partial(svcca, variance=0.9999), cka):
        assert measure(x, y) == pytest.approx(measure(*exact), abs=2e-6)


def test_units_of_very_unequal_size_are_no_trouble():
    x, y = related(300, 10, 9)
    sizes = np.geomspace(1e-3, 1e5, 10)
    assert cca(x * sizes, y) == pytest.approx(cca(x, y), abs=1e-9)
    assert cca((x * sizes).astype(np.float32), y.astype(np.float32)) == pytest.approx(cca(x, y), abs=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_dependent_and_constant_units_add_no_dimension(kind):
    x, y = related(120)
    more = np.column_stack([x, x @ np.ones(6), x[:, 0] * 3, np.full(120, 0.1)]).astype(kind)
    assert basis_of(more).rank == 6
    np.testing.assert_allclose(canonical_correlations(more, y), by_qr(x, y), atol=1e-5)
    assert cca(np.column_stack([x, np.full(120, 0.1)]).astype(kind), y) == pytest.approx(cca(x, y), abs=1e-5)
    few = np.random.default_rng(2).standard_normal((50, 3)) @ np.random.default_rng(3).standard_normal((3, 90))
    assert cca(few, few[:, :5] * 2) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("offset", [0, 1e2, 1e4, 1e5])
def test_the_rounding_of_float32_is_no_direction(offset):
    z = np.random.default_rng(0).standard_normal((300, 2))
    x = (np.column_stack([z, z.sum(1)]) + offset).astype(np.float32)
    assert basis_of(x).rank == 2
    with pytest.raises(ValueError, match="the samples vary in 2 directions only"):
        svcca(x, GOOD_300, n_components=3)


@pytest.mark.parametrize("n", [200, 4100])
def test_one_huge_sample_hides_no_direction(n):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, 6))
    x = z @ rng.standard_normal((6, 9)) * np.geomspace(0.1, 10, 9) + 0.1 * rng.standard_normal((n, 9)) + 100
    y = (z @ rng.standard_normal((6, 5)) + rng.standard_normal((n, 5))).astype(np.float32)
    x[0] *= 1000
    x = np.column_stack([x, x[:, 0]]).astype(np.float32)  # rank 9: no Cholesky
    assert basis_of(x).rank == 9
    np.testing.assert_allclose(canonical_correlations(x, y), by_qr(x[:, :9].astype(float), y), atol=1e-5)


@pytest.mark.parametrize(("n", "d"), [(2000, 300), (300, 200), (100, 400)])
def test_the_rank_of_many_dependent_units(n, d):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 40)) @ rng.standard_normal((40, d)) + 3
    assert basis_of(x).rank == basis_of(x.astype(np.float32)).rank == 40


def test_pwcca_is_the_papers():
    x, y = related(150, 5, 7)
    for a, b in ((x, y), (y, x)):  # also where the first has more units, where ecco 0.1.2 fails
        a_, b_ = a - a.mean(0), b - b.mean(0)
        q, r = np.linalg.qr(a_)[0], np.linalg.qr(b_)[0]
        u, rho, _ = np.linalg.svd(q.T @ r, full_matrices=False)
        h = q @ u  # canonical vectors, one per column
        alpha = [sum(abs(h[:, i] @ a_[:, j]) for j in range(a_.shape[1])) for i in range(len(rho))]
        assert pwcca(a, b) == pytest.approx(np.dot(alpha, rho) / np.sum(alpha), abs=1e-9)


@pytest.mark.parametrize(("n", "p", "q"), [(200, 8, 9), (30, 40, 50)])
def test_svcca_is_pca_then_cca(n, p, q):
    x, y = related(n, p, q)
    a, b = (PCA(4, svd_solver="full").fit_transform(v) for v in (x, y))
    assert svcca(x, y, n_components=4) == pytest.approx(by_qr(a, b).mean(), abs=1e-8)
    a, b = (PCA(0.8, svd_solver="full").fit_transform(v) for v in (x, y))
    assert svcca(x, y, variance=0.8) == pytest.approx(by_qr(a, b).mean(), abs=1e-8)


def test_svcca_finds_small_components_among_large_ones():
    x, y = related(300, 6, 6)
    x = np.linalg.qr(x - x.mean(0))[0] * np.array([1e4, 1e3, 1, 1e-3, 1e-4, 1e-5])
    expected = by_qr(x[:, :5], PCA(5, svd_solver="full").fit_transform(y)).mean()
    assert svcca(x, y, n_components=5) == pytest.approx(expected, abs=1e-8)


def test_svcca_of_all_components_is_cca():
    x, y = related()
    assert svcca(x, y, variance=1.0) == pytest.approx(cca(x, y), abs=1e-9)


def hsic_1(k, m):
    """Song et al. 2012, eq. 5."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    parts = (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return parts / (n * (n - 3))


def hsic_0(k, m):
    """Gretton et al. 2005."""
    h = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ h @ m @ h)


def gaussian(x, sigma):
    d = squareform(pdist(x))
    return np.exp(-(d**2) / (2 * (sigma * np.median(pdist(x))) ** 2))


@pytest.mark.parametrize(("n", "p", "q"), [(50, 6, 5), (12, 40, 30), (20, 3, 200), (4, 5, 6)])
def test_cka_is_the_papers(n, p, q):
    x, y = related(n, p, q)
    for debiased, hsic in ((True, hsic_1), (False, hsic_0)):
        for kernel, gram in (("linear", lambda a: a @ a.T), ("rbf", partial(gaussian, sigma=0.7))):
            k, m = gram(x), gram(y)
            expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
            assert cka(x, y, debiased=debiased, kernel=kernel, sigma=0.7) == pytest.approx(expected, abs=1e-10)


def test_cka_of_many_float32_samples_with_a_huge_one():
    x, y = related(4100, 12, 9)
    x, y = (x + 300).astype(np.float32), y.astype(np.float32)
    x[0] *= 1000
    assert cka(x, y) == pytest.approx(cka(x.astype(np.float64), y.astype(np.float64)), abs=1e-6)


def test_the_products_of_large_float32_samples_do_not_overflow():
    x = np.random.default_rng(0).standard_normal((4100, 4)).astype(np.float32)
    wide = np.tile(x, 600) * np.float32(1e11)
    sides = checked([wide, np.tile(x, 600)])
    exact = cka(x.astype(np.float64), x.astype(np.float64))
    found = _by_samples([LinearCKA().prepare(side[:, :40]) for side in sides], None)
    assert found[0, 1] / np.sqrt(found[0, 0] * found[1, 1]) == pytest.approx(exact, abs=1e-6)


def test_both_ways_to_align_kernels_agree():
    rng = np.random.default_rng(0)
    sides = [LinearCKA().prepare(rng.standard_normal((70, p))) for p in (5, 9, 80)]
    np.testing.assert_allclose(_by_features(sides, None), _by_samples(sides, None), rtol=1e-12)
    np.testing.assert_allclose(_by_features(sides[:1], sides[1:]), _by_samples(sides[:1], sides[1:]), rtol=1e-12)


def test_kernels_align_in_blocks(monkeypatch):
    x, y = related(90, 200, 150)
    whole = cka(x, y)
    monkeypatch.setattr("ecco_similarity.kernels._ENTRIES", 1000)
    assert cka(x, y) == pytest.approx(whole, abs=1e-12)


def test_procrustes_is_scipys():
    x, y = related(60, 5, 5)
    x_, y_ = x - x.mean(0), y - y.mean(0)
    scale = orthogonal_procrustes(x_, y_)[1]
    assert procrustes(x, y) == pytest.approx(scale / np.linalg.norm(x_) / np.linalg.norm(y_), abs=1e-12)
    a, b = x_ / np.linalg.norm(x_), y_ / np.linalg.norm(y_)
    rotation = orthogonal_procrustes(a, b)[0]
    assert np.linalg.norm(a @ rotation - b) ** 2 == pytest.approx(2 - 2 * procrustes(x, y), abs=1e-12)


def test_procrustes_of_more_units_than_samples():
    x, y = related(12, 40, 30)
    x_, y_ = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(x_.T @ y_, "nuc") / np.linalg.norm(x_) / np.linalg.norm(y_)
    assert procrustes(x, y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", ["correlation", "euclidean", "cosine"])
def test_rsa_is_scipys(distance):
    x, y = related(40, 9, 8)
    a, b = (pdist(v - v.mean(0), distance) for v in (x, y))
    assert rsa(x, y, distance=distance) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_equal_distances_have_equal_ranks_whatever_their_rounding(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 3, (40, 5)) * 0.1, rng.standard_normal((40, 4))
    expected = spearmanr(np.round(pdist(x), 6), pdist(y)).statistic
    assert rsa(x, y, distance="euclidean") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_knn_overlap_is_sklearns(distance):
    x, y = related(60, 9, 8)
    near = []
    for v in (x - x.mean(0), y - y.mean(0)):
        found = NearestNeighbors(n_neighbors=5, metric=distance, algorithm="brute").fit(v)
        near.append(found.kneighbors(return_distance=False))
    expected = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(*near)])
    assert knn_overlap(x, y, k=5, distance=distance) == pytest.approx(expected, abs=1e-12)


def test_ties_among_neighbours_are_shared():
    x = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [9, 9], [9.5, 9]])
    order = np.random.default_rng(0).permutation(7)
    y = x.copy()
    y[1] = [0.9, 0]  # now the one nearest neighbour of the origin, before one of four
    value = knn_overlap(x, y, k=1, distance="euclidean")
    assert value == pytest.approx(knn_overlap(x[order], y[order], k=1, distance="euclidean"), abs=1e-12)
    assert value == pytest.approx((0.25 + 6) / 7, abs=1e-12)


def test_repeated_samples_are_no_news_to_rankings():
    x, y = related(30)
    twice = np.concatenate([x, x[:9]]), np.concatenate([y, y[:9]])
    order = np.random.default_rng(0).permutation(39)
    for name in ("rsa", "knn_overlap"):
        values = [grid(name, [a], [b])[0, 0] for a, b in (twice, [v[order] for v in twice])]
        assert values[0] == pytest.approx(values[1], abs=1e-12)


# --- invariances -----------------------------------------------------------------------------------------------------

MEASURED = {
    "cka": cka,
    "cka, biased": partial(cka, debiased=False),
    "cka, rbf": partial(cka, kernel="rbf"),
    "cca": cca,
    "svcca": partial(svcca, n_components=3),
    "svcca, all components": partial(svcca, variance=1.0),
    "pwcca, first array": pwcca,
    "pwcca, second array": lambda x, y: pwcca(y, x),
    "procrustes": procrustes,
    "rsa, correlation": rsa,
    "rsa, euclidean": partial(rsa, distance="euclidean"),
    "rsa, cosine": partial(rsa, distance="cosine"),
    "knn_overlap": partial(knn_overlap, k=4),
}
CHANGES = ("shift", "scale", "order of units", "rotation", "invertible linear", "order of samples")
ALL_BUT_LINEAR = {c: c != "invertible linear" for c in CHANGES}
ALL_BUT_ROTATION = {c: c not in ("invertible linear", "rotation") for c in CHANGES}
EVERYTHING = dict.fromkeys(CHANGES, True)
HOLDS = dict.fromkeys(MEASURED, ALL_BUT_LINEAR) | {
    "cca": EVERYTHING,
    "svcca, all components": EVERYTHING,
    "pwcca, second array": EVERYTHING,
    "pwcca, first array": ALL_BUT_ROTATION,
    "rsa, correlation": ALL_BUT_ROTATION,
}


def changed(x, y, change, rng):
    """The same two arrays, the first changed."""
    p = x.shape[1]
    if change == "shift":
        return x + rng.standard_normal(p) * 5, y
    if change == "scale":
        return x * rng.uniform(0.01, 100), y
    if change == "order of units":
        return x[:, rng.permutation(p)], y
    if change == "rotation":
        return x @ np.linalg.qr(rng.standard_normal((p, p)))[0], y
    if change == "invertible linear":
        return x @ (np.linalg.qr(rng.standard_normal((p, p)))[0] * np.geomspace(1, 9, p)) @ rng.permutation(
            np.eye(p)
        ), y
    order = rng.permutation(len(x))
    return x[order], y[order]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MEASURED)
def test_invariances(name, change):
    measure = MEASURED[name]
    if not HOLDS[name][change]:
        x, y = related(60)
        assert abs(measure(*changed(x, y, change, np.random.default_rng(3))) - measure(x, y)) > 1e-3
        return

    @given(st.integers(0, 10**6), st.integers(3, 6), st.integers(3, 6), st.integers(16, 40))
    @settings(max_examples=8, deadline=None)
    def holds(seed, p, q, n):
        x, y = related(n, p, q, seed=seed)
        assert measure(*changed(x, y, change, np.random.default_rng(seed))) == pytest.approx(measure(x, y), abs=1e-7)

    holds()


def test_the_readme_has_the_table_that_is_tested():
    rows = re.findall(r"^\| ((?:\w+)(?:, [\w ]+)?) \| (.*) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    found = {name: dict(zip(CHANGES, (cell == "yes" for cell in cells.split(" | ")))) for name, cells in rows
             if set(cells.split(" | ")) <= {"yes", "no"}}  # fmt: skip
    assert found == HOLDS


@pytest.mark.parametrize("name", MEASURED)
def test_identity_is_one_and_order_does_not_matter(name):
    x, y = related(50)
    assert MEASURED[name](x, x) == pytest.approx(1.0, abs=1e-9)
    assert MEASURED[name](x, y) < 0.999
    same = MEASURED[name](y, x) == pytest.approx(MEASURED[name](x, y), abs=1e-9)
    assert same is not name.startswith("pwcca")


@pytest.mark.parametrize("name", MEASURED)
def test_types_do_not_matter_much(name):
    x, y = related(50)
    single = MEASURED[name](x.astype(np.float32), y.astype(np.float32))
    assert single == pytest.approx(MEASURED[name](x, y), abs=1e-5)
    half = x.astype(np.float16), y.astype(np.float16)
    assert MEASURED[name](*half) == pytest.approx(MEASURED[name](*(v.astype(np.float64) for v in half)), abs=1e-5)
    whole = np.round(x * 10).astype(int), np.round(y * 10).astype(int)
    assert MEASURED[name](*whole) == pytest.approx(MEASURED[name](*(v.astype(float) for v in whole)), abs=1e-12)


@pytest.mark.parametrize("size", [1e-300, 1e-20, 1e15, 1e300])
@pytest.mark.parametrize("name", MEASURED)
def test_sizes_do_not_matter(name, size):
    x, y = related(50)
    assert MEASURED[name](x * size, y) == pytest.approx(MEASURED[name](x, y), abs=1e-9)


# --- chance ----------------------------------------------------------------------------------------------------------


def test_independent_data_scores_its_null():
    x, y = independent(363, 768, 768)
    assert abs(cka(x, y)) < 0.01
    assert cka(x, y, debiased=False) == pytest.approx(0.68, abs=0.01)
    x, y = independent(200, 10, 12)
    for name in MEASURES:
        null = permutation_null(name, x, y, draws=60)
        value = grid(name, [x], [y])[0, 0]
        assert null.min() - 0.01 <= value <= null.max() + 0.01
        assert permutation_null(name, x, x[:, :6], draws=20).max() < grid(name, [x], [x[:, :6]])[0, 0]


def test_debiased_cka_has_no_bias():
    values = [cka(*independent(20, 50, 60, seed)) for seed in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)


@pytest.mark.parametrize("name", MEASURES)
def test_the_null_is_the_measure_of_shuffled_samples(name):
    x, y = related(40)
    rng = np.random.default_rng(5)
    expected = [grid(name, [x], [y[rng.permutation(40)]])[0, 0] for _ in range(4)]
    np.testing.assert_allclose(permutation_null(name, x, y, draws=4, seed=5), expected, atol=1e-8)


@pytest.mark.parametrize("name", MEASURES)
def test_an_interval_contains_the_value_and_shrinks(name):
    few, many = related(60, 4, 4, seed=1), related(960, 4, 4, seed=1)
    options = {"k": 5} if name == "knn_overlap" else {}
    sizes = []
    for x, y in (few, many):
        low, high = interval(name, x, y, draws=40, **options)
        value = grid(name, [x], [y], **options)[0, 0]
        assert low < value < high
        sizes.append(high - low)
        narrow = interval(name, x, y, draws=40, confidence=0.5, **options)
        assert low <= narrow[0] <= narrow[1] <= high
        assert interval(name, x, y, draws=40, seed=1, **options) != (low, high)
        if name in ("rsa", "knn_overlap"):
            break  # their matrices of samples by samples take long
    assert len(sizes) == 1 or sizes[1] < 0.6 * sizes[0]


def test_the_bounds_are_scaled_to_all_samples():
    """80 of 100 samples: the errors of 100 are twice the deviations of the draws."""
    grids = np.linspace(-0.1, 0.1, 201)[:, None, None]
    low, high = bounds(np.array([[0.5]]), grids, 100, 0.9, 0.0)
    np.testing.assert_allclose([low, high], [[[0.5 - 0.18]], [[0.5 + 0.18]]], atol=1e-12)
    low, high = bounds(np.array([[0.5]]), grids + grids**2, 100, 0.9, 0.0)
    assert 0.5 - low > high - 0.5  # the upper errors are the longer ones, and they reach down


def test_intervals_cover_the_truth_as_often_as_they_say():
    """CKA of (z + noise, z + noise) in 2 dimensions: |cov(x, y)|^2 / (|var x| |var y|) = 0.25."""
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((100, 2))
        x, y = (z + rng.standard_normal((100, 2)) for _ in range(2))
        low, high = interval("cka", x, y, draws=60, seed=seed, confidence=0.9)
        covered += low <= 0.25 <= high
    assert 80 <= covered <= 97


# --- grids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("wide", [4, 60])
def test_grids_are_pairs(name, wide):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((50, wide))
    layers = [z @ rng.standard_normal((wide, wide)) + k * rng.standard_normal((50, wide)) for k in range(4)]
    options = {"n_components": 3} if name == "svcca" else {}
    if name in ("cca", "pwcca") and wide == 60:
        with pytest.raises(ValueError, match="50 samples are too few for canonical correlations of 49 with 49"):
            grid(name, layers)
        return
    one = {"cca": cca, "svcca": svcca, "pwcca": pwcca, "cka": cka, "procrustes": procrustes, "rsa": rsa,
           "knn_overlap": knn_overlap}[name]  # fmt: skip
    expected = [[one(a, b, **options) for b in layers] for a in layers]
    np.testing.assert_allclose(grid(name, layers, **options), expected, atol=1e-9)
    np.testing.assert_allclose(grid(name, layers[:3], layers[2:], **options), np.array(expected)[:3, 2:], atol=1e-9)


# --- bad input -------------------------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).standard_normal((20, 3))
with np.errstate(over="ignore"):
    BEYOND = GOOD * 1e308 * 5
BAD = [
    (GOOD[0], GOOD, "array 1 is a matrix .samples x units. of real numbers, found the shape .3,. of float64"),
    (GOOD, GOOD + 1j, "array 2 is a matrix"),
    (np.array([["a"] * 3] * 20), GOOD, "array 1 is a matrix"),
    (GOOD, GOOD[:19], "the same samples in the same order, found 20 and 19; rows are samples"),
    (GOOD[:3], GOOD[:3], "array 1 needs at least 4 samples and a unit, found the shape .3, 3."),
    (GOOD[:, :0], GOOD, "array 1 needs at least 4 samples and a unit, found the shape .20, 0."),
    (GOOD, np.where(np.arange(20)[:, None] == 7, np.nan, GOOD), "array 2 has nan at sample 7, unit 0"),
    (np.where(np.arange(20)[:, None] == 7, np.inf, GOOD), GOOD, "array 1 has inf at sample 7, unit 0"),
    (np.full((20, 3), np.inf), GOOD, "array 1 has inf at sample 0, unit 0"),
    (BEYOND, GOOD, "array 1 has -?inf at"),
    (np.where(np.arange(20)[:, None] % 2, 1e308, -1e308), GOOD, "array 1 has numbers beyond its range"),
    ([[1.0, 2.0], [3.0]], GOOD, "array 1 is a matrix .samples x units. of real numbers, found a list that"),
    (torch.zeros(20, 3, dtype=torch.bfloat16), GOOD, "array 1 is a matrix .* found a Tensor that .*BFloat16"),
    (np.full((20, 3), 0.1), GOOD, "array 1 is the same in all of its 20 samples"),
]


@pytest.mark.parametrize(("x", "y", "sentence"), BAD)
@pytest.mark.parametrize("measure", [cca, svcca, pwcca, cka, procrustes, rsa, knn_overlap, canonical_correlations])
def test_bad_arrays_are_refused(measure, x, y, sentence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=sentence):
            measure(x, y)


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: svcca(GOOD, GOOD, n_components=0), "n_components is at least 1, found 0"),
    (lambda: svcca(GOOD, GOOD, n_components=4), "n_components is 4, and 20 samples of 3 units have at most 3"),
    (lambda: svcca(GOOD[:, [0, 0, 1]], GOOD, n_components=3), "the samples vary in 2 directions only"),
    (lambda: svcca(GOOD, GOOD, variance=0.0), "variance is a share above 0 and at most 1, found 0.0"),
    (lambda: cka(GOOD, GOOD, kernel="cubic"), "kernel is 'linear' or 'rbf', found 'cubic'"),
    (lambda: cka(GOOD, GOOD, kernel="rbf", sigma=0.0), "sigma is a share of the median distance"),
    (lambda: cka(np.repeat(np.eye(2), [15, 5], 0), GOOD, kernel="rbf"), "more than half of the distances"),
    (lambda: cka(np.eye(20), GOOD, kernel="rbf"), "takes all samples for equally alike"),
    (lambda: cka(np.eye(20), GOOD), "debiased CKA of these samples is 0 / 0"),
    (lambda: cka(GOOD, GOOD[::-1], kernel="rbf", sigma=0.001, debiased=False), "takes all samples for equally alike"),
    (lambda: rsa(GOOD, GOOD, distance="manhattan"), "distance is one of correlation, euclidean, cosine, found"),
    (lambda: rsa(np.eye(20), GOOD), "all samples are equally far from each other"),
    (lambda: rsa(GOOD[:, :1], GOOD), "sample 0 has no direction for the correlation distance; take euclidean"),
    (lambda: knn_overlap(GOOD, GOOD, k=0), "k is at least 1, found 0"),
    (lambda: knn_overlap(GOOD, GOOD, k=19), "k is 19, and 20 samples leave a choice of at most 18 neighbours"),
    (lambda: cca(GOOD[:6], GOOD[:6]), "6 samples are too few for canonical correlations of 3 with 3 dimensions"),
    (lambda: interval("cca", GOOD[:8], GOOD[:8]), "6 samples are too few for canonical correlations"),
    (lambda: interval("cka", GOOD, GOOD, draws=3), "an interval needs at least 20 draws, found 3"),
    (lambda: interval("cka", GOOD, GOOD, confidence=95), "confidence is between 0 and 1, found 95"),
    (lambda: permutation_null("cka", GOOD, GOOD, draws=0), "a null needs at least 1 draw, found 0"),
    (lambda: grid("ckaa", [GOOD]), "no measure 'ckaa'; there are cca, svcca"),
    (lambda: grid("cca", [GOOD], debiased=True), "cca does not take these options: debiased"),
    (lambda: grid("cka", []), "at least one array"),
])  # fmt: skip
def test_bad_options_are_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
