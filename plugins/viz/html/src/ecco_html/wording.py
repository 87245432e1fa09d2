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


def where(target: Target, scores: TokenScores) -> str:
    """The target's position, and what stands there if that is another token."""
    tokens = scores.tokens.get(target.stack)
    if tokens is None or target.position > len(tokens):
        return f"position {target.position}"
    if target.position == len(tokens):
        return f"position {target.position}, not chosen yet"
    if int(tokens.ids[target.position]) == target.token_id:
        return f"position {target.position}"
    return f"position {target.position}, where {quoted(tokens.labels[target.position])} stands"


def goal(target: Target) -> str:
    """The token whose score is explained, and the one it is compared with."""
    versus = f" rather than {quoted(target.contrast_text)}" if target.contrast_id is not None else ""
    return quoted(target.text) + versus


def facts(scores: TokenScores, index: int) -> str:
    """The explained number, its probability, and what the scores miss of it."""
    target = scores.targets[index]
    quantity = {"logprob": "log-probability", "prob": "probability"}.get(target.score, target.score)
    if target.contrast_id is not None:
        quantity = f"difference of {quantity}"
    parts = [visible(quantity) + (f" {number(target.value)}" if target.value is not None else "")]
    if target.probability is not None and target.score != "prob":
        parts.append(f"probability {number(target.probability, 3)}")
    return " · ".join([*parts, *_completeness(scores, index)])


def _completeness(scores: TokenScores, index: int) -> list[str]:
    if scores.completeness is None:
        return ["no completeness promise"]
    error = f"completeness error {number(scores.completeness.values[index], 2, plus=True)}"
    relative = scores.relative_error()
    if relative is not None and math.isfinite(relative[index]):
        assert scores.change is not None
        change = number(scores.change.values[index], 3, plus=True)
        error += f" ({number(100 * relative[index], 2)} % of the change {change} from the baseline)"
    return [error]
