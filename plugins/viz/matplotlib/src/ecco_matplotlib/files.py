"""What `plot` draws as the bytes of a file, the same each time: SVG with its fonts inside, PDF, PNG."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ecco_core import Report, Result
from ecco_matplotlib.embedding import with_fonts
from ecco_matplotlib.plotting import plot
from ecco_matplotlib.styling import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ID = re.compile(rb'(\bid="|="#|url\(#)')


def figures(result: Result, options: dict[str, Any]) -> Iterator[Figure]:
    """The figure of a result, or those of a report's, one after the other; within the style."""
    for one in result.results if isinstance(result, Report) else (result,):
        axes = plot(one, **options)
        yield from figures(one, options) if isinstance(one, Report) else [getattr(axes, "flat", [axes])[0].figure]


@functools.wraps(plot)
def svg(result: Result, **options: Any) -> bytes:  # noqa: D103 - as plot
    import matplotlib

    with style():
        matplotlib.rcParams["svg.fonttype"] = "none"
        pictures = [_saved(figure, "svg", metadata={"Date": None}) for figure in figures(result, options)]
    return with_fonts(pictures[0] if len(pictures) == 1 else _below_each_other(pictures))


@functools.wraps(plot)
def pdf(result: Result, **options: Any) -> bytes:  # noqa: D103 - as plot
    from matplotlib.backends.backend_pdf import PdfPages

    buffer = io.BytesIO()
    with style(), PdfPages(buffer, metadata={"CreationDate": None}) as pages:
        for figure in figures(result, options):
            pages.savefig(figure, dpi=figure.dpi)
    return buffer.getvalue()


@functools.wraps(plot)
def png(result: Result, **options: Any) -> bytes:  # noqa: D103 - as plot
    with style():
        pictures = [_saved(figure, "png") for figure in figures(result, options)]
    return pictures[0] if len(pictures) == 1 else _pasted(pictures)


def _saved(figure: Figure, suffix: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=figure.dpi, **options)
    return buffer.getvalue()


def _below_each_other(pictures: list[bytes]) -> bytes:
    """One SVG that holds several, whose ids are told apart."""
    parts, wide, high = [], 0.0, 0.0
    for i, picture in enumerate(pictures):
        body = picture[picture.index(b"<svg") :]
        found = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
        assert found is not None
        placed = body.replace(b"<svg ", b'<svg y="%.2f" ' % high, 1).replace(b'pt"', b'"', 2)
        parts.append(_ID.sub(rb"\g<1>r%d-" % i, placed))
        wide, high = max(wide, float(found[1])), high + float(found[2])
    size = f'width="{wide:g}pt" height="{high:.2f}pt" viewBox="0 0 {wide:g} {high:.2f}"'
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" {size} version="1.1">\n'
    return head.encode() + b"".join(parts) + b"</svg>\n"


def _pasted(pictures: list[bytes]) -> bytes:
    """One PNG that holds several, one below the other."""
    from PIL import Image

    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    buffer = io.BytesIO()
    sheet.save(buffer, "png", dpi=images[0].info.get("dpi", (300, 300)))
    return buffer.getvalue()
