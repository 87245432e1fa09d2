"""The matrix that is factored: activations of one or many runs, tokens as rows, units of all layers as columns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ecco_core import Context, OptionError, Tokens

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import Capture, Run

_OF_ENCODER = ("cross_k", "cross_v")  # a decoder's, of the encoder's tokens


class Samples(NamedTuple):
    """Activations and what their axes are.

    Attributes:
        x: ``(token, unit)``, finite; float64 where the model is, else float32.
        units: one ``layer:unit`` per column.
        tokens: the tokens of the rows. `labels`: position and text of each, behind the run's name if there are more.
        place: what was read, in words.
    """

    x: np.ndarray
    units: tuple[str, ...]
    tokens: Tokens
    labels: tuple[str, ...]
    place: str


def read(ctx: Context, stack: str) -> Samples:
    """Read the site, layers and positions that were asked for, of all runs.

    Raises:
        OptionError: runs of several models, a site without units, a position that a run lacks, or numbers that are
            not finite.
    """
    import numpy as np

    from ecco_core import Runs

    runs = Runs(ctx.runs)
    if any(run.lm.model is not ctx.run.lm.model for run in runs):
        raise OptionError("Units of different models are not the same units; factor runs of one model at a time.")
    if len(ctx.labels) != len(runs):
        raise OptionError(f"labels has one name per run: found {len(ctx.labels)} for {len(runs)} runs.")
    if ctx.site.endswith("pattern"):
        raise OptionError(f"The site {ctx.site!r} holds weights between tokens, no units; take mlp_post or resid_post.")
    captures = runs.capture(ctx.site, layers=ctx.options.get("layers"), stack=stack or None)
    parts, tokens, labels = [], [], []
    for run, capture, name in zip(runs, captures, ctx.labels):
        of = "encoder" if ctx.site in _OF_ENCODER else capture.stack
        of_run = capture.tokens[of]
        places = _positions(run, of_run, ctx.options.get("positions"), of)
        parts.append(_rows(capture)[places])
        tokens += [of_run.part(slice(p, p + 1)) for p in places]
        before = f"{name}: " if len(runs) > 1 else ""
        labels += [f"{before}{p} {of_run.labels[p]}" for p in places]
    units, place = _units(captures[0], ctx.site)
    place += f" of the {captures[0].stack}" * (len(captures[0].tokens) > 1)
    x = np.concatenate(parts)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise OptionError(
            f"{ctx.site} is {x[row, column]} at token {labels[row]!r} of unit {units[column]} (layer:unit), and there "
            "are no factors of that; run the model in float32, or leave out that position or layer."
        )
    return Samples(x, units, _joined(tokens), tuple(labels), place)


def _rows(capture: Capture) -> np.ndarray:
    """All layers of one run, side by side: ``(token, unit of all layers)``."""
    import numpy as np

    blocks = []
    for stack, name, layer in capture.tensors:
        values = capture.numpy(name, layer, stack)
        blocks.append(values.reshape(len(values), -1))
    joined = np.concatenate(blocks, axis=1)
    return joined if joined.dtype == np.float64 else joined.astype(np.float32)


def _units(capture: Capture, site: str) -> tuple[tuple[str, ...], str]:
    """The columns' labels, and what they are of in words."""
    units: list[str] = []
    layers = []
    for (_, name, layer), tensor in capture.tensors.items():
        width = tensor[0].numel()
        units += [f"{name if layer is None else layer}:{unit}" for unit in range(width)]
        layers += [] if layer is None else [layer]
    if not layers:
        return tuple(units), site
    whole = len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1))
    numbers = f"{layers[0]} to {layers[-1]}" if whole else ", ".join(map(str, layers))
    return tuple(units), f"{site} in layer{'s' if len(layers) > 1 else ''} {numbers}"


def _positions(run: Run, tokens: Tokens, wanted: int | Sequence[int] | None, stack: str) -> list[int]:
    """The positions that were asked for, in the stack that is read, each once."""
    if stack == run.transcript.stack:
        return list(dict.fromkeys(run.resolve_positions(wanted)))
    n = len(tokens)
    given = range(n) if wanted is None else [wanted] if isinstance(wanted, int) else wanted
    if not given:
        raise OptionError("No position was named; leave positions out for all of them.")
    for place in given:
        if not -n <= place < n:
            raise OptionError(f"No position {place!r} in the {stack}; there are {n}, from 0 to {n - 1}.")
    return list(dict.fromkeys(place % n for place in given))


def _joined(parts: Sequence[Tokens]) -> Tokens:
    """The tokens of several pieces, one after the other."""
    return Tokens(
        [int(part.ids[0]) for part in parts],
        [part.texts[0] for part in parts],
        [part.labels[0] for part in parts],
        [part.starts_word[0] for part in parts],
        [part.special[0] for part in parts],
    )


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Say what does not fit, a pure function's ValueError, as an OptionError."""
    try:
        yield
    except ValueError as error:
        raise OptionError(str(error)) from error
