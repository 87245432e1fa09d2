"""What is said around a figure: title, origin, notes, and what a target is."""

from __future__ import annotations

import math

from ecco_core import Result, Target, TokenScores
from ecco_matplotlib.words import Words, number


def title_of(result: Result, words: Words) -> str:
    """The result's title, or what it is."""
    title = words.shown(result.title or result.provenance.analysis.replace("_", " ") or result.kinds()[0])
    return title if len(title) <= 300 else title[:299] + "…"


def subtitle_of(result: Result, words: Words) -> str:
    """The analysis, the model, and what it was changed by."""
    origin = result.provenance
    analysis = origin.analysis.replace("_", " ")
    parts = ["" if analysis.lower() == result.title.lower() else analysis, origin.model, *origin.interventions]
    subtitle = " · ".join(words.shown(part) for part in parts if part)
    return subtitle if len(subtitle) <= 300 else subtitle[:299] + "…"


def notes_of(result: Result, words: Words) -> list[str]:
    """What a reader must know, and which characters could not be written."""
    notes = [words.shown(note) for note in result.notes]
    if words.missing:
        count = len(words.missing)
        notes.append(
            f"{count} character{'s' * (count > 1)} without a glyph in the fonts installed here: written as codes."
        )
    return notes


def there(target: Target, scores: TokenScores) -> str | None:
    """The token at the target's position; None where none stands."""
    tokens = scores.tokens.get(target.stack)
    return tokens.labels[target.position] if tokens is not None and target.position < len(tokens) else None


def stands(target: Target, scores: TokenScores) -> bool:
    """Whether the target's own token stands at its position."""
    tokens = scores.tokens.get(target.stack)
    if tokens is None or target.position >= len(tokens) or target.kind in ("class", "neuron"):
        return False
    return int(tokens.ids[target.position]) == target.token_id


def label_of(target: Target, scores: TokenScores, words: Words) -> str:
    """A target as the label of a row."""
    token, text = (
        there(target, scores),
        words.shown(target.text) if target.kind == "class" else words.token(target.text),
    )
    versus = f" − {words.token(target.contrast_text)}" if target.contrast_id is not None else ""
    if target.kind == "neuron":
        return f"{target.position} {words.shown(target.score)}"
    if target.kind == "class" and token is None:
        return f"{text}{versus}"
    if stands(target, scores) or token is None:
        return f"{target.position} {text}{versus}"
    return f"{target.position} {words.token(token)}: {text}{versus}"


def led_to(target: Target, scores: TokenScores, words: Words) -> str:
    """What one target is, where it stands, and its number."""
    token = there(target, scores)
    where = "" if target.kind == "class" and token is None else f" at position {target.position}"
    if token is not None and not stands(target, scores) and target.kind != "neuron":
        where = f" for {words.shown(token).strip()}{where}"
    value = "" if target.value is None else f" = {number(target.value)}"
    likely = target.probability is not None and target.score != "prob"
    probability = f" (probability {number(target.probability)})" if likely else ""
    return f"What led to {words.shown(target.quantity)}{where}{value}{probability}"


def facts_of(scores: TokenScores, words: Words, row: int | None) -> list[str]:
    """Baseline and what the sum misses, of one target or the largest of all."""
    facts = [f"Baseline: {words.shown(scores.baseline)}."] if scores.baseline else []
    if scores.completeness is None or not scores.targets:
        return facts
    errors, shares = scores.completeness.values, scores.relative_error()
    i = row if row is not None else int(abs(errors).argmax())
    share = (
        f" ({number(100 * shares[i], 2)} % of the change)" if shares is not None and math.isfinite(shares[i]) else ""
    )
    missed = words.shown(scores.missed)
    which = missed[:1].upper() + missed[1:] if row is not None else f"Largest {missed}"
    return [*facts, f"{which}: {number(errors[i], 2, plus=True)}{share}."]
