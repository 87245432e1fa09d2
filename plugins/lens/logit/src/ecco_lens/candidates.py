"""The best tokens for a position: of each layer, or of the model itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecco_core import Context, LabelledArray, OptionError, Predictions

if TYPE_CHECKING:
    import numpy as np


def candidates(ctx: Context, *, position: int | None = None, top_k: int = 10) -> Predictions:
    """The best tokens of each layer for the token at one position, with their probabilities.

    Options:
        position: of the token; -1 is the last, the run's length the next, which is meant if left out (or the first
            mask).
        top_k: how many tokens.
    """
    from ecco_lens.places import note_unmasked, one_place
    from ecco_lens.reading import Lens, check_top_k

    check_top_k(top_k, ctx.run.lm.vocabulary)
    place = one_place(ctx.run, position)
    lens = Lens(ctx, ctx.layers, [place])
    ids, probabilities = lens.best(top_k)
    note_unmasked(ctx, [place])
    title = f"Candidates of each layer for {place.where}"
    return _predictions(ctx, title, "layer", lens.layers, ids[:, 0], probabilities[:, 0])


def predict(ctx: Context, *, top_k: int = 10, temperature: float = 1.0) -> Predictions:
    """The model's best candidates for the token that comes next, or for masked ones; or for those at positions.

    Options:
        top_k: how many tokens.
        temperature: logits are divided by it, as in sampling; 1 is the model's own prediction.
    """
    import numpy as np

    from ecco_lens.distributions import top_tokens
    from ecco_lens.places import next_places, note_unmasked
    from ecco_lens.reading import check_top_k

    if not 0 < temperature < math.inf:
        raise OptionError(f"temperature is a number above 0, found {temperature}.")
    places = next_places(ctx.run, ctx.options["positions"])
    logits = ctx.run.logits()[[place.row for place in places]].double()
    check_top_k(top_k, logits.shape[-1])
    ids, logprobs = top_tokens((logits - logits.amax(-1, keepdim=True)) / temperature, top_k)
    note_unmasked(ctx, places)
    where = places[0].where if len(places) == 1 else f"{len(places)} positions"
    rows = [place.name for place in places]
    at = f", at temperature {temperature:g}" if temperature != 1 else ""
    return _predictions(ctx, f"Candidates for {where}{at}", "position", rows, ids, np.exp(logprobs))


def _predictions(
    ctx: Context, title: str, dim: str, rows: Sequence[int | str], ids: np.ndarray, probabilities: np.ndarray
) -> Predictions:
    from ecco_lens.places import labels_of

    dims, coords = (dim, "rank"), {dim: rows, "rank": range(1, ids.shape[1] + 1)}
    return Predictions(
        title=title,
        values=LabelledArray(probabilities, dims, coords),
        texts=LabelledArray(labels_of(ctx.run, ids), dims, coords),
        ids=LabelledArray(ids, dims, coords),
    )
