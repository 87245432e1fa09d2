"""A figure in the making: title above, panels sized by what they hold, small print below; nothing overlaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecco_core import OptionError, Result
from ecco_matplotlib.palette import INK, QUIET, Scale
from ecco_matplotlib.words import LABEL, SMALL, TITLE, Words, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec

HIGHEST = 9.0  # inches of a page that panels may take
_EDGE, _LINE = 0.06, 1.3  # inches around the texts; line height of a text of size 1
_FOLDED = 0.7  # inches between labels from which on they are folded rather than turned
_MOST_NOTES = 14  # lines of small print
_STEPS, _NEAR = 4, 0.03  # in which the height of a figure is found, at most; inches that it may be off
_SQUEEZED = 0.4  # what a given height may take from panels that can be squeezed

Wanted = Callable[[float], Sequence[float]]


class Sheet:
    """Where a result is drawn: a figure of its own, or axes of somebody else.

    Attributes:
        words: how its texts are written. `width`: of the whole, in inches.
    """

    def __init__(self, result: Result, words: Words, ax: Axes | None, width: float, height: float | None, dpi: float):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.words, self.result, self.height, self._given = words, result, height, ax
        if ax is None:
            self.figure: Any = Figure(figsize=(width, height or 6.0), dpi=dpi, layout="constrained")
            FigureCanvasAgg(self.figure)
            self.width = width
        else:
            self.figure = ax.get_figure(root=True)
            self.width = ax.get_position().width * self.figure.get_size_inches()[0]
        self._grid: GridSpec | GridSpecFromSubplotSpec | None = None
        self._panels: Any = None
        self._later: list[Callable[[], None]] = []
        self._whole: list[Any] = []
        self._said: list[str] = []
        self._head: list[tuple[Any, float]] = []
        self._foot: list[Any] = []
        self._sized = False

    @property
    def own(self) -> bool:
        """Whether the figure is made here."""
        return self._given is None

    def panels(self, rows: int = 1, columns: int = 1) -> Any:
        """Axes ``(rows, columns)``; in the place of the given axes if there are any.

        Raises:
            OptionError: several are needed, and the given axes are in no grid that could be divided.
        """
        if self._given is None:
            self._grid = self.figure.add_gridspec(rows, columns)
        elif rows == columns == 1:
            self._panels = np.array([[self._given]], dtype=object)
            return self._panels
        elif (place := self._given.get_subplotspec()) is None:
            raise OptionError(
                f"This figure needs {rows} × {columns} panels, and the axes given as ax are in no grid that could be "
                "divided; make them by subplots(), or leave ax out."
            )
        else:
            self._given.set_axis_off()
            self._grid = place.subgridspec(rows, columns)
        made = [[self.figure.add_subplot(self._grid[i, j]) for j in range(columns)] for i in range(rows)]
        self._panels = np.array(made, dtype=object)
        for ax in self._panels.flat:
            ax.tick_params(labelsize=LABEL)  # else the user's size, when it is drawn, decides how many ticks there are
        return self._panels

    def colours(self, scale: Scale, axes: Any, label: str, ticks: Sequence[float] | None = None) -> None:
        """A colour bar below `axes` that says what the numbers are."""
        from matplotlib.cm import ScalarMappable

        share = 0.6 if self.width < 5 else 0.4
        mappable: ScalarMappable = ScalarMappable(scale.norm, scale.cmap)
        bar = self.figure.colorbar(
            mappable,
            ax=axes,
            location="bottom",
            shrink=share,
            aspect=self.width * share / 0.09,
            anchor=(0.0, 1.0),
            panchor=False,
            pad=0.01,
        )
        bar.outline.set_visible(False)
        low, high = float(scale.norm.vmin or 0.0), float(scale.norm.vmax or 0.0)
        ends = [low, 0.0 if scale.signed else (low + high) / 2, high] if ticks is None else ticks
        bar.set_ticks(ends, labels=[number(t, plus=scale.signed) for t in ends])
        bar.ax.tick_params(labelsize=SMALL, length=0, pad=1.5)
        bar.ax.minorticks_off()

        def write(inches: float) -> None:
            bar.set_label("\n".join(self.words.wrapped(label, LABEL, inches)), loc="left", labelpad=2)

        write(0.7 * self.width)
        if self.own:
            self.later(lambda: write(self.width * (1 - bar.ax.get_position().x0) - _EDGE))

    def say(self, note: str) -> None:
        """Add a line to the small print, once."""
        if note and note not in self._said:
            self._said.append(note)

    def later(self, callback: Callable[[], None]) -> None:
        """Call back when the panels have their sizes."""
        self._later.append(callback)

    def across(self, ax: Axes) -> None:
        """Give axes the whole width in the end, whatever stands beside the other panels."""
        self._whole.append(ax)

    def size(self, ax: Axes) -> tuple[float, float]:
        """Width and height of axes, in inches."""
        wide, high = self.figure.get_size_inches()
        ax.apply_aspect()
        place = ax.get_position()
        return float(place.width * wide), float(place.height * high)

    def cell(self, ax: Axes) -> tuple[float, float]:
        """Width and height of 1 in the units of the axes, in inches."""
        wide, high = self.size(ax)
        (left, right), (low, top) = ax.get_xlim(), ax.get_ylim()
        return wide / abs(right - left), high / abs(top - low)

    def name(self, ax: Axes, axis: str, labels: Sequence[str], *, level: bool = False) -> None:
        """Label the places 0, 1, 2 … of an axis, as many as can be read.

        Args:
            level: whether labels are rather cut than turned.
        """
        most = min(0.31 * self.width, 1.5) if axis == "y" else 0.9
        line = LABEL * 1.25 / 72
        first = max(1, math.ceil(len(labels) * line / (self.width if axis == "x" else HIGHEST)))
        shown = [self.words.cut(label, LABEL, most) for label in labels[:: 1 if len(labels) < 2000 else first]]
        self._write(ax, axis, labels, first, most, 90 if axis == "x" else 0)
        widest = max((self.words.width(text, LABEL) for text in shown), default=0.0)

        def thin() -> None:
            pitch = self.cell(ax)[axis == "y"]
            flat = axis == "x" and (level or widest <= 0.92 * pitch or pitch >= _FOLDED)
            step = 1 if flat else max(1, math.ceil(line / pitch - 1e-6))
            self._write(ax, axis, labels, step, 0.92 * pitch if flat else most, 0 if flat or axis == "y" else 90)
            if step > 1:
                self.say(f"One in {step} of the {len(labels)} labels is written.")

        self.later(thin)

    def _write(self, ax: Axes, axis: str, labels: Sequence[str], step: int, most: float, rotation: int) -> None:
        places = list(range(0, len(labels), step))
        texts = [self._label(labels[i], most, fold=axis == "x" and not rotation) for i in places]
        setter = ax.set_xticks if axis == "x" else ax.set_yticks
        setter(places, texts, rotation=rotation, fontsize=LABEL, parse_math=False)
        ax.tick_params(axis=axis, length=0)  # type: ignore[arg-type]

    def _label(self, text: str, most: float, *, fold: bool) -> str:
        """A label in one line, or where it is level and there is room for words, in up to three."""
        if not fold or most < 0.92 * _FOLDED:
            return self.words.cut(text, LABEL, most)
        lines = self.words.wrapped(text, LABEL, most)
        return "\n".join(lines if len(lines) <= 3 else [*lines[:2], self.words.cut(lines[2] + "…" * 3, LABEL, most)])

    def head(self, title: str, subtitle: str) -> None:
        """Write the title, and what the result comes from; on given axes the title only."""
        if self._given is not None:
            lines = self.words.wrapped(title, LABEL, self.width)
            self._given.set_title("\n".join(lines), loc="left", parse_math=False, color=INK)
            return
        space, down = self.width - 2 * _EDGE, _EDGE
        for text, size, weight, colour in ((title, TITLE, "bold", INK), (subtitle, SMALL, "normal", QUIET)):
            for line in self.words.wrapped(text, size, space, weight) if text else ():
                artist = self.figure.text(0, 0, line, size=size, weight=weight, color=colour, va="top", ha="left")
                self._head.append((artist, down))
                down += size * _LINE / 72
        self._top = down

    def finish(self, wanted: Wanted, facts: Sequence[str], notes: Sequence[str], *, rigid: bool) -> None:
        """Size the panels, write the small print, and keep things where they are.

        Args:
            wanted: width of the first panel -> height of each row of panels, in inches.
            facts: how to read the figure, for the small print; `notes` come in lines of their own.
            rigid: whether rows cannot be lower.

        Raises:
            OptionError: the height that was asked for is too small.
        """
        if self.own:
            self._facts, self._notes = facts, notes
            self._fit(wanted, rigid)
        for callback in self._later:
            callback()
        if self.own:
            self._fit(wanted, rigid)
            self.figure.set_layout_engine("none")
            for ax in self.figure.axes:  # what the solver leaves in the last digits differs from call to call
                ax.set_position([round(float(part), 6) for part in ax.get_position(original=True).bounds])
            for ax in self._whole:
                _, low, _, high = ax.get_position().bounds
                ax.set_position((round(0.1 / self.width, 6), low, round(1 - 0.2 / self.width, 6), high))

    def _fit(self, wanted: Wanted, rigid: bool) -> None:
        """Find the figure's height: margins and colour bars grow with the panels, so in steps."""
        assert self._grid is not None
        self._print()
        high = float(self.figure.get_size_inches()[1])
        if not self._sized:  # with room for everything, to begin with
            high = self._top + len(self._foot) * SMALL * _LINE / 72 + 9
            self.figure.set_size_inches(self.width, high)
            self._sized = True
        for _ in range(_STEPS):
            self._lay()
            heights = list(wanted(self._panels[0][0].get_position(original=True).width * self.width))
            rest = high * (1 - sum(row[0].get_position(original=True).height for row in self._panels))
            if self.height is not None:
                heights = self._squeezed(heights, rest, 1.0 if rigid else _SQUEEZED)
            before, high = high, round(rest + sum(heights), 6)
            if abs(before - high) < (_NEAR if self.height is None else 1e-6):
                return
            self._grid.set_height_ratios(heights)
            self.figure.set_size_inches(self.width, high)
        self._lay()

    def _squeezed(self, heights: list[float], rest: float, least: float) -> list[float]:
        """The heights that make the figure as high as was asked for."""
        assert self.height is not None
        share = (self.height - rest) / sum(heights)
        if share < least - 1e-2:
            needed = math.ceil((rest + least * sum(heights)) * 10) / 10
            raise OptionError(f"height={self.height:g} inches is too low for this figure; it needs about {needed:g}.")
        return [height * share for height in heights]

    def _print(self) -> None:
        """Write the small print, wrapped."""
        for artist in self._foot:
            artist.remove()
        space = self.width - 2 * _EDGE
        texts = [text for text in (" ".join([*self._facts, *self._said]), *self._notes) if text]
        lines = [line for text in texts for line in self.words.wrapped(text, SMALL, space)]
        if len(lines) > _MOST_NOTES:
            lines = [*lines[: _MOST_NOTES - 1], f"… and {len(lines) - _MOST_NOTES + 1} more lines of notes"]
        self._foot = [self.figure.text(0, 0, line, size=SMALL, color=QUIET, va="top", ha="left") for line in lines]

    def _lay(self) -> None:
        """Lay out what is between head and foot."""
        high = float(self.figure.get_size_inches()[1])
        line = SMALL * _LINE / 72
        bottom = len(self._foot) * line + (2 * _EDGE if self._foot else 0)
        left = _EDGE / self.width
        for artist, down in self._head:
            artist.set_position((left, 1 - down / high))
        for i, artist in enumerate(self._foot):
            artist.set_position((left, (bottom - _EDGE - i * line) / high))
        engine = self.figure.get_layout_engine()
        engine.set(rect=(0, bottom / high, 1, 1 - (bottom + self._top) / high), w_pad=_EDGE, h_pad=0.05)
        engine.execute(self.figure)
        if any(ax.get_aspect() != "auto" for ax in self._panels.flat):  # these move their labels only now
            engine.execute(self.figure)
