"""The original library's ``ecco.lm_plots``: figures of arrays, by its calls; drawn by ecco-matplotlib.

Each returns matplotlib axes. Colours run over all numbers unless ``vmin`` and ``vmax`` say between which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import Components, Result, Source, Target, TokenGrid, TokenScores
from ecco_core.data.tokens import Tokens
from ecco_core.errors import OptionError, optional_library


def plot_activations(
    tokens: Sequence[str],
    activations: Any,
    vmin: float | None = None,
    vmax: float | None = None,
    height: float | None = None,
    width_scale_per_item: float = 1,
    file_prefix: str = "",
) -> Any:
    """Activations ``(neuron, token)`` as a heat map.

    Args:
        tokens: texts; the last ones belong to the columns. `height`: of the figure, in inches.
        width_scale_per_item, file_prefix: taken, and without effect, as in the original.
    """
    values = np.asarray(activations)
    return _grid("Activations of neurons", values, ("neuron", "token"), {"token": _last(tokens, values)},
                 between=(vmin, vmax), height=height)  # fmt: skip


def plot_clustered_activations(
    tokens: Sequence[str],
    activations: Any,
    clusters: Mapping[Any, Sequence[Any]],
    cluster_ids: Sequence[Any],
    file_prefix: str = "",
) -> Any:
    """Activations ``(neuron, token)`` as a heat map, each row by its cluster and neuron.

    Args:
        tokens: texts; the last ones belong to the columns. `clusters`: of each cluster its neurons, in the rows' order.
        cluster_ids: what each cluster is called. `file_prefix`: taken, and without effect, as in the original.
    """
    values = np.asarray(activations)
    rows = [f"cluster {name}: {neuron}" for name, neurons in zip(cluster_ids, clusters.values()) for neuron in neurons]
    if len(rows) != len(values):
        raise OptionError(f"clusters name {len(rows)} neurons, activations have {len(values)} rows; give one for each.")
    return _grid("Activations of clustered neurons", values, ("neuron", "token"),
                 {"neuron": rows, "token": _last(tokens, values)})  # fmt: skip


def token_barplot(tokens: Sequence[str], values: Any) -> Any:
    """Scores of the tokens before a generated one, as bars.

    Args:
        tokens: texts, of which one more is needed than there are values: the token that was generated.
    """
    scores, n = np.asarray(values, dtype=float), len(values)
    if len(tokens) <= n:
        raise OptionError(f"token_barplot needs {n + 1} tokens for {n} values: the last is the one that was generated.")
    texts = tokens[: n + 1]
    result = TokenScores(
        title=f"What {tokens[n]!r} was generated from",
        values=LabelledArray(scores[None], ("target", "source")),
        tokens={"decoder": Tokens([0] * len(texts), texts, texts, [True] * len(texts), [False] * len(texts))},
        sources=[Source(stack="decoder", positions=(i,), text=text) for i, text in enumerate(texts[:n])],
        targets=[Target(position=n, token_id=0, text=texts[n], score="score")],
        n_input_tokens=n,
        aggregation="",
        signed=bool((scores < 0).any()),
        unit="the values given",
    )
    return _drawn(result, view="bars")


def plot_logit_lens(
    tokens: Sequence[str],
    softmax_scores: Any,
    predicted_tokens: Any,
    vmin: float | None = 0,
    vmax: float | None = 1,
    token_found_mask: Any = None,
    show_input_tokens: bool = False,
    n_input_tokens: int = 0,
) -> Any:
    """The token that each layer predicts after each token, and its probability, both ``(layer, token)``.

    Args:
        tokens: texts, of which one more is needed than there are columns: column i predicts token i + 1.
        token_found_mask: ``(layer, token)``, true where nothing is drawn.
        show_input_tokens: whether the predictions of the first `n_input_tokens` are drawn too.
    """
    part = slice(0 if show_input_tokens else max(n_input_tokens - 1, 0), None)
    values = np.asarray(softmax_scores, dtype=float)
    if token_found_mask is not None:
        values = np.where(np.asarray(token_found_mask, dtype=bool), np.nan, values)
    return _grid("What each layer predicts", values[:, part], ("layer", "position"), {"position": tokens[part][1:]},
                 texts=np.asarray(predicted_tokens, dtype=object)[:, part], quantity="probability of the token, 0 to 1",
                 between=(vmin, vmax))  # fmt: skip


def plot_inner_token_rankings(
    input_tokens: Sequence[str],
    output_tokens: Sequence[str],
    rankings: Any,
    vmin: float | None = None,
    vmax: float | None = None,
    show_inputs: bool = False,
    save_file_path: str | Path | None = None,
    **kwargs: Any,
) -> Any:
    """Ranks ``(layer, token)`` of the tokens that were chosen.

    Args:
        input_tokens: the token before each of `output_tokens`; shown with `show_inputs`.
        save_file_path: also write the figure there. `kwargs`: taken, and without effect, as in the original.
    """
    names = [f"{a} → {b}" for a, b in zip(input_tokens, output_tokens)] if show_inputs else output_tokens
    return _grid("Ranks of the chosen tokens", rankings, ("layer", "position"), {"position": names},
                 quantity="rank of the chosen token, 1 is the best", between=(vmin, vmax),
                 path=save_file_path)  # fmt: skip


def plot_inner_token_rankings_watch(
    input_tokens: Sequence[str],
    output_tokens: Sequence[str],
    rankings: Any,
    position: int,
    vmin: float | None = None,
    vmax: float | None = None,
    show_inputs: bool = False,
    save_file_path: str | Path | None = None,
) -> Any:
    """Ranks ``(layer, token)`` of watched tokens for one position.

    Args:
        input_tokens: the text, whose tokens up to `position` are the title. `output_tokens`: the watched tokens.
        show_inputs: also name the text's own tokens, one per column. `save_file_path`: also write the figure there.
    """
    names = [f"{a} → {b}" for a, b in zip(input_tokens, output_tokens)] if show_inputs else output_tokens
    return _grid(f"{' '.join(input_tokens[: position + 1])} ____", rankings, ("layer", "token"), {"token": names},
                 quantity="rank of the watched token, 1 is the best", between=(vmin, vmax),
                 path=save_file_path)  # fmt: skip


def plot_components(result: Components, n_components: int = 3) -> Any:
    """The first components of a result; what the original's ``nmf.plot`` draws."""
    first = range(min(n_components, result.values.shape[0]))
    (dim, _), (units, _) = result.values.dims, result.loadings.dims
    values, loadings = result.values.isel(**{dim: first}), result.loadings.isel(**{units: first})
    title = result.title + f", the first {len(first)}" * (len(first) < result.values.shape[0])
    return _drawn(attrs.evolve(result, title=title, values=values, loadings=loadings))


