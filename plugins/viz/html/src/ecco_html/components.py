"""Factors of activations: a line for each above the text, whose tokens have the colour of their strongest factor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ecco_core import Components, Heat, visible
from ecco_html.about import stack_of
from ecco_html.escape import direction, escaped, laid_out, number, quoted
from ecco_html.heat_map import Label, heat_map
from ecco_html.packing import EXACT_CELLS, short
from ecco_html.page import Part
from ecco_html.painting import strongest
from ecco_html.palette import FACTORS, TINT, tint
from ecco_html.result import caption

MOST_COMPONENTS, _WORDS, _UNITS = 40, 4, 3
_WIDTH, _HEIGHT = 240.0, 26.0


def lines(result: Components) -> tuple[str, ...]:
    """How well the whole fits."""
    whole = {name: value for name, value in result.quality.items() if not _of_one(name)}
    return (" · ".join(f"{name} {number(value, 3)}" for name, value in whole.items()),)


def parts(result: Components) -> Iterator[Part]:
    """A line for each component, then the text; and what a kind of its own adds about how many there should be."""
    values = np.asarray(result.values.values, dtype=np.float64)[:MOST_COMPONENTS]
    down, across = result.values.dims
    names = [visible(f"{down} {label}") for label in result.values.labels(down)[:MOST_COMPONENTS]]
    texts = _texts(result)
    positions = [Label.of(across, label).position for label in result.values.labels(across)]
    stack = stack_of(result)
    signed, digits = bool((values < 0).any()), 6 if values.size <= EXACT_CELLS else 3
    rows = "\n".join(_component(result, values, i, name, texts) for i, name in enumerate(names))
    way = direction("".join(texts if result.tokens is None else result.tokens.texts))
    size = result.values.shape[0] - len(names)
    rest = f'<div class="quiet">… and {size} more</div>' if size > 0 else ""
    data = {
        "names": names,
        "tokens": [f"position {i if p is None else p} {quoted(t)}" for i, (p, t) in enumerate(zip(positions, texts))],
        "places": [f"{stack}-{i if p is None else p}" for i, p in enumerate(positions)],
        "values": [[short(value, digits) for value in row] for row in values.tolist()],
        "signed": signed,
        "colours": FACTORS,
        "tint": TINT,
        "top": short(strongest(values)),
    }
    yield Part(f'<div class="factors">{rows}</div>{rest}{_text(values, texts, way)}', "components", data)
    for block in list(result.blocks()):
        if isinstance(block, Heat) and "components" in block.values.dims:
            yield heat_map(block, caption(block, result))


def _of_one(name: str) -> bool:
    """Whether a quality is of one component, or of a number of them that was tried."""
    return " of component" in name or name.endswith((" component", " components"))


def _texts(result: Components) -> list[str]:
    if result.tokens is not None:
        return [text or label for text, label in zip(result.tokens.texts, result.tokens.labels)]
    return [str(label) for label in result.values.labels(result.values.dims[1])]


def _component(result: Components, values: np.ndarray, i: int, name: str, texts: list[str]) -> str:
    """Name, line, strongest tokens and neurons of a component, and how stable it is."""
    row = values[i]
    order = [int(j) for j in np.argsort(-np.abs(np.nan_to_num(row)), kind="stable") if row[j]]
    words = list(dict.fromkeys(quoted(texts[j]) for j in order))[:_WORDS]
    stable = result.quality.get(f"stability of component {i}")
    told = "neurons " + " · ".join(_units(result, i))
    told += f" · stability {number(stable, 2)}" if stable is not None else ""
    return (
        '<div class="factor" style="margin:.3em 0"><span class="name">'
        f'<span class="swatch" style="{tint(i)}">&nbsp;&nbsp;</span> {escaped(name)}</span> '
        f'{_spark(row, strongest(values), i)} <span class="words">{escaped(" ".join(words))}</span> '
        f'<span class="quiet">{escaped(told)}</span></div>'
    )


def _units(result: Components, i: int) -> list[str]:
    """The units whose loading on a component most exceeds, in size, that on any other."""
    loadings, units = result.loadings.values, result.loadings.labels(result.loadings.dims[1])
    sizes = np.abs(loadings)
    own = sizes[i] - np.delete(sizes, i, axis=0).max(0, initial=0)
    return [f"{units[j]} {number(loadings[i, j], 2)}" for j in np.argsort(-own, kind="stable")[:_UNITS]]


def _spark(row: np.ndarray, greatest: float, i: int) -> str:
    """Activation token by token; below the line where it is negative. All lines have one scale."""
    level = np.nan_to_num(row / (greatest or 1.0), posinf=1, neginf=-1)
    if len(level) > _WIDTH:  # a token would be thinner than a point: the strongest of neighbours stands for them
        level = np.array([part[np.abs(part).argmax()] for part in np.array_split(level, int(_WIDTH))])
    zero = _HEIGHT / (1 - max(float(level.min(initial=0)), -1.0))
    step = _WIDTH / max(len(level), 1)
    path = "".join(f"L{step * j:.1f} {zero * (1 - x):.1f}H{step * (j + 1):.1f}" for j, x in enumerate(level))
    return (
        f'<svg class="spark" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" height="{_HEIGHT:g}" '
        f'preserveAspectRatio="none" aria-hidden="true"><path d="M0 {zero:.1f}{path}L{_WIDTH:g} {zero:.1f}Z" '
        f'fill="rgb{FACTORS[i % len(FACTORS)]}"></path></svg>'
    )


def _text(values: np.ndarray, texts: list[str], way: str) -> str:
    """The tokens, each in the colour of its strongest factor."""
    spans = []
    for j, text in enumerate(texts):
        column = np.abs(np.nan_to_num(values[:, j]))
        paint = tint(int(column.argmax())) if column.any() else ""
        shown, end = laid_out(text), ""
        blank = " " if len(shown) > 1 and shown[0] == " " else ""
        if shown.endswith("\n"):
            shown, end = shown[:-1], "\n"
        ink = "\n".join(escaped(line) for line in shown.removeprefix(blank).split("\n"))
        spans.append(f'<span class="tok" dir="auto">{blank}<span class="ink" style="{paint}">{ink}</span>{end}</span>')
    about = f"{len(texts)} tokens, in the colour of their strongest component"
    return (
        f'<div class="text"><div class="row"><div class="label"><b>text</b> <span class="quiet">{about}</span></div>'
        f'<div class="tokens" dir="{way}" '
        f'style="white-space:pre-wrap;line-height:1.9">{"".join(spans)}</div></div></div>'
    )
