"""What a run's targets are, by the task of its model: tokens, masked places, classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ecco_core.data.results import Target
from ecco_core.errors import OptionError, TargetError, did_you_mean, listed

if TYPE_CHECKING:
    import torch

    from ecco_core.session.run import Run

Wanted = int | str | Sequence[int | str] | None
Contrast = int | str | None
_NUMBER = r"\s*-?[0-9]{1,9}\s*"


def targets_of(run: Run, wanted: Wanted, contrast: Contrast, score: str) -> list[Target]:
    """Return the chosen targets of a run.

    Raises:
        TargetError: a target is not in the run or has nothing to explain it, or the contrast is none.
    """
    if run.lm.task not in _OF_TASK:
        raise TargetError(f"A {run.lm.task} model predicts nothing that could be explained; capture from it instead.")
    if score in ("entropy", "kl") and contrast is not None:
        raise TargetError(f"The score {score!r} is of the whole prediction, which has no contrast; leave it out.")
    several = None if wanted is None else [wanted] if isinstance(wanted, (int, str)) else list(wanted)
    if several is not None and not several:
        raise TargetError("targets is empty; leave it out to explain what the model predicts.")
    return _OF_TASK[run.lm.task](run, several, contrast, score)


def neurons_of(run: Run, wanted: Wanted, neuron: tuple[str, int, int]) -> list[Target]:
    """Return the activations of one neuron at positions of a run, the last one by default.

    Raises:
        TargetError: no such position. OptionError: no such unit.
    """
    site, layer, unit = neuron[0], run.resolve_layers(neuron[1])[0], neuron[2]
    several = [-1] if wanted is None else [wanted] if isinstance(wanted, (int, str)) else list(wanted)
    width = next(iter(run.capture(site, layers=layer).tensors.values())).shape[-1]
    if not -width <= unit < width:
        raise OptionError(f"No unit {unit} in {site} of layer {layer}; its units are 0 to {width - 1}.")
    unit, places = unit % width, [_position(run, p, end=False) for p in several]
    fields: dict[str, Any] = {"token_id": unit, "score": f"unit {unit} of {site} in layer {layer}", "kind": "neuron"}
    return [_target(run, position=p, text=run.tokens.labels[p], **fields) for p in places]


def _tokens(run: Run, wanted: list[int | str] | None, contrast: Contrast, score: str) -> list[Target]:
    """Tokens of a decoder: each is what the state before it predicts."""
    length, chosen = len(run), wanted is not None
    if wanted is None:
        wanted = list(range(max(1, run.n_input_tokens), length)) or [length]
    places = _places(run, wanted, " and {length} is the token not chosen yet")
    if 0 in [p for p, _ in places]:
        raise TargetError("Target 0 has nothing before it: a causal model did not predict the first token.")
    against = None if contrast is None else run.token_id(contrast, "contrast")
    return [_token(run, p, upto, against, score, chosen) for p, upto in places]


def _masked(run: Run, wanted: list[int | str] | None, contrast: Contrast, score: str) -> list[Target]:
    """Places of a masked language model: what stands there, masked; or what it fills into a mask."""
    mask = run.lm.tokenizer.mask_token_id
    if mask is None:
        raise TargetError(f"The tokenizer of {run.lm.name} has no mask token, so no place can be masked.")
    masks = [p for p, token in enumerate(run.tokens.ids) if token == mask]
    if wanted is None and not masks:
        raise TargetError(f"The text holds no {run.lm.tokenizer.mask_token}; name positions to mask, as targets=[3].")
    places = _places(run, wanted or list(masks), end=False)
    against = None if contrast is None else run.token_id(contrast, "contrast")
    return [_token(run, p, upto, against, score, chosen=True, filled=p in masks) for p, upto in places]


def _token(
    run: Run, position: int, upto: int | None, contrast: int | None, score: str, chosen: bool, filled: bool = False
) -> Target:
    """A token that stands in the run, that comes after it, or that is filled into a mask; or a span of tokens."""
    if upto is not None:
        if contrast is not None or score == "prob":
            what = "has no one contrast" if contrast is not None else "has no one probability to explain"
            raise TargetError(f"The span {position}:{upto} {what}; explain its score='logprob', or single tokens.")
        text = run.tokens.part(slice(position, upto)).text
        token = int(run.tokens.ids[position])
        return _target(run, position=position, token_id=token, text=text, score=score, upto=upto)
    if filled or position == len(run):
        token = int(run.logits()[position].argmax()) if filled else run.next_token()
        text = run.label(token)
    else:
        token, text = int(run.tokens.ids[position]), run.tokens.labels[position]
    if token == contrast and chosen:
        raise TargetError(f"The contrast is the token at position {position} itself; there is nothing to compare.")
    return _target(run, contrast, position=position, token_id=token, text=text, score=score)


def _sequence_class(run: Run, wanted: list[int | str] | None, contrast: Contrast, score: str) -> list[Target]:
    """Classes of the whole text; they stand after its last token."""
    logits = _class_logits(run, score)
    if getattr(run.lm.model.config, "problem_type", "") == "multi_label_classification" and score in ("entropy", "kl"):
        raise TargetError(f"The labels of this classifier are independent of each other; {score!r} is of one choice.")
    numbers = [int(logits.argmax())] if wanted is None else [_class(run, each, "target") for each in wanted]
    return [_of_class(run, len(run), number, contrast, score) for number in numbers]


def _token_class(run: Run, wanted: list[int | str] | None, contrast: Contrast, score: str) -> list[Target]:
    """The class that each token gets."""
    logits = _class_logits(run, score)
    ordinary = [p for p, special in enumerate(run.tokens.special) if not special]
    positions = ordinary if wanted is None else [_position(run, p, end=False) for p in wanted]
    return [_of_class(run, p, int(logits[p].argmax()), contrast, score) for p in positions]


def _of_class(run: Run, position: int, number: int, contrast: Contrast, score: str) -> Target:
    names = run.lm.classes
    against = None if contrast is None else _class(run, contrast, "contrast")
    if against == number:
        raise TargetError(f"The contrast is the class {names[number]!r} itself; there is nothing to compare.")
    return _target(run, against, position=position, token_id=number, text=names[number], score=score)


def _class_logits(run: Run, score: str) -> torch.Tensor:
    logits = run.logits()
    if logits.shape[-1] == 1 and score != "logit":
        raise TargetError("This classifier gives one number and no classes to choose from; explain score='logit'.")
    return logits


def _class(run: Run, wanted: int | str, what: str) -> int:
    names = run.lm.classes
    by_name = {name: number for number, name in names.items()}
    if isinstance(wanted, str) and (wanted in by_name or wanted.strip() in by_name):
        return by_name.get(wanted, by_name.get(wanted.strip(), 0))
    number = int(wanted) if re.fullmatch(_NUMBER, str(wanted)) else None
    if number is None or number not in names:
        near = did_you_mean(str(wanted), by_name)
        raise TargetError(f"{what}: no class {wanted!r}.{near} There are: {listed(by_name)}.")
    return number


def _target(run: Run, contrast: int | None = None, *, kind: str = "", **fields: Any) -> Target:
    kinds = {"masked": "masked", "sequence_classification": "class", "token_classification": "class"}
    kind = kind or kinds.get(run.lm.task, "token")
    versus = "" if contrast is None else run.lm.classes[contrast] if kind == "class" else run.label(contrast)
    stack = run.transcript.stack
    return Target(stack=stack, kind=kind, contrast_id=contrast, contrast_text=versus, **fields)


def _places(run: Run, wanted: list[int | str], more: str = "", *, end: bool = True) -> list[tuple[int, int | None]]:
    """Positions, each with the end of its span, None for one token."""
    found: list[tuple[int, int | None]] = []
    for given in wanted:
        ends = re.fullmatch(r"(-?\d+):(-?\d+)", given.strip()) if isinstance(given, str) else None
        if ends is None:
            found.append((_position(run, given, more, end=end), None))
            continue
        first, upto = (_position(run, each, more) for each in ends.groups())
        if first >= upto:
            raise TargetError(f"The span {given!r} is empty: it goes from its first position up to before its second.")
        found.append((first, upto))
    return found


def _position(run: Run, given: int | str, more: str = "", *, end: bool = True) -> int:
    """A position from 0; with `end`, the run's length is one too."""
    length = len(run)
    if not re.fullmatch(_NUMBER, str(given)):
        raise TargetError(f"A target is the position of a token, found {str(given)[:40]!r}; a span is written '3:6'.")
    position = int(given)
    if not -length <= position < length + end:
        raise TargetError(
            f"Target {position} is not in the run: its {length} tokens have positions 0 to {length - 1} "
            f"(or -1 to -{length}){',' if more else ''}{more.format(length=length)}."
        )
    return position + length if position < 0 else position


_OF_TASK: dict[str, Callable[[Run, Any, Contrast, str], list[Target]]] = {
    "causal": _tokens,
    "seq2seq": _tokens,
    "masked": _masked,
    "sequence_classification": _sequence_class,
    "token_classification": _token_class,
}
