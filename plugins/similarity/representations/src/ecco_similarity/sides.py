"""What is compared: the states of one or two models for the same tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecco_core import Context, OptionError
from ecco_similarity.alignment import Spans, aligned

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import Run

Groups = list[tuple[int, ...]]


@dataclass(frozen=True)
class Side:
    """One model's runs, one after the other.

    Attributes:
        name: how the side is called. `layers`: the labels of its arrays.
        states: one array ``(token, unit)`` per layer; tokens of all runs, or means over spans of tokens.
    """

    name: str
    layers: tuple[int | str, ...]
    states: list[np.ndarray]


def sides_of(ctx: Context, stack: str) -> list[Side]:
    """Return the states of one side, or of two for the same tokens.

    Runs of one model, made under the same interventions, are one side: their tokens are taken together. The runs of
    two sides are paired in order; where tokens differ, the states of tokens in a span that both cut at are averaged.

    Raises:
        OptionError: more than two sides, runs that cannot be paired, texts that differ, a site that is no vector per
            token, or labels that do not fit.
    """
    grouped = _grouped(ctx)
    places = _places(ctx, grouped, stack)
    names = _names(ctx, grouped)
    return [_side(ctx, runs, name, groups, stack) for runs, name, groups in zip(grouped, names, places)]


def _grouped(ctx: Context) -> list[list[Run]]:
    found: list[list[Run]] = []
    for run in ctx.runs:
        side = next((s for s in found if s[0].lm is run.lm and s[0].under == run.under), None)
        if side is None:
            found.append([run])
        elif any(_ids(run) == _ids(other) for other in side):
            raise OptionError(
                "Two runs are of the same model and the same tokens, so they are the same; give one of them, or one of "
                "another model or under an intervention."
            )
        else:
            side.append(run)
    if len(found) > 2:
        raise OptionError(f"Two models (or one, changed and not) are compared at a time, found {len(found)}.")
    if len(found) == 2 and len(found[0]) != len(found[1]):
        raise OptionError(
            f"Two models are compared on the same texts, found {len(found[0])} runs of one and {len(found[1])} of the "
            "other."
        )
    return found


def _ids(run: Run) -> list[list[int]]:
    return [tokens.ids.tolist() for tokens in run.transcript.tokens.values()]


def _names(ctx: Context, grouped: Sequence[Sequence[Run]]) -> list[str]:
    labels = ctx.options["labels"]
    if labels is not None and len(labels) != len(grouped):
        raise OptionError(f"labels names what is compared: {len(grouped)}, found {len(labels)}.")
    names = list(labels or [runs[0].lm.name for runs in grouped])
    if labels is None and len(set(names)) < len(names):
        changes = [", ".join(map(repr, runs[0].under)) for runs in grouped]
        words = ["changed" if change else "unchanged" for change in changes]
        names = [f"{name}, {word}" for name, word in zip(names, words if len(set(words)) > 1 else ("first", "second"))]
        for name, change in zip(names, changes):
            if change:
                ctx.note(f"{name}: {change}.")
    if len(set(names)) < len(names):
        raise OptionError(f"labels differ from each other, found {names[0]!r} twice.")
    return names


def _places(ctx: Context, grouped: Sequence[Sequence[Run]], stack: str) -> list[list[Groups]]:
    """Per side and run the groups of positions that are averaged to one sample."""
    places: list[list[Groups]] = [[] for _ in grouped]
    for run in (run for runs in grouped for run in runs):
        if stack and stack not in run.transcript.tokens:
            raise OptionError(
                f"No stack {stack!r} in the run of {run.lm.name}; it has {', '.join(run.transcript.tokens)}."
            )
    for runs in zip(*grouped):
        wanted = set(_positions(ctx, runs[0], stack))
        tokens = [run.transcript.tokens[stack or run.transcript.stack] for run in runs]
        if len({found.texts for found in tokens}) == 1:
            spans: Spans = [((p,), (p,)) for p in range(len(tokens[0]))]
        else:
            try:
                spans, ignored = aligned(*tokens)
            except ValueError as error:
                raise OptionError(f"Two models are compared on the same text; {error}.") from error
            ctx.note(
                "Tokens differ: states are averaged over the shortest spans of characters where both have a boundary, "
                "special tokens are left out." + (f" Texts are the same but for {ignored}." if ignored else "")
            )
        kept = [span for span in spans if wanted & set(span[0])]
        for k, found in enumerate(places):
            found.append([span[k] for span in kept])
    return places


def _positions(ctx: Context, run: Run, stack: str) -> tuple[int, ...]:
    wanted = ctx.options["positions"]
    if not stack or stack == run.transcript.stack:
        return run.resolve_positions(wanted)
    if wanted is not None:
        raise OptionError(f"Positions count over the tokens of the {run.transcript.stack}; leave them out for {stack}.")
    return tuple(range(len(run.transcript.tokens[stack])))


def _side(ctx: Context, runs: Sequence[Run], name: str, groups: Sequence[Groups], stack: str) -> Side:
    import numpy as np

    from ecco_core import Runs

    captures = Runs(runs).capture(ctx.site, layers=ctx.options["layers"], stack=stack or None)
    keys = list(captures[0].tensors)
    states: list[list[np.ndarray]] = [[] for _ in keys]
    for capture, of_run in zip(captures, groups):
        for found, (of_stack, site, layer) in zip(states, keys):
            values = capture.numpy(site, layer, of_stack)
            if values.shape[0] != len(capture.tokens[of_stack]) or values.ndim < 2 or site.endswith("pattern"):
                raise OptionError(
                    f"Similarity needs a vector for each token, and {site} has the shape {values.shape}; take a site "
                    "such as resid_post, attn_out or mlp_post."
                )
            flat = values.reshape(len(values), -1)
            found.append(_means(flat, of_run))
    layers = tuple(site if layer is None else layer for _, site, layer in keys)
    return Side(name, layers, [np.concatenate(found) for found in states])


def _means(states: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the mean state ``(group, unit)`` of each group of positions."""
    import numpy as np

    if all(len(group) == 1 for group in groups):
        return np.asarray(states[[group[0] for group in groups]])
    return np.stack([states[list(group)].mean(0) for group in groups])
