"""NMF, PCA, ICA, k-means and UMAP of the activations of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from ecco_core import Components, Context, LabelledArray, MissingDependencyError, OptionError, Points
from ecco_factorization.reading import Samples, asking, read

if TYPE_CHECKING:
    import numpy as np

    from ecco_factorization.nonnegative import Factors

Choice = Literal["elbow", "stability"]
_MOST_SEEDS = 100


def nmf(
    ctx: Context,
    *,
    n_components: int | str = 10,
    negative: Literal["clip", "semi", "error"] = "clip",
    n_seeds: int = 4,
    choose: Choice = "elbow",
    max_components: int = 12,
    site: str = "mlp_post",
    stack: str = "",
) -> Components:
    """Groups of neurons that fire together, and where: non-negative factors of the activations (NMF).

    Options:
        n_components: how many, or auto.
        negative: what to do with activations below zero: clip them to zero as the original did (the result says how
            much that takes away), keep them by semi-NMF (loadings of either sign), or raise an error.
        n_seeds: fits from random starts that say how stable the components are; 0 for none.
        choose: how auto chooses: the elbow of the explained variance, or the greatest stability from 2 components on.
        max_components: the most that auto tries.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    import numpy as np

    from ecco_factorization.nonnegative import nonnegative_factors, semi_nonnegative_factors

    samples = read(ctx, stack)
    below = np.minimum(samples.x, 0)
    extra = {}
    if negative == "error" and below.any():
        raise OptionError(
            f"{samples.place} goes down to {below.min():.4g} and NMF needs numbers that are not below zero: take "
            "negative='clip' or negative='semi'."
        )
    if negative == "clip":
        clipped = float(np.square(below, dtype=float).sum() / max(np.square(samples.x, dtype=float).sum(), 1e-300))
        samples = samples._replace(x=np.maximum(samples.x, 0))
        extra = {"clipped energy": clipped}
        if clipped:
            ctx.note(
                f"{clipped:.1%} of the activations' energy (sum of squares) is below zero and was clipped to zero, as "
                "the original library does; quality is about what was left; negative='semi' clips nothing."
            )
    fit = semi_nonnegative_factors if negative == "semi" else nonnegative_factors
    method = _Method(
        "Semi-NMF" if negative == "semi" else "NMF", lambda x, n, seed: fit(x, n, seed=seed), signed=True, seeded=False
    )
    result = _result(ctx, samples, method, n_components, n_seeds, choose, max_components, extra)
    if negative == "semi":
        _note_freedom(ctx, samples.x, len(result.loadings.values), result.quality["relative error"])
    return result


def _note_freedom(ctx: Context, x: np.ndarray, n: int, error: float) -> None:
    """Say so where semi-NMF is as good as any factors can be, for then other components are as good."""
    import numpy as np

    from ecco_factorization.nonnegative import singular

    _, s, _ = singular(x.astype(float), n)
    best = np.sqrt(max(0.0, 1 - np.square(s).sum() / np.square(x, dtype=float).sum()))
    if error <= best * 1.001:
        ctx.note(
            f"no {n} components of any kind have a lower error than these ({best:.4f}), so that others which span the "
            "same space do as well: read them with their stability"
        )


def pca(
    ctx: Context, *, n_components: int | str = 10, max_components: int = 12, site: str = "mlp_post", stack: str = ""
) -> Components:
    """Directions in which the activations vary most over the tokens (principal components).

    Options:
        n_components: how many, or auto: the elbow of the explained variance.
        max_components: the most that auto tries.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    from ecco_factorization.decompositions import principal_components

    method = _Method("PCA", lambda x, n, seed: principal_components(x, n), centred=True)
    return _result(ctx, read(ctx, stack), method, n_components, 0, "elbow", max_components)


def ica(
    ctx: Context,
    *,
    n_components: int | str = 10,
    n_seeds: int = 4,
    choose: Choice = "elbow",
    max_components: int = 12,
    site: str = "mlp_post",
    stack: str = "",
) -> Components:
    """Directions whose activations over the tokens are as independent as can be (FastICA).

    Options:
        n_components: how many, or auto.
        n_seeds: more fits that say how stable the components are; 0 for none.
        choose: how auto chooses: the elbow of the explained variance, or the greatest stability from 2 components on.
        max_components: the most that auto tries.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    from ecco_factorization.decompositions import independent_components

    method = _Method("ICA", lambda x, n, seed: independent_components(x, n, seed=seed or 0), centred=True)
    return _result(ctx, read(ctx, stack), method, n_components, n_seeds, choose, max_components)


