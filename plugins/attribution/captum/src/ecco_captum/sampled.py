"""Gradients averaged over random inputs: GradientShap, and noise around other methods."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ecco_captum.gradients import Aggregation, aggregate, integrated_gradients, saliency
from ecco_captum.groups import MOST_SAMPLES, ROWS_AT_ONCE, Within, check_range, in_groups
from ecco_captum.neurons import of_neuron
from ecco_core import Context, OptionError, TokenScores, did_you_mean

if TYPE_CHECKING:
    import torch

    from ecco_captum.groups import Attributions
    from ecco_core import ScoreModule

Kind = Literal["smoothgrad", "smoothgrad_sq", "vargrad"]
_MOST_NOISE = 100  # times the embeddings' own spread: a model in half precision would overflow soon after


@in_groups(ROWS_AT_ONCE)
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
    mean: Any = [0.0] * len(here)
    for gradients, change in zip(_gradients(ctx, points), changes):
        mean = [total + g.double() * c.double() / n_samples for total, g, c in zip(mean, gradients, change)]
    with torch.no_grad():
        value = ctx.scores(*here).double().cpu().numpy()[0]
        ends = np.mean([ctx.scores(*start).double().cpu().numpy()[0] for start in starts], axis=0)
    values, signed = aggregate(ctx, tuple(mean), aggregation)
    return ctx.scores.result(
        values,
        target_values=value,
        aggregation=aggregation,
        signed=signed,
        change=value - ends,
        total=aggregate(ctx, tuple(mean), "sum")[0].sum(1),
        baseline=described[0],
        features=ctx.features,
    )


def noise_tunnel(
    ctx: Context,
    *,
    method: str = "saliency",
    kind: Kind = "smoothgrad",
    n_samples: int = 25,
    noise: float = 0.1,
    aggregation: Aggregation | Literal["auto"] = "auto",
    baseline: str | None = None,
    n_steps: int | None = None,
    layer: int | None = None,
    site: str | None = None,
    unit: int | None = None,
    allow_degenerate: bool | None = None,
) -> TokenScores:
    """A method averaged over noisy copies of the run's embeddings (SmoothGrad).

    What the method says of each unit is averaged and then aggregated; where it takes features away, what it says of
    each feature is averaged. It runs once per noisy copy, with the defaults of its options but those below; saliency
    and input_x_gradient take several copies in one forward.

    Options:
        method: what is averaged: any other method of ecco-captum, such as saliency, ig, deep_lift, layer_conductance.
        kind: smoothgrad, the mean; smoothgrad_sq, the mean of squares; vargrad, the variance.
        n_samples: how many noisy copies.
        noise: standard deviation of the noise, in shares of the embeddings' own.
        aggregation: over units: sum, l2, dot, max; auto is the method's own.
        baseline: the method's; if left out its own default, as with all that follow.
        n_steps: the method's points on its path.
        layer: where a method looks that explains from inside.
        site: where in the layer.
        unit: the neuron of a method that explains one.
        allow_degenerate: run a method also where it is refused; the result says so.
    """
    _check(n_samples, noise)
    own = {"baseline": baseline, "n_steps": n_steps, "layer": layer, "site": site, "unit": unit}
    own |= {"allow_degenerate": allow_degenerate, "aggregation": None if aggregation == "auto" else aggregation}
    name, function, options = _method(method, {option: value for option, value in own.items() if value is not None})
    if name in ("neuron_gradient", "neuron_integrated_gradients"):
        ctx = of_neuron(ctx, *(options.pop(option) for option in ("unit", "layer", "site")))
        function = inspect.unwrap(saliency if name == "neuron_gradient" else integrated_gradients)
    return _averaged(ctx, name=name, function=function, options=options, kind=kind, n_samples=n_samples, noise=noise)


@in_groups(ROWS_AT_ONCE)
def _averaged(
    ctx: Context, *, name: str, function: Any, options: dict[str, Any], kind: Kind, n_samples: int, noise: float
) -> TokenScores:
    """What a method says of the run, with the average of what it says of noisy copies in its scores' place."""
    import torch

    scores, here = ctx.scores, ctx.scores.inputs()
    points = [_noisy(ctx, here, noise) for _ in range(n_samples)]
    samples: Iterable[list[Attributions]]
    if name in ("saliency", "neuron_gradient", "input_x_gradient"):
        gradients = zip(_gradients(ctx, points), points)
        samples = ([tuple(map(torch.mul, g, point)) if name == "input_x_gradient" else g] for g, point in gradients)
    else:
        samples = (_said(function, Within(ctx, _moved(scores, p), name), options) for p in ctx.progress(points))
    moments: list[_Moments] = []  # of each that the method says: some explain targets one by one
    for said in samples:
        moments = moments or [_Moments() for _ in said]
        for moment, attributions in zip(moments, said, strict=True):
            moment.add(attributions)
    averages = iter([moment.of(kind) for moment in moments])
    found: TokenScores = function(Within(ctx, scores, name, lambda _: next(averages)), **options)
    values = found.values
    for (each,) in averages:  # nothing was aggregated
        values = attrs.evolve(values, values=each.numpy())
    return attrs.evolve(
        found,
        title=f"noise tunnel around {found.title or name.replace('_', ' ')}",
        values=values,
        signed=found.signed and kind == "smoothgrad",
        unit=found.unit + ("" if kind == "smoothgrad" else ", squared"),
        completeness=None,
        change=None,
    )


