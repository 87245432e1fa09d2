"""What a run's targets are, by the task of its model: tokens, masked places, classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ecco_core.data.results import Target
from ecco_core.errors import TargetError, did_you_mean, listed

if TYPE_CHECKING:
    from ecco_core.session.run import Run

Wanted = int | str | Sequence[int | str] | None
Contrast = int | str | None
_NUMBER = r"-?[0-9]{1,9}"


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


def _span(run: Run, position: int, upto: int, score: str, contrast: int | None) -> Target:
    """Several tokens explained as one: the sum of their scores."""
    if contrast is not None or score == "prob":
        what = "has no one contrast" if contrast is not None else "has no one probability to explain"
        raise TargetError(f"The span {position}:{upto} {what}; explain its score='logprob', or single tokens.")
    text = run.tokens.part(slice(position, upto)).text
    return attrs.evolve(_target(run, position, int(run.tokens.ids[position]), text, score, None, ""), upto=upto)


def _token(run: Run, position: int, upto: int | None, contrast: int | None, score: str, chosen: bool) -> Target:
    if upto is not None:
        return _span(run, position, upto, score, contrast)
    token = int(run.tokens.ids[position]) if position < len(run) else run.next_token()
    if token == contrast and chosen:
        raise TargetError(f"The contrast is the token at position {position} itself; there is nothing to compare.")
    text = run.tokens.labels[position] if position < len(run) else run.label(token)
    return _target(run, position, token, text, score, contrast, "" if contrast is None else run.label(contrast))


def _masked(run: Run, wanted: list[int | str] | None, contrast: Contrast, score: str) -> list[Target]:
    """Places of a masked language model: what stands there, masked; or what it fills into a mask."""
    mask = run.lm.tokenizer.mask_token_id
    if mask is None:
        raise TargetError(f"The tokenizer of {run.lm.name} has no mask token, so no place can be masked.")
    masks = [p for p, token in enumerate(run.tokens.ids) if token == mask]
    if wanted is None and not masks:
        raise TargetError(
            f"The text holds no {run.lm.tokenizer.mask_token}; name positions to mask and to explain, as targets=[3]."
        )
    places = _places(run, wanted or list(masks), end=False)
    against = None if contrast is None else run.token_id(contrast, "contrast")
    shown = "" if against is None else run.label(against)
    found = []
    for p, upto in places:
        if upto is not None:
            found.append(_span(run, p, upto, score, against))
            continue
        token, text = int(run.tokens.ids[p]), run.tokens.labels[p]
        if token == mask:
            token = int(run.logits()[p].argmax())
            text = run.label(token)
        if token == against:
            raise TargetError(f"The contrast is the token at position {p} itself; there is nothing to compare.")
        found.append(_target(run, p, token, text, score, against, shown))
    return found


def _sequence_class(run: Run, wanted: list[int | str] | None, contrast: Contrast, score: str) -> list[Target]:
    """Classes of the whole text; they stand after its last token."""
    logits = run.logits()
    _scorable(logits.shape[-1], score)
    if getattr(run.lm.model.config, "problem_type", "") == "multi_label_classification" and score in ("entropy", "kl"):
        raise TargetError(f"The labels of this classifier are independent of each other; {score!r} is of one choice.")
    numbers = [int(logits.argmax())] if wanted is None else [_class(run, each, "target") for each in wanted]
    return [_of_class(run, len(run), number, contrast, score) for number in numbers]


def _token_class(run: Run, wanted: list[int | str] | None, contrast: Contrast, score: str) -> list[Target]:
    """The class that each token gets."""
    logits = run.logits()
    _scorable(logits.shape[-1], score)
    ordinary = [p for p, special in enumerate(run.tokens.special) if not special]
    positions = ordinary if wanted is None else _positions(run, wanted, end=False)
    return [_of_class(run, p, int(logits[p].argmax()), contrast, score) for p in positions]


def _of_class(run: Run, position: int, number: int, contrast: Contrast, score: str) -> Target:
    against = None if contrast is None else _class(run, contrast, "contrast")
    if against == number:
        raise TargetError(f"The contrast is the class {run.lm.classes[number]!r} itself; there is nothing to compare.")
    names = run.lm.classes
    return _target(run, position, number, names[number], score, against, "" if against is None else names[against])


def _scorable(classes: int, score: str) -> None:
    if classes == 1 and score != "logit":
        raise TargetError("This classifier gives one number and no classes to choose from; explain score='logit'.")


def _class(run: Run, wanted: int | str, what: str) -> int:
    names = run.lm.classes
    by_name = {name: number for number, name in names.items()}
    if isinstance(wanted, str) and wanted in by_name:
        return by_name[wanted]
    number = int(wanted) if re.fullmatch(_NUMBER, str(wanted)) else None
    if number is None or number not in names:
        near = did_you_mean(str(wanted), by_name)
        raise TargetError(f"{what}: no class {wanted!r}.{near} There are: {listed(by_name)}.")
    return number


def _target(
    run: Run, position: int, token: int, text: str, score: str, contrast: int | None, contrast_text: str
) -> Target:
    return Target(
        position=position,
        token_id=token,
        text=text,
        score=score,
        stack=run.transcript.stack,
        contrast_id=contrast,
        contrast_text=contrast_text,
        kind={"masked": "masked", "sequence_classification": "class", "token_classification": "class"}.get(
            run.lm.task, "token"
        ),
    )


def _places(run: Run, wanted: list[int | str], more: str = "", *, end: bool = True) -> list[tuple[int, int | None]]:
    """Positions, each with the end of its span, None for one token."""
    found: list[tuple[int, int | None]] = []
    for given in wanted:
        ends = re.fullmatch(r"(-?\d+):(-?\d+)", given.strip()) if isinstance(given, str) else None
        if ends is None:
            found += [(p, None) for p in _positions(run, [given], more, end=end)]
            continue
        first, upto = _positions(run, [ends[1], ends[2]], more)
        if first >= upto:
            raise TargetError(f"The span {given!r} is empty: it goes from its first position up to before its second.")
        found.append((first, upto))
    return found


def _positions(run: Run, wanted: list[int | str], more: str = "", *, end: bool = True) -> list[int]:
    """Positions from 0; with `end`, the run's length is one too."""
    length, found = len(run), []
    for given in wanted:
        if not re.fullmatch(_NUMBER, str(given)):
            raise TargetError(f"A target is the position of a token, found {given!r}.")
        p = int(given)
        if not -length <= p < length + end:
            raise TargetError(
                f"Target {p} is not in the run: its {length} tokens have positions 0 to {length - 1} "
                f"(or -1 to -{length}){',' if more else ''}{more.format(length=length)}."
            )
        found.append(p + length if p < 0 else p)
    return found


_OF_TASK: dict[str, Callable[[Run, Any, Contrast, str], list[Target]]] = {
    "causal": _tokens,
    "seq2seq": _tokens,
    "masked": _masked,
    "sequence_classification": _sequence_class,
    "token_classification": _token_class,
}
