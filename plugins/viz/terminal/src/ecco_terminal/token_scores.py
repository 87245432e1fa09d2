"""Token scores in a terminal: the run's text coloured by score, and the strongest sources."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ecco_core import TargetError, visible
from ecco_terminal.palette import Ink
from ecco_terminal.screen import Colour, Piece, Screen, ThemeName, cells, headline, number, padded

if TYPE_CHECKING:
    from ecco_core import Target, TokenScores

TOP_SOURCES = 8
MORE_TARGETS = 20
FAINT = 0.1


def render(
    result: TokenScores,
    *,
    target: int | str | None = None,
    width: int | None = None,
    colour: Colour = "auto",
    theme: ThemeName = "auto",
) -> str:
    """Show one target in full and the others as a line each.

    Options:
        target: position or class of the target to show in full; the last one if not given.
        width: cells in a line, 20 or more; the terminal's if not given.
        colour: what the terminal can show; found out if not given.
        theme: the ground of the text block; found out if not given.

    Returns:
        Text with ANSI colour codes and newlines, and no other control character.

    Raises:
        OptionError: the width is too small.
        TargetError: that position or class was not explained.
    """
    screen = Screen(width, colour, theme)
    chosen = _choose(result, target)
    headline(screen, result, "Token scores")
    if chosen is None:
        screen.line(("Nothing was explained: there are no targets.", Ink()))
    else:
        view = View(result, chosen, screen)
        view.facts()
        view.texts()
        view.legend()
        view.strongest()
        _others(screen, result, chosen)
    if result.notes:
        screen.blank()
    for note in result.notes:
        screen.note(note)
    return screen.text()


def _choose(result: TokenScores, wanted: int | str | None) -> int | None:
    if wanted is None:
        return len(result.targets) - 1 if result.targets else None
    for i, target in enumerate(result.targets):
        if str(wanted) in (str(target.position), _choice(result, target)):
            return i
    there = ", ".join(_choice(result, t) for t in result.targets[:12]) + (" …" if len(result.targets) > 12 else "")
    what = f"Position {wanted}" if str(wanted).lstrip("-").isdigit() else repr(wanted)
    raise TargetError(f"{what} was not explained; option 'target' takes one of: {there or 'none'}.")


def _choice(result: TokenScores, target: Target) -> str:
    """What option 'target' takes to show this one."""
    return visible(target.text) if _of_text(result, target) else str(target.position)


def _of_text(result: TokenScores, target: Target) -> bool:
    """Whether the target is a class of the whole text, so that it stands at none of the tokens."""
    return target.kind == "class" and _there(result, target) is None


def _there(result: TokenScores, target: Target) -> str | None:
    """The token at the target's position, in quotes unless it is a mark such as [MASK]; None if there is none."""
    tokens = result.tokens.get(target.stack)
    if tokens is None or target.position >= len(tokens):
        return None
    label = visible(tokens.labels[target.position])
    return label.strip() if tokens.special[target.position] else f"'{label}'"


def _fills(result: TokenScores, target: Target) -> bool:
    """Whether the target is what a masked model fills into a mask that stands in the text."""
    if target.kind != "masked" or _there(result, target) is None:
        return False
    return int(result.tokens[target.stack].ids[target.position]) != target.token_id


def _where(result: TokenScores, target: Target) -> str:
    """The target's place in words; empty for a class of the whole text."""
    if _of_text(result, target):
        return ""
    there, position = _there(result, target), f"position {target.position}"
    if target.kind == "neuron":
        return f", {position}"
    if target.kind == "token" or there is None:
        return f" at {position}"
    if target.kind == "class":
        return f" for {there} at {position}"
    return f" at {there}, {position}" if _fills(result, target) else f" at masked {position}"


