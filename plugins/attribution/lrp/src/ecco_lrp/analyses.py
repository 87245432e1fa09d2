"""Relevance of tokens, layers, heads and neurons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ecco_core import ArchitectureError, Context, Grid, LabelledArray, OptionError, Table, TokenGrid, TokenScores

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import ScoreModule
    from ecco_lrp.relevance import Relevance

RuleName = Literal["attnlrp", "cp"]
NAMES = {"attnlrp": "AttnLRP", "cp": "CP-LRP"}
StackName = Literal["explained", "encoder", "decoder"]


def lrp(ctx: Context, *, rule: RuleName = "attnlrp", ledger: bool = False) -> TokenScores:
    """Relevance of each token: what it brought of the target's logit, passed back by rules that keep its sum.

    What the tokens' relevance misses of the logit (its `completeness`) is what biases, position embeddings and
    the softmax of attention took.

    Options:
        rule: attnlrp, attention's softmax passes relevance to queries and keys; or cp, its weights are constants.
        ledger: also say how much of it biases, added embeddings and the softmax took; one more pass.
    """
    import numpy as np

    from ecco_lrp.relevance import Relevance

    work, scores = Relevance(ctx, rule), ctx.scores
    values, found = [], []
    for some in ctx.progress(groups(scores)):
        value, relevance = work.of(some)
        values.append(value)
        tokens = {stack: part.sum(-1).double().cpu().numpy() for stack, part in zip(scores.stacks, relevance)}
        found.append(np.stack([tokens[f.stack][:, list(f.positions)].sum(1) for f in ctx.features], axis=1))
    score, of_tokens = np.concatenate(values), np.concatenate(found)
    say(ctx, work, of_tokens.sum(1), score)
    if ledger:
        account(ctx, work, of_tokens.sum(), score.sum())
    baseline = "none, relevance is of the whole logit"
    result = scores.result(of_tokens, target_values=score, features=ctx.features, change=score, baseline=baseline)
    return attrs.evolve(result, title=f"Relevance by {NAMES[rule]}", missed="not of the tokens")


def lrp_layers(ctx: Context, *, rule: RuleName = "attnlrp", stack: StackName = "explained") -> TokenGrid:
    """Relevance of each token's state after each layer, for the sum of the targets' logits.

    From one layer to the one before, the sum changes by what biases and the softmax of attention took.

    Options:
        rule: attnlrp, attention's softmax passes relevance to queries and keys; or cp, its weights are constants.
        stack: of a model with two, the encoder or the decoder; else the explained one.
    """
    import numpy as np

    work, within = _opened(ctx, rule, stack)
    layers, grid = _layers(ctx, "resid_post", within), []
    for layer in ctx.progress(layers):
        _, passing = at(ctx, work, "resid_post", layer, within)
        grid.append(passing.sum(-1))
    tokens = ctx.run.transcript.tokens[within]
    labels = [tokens.labels[p] for p in range(grid[0].shape[0])]
    shape = ("layer", "position")
    coords = {"layer": list(layers), "position": list(range(len(labels)))}
    ctx.note("only states that the targets' predictions read have relevance after the last layer")
    return TokenGrid(
        title=f"Relevance of the state after each layer for {_targets(ctx)}",
        values=LabelledArray(np.stack(grid), shape, coords),
        texts=LabelledArray(np.array([labels] * len(grid)), shape, coords),
        quantity="relevance, in units of the logit",
    )


def lrp_heads(ctx: Context, *, rule: RuleName = "attnlrp", stack: StackName = "explained", cross: bool = False) -> Grid:
    """Relevance of what each attention head gives to the output projection, for the sum of the targets' logits.

    Options:
        rule: attnlrp, attention's softmax passes relevance to queries and keys; or cp, its weights are constants.
        stack: of a model with two, the encoder or the decoder; else the explained one.
        cross: the heads that look at the encoder.
    """
    import numpy as np

    work, within = _opened(ctx, rule, stack)
    site = "cross_z" if cross else "z"
    layers, grid, total = _layers(ctx, site, within), [], 0.0
    for layer in ctx.progress(layers):
        total, passing = at(ctx, work, site, layer, within)
        heads = _n_heads(ctx.run.lm.model.config, within)
        if not heads or passing.shape[-1] % heads:
            raise ArchitectureError(
                f"The {passing.shape[-1]} units of {site} in layer {layer} are no whole number for each of {heads} "
                "heads: take lrp_layers or lrp_neurons."
            )
        grid.append(passing.reshape(len(passing), heads, -1).sum((0, 2)))
    coords = {"layer": list(layers), "head": list(range(len(grid[0])))}
    ctx.note(f"{_sum(ctx, total)}; what passes a layer beside its heads is not shown")
    return Grid(
        title=f"Relevance of each {'cross-' * cross}attention head for {_targets(ctx)}, in units of the logit",
        values=LabelledArray(np.stack(grid), ("layer", "head"), coords),
    )


def lrp_neurons(ctx: Context, *, rule: RuleName = "attnlrp", stack: StackName = "explained", top_k: int = 20) -> Table:
    """The neurons that had the most relevance, for or against, for the sum of the targets' logits.

    Options:
        rule: attnlrp, attention's softmax passes relevance to queries and keys; or cp, its weights are constants.
        stack: of a model with two, the encoder or the decoder; else the explained one.
        top_k: how many neurons.
    """
    import numpy as np

    if top_k < 1:
        raise OptionError(f"top_k is at least 1, found {top_k}.")
    work, within = _opened(ctx, rule, stack)
    tokens, rows, total, of_all = ctx.run.transcript.tokens[within], [], 0.0, 0.0
    for layer in ctx.progress(_layers(ctx, "mlp_post", within)):
        total, passing = at(ctx, work, "mlp_post", layer, within)
        each, where = passing.sum(0), np.abs(passing).argmax(0)
        of_all += float(np.abs(each).sum())
        for unit in np.argsort(-np.abs(each))[:top_k].tolist():
            place = int(where[unit])
            most = f"{place} {tokens.labels[place]}"
            rows.append((layer, unit, float(each[unit]), most, float(passing[place, unit])))
    rows = sorted(rows, key=lambda row: -abs(row[2]))[:top_k]
    shown = sum(abs(row[2]) for row in rows)
    share = f"{shown / of_all:.0%} of the relevance of all neurons, in magnitude; " if of_all else ""
    ctx.note(f"these have {share}{_sum(ctx, total)}")
    return Table(
        title=f"Neurons with the most relevance for {_targets(ctx)}",
        columns=("layer", "unit", "relevance", "most at", "relevance there"),
        rows=rows,
    )


def groups(scores: ScoreModule) -> list[ScoreModule]:
    """The targets in groups whose relevance fits into memory."""
    from ecco_lrp.relevance import NUMBERS

    unit = max(tensor.shape[-1] for tensor in scores.inputs())
    each = max(1, NUMBERS // (scores.n_sources * unit))
    starts = range(0, len(scores.targets), each)
    return [scores.only(scores.targets[n : n + each]) for n in starts] if len(starts) > 1 else [scores]


def at(ctx: Context, work: Relevance, site: str, layer: int, stack: str) -> tuple[float, np.ndarray]:
    """The sum of the targets' logits, and its relevance ``(token, unit)`` at a site of a layer.

    Raises:
        OptionError: values do not pass the site one after the other.
    """
    import torch

    scores, place = ctx.scores, ctx.run.lm.architecture.place(site, layer, stack)
    apart = scores.transcript.task == "masked"  # each target is masked when it is explained
    total, found = 0.0, None
    with torch.inference_mode(False):  # with a gradient, what passes beside the place shares as it does in `lrp`
        embeddings = [tensor.clone().requires_grad_() for tensor in scores.inputs()]
    for outer in map(scores.only, [[t] for t in scores.targets]) if apart else [scores]:
        for some in groups(outer.inside(place, stack, *embeddings)):
            value, (relevance,) = work.of(some)
            part = relevance.double().sum(0).cpu().numpy()
            total, found = total + float(value.sum()), part if found is None else found + part
    return total, found  # type: ignore[return-value]


def say(ctx: Context, work: Relevance, total: np.ndarray, score: np.ndarray) -> None:
    """Note how much of the scores ``(target,)`` tokens have, where the rest is, and what is taken as a constant."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (total / score)[np.abs(score) > 0]
    checked = work.checked()
    takers = {
        "biases": any(name.endswith("bias") for name, _ in work.model.named_parameters()),
        f"embeddings of something else than tokens ({listed(checked.embeddings)})": checked.embeddings,
        "the mask's own embedding": ctx.scores.transcript.task == "masked",
        "what interventions add": ctx.run.under,
        "attention's softmax (which rule='cp' leaves out)": work.rule == "attnlrp",
    }
    if len(shares):
        middle = f"{float(np.median(shares)):.0%} of the logit" + ", median over targets" * (len(shares) > 1)
        *most, last = [taker for taker, takes in takers.items() if takes] or ["constants, if any is added"]
        rest = f"{', '.join(most)} and {last}" if most else last
        ctx.note(f"the relevance of tokens is {middle}; the rest is taken by {rest}")
    if checked.gates:
        gates = "; ".join(f"{name} in {listed(sorted(where))}" for name, where in sorted(checked.gates.items()))
        ctx.note(f"gates are constants here, what they multiply has all of the relevance: {gates}")


