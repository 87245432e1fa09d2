"""Non-negative factors of a matrix ``(token, unit)``: NMF, and semi-NMF for activations that go below zero.

Pure functions on arrays. Both minimise the squared error ``‖X - activations @ loadings‖²`` and use the same sweep.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_PLAIN = 20  # first steps without extrapolation, which settle into the minimum that plain NMF finds
_WINDOW = 5  # steps over which the error must stop falling
_FINE = 0.25  # below this error, rounding in float32 hides what a step gains
_LEAST = 0.02  # a shorter extrapolation that still raises the error meets rounding alone


class Factors(NamedTuple):
    """Factors ``X ≈ activations @ loadings``.

    Attributes:
        activations: ``(token, component)``.
        loadings: ``(component, unit)``; rows of length 1 from NMF and semi-NMF.
        errors: ``‖X - activations @ loadings‖ / ‖X‖`` after each accepted step, falling.
        converged: whether the error had stopped falling before the steps ran out.
    """

    activations: np.ndarray
    loadings: np.ndarray
    errors: np.ndarray
    converged: bool


def nonnegative_factors(
    x: np.ndarray, n_components: int, *, seed: int | None = None, tol: float = 3e-6, max_iter: int = 500
) -> Factors:
    """Factor a non-negative matrix into non-negative factors (NMF), ordered by the energy that they carry.

    Block coordinate descent over single columns (HALS) with extrapolation: a step that would raise the error is taken
    back and the extrapolation shortened, so that the error never rises. Arithmetic is float32 for float32 input whose
    error stays above 0.25, else float64.

    Args:
        x: ``(token, unit)``, finite and not below zero.
        n_components: from 1 to the smaller side of `x`.
        seed: start from random numbers; None starts from the singular vectors (NNDSVDa), always the same.
        tol: stop when five steps lower the error by less than this share of the first error.
        max_iter: the most steps.

    Raises:
        ValueError: x is not a matrix of finite numbers, is all zero or goes below zero, or n_components does not fit.

    References:
        Cichocki, Phan: Fast local algorithms for large scale nonnegative matrix and tensor factorizations, 2009.
        Ang, Gillis: Accelerating nonnegative matrix factorization algorithms using extrapolation, 2019.
        Boutsidis, Gallopoulos: SVD based initialization: a head start for NMF, 2008.
    """
    x = checked(x, n_components)
    if x.min() < 0:
        raise ValueError(f"NMF needs numbers that are not below zero, found {x.min():.4g}; clip them or use semi-NMF.")
    start = _random_start(x, n_components, seed) if seed is not None else _svd_start(x, n_components)
    return _descend(x, *start, tol, max_iter, semi=False)


def semi_nonnegative_factors(
    x: np.ndarray, n_components: int, *, seed: int | None = None, tol: float = 3e-6, max_iter: int = 500
) -> Factors:
    """Factor any matrix into activations that are not negative and loadings of either sign (semi-NMF).

    The model of Ding, Li and Jordan; in place of their multiplicative updates, loadings are the exact least squares
    and activations are swept as in `nonnegative_factors`. The error never rises.

    Args:
        x: ``(token, unit)``, finite. `n_components`, `seed`, `tol`, `max_iter`: as of `nonnegative_factors`.

    Raises:
        ValueError: x is not a matrix of finite numbers, or is all zero, or n_components does not fit.

    References:
        Ding, Li, Jordan: Convex and semi-nonnegative matrix factorizations, 2010.
        Gillis, Kumar: Exact and heuristic algorithms for semi-nonnegative matrix factorization, 2015.
    """
    x = checked(x, n_components)
    start = _random_start(x, n_components, seed) if seed is not None else _svd_start(x, n_components)
    return _descend(x, *start, tol, max_iter, semi=True)


def checked(x: np.ndarray, n_components: int, what: str = "components") -> np.ndarray:
    """Return `x` as a floating-point matrix.

    Raises:
        ValueError: it is not a matrix of finite numbers, all of it is zero, or n_components does not fit it.
    """
    x = np.asarray(x)
    x = x.astype(np.float32 if x.dtype == np.float32 else np.float64, copy=False)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"Factors need a matrix (token, unit), found the shape {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"Factors need finite numbers, found {(~np.isfinite(x)).sum()} that are not.")
    if not 1 <= n_components <= min(x.shape):
        tokens, units = x.shape
        raise ValueError(
            f"{n_components} {what} do not fit {tokens} tokens and {units} units: ask for 1 to {min(x.shape)}, "
            "or read more tokens."
        )
    if not x.any():
        raise ValueError("Every number is zero; there is nothing to factor.")
    return x


def singular(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the `n` leading singular vectors and values of a matrix: ``(row, n)``, ``(n,)``, ``(n, column)``.

    From the eigenvectors of the smaller Gram matrix; values below about 1e-7 of the largest are rounding. Each pair has
    the sign that makes the largest entry on the rows' side positive.
    """
    from scipy.linalg import eigh

    if x.shape[0] > x.shape[1]:
        v, s, u = singular(x.T, n)
        u, v = u.T, v.T
    else:
        size = len(x)
        squares, u = eigh(x @ x.T, subset_by_index=[size - n, size - 1])
        u, s = u[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0))
        v = (u.T @ x) / np.maximum(s, np.finfo(x.dtype).eps * (s[0] or 1))[:, None]
    signs = np.sign(u[np.abs(u).argmax(0), np.arange(n)])
    return u * signs, s, v * signs[:, None]


