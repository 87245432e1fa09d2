"""Analyses: what a probe reads off each layer, of one site or of two; a probe to keep, and what it says of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ecco_core import Curves, Fitted, LabelledArray, OptionError, Predictions
from ecco_probing import probes
from ecco_probing.rows import FOLDS, Rows, rows_of

if TYPE_CHECKING:
    from ecco_core import Context

Concept = Literal["labels", "python", "kinds"]
Classifier = Literal["linear", "mlp"]
State = Literal["mean", "last"]
Scores = dict[str, tuple[float, float, float]]
"""Curve -> mean, low and high."""


def probe(
    ctx: Context,
    *,
    concept: Concept = "labels",
    classifier: Classifier = "linear",
    penalty: float = 10.0,
    hidden_units: int = 64,
    splits: int = 5,
    unseen_words: bool = True,
    state: State = "mean",
    stack: str | None = None,
) -> Curves:
    """Accuracy of a probe at each layer, with a control task and baselines, as means and 95 % intervals over splits.

    Options:
        concept: what to read: the classes given as `labels`, classes of Python source, or kinds of words.
        classifier: linear, or mlp with one hidden layer.
        penalty: weight of the squared weights against the summed cross-entropy.
        hidden_units: size of the hidden layer of mlp.
        splits: how many splits into training and test; each has a control task of its own.
        unseen_words: also score on word types that training did not see.
        state: of a labelled run, the mean of its states or the last one.
        stack: encoder or decoder, where a model has both.
    """
    rows = rows_of(ctx, concept, state, stack)
    settings: dict[str, Any] = {"classifier": classifier, "penalty": penalty, "hidden_units": hidden_units}
    found = _over_layers(ctx, rows, ctx.site, splits, unseen_words, settings)
    return _curves(found, f"{_name(classifier)} on {rows.what}, off {ctx.site} ({_count(rows)})")


def probe_comparison(
    ctx: Context,
    *,
    sites: Sequence[str] = ("resid_post", "mlp_post"),
    concept: Concept = "labels",
    classifier: Classifier = "linear",
    penalty: float = 10.0,
    hidden_units: int = 64,
    splits: int = 5,
    unseen_words: bool = True,
    state: State = "mean",
    stack: str | None = None,
) -> Curves:
    """Accuracy and selectivity of a probe at each layer of several sites: hidden states against neurons.

    Options:
        sites: what to compare: sites, or plugins' captures.
        concept: what to read: the classes given as `labels`, classes of Python source, or kinds of words.
        classifier: linear, or mlp with one hidden layer.
        penalty: weight of the squared weights against the summed cross-entropy.
        hidden_units: size of the hidden layer of mlp.
        splits: how many splits into training and test; each has a control task of its own.
        unseen_words: the accuracy is that on word types that training did not see.
        state: of a labelled run, the mean of its states or the last one.
        stack: encoder or decoder, where a model has both.
    """
    if len(set(sites)) < 2:
        raise OptionError(f"sites names two or more to compare, found {', '.join(sites) or 'none'}.")
    rows = rows_of(ctx, concept, state, stack)
    settings: dict[str, Any] = {"classifier": classifier, "penalty": penalty, "hidden_units": hidden_units}
    each = {site: _over_layers(ctx, rows, site, splits, unseen_words, settings) for site in dict.fromkeys(sites)}
    layers = [layer for layer in each[sites[0]] if all(layer in found for found in each.values())]
    if not layers:
        raise OptionError(f"The sites {', '.join(sites)} share no layer; compare sites of the blocks.")
    found: dict[Any, Scores] = {}
    for layer in layers:
        found[layer] = {site: next(iter(of_site[layer].values())) for site, of_site in each.items()}
        found[layer] |= {f"{site}, selectivity": of_site[layer]["selectivity"] for site, of_site in each.items()}
        found[layer]["majority"] = each[sites[0]][layer]["majority"]
    where = ", unseen words" if "accuracy, unseen words" in each[sites[0]][layers[0]] else ""
    return _curves(found, f"{_name(classifier)} on {rows.what}{where}: {' against '.join(each)} ({_count(rows)})")


def fit_probe(
    ctx: Context,
    *,
    concept: Concept = "labels",
    classifier: Classifier = "linear",
    penalty: float = 10.0,
    hidden_units: int = 64,
    state: State = "mean",
    stack: str | None = None,
) -> Fitted:
    """Fit a probe at one layer on all labelled tokens or runs, to keep it and to pass it to `apply_probe`.

    Options:
        concept: what to read: the classes given as `labels`, classes of Python source, or kinds of words.
        classifier: linear, or mlp with one hidden layer.
        penalty: weight of the squared weights against the summed cross-entropy.
        hidden_units: size of the hidden layer of mlp.
        state: of a labelled run, the mean of its states or the last one.
        stack: encoder or decoder, where a model has both.
    """
    rows = rows_of(ctx, concept, state, stack)
    states = list(rows.states(ctx.site, ctx.options["layers"]))
    if len(states) != 1:
        raise OptionError(f"A probe is fitted at one layer, found {len(states)}: name it, such as layers=2.")
    layer, x = states[0]
    settings: dict[str, Any] = {"classifier": classifier, "penalty": penalty, "hidden_units": hidden_units}
    with _said():
        parameters, classes, converged = probes.fit(x, rows.labels, seed=ctx.seed, **settings)
    if not converged:
        ctx.note("The fit stopped before it converged.")
    ctx.note("Fitted on all labelled rows: what it scores on them says nothing; the analysis `probe` tests on others.")
    where = {"model": ctx.run.lm.name, "site": ctx.site, "layer": layer, "stack": rows.stack, "whole": rows.whole}
    title = f"{_name(classifier)} on {rows.what}, fitted at {_place(ctx.site, layer)} ({_count(rows)})"
    return Fitted(title=title, parameters=parameters, settings=where | {"classes": tuple(classes)} | settings)


def apply_probe(ctx: Context, *, fitted: Fitted, top: int = 3) -> Predictions:
    """What a fitted probe says of each token of a run: classes and their probabilities, best first.

    Options:
        fitted: the result of `fit_probe`, on labels of tokens.
        top: how many classes of each token.
    """
    told = fitted.settings
    if not {"site", "layer", "stack", "classes", "whole"} <= set(told):
        raise OptionError("fitted is no probe: pass the result of the analysis fit_probe.")
    if told["whole"]:
        raise OptionError("This probe was fitted on whole runs; it says nothing of tokens.")
    if top < 1:
        raise OptionError(f"top is a number from 1, found {top}.")
    layer = told["layer"] if isinstance(told["layer"], int) else None
    capture = ctx.run.capture(told["site"], layers=layer, stack=told["stack"])
    state = capture.numpy(told["site"], layer)
    with _said():
        probabilities = probes.predict(fitted.parameters, state.reshape(len(state), -1))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    labels = [f"{p} {text}" for p, text in enumerate(capture.tokens[told["stack"]].labels)]
    coords = {"position": labels}
    texts = np.array(told["classes"], dtype=object)[order]
    if told["model"] != ctx.run.lm.name:
        ctx.note(f"The probe was fitted on {told['model']}, this run is of {ctx.run.lm.name}.")
    return Predictions(
        title=f"What a probe reads off {_place(told['site'], told['layer'])}, token by token",
        values=LabelledArray(np.take_along_axis(probabilities, order, 1), ("position", "rank"), coords),
        texts=LabelledArray(texts, ("position", "rank"), coords),
    )


def _over_layers(
    ctx: Context, rows: Rows, site: str, splits: int, unseen_words: bool, settings: dict[str, Any]
) -> dict[Any, Scores]:
    """Layer -> the scores there."""
    shared, unseen = _parts(ctx, rows, splits, unseen_words)
    states = rows.states(site, ctx.options.get("layers"))
    found: dict[Any, Scores] = {}
    unconverged, known = [], 0.0
    for layer, x in ctx.progress(states, what=f"probing {site}"):
        with _said():
            seen = probes.probe(x, rows.labels, types=rows.types, parts=shared, seed=ctx.seed, **settings)
            new = probes.probe(x, rows.labels, parts=unseen, seed=ctx.seed, **settings) if unseen else None
        unconverged += [scored.unconverged for scored in (seen, new) if scored]
        known = float(np.mean(seen.scores["seen"]))
        found[layer] = _scores(rows, seen, new)
    if any(unconverged):
        ctx.note(f"{site}: {np.mean(unconverged):.0%} of the fits stopped before they converged.")
    if not rows.whole:
        ctx.note(f"Seen words: {known:.0%} of the tested tokens have a word type that training saw.")
    return found


def _parts(ctx: Context, rows: Rows, splits: int, unseen_words: bool) -> tuple[list[Any], list[Any]]:
    """Splits between which words are shared, and splits that separate them."""
    how: dict[str, int] = {"splits": splits, "folds": FOLDS, "seed": ctx.seed}
    if rows.whole or unseen_words:
        _require_types(rows)
    with _said():
        if rows.whole:
            ctx.note("No text is in training and test both; in the control task each text has a random label.")
            return probes.grouped_splits(rows.labels, rows.types, **how), []
        by_run = all(len(runs) >= FOLDS for runs in rows.of_class(rows.sequences).values())
        shared = probes.grouped_splits(rows.labels, rows.sequences if by_run else None, **how)
        unseen = probes.grouped_splits(rows.labels, rows.types, **how) if unseen_words else []
    which = "no run" if by_run else "no token"
    ctx.note(f"Seen words, control task and word type: {which} is in training and test both.")
    if unseen_words:
        ctx.note("Unseen words: no word type is in training and test both.")
    return shared, unseen


def _require_types(rows: Rows) -> None:
    what = "texts" if rows.whole else "word types"
    for label, types in rows.of_class(rows.types).items():
        if len(types) < FOLDS:
            other = "" if rows.whole else ", or pass unseen_words=False"
            raise OptionError(
                f"The class {label!r} has {len(types)} {what}, {FOLDS} are needed, so that training and test have "
                f"different ones: give more text, or leave the class out, labelled ''{other}."
            )


def _scores(rows: Rows, seen: probes.Probed, new: probes.Probed | None) -> Scores:
    """Curve -> mean, low and high; the accuracy that counts first."""
    scores = {"accuracy, unseen words": new.scores["accuracy"]} if new else {}
    scores["accuracy" if rows.whole else "accuracy, seen words"] = seen.scores["accuracy"]
    names = {"control": "control task", "selectivity": "selectivity", "word_type": "word type", "majority": "majority"}
    scores |= {said: seen.scores[name] for name, said in names.items() if not (rows.whole and name == "word_type")}
    return {name: probes.interval(s, FOLDS, -1.0 if name == "selectivity" else 0.0) for name, s in scores.items()}


def _curves(found: dict[Any, Scores], title: str) -> Curves:
    names = tuple(next(iter(found.values())))
    numbers = np.array([[scores[name] for scores in found.values()] for name in names])
    coords = {"curve": names, "layer": tuple(found)}
    values, low, high = (LabelledArray(numbers[..., i], ("curve", "layer"), coords) for i in range(3))
    return Curves(title=title, values=values, low=low, high=high)


def _name(classifier: str) -> str:
    return {"linear": "Linear probe", "mlp": "MLP probe"}[classifier]


def _count(rows: Rows) -> str:
    return f"{len(rows.labels)} {'runs' if rows.whole else 'tokens'}, {len(set(rows.labels))} classes"


def _place(site: str, layer: Any) -> str:
    return f"{site} of layer {layer}" if isinstance(layer, int) else site


@contextmanager
def _said() -> Iterator[None]:
    """Say what the functions on arrays find wrong as an error of ours."""
    try:
        yield
    except ValueError as error:
        raise OptionError(str(error)) from error
