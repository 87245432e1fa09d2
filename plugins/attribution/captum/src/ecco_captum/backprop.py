"""Methods that change how gradients pass through ReLUs and convolutions, which few transformers have: gated."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ecco_captum.gradients import Aggregation, aggregate
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import torch


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
    gate(ctx, *_without_relus(ctx, name), "saliency", allow_degenerate)
    graph, attributions = _guided(ctx, name)
    return _result(ctx, graph, attributions, aggregation)


def _result(ctx: Context, graph: Any, attributions: Any, aggregation: Aggregation, of: str = "") -> TokenScores:
    values, signed = aggregate(ctx, attributions, aggregation)
    return ctx.scores.result(
        values,
        target_values=graph.values.double().cpu().numpy(),
        aggregation=aggregation,
        signed=signed,
        unit=f"{of}units of the target per unit of embedding",
        features=ctx.features,
    )


def _without_relus(ctx: Context, name: str) -> tuple[bool, str]:
    """Whether a method that changes ReLUs has some here, and what it would be without."""
    from torch import nn

    there = any(isinstance(module, nn.ReLU) for module in ctx.scores.model.modules())
    return there, f"a {type(ctx.scores.model).__name__} has no ReLU, so {name} would be the plain gradient"


def _guided(ctx: Context, name: str) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """Captum's gradients through ReLUs: their graph and, per stack, ``(target, token, unit)``."""
    import captum.attr
    import torch

    from ecco_captum.shared_graph import SharedGraph

    span = next((t for t in ctx.scores.targets if t.upto is not None), None)
    if span is not None:
        raise OptionError(
            f"Guided gradients of several tokens do not add up: explain the span {span.position}:{span.upto} token by "
            "token, or by saliency."
        )

    graph = SharedGraph(ctx.scores)
    explainer: Any = getattr(captum.attr, name)(ctx.scores)
    explainer.gradient_func = graph
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks")
        attributions = explainer.attribute(graph.expanded(ctx.scores.inputs()))
    return graph, tuple(part.detach() for part in attributions)


def guided_grad_cam(
    ctx: Context, *, layer: int | None = None, aggregation: Aggregation = "l2", allow_degenerate: bool = False
) -> TokenScores:
    """Guided gradients weighted by Grad-CAM: by how much the channels of a convolution that are active there matter.

    A model without a convolution over tokens has no channels that stand for the same thing in every place; when it is
    allowed all the same, a block's units are taken for channels: each is weighted by its gradient's mean over the
    tokens that the target sees, and what is negative in their weighted sum is left out.

    Options:
        layer: the convolution, counted over the model's; without convolutions, the block. The last convolution, or the
            last block but one (after the last, only the target's own token has a gradient) if left out.
        aggregation: of the guided gradient: signed sum over units, l2 norm, dot product with the embedding, or largest.
        allow_degenerate: run it also on a model without ReLUs or convolutions; the result says so.
    """
    kind = type(ctx.scores.model).__name__
    if len(ctx.scores.stacks) > 1:
        raise OptionError(
            f"guided_grad_cam weights the places of one stack; a {kind} has {' and '.join(ctx.scores.stacks)}. Take "
            "deep_lift or input_x_gradient."
        )
    convolutions = _convolutions(ctx)
    relus, without_relus = _without_relus(ctx, "its guided gradient")
    without_convolutions = (
        f"a {kind} calls no convolution over tokens as a module, so a block's units would be taken for channels"
    )
    reasons = ([] if relus else [without_relus]) + ([] if convolutions else [without_convolutions])
    gate(ctx, not reasons, ", and ".join(reasons), "deep_lift or input_x_gradient", allow_degenerate)
    graph, attributions = _guided(ctx, "GuidedBackprop")
    cam = _of_convolution(ctx, convolutions, layer) if convolutions else _of_block(ctx, layer)
    weighted = attributions[0] * cam[..., None].to(attributions[0])
    return _result(ctx, graph, (weighted,), aggregation, of="Grad-CAM times ")


def _convolutions(ctx: Context) -> list[Any]:
    """The convolutions over tokens in the order of their calls; some models use the weights only."""
    import contextlib

    import torch
    from torch import nn

    called: dict[Any, None] = {}
    with contextlib.ExitStack() as scope, torch.no_grad():
        for module in ctx.scores.model.modules():
            if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
                handle = module.register_forward_hook(lambda conv, *_: called.setdefault(conv))
                scope.callback(handle.remove)
        ctx.scores(*ctx.scores.inputs())
    return list(called)


def _of_convolution(ctx: Context, convolutions: list[Any], layer: int | None) -> torch.Tensor:
    """Captum's Grad-CAM of a convolution's channels at the tokens: ``(target, token)``."""
    import torch
    from captum.attr import LayerGradCam

    number = -1 if layer is None else layer
    if not -len(convolutions) <= number < len(convolutions):
        raise OptionError(f"layer is one of {len(convolutions)} convolutions from 0, -1 the last; found {layer}.")
    explainer: Any = LayerGradCam(ctx.scores, convolutions[number])
    here = ctx.scores.inputs()
    with torch.enable_grad():
        each = [
            explainer.attribute(here, target=target, relu_attributions=True)[:, 0]
            for target in range(len(ctx.scores.targets))
        ]
    return torch.cat(each)[:, : here[0].shape[1]].detach()  # behind the tokens is its padding


def _of_block(ctx: Context, layer: int | None) -> torch.Tensor:
    """Grad-CAM with a block's units as channels and tokens as places: ``(target, token)``."""
    import torch

    from ecco_captum.layers import each_inside

    last = len(ctx.run.resolve_layers(None)) - 1
    (number,) = ctx.run.resolve_layers(max(last - 1, 0) if layer is None else layer)
    found = []
    for scores in (inside.ctx.scores for inside in each_inside(ctx, number, "resid_post")):
        (active,) = scores.inputs()
        _, (gradients,) = scores.values_and_gradients(active)
        causal = ctx.scores.transcript.task == "causal"
        seen = [(t.upto or t.position + 1) - 1 if causal else active.shape[1] for t in scores.targets]
        weights = gradients[:, 0].sum(1) / torch.tensor(seen).to(gradients)[:, None]
        found.append(torch.einsum("nu,tu->nt", weights, active[0]).relu())
    return torch.cat(found)


def captum_lrp(ctx: Context) -> TokenScores:
    """Relevance passed back layer by layer, by Captum's rules: says which modules have none."""
    from collections import Counter

    from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS

    known = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS)
    leaves = [m for m in ctx.scores.model.modules() if not list(m.children())]
    without = Counter(type(m).__name__ for m in leaves if type(m) not in known)
    told = ", ".join(f"{name} ({count})" for name, count in without.most_common())
    raise OptionError(
        f"Captum's LRP has no rule for {told} of this {type(ctx.scores.model).__name__}, and none for what is computed "
        "between modules, such as attention. Take lrp (pip install ecco-lrp) or deep_lift, whose rules cover these."
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