def _svd_start(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """NNDSVDa: of each singular pair the part of one sign that is larger; zeros become the mean of |X|."""
    u, s, v = singular(x, n)
    w, h = np.empty((n, x.shape[0]), x.dtype), np.empty((n, x.shape[1]), x.dtype)
    for j in range(n):
        parts = [(np.maximum(sign * u[:, j], 0), np.maximum(sign * v[j], 0)) for sign in (1, -1)]
        sizes = [(float(np.linalg.norm(a)), float(np.linalg.norm(b))) for a, b in parts]
        best = max((0, 1), key=lambda i: sizes[i][0] * sizes[i][1])
        (a, b), (size_a, size_b) = parts[best], sizes[best]
        scale = np.sqrt(s[j] * size_a * size_b)
        w[j], h[j] = scale * a / (size_a or 1), scale * b / (size_b or 1)
    mean = np.abs(x).mean()
    w[w < mean * 1e-6], h[h < mean * 1e-6] = mean, mean
    return w, h


def _random_start(x: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng, scale = np.random.default_rng(seed), np.sqrt(np.abs(x).mean() / n)
    w, h = (np.abs(rng.standard_normal((n, size))) * scale for size in x.shape)
    return w.astype(x.dtype), h.astype(x.dtype)


def _descend(x: np.ndarray, w: np.ndarray, h: np.ndarray, tol: float, max_iter: int, *, semi: bool) -> Factors:
    """Lower the error of ``w.T @ h`` step by step; w is ``(component, token)``, h ``(component, unit)``."""
    total, errors, converged = float(np.vdot(x, x)), [np.inf], False
    start, h = (w, h), _least_squares(w @ w.T, w @ x) if semi else h
    best, ahead, reach, most = (w, h), (w, h), 0.5, 1.0
    for _ in range(max_iter):
        swept = _swept(ahead[0], ahead[1] @ ahead[1].T, (x @ ahead[1].T).T)
        further = reach if semi or len(errors) > _PLAIN else 0.0
        new_w = np.maximum(swept + further * (swept - w), 0)
        new_w = np.where(new_w.any(1, keepdims=True), new_w, swept)
        gram, cross = new_w @ new_w.T, new_w @ x
        new_h = _least_squares(gram, cross) if semi else _swept(ahead[1], gram, cross)
        missed = total - 2 * float(np.vdot(cross, new_h)) + float(np.vdot(gram, new_h @ new_h.T))
        error = np.sqrt(max(missed, 0) / total)
        if error < _FINE and x.dtype == np.float32:
            x, w, h = (each.astype(np.float64) for each in (x, *start))
            fine = _descend(x, w, h, tol, max_iter, semi=semi)
            return fine._replace(
                activations=fine.activations.astype(np.float32), loadings=fine.loadings.astype(np.float32)
            )
        if error > errors[-1]:
            most, reach = reach, reach / 1.5
            (w, h), ahead = best, best
            converged = reach < _LEAST
        else:
            extrapolated = new_h + further * (new_h - h)
            best, ahead = (new_w, new_h), (new_w, extrapolated if semi else np.maximum(extrapolated, 0))
            w, h, reach, most = swept, new_h, min(most, 1.05 * reach), min(1.0, 1.01 * most)
            errors.append(error)
            converged = len(errors) > _WINDOW + 1 and errors[-_WINDOW - 1] - error < tol * errors[1]
        if converged:
            break
    return _ordered(*best, np.array(errors[1:]), bool(converged))


def _swept(rows: np.ndarray, gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Set each row in turn to what is best while the others stay, but not below zero; a copy."""
    rows, least = rows.copy(), np.finfo(gram.dtype).eps ** 2 * gram.diagonal().max()
    for j in range(len(rows)):
        if gram[j, j] > least:
            rows[j] = np.maximum(rows[j] + (cross[j] - gram[j] @ rows) / gram[j, j], 0)
    return rows


def _least_squares(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """The loadings of either sign that are best for given activations."""
    inverse = np.linalg.pinv(gram.astype(np.float64), rcond=1e-10, hermitian=True)
    return np.asarray(inverse.astype(cross.dtype) @ cross)


def _ordered(w: np.ndarray, h: np.ndarray, errors: np.ndarray, converged: bool) -> Factors:
    """The factors with loadings of length 1, those of most energy first."""
    lengths = np.linalg.norm(h, axis=1)
    w, h = w * lengths[:, None], h / np.where(lengths > 0, lengths, 1)[:, None]
    order = np.argsort(-np.linalg.norm(w, axis=1), kind="stable")
    return Factors(w[order].T, h[order], errors, converged)