class View:
    """One target of a result: its place, the scores of its sources, relative to the strongest."""

    def __init__(self, result: TokenScores, row: int, screen: Screen) -> None:
        self.result, self.row, self.screen = result, row, screen
        self.target: Target = result.targets[row]
        self.scores = [float(v) for v in result.values.values[row]]
        self.largest = max((abs(v) for v in self.scores if math.isfinite(v)), default=0.0)

    @property
    def causal(self) -> bool:
        """Whether the target is what comes next, so that the model did not see what comes later."""
        return self.target.kind == "token"

    @functools.cached_property
    def painted(self) -> dict[tuple[str, int], float]:
        """Share of the strongest source that covers each (stack, position)."""
        painted: dict[tuple[str, int], float] = {}
        for source, score in zip(self.result.sources, self.scores):
            share = self.share(score)
            for position in source.positions:
                place = (source.stack, position)
                if abs(share) >= abs(painted.get(place, 0.0)):
                    painted[place] = share
        return painted

    @functools.cached_property
    def marked(self) -> dict[tuple[str, int], float]:
        """Share of the source that ends at each (stack, position): its sign stands there, once."""
        ends = ((source.stack, source.positions[-1]) if source.positions else None for source in self.result.sources)
        return {end: self.share(score) for end, score in zip(ends, self.scores) if end}

    def share(self, score: float) -> float:
        """A score relative to the strongest, -1 to 1; 0 for what is not a number."""
        if math.isnan(score):
            return 0.0
        if math.isinf(score):
            return math.copysign(1.0, score)
        return score / self.largest if self.largest else 0.0

    def facts(self) -> None:
        """What is explained, how far the scores add up to it, and what absence was taken to be."""
        target = self.target
        head: list[Piece] = [("explains ", Ink()), (visible(target.quantity), Ink(bold=True))]
        head.append((_where(self.result, target), Ink()))
        if target.value is not None:
            head.append((f" = {number(target.value)}", Ink()))
        if target.probability is not None:
            head.append((f", probability {_probability(target.probability)}", Ink()))
        self.screen.flow(head, rest="  ")
        for line in self._small_print():
            self.screen.flow([(line, Ink())], rest="  ")

    def _small_print(self) -> Iterator[str]:
        result = self.result
        if result.completeness is not None:
            line = f"{visible(result.missed)} {float(result.completeness.values[self.row]):+.2g}"
            relative = result.relative_error()
            if relative is not None and result.change is not None:
                change = number(result.change.values[self.row])
                share = float(relative[self.row])
                if math.isfinite(share):
                    line += f": {share:.2%} of the change of {change} that the scores explain"
                else:
                    line += f" on a change of {change}"
            yield line
        if result.baseline:
            yield f"baseline: {visible(result.baseline)}"
        if result.signed:
            yield f"scores: {visible(result.described)}"
        else:
            yield f"scores: {visible(result.described)}; how much a token mattered, not in which direction"

    def texts(self) -> None:
        """The run's text, stack by stack."""
        several = len(self.result.tokens) > 1
        for stack in self.result.tokens:
            self.screen.blank()
            if several:
                role = "output" if stack == self.target.stack else "source text" if stack == "encoder" else "text"
                self.screen.line((role, Ink(bold=True)), (f"  {visible(stack)}", Ink(dim=True)))
            self.screen.flow(self._text(stack), paper=self.screen.palette.paper)
        if _of_text(self.result, self.target):
            self.screen.blank()
            self.screen.flow([("class ", Ink()), *self._explained(_lined(self.target.text), None)])
        elif self.target.stack not in self.result.tokens:
            self.screen.flow(self._explained(_lined(self.target.text), None))

    def _text(self, stack: str) -> Iterator[Piece]:
        tokens = self.result.tokens[stack]
        here = stack == self.target.stack
        for position in range(len(tokens)):
            text = _lined(tokens.texts[position] or tokens.labels[position])
            share = self.painted.get((stack, position))
            output = here and position >= self.result.n_input_tokens
            if output and position == self.result.n_input_tokens and self.screen.palette.system == "plain":
                yield "‖", Ink()
            if here and position == self.target.position:
                yield from self._explained(text, share, output=output)
                continue
            ink = self._ink(share, after=here and self.causal and position > self.target.position)
            yield text, ink._replace(underline=output)
            yield self._mark(stack, position), ink
        if here and self.causal and self.target.position >= len(tokens):
            yield from self._explained(_lined(self.target.text), None)

    def _ink(self, share: float | None, *, after: bool) -> Ink:
        palette = self.screen.palette
        if after and not share:
            return palette.muted
        if not share:
            return palette.paper
        ink = palette.score(share, signed=self.result.signed)
        return ink._replace(bold=True) if self.screen.marks and abs(share) >= FAINT else ink

    def _explained(self, text: str, share: float | None, *, output: bool = False) -> Iterator[Piece]:
        """The explained token, in brackets that need no colour; its blank or newline stays outside."""
        palette = self.screen.palette
        blank = text[: len(text) - len(text.lstrip(" "))] if text.strip(" ") else ""
        body = text[len(blank) :].rstrip("\n")
        ink = palette.score(share, signed=self.result.signed)._replace(bold=True) if share else palette.mark
        if blank:
            yield blank, palette.paper
        yield "⟦", palette.mark
        yield body, ink._replace(underline=output)
        yield (superscript(share, self.result.signed) if self.screen.marks and share else "") + "⟧", palette.mark
        if text.endswith("\n"):
            yield "\n", Ink()

    def _mark(self, stack: str, position: int) -> str:
        if not self.screen.marks:
            return ""
        return superscript(self.marked.get((stack, position), 0.0), self.result.signed)

    def legend(self) -> None:
        """What colours and signs mean, with the numbers at the ends."""
        screen, signed = self.screen, self.result.signed
        low, high = f"{-self.largest:+.3g}", f"{self.largest:+.3g}"
        screen.blank()
        if not self.largest:
            screen.flow([("all scores are 0 or not finite: nothing is coloured", Ink())])
        elif screen.marks:
            signs = "⁺⁺⁺ spoke most for it, ⁻⁻⁻ most against" if signed else "³ mattered most"
            ladder = "⁺⁺ from ⅓, ⁺ from" if signed else "² from ⅓, ¹ from"
            screen.flow([(f"{signs} (⅔ of {number(self.largest)} or more; {ladder} {FAINT:.0%} of it)", Ink())])
        else:
            steps = 15 if screen.width >= 60 else 9
            ends = ("spoke against ", "spoke for") if signed else ("mattered little ", "much")
            screen.flow([(ends[0], Ink()), ((low if signed else "0") + " ", Ink()), *self._gradient(steps),
                         (f" {high if signed else high.lstrip('+')} ", Ink()), (ends[1], Ink())])  # fmt: skip
        words = ["⟦ ⟧ explained"]
        here = self.result.tokens.get(self.target.stack)
        if here is not None and len(here) > self.result.n_input_tokens:
            words.append("after ‖ output" if screen.palette.system == "plain" else "underlined: output")
        later = self.causal and here is not None and self.target.position + 1 < len(here)
        if later and screen.palette.system != "plain":
            words.append("grey: comes later" if screen.palette.painted else "dim: comes later")
        screen.flow([("   ".join(words), Ink(dim=True))])

    def _gradient(self, steps: int) -> Iterator[Piece]:
        for i in range(steps):
            share = 2 * i / (steps - 1) - 1 if self.result.signed else i / (steps - 1)
            yield " ", self.screen.palette.score(share, signed=self.result.signed)

    def strongest(self) -> None:
        """The sources that count most, with a bar each."""
        order = [j for j in range(len(self.scores)) if self.scores[j]]
        order.sort(key=lambda j: -abs(self.share(self.scores[j])))
        if not order:
            return
        self.screen.blank()
        room = self.screen.width
        texts = {j: _label(self.result, j) for j in order[:TOP_SOURCES]}
        places = max(cells(self._place(j)) for j in texts)
        wide = min(max(cells(t) for t in texts.values()), max(6, min(room // 3, room - places - 16)))
        longest = max(room - places - wide - 10 - 6, 0)
        for j, text in texts.items():
            score = self.scores[j]
            side = "amount" if not self.result.signed else "for" if score >= 0 else "against"
            filled = bar(abs(self.share(score)), min(longest, 30), side, self.screen.marks)
            shown = f"{score:+.3g}" if self.result.signed else f"{score:.3g}"
            self.screen.line(
                (f"{self._place(j):>{places}}  ", Ink(dim=True)), (padded(text, wide), Ink()),
                (f" {shown:>10}  ", Ink(bold=True)), (filled, self.screen.palette.bar(side)),
            )  # fmt: skip
        if len(order) > TOP_SOURCES:
            sign = "+" if self.result.signed else ""
            rest = sum(self.scores[j] for j in order[TOP_SOURCES:])
            words = f"and {len(order) - TOP_SOURCES} more sources with {rest:{sign}.3g} together"
            self.screen.flow([(words, Ink(dim=True))])

    def _place(self, j: int) -> str:
        source = self.result.sources[j]
        first, last = (source.positions[0], source.positions[-1]) if source.positions else ("–", "–")
        stack = f"{visible(source.stack)[:8]} " if len(self.result.tokens) > 1 else ""
        return f"{stack}{first}" + (f"–{last}" if last != first else "")


def superscript(share: float, signed: bool) -> str:
    """Up to three signs that stand for a score where there is no colour."""
    level = sum(abs(share) >= bound for bound in (FAINT, 1 / 3, 2 / 3))
    if not signed:
        return " ¹²³"[level].strip()
    return ("⁺" if share > 0 else "⁻") * level


def bar(share: float, room: int, side: str, marks: bool) -> str:
    """A bar of at most `room` cells."""
    full, part = divmod(round(share * room * 8), 8)
    if marks:
        return {"for": "█", "against": "▒", "amount": "█"}[side] * (full + (part >= 4))
    return "█" * full + ("▏▎▍▌▋▊▉"[part - 1] if part else "")


def _lined(text: str) -> str:
    r"""A token's text as it is shown, with a line break after each newline that it has."""
    return "⏎\n".join(visible(part) for part in text.split("\n"))


def _label(result: TokenScores, j: int) -> str:
    source = result.sources[j]
    text = visible(source.text)
    if not text and source.positions and source.stack in result.tokens:
        labels = result.tokens[source.stack].labels
        text = visible("".join(labels[p] for p in source.positions if 0 <= p < len(labels)))
    return f"'{text}'"


def _probability(value: float) -> str:
    return f"{value:.1%}" if 0.001 <= value <= 0.999 else f"{value:.2g}"


def _others(screen: Screen, result: TokenScores, chosen: int) -> None:
    others = [i for i in range(len(result.targets)) if i != chosen]
    if not others:
        return
    screen.blank()
    option = "CLASS" if _of_text(result, result.targets[chosen]) else "POSITION"
    screen.flow([("Other targets", Ink(bold=True)), (f"  (option target={option} shows one in full)", Ink(dim=True))])
    hidden = others[:-MORE_TARGETS]
    if hidden:
        screen.line((f"{len(hidden)} earlier ones left out", Ink(dim=True)))
    shown = others[-MORE_TARGETS:]
    numbers = {i: "" if _of_text(result, result.targets[i]) else f"{result.targets[i].position} " for i in shown}
    places = max(map(len, numbers.values()))
    wide = min(max(cells(_named(result, i)) for i in shown), max(6, screen.width // 4))
    for i in shown:
        target = result.targets[i]
        name = padded(_named(result, i), wide)
        line: list[Piece] = [(f"{numbers[i]:>{places}}", Ink(dim=True)), (name, Ink(bold=True))]
        if target.value is not None:
            line.append((f" {visible(target.score)} {number(target.value)}", Ink()))
        line.append(("  ←", Ink(dim=True)))
        for why in _because(screen, result, i):
            if cells("".join(text for text, _ in (*line, *why))) <= screen.width:
                line += why
        screen.line(*line)


def _named(result: TokenScores, i: int) -> str:
    target = result.targets[i]
    versus = f" vs '{visible(target.contrast_text)}'" if target.contrast_id is not None else ""
    there, name = _there(result, target), f"'{visible(target.text)}'"
    shown = there is not None and (target.kind == "class" or _fills(result, target))
    return f"{there}: {name}{versus}" if shown else f"{name}{versus}"


def _because(screen: Screen, result: TokenScores, i: int) -> Iterator[list[Piece]]:
    """The three sources that count most for a target, each with its score."""
    view = View(result, i, screen)
    order = sorted(range(len(view.scores)), key=lambda j: -abs(view.share(view.scores[j])))
    for j in order[:3]:
        if view.scores[j]:
            sign = "+" if result.signed else ""
            ink = screen.palette.score(view.share(view.scores[j]), signed=result.signed)
            stack = f" {visible(result.sources[j].stack)[:8]}" if len(result.tokens) > 1 else ""
            yield [
                (stack, Ink(dim=True)),
                (f" {_label(result, j)} ", Ink()),
                (f"{view.scores[j]:{sign}.2g}", ink),
                (" ", Ink()),
            ]
