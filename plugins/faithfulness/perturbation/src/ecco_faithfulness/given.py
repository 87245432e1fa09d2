"""The attributions that are compared: made by methods that are named, or given as results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

import ecco_core
from ecco_core import OptionError, Target, TargetError, TokenScores, did_you_mean, options_for, plugins

if TYPE_CHECKING:
    from ecco_core import Context, Result, Run, ScoreModule, Source

Matrix = np.ndarray
"""Scores ``(target, source)``."""
_SHARED = ("targets", "contrast", "score", "features", "seed")  # options that are the comparison's, for all methods


def matched(scores: Sequence[Result], runs: Sequence[Run]) -> list[dict[str, TokenScores]]:
    """Sort given results to their runs: per run, name -> result; the name is the analysis's, or the title.

    Raises:
        OptionError: a result is no TokenScores, belongs to none of the runs, or a method is missing for one.
    """
    found: list[dict[str, TokenScores]] = [{} for _ in runs]
    for number, result in enumerate(scores):
        if not isinstance(result, TokenScores):
            raise OptionError(f"scores takes results that score tokens (TokenScores), found {type(result).__name__}.")
        name = result.provenance.analysis or result.title or f"scores {number + 1}"
        here = [i for i, run in enumerate(runs) if _same_tokens(result, run)]
        if not here:
            text = "".join(next(iter(result.tokens.values())).texts)[:40]
            raise OptionError(f"The scores of {name!r} are of other tokens ({text!r} ...) than any run given here.")
        model = result.provenance.model
        if model and model != runs[here[0]].lm.name:
            raise OptionError(
                f"The scores of {name!r} are of the model {model!r}, the run is of {runs[here[0]].lm.name!r}."
            )
        place = min(here, key=lambda i: sum(_base(known) == name for known in found[i]))  # the same text twice
        count = sum(_base(known) == name for known in found[place])
        found[place][name if count == 0 else f"{name} #{count + 1}"] = result
    names = list(dict.fromkeys(name for each in found for name in each))
    for i, each in enumerate(found):
        missing = [name for name in names if name not in each]
        if missing:
            raise OptionError(f"The scores of {missing[0]!r} are missing for run {i}: give one result for each run.")
    return found


def _base(name: str) -> str:
    return re.sub(r" #\d+$", "", name)


def _same_tokens(result: TokenScores, run: Run) -> bool:
    own = run.transcript.tokens
    return result.tokens.keys() == own.keys() and all(
        np.array_equal(t.ids, own[s].ids) for s, t in result.tokens.items()
    )


def wanted(result: TokenScores) -> tuple[int | str, ...]:
    """The targets of a result as the option `targets` takes them."""
    classes = [t.kind == "class" and t.position >= len(result.tokens[t.stack]) for t in result.targets]
    return tuple(
        t.token_id if is_class else t.position if t.upto is None else f"{t.position}:{t.upto}"
        for t, is_class in zip(result.targets, classes)
    )


def aligned(name: str, result: TokenScores, module: ScoreModule, sources: Sequence[Source], seen: Matrix) -> Matrix:
    """The scores of a result in the order of a run's targets and sources; 0 where a target does not see a source.

    Args:
        seen: boolean ``(target, source)``: what is compared.

    Raises:
        TargetError: a target is missing. OptionError: a source is missing, or a score is no number.
    """
    rows = {_identity(target): i for i, target in enumerate(result.targets)}
    columns = {(s.stack, s.positions[0]): (i, s.positions) for i, s in enumerate(result.sources)}
    found = np.zeros((len(module.targets), len(sources)))
    for t, target in enumerate(module.targets):
        if _identity(target) not in rows:
            there = ", ".join(map(_named, result.targets[:8])) + " ..." * (len(result.targets) > 8)
            raise TargetError(f"The scores of {name!r} do not explain target {_named(target)}; they explain {there}.")
        for j in np.flatnonzero(seen[t]).tolist():
            source = sources[j]
            column, positions = columns.get((source.stack, source.positions[0]), (-1, ()))
            if column < 0 or positions[: len(source.positions)] != source.positions:
                raise OptionError(
                    f"The scores of {name!r} have no source {source.text!r} at {source.stack} {source.positions[0]}: "
                    "the features that are compared are theirs, set with features=."
                )
            found[t, j] = result.values.values[rows[_identity(target)], column]
    if not np.isfinite(found).all():
        raise OptionError(f"The scores of {name!r} hold NaN or infinite numbers, which have no rank.")
    return found


def _named(target: Target) -> str:
    rather = "" if target.contrast_id is None else f" rather than {target.contrast_text!r}"
    return f"{target.position} {target.text!r}{rather}"


def _identity(target: Target) -> tuple[Any, ...]:
    return target.stack, target.position, target.upto, target.token_id, target.contrast_id


@attrs.frozen
class Method:
    """An attribution method that is named.

    Attributes:
        label: what was typed, `options` included. `name`: of the analysis; `version`: of what offers it.
        takes: the options that it has.
    """

    label: str
    name: str
    options: Mapping[str, Any]
    takes: frozenset[str]
    version: str


def method(label: str) -> Method:
    """Find a method that is named as ``ig`` or, with options of its own, ``ig[n_steps=10]``, ``ig[a=1;b=x]``.

    Raises:
        AnalysisNotFoundError: no such method. OptionError: it is another kind of analysis, or has no such option.
    """
    name, bracket, rest = label.partition("[")
    offer = plugins().analysis(name.strip())
    kind = getattr(ecco_core, offer.spec.produces, TokenScores)  # else a kind of the plugin's own, seen when it is run
    if not issubclass(kind, TokenScores):
        raise OptionError(f"{label!r} scores no tokens: it returns {offer.spec.produces}, not TokenScores.")
    takes = options_for(offer.spec, offer.load())
    options: dict[str, Any] = {}
    for part in rest.removesuffix("]").split(";") if bracket else ():
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not (equals and option and value and rest.endswith("]")):
            raise OptionError(f"A method with options is written as {name}[option=value;other=value], found {label!r}.")
        if option in _SHARED or option not in takes:
            own = [each for each in takes if each not in _SHARED]
            raise OptionError(
                f"{name} has no option {option!r} of its own.{did_you_mean(option, own)} It takes: {', '.join(own)}."
            )
        options[option] = _value(value)
    version = f"{offer.distribution} {offer.version}"
    return Method(label, offer.spec.name, options, frozenset(takes), version)


def _value(text: str) -> Any:
    """A number or a truth value where it is written as one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def made(ctx: Context, run: Run, method: Method, targets: Sequence[int | str]) -> TokenScores:
    """What a method that is named says of a run.

    It explains the score that is asked for or, where none is, its own default: for one target, gradients of the
    log-probability are those of the probability times a positive number.

    Raises:
        OptionError: it is no method that scores tokens, or not these features. EccoError: what the method says.
    """
    options = {name: value for name, value in ctx.options.items() if name in ("features", "contrast", "score")}
    if options["score"] == ctx.spec.defaults["score"]:
        del options["score"]
    if "features" not in method.takes and options["features"] != "tokens":
        raise OptionError(f"it scores tokens, not {options['features']}.")
    options |= {"targets": targets, "seed": ctx.seed, **method.options}
    result = run.analyze(method.name, **{name: value for name, value in options.items() if name in method.takes})
    if not isinstance(result, TokenScores):
        raise OptionError(f"it scores no tokens: it returns {type(result).__name__}, not TokenScores.")
    return result


