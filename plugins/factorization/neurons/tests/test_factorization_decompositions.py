import numpy as np
import pytest
from ecco_factorization import (
    clusters,
    embedding,
    explained_variance,
    independent_components,
    match_loadings,
    principal_components,
    relative_error,
    trustworthiness,
)
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return rng.laplace(size=(40, 5)) @ rng.normal(size=(5, 90)) + 0.1 * rng.normal(size=(40, 90)) + 3


def test_pca_is_sklearns(x):
    ours, oracle = principal_components(x, 4), PCA(4, svd_solver="full").fit(x)
    signs = np.sign((ours.loadings * oracle.components_).sum(1))
    np.testing.assert_allclose(ours.loadings * signs[:, None], oracle.components_, atol=1e-8)
    np.testing.assert_allclose(ours.activations * signs, oracle.transform(x), atol=1e-7)
    explained = explained_variance(x, ours.activations, ours.loadings, x.mean(0))
    assert explained == pytest.approx(oracle.explained_variance_ratio_.sum(), abs=1e-10)
    np.testing.assert_allclose(1 - ours.errors[:4] ** 2, np.cumsum(oracle.explained_variance_ratio_), atol=1e-10)


def test_ica_is_sklearns_and_finds_sources(x):
    ours = independent_components(x, 5, seed=0, tol=1e-8)
    oracle = FastICA(5, whiten="unit-variance", random_state=1, tol=1e-8, max_iter=500).fit(x)
    assert ours.converged
    assert match_loadings(ours.loadings, oracle.mixing_.T, signed=False).cosines.min() > 0.9999
    np.testing.assert_allclose(ours.activations.T @ ours.activations / len(x), np.eye(5), atol=1e-6)
    pca = principal_components(x, 5)
    rebuilt = ours.activations @ ours.loadings
    np.testing.assert_allclose(rebuilt, pca.activations @ pca.loadings, atol=1e-8)
    assert (np.diff(np.linalg.norm(ours.loadings, axis=1)) <= 1e-9).all()


def test_ica_says_that_it_did_not_converge(x):
    assert not independent_components(x, 5, max_iter=1, tol=1e-12).converged


def test_clusters_are_sklearns_largest_first(x):
    ours, oracle = clusters(x, 3, seed=4), KMeans(3, n_init=10, random_state=4).fit(x)
    sizes = ours.activations.sum(0)
    assert sorted(sizes, reverse=True) == list(sizes) == sorted(np.bincount(oracle.labels_), reverse=True)
    assert (ours.activations.sum(1) == 1).all()
    for group in range(3):
        assert len(set(oracle.labels_[ours.activations[:, group] == 1])) == 1
        np.testing.assert_allclose(ours.loadings[group], x[ours.activations[:, group] == 1].mean(0), atol=1e-9)
    error = relative_error(x, ours.activations, ours.loadings, 0.0)
    assert error == pytest.approx(np.sqrt(oracle.inertia_) / np.linalg.norm(x))
    assert error == pytest.approx(ours.errors[-1])


def test_umap_keeps_groups_apart_and_is_the_same_for_the_same_seed():
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(3) * 20, 12, axis=0) @ rng.normal(size=(3, 30)) + 0.1 * rng.normal(size=(36, 30))
    places = [embedding(x, 2, n_neighbors=6, metric="cosine", seed=3) for _ in range(2)]
    np.testing.assert_array_equal(*places)
    centres = places[0].reshape(3, 12, 2).mean(1)
    spread = np.linalg.norm(places[0].reshape(3, 12, 2) - centres[:, None], axis=-1).max()
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > spread
    assert (
        trustworthiness(x, places[0], 6, "euclidean")
        > 0.9
        > trustworthiness(x, rng.normal(size=(36, 2)), 6, "euclidean")
    )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: principal_components(x, 40), r"40 components .* 90 units: ask for 1 to 39 \(one"),
        (lambda x: principal_components(np.ones((5, 4)) * 3.3, 1), "vary in 0 directions over the tokens"),
        (lambda x: principal_components(np.outer(np.arange(5), np.ones(4)), 2), "vary in 1 directions"),
        (lambda x: independent_components(np.outer(np.arange(5), np.ones(4)), 2), "vary in 1 directions"),
        (lambda x: clusters(x, 41), "41 clusters do not fit 40 different rows: ask for 1 to 40"),
        (lambda x: clusters(np.ones((5, 4)), 2), "2 clusters do not fit 1 different rows"),
        (lambda x: embedding(x, 2, n_neighbors=40, metric="cosine"), "from 2 to one less than the 40 tokens, found 40"),
        (lambda x: embedding(x[:5], 3, n_neighbors=2, metric="cosine"), "5 tokens in at most 2 dimensions, found 3"),
        (lambda x: explained_variance(np.ones((5, 4)) * 3.3, np.ones((5, 1)), np.ones((1, 4)), 0.0), "No unit varies"),
    ],
)
def test_what_does_not_fit_is_said(x, call, said):
    with pytest.raises(ValueError, match=said):
        call(x)
