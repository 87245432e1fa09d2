import warnings

import numpy as np
import pytest
from ecco_factorization import nonnegative_factors, semi_nonnegative_factors
from ecco_factorization.nonnegative import singular
from hypothesis import given, settings, strategies as st
from sklearn.decomposition import NMF


def positive(seed, tokens, units, rank, noise=0.3):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(tokens, rank)) @ rng.normal(size=(rank, units)) + noise, 0)


def relative(x, factors):
    return np.linalg.norm(x - factors.activations @ factors.loadings) / np.linalg.norm(x)


SHAPES = [(0, 60, 400, 4), (1, 40, 30, 6), (2, 200, 50, 3), (3, 25, 60, 8)]


@pytest.mark.parametrize(("seed", "tokens", "units", "n"), SHAPES)
def test_the_error_is_no_higher_than_sklearns_from_the_same_start(seed, tokens, units, n):
    x = positive(seed, tokens, units, rank=12)
    model = NMF(n, init="nndsvda", random_state=0, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = np.linalg.norm(x - model.fit_transform(x) @ model.components_) / np.linalg.norm(x)
    assert relative(x, nonnegative_factors(x, n)) <= oracle * 1.001
    assert relative(x.astype(np.float32), nonnegative_factors(x.astype(np.float32), n)) <= oracle * 1.001


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 12),
    st.integers(2, 12),
    st.integers(1, 4),
    st.sampled_from([None, 0, 1]),
    st.booleans(),
)
def test_factors_are_not_negative_and_the_error_never_rises(seed, tokens, units, n, start, semi):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tokens, units)) if semi else rng.exponential(size=(tokens, units))
    n = min(n, tokens, units)
    factors = (semi_nonnegative_factors if semi else nonnegative_factors)(x, n, seed=start)
    assert (factors.activations >= 0).all()
    assert semi or (factors.loadings >= 0).all()
    assert (np.diff(factors.errors) <= 0).all()
    assert np.isclose(factors.errors[-1], relative(x, factors), atol=1e-6)
    sizes = np.linalg.norm(factors.loadings, axis=1)
    assert np.allclose(sizes[sizes > 0], 1)
    energy = np.linalg.norm(factors.activations, axis=0)
    assert (np.diff(energy) <= 1e-9 * energy[0]).all()


def test_exact_factors_are_found_again():
    rng = np.random.default_rng(0)
    w, h = np.kron(np.eye(3), np.ones((5, 1))) * rng.uniform(1, 2, (15, 1)), np.kron(np.eye(3), np.ones((1, 4)))
    for factors in (nonnegative_factors(w @ h, 3), nonnegative_factors(w @ h, 3, seed=5)):
        assert factors.converged
        assert relative(w @ h, factors) < 1e-3
        assert np.allclose(np.sort(factors.loadings.argmax(0)), np.sort(h.argmax(0)))


def multiplicative_semi(x, n, seed, steps=3000):
    """The updates of Ding, Li and Jordan (2010), theorem 7, in float64; x is (token, unit), G the activations."""
    g = np.random.default_rng(seed).uniform(0.1, 1, (len(x), n))
    for _ in range(steps):
        f = x.T @ g @ np.linalg.pinv(g.T @ g)
        a, b = x @ f, f.T @ f
        g *= np.sqrt((np.maximum(a, 0) + g @ np.maximum(-b, 0)) / (np.maximum(-a, 0) + g @ np.maximum(b, 0) + 1e-12))
    return np.linalg.norm(x - g @ f.T) / np.linalg.norm(x)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_semi_nmf_is_as_good_as_dings_updates_and_no_better_than_the_svd(seed):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(30, 4)), 0) @ rng.normal(size=(4, 20)) + 0.5 * rng.normal(size=(30, 20))
    ours = min(relative(x, semi_nonnegative_factors(x, 3, seed=start)) for start in (None, 1, 2))
    theirs = min(multiplicative_semi(x, 3, start) for start in (0, 1, 2))
    _, s, _ = np.linalg.svd(x)
    assert np.sqrt(1 - (s[:3] ** 2).sum() / (s**2).sum()) <= ours <= theirs * 1.001


def test_semi_nmf_reaches_the_svd_where_all_tokens_share_a_direction():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 20)) + 5 * rng.uniform(size=20)
    _, s, _ = np.linalg.svd(x)
    best = np.sqrt(1 - (s[:3] ** 2).sum() / (s**2).sum())
    assert best <= relative(x, semi_nonnegative_factors(x, 3)) <= best * 1.001


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (6, 6)])
def test_singular_is_numpys_svd(shape):
    x = np.random.default_rng(0).normal(size=shape)
    u, s, v = singular(x, 4)
    oracle = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(s, oracle[1][:4], rtol=1e-9)
    np.testing.assert_allclose((u * s) @ v, (oracle[0][:, :4] * oracle[1][:4]) @ oracle[2][:4], atol=1e-9)
    assert (u[np.abs(u).argmax(0), range(4)] > 0).all()


@pytest.mark.parametrize(
    ("x", "n", "said"),
    [
        (np.ones(4), 1, r"a matrix \(token, unit\), found the shape \(4,\)"),
        (np.ones((0, 4)), 1, r"found the shape \(0, 4\)"),
        (np.array([[1.0, np.nan]]), 1, "found 1 that are not"),
        (np.array([[1.0, np.inf]]), 1, "found 1 that are not"),
        (np.ones((3, 5)), 4, "4 components do not fit 3 tokens and 5 units: ask for 1 to 3"),
        (np.ones((3, 5)), 0, "0 components do not fit"),
        (np.zeros((3, 5)), 1, "Every number is zero"),
        (-np.ones((3, 5)), 1, "not below zero, found -1; clip them or use semi-NMF"),
    ],
)
def test_what_cannot_be_factored_is_said(x, n, said):
    with pytest.raises(ValueError, match=said):
        nonnegative_factors(x, n)
