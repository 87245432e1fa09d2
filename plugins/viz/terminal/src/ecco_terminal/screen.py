"""A page of terminal text: pieces of ink laid out in lines that never exceed the width."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from ecco_core import OptionError, visible
from ecco_terminal.palette import Ink, Palette, system_of, theme_of

if TYPE_CHECKING:
    from ecco_core import Result

Piece = tuple[str, Ink]
Colour = Literal["auto", "truecolor", "256", "16", "none"]
ThemeName = Literal["auto", "dark", "light"]
NOTHING: Piece = ("", Ink())
NARROWEST, WIDEST_BY_ITSELF = 20, 160


class Screen:
    """Collects lines; `text` turns them into ANSI.

    Attributes:
        width: cells in a line. `palette`: its inks. `marks`: whether signs must stand for colours.
    """

    def __init__(self, width: int | None, colour: Colour = "auto", theme: ThemeName = "auto") -> None:
        if width is not None and width < NARROWEST:
            raise OptionError(f"option 'width' takes {NARROWEST} cells or more, found {width}.")
        own = min(shutil.get_terminal_size().columns, WIDEST_BY_ITSELF)
        self.width = max(own, NARROWEST) if width is None else width
        system = system_of() if colour == "auto" else colour
        self.palette = Palette(system, theme_of() if theme == "auto" else theme)
        self.marks = not self.palette.colours
        self.lines: list[list[Piece]] = []

    def line(self, *pieces: Piece) -> None:
        """Add one line as it is; what does not fit is cut."""
        line: list[Piece] = []
        room = self.width
        for text, ink in pieces:
            text = clip(text, room)
            line.append((text, ink))
            room = self.width - cells("".join(t for t, _ in line))
        self.lines.append(line)

    def blank(self) -> None:
        """Add an empty line, unless the last one is."""
        if self.lines and self.lines[-1]:
            self.lines.append([])

    def flow(
        self, pieces: Iterable[Piece], *, first: Piece = NOTHING, rest: str = "", paper: Ink | None = None
    ) -> None:
        """Add running text, broken between words and at each newline.

        `first` stands before the first line, `rest` before the others. On `paper`, each line has a margin
        of one cell and is filled to the width where the paper has a colour.
        """
        lead: list[Piece] = [(" ", paper)] if paper else [first] if first[0] else []
        later: list[Piece] = [(" ", paper)] if paper else [(rest, Ink())] if rest else []
        room = self.width - (2 if paper else max(cells(first[0]), cells(rest)))
        for number, body in enumerate(broken(pieces, room)):
            line = [*(later if number else lead), *body]
            if paper and paper.bg:
                line.append((" " * (self.width - cells("".join(t for t, _ in line))), paper))
            self.lines.append(line)

    def note(self, text: str) -> None:
        """Add a note that is not overlooked."""
        head = " note " if self.palette.colours else "NOTE"
        body = [(" ", Ink()), (visible(text), Ink(bold=True))]
        self.flow(body, first=(head, self.palette.warning), rest=" " * (len(head) + 1))

    def text(self) -> str:
        """The page, with ANSI codes for its inks, without a newline at its end."""
        import io
        import random

        state = random.getstate()  # rich takes a random number when it is imported
        from rich.console import Console
        from rich.style import Style
        from rich.text import Text

        random.setstate(state)

        systems: dict[str, Literal["truecolor", "256", "standard"] | None] = {
            "truecolor": "truecolor", "256": "256", "16": "standard", "none": "standard", "plain": None,
        }  # fmt: skip
        out = io.StringIO()
        console = Console(
            file=out, force_terminal=True, force_jupyter=False, width=self.width, height=100, legacy_windows=False,
            color_system=systems[self.palette.system], no_color=not self.palette.colours,
            markup=False, emoji=False, highlight=False,
        )  # fmt: skip
        for line in self.lines:
            rich_line = Text(end="\n")
            for text, ink in _merged(line):
                style = Style(
                    color=ink.fg or None, bgcolor=ink.bg or None, bold=ink.bold or None, dim=ink.dim or None,
                    underline=ink.underline or None, italic=ink.italic or None,
                )  # fmt: skip
                rich_line.append(text, style=style)
            console.print(rich_line, soft_wrap=True)
        return out.getvalue().rstrip("\n")


def _merged(line: list[Piece]) -> Iterator[Piece]:
    held: Piece | None = None
    for text, ink in line:
        if held and held[1] == ink:
            held = (held[0] + text, ink)
            continue
        if held:
            yield held
        held = (text, ink)
    if held:
        yield held


def cells(text: str) -> int:
    """Cells that a text without control characters takes in a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def atoms(text: str) -> list[str]:
    """Cut a text into what must stay together: a character with its combining marks and joined ones."""
    found: list[str] = []
    for c in text:
        joined = found and c != "\n" and (found[-1][-1] == "\u200d" or (not c.isascii() and cells(c) == 0))
        if joined and len(found[-1]) < 32:
            found[-1] += c
        else:
            found.append(c)
    return found


