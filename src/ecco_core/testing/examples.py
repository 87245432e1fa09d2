"""One small result of each kind, with any texts and numbers: what renderers are tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import (
    RESULT_KINDS,
    Components,
    Curves,
    Fitted,
    Grid,
    Patterns,
    Points,
    Predictions,
    Provenance,
    Report,
    Result,
    Source,
    Table,
    Target,
    TokenGrid,
    TokenScores,
)
from ecco_core.data.tokens import Tokens

KINDS = tuple(kind.__name__ for kind in RESULT_KINDS)
#: What a token's text may try: markup, script, format characters, halves of characters, terminal commands.
HOSTILE = (
    "</script><script>planted()</script>",
    '"><img src=x onerror=planted()>',
    "<!--",
    "' onmouseover='planted()",
    "]]><planted/>",
    "&lt;planted&gt;",
    "${planted()}`",
    "javascript:planted()",
    "\u202egnp.exe\u2066",
    "\u2028",
    "\x1b[31m\x1b]0;planted\x07",
    "\x00",
    "\ud83d",
    "",
)
#: As many texts that try nothing.
HARMLESS = tuple(f" w{place:02d}" for place in range(len(HOSTILE)))


def tokens_of_texts(texts: Sequence[str]) -> Tokens:
    """Tokens with these texts; one that is empty is labelled as a part of a character."""
    count = len(texts)
    return Tokens(range(count), texts, [text or "<E2>" for text in texts], [True] * count, [False] * count)


def example(
    kind: str, texts: Sequence[str] = HARMLESS, numbers: Callable[[tuple[int, ...]], Any] | None = None
) -> Result:
    """Return a result of a kind whose tokens, labels, notes and other texts are of `texts`.

    Args:
        numbers: shape -> array; random ones, the same in each call, if left out.
    """
    numbers = numbers or np.random.default_rng(0).standard_normal
    parts = [_example("TokenScores", texts, numbers), _example("Grid", texts, numbers)]
    return Report(parts, title=f"About {texts[0]}") if kind == "Report" else _example(kind, texts, numbers)


def _example(kind: str, texts: Sequence[str], numbers: Callable[[tuple[int, ...]], Any]) -> Result:
    n, some, tokens = len(texts), tuple(f"{place} {text}" for place, text in enumerate(texts)), tokens_of_texts(texts)
    told: dict[str, Any] = {"title": f"About {texts[0]}", "notes": texts[4:5], "provenance": _origin(texts)}

    def array(*dims: str, **coords: Any) -> LabelledArray:
        sizes = {"layer": 2, "head": 2, "unit": 3, "rank": 2, "axis": 2, "component": 2, "curve": 2, "target": 2}
        return LabelledArray(numbers(tuple(sizes.get(dim, n) for dim in dims)), dims, coords)

    def cells(*dims: str) -> LabelledArray:
        shape = array(*dims).shape
        return LabelledArray(np.resize(np.array(texts, dtype=object), shape), dims)

    if kind == "TokenScores":
        targets = [Target(position=n - 1, token_id=0, text=text, value=-0.5) for text in (texts[0], texts[-1])]
        sources = [Source(stack="decoder", positions=(place,), text=text) for place, text in enumerate(texts)]
        return TokenScores(**told, values=array("target", "source"), tokens={"decoder": tokens}, sources=sources,
                           targets=targets, n_input_tokens=n - 1, baseline=texts[0])  # fmt: skip
    if kind == "TokenGrid":
        grid = array("layer", "position", position=some)
        return TokenGrid(**told, values=grid, texts=cells("layer", "position"), quantity=texts[0])
    if kind == "Predictions":
        return Predictions(**told, values=array("position", "rank", position=some), texts=cells("position", "rank"))
    if kind == "Patterns":
        dims = ("layer", "head", "query", "key")
        return Patterns(**told, values=array(*dims), tokens={"decoder": tokens})
    if kind == "Components":
        quality = {texts[-1] or "fit": 0.5}
        return Components(**told, values=array("component", "token"), loadings=array("component", "unit"),
                          tokens=tokens, quality=quality)  # fmt: skip
    if kind == "Grid":
        return Grid(**told, values=array("a", "b", a=some, b=some))
    if kind == "Curves":
        return Curves(**told, values=array("curve", "layer", curve=some[:2], layer=(0, 1)))
    if kind == "Points":
        return Points(**told, values=array("point", "axis"), labels=texts)
    if kind == "Table":
        return Table(**told, columns=(texts[0], "value"), rows=list(zip(some, map(float, numbers((n,))))))
    return Fitted(**told, parameters={texts[-1] or "weights": numbers((2, n))}, settings={"text": texts[1]})


def _origin(texts: Sequence[str]) -> Provenance:
    return Provenance(analysis="example", model=texts[-1], options={"option": texts[0]}, interventions=tuple(texts[:1]))
