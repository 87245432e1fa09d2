"""What led to the activation of one neuron, and what led to a prediction through it: Captum's neuron methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ecco_captum.gradients import Aggregation, aggregate, integrated_gradients, saliency
from ecco_captum.groups import MOST_STEPS, ROWS_AT_ONCE, Within, check_range, in_groups
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import torch

    from ecco_captum.groups import Attributions
    from ecco_captum.layers import Inside
    from ecco_core import ScoreModule


def neuron_gradient(
    ctx: Context, *, unit: int, layer: int, site: str = "mlp_post", aggregation: Aggregation = "l2"
) -> TokenScores:
    """Gradient of a neuron's activation with respect to each token's embedding.

    The targets are positions of tokens: the neuron's activation there is explained; the last token's by default.

    Options:
        unit: the neuron, from 0; -1 is the last.
        layer: from 0; -1 is the last.
        site: where in the layer: mlp_post (the neurons of the MLP), mlp_out, attn_out, resid_post, z.
        aggregation: l2, the gradient's norm; its units' signed sum; dot product with the embedding; or the largest.
    """
    return saliency(of_neuron(ctx, unit, layer, site), aggregation=aggregation)


def neuron_integrated_gradients(
    ctx: Context,
    *,
    unit: int,
    layer: int,
    site: str = "mlp_post",
    n_steps: int = 50,
    baseline: str = "auto",
    aggregation: Aggregation = "sum",
) -> TokenScores:
    """Gradients of a neuron's activation along the straight path from a baseline to the run, times the distance.

    The targets are positions of tokens: the neuron's activation there is explained; the last token's by default. The
    scores of each add up to the activation minus that at the baseline, up to the completeness error.

    Options:
        unit: the neuron, from 0; -1 is the last.
        layer: from 0; -1 is the last.
        site: where in the layer: mlp_post (the neurons of the MLP), mlp_out, attn_out, resid_post, z.
        n_steps: points on the path; more of them make the completeness error smaller.
        baseline: what absence is: auto, mean (of all embeddings), zero, sample, a token's text, or a text of as many
            tokens.
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
    """
    within = of_neuron(ctx, unit, layer, site)
    return integrated_gradients(within, n_steps=n_steps, baseline=baseline, aggregation=aggregation)


@in_groups(ROWS_AT_ONCE)
def neuron_conductance(
    ctx: Context,
    *,
    unit: int,
    layer: int,
    site: str = "mlp_post",
    position: int | None = None,
    n_steps: int = 50,
    baseline: str = "auto",
    aggregation: Aggregation = "sum",
) -> TokenScores:
    """What each token contributed to a prediction through one neuron.

    The targets are predictions, as everywhere. Integrated gradients whose gradient goes through the neuron only: at
    each point of the path that of the score by the neuron, times that of the neuron by the embeddings. The scores of a
    target add up to the neuron's share of the layer's conductance.

    Options:
        unit: the neuron, from 0; -1 is the last.
        layer: from 0; -1 is the last.
        site: where in the layer: mlp_post (the neurons of the MLP), mlp_out, attn_out, resid_post, z.
        position: the token at which the neuron is meant; at all of them together if left out.
        n_steps: points on the path.
        baseline: where the path starts: auto, mean (of all embeddings), zero, sample, a token's text, or a text of as
            many tokens.
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
    """
    import torch

    from ecco_captum.baselines import baseline as baseline_of
    from ecco_captum.layers import each_inside, layer_of, nodes

    check_range("n_steps", n_steps, 2, MOST_STEPS)
    if any(change.site == site for change in ctx.run.under):
        raise OptionError(f"neuron_conductance at {site}, which an intervention changes, would count it twice.")
    scores, here = ctx.scores, ctx.scores.inputs()
    start, described = baseline_of(baseline, ctx)
    n = len(scores.ids[scores.transcript.stack])
    places = range(n) if position is None else ctx.run.resolve_positions(position)
    if places[0] >= n:
        raise OptionError(f"No target sees position {position}: the neuron is at one from 0 to {n - 1}.")
    number = layer_of(ctx, layer)
    neuron = ctx.run.scores(list(places), neuron=(site, number, unit))
    unit, (alphas, weights) = neuron.targets[0].token_id, nodes(n_steps)
    found = []
    for inside in each_inside(ctx, number, site):
        total: list[Any] = [0.0] * len(here)
        for some, points in ctx.progress(inside.path(start, alphas), inside.chunks(alphas)):
            gradients = inside.at(points).values_and_gradients(inside.passing(points))[1][0]
            through = gradients[:, :, list(places), unit] * weights[some, None].to(gradients)
            total = [sums + more for sums, more in zip(total, _through(neuron, inside, points, through))]
        found.append([sums * (there - base.to(there)) for sums, there, base in zip(total, here, start)])
    values, signed = aggregate(ctx, tuple(torch.cat(of_stack) for of_stack in zip(*found)), aggregation)
    with torch.no_grad():
        value = scores(*here).double().cpu().numpy()[0]
    result = scores.result(
        values, target_values=value, aggregation=aggregation, signed=signed, baseline=described, features=ctx.features
    )
    first = neuron.targets[0]
    where = "" if position is None else f" at position {first.position} {first.text!r}"
    return attrs.evolve(result, title=f"{ctx.spec.name.replace('_', ' ')}: {first.score}{where}")


def of_neuron(ctx: Context, unit: int, layer: int, site: str) -> Within:
    """A context whose scores are a neuron's activations at the positions that the targets name.

    Raises:
        OptionError: a contrast or a score is asked for, which only predictions have; or no such unit, layer or site.
    """
    if ctx.options["contrast"] is not None or ctx.options["score"] != "logprob":
        raise OptionError("A neuron's activation is explained, which has no contrast and no score; leave them out.")
    return Within(ctx, ctx.run.scores(ctx.options["targets"], neuron=(site, layer, unit)))


def _through(neuron: ScoreModule, inside: Inside, points: Attributions, weights: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of weighted sums of a neuron's activations, summed over steps: per stack ``(target, token, unit)``.

    Args:
        points: embeddings, per stack ``(step, token, unit)``. `weights`: ``(target, step, place)``.
    """
    import torch

    leaves = [tensor.detach().requires_grad_() for tensor in points]
    with torch.enable_grad():
        active = neuron(*inside.masked(leaves))
    options: Any = {"retain_graph": True, "materialize_grads": True}
    each = [torch.autograd.grad(active, leaves, weight.to(active), **options) for weight in weights]
    return [torch.stack([gradient.double().sum(0) for gradient in of_stack]) for of_stack in zip(*each)]
