"""The run's tokens as coloured spans: one row each for what was given and written, and one for its classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ecco_core import Target, Tokens, TokenScores, visible
from ecco_html import wording
from ecco_html.escape import direction, escaped, laid_out, number
from ecco_html.painting import Place
from ecco_html.palette import background

_LONG = 400  # tokens of a text that is written with fewer characters for each
_INK = "border-radius:3px;"
_EXPLAINED = "border-bottom:1px dotted;"
_SHOWN = "border:2px solid;"


def token_rows(
    scores: TokenScores, shown: int | None, painted: Mapping[Place, float], greatest: float, *, whitespace: bool
) -> str:
    """Return all rows, painted for the target called `shown` (an index), on a scale up to `greatest`."""
    draw = _Drawing(scores, shown, painted, greatest, whitespace)
    rows = "\n".join([*(draw.row(*row) for row in _split(scores)), *draw.classes()])
    return f'<div class="text" role="group" aria-label="tokens of the run">\n{rows}\n</div>'


def home(scores: TokenScores) -> str:
    """The stack whose tokens are explained."""
    if scores.targets and scores.targets[0].stack in scores.tokens:
        return scores.targets[0].stack
    return "decoder" if "decoder" in scores.tokens else next(iter(scores.tokens), "decoder")


def _split(scores: TokenScores) -> Iterator[tuple[str, str, int, int]]:
    """Stack, label, first position and end of each row; a token not chosen yet makes a row longer by one.

    The marks that a decoder starts from stand before its output: its prompt is the encoder's text.
    """
    several = len(scores.tokens) > 1
    for stack, tokens in scores.tokens.items():
        size, given = len(tokens), scores.n_input_tokens
        end = size + any(t.stack == stack and t.position == size and t.kind != "class" for t in scores.targets)
        if several and stack != home(scores):
            yield stack, "source text" if stack == "encoder" else stack, 0, size
        elif given == 0 or (several and all(tokens.special[:given])):
            yield stack, "output", 0, end
        elif given < size:
            yield stack, "prompt", 0, given
            yield stack, "output", given, end
        else:
            yield stack, "prompt" if end > size else "text", 0, size
            if end > size:
                yield stack, "next", size, end


class _Drawing:
    def __init__(
        self, scores: TokenScores, shown: int | None, painted: Mapping[Place, float], greatest: float, whitespace: bool
    ) -> None:
        self.scores, self.painted, self.greatest, self.whitespace = scores, painted, greatest, whitespace
        self.explained = {(t.stack, t.position): t for t in scores.targets}
        target = scores.targets[shown] if shown is not None else None
        self.index, self.shown = shown, (target.stack, target.position) if target else None
        self.stacks = list(scores.tokens)
        self.long = sum(map(len, scores.tokens.values())) > _LONG

    def row(self, stack: str, label: str, start: int, end: int) -> str:
        tokens = self.scores.tokens[stack]
        spans = "".join(self.token(stack, tokens, p) for p in range(start, end))
        there = min(end, len(tokens)) - start
        count = f"{there} token{'s' if there != 1 else ''}" if there else "not chosen yet"
        name = f"{stack}, " if len(self.stacks) > 1 and stack != label else ""
        origin = f' data-from="{start}"' if self.long else ""
        return self._row(stack, label, name + count, direction("".join(tokens.texts[start:end])), spans, origin)

    def _row(self, stack: str, label: str, about: str, way: str, spans: str, origin: str = "") -> str:
        kind = label if label in ("output", "next") else "next" if label.startswith("class") else "given"
        number_of = self.stacks.index(stack) if stack in self.stacks else -1
        return (
            f'<div class="row {kind}" data-stack="{number_of}" style="margin-top:.6em"><div class="label" '
            f'style="font-size:.8em"><b>{escaped(label)}</b> <span class="quiet">{escaped(about)}</span></div>'
            f'<div class="tokens" dir="{way}"{origin} style="white-space:pre-wrap;line-height:1.9">{spans}</div></div>'
        )

    def classes(self) -> Iterator[str]:
        """A row with every class of the whole text that is explained, if there are any."""
        found = [(i, t) for i, t in enumerate(self.scores.targets) if wording.of_text(t, self.scores)]
        if found:
            label, spans = "classes" if len(found) > 1 else "class", " ".join(self.chip(i, t) for i, t in found)
            yield self._row(found[0][1].stack, label, "of the whole text", direction(found[0][1].text), spans)

    def chip(self, index: int, target: Target) -> str:
        """One class; it tells its target by number, for several stand at one position."""
        style = _INK + (_SHOWN if index == self.index else _EXPLAINED)
        return (
            f'<span class="tok chip goal" data-p="{target.position}" data-t="{index}" dir="auto"><span class="ink" '
            f'style="{style}">{escaped(target.text)}{escaped(wording.versus(target))}</span></span>'
        )

    def token(self, stack: str, tokens: Tokens, position: int) -> str:
        """One token; its colour leaves out a single blank before a word, so that words stand apart."""
        place = (stack, position)
        text, kind = self._text(tokens, place)
        classes, style, beside = ["tok"] + ([kind] if kind else []), "" if self.long else _INK, ""
        style += self._paint(place)
        if place in self.explained:
            classes.append("goal")
            style += _SHOWN if place == self.shown else _EXPLAINED
            said = wording.verdict(self.explained[place], self.scores)
            beside = f'<sub class="said" style="font-size:.65em">{escaped(said)}</sub>' if said else ""
        blank = " " if len(text) > 1 and text[0] == " " and text[1] != " " else ""
        end = "\n" if text.endswith("\n") else ""
        ink = text.removeprefix(blank).removesuffix(end)
        about = "" if self.long else f' data-p="{position}" dir="auto" title="{self._title(place)}"'
        ink = escaped_layout(ink)
        painted = f' style="{style.removesuffix(";")}"' if style else ""
        inside = f'{blank}<span class="ink"{painted}>{ink}</span>{beside}{end}'
        return f'<span class="{" ".join(classes)}"{about}>{inside}</span>'

    def _paint(self, place: Place) -> str:
        score = self.painted.get(place, 0.0)
        paint = background(score / self.greatest, signed=self.scores.signed, short=self.long) if self.greatest else ""
        return paint + ";" if paint else ""

    def _text(self, tokens: Tokens, place: Place) -> tuple[str, str]:
        """What stands on the page for a token, and what kind of text that is."""
        position = place[1]
        if position >= len(tokens):
            return visible(self.explained[place].text), "ghost"
        if not tokens.texts[position]:
            return visible(tokens.labels[position]) or "∅", "part"
        return laid_out(tokens.texts[position], spaces=self.whitespace), "special" if tokens.special[position] else ""

    def _title(self, place: Place) -> str:
        score = self.painted.get(place)
        return f"{place[1]}" + (f": {number(score, plus=self.scores.signed)}" if score is not None else "")


def escaped_layout(text: str) -> str:
    """Escape a text that is laid out already: its newlines are the only control characters, and stay."""
    return "\n".join(escaped(line) for line in text.split("\n"))
