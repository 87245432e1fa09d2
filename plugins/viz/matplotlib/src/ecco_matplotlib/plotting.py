"""plot(): any result as a figure."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ecco_core import OptionError, Report, Result, did_you_mean
from ecco_matplotlib.styling import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTHS = {"column": 3.5, "page": 7.2}  # inches, as most journals have them
#: Kind -> the function that draws it, and the options of its own.
_DRAWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "TokenScores": ("token_scores:draw", ("view", "target")),
    "TokenGrid": ("token_grid:draw", ()),
    "Predictions": ("predictions:draw", ()),
    "Patterns": ("patterns:draw", ("view", "layer", "head")),
    "Components": ("components:draw", ()),
    "Grid": ("grid:draw", ()),
    "Curves": ("curves:draw", ()),
    "Points": ("points:draw", ()),
    "Result": ("blocks:draw", ()),
}


def plot(
    result: Result,
    ax: Axes | None = None,
    *,
    width: float | Literal["column", "page"] = "page",
    height: float | None = None,
    dpi: float = 300,
    view: Literal["auto", "matrix", "bars", "text", "lines"] = "auto",
    target: int | str | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> Any:
    """Draw a result, and return its axes (an array of axes where there are several) to change or save.

    Each result of a report becomes a figure of its own, and all their axes are returned.

    Options:
        width: of the figure in inches, or "column" (3.5) or "page" (7.2) of a journal.
        height: of the figure in inches; as much as it needs if not given.
        dpi: dots per inch, of PNG, and of what has too many cells to be drawn as vectors.
        view: of token scores "matrix", "bars" (one target) or "text" (one target); of attention "matrix" or "lines".
        target: position or class of the one target of token scores to draw.
        layer: of attention, the one layer to draw.
        head: of attention, the one head to draw (with `layer`, unless there is only one).

    Args:
        result: of any kind. `ax`: axes to draw on instead of a figure of its own; these get no small print.

    Raises:
        OptionError: an option has a value that it does not take, or is not for this kind of result.
    """
    from ecco_matplotlib.sheet import Sheet
    from ecco_matplotlib.wording import notes_of, subtitle_of, title_of
    from ecco_matplotlib.words import Words

    if isinstance(result, Report):
        return _each(result, ax, width=width, height=height, dpi=dpi, view=view, target=target, layer=layer, head=head)
    given = {"view": None if view == "auto" else view, "target": target, "layer": layer, "head": head}
    target_, own = _drawing_of(result, {name for name, value in given.items() if value is not None})
    inches = _inches(width)
    _between("height", height if height is not None else 5, 1, 40)
    _between("dpi", dpi, 30, 1200)
    module, name = target_.split(":")
    draw: Callable[..., tuple[Any, Any, list[str], bool]] = getattr(
        importlib.import_module(f"ecco_matplotlib.{module}"), name
    )
    words = Words(result)
    with style(words.families):
        sheet = Sheet(result, words, ax, inches, height, dpi)
        sheet.head(title_of(result, words), subtitle_of(result, words))
        axes, wanted, facts, rigid = draw(sheet, result, **{name: given[name] for name in own})
        sheet.finish(wanted, facts, notes_of(result, words), rigid=rigid)
        if ax is None:
            _settle(sheet.figure)
    return axes


def _each(report: Report, ax: Axes | None, **options: Any) -> Any:
    """The axes of all results of a report."""
    import numpy as np

    if ax is not None:
        raise OptionError("A report is several figures; leave ax out, or plot its results one by one.")
    if not report.results:
        raise OptionError("There is nothing to draw: the report holds no result.")
    return np.concatenate([np.ravel(plot(one, **options)) for one in report.results])


def _drawing_of(result: Result, given: set[str]) -> tuple[str, tuple[str, ...]]:
    """The function that draws the nearest kind, and its options; `given` are checked."""
    if not isinstance(result, Result):
        raise OptionError(f"plot takes a result of an analysis, found {type(result).__name__}.")
    kind = next(kind for kind in result.kinds() if kind in _DRAWN)
    target, own = _DRAWN[kind]
    if wrong := sorted(given - set(own)):
        takes = ", ".join(["width", "height", "dpi", *own])
        raise OptionError(f"The figure of a {result.kinds()[0]} takes no option {wrong[0]!r}; it takes {takes}.")
    return target, own


def _inches(width: float | str) -> float:
    if isinstance(width, str):
        if width not in WIDTHS:
            near = did_you_mean(width, WIDTHS)
            raise OptionError(f"width takes inches, 'column' or 'page', found {width!r}.{near}")
        return WIDTHS[width]
    return _between("width", width, 2, 40)


def _between(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        unit = "dots per inch" if name == "dpi" else "inches"
        raise OptionError(f"{name} takes {low:g} to {high:g} {unit}, found {value!r}.")
    return float(value)


def _settle(figure: Any) -> None:
    """Make every text plain and every tick now, within the style: matplotlib makes ticks when they are first drawn."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
