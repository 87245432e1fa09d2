"""Show a result: pick the renderer for its kind and the medium; plain text is always there."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ecco_core.data import storage
from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import Heat, Report, Result, Rows, TokenScores
from ecco_core.data.shown import visible
from ecco_core.errors import EccoError, OptionError, RenderError, listed
from ecco_core.files import write_whole
from ecco_core.options import fill, options_of
from ecco_core.plugin.catalogue import install_for
from ecco_core.plugin.manager import Offer, plugins

PLAIN, HTML, ANSI = "text/plain", "text/html", "text/x-ansi"
OURS = (".ecco", ".json", ".txt")
MOST_ROWS, MOST_COLUMNS = 40, 8


def find_renderer(result: Result, *, media_type: str = "", suffix: str = "") -> Offer[Any] | None:
    """Return the best renderer of `result` for a medium or a file suffix, or None.

    The nearest kind wins, then the highest priority, then the name of the distribution.
    """
    kinds = result.kinds()
    found = []
    for offer in plugins().offers("ecco_renderers"):
        spec = offer.spec
        nearest = min((kinds.index(kind) for kind in spec.accepts if kind in kinds), default=None)
        if nearest is not None and (spec.media_type == media_type or suffix in spec.suffixes):
            found.append((nearest, -spec.priority, offer.distribution, spec.name, offer))
    return min(found, key=lambda f: f[:4])[-1] if found else None


def render(result: Result, media_type: str, **options: Any) -> str | bytes:
    """Return `result` in `media_type`.

    Raises:
        RenderError: nothing installed renders that medium.
        PluginError: the renderer failed.
    """
    if media_type == PLAIN:
        if options:
            raise OptionError(f"Plain text takes no options, found {listed(options)}.")
        return plain_text(result)
    offer = find_renderer(result, media_type=media_type)
    if offer is None:
        raise RenderError(
            f"Nothing installed shows a result as {media_type}.{install_for(media_type, ' Install what does: ')}"
        )
    return _call(offer, result, options)


def _call(offer: Offer[Any], result: Result, options: dict[str, Any]) -> str | bytes:
    function, name = offer.load(), f"renderer {offer.spec.name!r}"
    with offer.at_work(f"The {name}", f"failed on {result.kinds()[0]}"):
        rendered = function(result, **fill(options_of(function), options, of=f"the {name}"))
        if isinstance(rendered, (str, bytes)):
            return rendered
        raise TypeError(f"it must return text or bytes, found {type(rendered).__name__}")


def save(result: Result, path: Path, **options: Any) -> Path:
    """Write `result` as what the suffix of `path` says, and return the path.

    Raises:
        RenderError: nothing installed writes that suffix.
        StorageError: the place cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix in OURS and options:
        raise OptionError(f"{suffix} takes no options, found {listed(options)}.")
    if suffix == ".ecco":
        return storage.save(result, path)
    offer = find_renderer(result, suffix=suffix) if suffix else None
    if offer is not None:
        content = _call(offer, result, options)
    elif suffix in OURS:
        content = plain_text(result) if suffix == ".txt" else json.dumps(storage.as_data(result), ensure_ascii=False)
    else:
        raise unknown_suffix(path)
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    return write_whole(path, data)


def suffixes() -> tuple[str, ...]:
    """File suffixes that a result can be saved with here, sorted."""
    offered = {suffix for offer in plugins().offers("ecco_renderers") for suffix in offer.spec.suffixes}
    return tuple(sorted(offered.union(OURS)))


def unknown_suffix(path: Path) -> RenderError:
    """Return the error for a path that nothing installed can write."""
    suffix = path.suffix.lower()
    found = f"the suffix {suffix!r}" if suffix else "no suffix"
    return RenderError(
        f"Cannot tell how to write {str(path)!r}: {found}; known here: {listed(suffixes())}."
        f"{install_for(suffix, ' Install what does: ')}"
    )


def show(result: Result, **options: Any) -> None:
    """Display `result` where we are: a notebook's output cell, or standard output."""
    if in_notebook():
        from IPython.display import display

        display(mimebundle(result, **options), raw=True)
    else:
        print(terminal_or_plain(result, **options))