def _method(given: str, options: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """Name and function of a method by its name or alias, and its options: those given, and the others' defaults.

    Raises:
        OptionError: no such method, an option that it does not have, or one that it needs is not given.
    """
    import importlib

    from ecco_captum import _METHODS

    known = {each: (name, module) for name, module, *_, aliases in _METHODS for each in (name, *aliases)}
    known = {each: found for each, found in known.items() if found[0] != "noise_tunnel"}
    if given not in known:
        near = did_you_mean(given, known)
        raise OptionError(f"noise_tunnel runs any other method of ecco-captum, found {given!r}.{near}")
    name, module = known[given]
    function = inspect.unwrap(getattr(importlib.import_module(f"ecco_captum.{module}"), name))
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    wrong = [option for option in options if option not in [p.name for p in own]]
    missing = [p.name for p in own if p.default is p.empty and p.name not in options]
    if wrong or missing:
        what = f"has no option {wrong[0]!r}" if wrong else f"needs the option {missing[0]!r}"
        raise OptionError(f"noise_tunnel runs {name}, which {what}.")
    return name, function, {p.name: p.default for p in own} | options


def _said(function: Any, ctx: Within, options: dict[str, Any]) -> list[Attributions]:
    """What a method aggregates; its scores, if it aggregates nothing."""
    import torch

    said: list[Attributions] = []

    def keep(attributions: Attributions) -> Attributions:
        said.append(attributions)
        return attributions

    within = Within(ctx, ctx.scores, averaged=keep)
    within.notes = []  # they are about this copy
    result = function(within, **options)
    return said or [(torch.tensor(result.values.values),)]


def _moved(scores: ScoreModule, point: Attributions) -> ScoreModule:
    """The same targets, of a run whose embeddings are other ones."""
    import torch

    if scores.score == "kl":
        with torch.no_grad():
            scores(*scores.inputs())  # a divergence is from the prediction at the run's own input
    moved = copy.copy(scores)
    seen = tuple(tensor[:, : len(scores.ids[stack])] for stack, tensor in zip(scores.stacks, point))
    changed: dict[str, Any] = {
        "inputs": lambda: seen,
        "only": lambda targets: _moved(scores.only(targets), point),
        "inside": lambda place, stack, *embeddings: scores.inside(place, stack, *(embeddings or seen)),
        # what the model keeps of the run's own first tokens, to go on from, is not of these
        "forward": lambda *embeddings, same=0: scores.forward(*embeddings),
    }
    for name, function in changed.items():
        setattr(moved, name, function)
    return moved


class _Moments:
    """Running mean and variance of attributions, per stack ``(target, token, unit)``, in float64."""

    def __init__(self) -> None:
        self.n, self.means, self.spreads = 0, list[Any](), list[Any]()

    def add(self, attributions: Attributions) -> None:
        """Count one more sample."""
        self.n += 1
        self.means = self.means or [0.0] * len(attributions)
        self.spreads = self.spreads or [0.0] * len(attributions)
        for i, each in enumerate(attributions):
            off = each.double() - self.means[i]
            self.means[i] = self.means[i] + off / self.n
            self.spreads[i] = self.spreads[i] + off * (each.double() - self.means[i])

    def of(self, kind: Kind) -> Attributions:
        """The mean, the mean of squares, or the variance."""
        variances = [spread / self.n for spread in self.spreads]
        squares = [mean**2 + variance for mean, variance in zip(self.means, variances)]
        return tuple({"smoothgrad": self.means, "smoothgrad_sq": squares, "vargrad": variances}[kind])


def _check(n_samples: int, noise: float) -> None:
    if n_samples < 1 or noise < 0:
        raise OptionError(f"n_samples is at least 1 and noise at least 0, found {n_samples} and {noise}.")
    check_range("n_samples", n_samples, 1, MOST_SAMPLES)
    check_range("noise", noise, 0, _MOST_NOISE)


def _noisy(ctx: Context, here: Attributions, noise: float) -> Attributions:
    import torch

    def drawn(x: torch.Tensor) -> torch.Tensor:
        normal = torch.from_numpy(ctx.rng.standard_normal(tuple(x.shape))).to(x)
        return x + noise * x.std() * normal

    return tuple(map(drawn, here)) if noise else here


def _gradients(ctx: Context, points: list[Attributions]) -> Iterator[Attributions]:
    """Yield the gradients of all targets at each of several inputs: per stack ``(target, token, unit)``."""
    import torch

    each = max(1, ROWS_AT_ONCE // ctx.scores.n_sources)
    for start in ctx.progress(range(0, len(points), each)):
        some = points[start : start + each]
        _, gradients = ctx.scores.values_and_gradients(*(torch.cat(stack) for stack in zip(*some)))
        for n in range(len(some)):
            yield tuple(g[:, n] for g in gradients)