def clip(text: str, room: int) -> str:
    """Cut a text to `room` cells, with … where something is missing."""
    if cells(text) <= room:
        return text
    kept = ""
    for atom in atoms(text):
        if cells(kept + atom) > room - 1:
            break
        kept += atom
    return kept + "…" if room > 0 else ""


def padded(text: str, room: int, *, right: bool = False) -> str:
    """Clip and fill a text to `room` cells."""
    text = clip(text, room)
    space = " " * (room - cells(text))
    return space + text if right else text + space


def broken(pieces: Iterable[Piece], room: int) -> Iterator[list[Piece]]:
    """Break running text into lines of at most `room` cells: between words, or inside one that is too long."""
    line: list[Piece] = []
    sofar = ""
    for word in _words(pieces):
        if word == [("\n", Ink())]:
            yield line
            line, sofar = [], ""
            continue
        text = "".join(t for t, _ in word)
        if cells(sofar + text) <= room:
            line += word
            sofar += text
            continue
        if sofar:
            yield line
            line, sofar = [], ""
            if len(word) > 1 and word[0][0] == " " and (word[1][1] == word[0][1] or word[1][0] == "⟦"):
                word = word[1:]  # a token's blank before its word is not needed at the start of a line
        for atom, ink in word:
            if sofar and cells(sofar + atom) > room:
                yield line
                line, sofar = [], ""
            line.append((atom, ink))
            sofar += atom
    if line:
        yield line


def _words(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Group atoms into words, each with the blanks before it; wide characters are words of their own."""
    word: list[Piece] = []
    for text, ink in pieces:
        for atom in atoms(text):
            wide = cells(atom) > 1
            blank_after_letter = atom == " " and word and word[-1][0] != " "
            after_wide = word and cells(word[-1][0]) > 1
            if atom == "\n" or blank_after_letter or ((wide or after_wide) and word):
                if word:
                    yield word
                word = []
            if atom == "\n":
                yield [("\n", Ink())]
            else:
                word.append((atom, ink))
    if word:
        yield word


def headline(screen: Screen, result: Result, otherwise: str) -> None:
    """Add the result's title, the analysis and model it comes from, and what that model was changed by."""
    made = result.provenance
    title = visible(result.title or made.analysis or otherwise)
    known = made.analysis.replace("_", " ").lower() == title.replace("_", " ").lower()
    by = " · ".join(visible(part) for part in ("" if known else made.analysis, made.model) if part)
    screen.flow([(title, Ink(bold=True)), (f"  {by}" if by else "", Ink(dim=True))])
    if made.interventions:
        screen.flow([(f"model changed by: {visible(', '.join(made.interventions))}", Ink())])


def number(value: float) -> str:
    """A number in at most four significant digits."""
    return f"{float(value):.4g}"