def in_notebook() -> bool:
    """Whether a notebook shows what is displayed here."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def mimebundle(result: Result, **options: Any) -> dict[str, str]:
    """Return what a notebook shows: always text/plain, and text/html where a renderer is installed.

    A renderer that fails costs the page, not the result: the plain text says why.
    """
    bundle = {PLAIN: terminal_or_plain(result)}
    if find_renderer(result, media_type=HTML) is not None:
        try:
            bundle[HTML] = str(render(result, HTML, **options))
        except EccoError as error:
            bundle[PLAIN] += f"\n(no page: {error})"
    return bundle


def terminal_or_plain(result: Result, **options: Any) -> str:
    """Coloured text if standard output is a terminal and a renderer for it is installed, else plain text."""
    if sys.stdout is not None and sys.stdout.isatty() and find_renderer(result, media_type=ANSI) is not None:
        try:
            return str(render(result, ANSI, **options))
        except EccoError as error:
            warnings.warn(f"plain text instead: {error}", stacklevel=3)
    return str(render(result, PLAIN, **options))


def plain_text(result: Result) -> str:
    """Any kind of result as plain text without control characters."""
    lines = [visible(result.title or result.kinds()[0])]
    if isinstance(result, Report):
        lines += [f"\n{plain_text(one)}" for one in result.results]
    elif isinstance(result, TokenScores):
        lines += list(_token_scores(result))
    else:
        for block in result.blocks():
            title = visible(block.title)
            lines += ["", *([title] if title not in ("", lines[0]) else [])]
            lines += _rows(block) if isinstance(block, Rows) else _heat(block)
    return "\n".join([*lines, *(f"note: {visible(note)}" for note in result.notes)])


def _token_scores(scores: TokenScores) -> Iterator[str]:
    """Per target the sources that count most, strongest first."""
    errors, sign = scores.relative_error(), "+" if scores.signed else ""
    yield visible(f"scores: {scores.described}" + (f"; baseline: {scores.baseline}" if scores.baseline else ""))
    for i, (target, row) in enumerate(zip(scores.targets[:MOST_ROWS], scores.values.values)):
        tokens = None if target.kind == "token" else scores.tokens.get(target.stack)
        there = f" {visible(tokens.labels[target.position])!r}" if tokens and target.position < len(tokens) else ""
        masked = "masked " if target.kind == "masked" else ""
        where = f"{masked}position {target.position}{there}: " if there or target.kind == "token" else ""
        value = f" = {target.value:.4g}" if target.value is not None else ""
        gap = scores.completeness
        missed = "" if gap is None else f"{visible(scores.missed)} {gap.values[i]:+.2g}"
        share = f", {errors[i]:.2%} of the change" if errors is not None and np.isfinite(errors[i]) else ""
        yield f"{where}{visible(target.quantity)}{value}" + (f"  ({missed}{share})" if missed else "")
        strongest = [j for j in sorted(range(len(row)), key=lambda j: -abs(row[j]))[:MOST_COLUMNS] if row[j]]
        for j in strongest:
            source = scores.sources[j]
            stack = f"{visible(source.stack)} " if len(scores.tokens) > 1 else ""
            yield f"  {row[j]:{sign}10.4g}  {stack}{source.positions[0]:>4} {visible(source.text)!r}"
        if len(row) > MOST_COLUMNS:
            yield f"  {row.sum() - row[strongest].sum():{sign}10.4g}  in the {len(row) - MOST_COLUMNS} other sources"
    if len(scores.targets) > MOST_ROWS:
        yield f"… and {len(scores.targets) - MOST_ROWS} more targets"


def _rows(block: Rows) -> Iterator[str]:
    cells = [[visible(str(c)) for c in block.columns]]
    cells += [[_cell(v) for v in row] for row in block.rows[:MOST_ROWS]]
    yield from _aligned(cells)
    if len(block.rows) > MOST_ROWS:
        yield f"… and {len(block.rows) - MOST_ROWS} more rows"


def _heat(block: Heat) -> Iterator[str]:
    array = block.values
    matrix = array if array.values.ndim == 2 else LabelledArray(array.values[None], ("", *array.dims), array.coords)
    down, across = map(visible, matrix.dims)
    columns = matrix.labels(matrix.dims[1])
    cells = [[f"{down}\\{across}".strip("\\"), *(visible(str(c)) for c in columns[:MOST_COLUMNS])]]
    for i, label in enumerate(matrix.labels(matrix.dims[0])[:MOST_ROWS]):
        row = [_cell(v) for v in matrix.values[i][:MOST_COLUMNS]]
        if block.texts is not None:
            row = [f"{visible(str(t))} {v}" for t, v in zip(block.texts.values.reshape(matrix.shape)[i], row)]
        cells.append([visible(str(label)) if down else "", *row])
    yield from _aligned(cells)
    sizes = ((down, matrix.shape[0], MOST_ROWS), (across, matrix.shape[1], MOST_COLUMNS))
    hidden = [f"{n - most} more along {dim}" for dim, n, most in sizes if n > most]
    if hidden:
        yield f"… and {', '.join(hidden)}"


def _cell(value: Any) -> str:
    if not isinstance(value, (float, np.number, np.bool_)):
        return visible(str(value))
    number = float(value)  # float16 would overflow
    return f"{number + 0.0:.0f}" if abs(number) < 1e6 and number.is_integer() else f"{number:.4g}"


def _aligned(cells: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[c]) for row in cells) for c in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
