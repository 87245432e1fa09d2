"""The gradient methods: Captum's Saliency, InputXGradient and IntegratedGradients on a run's targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ecco_captum.groups import MOST_STEPS, ROWS_AT_ONCE, Within, check_range, in_groups
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ecco_captum.groups import Attributions
    from ecco_captum.shared_graph import SharedGraph

Aggregation = Literal["sum", "l2", "dot", "max"]
Path = Literal["gausslegendre", "riemann_trapezoid", "riemann_right", "riemann_left", "riemann_middle"]
Precision = Literal["model", "bf16"]
_CANCELLED = 1e-4  # of the gradient's norm
_FEW_RANKS = 3  # scores whose ranks are compared
_FEW_STEPS = 10  # of a path, to compare precisions on


@in_groups()
def saliency(
    ctx: Context, *, aggregation: Aggregation = "l2", absolute: bool = False, precision: Precision = "model"
) -> TokenScores:
    """Gradient of the score with respect to each token's embedding.

    Options:
        aggregation: l2, the gradient's norm; its units' signed sum; dot product with the embedding; or the largest.
        absolute: take each unit's absolute value first, as Captum's own default does.
        precision: model, the weights' own; or bf16, faster and rounded, compared with the model's on one target.
    """
    from captum.attr import Saliency

    value, attributions = _attribute(ctx, Saliency, aggregation, precision, abs=absolute)
    values, signed = aggregate(ctx, attributions, aggregation)
    if signed and abs(values).max() < _CANCELLED * aggregate(ctx, attributions, "l2")[0].max():
        ctx.note(
            "the gradient's units cancel in each token's sum (a LayerNorm ignores what is added to all units alike): "
            "these signed scores are rounding errors; take aggregation='l2', or input_x_gradient"
        )
    return ctx.scores.result(
        values,
        target_values=value,
        aggregation=aggregation,
        signed=signed and not (absolute and aggregation != "dot"),
        features=ctx.features,
        unit="units of the target per unit of embedding",
    )


@in_groups()
def input_x_gradient(ctx: Context, *, aggregation: Aggregation = "sum", precision: Precision = "model") -> TokenScores:
    """Embedding times gradient: how the score would change to first order without the embedding.

    Options:
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
        precision: model, the weights' own; or bf16, faster and rounded, compared with the model's on one target.
    """
    from captum.attr import InputXGradient

    value, attributions = _attribute(ctx, InputXGradient, aggregation, precision)
    values, signed = aggregate(ctx, attributions, aggregation)
    return ctx.scores.result(values, target_values=value, aggregation=aggregation, signed=signed, features=ctx.features)


def integrated_gradients(
    ctx: Context,
    *,
    n_steps: int = 50,
    baseline: str = "auto",
    aggregation: Aggregation = "sum",
    method: Path = "gausslegendre",
    internal_batch_size: int | None = None,
    precision: Precision = "model",
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
        precision: model, the weights' own; or bf16, faster and rounded, compared with the model's on one target.
    """
    from ecco_captum.baselines import baseline as baseline_of

    check_range("n_steps", n_steps, 2, MOST_STEPS)
    check_range("internal_batch_size", n_steps if internal_batch_size is None else internal_batch_size, 1)
    start, described = baseline_of(baseline, ctx)
    return integrated(ctx, start, described, n_steps, aggregation, method, internal_batch_size, precision)


