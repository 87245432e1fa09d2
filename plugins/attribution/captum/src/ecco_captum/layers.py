"""What the tokens' states inside of the model contributed: Captum's layer methods at a site of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ecco_captum.gradients import Aggregation, aggregate, input_x_gradient, integrated
from ecco_captum.groups import MOST_STEPS, ROWS_AT_ONCE, Within, check_range, in_groups, together
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ecco_captum.groups import Attributions
    from ecco_core import ScoreModule

_PASSED = 1e-3  # of the change: closer than that, all that matters passes a site


def layer_integrated_gradients(
    ctx: Context,
    *,
    layer: int | None = None,
    site: str = "resid_post",
    n_steps: int = 50,
    baseline: str = "auto",
    aggregation: Aggregation = "sum",
) -> TokenScores:
    """Gradients along the straight path from a layer's activations at a baseline to those of the run, times the way.

    What goes into the model stays the run's own; only what passes at the site moves. The scores of a target add up to
    its score here minus its score with the baseline's activations at the site, up to the completeness error.

    Options:
        layer: from 0; -1 is the last; the middle one if left out.
        site: where in the layer: resid_post, resid_pre, mlp_post, attn_out, z.
        n_steps: points on the path; more of them make the completeness error smaller.
        baseline: the input whose activations are absence: auto, mean (of all embeddings), zero, sample, a token's text,
            or a text of as many tokens.
        aggregation: signed sum over the site's units, l2 norm, dot product with the activation, or the largest.
    """
    from ecco_captum.baselines import baseline as baseline_of

    check_range("n_steps", n_steps, 2, MOST_STEPS)
    start, described = baseline_of(baseline, ctx)

    def explain(inside: Inside) -> TokenScores:
        return integrated(inside.ctx, (inside.passing(start),), described, n_steps, aggregation)

    return _at_layer(ctx, layer, site, aggregation, explain)


def layer_gradient_x_activation(
    ctx: Context, *, layer: int | None = None, site: str = "resid_post", aggregation: Aggregation = "sum"
) -> TokenScores:
    """Activation times gradient: how the score would change to first order without what passes at a site.

    Options:
        layer: from 0; -1 is the last; the middle one if left out.
        site: where in the layer: resid_post, resid_pre, mlp_post, attn_out, z.
        aggregation: signed sum over the site's units, l2 norm, dot product with the activation, or the largest.
    """
    return _at_layer(
        ctx, layer, site, aggregation, lambda inside: input_x_gradient(inside.ctx, aggregation=aggregation)
    )


def layer_deep_lift(
    ctx: Context,
    *,
    layer: int | None = None,
    site: str = "resid_post",
    baseline: str = "auto",
    aggregation: Aggregation = "sum",
    allow_degenerate: bool = False,
) -> TokenScores:
    """Differences of a layer's activations from those at a baseline, followed from the score back to the layer.

    What goes into the model stays the run's own. The rules are those of deep_lift, so that the scores of a target add
    up to its score here minus its score with the baseline's activations at the site.

    Options:
        layer: from 0; -1 is the last; the middle one if left out.
        site: where in the layer: resid_post, resid_pre, mlp_post, attn_out, z.
        baseline: the input whose activations are absence: auto, mean (of all embeddings), zero, sample, a token's text,
            or a text of as many tokens.
        aggregation: signed sum over the site's units, l2 norm, dot product with the activation, or the largest.
        allow_degenerate: run it also on a model with functions that have no rule, where it is the plain gradient; the
            result says so.
    """
    from ecco_captum.baselines import baseline as baseline_of
    from ecco_captum.deep_lift import _lifted

    start, described = baseline_of(baseline, ctx)

    def explain(inside: Inside) -> TokenScores:
        return _lifted(inside.ctx, [(inside.passing(start),)], described, aggregation, allow_degenerate)

    return _at_layer(ctx, layer, site, aggregation, explain)


@in_groups(ROWS_AT_ONCE)
def layer_conductance(
    ctx: Context,
    *,
    layer: int | None = None,
    site: str = "resid_post",
    n_steps: int = 50,
    baseline: str = "auto",
    aggregation: Aggregation = "sum",
) -> TokenScores:
    """How much of the change from a baseline to the run flows through what passes at a site.

    Along the straight path of the embeddings, each step's change of activations times the mean of the gradients at its
    two ends. Where all that matters passes the site (resid_post, resid_pre of a model of one stack), the scores of a
    target add up to its score here minus its score at the baseline, up to the completeness error; other sites have
    their share of it.

    Options:
        layer: from 0; -1 is the last; the middle one if left out.
        site: where in the layer: resid_post, resid_pre, mlp_post, attn_out, z.
        n_steps: steps on the path; more of them make the completeness error smaller.
        baseline: where the path starts: auto, mean (of all embeddings), zero, sample, a token's text, or a text of as
            many tokens.
        aggregation: signed sum over the site's units, l2 norm, dot product with the activation, or the largest.
    """
    import torch

    from ecco_captum.baselines import baseline as baseline_of

    check_range("n_steps", n_steps, 2, MOST_STEPS)
    start, described = baseline_of(baseline, ctx)
    alphas = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)

    def explain(inside: Inside) -> TokenScores:
        passed = torch.cat([inside.passing(points) for _, points in inside.path(start, alphas)])
        steps = torch.diff(passed.float() if passed.element_size() < 4 else passed, dim=0) / 2
        none = torch.zeros_like(steps[:1])
        ways = torch.cat([none, steps]) + torch.cat([steps, none])
        total: Any = 0.0
        for some, points in ctx.progress(inside.path(start, alphas), inside.chunks(alphas)):
            gradients = inside.at(points).values_and_gradients(passed[some])[1][0]
            total = total + torch.einsum("nstu,stu->ntu", gradients.to(ways.dtype), ways[some])
        return inside.result((total,), aggregation, baseline=described, change=inside.change(start))

    return _at_layer(ctx, layer, site, aggregation, explain)


@in_groups(ROWS_AT_ONCE)
def internal_influence(
    ctx: Context,
    *,
    layer: int | None = None,
    site: str = "resid_post",
    n_steps: int = 50,
    baseline: str = "auto",
    aggregation: Aggregation = "l2",
) -> TokenScores:
    """Gradient with respect to what passes at a site, averaged along the path from a baseline to the run.

    Options:
        layer: from 0; -1 is the last; the middle one if left out.
        site: where in the layer: resid_post, resid_pre, mlp_post, attn_out, z.
        n_steps: points on the path of the embeddings.
        baseline: where the path starts: auto, mean (of all embeddings), zero, sample, a token's text, or a text of as
            many tokens.
        aggregation: l2 norm over the site's units, signed sum, dot product with the activation, or the largest.
    """
    import torch

    from ecco_captum.baselines import baseline as baseline_of

    check_range("n_steps", n_steps, 2, MOST_STEPS)
    start, described = baseline_of(baseline, ctx)
    alphas, weights = nodes(n_steps)

    def explain(inside: Inside) -> TokenScores:
        total: Any = 0.0
        for some, points in ctx.progress(inside.path(start, alphas), inside.chunks(alphas)):
            gradients = inside.at(points).values_and_gradients(inside.passing(points))[1][0]
            wide = torch.promote_types(gradients.dtype, torch.float32)
            total = total + torch.einsum("nstu,s->ntu", gradients.to(wide), weights[some].to(gradients.device, wide))
        unit = "units of the target per unit of activation"
        return inside.result((total,), aggregation, baseline=described, unit=unit)

    return _at_layer(ctx, layer, site, aggregation, explain)


def nodes(n_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points from 0 to 1 and weights ``(step,)`` of Gauss-Legendre integration."""
    import numpy as np
    import torch

    at, weights = np.polynomial.legendre.leggauss(n_steps)
    return torch.from_numpy((at + 1) / 2), torch.from_numpy(weights / 2)


