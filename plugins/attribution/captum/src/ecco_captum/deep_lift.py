"""DeepLift and DeepLiftShap with rules for transformers, which Captum's own classes lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ecco_captum.gradients import Aggregation, aggregate
from ecco_captum.groups import in_groups
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import torch

_FAR = 0.05  # of the change: a completeness error above asks for its reason


def deep_lift(
    ctx: Context, *, baseline: str = "auto", aggregation: Aggregation = "sum", allow_degenerate: bool = False
) -> TokenScores:
    """Differences from a baseline, followed backwards through slopes between baseline and run instead of derivatives.

    Captum's DeepLift knows activations that are modules of torch's own; here activations of every kind, products
    (attention, gated layers), softmax and norms have rules, so that scores add up to the change in score.

    Options:
        baseline: what absence is: auto, mean (of all embeddings), zero, sample, a token's text, or a text of as many
            tokens.
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
        allow_degenerate: run it also on a model with functions that have no rule, where it is the plain gradient; the
            result says so.
    """
    from ecco_captum.baselines import baseline as baseline_of

    start, described = baseline_of(baseline, ctx)
    return _lifted(ctx, [start], described, aggregation, allow_degenerate)


def deep_lift_shap(
    ctx: Context,
    *,
    n_samples: int = 8,
    baseline: str = "sample",
    aggregation: Aggregation = "sum",
    allow_degenerate: bool = False,
) -> TokenScores:
    """DeepLift averaged over several baselines, drawn at random.

    Options:
        n_samples: how many baselines.
        baseline: what to draw: sample (tokens of the vocabulary).
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
        allow_degenerate: run it also on a model with functions that have no rule, where it is the plain gradient; the
            result says so.
    """
    from ecco_captum.baselines import baseline as baseline_of

    if n_samples < 1:
        raise OptionError(f"n_samples is at least 1, found {n_samples}.")
    if baseline != "sample":
        raise OptionError(f"deep_lift_shap draws its baselines: baseline is 'sample', found {baseline!r}.")
    starts, described = zip(*(baseline_of(baseline, ctx) for _ in range(n_samples)))
    return _lifted(ctx, list(starts), f"{described[0]}, {n_samples} times", aggregation, allow_degenerate)


@in_groups()
def _lifted(
    ctx: Context, starts: list[tuple[torch.Tensor, ...]], described: str, aggregation: Aggregation, allowed: bool
) -> TokenScores:
    """The mean over baselines of DeepLift's contributions."""
    import numpy as np

    from ecco_captum.backprop import gate
    from ecco_captum.gradients import _both_ends

    found = [_contributions(ctx, start) for start in ctx.progress(starts)]
    mean = tuple(sum(parts) / len(found) for parts in zip(*(attributions for attributions, _ in found)))
    here, there = (np.mean(ends, axis=0) for ends in zip(*(_both_ends(ctx.scores, start) for start in starts)))
    values, signed = aggregate(ctx, mean, aggregation)
    total = aggregate(ctx, mean, "sum")[0].sum(1)
    missed = float((np.abs(here - there - total) / np.maximum(np.abs(here - there), 1e-12)).max())
    chosen, otherwise = (sum(counts) for counts in zip(*(counts for _, counts in found)))
    if otherwise:
        ctx.note(
            f"{otherwise} of {chosen} choices of this model (of experts, of an order) are others at the baseline: "
            "DeepLift keeps the run's on both sides, and the completeness error is what choosing otherwise changes"
        )
    if missed > _FAR:
        names = _without_rule(ctx, starts[0])
        gate(
            ctx,
            not names,
            f"no rule for {', '.join(sorted(names))} of this {type(ctx.scores.model).__name__} is known, where it "
            f"would be the plain gradient; its scores miss up to {missed:.0%} of the change",
            "integrated_gradients",
            allowed,
        )
        if not otherwise and not names:
            ctx.note(f"these scores miss up to {missed:.0%} of the change that they should add up to")
    return ctx.scores.result(
        values,
        target_values=here,
        aggregation=aggregation,
        signed=signed,
        change=here - there,
        total=total,
        baseline=described,
        features=ctx.features,
    )


def _contributions(ctx: Context, start: tuple[torch.Tensor, ...]) -> tuple[tuple[torch.Tensor, ...], tuple[int, int]]:
    """Per stack ``(target, token, unit)``, and the number of choices, and of those that the baseline changes."""
    import torch

    from ecco_captum.activations import each_activation
    from ecco_captum.rules import Tape, Tracked, activated, lifted, plain

    scores, here = ctx.scores, ctx.scores.inputs()
    run_part: Any = scores.run_part
    tapes: list[Tape] = []

    def both(embeddings: Sequence[torch.Tensor], places: torch.Tensor, *, split: bool) -> Any:
        def one(*outer: torch.Tensor) -> Any:
            return run_part((*outer, *embeddings[len(start) :]), places, split=split and tapes[-1].here)

        if isinstance(embeddings[0], Tracked):  # it begins again by itself
            return tapes[-1].between(one, embeddings[: len(start)], start)
        tapes.append(Tape())
        return lifted(one, embeddings[: len(start)], start, tapes[-1])

    with torch.no_grad():
        scores(*here)  # a divergence from the run's own prediction needs it first, without its baseline
    scores.run_part = both  # type: ignore[assignment, method-assign]
    try:
        with each_activation(scores.model, activated):
            _, gradients = scores.values_and_gradients(*here)
    finally:
        del scores.run_part
    parts = tuple(plain(g)[:, 0] * (x - x_0.to(x)) for g, x, x_0 in zip(gradients, here, start))
    return parts, (sum(tape.made for tape in tapes), sum(tape.changed for tape in tapes))


def _without_rule(ctx: Context, start: tuple[torch.Tensor, ...]) -> set[str]:
    """Names of the model's functions that are not linear between baseline and run, and have no rule."""
    import torch

    from ecco_captum.activations import each_activation
    from ecco_captum.rules import Tape, activated, lifted

    names: set[str] = set()
    with torch.inference_mode(False), torch.enable_grad(), each_activation(ctx.scores.model, activated):
        lifted(ctx.scores, [tensor.clone().requires_grad_() for tensor in ctx.scores.inputs()], start, Tape(names))
    return names