@in_groups(ROWS_AT_ONCE)
def integrated(
    ctx: Context,
    start: Attributions,
    described: str,
    n_steps: int,
    aggregation: Aggregation,
    method: Path = "gausslegendre",
    internal_batch_size: int | None = None,
    precision: Precision = "model",
) -> TokenScores:
    """Captum's IntegratedGradients from a baseline, per stack ``(1, token, unit)`` and `described` in words."""
    from captum.attr import IntegratedGradients

    at_once = internal_batch_size or max(1, ROWS_AT_ONCE // ctx.scores.n_sources)
    _, attributions = _attribute(
        ctx,
        IntegratedGradients,
        aggregation,
        precision,
        baselines=start,
        n_steps=n_steps,
        method=method,
        internal_batch_size=at_once,
    )
    here, there = _both_ends(ctx.scores, start)
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


def aggregate(ctx: Context, attributions: Attributions, how: Aggregation) -> tuple[np.ndarray, bool]:
    """Reduce ``(target, token, unit)`` per stack to ``(target, feature)``; also say whether the result is signed.

    ``sum`` adds up units and the feature's tokens, ``dot`` the units times the embedding's; ``l2`` is the norm of all
    of them together, ``max`` the one of largest magnitude, with its sign. A method's scores are what it aggregates
    first; noise_tunnel averages there.
    """
    import numpy as np
    import torch

    attributions = ctx.average(attributions) if isinstance(ctx, Within) else attributions
    embeddings = ctx.scores.inputs() if how == "dot" else attributions
    found = []
    for stack, part, embedded in zip(ctx.scores.stacks, attributions, embeddings):
        if how == "l2":
            each = torch.linalg.vector_norm(part, dim=-1, dtype=torch.float64).square()
        elif how == "max":
            each = part.gather(-1, part.abs().argmax(-1, keepdim=True))[..., 0].double()
        elif how == "dot":
            each = torch.stack([(one.double() * embedded[0].double()).sum(-1) for one in part])
        else:
            each = part.sum(-1, dtype=torch.float64)
        tokens = each.cpu().numpy()
        for feature in ctx.features:
            if feature.stack == stack:
                own = tokens[:, list(feature.positions)]
                if how == "max":
                    found.append(np.take_along_axis(own, np.abs(own).argmax(1)[:, None], 1)[:, 0])
                else:
                    found.append(np.sqrt(own.sum(1)) if how == "l2" else own.sum(1))
    return np.stack(found, axis=1), how != "l2"


def _attribute(
    ctx: Context, explain_class: Any, how: Aggregation, precision: Precision, **options: Any
) -> tuple[np.ndarray, Attributions]:
    """Run one of Captum's gradient classes; returns scores ``(target,)`` and attributions ``(target, token, unit)``.

    Args:
        how: the aggregation by which precisions are compared. `options`: of the class's ``attribute``.
    """
    import torch

    from ecco_captum.shared_graph import SharedGraph

    scores = ctx.scores
    if precision == "model":
        return _explained(SharedGraph(scores), explain_class, options)
    own = scores.inputs()[0].dtype
    if own != torch.float32:
        raise OptionError(f"precision='bf16' rounds what is float32; this model is {str(own)[6:]}, so leave it out.")
    order = sorted(scores.targets, key=lambda target: target.upto or target.position)
    order = [target for target in order if (target.upto or target.position) >= _FEW_RANKS] or order
    middle = order[len(order) // 2]
    one = Within(ctx, scores.only([middle]), averaged=lambda same: same)  # before: a divergence is from the model's own
    n_steps, told = options.get("n_steps", 0), any(note.startswith("bfloat16") for note in ctx.notes)
    if n_steps:
        value, attributions = _explained(SharedGraph(scores, rounded=True), explain_class, options)
        few = {**options, "n_steps": min(_FEW_STEPS, n_steps)}
        each = () if told else (False, True)
        both = [_explained(SharedGraph(one.scores, rounded=rounded), explain_class, few)[1] for rounded in each]
    else:
        here = scores.targets.index(middle)
        graph = SharedGraph(scores, rounded=True, compared=here)
        value, attributions = _explained(graph, explain_class, options)
        explainer = explain_class(one.scores)
        explainer.gradient_func = lambda *_, **__: graph.exact
        exactly = explainer.attribute(tuple(tensor.detach().requires_grad_() for tensor in scores.inputs()), **options)
        both = [tuple(part.detach() for part in exactly), tuple(part[here : here + 1] for part in attributions)]
    if not told:
        steps = f" at {few['n_steps']} steps" if n_steps else ""
        ranks = _rank_correlation(*(aggregate(one, each, how)[0][0] for each in both))
        ctx.note(f"bfloat16: rank correlation with float32 {ranks}, of the target at {middle.position}{steps}")
    return value, attributions


def _rank_correlation(exact: np.ndarray, rough: np.ndarray) -> str:
    """Spearman's, of two arrays of scores ``(feature,)``."""
    from scipy.stats import spearmanr

    seen = (exact != 0) | (rough != 0)  # of what comes after a target, both are 0
    if seen.sum() < _FEW_RANKS or not (exact[seen].std() > 0 and rough[seen].std() > 0):
        return "not known, too few scores differ"
    return f"{spearmanr(exact[seen], rough[seen]).statistic:.4f}"


def _explained(graph: SharedGraph, explain_class: Any, options: dict[str, Any]) -> tuple[np.ndarray, Attributions]:
    scores, n = graph.scores, len(graph.scores.targets)
    if "baselines" in options:
        at_once = min(options["internal_batch_size"], options["n_steps"]) * n
        starts = tuple(tensor.expand(n, -1, -1) for tensor in options["baselines"])
        options = options | {"baselines": starts, "internal_batch_size": at_once}
    explainer = explain_class(scores)
    explainer.gradient_func = graph
    attributions = explainer.attribute(graph.expanded(scores.inputs()), **options)
    values: Any = graph.values
    return values.double().cpu().numpy(), tuple(part.detach() for part in attributions)


def _both_ends(scores: Any, start: tuple[torch.Tensor, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(target,)`` at the run and at the baseline."""
    import torch

    with torch.no_grad():
        both = (torch.cat([here, there.to(here.dtype)]) for here, there in zip(scores.inputs(), start))
        here, there = scores(*both).double().cpu().numpy()
    return here, there