def kmeans(
    ctx: Context,
    *,
    n_components: int | str = 10,
    n_seeds: int = 4,
    choose: Choice = "elbow",
    max_components: int = 12,
    site: str = "mlp_post",
    stack: str = "",
) -> Components:
    """Groups of tokens with similar activations (k-means); loadings are the groups' mean activations.

    Options:
        n_components: how many groups, or auto.
        n_seeds: more fits that say how stable the groups are; 0 for none.
        choose: how auto chooses: the elbow of the explained variance, or the greatest stability from 2 groups on.
        max_components: the most that auto tries.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    from ecco_factorization.decompositions import clusters

    method = _Method("k-means", lambda x, n, seed: clusters(x, n, seed=seed or 0), signed=True, grouping=True)
    return _result(ctx, read(ctx, stack), method, n_components, n_seeds, choose, max_components)


def umap(
    ctx: Context,
    *,
    n_components: int = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    metric: Literal["euclidean", "cosine", "correlation", "manhattan"] = "cosine",
    site: str = "mlp_post",
    stack: str = "",
) -> Points:
    """Tokens as points, near each other where their activations are alike (UMAP).

    Options:
        n_components: how many dimensions.
        n_neighbors: how many neighbours of each token are kept near; fewer if there are fewer tokens.
        min_dist: how near points may be, 0 to 1.
        metric: how far the activations of two tokens are from each other.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    from ecco_factorization.decompositions import embedding, trustworthiness

    if not 0 <= min_dist <= 1:
        raise OptionError(f"min_dist is from 0 to 1, found {min_dist:g}.")
    samples = read(ctx, stack)
    neighbours = min(n_neighbors, len(samples.x) - 1)
    try:
        with asking():
            places = embedding(
                samples.x, n_components, n_neighbors=neighbours, min_dist=min_dist, metric=metric, seed=ctx.seed
            )
    except ImportError as error:
        raise MissingDependencyError("umap needs umap-learn: pip install 'ecco-factorization[umap]'") from error
    trusted = trustworthiness(samples.x, places, neighbours, metric)
    ctx.note(f"trustworthiness {trusted:.3f}: 1 if neighbours here are neighbours in the model, about 0.5 by chance")
    ctx.note("UMAP keeps neighbourhoods: distances between far groups, their sizes and the axes mean nothing")
    axes = [f"UMAP {i + 1}" for i in range(n_components)]
    return Points(
        title=f"UMAP of the tokens by {samples.place}",
        values=LabelledArray(places, ("point", "axis"), {"axis": axes}),
        labels=samples.labels,
    )


class _Method(NamedTuple):
    """A way to factor: ``fit(x, n, seed)``, and what its factors are.

    Attributes:
        signed: whether a component's sign means something. `centred`: whether the mean over tokens is taken away.
        grouping: whether it puts each token into one group; groups are the same if they have the same tokens.
        seeded: whether the fit that is shown starts from the seed, not from a start of its own.
    """

    name: str
    fit: Callable[[np.ndarray, int, int | None], Factors]
    signed: bool = False
    centred: bool = False
    grouping: bool = False
    seeded: bool = True

    def known_by(self, factors: Factors) -> np.ndarray:
        """What tells a component from others: ``(component, unit)``, or the tokens of each group."""
        return factors.activations.T if self.grouping else factors.loadings


class _Fitted(NamedTuple):
    """A fit with its quality; `stable` is per component, None if it was not asked."""

    factors: Factors
    explained: float
    stable: np.ndarray | None