def _last(tokens: Sequence[str], values: np.ndarray) -> Sequence[Any]:
    return tokens[-values.shape[1] :] if len(tokens) else range(values.shape[1])


def _grid(
    title: str,
    values: Any,
    dims: tuple[str, str],
    coords: Mapping[str, Any],
    *,
    texts: Any = None,
    quantity: str = "activation",
    **how: Any,
) -> Any:
    """Draw a matrix."""
    array = LabelledArray(np.asarray(values, dtype=float), dims, coords)
    inside = None if texts is None else LabelledArray(texts, dims, coords)
    return _drawn(TokenGrid(title=title, values=array, texts=inside, quantity=quantity), **how)


def _drawn(
    result: Result,
    *,
    between: tuple[float | None, float | None] = (None, None),
    path: str | Path | None = None,
    **options: Any,
) -> Any:
    """Draw a result and return its axes, its colours `between` two numbers; write the figure to `path`."""
    axes = optional_library("ecco_matplotlib", "ecco.lm_plots").plot(result, **options)
    panels = np.ravel(axes)
    for ax in panels:
        _recolour(ax, *between)
    if path is not None:
        panels[0].figure.savefig(path)
    return axes


def _recolour(ax: Any, low: float | None, high: float | None) -> None:
    """Have the colours of a heat map run between two numbers, and what stands in its cells be legible on them."""
    for painted in [*ax.collections, *ax.images] if (low, high) != (None, None) else []:
        painted.set_clim(low, high)
        low, high = painted.get_clim()
        bar = ax.figure.axes[-1]
        bar.set_xticks([low, high], [f"{low:g}", f"{high:g}"])
        bar.minorticks_off()
        for text in ax.texts:
            column, row = map(round, text.get_position())
            colour = painted.to_rgba(painted.get_array()[row, column])
            luminance = np.dot(np.power(colour[:3], 2.2), (0.2126, 0.7152, 0.0722))
            text.set_color("white" if luminance < 0.179 else "black")
