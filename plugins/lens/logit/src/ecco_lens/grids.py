"""What each layer says at positions of a run: its top token, its distance from the model, ranks of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ecco_core import Context, LabelledArray, OptionError, TokenGrid

if TYPE_CHECKING:
    from ecco_lens.places import Place
    from ecco_lens.reading import Lens

Value = Literal["rank", "probability", "logprob"]


def logit_lens(ctx: Context, *, top_k: int = 10) -> TokenGrid:
    """The token that each layer puts first at each position, and its probability.

    Of the states of a layer, the model's own final norm and head make logits as they do of the last layer's.

    Options:
        top_k: how many of the best tokens of each layer and position to keep, as `candidates`; 0 keeps none.
    """
    from ecco_lens.places import all_places, labels_of, note_unmasked
    from ecco_lens.reading import Lens, check_top_k

    check_top_k(top_k, ctx.run.lm.vocabulary, least=0)
    places = all_places(ctx.run, ctx.options["positions"])
    lens = Lens(ctx, ctx.layers, places)
    ids, probabilities = lens.best(max(top_k, 1))
    note_unmasked(ctx, places)
    dims, coords = ("layer", "position"), _coords(lens, places)
    texts, ranked = labels_of(ctx.run, ids), {**coords, "rank": range(1, top_k + 1)}
    return TokenGrid(
        title=f"Logit lens: what each layer would say for {_where(places)}",
        quantity="probability of the top token, 0 to 1",
        values=LabelledArray(probabilities[..., 0], dims, coords),
        texts=LabelledArray(texts[..., 0], dims, coords),
        candidates=LabelledArray(texts, (*dims, "rank"), ranked) if top_k else None,
        candidate_values=LabelledArray(probabilities, (*dims, "rank"), ranked) if top_k else None,
    )


def lens_kl(ctx: Context) -> TokenGrid:
    """How far each layer's prediction is from the model's own at each position: KL(model || layer), in nats.

    It is 0 for the last layer; Belrose et al. 2023 train their lens to make it small for the others.
    """
    from ecco_lens.places import all_places, note_unmasked
    from ecco_lens.reading import Lens

    places, layers = all_places(ctx.run, ctx.options["positions"]), ctx.layers
    lens = Lens(ctx, layers, places)
    note_unmasked(ctx, places)
    return TokenGrid(
        title=f"How far each layer is from what the model predicts for {_where(places)}",
        quantity="KL divergence of the layer's prediction from the model's own, in nats",
        values=LabelledArray(lens.divergences(), ("layer", "position"), _coords(lens, places)),
    )


def rankings(ctx: Context, *, value: Value = "rank") -> TokenGrid:
    """Rank of each chosen token at each layer; of the generated tokens, or of all of a text that was only read.

    Options:
        value: rank (1 is the best), probability (0 to 1), or logprob (nats) of the token.
    """
    import numpy as np

    from ecco_lens.places import chosen_places, labels_of, note_unmasked
    from ecco_lens.reading import Lens

    places = chosen_places(ctx.run, ctx.options["positions"])
    lens, chosen = Lens(ctx, ctx.layers, places), np.array([place.token for place in places], dtype=object)
    empty = [n for n, place in enumerate(places) if place.token is None]
    if empty:
        last = ctx.run.resolve_layers(-1)
        chosen[empty] = Lens(ctx, last, [places[n] for n in empty]).best(1)[0][0, :, 0]
        ctx.note("where no token was chosen yet, or a mask stands, the token is the one that the model finds best")
    ids = chosen.astype(np.int64)
    values = lens.values(ids[:, None], value)[..., 0]
    note_unmasked(ctx, places)
    names = [f"{place.position} {label}" for place, label in zip(places, labels_of(ctx.run, ids))]
    what = "the token" if len(places) == 1 else "the tokens"
    return TokenGrid(
        title=f"{_NAMES[value]} of {what} for {_where(places)}, layer by layer",
        quantity=_quantity(value, ctx),
        values=LabelledArray(values, ("layer", "position"), {"layer": lens.layers, "position": names}),
    )


def rankings_watch(
    ctx: Context, *, watch: int | str | Sequence[int | str], position: int | None = None, value: Value = "rank"
) -> TokenGrid:
    """Rank of watched tokens at each layer, for one position.

    Options:
        watch: texts or ids, each of one token.
        position: of the token that is predicted; -1 is the last, the run's length the next, which is meant if left
            out (or the first mask).
        value: rank (1 is the best), probability (0 to 1), or logprob (nats) of the tokens.
    """
    import numpy as np

    from ecco_lens.places import labels_of, note_unmasked, one_place
    from ecco_lens.reading import Lens

    place, several = one_place(ctx.run, position), [watch] if isinstance(watch, (int, str)) else watch
    if not several:
        raise OptionError("watch is empty; name at least one token, by its text or its id.")
    ids = np.array([ctx.run.token_id(token, "watch") for token in several])
    lens = Lens(ctx, ctx.layers, [place])
    values = lens.values(ids[None], value)[:, 0]
    note_unmasked(ctx, [place])
    return TokenGrid(
        title=f"{_NAMES[value]} of watched tokens for {place.where}, layer by layer",
        quantity=_quantity(value, ctx),
        values=LabelledArray(values, ("layer", "token"), {"layer": lens.layers, "token": labels_of(ctx.run, ids)}),
    )


_NAMES = {"rank": "Rank", "probability": "Probability", "logprob": "Log-probability"}


def _quantity(value: Value, ctx: Context) -> str:
    rank = f"rank among {ctx.run.lm.vocabulary:,} tokens, 1 is the best"
    return {"rank": rank, "probability": "probability, 0 to 1", "logprob": "log-probability (nats)"}[value]


def _coords(lens: Lens, places: Sequence[Place]) -> dict[str, Sequence[int | str]]:
    return {"layer": lens.layers, "position": [place.name for place in places]}


def _where(places: Sequence[Place]) -> str:
    return places[0].where if len(places) == 1 else f"{len(places)} positions"
