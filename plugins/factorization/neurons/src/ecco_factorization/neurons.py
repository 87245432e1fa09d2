"""Single neurons over the text: how one fires, which fire at a token, and which fire together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ecco_core import Context, LabelledArray, OptionError, Table, TokenGrid, visible
from ecco_factorization.reading import Samples, asking, read

_MOST = 2000  # neurons that are clustered: their correlations are a matrix of this side


def neuron_activations(
    ctx: Context,
    *,
    neurons: Sequence[str] | None = None,
    token: str | None = None,
    n_neurons: int = 10,
    site: str = "mlp_post",
    stack: str = "",
) -> TokenGrid:
    """Activation of single neurons at each token: those named, those that know a token, or those that vary most.

    Options:
        neurons: which, as layer:unit, such as 2:17.
        token: find the neurons that are highest at the tokens that contain this text, such as a bracket or an indent.
        n_neurons: how many are shown where none are named.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    import numpy as np

    from ecco_factorization.results import NeuronGrid

    if neurons is not None and token is not None:
        raise OptionError("Name neurons or a token to find neurons for, not both.")
    samples = read(ctx, stack)
    title = f"Activation of {samples.place} at each token"
    if neurons is not None:
        columns = [_column(samples, name) for name in dict.fromkeys(neurons)]
        if not columns:
            raise OptionError("No neuron was named; name them as layer:unit, or leave neurons out.")
        labels = [samples.units[i] for i in columns]
    elif token is not None:
        columns, labels = _knowing(ctx, samples, token, _checked(n_neurons, samples))
        title = f"Neurons that know '{visible(token)}': {samples.place}"
    else:
        columns = list(np.argsort(-samples.x.std(0, dtype=float), kind="stable")[: _checked(n_neurons, samples)])
        labels = [samples.units[i] for i in columns]
        title += ", those that vary most"
    return NeuronGrid(
        title=title, values=_array(samples, columns, labels), tokens=samples.tokens, quantity="activation"
    )


def top_neurons(
    ctx: Context,
    *,
    n_neurons: int = 5,
    by: Literal["deviation", "activation"] = "deviation",
    site: str = "mlp_post",
    stack: str = "",
) -> Table:
    """The neurons that fire most at each token.

    Options:
        n_neurons: how many for each token.
        by: deviation, in standard deviations from the neuron's own mean over these tokens, so that neurons that
            always fire do not fill the table; or the activation itself.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    import numpy as np

    from ecco_factorization.matching import spread
    from ecco_factorization.telling import deviations

    samples = read(ctx, stack)
    n_neurons = _checked(n_neurons, samples)
    if by == "deviation" and len(samples.x) < 3:
        raise OptionError(f"Deviations need 3 tokens at least, found {len(samples.x)}; take by='activation'.")
    if by == "deviation":
        with asking():
            spread(samples.x)
    values = deviations(samples.x) if by == "deviation" else samples.x
    rows = []
    for label, row in zip(samples.labels, values):
        best = np.argsort(-row, kind="stable")[:n_neurons]
        rows.append((label, *(f"{samples.units[i]} ({row[i]:.2f})" for i in best)))
    of = "standard deviations from its mean" if by == "deviation" else "activation"
    return Table(
        title=f"Neurons that fire most at each token: {samples.place}, layer:unit ({of})",
        columns=("token", *(f"neuron {i + 1}" for i in range(n_neurons))),
        rows=rows,
    )


def neuron_map(
    ctx: Context, *, n_neurons: int = 50, n_clusters: int = 8, site: str = "mlp_post", stack: str = ""
) -> TokenGrid:
    """Neurons × tokens, neurons that fire together side by side (hierarchical clustering by correlation).

    Values are standard deviations from each neuron's mean over the tokens.

    Options:
        n_neurons: how many of the neurons that vary most; all cannot be shown.
        n_clusters: into how many clusters the tree is cut.
        site: what to read in each layer; mlp_post are the neurons.
        stack: encoder or decoder of an encoder-decoder; the decoder if left out.
    """
    import numpy as np

    from ecco_factorization.matching import spread
    from ecco_factorization.telling import alike, deviations, varying

    samples = read(ctx, stack)
    n_neurons = _checked(n_neurons, samples)
    if n_neurons > _MOST:
        raise OptionError(f"n_neurons is at most {_MOST}, found {n_neurons}; take the layers one by one.")
    moving = np.flatnonzero(varying(samples.x))
    moving = moving[np.argsort(-samples.x[:, moving].std(0, dtype=float), kind="stable")]
    some = moving[:n_neurons]
    with asking():
        spread(samples.x)
        order, cluster = alike(samples.x[:, some], n_clusters)
    ctx.note(f"{len(some)} of {samples.x.shape[1]} neurons: those that vary most over these {len(samples.x)} tokens")
    if len(moving) < samples.x.shape[1]:
        ctx.note(f"neurons with the same value at every token: {samples.x.shape[1] - len(moving)}")
    labels = [f"cluster {cluster[i]} · {samples.units[some[i]]}" for i in order]
    shown = samples._replace(x=deviations(samples.x))
    title = f"Neurons that fire together: {samples.place}, {cluster.max() + 1} clusters"
    quantity = "standard deviations from the neuron's mean"
    return TokenGrid(title=title, values=_array(shown, some[order], labels), quantity=quantity)


def _array(samples: Samples, columns: Sequence[int], labels: Sequence[str]) -> LabelledArray:
    return LabelledArray(samples.x[:, columns].T, ("neuron", "token"), {"neuron": labels, "token": samples.labels})


def _checked(n: int, samples: Samples) -> int:
    if not 1 <= n <= len(samples.units):
        raise OptionError(f"n_neurons is from 1 to the {len(samples.units)} there are, found {n}.")
    return n


def _column(samples: Samples, name: str) -> int:
    """The column of a neuron named layer:unit."""
    if name not in samples.units:
        raise OptionError(
            f"No neuron {name!r} here. Name it as layer:unit, from {samples.units[0]} to "
            f"{samples.units[-1]}, among the layers that are read."
        )
    return samples.units.index(name)


def _knowing(ctx: Context, samples: Samples, token: str, n: int) -> tuple[list[int], list[str]]:
    """The neurons that tell tokens with a text from the others best, and what they are called."""
    import numpy as np

    from ecco_factorization.telling import apart_by_chance, telling_apart

    found = zip(samples.tokens.texts, samples.tokens.special)
    chosen = np.array([token == text if special else token in text for text, special in found])  # not 'a' in '<mask>'
    if not token or not chosen.any() or chosen.all():
        raise OptionError(
            f"{'No' if not chosen.any() else 'Every'} token contains {token!r}, so no neuron can tell it from others; "
            "take a text that some of the tokens contain."
        )
    auc, gap = telling_apart(samples.x, chosen)
    best = np.lexsort((-gap, -auc))[:n]
    n_units, n_tokens, m = len(samples.units), len(chosen), int(chosen.sum())
    luck = apart_by_chance(n_units, n_tokens, m)
    ctx.note(
        f"{m} of {n_tokens} tokens contain '{visible(token)}'; AUC is the chance that a neuron is higher there than "
        f"elsewhere; by luck about {luck:.2g} of {n_units} neurons would reach 1, so look at another text too"
    )
    shown = np.where(auc < 1, np.minimum(auc, 0.99), auc)  # 1.00 is no error at all
    return [int(i) for i in best], [f"{samples.units[i]} (AUC {shown[i]:.2f})" for i in best]
