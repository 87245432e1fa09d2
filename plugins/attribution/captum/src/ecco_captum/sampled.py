"""Gradients averaged over random inputs: GradientShap, and noise around other methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ecco_captum.gradients import Aggregation, aggregate
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import torch

_ROWS_AT_ONCE = 800


def gradient_shap(
    ctx: Context, *, n_samples: int = 25, baseline: str = "sample", noise: float = 0.0, aggregation: Aggregation = "sum"
) -> TokenScores:
    """Gradients at random points between random baselines and the run, times the distance, averaged.

    Options:
        n_samples: how many baselines and points.
        baseline: what is drawn from: sample (tokens of the vocabulary), or one fixed one: auto, mean, zero, a text.
        noise: standard deviation of noise added to the run, in shares of the embeddings' own.
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
    """
    import numpy as np
    import torch

    from ecco_captum.baselines import baseline as baseline_of

    _check(n_samples, noise)
    here = ctx.scores.inputs()
    starts, described = zip(*(baseline_of(baseline, ctx) for _ in range(n_samples)))
    points, changes = [], []
    for start in starts:
        at = float(ctx.rng.random())
        noisy = _noisy(ctx, here, noise)
        points.append(tuple(s + at * (n - s) for s, n in zip(start, noisy)))
        changes.append(tuple(n - s for s, n in zip(start, noisy)))
    gradients = _gradients(ctx, points)
    mean = tuple(
        sum(g[n] * change[stack] for n, change in enumerate(changes)) / n_samples for stack, g in enumerate(gradients)
    )
    with torch.no_grad():
        value = ctx.scores(*here).double().cpu().numpy()[0]
        ends = np.mean([ctx.scores(*start).double().cpu().numpy()[0] for start in starts], axis=0)
    values, signed = aggregate(ctx, mean, aggregation)
    return ctx.scores.result(
        values,
        target_values=value,
        aggregation=aggregation,
        signed=signed,
        change=value - ends,
        total=aggregate(ctx, mean, "sum")[0].sum(1),
        baseline=described[0],
        features=ctx.features,
    )


def noise_tunnel(
    ctx: Context,
    *,
    method: Literal["saliency", "input_x_gradient"] = "saliency",
    kind: Literal["smoothgrad", "smoothgrad_sq", "vargrad"] = "smoothgrad",
    n_samples: int = 25,
    noise: float = 0.1,
    aggregation: Aggregation | Literal["auto"] = "auto",
) -> TokenScores:
    """A gradient method averaged over noisy copies of the run (SmoothGrad).

    Options:
        method: what is averaged: saliency (the gradient) or input_x_gradient.
        kind: smoothgrad, the mean; smoothgrad_sq, the mean of squares; vargrad, the variance.
        n_samples: how many noisy copies.
        noise: standard deviation of the noise, in shares of the embeddings' own.
        aggregation: over the embedding's units: sum, l2, dot, max; auto is l2 for saliency, sum for input_x_gradient.
    """
    import torch

    _check(n_samples, noise)
    here = ctx.scores.inputs()
    points = [_noisy(ctx, here, noise) for _ in range(n_samples)]
    gradients = _gradients(ctx, points)
    if method == "input_x_gradient":
        noisy = [torch.cat([point[stack] for point in points])[:, None] for stack in range(len(here))]
        gradients = tuple(g * x for g, x in zip(gradients, noisy))
    reduce = {"smoothgrad": lambda g: g.mean(0), "smoothgrad_sq": lambda g: g.square().mean(0),
              "vargrad": lambda g: g.var(0, unbiased=False)}[kind]  # fmt: skip
    how: Aggregation = ("l2" if method == "saliency" else "sum") if aggregation == "auto" else aggregation
    values, signed = aggregate(ctx, tuple(map(reduce, gradients)), how)
    with torch.no_grad():
        value = ctx.scores(*here).double().cpu().numpy()[0]
    per = " per unit of embedding" if method == "saliency" else ""
    return ctx.scores.result(
        values,
        target_values=value,
        aggregation=how,
        signed=signed and kind == "smoothgrad",
        unit=f"units of the target{per}" + ("" if kind == "smoothgrad" else ", squared"),
        features=ctx.features,
    )


def _check(n_samples: int, noise: float) -> None:
    if n_samples < 1 or noise < 0:
        raise OptionError(f"n_samples is at least 1 and noise at least 0, found {n_samples} and {noise}.")


def _noisy(ctx: Context, here: tuple[torch.Tensor, ...], noise: float) -> tuple[torch.Tensor, ...]:
    import torch

    def drawn(x: torch.Tensor) -> torch.Tensor:
        normal = torch.from_numpy(ctx.rng.standard_normal(tuple(x.shape))).to(x)
        return x + noise * x.std() * normal

    return tuple(map(drawn, here)) if noise else here


def _gradients(ctx: Context, points: list[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Gradients of all targets at several inputs: per stack ``(point, target, token, unit)``."""
    import torch

    each = max(1, _ROWS_AT_ONCE // ctx.scores.n_sources)
    found = []
    for start in ctx.progress(range(0, len(points), each)):
        some = points[start : start + each]
        _, gradients = ctx.scores.values_and_gradients(*(torch.cat(stack) for stack in zip(*some)))
        found.append([g.transpose(0, 1) for g in gradients])
    return tuple(torch.cat(of_stack) for of_stack in zip(*found))
