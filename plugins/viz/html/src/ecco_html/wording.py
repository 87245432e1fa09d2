"""What is said in words about token scores as a whole and about each target."""

from __future__ import annotations

import math

from ecco_core import Target, TokenScores, visible
from ecco_html.escape import number, quoted


def summary(scores: TokenScores) -> tuple[str, ...]:
    """What the numbers are, one line, and what absence was taken to be, another."""
    kind = f"scores: {scores.described}" + ("" if scores.signed else "; how much, not which way")
    baseline = f"baseline: {scores.baseline}" if scores.baseline else ""
    return tuple(line for line in (kind, baseline) if line)


def causal(scores: TokenScores) -> bool:
    """Whether the numbers say what made the target's score; attention, in units of its own, says where was looked."""
    return "units of the target" in scores.unit


def heading(scores: TokenScores) -> str:
    """What stands before the target's name."""
    return "What led to" if causal(scores) else "Scores for"


def led(scores: TokenScores) -> str:
    """What stands before the strongest sources, for those who hear the page."""
    return "led to by" if causal(scores) else "most from"


def of_text(target: Target, scores: TokenScores) -> bool:
    """Whether the target is a class of the whole text, so that it stands at none of the tokens."""
    return target.kind == "class" and _there(target, scores) is None


def where(target: Target, scores: TokenScores) -> str:
    """The target's place, as it goes on after "What led to …"; empty for a class of the whole text."""
    there, position = _there(target, scores), f"position {target.position}"
    if of_text(target, scores):
        return ""
    if there is None:
        return f"at {position}" + (", not chosen yet" if comes_next(target, scores) else "")
    if target.kind == "class":
        return f"for {there} at {position}"
    if target.kind == "neuron":
        return f"at {there}, {position}"
    if target.kind == "masked":
        return f"at {position}, masked" if _stands(target, scores) else f"at {there}, {position}"
    return f"at {position}" if _stands(target, scores) else f"at {position}, where {there} stands"


def comes_next(target: Target, scores: TokenScores) -> bool:
    """Whether the token is not chosen yet, so that it stands at the end."""
    tokens = scores.tokens.get(target.stack)
    return tokens is not None and target.position == len(tokens)


def _there(target: Target, scores: TokenScores) -> str | None:
    """The token at the target's position, in quotes unless it is a mark such as [MASK]; None if there is none."""
    tokens = scores.tokens.get(target.stack)
    if tokens is None or target.position >= len(tokens):
        return None
    label = tokens.labels[target.position]
    return visible(label).strip() if tokens.special[target.position] else quoted(label)


def _stands(target: Target, scores: TokenScores) -> bool:
    """Whether the target's own token stands at its position."""
    tokens = scores.tokens.get(target.stack)
    return tokens is not None and target.position < len(tokens) and int(tokens.ids[target.position]) == target.token_id


def verdict(target: Target, scores: TokenScores) -> str:
    """What the model says of a token, to stand beside it: its class, or what fills a mask; else empty."""
    told = target.kind == "class" or (target.kind == "masked" and not _stands(target, scores))
    return visible(target.text).strip() if told and _there(target, scores) is not None else ""


def versus(target: Target) -> str:
    """What the target is compared with, in words."""
    return f" rather than {quoted(target.contrast_text)}" if target.contrast_id is not None else ""


def goal(target: Target) -> str:
    """The token or class whose score is explained, and the one it is compared with; or the neuron."""
    if target.kind == "neuron":
        return visible(target.score)
    return ("class " if target.kind == "class" else "") + quoted(target.text) + versus(target)


def plain(target: Target, scores: TokenScores) -> bool:
    """Whether its position and name say it all."""
    return not of_text(target, scores) and not verdict(target, scores)


def spoken(target: Target, scores: TokenScores) -> str:
    """The target in one breath, for those who hear the page."""
    if of_text(target, scores):
        return goal(target)
    there = "" if plain(target, scores) else f" {_there(target, scores)},"
    return f"position {target.position}{there} {goal(target)}"


def key(scores: TokenScores, *, alive: bool) -> str:
    """How to read the page, and, where scripts run, how to move in it."""
    targets = scores.targets
    whole = bool(targets) and of_text(targets[-1], scores)
    kind = targets[-1].kind if targets else "token"
    shows = "what led to" if causal(scores) else "the scores for"
    if not alive:
        framed = {"class": "the class with the frame" if whole else "the class of the token with the frame",
                  "masked": "the prediction in the frame"}.get(kind, "the token with the frame")  # fmt: skip
        more = "classes with a dotted line" if whole else "dotted tokens"
        return f"Colours show {shows} {framed}" + (f"; {more} are explained too." if len(targets) > 1 else ".")
    if whole and len(targets) == 1:
        return "Point at, tap or arrow to a token to see its exact score."
    its = {"class": "its class", "neuron": "its activation"}.get(kind, "it")
    goals, it = ("a class", "it") if whole else ("a dotted token", its)
    it = "the prediction there" if kind == "masked" else it
    return (
        f"Point at, tap or arrow to {goals} to see {shows} {it}; ↑ ↓ go from one to the next. "
        "Enter or a click pins it, Esc lets go. While it is pinned, every token tells its exact score."
    )


def facts(scores: TokenScores, index: int) -> str:
    """The explained number, its probability, and what the scores miss of it."""
    target = scores.targets[index]
    quantity = {"logprob": "log-probability", "prob": "probability"}.get(target.score, target.score)
    quantity = "activation" if target.kind == "neuron" else quantity
    if target.contrast_id is not None:
        quantity = f"difference of {quantity}"
    parts = [visible(quantity) + (f" {number(target.value)}" if target.value is not None else "")]
    if target.probability is not None and target.score != "prob":
        parts.append(f"probability {number(target.probability, 3)}")
    return " · ".join([*parts, *_completeness(scores, index)])


def _completeness(scores: TokenScores, index: int) -> list[str]:
    if scores.completeness is None:
        return ["no completeness promise"] if causal(scores) else []
    error = f"{visible(scores.missed)} {number(scores.completeness.values[index], 2, plus=True)}"
    relative = scores.relative_error()
    if relative is not None and math.isfinite(relative[index]):
        assert scores.change is not None
        from_baseline = " from the baseline" * (scores.missed == "completeness error")
        change = number(scores.change.values[index], 3, plus=True)
        error += f" ({number(100 * relative[index], 2)} % of the change {change}{from_baseline})"
    return [error]