def targets_of(module: ScoreModule) -> tuple[int | str, ...]:
    """The targets of a module as the option `targets` takes them."""
    if module.transcript.task == "sequence_classification":
        return tuple(target.token_id for target in module.targets)
    return tuple(t.position if t.upto is None else f"{t.position}:{t.upto}" for t in module.targets)


def moved(
    ctx: Context, run: Run, module: ScoreModule, method: Method, n: int, radius: float, rng: Any
) -> list[TokenScores]:
    """What a method says of a run whose embeddings are moved a little, `n` times.

    Each token's embedding is moved by a vector of `radius` times the embeddings' root mean square length, in a
    direction drawn uniformly; the first stack's embeddings where there are two.
    """
    import torch

    embeddings = module.inputs()[0][0]
    size = radius * float(embeddings.norm(dim=-1).square().mean().sqrt())
    stack, count = module.stacks[0], len(run.transcript.tokens[module.stacks[0]])
    found = []
    for _ in range(n):
        drawn = rng.standard_normal((count, embeddings.shape[1]))
        drawn *= size / np.linalg.norm(drawn, axis=1, keepdims=True)
        change = ecco_core.add("embedding", torch.from_numpy(drawn).to(embeddings), stack=stack)
        with run.lm.intervene(change):
            found.append(made(ctx, run, method, targets_of(module)))
    return found
