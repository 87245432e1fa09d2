"""Attention as scores of tokens, to compare with attributions: raw weights, rollout, flow, norms of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecco_attention.reading import changed_after_weights, patterns_in, require, require_every_layer
from ecco_attention.rows import SHIFTED, token_scores
from ecco_core import Context, OptionError, TokenScores

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import Run

_FROM_ENCODER = (
    "encoder tokens stand for the encoder's states there, which the decoder attends to; these have mixed with others"
)


def raw_attention(ctx: Context) -> TokenScores:
    """Attention weights of the position that made a target, averaged over heads and layers: the plain baseline."""

    def explain(run: Run, rows: Sequence[int]) -> dict[str, np.ndarray]:
        import numpy as np

        stack, found = run.transcript.stack, {}
        for site, keys in _sites(run):
            require(run, stack, site)
            capture = run.capture(site, layers=ctx.options["layers"], stack=stack)
            patterns = patterns_in(ctx, run, capture, site, stack)
            found[keys] = np.mean([pattern[:, rows].astype(np.float64).mean(0) for pattern in patterns], axis=0)
        return found

    unit = _note_encoder(ctx, "share of attention, mean over heads and layers")
    return token_scores(ctx, explain, "Attention weights", unit)


def attention_rollout(ctx: Context) -> TokenScores:
    """Attention followed through all layers: the share of each token in the position that made a target.

    Heads are averaged, the residual connection counts one half, and the weights along each path are multiplied; scores
    of a target sum to 1.
    """
    from ecco_attention.paths import rollout_of

    def explain(run: Run, rows: Sequence[int]) -> dict[str, np.ndarray]:
        steps, stacks = _steps(ctx, run)
        shares = rollout_of(steps)[-len(run) :]
        return {stack: shares[rows, columns] for stack, columns in stacks.items()}

    _note_early(ctx)
    return token_scores(ctx, explain, "Attention rollout", "share of the position that made the target")


def attention_flow(ctx: Context) -> TokenScores:
    """The most attention that can flow from the position that made a target down to each token, through all layers.

    Heads are averaged, the residual connection counts one half, and weights are capacities. Each token's flow is for
    itself, from 0 to 1; they do not sum to 1.
    """
    import numpy as np

    from ecco_attention.paths import flow_of, rounding

    lost: list[float] = []

    def explain(run: Run, rows: Sequence[int]) -> dict[str, np.ndarray]:
        steps, stacks = _steps(ctx, run)
        lost.append(rounding(steps))
        first = len(steps[0]) - len(run)
        flows = np.stack([flow_of(steps, first + row) for row in ctx.progress(rows)])
        return {stack: flows[:, columns] for stack, columns in stacks.items()}

    _note_early(ctx)
    result = token_scores(ctx, explain, "Attention flow", "the most that can flow to each token, 0 to 1")
    ctx.note(f"flows are computed in multiples of 2^-30 and at most {max(lost):.1g} too small")
    return result


def attention_norms(ctx: Context) -> TokenScores:
    """Length of what the attention carries from each token to the position that made a target, averaged over layers.

    A weight says little where the value is short: this is the norm of the weighted values, through the output
    projection, summed over heads as vectors.
    """
    from ecco_attention.carried import double, follows, projection, require_made_of
    from ecco_attention.values import value_norms

    followed: set[int] = set()

    def explain(run: Run, rows: Sequence[int]) -> dict[str, np.ndarray]:
        import numpy as np

        stack, found = run.transcript.stack, {}
        for site, keys in _sites(run):
            v_site, z_site, out_site = (site.replace("pattern", part) for part in ("v", "z", "attn_out"))
            require(run, stack, site, v_site, z_site)
            attending, adding = (set(run.lm.architecture.layers_with(each, stack)) for each in (site, out_site))
            outs = [out_site] if out_site in run.lm.architecture.sites(stack) and attending <= adding else []
            capture = run.capture(site, v_site, z_site, *outs, layers=ctx.options["layers"], stack=stack)
            norms = []
            for layer, pattern in zip(capture.layers(site, stack), patterns_in(ctx, run, capture, site, stack)):
                v, z = (capture.get(part, layer, stack) for part in (v_site, z_site))
                matrix, bias = projection(run, z_site, layer, stack)
                require_made_of(run, layer, pattern, v, z)
                if outs and follows(z, matrix, bias, capture.get(out_site, layer, stack)):
                    followed.add(layer)
                norms.append(value_norms(pattern[:, rows], double(v), double(matrix)))
            found[keys] = np.mean(norms, axis=0)
        return found

    changed = changed_after_weights(ctx.run)
    if changed is not None:
        raise OptionError(
            f"An intervention changes what attention puts out after its weights ({changed!r}), which no length of a "
            "weighted value shows; change pattern or v, or look at raw_attention."
        )
    unit = _note_encoder(ctx, "L2 norm of what attention adds, mean over layers")
    result = token_scores(ctx, explain, "Norms of what attention carries", unit)
    if followed:
        some = ", ".join(map(str, sorted(followed)[:8])) + ", …" * (len(followed) > 8)
        ctx.note(
            f"in layers {some} a norm or a factor follows the output projection: lengths are of what enters it, and a "
            "layer with greater ones does not add more to the model's stream"
        )
    return result


def _sites(run: Run) -> list[tuple[str, str]]:
    """The patterns that the predicting stack has, each with the stack whose tokens are its keys."""
    stack = run.transcript.stack
    cross = [("cross_pattern", "encoder")] if stack == "decoder" and "encoder" in run.transcript.tokens else []
    return [*cross, ("pattern", stack)]


def _note_encoder(ctx: Context, unit: str) -> str:
    if len(_sites(ctx.run)) > 1:
        ctx.note(_FROM_ENCODER)
        return f"{unit}; the encoder and the decoder each by an attention of its own"
    return unit


def _note_early(ctx: Context) -> None:
    if ctx.run.lm.task in SHIFTED:
        ctx.note("more paths lead to early tokens of a decoder: they get more even where attention prefers none")


def _steps(ctx: Context, run: Run) -> tuple[list[np.ndarray], dict[str, slice]]:
    """Steps of all layers as one graph, and where each stack's tokens are in it."""
    from ecco_attention.paths import joined, with_residual

    tokens = run.transcript.tokens
    read = {
        (stack, site): _every_layer(ctx, run, stack, site)
        for stack, site in [(stack, "pattern") for stack in tokens] + [("decoder", "cross_pattern")] * (len(tokens) > 1)
    }
    if len(tokens) == 1:
        (stack,) = tokens
        return [with_residual(p) for p in read[stack, "pattern"]], {stack: slice(0, len(tokens[stack]))}
    n = len(tokens["encoder"])
    patterns = read["encoder", "pattern"], read["decoder", "pattern"], read["decoder", "cross_pattern"]
    return joined(*patterns), {"encoder": slice(0, n), "decoder": slice(n, n + len(tokens["decoder"]))}


def _every_layer(ctx: Context, run: Run, stack: str, site: str) -> list[np.ndarray]:
    require(run, stack, site)
    require_every_layer(run, stack, site)
    return patterns_in(ctx, run, run.capture(site, stack=stack), site, stack)
