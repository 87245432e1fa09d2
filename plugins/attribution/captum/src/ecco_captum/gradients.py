"""The gradient methods: Captum's Saliency, InputXGradient and IntegratedGradients on a run's targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import numpy as np
    import torch

Aggregation = Literal["sum", "l2", "dot", "max"]
Path = Literal["gausslegendre", "riemann_trapezoid", "riemann_right", "riemann_left", "riemann_middle"]
_CANCELLED = 1e-4  # of the gradient's norm
_ROWS_AT_ONCE = 800  # steps × tokens in one forward: matrix products run at full speed, memory stays small


def saliency(ctx: Context, *, aggregation: Aggregation = "l2", absolute: bool = False) -> TokenScores:
    """Gradient of the score with respect to each token's embedding.

    Options:
        aggregation: l2, the gradient's norm; its units' signed sum; dot product with the embedding; or the largest.
        absolute: take each unit's absolute value first, as Captum's own default does.
    """
    from captum.attr import Saliency

    graph, attributions = _attribute(ctx, Saliency, abs=absolute)
    values, signed = aggregate(ctx, attributions, aggregation)
    if signed and abs(values).max() < _CANCELLED * aggregate(ctx, attributions, "l2")[0].max():
        ctx.note(
            "the gradient's units cancel in each token's sum (a LayerNorm ignores what is added to all units alike): "
            "these signed scores are rounding errors; take aggregation='l2', or input_x_gradient"
        )
    return ctx.scores.result(
        values,
        target_values=_values(graph),
        aggregation=aggregation,
        signed=signed and not (absolute and aggregation != "dot"),
        features=ctx.features,
        unit="units of the target per unit of embedding",
    )


def input_x_gradient(ctx: Context, *, aggregation: Aggregation = "sum") -> TokenScores:
    """Embedding times gradient: how the score would change to first order without the embedding.

    Options:
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
    """
    from captum.attr import InputXGradient

    graph, attributions = _attribute(ctx, InputXGradient)
    values, signed = aggregate(ctx, attributions, aggregation)
    return ctx.scores.result(
        values, target_values=_values(graph), aggregation=aggregation, signed=signed, features=ctx.features
    )


def integrated_gradients(
    ctx: Context,
    *,
    n_steps: int = 50,
    baseline: str = "auto",
    aggregation: Aggregation = "sum",
    method: Path = "gausslegendre",
    internal_batch_size: int | None = None,
) -> TokenScores:
    """Gradients along the straight path from a baseline to the run, times the distance.

    The scores of a target add up to its score here minus its score at the baseline, up to the completeness error.

    Options:
        n_steps: points on the path; more of them make the completeness error smaller.
        baseline: what absence is: auto, mean (of all embeddings), zero, sample, a token's text, or a text of as many
            tokens.
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
        method: how the integral is approximated.
        internal_batch_size: points on the path in one forward; chosen to fit if left out.
    """
    from captum.attr import IntegratedGradients

    from ecco_captum.baselines import baseline as baseline_of

    if n_steps < 2:
        raise OptionError(f"n_steps is at least 2, found {n_steps}.")
    if internal_batch_size is not None and internal_batch_size < 1:
        raise OptionError(f"internal_batch_size is at least 1, found {internal_batch_size}.")
    scores = ctx.scores
    start, described = baseline_of(baseline, ctx)
    n, steps = len(scores.targets), internal_batch_size or max(1, _ROWS_AT_ONCE // scores.n_sources)
    _, attributions = _attribute(
        ctx,
        IntegratedGradients,
        baselines=tuple(tensor.expand(n, -1, -1) for tensor in start),
        n_steps=n_steps,
        method=method,
        internal_batch_size=min(steps, n_steps) * n,
    )
    here, there = _both_ends(scores, start)
    values, signed = aggregate(ctx, attributions, aggregation)
    total = values if aggregation == "sum" else aggregate(ctx, attributions, "sum")[0]
    return ctx.scores.result(
        values,
        target_values=here,
        aggregation=aggregation,
        signed=signed,
        change=here - there,
        total=total.sum(1),
        baseline=described,
        features=ctx.features,
    )


def aggregate(ctx: Context, attributions: tuple[torch.Tensor, ...], how: Aggregation) -> tuple[np.ndarray, bool]:
    """Reduce ``(target, token, unit)`` per stack to ``(target, feature)``; also say whether the result is signed.

    ``sum`` adds up units and the feature's tokens, ``dot`` the units times the embedding's; ``l2`` is the norm of all
    of them together, ``max`` the one of largest magnitude, with its sign.
    """
    import numpy as np

    found = []
    for stack, part, embedded in zip(ctx.scores.stacks, attributions, ctx.scores.inputs()):
        wide = part.double() * embedded.double() if how == "dot" else part.double()
        if how == "l2":
            each = wide.square().sum(-1)
        elif how == "max":
            each = wide.gather(-1, wide.abs().argmax(-1, keepdim=True))[..., 0]
        else:
            each = wide.sum(-1)
        tokens = each.cpu().numpy()
        for feature in ctx.features:
            if feature.stack == stack:
                own = tokens[:, list(feature.positions)]
                if how == "max":
                    found.append(np.take_along_axis(own, np.abs(own).argmax(1)[:, None], 1)[:, 0])
                else:
                    found.append(np.sqrt(own.sum(1)) if how == "l2" else own.sum(1))
    return np.stack(found, axis=1), how != "l2"


def _attribute(ctx: Context, explain_class: Any, **options: Any) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """Run one of Captum's gradient classes on all targets; returns its graph and, per stack, attributions."""
    from ecco_captum.shared_graph import SharedGraph

    graph = SharedGraph(ctx.scores)
    explainer = explain_class(ctx.scores)
    explainer.gradient_func = graph
    attributions = explainer.attribute(graph.expanded(ctx.scores.inputs()), **options)
    return graph, tuple(part.detach() for part in attributions)


def _values(graph: Any) -> np.ndarray:
    return graph.values.double().cpu().numpy()  # type: ignore[no-any-return]


def _both_ends(scores: Any, start: tuple[torch.Tensor, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(target,)`` at the run and at the baseline."""
    import torch

    with torch.no_grad():
        both = (torch.cat([here, there.to(here.dtype)]) for here, there in zip(scores.inputs(), start))
        here, there = scores(*both).double().cpu().numpy()
    return here, there
