"""The analyses: layer by layer similarity within a model, or between two."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ecco_core import Context, Grid, LabelledArray, OptionError
from ecco_similarity.sides import Side, sides_of

if TYPE_CHECKING:
    import numpy as np

    from ecco_similarity.arrays import Measure

_MOST = 2_000_000_000  # bytes of matrices of samples by samples


def cca(
    ctx: Context, *, bootstrap: int = 100, confidence: float = 0.95, permutations: int = 20, stack: str = ""
) -> Grid:
    """Mean canonical correlation of layers; needs more tokens than both layers have dimensions together.

    Options:
        bootstrap: random subsets of the tokens for the interval; 0 for no interval.
        confidence: probability that the interval covers the similarity of all text like this.
        permutations: random orders of the tokens for what chance gives; 0 for none.
        stack: encoder or decoder; the one whose tokens count if left out.
    """
    return _grid(ctx, "cca", "CCA", bootstrap, confidence, permutations, stack)


def svcca(
    ctx: Context,
    *,
    n_components: int | None = None,
    variance: float = 0.99,
    bootstrap: int = 100,
    confidence: float = 0.95,
    permutations: int = 20,
    stack: str = "",
) -> Grid:
    """Mean canonical correlation of the leading principal components of layers.

    Options:
        n_components: how many components of each layer; by variance if left out.
        variance: keep the fewest components that have this share of a layer's variance.
        bootstrap: random subsets of the tokens for the interval; 0 for no interval.
        confidence: probability that the interval covers the similarity of all text like this.
        permutations: random orders of the tokens for what chance gives; 0 for none.
        stack: encoder or decoder; the one whose tokens count if left out.
    """
    kept = f"{variance:.4g} of the variance" if n_components is None else f"{n_components} components"
    options = {"n_components": n_components, "variance": variance}
    return _grid(ctx, "svcca", f"SVCCA ({kept})", bootstrap, confidence, permutations, stack, options)


def pwcca(
    ctx: Context, *, bootstrap: int = 100, confidence: float = 0.95, permutations: int = 20, stack: str = ""
) -> Grid:
    """Canonical correlations of layers, weighted by how much of the row's layer each accounts for.

    Options:
        bootstrap: random subsets of the tokens for the interval; 0 for no interval.
        confidence: probability that the interval covers the similarity of all text like this.
        permutations: random orders of the tokens for what chance gives; 0 for none.
        stack: encoder or decoder; the one whose tokens count if left out.
    """
    return _grid(ctx, "pwcca", "PWCCA (weights of the row's layer)", bootstrap, confidence, permutations, stack)


def cka(
    ctx: Context,
    *,
    debiased: bool = True,
    kernel: Literal["linear", "rbf"] = "linear",
    sigma: float = 1.0,
    bootstrap: int = 100,
    confidence: float = 0.95,
    permutations: int = 20,
    stack: str = "",
) -> Grid:
    """Centred kernel alignment of layers.

    Options:
        debiased: about 0 for independent layers; else few tokens score high whatever they are.
        kernel: linear, or rbf for a Gaussian one, to which near tokens matter most.
        sigma: width of the rbf kernel, in median distances between tokens.
        bootstrap: random subsets of the tokens for the interval; 0 for no interval.
        confidence: probability that the interval covers the similarity of all text like this.
        permutations: random orders of the tokens for what chance gives; 0 for none.
        stack: encoder or decoder; the one whose tokens count if left out.
    """
    what = f"{'Debiased' if debiased else 'Biased'} {'linear' if kernel == 'linear' else 'RBF'} CKA"
    options = {"debiased": debiased, "kernel": kernel, "sigma": sigma}
    return _grid(ctx, "cka", what, bootstrap, confidence, permutations, stack, options)


def procrustes(
    ctx: Context, *, bootstrap: int = 100, confidence: float = 0.95, permutations: int = 20, stack: str = ""
) -> Grid:
    """How well a layer lies on another after the best rotation, reflection and scale.

    Options:
        bootstrap: random subsets of the tokens for the interval; 0 for no interval.
        confidence: probability that the interval covers the similarity of all text like this.
        permutations: random orders of the tokens for what chance gives; 0 for none.
        stack: encoder or decoder; the one whose tokens count if left out.
    """
    return _grid(ctx, "procrustes", "Procrustes similarity", bootstrap, confidence, permutations, stack)


def rsa(
    ctx: Context,
    *,
    distance: Literal["correlation", "euclidean", "cosine"] = "correlation",
    bootstrap: int = 100,
    confidence: float = 0.95,
    permutations: int = 20,
    stack: str = "",
) -> Grid:
    """Spearman correlation of the distances between tokens in two layers.

    Options:
        distance: between two tokens' states, after the mean state is subtracted.
        bootstrap: random subsets of the tokens for the interval; 0 for no interval.
        confidence: probability that the interval covers the similarity of all text like this.
        permutations: random orders of the tokens for what chance gives; 0 for none.
        stack: encoder or decoder; the one whose tokens count if left out.
    """
    what = f"RSA ({distance} distances, Spearman)"
    return _grid(ctx, "rsa", what, bootstrap, confidence, permutations, stack, {"distance": distance})


def knn_overlap(
    ctx: Context,
    *,
    k: int = 10,
    distance: Literal["correlation", "euclidean", "cosine"] = "cosine",
    bootstrap: int = 100,
    confidence: float = 0.95,
    permutations: int = 20,
    stack: str = "",
) -> Grid:
    """Share of a token's nearest neighbours that two layers have in common.

    Options:
        k: how many neighbours of each token.
        distance: between two tokens' states, after the mean state is subtracted.
        bootstrap: random subsets of the tokens for the interval; 0 for no interval.
        confidence: probability that the interval covers the similarity of all text like this.
        permutations: random orders of the tokens for what chance gives; 0 for none.
        stack: encoder or decoder; the one whose tokens count if left out.
    """
    what = f"Overlap of {k} nearest neighbours ({distance})"
    options = {"k": k, "distance": distance}
    return _grid(ctx, "knn_overlap", what, bootstrap, confidence, permutations, stack, options)


def _grid(
    ctx: Context,
    name: str,
    what: str,
    bootstrap: int,
    confidence: float,
    permutations: int,
    stack: str,
    options: dict[str, Any] | None = None,
) -> Grid:
    from ecco_similarity import measures

    if permutations < 0 or bootstrap < 0:
        raise OptionError(f"bootstrap and permutations are numbers from 0, found {bootstrap} and {permutations}.")
    with _said():
        of = measures.measure(name, **(options or {}))
        if bootstrap:
            measures.check_draws(bootstrap, confidence)
    sides = _checked(sides_of(ctx, stack))
    n = len(sides[0].states[0])
    if name == "rsa" or (options or {}).get("kernel") == "rbf":
        _check_memory(n, 2 * sum(len(side.states) for side in sides) + 2)  # of each layer, and while shuffled
    elif name == "knn_overlap":
        _check_memory(n, 4)  # of one layer at a time
    prepared = [_prepared(of, side) for side in sides]
    with _said():
        values = of.grid(*prepared)
    low, high, null = None, None, None
    if bootstrap:
        draws = ctx.progress(range(bootstrap), bootstrap, "interval")
        with _said(f"For the interval, drawn from 80 % of {n} tokens: ", " Or leave it out, with bootstrap=0."):
            grids = measures.resampled(of, *(side.states for side in sides), draws=draws, rng=ctx.rng)
        low, high = measures.bounds(values, grids, n, confidence, of.lowest)
        ctx.note(f"low and high: {confidence:.4g} interval over tokens, from {bootstrap} draws of 80 % of them.")
    if permutations:
        orders = ctx.progress(range(permutations), permutations, "null")
        found = measures.shuffled(of, prepared[0], prepared[-1], orders, ctx.rng, n).mean(0)
        null = (found + found.T) / 2 if len(sides) == 1 and of.symmetric else found
        ctx.note(f"null: what chance gives, the mean of {permutations} random orders of the tokens.")
    return _result(ctx, what, sides, values, low, high, null)


def _result(ctx: Context, what: str, sides: Sequence[Side], *arrays: np.ndarray | None) -> Grid:
    dims = ("layer", "other layer") if len(sides) == 1 else tuple(f"layer of {side.name}" for side in sides)
    coords = dict(zip(dims, (sides[0].layers, sides[-1].layers)))
    values, low, high, null = (None if found is None else LabelledArray(found, dims, coords) for found in arrays)
    assert values is not None
    where = f"within {sides[0].name}" if len(sides) == 1 else f"between {sides[0].name} and {sides[1].name}"
    title = f"{what} of {ctx.site} {where}, {len(sides[0].states[0])} tokens"
    return Grid(title=title, values=values, low=low, high=high, null=null)


@contextlib.contextmanager
def _said(where: str = "", fix: str = "") -> Iterator[None]:
    """Raise what a measure says about its samples as an error of ours."""
    try:
        yield
    except ValueError as error:
        raise OptionError(f"{where}{error}{fix}") from error


def _labels(side: Side) -> list[str]:
    return [f"layer {layer} of {side.name}" if isinstance(layer, int) else str(layer) for layer in side.layers]


def _checked(sides: Sequence[Side]) -> list[Side]:
    from ecco_similarity.arrays import checked

    with _said():
        states = [x for side in sides for x in side.states]
        found = iter(checked(states, [label for side in sides for label in _labels(side)]))
    return [dataclasses.replace(side, states=[next(found) for _ in side.states]) for side in sides]


def _prepared(of: Measure, side: Side) -> list[Any]:
    found = []
    for label, x in zip(_labels(side), side.states):
        with _said(f"At {label}: "):
            found.append(of.prepare(x))
    return found


def _check_memory(n: int, matrices: int) -> None:
    needed = 8 * n**2 * matrices
    if needed > _MOST:
        raise OptionError(
            f"{matrices} matrices of {n} x {n} tokens need {needed / 1e9:.1f} GB, more than {_MOST / 1e9:.0f}; name "
            "fewer layers or positions."
        )
