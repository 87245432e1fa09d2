"""The calls of the original library, each a line that names today's analysis and arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from ecco_core.data.capture import Capture
from ecco_core.data.results import TokenScores
from ecco_core.data.transcript import Transcript
from ecco_core.errors import OptionError, did_you_mean, listed

#: attr_method of the original -> today's analysis.
ATTRIBUTIONS = {"grad_x_input": "input_x_gradient", "saliency": "saliency", "ig": "integrated_gradients"}
#: The original's method -> today's analysis, the original's arguments -> today's (others keep their names), and those
#: that it had by default.
CALLS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "layer_predictions": ("candidates", {"layer": "layers", "topk": "top_k"}, {}),
    "rankings": ("rankings", {}, {}),
    "rankings_watch": ("rankings_watch", {}, {}),
    "attention": ("raw_attention", {"layer": "layers"}, {"layer": 0}),
    "run_nmf": ("nmf", {}, {"n_components": 10}),
}


class ClassicRun:
    """The original's methods and attributes of an output; inherited by Run.

    ``layer_predictions``, ``rankings``, ``rankings_watch``, ``attention`` and ``run_nmf`` are analyses by other names
    (`CALLS`).
    """

    analyze: Callable[..., Any]
    capture: Callable[..., Capture]
    resolve_positions: Callable[..., tuple[int, ...]]
    transcript: Transcript

    def __getattr__(self, name: str) -> Any:
        if name in CALLS:
            return functools.partial(self._called, name)
        near = did_you_mean(name, [*CALLS, *(known for known in dir(type(self)) if not known.startswith("_"))])
        raise AttributeError(f"A {type(self).__name__} has no attribute {name!r}.{near}")

    def _called(self, name: str, /, **options: Any) -> Any:
        """Run the analysis that a method of the original is today."""
        analysis, renamed, defaults = CALLS[name]
        options = {name: value for name, value in (defaults | options).items() if name != "printJson"}
        if name == "rankings_watch" and options.get("position") == -1:
            del options["position"]  # the original's last position is the one that is not chosen yet
        if "from_layer" in options or "to_layer" in options:
            first, end = options.pop("from_layer", None) or 0, options.pop("to_layer", None)
            every = self.capture("mlp_post").layers("mlp_post") if end is None else range(end)
            options["layers"] = [layer for layer in every if layer >= first]
        return self.analyze(analysis, **{renamed.get(name, name): value for name, value in options.items()})

    def primary_attributions(
        self, attr_method: str = "grad_x_input", style: str = "minimal", ignore_tokens: Any = (), **options: Any
    ) -> Any:
        """Attributions of all generated tokens, as the original drew them.

        Args:
            attr_method: ``grad_x_input``, ``saliency`` or ``ig``.
            style: accepted for old notebooks; the page shows both views.
            ignore_tokens: positions whose scores are set to zero.

        Raises:
            OptionError: no such method.
        """
        if attr_method not in ATTRIBUTIONS:
            raise OptionError(
                f"No attr_method {attr_method!r}.{did_you_mean(attr_method, ATTRIBUTIONS)} There are: "
                f"{listed(ATTRIBUTIONS)}; run.analyze(name) offers every installed analysis."
            )
        if style not in ("minimal", "detailed"):
            raise OptionError(f"style is 'minimal' or 'detailed', found {style!r}.")
        options = {"score": "prob", "aggregation": "l2"} | options  # scores were probabilities, magnitudes L2 norms
        some = ignore_tokens is not None and np.size(ignore_tokens) > 0
        ignored = self.resolve_positions(ignore_tokens) if some else ()
        result = self.analyze(ATTRIBUTIONS[attr_method], **options)
        return _without_sources(result, ignored) if ignored else result

    def saliency(self, attr_method: str = "grad_x_input", style: str = "minimal", **options: Any) -> Any:
        """Input saliency of all generated tokens; the original's name of `primary_attributions`."""
        return self.primary_attributions(attr_method=attr_method, style=style, **options)

    def position(self, position: int, attr_method: str = "grad_x_input") -> Any:
        """Attributions of the token at one position."""
        return self.primary_attributions(attr_method=attr_method, targets=[position])

    @property
    def token_ids(self) -> np.ndarray:
        """Ids of the tokens ``(1, token)``."""
        return np.asarray(self.transcript.explained.ids)[None]

    @property
    def activations(self) -> dict[str, np.ndarray]:
        """Stack -> activations of the neurons of all layers ``(1, layer, neuron, token)``."""
        found = {stack: self.capture("mlp_post", stack=stack, device="cpu") for stack in self.transcript.tokens}
        return {
            stack: np.stack([read.numpy("mlp_post", layer).T for layer in read.layers("mlp_post")])[None]
            for stack, read in ((stack, attrs.evolve(read, stack=stack)) for stack, read in found.items())
        }

    @property
    def encoder_hidden_states(self) -> tuple[Any, ...] | None:
        """What leaves each layer of the encoder ``(1, token, unit)``; None without encoder."""
        return self._states("encoder")

    @property
    def decoder_hidden_states(self) -> tuple[Any, ...] | None:
        """What leaves each layer of the decoder ``(1, token, unit)``; None without decoder."""
        return self._states("decoder")

    def _states(self, stack: str) -> tuple[Any, ...] | None:
        if stack not in self.transcript.tokens:
            return None
        return tuple(self.capture("resid_post", stack=stack).stacked("resid_post", stack)[:, None])


def ids_of(tokenized: Mapping[str, Any]) -> list[list[int]]:
    """The ids of each sequence that a tokenizer returned, without padding.

    Raises:
        OptionError: there are no ``input_ids``.
    """
    if "input_ids" not in tokenized:
        raise OptionError(f"What a tokenizer returned has 'input_ids', found {listed(map(str, tokenized))}.")
    ids = np.atleast_2d(np.asarray(tokenized["input_ids"]))
    kept = np.atleast_2d(np.asarray(tokenized.get("attention_mask", np.ones_like(ids)))).astype(bool)
    return [row[some].tolist() for row, some in zip(ids, kept)]


def _without_sources(scores: TokenScores, ignored: tuple[int, ...]) -> TokenScores:
    """The same with the scores of the tokens at some positions set to zero, and a note that says so."""
    values = scores.values.values.copy()
    values[:, [bool(set(source.positions) & set(ignored)) for source in scores.sources]] = 0
    note = f"scores of the tokens at positions {list(ignored)} are set to zero, as asked"
    return attrs.evolve(scores, values=attrs.evolve(scores.values, values=values), notes=(*scores.notes, note))
