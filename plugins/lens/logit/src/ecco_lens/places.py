"""Which positions of a run a lens explains, and at which of them the states stand that predict these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ecco_core import OptionError, TargetError

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import Context, Run

TASKS = ("causal", "seq2seq", "masked")


class Place(NamedTuple):
    """A position whose prediction is read.

    Attributes:
        position: of the token that is predicted. `row`: of the state that predicts it.
        label: the text that stands there, or that none does yet.
        token: the vocabulary entry that stands there; None at a mask, and where none was chosen yet.
        where: the position in words.
    """

    position: int
    row: int
    label: str
    token: int | None
    where: str

    @property
    def name(self) -> str:
        """Position and text, as a column is headed."""
        return f"{self.position} {self.label}"


def all_places(run: Run, wanted: int | Sequence[int] | None) -> list[Place]:
    """Return the positions that were asked for; by default all that are predicted, or the masked places.

    Raises:
        OptionError: no such position. TargetError: the model does not predict it, or predicts no tokens at all.
    """
    check_task(run)
    first = int(run.lm.task != "masked")
    default = _masks(run) or list(range(first, len(run) + first))
    return [_place(run, p) for p in _wanted(wanted, default)]


def chosen_places(run: Run, wanted: int | Sequence[int] | None) -> list[Place]:
    """Return the positions that were asked for; by default the generated tokens, or all of a text that was only read.

    Raises:
        OptionError: no such position. TargetError: the model does not predict it, or predicts no tokens at all.
    """
    check_task(run)
    if run.lm.task == "masked":
        return all_places(run, wanted)
    generated = range(max(1, run.n_input_tokens), len(run))
    return [_place(run, p) for p in _wanted(wanted, list(generated or range(1, len(run)) or [len(run)]))]


def one_place(run: Run, position: int | None) -> Place:
    """Return the position that was asked for; by default the token not chosen yet, or the first mask.

    Raises:
        OptionError: no such position, or a text without masks and no position. TargetError: as `all_places`.
    """
    return next_places(run, position)[0]


def next_places(run: Run, wanted: int | Sequence[int] | None) -> list[Place]:
    """Return the positions that were asked for; by default the token not chosen yet, or the masked places.

    Raises:
        OptionError: no such position, or a text without masks and no position. TargetError: as `all_places`.
    """
    check_task(run)
    default = _masks(run) if run.lm.task == "masked" else [len(run)]
    if wanted is None and not default:
        mask = run.lm.tokenizer.mask_token or "mask token"
        raise OptionError(f"The text holds no {mask} to fill in; name a position, from 0 to {len(run) - 1}.")
    return [_place(run, p) for p in _wanted(wanted, default)]


def check_task(run: Run) -> None:
    """Refuse a model that predicts no tokens, or sees those that it would be asked for.

    Raises:
        TargetError: it is a classifier, or a model without a head. ArchitectureError: later tokens matter to earlier.
    """
    if run.lm.task not in TASKS:
        raise TargetError(
            f"{run.lm.name} is a {run.lm.task} model: no head of its turns states into tokens; a lens reads causal, "
            "seq2seq and masked models."
        )
    if run.lm.task == "causal":
        run.lm.require_causal(run.ids)


def note_unmasked(ctx: Context, places: Sequence[Place]) -> None:
    """Say where a masked model sees the token that it is asked for."""
    seen = [place.position for place in places if ctx.run.lm.task == "masked" and place.token is not None]
    if seen:
        some = ", ".join(map(str, seen[:8])) + ", …" * (len(seen) > 8)
        ctx.note(f"not masked at {some}: the model sees the token there, so this is not how well it would guess it")


def labels_of(run: Run, ids: np.ndarray) -> np.ndarray:
    """Return the text of each token, in the shape of `ids`."""
    import numpy as np

    different, places = np.unique(ids, return_inverse=True)
    texts = np.array([run.label(int(token)) for token in different], dtype=object)
    return np.asarray(texts[places].reshape(ids.shape))


def _wanted(wanted: int | Sequence[int] | None, default: list[int]) -> list[int]:
    several = default if wanted is None else [wanted] if isinstance(wanted, int) else list(wanted)
    if not several:
        raise OptionError("No position was named; leave positions out for the usual ones.")
    return several


def _masks(run: Run) -> list[int]:
    mask = run.lm.tokenizer.mask_token_id if run.lm.task == "masked" else None
    return [p for p, token in enumerate(run.tokens.ids) if token == mask]


def _place(run: Run, given: int) -> Place:
    length, masked = len(run), run.lm.task == "masked"
    if not -length <= given < length + (not masked):
        last = "" if masked else f", and {length} is the token not chosen yet"
        raise OptionError(
            f"No position {given} in this run: its {length} tokens have positions 0 to {length - 1} (or -1 to "
            f"-{length}){last}."
        )
    position = given % length if given < 0 else given
    if position == 0 and not masked:
        raise TargetError("Position 0 has nothing before it: the model did not predict the first token.")
    if position == length:
        return Place(position, position - 1, "(next)", None, f"position {position}, not chosen yet")
    label, token = run.tokens.labels[position], int(run.tokens.ids[position])
    if not masked:
        return Place(position, position - 1, label, token, f"position {position} {label!r}")
    if token == run.lm.tokenizer.mask_token_id:
        return Place(position, position, label, None, f"masked position {position}")
    return Place(position, position, label, token, f"position {position} {label!r}, which is not masked")
