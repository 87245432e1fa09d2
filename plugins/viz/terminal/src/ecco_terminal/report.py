"""Several results in a terminal, one below the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecco_terminal import blocks
from ecco_terminal.screen import Colour, Screen, ThemeName, headline

if TYPE_CHECKING:
    from ecco_core import Report


def render(result: Report, *, width: int | None = None, colour: Colour = "auto", theme: ThemeName = "auto") -> str:
    """Show each result of a report in its own view.

    Options:
        width: cells in a line, 20 or more; the terminal's if not given.
        colour: what the terminal can show; found out if not given.
        theme: the ground of cells near zero; found out if not given.

    Raises:
        OptionError: the width is too small.
    """
    screen = Screen(width, colour, theme)
    if result.title:
        headline(screen, result, "")
    for note in result.notes:
        screen.note(note)
    parts = [screen.text()]
    for one in result.results:
        view: Any = render if "Report" in one.kinds() else blocks.render
        parts.append(view(one, width=width, colour=colour, theme=theme))
    return "\n\n".join(part for part in parts if part)