def _result(
    ctx: Context,
    samples: Samples,
    method: _Method,
    n_components: int | str,
    n_seeds: int,
    choose: str,
    max_components: int,
    extra: dict[str, float] | None = None,
) -> Components:
    """Fit as many components as were asked for, or as auto chooses, and say how good they are."""
    from ecco_factorization.matching import relative_error
    from ecco_factorization.results import NeuronFactors

    if not 0 <= n_seeds <= _MOST_SEEDS:
        raise OptionError(f"n_seeds is from 0 to {_MOST_SEEDS}, found {n_seeds}.")
    with asking():
        if n_components == "auto":
            fitted, curve = _chosen(ctx, samples.x, method, n_seeds, choose, max_components)
        elif isinstance(n_components, int):
            fitted, curve = _fitted(ctx, samples.x, method, n_components, n_seeds), {}
        else:
            raise OptionError(f"n_components is a number or 'auto', found {n_components!r}.")
        factors = fitted.factors
        mean = samples.x.mean(0, dtype=float) if method.centred else 0.0
        error = relative_error(samples.x, factors.activations, factors.loadings, mean)
    n = len(factors.loadings)
    if not factors.converged:
        ctx.note(f"{method.name} had not converged when its steps ran out; components may still move")
    quality = {"explained variance": fitted.explained, "relative error": error}
    if fitted.stable is not None:
        quality["stability"] = float(fitted.stable.mean())
        quality |= {f"stability of component {i}": float(value) for i, value in enumerate(fitted.stable)}
    return NeuronFactors(
        title=f"{method.name}: {n} component{'s' if n > 1 else ''} of {samples.place}",
        values=LabelledArray(factors.activations.T, ("component", "token"), {"token": samples.labels}),
        loadings=LabelledArray(factors.loadings, ("component", "unit"), {"unit": samples.units}),
        tokens=samples.tokens,
        quality=quality | (extra or {}) | curve,
    )


def _fitted(ctx: Context, x: np.ndarray, method: _Method, n: int, n_seeds: int) -> _Fitted:
    """Fit `n` components, and again from other starts."""
    from ecco_factorization.matching import explained_variance, stability

    factors = method.fit(x, n, ctx.seed if method.seeded else None)
    used = int((method.known_by(factors).any(1) & factors.activations.any(0)).sum())
    if used < n:
        raise ValueError(f"Only {used} of {n} components are in use, the others are zero: ask for {used}.")
    mean = x.mean(0, dtype=float) if method.centred else 0.0
    explained = explained_variance(x, factors.activations, factors.loadings, mean)
    if not n_seeds:
        return _Fitted(factors, explained, None)
    seeds = [int(seed) for seed in ctx.rng.integers(1, 2**31, size=n_seeds)]
    others = [method.known_by(method.fit(x, n, seed)) for seed in ctx.progress(seeds)]
    return _Fitted(factors, explained, stability(method.known_by(factors), others, signed=method.signed))


def _chosen(
    ctx: Context, x: np.ndarray, method: _Method, n_seeds: int, choose: str, max_components: int
) -> tuple[_Fitted, dict[str, float]]:
    """Try 1, 2 … components; return the fit of the best number and the curve."""
    from ecco_factorization.matching import elbow
    from ecco_factorization.results import tried

    if max_components < 3:
        raise OptionError(f"auto compares 3 numbers of components at least, found max_components={max_components}.")
    if choose == "stability" and not n_seeds:
        raise OptionError("choose='stability' compares fits from several starts: take n_seeds of 2 or more.")
    most = min(max_components, len(x) - method.centred, x.shape[1])
    fits: list[_Fitted] = []
    for n in ctx.progress(range(1, most + 1)):
        try:
            fits.append(_fitted(ctx, x, method, n, n_seeds if choose == "stability" else 0))
        except ValueError:  # the activations have fewer directions
            if len(fits) < 3:
                raise
            break
    if len(fits) < 3:
        raise OptionError(f"auto compares 3 numbers of components at least; {len(x)} tokens allow {len(fits)}.")
    curve = {tried("explained variance", n): fit.explained for n, fit in enumerate(fits, 1)}
    if choose == "stability":
        means = [float(fit.stable.mean()) for fit in fits if fit.stable is not None]
        curve |= {tried("stability", n): mean for n, mean in enumerate(means, 1)}
        n = max(range(2, len(fits) + 1), key=lambda n: means[n - 1])
        return fits[n - 1], curve
    n = max(1, elbow([0.0, *(fit.explained for fit in fits)]))  # none explain nothing
    return _fitted(ctx, x, method, n, n_seeds), curve
