"""Methods that change how gradients pass through ReLUs and convolutions, which few transformers have: gated."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ecco_captum.gradients import Aggregation, aggregate
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    pass


def guided_backprop(ctx: Context, *, aggregation: Aggregation = "l2", allow_degenerate: bool = False) -> TokenScores:
    """Gradients that pass a ReLU only where both the signal and the gradient are positive.

    Options:
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
        allow_degenerate: run it also on a model without ReLUs, where it is the plain gradient; the result says so.
    """
    return _through_relus(ctx, "GuidedBackprop", aggregation, allow_degenerate)


def deconvolution(ctx: Context, *, aggregation: Aggregation = "l2", allow_degenerate: bool = False) -> TokenScores:
    """Gradients that pass a ReLU only where the gradient is positive, whatever the signal was.

    Options:
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
        allow_degenerate: run it also on a model without ReLUs, where it is the plain gradient; the result says so.
    """
    return _through_relus(ctx, "Deconvolution", aggregation, allow_degenerate)


def _through_relus(ctx: Context, name: str, aggregation: Aggregation, allow_degenerate: bool) -> TokenScores:
    import captum.attr
    import torch
    from torch import nn

    from ecco_captum.gradients import _values
    from ecco_captum.shared_graph import SharedGraph

    relus = sum(isinstance(module, nn.ReLU) for module in ctx.scores.model.modules())
    gate(
        ctx,
        relus > 0,
        f"a {type(ctx.scores.model).__name__} has no ReLU, so {name} would be the plain gradient",
        "saliency",
        allow_degenerate,
    )
    graph = SharedGraph(ctx.scores)
    explainer: Any = getattr(captum.attr, name)(ctx.scores)
    explainer.gradient_func = graph
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks")
        attributions = explainer.attribute(graph.expanded(ctx.scores.inputs()))
    values, signed = aggregate(ctx, tuple(part.detach() for part in attributions), aggregation)
    return ctx.scores.result(
        values,
        target_values=_values(graph),
        aggregation=aggregation,
        signed=signed,
        unit="units of the target per unit of embedding",
        features=ctx.features,
    )


def guided_grad_cam(ctx: Context) -> TokenScores:
    """Guided gradients weighted by how much a convolution's channels matter: needs a convolution over the tokens."""
    raise OptionError(
        f"guided_grad_cam weights the channels of an image's convolution; a {type(ctx.scores.model).__name__} has none "
        "over places of a text, and a block's positions would be taken for channels. Take deep_lift or "
        "input_x_gradient."
    )


def lrp(ctx: Context) -> TokenScores:
    """Relevance passed back layer by layer, by Captum's rules: says which modules have none."""
    from collections import Counter

    from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS

    known = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS)
    leaves = [m for m in ctx.scores.model.modules() if not list(m.children())]
    without = Counter(type(m).__name__ for m in leaves if type(m) not in known)
    told = ", ".join(f"{name} ({count})" for name, count in without.most_common())
    raise OptionError(
        f"Captum's LRP has no rule for {told} of this {type(ctx.scores.model).__name__}, and none for what is computed "
        "between modules, such as attention. Take deep_lift, whose rules cover these, or input_x_gradient."
    )


def gate(ctx: Context, there: bool, reason: str, instead: str, allow: bool) -> None:
    """Refuse a method that would silently be another one, or mark its result.

    Raises:
        OptionError: what the method needs is not there, and it is not allowed to run without.
    """
    if there:
        return
    if not allow:
        raise OptionError(
            f"{ctx.spec.name} is refused: {reason}. Take {instead}, or pass allow_degenerate=True to run it all the "
            "same."
        )
    ctx.note(f"DEGENERATE, as allowed: {reason}")
