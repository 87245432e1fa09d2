"""Which row of attention made each target, and the scores of tokens that come of these rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from ecco_attention.reading import changed_after_weights
from ecco_core import ArchitectureError, Context, OptionError, TokenScores

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import Run

    #: A run and some of its rows -> stack -> ``(row, token)``, for each stack whose tokens are sources.
    Explained = Callable[[Run, Sequence[int]], dict[str, np.ndarray]]
SHIFTED = ("causal", "seq2seq")


def token_scores(ctx: Context, explain: Explained, title: str, unit: str) -> TokenScores:
    """Make the result of what attends: the mean over the rows of each target.

    Args:
        title: what it shows. `unit`: what the numbers are, in words.

    Raises:
        OptionError: a contrast was given. ArchitectureError: the model reads its text twice.
    """
    import numpy as np
    import torch

    if ctx.options["contrast"] is not None:
        raise OptionError("Attention is the same whatever a target is compared with; leave out contrast.")
    scores = ctx.scores
    if len(ctx.run.lm.architecture.stacks) > len(ctx.run.transcript.tokens):
        raise ArchitectureError(
            f"This {ctx.run.lm.model_type} classifier reads its text with an encoder and again with a decoder, so a "
            "token has no one score; the analysis 'attention' shows the patterns of its encoder."
        )
    places = rows_of(ctx)
    made: dict[tuple[int, int], np.ndarray] = {}  # number of the run, row -> over all sources
    runs = list(dict.fromkeys(run for of_target in places for run, _ in of_target))
    for number, run in enumerate(ctx.progress(runs)):
        rows = sorted({row for of_target in places for other, row in of_target if other is run})
        parts = explain(run, rows)
        seen = np.concatenate([parts[stack][:, : len(scores.ids[stack])] for stack in scores.stacks], axis=1)
        if run is not ctx.run:
            run.release()
        made |= {(number, row): values for row, values in zip(rows, seen)}
    changed = changed_after_weights(ctx.run)
    if changed is not None:
        ctx.note(f"an intervention changes what attention puts out ({changed!r}), which weights do not show")
    values = np.stack([np.mean([made[runs.index(run), row] for run, row in of], axis=0) for of in places])
    with torch.no_grad():
        target_values = scores(*scores.inputs())[0]
    ctx.note(
        "attention says where positions look, not what raises or lowers a score: the numbers have no sign, and are the "
        "same for every candidate at a position"
    )
    result = scores.result(values, target_values=target_values.cpu().numpy(), aggregation="", signed=False, unit=unit)
    return attrs.evolve(result, title=title)


def rows_of(ctx: Context) -> list[list[tuple[Run, int]]]:
    """Per target, the rows that made it: the state that predicted a token, the masked place, what a classifier reads.

    A masked place is read in a run where it is masked, as in attributions. A span has a row for each of its tokens.
    """
    run, task, targets = ctx.run, ctx.run.lm.task, ctx.scores.targets
    if task == "sequence_classification":
        return [[(run, row) for row in rows] for rows in _read_by_classifier(ctx)]
    before = 1 if task in SHIFTED else 0
    masked = _masking(run) if task == "masked" else (lambda position: run)
    return [[(masked(p), p - before) for p in range(t.position, t.upto or t.position + 1)] for t in targets]


def _masking(run: Run) -> Callable[[int], Run]:
    """A function from a position to the run with the token there masked; the run itself where it is."""
    from ecco_core import Run

    mask = run.lm.tokenizer.mask_token_id

    @functools.cache
    def masked(position: int) -> Run:
        ids = run.tokens.ids.copy()
        if ids[position] == mask:
            return run
        ids[position] = mask
        transcript, stack = run.transcript, run.transcript.stack
        tokens = {**transcript.tokens, stack: attrs.evolve(transcript.tokens[stack], ids=ids)}
        return Run(run.lm, attrs.evolve(transcript, tokens=tokens), run.interventions)

    return masked


def _read_by_classifier(ctx: Context) -> list[list[int]]:
    """Per target the rows of the last layer whose change changes the class: the others have a gradient of exactly 0.

    Raises:
        ArchitectureError: there are none.
    """
    run = ctx.run
    inside = run.scores(ctx.options["targets"], score="logit", at=("resid_post", -1))
    _, (gradient,) = inside.values_and_gradients(*inside.inputs())
    found: list[list[int]] = [row.nonzero()[:, 0].tolist() for row in (gradient[:, 0] != 0).any(-1)]
    if not all(found):
        raise ArchitectureError(f"No state in the last layer of this {run.lm.model_type} classifier changes its class.")
    if max(map(len, found)) > 1:
        ctx.note(f"the classifier reads {max(map(len, found))} positions; what they attend to is averaged")
    return found