def account(ctx: Context, work: Relevance, tokens: float, score: float) -> None:
    """Note what took how much of the relevance."""
    from ecco_lrp.ledger import ledger

    taken, left = ledger(ctx.scores, work.ledger)
    parts = ", ".join(f"{kind} {share:+.4g}" for kind, share in {"tokens": tokens, **taken}.items() if share)
    ctx.note(f"of the logits' sum {score:+.4g}: {parts}; nothing accounts for {left:+.1g}")


def listed(names: Sequence[str], limit: int = 2) -> str:
    """``a, b and 3 more``."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _opened(ctx: Context, rule: RuleName, stack: str) -> tuple[Relevance, str]:
    """The rules for a context, and the name of the stack that is looked into."""
    from ecco_lrp.relevance import Relevance

    explained, tokens = ctx.run.transcript.stack, ctx.run.transcript.tokens
    name = explained if stack == "explained" else stack
    if name not in tokens:
        raise OptionError(f"No stack {name!r} in this run; it has {', '.join(tokens)}.")
    if len(tokens) > 1 and name == explained:
        ctx.note("what the encoder tells each layer passes beside the decoder's own states: stack='encoder' shows it")
    return Relevance(ctx, rule), name


def _layers(ctx: Context, site: str, stack: str) -> tuple[int, ...]:
    """The layers of a stack that were asked for and have a site.

    Raises:
        OptionError: none has it, or none was asked for.
    """
    architecture = ctx.run.lm.architecture
    n, wanted = architecture.n_layers(stack), ctx.options.get("layers")
    layers: Iterator[int] | Sequence[int] = range(n)
    if wanted is not None:
        layers = [wanted] if isinstance(wanted, int) else wanted
        if not layers:
            raise OptionError(f"layers is empty; leave it out for all {n} of the {stack}.")
        if wrong := [layer for layer in layers if not -n <= layer < n]:
            raise OptionError(f"No layer {wrong[0]}; the {stack} has layers 0 to {n - 1}.")
    have = architecture.layers_with(site, stack) if site in architecture.sites(stack) else ()
    found = tuple(dict.fromkeys(layer % n for layer in layers if layer % n in have))
    if not found:
        architecture.place(site, next(iter(layers)) % n, stack)  # says why not
    return found


def _n_heads(config: Any, stack: str) -> int:
    names = (f"{stack}_attention_heads", "num_attention_heads", "n_head", "n_heads", "num_heads")
    return next((n for name in names if isinstance(n := getattr(config, name, None), int)), 0)


def _sum(ctx: Context, total: float) -> str:
    return f"the logit is {total:.4g}" if len(ctx.scores.targets) == 1 else f"the logits add up to {total:.4g}"


def _targets(ctx: Context) -> str:
    targets = ctx.scores.targets
    return f"the {targets[0].quantity}" if len(targets) == 1 else f"the sum of {len(targets)} logits"
