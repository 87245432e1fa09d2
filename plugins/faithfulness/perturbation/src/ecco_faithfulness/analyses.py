"""The analyses: methods compared under one way to take tokens away, and under several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ecco_core import LabelledArray, OptionError, Result
from ecco_faithfulness.replacements import WORDS, Replacement, fitting, resolved
from ecco_faithfulness.results import CEILING, COLUMNS, FLOOR, Faithfulness, Metric, ReplacementEffect, words

if TYPE_CHECKING:
    from ecco_core import Context
    from ecco_faithfulness.compare import Comparison, Numbers
    from ecco_faithfulness.texts import Plan

Exact = Literal["auto", "on", "off"]
_FRACTIONS = (0.1, 0.25, 0.5, 0.75)
_EXACT = 10  # sources of every target, up to which the ceiling is computed without being asked for
_RANKINGS = 20  # random ones at least, over all targets, and two per target
_METRICS: tuple[Metric, ...] = (
    "deletion", "insertion", "comprehensiveness", "sufficiency", "leave_one_out", "infidelity"
)  # fmt: skip
_DOES = {
    "deletion": "deletes",
    "comprehensiveness": "deletes",
    "insertion": "inserts",
    "sufficiency": "inserts",
    "leave_one_out": "ranks single sources",
    "infidelity": "foretells random masks",
}


def faithfulness(
    ctx: Context,
    *,
    methods: Sequence[str] = (),
    scores: Sequence[Result] = (),
    replacement: Replacement = "auto",
    metrics: Sequence[Metric] = _METRICS,
    fractions: Sequence[float] = _FRACTIONS,
    n_random: int | None = None,
    n_masks: int = 50,
    n_draws: int = 3,
    exact: Exact = "auto",
    n_moves: int = 5,
    radius: float = 0.02,
    resume: Path | None = None,
) -> Faithfulness:
    """Compare attribution methods by what the model does without the tokens that each of them ranks first.

    Options:
        methods: names of attribution methods, such as ig,saliency; with options of their own: ig[n_steps=10].
        scores: results to compare, of these runs, made by anything.
        replacement: how a token is taken away: mask or pad token, mean or zero embedding, sample, remove; auto is mask
            where there is one, else mean.
        metrics: deletion, insertion, comprehensiveness, sufficiency, leave_one_out, infidelity, max_sensitivity; the
            recommendation goes by the first.
        fractions: shares of the sources at which curves are measured, between 0 and 1.
        n_random: random rankings per target, the floor; if left out two, and twenty over all targets.
        n_masks: random masks of infidelity.
        n_draws: texts drawn for replacement sample, over which scores are averaged.
        exact: compute the best possible curves over all subsets: auto up to 10 sources, on up to 12.
        n_moves: small moves of the input, for max_sensitivity, which runs every named method again for each.
        radius: length of a move, as a share of the embeddings' root mean square length.
        resume: folder to keep each text's numbers in, to go on from after an interruption.
    """
    from ecco_faithfulness.compare import Comparison, Numbers

    _at_least("n_moves", n_moves, 1)
    if not 0 < radius <= 1:
        raise OptionError(f"radius is above 0 and at most 1, found {radius:g}.")
    moves = (n_moves, radius) if "max_sensitivity" in metrics else (0, 0.0)
    comparison = Comparison(ctx, methods, scores, resume, moves)
    plan = _plan(ctx, comparison, replacement, metrics, fractions, n_random, n_masks, n_draws, exact)
    numbers = Numbers(comparison.texts(plan), comparison.names, plan)
    first = plan.metrics[0]
    recommendation = numbers.recommendation(first, _DOES[first], words(first))
    forwards, tokens = (sum(text[what] for text in numbers.texts) for what in ("forwards", "tokens"))
    ctx.notes.insert(0, recommendation)
    _explain(ctx, numbers, plan, given=bool(scores))
    ctx.note(f"{forwards:,} masked inputs went through the model ({tokens:,} tokens), besides what the methods need.")
    return Faithfulness(
        title=_title("Which explanation to believe", numbers),
        columns=COLUMNS,
        rows=tuple(numbers.rows()),
        recommendation=recommendation,
        forwards=forwards,
        tokens=tokens,
        each=numbers.each(),
    )


def replacement_effect(
    ctx: Context,
    *,
    methods: Sequence[str] = (),
    scores: Sequence[Result] = (),
    replacements: Sequence[Replacement] = (),
    metric: Metric = "deletion",
    fractions: Sequence[float] = _FRACTIONS,
    n_random: int | None = None,
    n_masks: int = 50,
    n_draws: int = 3,
    exact: Exact = "off",
    resume: Path | None = None,
) -> ReplacementEffect:
    """Compare attribution methods under several ways to take tokens away: do they come in the same order?

    Options:
        methods: names of attribution methods, such as ig,saliency; with options of their own: ig[n_steps=10].
        scores: results to compare, of these runs, made by anything.
        replacements: ways to take a token away, two or more of mask, pad, mean, zero, sample, remove, auto; all that
            are for these runs if left out.
        metric: what to compare the methods by.
        fractions: shares of the sources at which curves are measured, between 0 and 1.
        n_random: random rankings per target, the floor; if left out two, and twenty over all targets.
        n_masks: random masks of infidelity.
        n_draws: texts drawn for replacement sample, over which scores are averaged.
        exact: compute the best possible curves over all subsets: auto up to 10 sources, on up to 12.
        resume: folder to keep each text's numbers in, to go on from after an interruption.
    """
    import numpy as np

    from ecco_faithfulness.compare import Comparison, Numbers
    from ecco_faithfulness.intervals import agreement

    ways = dict.fromkeys(resolved(each, ctx.runs) for each in replacements or fitting(ctx.runs))
    if len(ways) < 2:
        raise OptionError(f"replacements names two or more ways to compare, found {', '.join(ways) or 'none'}.")
    comparison, found = Comparison(ctx, methods, scores, resume), {}
    for way in ways:
        plan = _plan(ctx, comparison, way, (metric,), fractions, n_random, n_masks, n_draws, exact)
        found[way] = Numbers(comparison.texts(plan), comparison.names, plan)
    rows, means, forwards = [], [], 0
    for way, numbers in found.items():
        each = {row[0]: row[3:] for row in numbers.rows() if row[2] is None}
        rows += [(way, name, *numbers_of) for name, numbers_of in each.items()]
        means.append([np.nan if (mean := each[name][0]) is None else mean for name in numbers.methods])
        forwards += sum(text["forwards"] for text in numbers.texts)
    told = agreement(np.array(means))
    apart = told[np.triu_indices(len(told), 1)]
    known = apart[np.isfinite(apart)]
    if not len(known):
        ctx.note("The methods' order has no agreement to tell: there are fewer than two methods, or all are even.")
    elif np.allclose(apart, 1):
        ctx.note("The methods come in the same order under each replacement.")
    else:
        ctx.note(
            "The methods' order depends on how tokens are taken away: Kendall's tau between two replacements is "
            f"{known.mean():.2f} on average, {known.min():.2f} at least."
        )
    for way in ways:
        ctx.note(f"{way}: {WORDS[way]}.")
    ctx.note(f"{forwards:,} masked inputs went through the model, besides what the methods need.")
    names = list(ways)
    return ReplacementEffect(
        title=_title(f"The {words(metric)}, however tokens are taken away", next(iter(found.values()))),
        columns=("replacement", "method", "mean", "low", "high"),
        rows=tuple(rows),
        agreement=LabelledArray(told, ("replacement", "other"), {"replacement": names, "other": names}),
        measure=metric,
        forwards=forwards,
    )


def _plan(
    ctx: Context,
    comparison: Comparison,
    replacement: str,
    metrics: Sequence[Metric],
    fractions: Sequence[float],
    n_random: int | None,
    n_masks: int,
    n_draws: int,
    exact: str,
) -> Plan:
    """Check the options of measuring."""
    from ecco_faithfulness.texts import Plan

    if not metrics:
        raise OptionError(f"metrics is empty; name some of {', '.join(_METRICS)}, max_sensitivity.")
    if metrics[0] == "max_sensitivity":
        raise OptionError("max_sensitivity says how stable a method is, not how faithful: name another metric first.")
    shares = tuple(sorted(set(fractions)))
    if not shares or not all(0 < share < 1 for share in shares):
        raise OptionError(f"fractions are between 0 and 1, which are always added, found {list(fractions)}.")
    total = sum(len(comparison.module(i).targets) for i in range(len(ctx.runs)))
    n_random = max(2, -(-_RANKINGS // total)) if n_random is None else n_random
    for name, value in (("n_random", n_random), ("n_masks", n_masks), ("n_draws", n_draws)):
        _at_least(name, value, 1)
    return Plan(
        metrics=tuple(dict.fromkeys(metrics)),
        replacement=resolved(replacement, ctx.runs),
        n_draws=n_draws,
        fractions=shares,
        n_random=n_random,
        n_masks=n_masks,
        exact=exact == "on" or (exact == "auto" and comparison.most_sources() <= _EXACT),
        seed=ctx.seed,
    )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise OptionError(f"{name} is a number from {least}, found {value}.")


def _title(what: str, numbers: Numbers) -> str:
    n, texts = len(numbers.weights[0]), len(numbers.texts)
    of = f" of {texts} texts" if texts > 1 else ""
    methods = len(numbers.methods)
    return f"{what}: {methods} method{'s' * (methods != 1)} on {n} target{'s' * (n != 1)}{of}"


def _explain(ctx: Context, numbers: Numbers, plan: Plan, *, given: bool) -> None:
    """Say what the numbers are, and what is missing."""
    import numpy as np

    score: Any = ctx.options["score"]
    names = {"prob": "the target's probability", "logprob": "the target's log-probability",
             "logit": "the target's logit", "entropy": "the entropy of the prediction",
             "kl": "minus the divergence of the prediction from that at the run"}  # fmt: skip
    ctx.note(
        f"Measured: {names[score]}. In a token's place: {WORDS[plan.replacement]}"
        + (f", averaged over {plan.n_draws} texts" if plan.replacement == "sample" else "")
        + ". Special tokens stay. Numbers hold for this replacement, which makes inputs that may be unlike any text."
    )
    ctx.note(
        f"{FLOOR!r} is the mean of {plan.n_random} random rankings per target; its interval is that of one ranking."
        + (f" {CEILING!r} is exact, over all subsets: no ranking can be better." if numbers.exact else "")
    )
    for metric in plan.metrics:
        missing = max(int(np.isnan(numbers.of(name, "values", metric)).sum()) for name in numbers.methods)
        if metric == "max_sensitivity" and given:
            ctx.note("max-sensitivity is of methods that are named; given results cannot be run again.")
        elif missing and metric != "max_sensitivity":
            ctx.note(
                f"{words(metric)}: {missing} of {len(numbers.weights[0])} targets have no number, as no token that is "
                "taken away changes them, and are left out of it."
            )
