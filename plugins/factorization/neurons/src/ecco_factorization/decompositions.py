"""PCA, ICA, k-means and UMAP of a matrix ``(token, unit)``. Pure functions on arrays, mostly scikit-learn's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ecco_factorization.matching import spread
from ecco_factorization.nonnegative import Factors, checked, singular

_RANK = 1e-6  # of the largest singular value: what is smaller is rounding of float32 activations


def principal_components(x: np.ndarray, n_components: int) -> Factors:
    """Principal components: ``X - mean ≈ activations @ loadings``, most variance first.

    Loadings are orthonormal; each has the sign that makes its strongest token positive.

    Args:
        x: ``(token, unit)``, finite. `n_components`: at most one less than the tokens, as the mean is taken away.

    Raises:
        ValueError: x is not a matrix of finite numbers, or varies in fewer directions than asked for.

    References:
        Jolliffe: Principal Component Analysis, 2002.
    """
    u, s, v = _centred(x, n_components)
    return Factors(u * s, v, _falling(x, s), converged=True)


def independent_components(
    x: np.ndarray, n_components: int, *, seed: int = 0, tol: float = 1e-4, max_iter: int = 500
) -> Factors:
    """Independent components of the leading principal components (FastICA), most variance first.

    Activations have a mean of 0 and a variance of 1 over the tokens; loadings carry the size.

    Args:
        x: as of `principal_components`. `seed`: of the start. `tol`, `max_iter`: scikit-learn's FastICA's.

    Raises:
        ValueError: as of `principal_components`.

    References:
        Hyvärinen, Oja: Independent component analysis: algorithms and applications, 2000.
    """
    from sklearn.decomposition import FastICA

    u, s, v = _centred(x, n_components)
    size = np.sqrt(len(u))
    model = FastICA(whiten=False, random_state=seed, tol=tol, max_iter=max_iter)
    sources, warned = _quietly(model.fit_transform, u * size)
    loadings = model.mixing_.T @ (s[:, None] * v / size)
    order = np.argsort(-np.linalg.norm(loadings, axis=1), kind="stable")
    sources, loadings = sources[:, order], loadings[order]
    signs = np.sign(sources[np.abs(sources).argmax(0), np.arange(n_components)])
    return Factors(sources * signs, loadings * signs[:, None], _falling(x, s), converged=not warned)


def clusters(x: np.ndarray, n_clusters: int, *, seed: int = 0, n_starts: int = 10) -> Factors:
    """k-means over the rows, as factors: which cluster each token is in (0 or 1), and the centres as loadings.

    Args:
        x: ``(token, unit)``, finite. `seed`: of the starts; the best of `n_starts` is kept. Largest cluster first.

    Raises:
        ValueError: x is not a matrix of finite numbers, or has fewer different rows than clusters are asked for.

    References:
        Arthur, Vassilvitskii: k-means++: the advantages of careful seeding, 2007.
    """
    from sklearn.cluster import KMeans

    x = checked(x, 1).astype(np.float64)
    different = len(np.unique(x, axis=0))
    if not 1 <= n_clusters <= different:
        raise ValueError(f"{n_clusters} clusters do not fit {different} different rows: ask for 1 to {different}.")
    model = KMeans(n_clusters, n_init=n_starts, random_state=seed)
    _, warned = _quietly(model.fit, x)
    order = np.argsort(-np.bincount(model.labels_, minlength=n_clusters), kind="stable")
    member = (model.labels_[:, None] == order).astype(x.dtype)
    error = np.sqrt(model.inertia_ / np.square(x, dtype=np.float64).sum())
    return Factors(member, model.cluster_centers_[order], np.array([error]), converged=not warned)


def embedding(
    x: np.ndarray, n_components: int = 2, *, n_neighbors: int = 15, min_dist: float = 0.1, metric: str, seed: int = 0
) -> np.ndarray:
    """Places of the rows in few dimensions where neighbours stay neighbours (UMAP), ``(token, component)``.

    Args:
        x: ``(token, unit)``, finite. `n_neighbors`: how many are kept near, below the number of rows.
        min_dist: how near places may be. `metric`: how far rows are from each other, one of UMAP's.

    Raises:
        ValueError: x is not a matrix of finite numbers, or too few rows or neighbours.
        ImportError: umap-learn is not installed.

    References:
        McInnes, Healy, Melville: UMAP: Uniform Manifold Approximation and Projection, 2018.
    """
    x = checked(x, 1)
    if len(x) < 4:
        raise ValueError(f"UMAP needs 4 tokens at least, found {len(x)}.")
    spread(x)
    if not 2 <= n_neighbors < len(x):
        raise ValueError(f"n_neighbors is from 2 to one less than the {len(x)} tokens, found {n_neighbors}.")
    if not 1 <= n_components <= len(x) - 3:
        raise ValueError(f"UMAP places {len(x)} tokens in at most {len(x) - 3} dimensions, found {n_components}.")
    from umap import UMAP

    model = UMAP(
        n_components=n_components,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric=metric,
        random_state=seed,
        n_jobs=1,
    )
    places, _ = _quietly(model.fit_transform, x)
    return np.asarray(places)


def trustworthiness(x: np.ndarray, places: np.ndarray, n_neighbors: int, metric: str) -> float:
    """How far neighbours among `places` are neighbours in `x`: 1 if all are, about 0.5 for places at random.

    References:
        Venna, Kaski: Neighborhood preservation in nonlinear projection methods, 2001.
    """
    from sklearn.manifold import trustworthiness as of_sklearn

    most = max(1, (len(x) - 1) // 2)
    return float(of_sklearn(x, places, n_neighbors=min(n_neighbors, most), metric=metric))


def _centred(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leading singular vectors and values of X without its mean over tokens, in float64."""
    x = checked(x, 1).astype(np.float64)
    most = min(len(x) - 1, x.shape[1])
    if not 1 <= n <= most:
        raise ValueError(
            f"{n} components do not fit {len(x)} tokens and {x.shape[1]} units: ask for 1 to {most} (one less than "
            "the tokens, as their mean is taken away), or read more tokens."
        )
    size = np.abs(x).max()
    u, s, v = singular(x - x.mean(0), most)
    varies = int((s > max(_RANK * s[0], 1e-7 * size)).sum())
    if varies < n:
        raise ValueError(
            f"These activations vary in {varies} directions over the tokens, too few for {n} components: ask for fewer."
        )
    return u[:, :n], s[:n], v[:n]


def _falling(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """‖X - mean - reconstruction‖ / ‖X - mean‖ with 1, 2 … components."""
    total = np.square(x - x.mean(0), dtype=np.float64).sum()
    return np.asarray(np.sqrt(np.maximum(1 - np.cumsum(s**2) / total, 0)))


def _quietly(call: Any, *given: Any) -> tuple[Any, bool]:
    """What a library returns, and whether it warned that it did not converge; none of its warnings is shown."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(*given)
    return result, any(issubclass(w.category, ConvergenceWarning) for w in caught)
