"""Attention as it is, and what each head does: analyses of patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ecco_attention.reading import Which, patterns_in, place_of
from ecco_core import Context, Grid, LabelledArray, OptionError, Patterns

if TYPE_CHECKING:
    import numpy as np

Measure = Literal["induction", "previous_token", "duplicate_token", "entropy"]
_MEASURES = {
    "induction": "Induction: share of attention to the tokens after earlier occurrences of the present one",
    "previous_token": "Share of attention to the token before",
    "duplicate_token": "Share of attention to earlier occurrences of the present token",
    "entropy": "Entropy of attention, in nats: 0 is one key, more is many",
}


def attention(ctx: Context, *, which: Which = "self") -> Patterns:
    """Attention patterns: for each layer and head, how much each position (query) attends to each (key).

    The row of a position is of the state there, which in a causal model predicts the token after it.

    Options:
        which: self (attention within the stack that predicts), encoder (within the encoder), or cross (from the decoder
            to the encoder).
    """
    site, stack = place_of(ctx, which)
    layers, values = _stacked(ctx, site, stack)
    keys = "encoder" if which == "cross" else stack
    kinds = {"self": "Self-attention", "encoder": "Attention within the encoder", "cross": "Attention to the encoder"}
    size = f"{len(layers)} layer{'s' * (len(layers) > 1)} × {values.shape[1]} heads"
    return Patterns(
        title=f"{kinds[which]}, {size}; each row is what one position attends to",
        values=LabelledArray(values, ("layer", "head", "query", "key"), {"layer": layers}),
        tokens=dict(ctx.run.transcript.tokens),
        query_stack=stack,
        key_stack=keys,
    )


def head_scores(ctx: Context, *, measure: Measure = "induction", which: Literal["self", "encoder"] = "self") -> Grid:
    """What each head does on this run: one number per layer and head, beside that of a head without preference.

    Shares are averaged over the positions that have such a key, and entropies over all but a causal model's first.

    Options:
        measure: induction, previous_token or duplicate_token (share of attention, 0 to 1), or entropy (nats).
        which: self (attention within the stack that predicts) or encoder (within the encoder).
    """
    from ecco_attention.summaries import attended, entropy, looked_at, uniform

    site, stack = place_of(ctx, which)
    layers, values = _stacked(ctx, site, stack)
    ids = ctx.run.transcript.tokens[stack].ids
    alike = uniform((values > 0).any(axis=1, keepdims=True))
    if len(ids) < 2:
        raise OptionError(f"What heads do shows between tokens; the {stack} of this run has one token only.")
    if measure == "entropy":
        _require_weights(values, layers)
        found, chance = entropy(values), entropy(alike)
    else:
        keys = looked_at(ids, measure)
        n = int(keys.any(-1).sum())
        if not n:
            what = "after a token that occurs again" if measure == "induction" else "that occurred before"
            raise OptionError(
                f"No token {what} is in this run of {len(ids)} tokens, so heads have no such key to look at; take a "
                "text that repeats itself."
            )
        found, chance = attended(values, keys), attended(alike, keys)
        ctx.note(f"positions with such a token to attend to: {n} of {len(ids)}")
    ends = [f"{end:.3g}" for end in (chance.min(), chance.max())]
    score = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}, by layer,"
    ctx.note(f"the null, a head that attends equally to all tokens it can see, scores {score} here")
    coords = {"layer": layers, "head": range(found.shape[1])}
    return Grid(
        title=_MEASURES[measure],
        values=LabelledArray(found, ("layer", "head"), coords),
        null=LabelledArray(chance.repeat(found.shape[1], 1), ("layer", "head"), coords),
    )


def _require_weights(values: np.ndarray, layers: Sequence[int]) -> None:
    """Check that each position attends to something.

    Raises:
        OptionError: one does not, as in a head that is switched off.
    """
    import numpy as np

    empty = np.argwhere(~values.any(-1))
    if len(empty):
        layer, head, position = empty[0]
        raise OptionError(
            f"Head {head} of layer {layers[layer]} attends to nothing at position {position}, so it has no entropy "
            "there (an intervention, or a sink that takes all); leave the layer out."
        )


def _stacked(ctx: Context, site: str, stack: str) -> tuple[tuple[int, ...], np.ndarray]:
    """Layers, and their patterns ``(layer, head, query, key)``."""
    import numpy as np

    capture = ctx.run.capture(site, layers=ctx.options["layers"], stack=stack)
    patterns = patterns_in(ctx, ctx.run, capture, site, stack)
    layers = capture.layers(site, stack)
    if len({len(pattern) for pattern in patterns}) > 1:
        counts = ", ".join(f"{layer}: {len(pattern)}" for layer, pattern in zip(layers, patterns))
        raise OptionError(f"Layers differ in their number of heads ({counts}); name layers that have as many.")
    n = ctx.run.lm.architecture.n_layers(stack)
    if ctx.options["layers"] is None and len(layers) < n:
        ctx.note(f"layers without attention: {n - len(layers)} of {n}")
    return layers, np.stack(patterns)
