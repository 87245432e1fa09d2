"""DeepLift and DeepLiftShap with rules for transformers, which Captum's own classes lack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecco_captum.gradients import Aggregation, aggregate
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ecco_core import ScoreModule

_FAR = 0.05  # of the change: a completeness error above says that parts of the model have no rule


def deep_lift(ctx: Context, *, baseline: str = "auto", aggregation: Aggregation = "sum") -> TokenScores:
    """Differences from a baseline, followed backwards through slopes between baseline and run instead of derivatives.

    Captum's DeepLift knows activations that are modules of torch's own; here activations of every kind, products
    (attention, gated layers), softmax and norms have rules, so that scores add up to the change in score.

    Options:
        baseline: what absence is: auto, mean (of all embeddings), zero, sample, a token's text, or a text of as many
            tokens.
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
    """
    from ecco_captum.baselines import baseline as baseline_of

    start, described = baseline_of(baseline, ctx)
    return _lifted(ctx, [start], described, aggregation)


def deep_lift_shap(
    ctx: Context, *, n_samples: int = 8, baseline: str = "sample", aggregation: Aggregation = "sum"
) -> TokenScores:
    """DeepLift averaged over several baselines, drawn at random.

    Options:
        n_samples: how many baselines.
        baseline: what to draw: sample (tokens of the vocabulary).
        aggregation: signed sum over the embedding's units, l2 norm, dot product with the embedding, or the largest.
    """
    from ecco_captum.baselines import baseline as baseline_of

    if n_samples < 1:
        raise OptionError(f"n_samples is at least 1, found {n_samples}.")
    if baseline != "sample":
        raise OptionError(f"deep_lift_shap draws its baselines: baseline is 'sample', found {baseline!r}.")
    starts, described = zip(*(baseline_of(baseline, ctx) for _ in range(n_samples)))
    return _lifted(ctx, list(starts), f"{described[0]}, {n_samples} times", aggregation)


def _lifted(
    ctx: Context, starts: list[tuple[torch.Tensor, ...]], described: str, aggregation: Aggregation
) -> TokenScores:
    """The mean over baselines of DeepLift's contributions."""
    import numpy as np

    found = [_contributions(ctx, start) for start in ctx.progress(starts)]
    mean = tuple(sum(parts) / len(found) for parts in zip(*(attributions for attributions, _, _ in found)))
    here, there = (np.mean([f[n] for f in found], axis=0) for n in (1, 2))
    values, signed = aggregate(ctx, mean, aggregation)
    total = aggregate(ctx, mean, "sum")[0].sum(1)
    missed = np.abs(here - there - total) / np.maximum(np.abs(here - there), 1e-12)
    if missed.max() > _FAR:
        ctx.note(
            f"parts of this model have no rule (a choice of experts, a maximum): these scores miss up to "
            f"{missed.max():.0%} of the change that they should add up to"
        )
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


def _contributions(
    ctx: Context, start: tuple[torch.Tensor, ...]
) -> tuple[tuple[torch.Tensor, ...], np.ndarray, np.ndarray]:
    """Per stack ``(target, token, unit)``, and the scores ``(target,)`` of run and baseline."""
    import numpy as np
    import torch

    from ecco_captum.rules import pair, plain

    parts, heres, theres = [], [], []
    for scores in _apart(ctx):
        pairs = [pair(here, there) for here, there in zip(scores.inputs(), start)]
        values, gradients = scores.values_and_gradients(*pairs)
        changes = (plain(both)[:1] - plain(both)[1:] for both in pairs)
        parts.append(tuple(plain(g)[:, 0] * change for g, change in zip(gradients, changes)))
        here, there = plain(values).double().cpu().numpy()
        heres.append(here)
        theres.append(there)
    return tuple(map(torch.cat, zip(*parts))), np.concatenate(heres), np.concatenate(theres)


def _apart(ctx: Context) -> list[ScoreModule]:
    """The targets, each by itself in a masked language model: their variants would come between run and baseline."""
    scores = ctx.scores
    if scores.transcript.task != "masked" or len(scores.targets) == 1:
        return [scores]
    return [
        ctx.run.scores(
            targets=t.position if t.upto is None else f"{t.position}:{t.upto}", contrast=t.contrast_id, score=t.score
        )
        for t in scores.targets
    ]