class Inside:
    """Targets as functions of what passes at a site of a layer, in the explained stack.

    Attributes:
        outer: the targets as functions of the embeddings. `ctx`: a context whose scores are functions of what passes.
    """

    def __init__(self, ctx: Context, outer: ScoreModule, place: Any) -> None:
        self.outer, self._place, self._here = outer, place, ctx.scores.inputs()
        self.ctx = Within(ctx, self.at(self._here))

    def at(self, embeddings: Attributions) -> ScoreModule:
        """The targets as a function of what passes, when these embeddings go in."""
        return self.outer.inside(self._place, self.outer.transcript.stack, *embeddings)

    def passing(self, embeddings: Attributions) -> torch.Tensor:
        """What passes, ``(batch, token, unit)``, when these embeddings go in."""
        return self.outer.reached(self._place, *embeddings)

    def masked(self, embeddings: Sequence[torch.Tensor]) -> Attributions:
        """The same embeddings, with the mask in every place where the targets' predictions are made with it."""
        import torch

        stack, mask = self.outer.transcript.stack, self.ctx.run.lm.tokenizer.mask_token_id
        if self.outer.transcript.task != "masked":
            return tuple(embeddings)
        ids = self.outer.ids[stack].clone()
        ids[[target.position for target in self.outer.targets]] = mask
        return (torch.where((ids == mask)[:, None], self.outer.embed(ids[:1] * 0 + mask), embeddings[0]),)

    def path(self, start: Attributions, alphas: torch.Tensor) -> Iterator[tuple[slice, Attributions]]:
        """Yield some of the steps, and their points ``(step, token, unit)`` per stack between `start` and the run."""
        each = self._each()
        for first in range(0, len(alphas), each):
            some = slice(first, first + each)
            yield (
                some,
                tuple(
                    there.to(here) + alphas[some, None, None].to(here) * (here - there.to(here))
                    for here, there in zip(self._here, start)
                ),
            )

    def chunks(self, alphas: torch.Tensor) -> int:
        """How many times `path` yields."""
        return -(-len(alphas) // self._each())

    def _each(self) -> int:
        """Steps in one forward; classifiers without a padding token take one."""
        alone = self.outer.transcript.task == "sequence_classification"
        return 1 if alone else max(1, ROWS_AT_ONCE // self.outer.n_sources)

    def change(self, start: Attributions) -> np.ndarray | None:
        """Scores of the run minus those at a baseline ``(target,)``, where all that matters passes; else None."""
        import numpy as np
        import torch

        with torch.no_grad():
            here = self.outer(*self._here).double().cpu().numpy()[0]
            there = self.outer(*start).double().cpu().numpy()[0]
            moved = self.ctx.scores(self.passing(start)).double().cpu().numpy()[0]
        return here - there if np.abs(there - moved).max() <= _PASSED * np.abs(here - there).max() else None

    def result(self, attributions: Attributions, aggregation: Aggregation, **options: Any) -> TokenScores:
        """The result of attributions ``(target, token, unit)``."""
        import torch

        with torch.no_grad():
            value = self.outer(*self._here).double().cpu().numpy()[0]
        values, signed = aggregate(self.ctx, attributions, aggregation)
        return self.ctx.scores.result(
            values,
            target_values=value,
            aggregation=aggregation,
            signed=signed,
            total=attributions[0].double().sum((1, 2)).cpu().numpy(),
            features=self.ctx.features,
            **options,
        )


def each_inside(ctx: Context, layer: int | None, site: str) -> Iterator[Inside]:
    """Yield the targets as functions of what passes at a site; those of a masked language model one by one.

    Raises:
        OptionError: no such layer or site, or values do not pass it one after the other.
    """
    scores = ctx.scores
    stack = scores.transcript.stack
    place = ctx.run.lm.architecture.place(site, layer_of(ctx, layer), stack)
    if place.side not in ("input", "output") or site in ("logits", "embedding"):
        raise OptionError(
            f"The site {site!r} has no layer whose units could be explained: take resid_post, mlp_post or attn_out."
        )
    apart = scores.transcript.task == "masked" and len(scores.targets) > 1  # each is masked when it is explained
    for outer in [scores.only([target]) for target in scores.targets] if apart else [scores]:
        yield Inside(ctx, outer, place)


def layer_of(ctx: Context, layer: int | None) -> int:
    """The number from 0 of a layer; of the middle one, or the one before the middle, if None."""
    if layer is None:
        return (len(ctx.run.resolve_layers(None)) - 1) // 2
    return ctx.run.resolve_layers(layer)[0]


def _at_layer(
    ctx: Context, layer: int | None, site: str, aggregation: Aggregation, explain: Callable[[Inside], TokenScores]
) -> TokenScores:
    """The result of a method that explains targets as functions of what passes; it says where that is."""
    number, last = layer_of(ctx, layer), ctx.run.resolve_layers(-1)[0]
    found = together([explain(inside) for inside in each_inside(ctx, number, site)])
    if (number, site) == (last, "resid_post"):
        ctx.note("no layer after this one mixes tokens: only the states that the head reads count")
    how = {"sum": "sum", "l2": "L2 norm", "max": "largest", "dot": "product with the activation, summed"}[aggregation]
    where = f"{site} in layer {number}"
    unit = f"{found.unit} ({how} over the units of {where})"
    return attrs.evolve(found, title=f"{ctx.spec.name.replace('_', ' ')}: {where}", aggregation="", unit=unit)
