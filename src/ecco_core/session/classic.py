"""The calls of the original library, each a line that names today's analysis and arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from ecco_core.data.capture import Capture
from ecco_core.data.results import Result, TokenScores
from ecco_core.data.transcript import Transcript
from ecco_core.errors import OptionError, did_you_mean, listed
from ecco_core.plugin.manager import plugins
from ecco_core.running import options_for

#: attr_method of the original -> today's analysis.
ATTRIBUTIONS = {"grad_x_input": "input_x_gradient", "saliency": "saliency", "ig": "integrated_gradients",
                "dl": "deep_lift", "dls": "deep_lift_shap", "gs": "gradient_shap", "gb": "guided_backprop",
                "gg": "guided_grad_cam", "deconv": "deconvolution", "lrp": "lrp"}  # fmt: skip
#: The original's method -> today's analysis, the original's arguments -> today's (others keep their names), and those
#: that it had by default.
CALLS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "layer_predictions": ("candidates", {"layer": "layers", "topk": "top_k"}, {}),
    "rankings": ("rankings", {}, {}),
    "rankings_watch": ("rankings_watch", {}, {}),
    "attention": ("raw_attention", {"layer": "layers"}, {"layer": 0}),
    "run_nmf": ("nmf", {"collect_activations_layer_nums": "layers"}, {"n_components": 10}),
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
        options = defaults | options
        path, data, every = (options.pop(name, None) for name in ("save_file_path", "printJson", "show_inputs"))
        if options.get("attention_values", 0) is None:
            del options["attention_values"]
        if every:
            options["positions"] = range(1, len(self.transcript))  # nothing predicts the first token
        if name == "rankings_watch" and options.get("position") == -1:
            del options["position"]  # the original's last position is the one that is not chosen yet
        if "from_layer" in options or "to_layer" in options:
            first, end = options.pop("from_layer", None) or 0, options.pop("to_layer", None)
            every = self.capture("mlp_post").layers("mlp_post") if end is None else range(end)
            options["layers"] = [layer for layer in every if layer >= first]
        result = self.analyze(analysis, **{renamed.get(name, name): value for name, value in options.items()})
        if path is not None:
            result.save(path)
        return data_of(result) if data else result

    def __call__(self, position: int | None = None, **options: Any) -> Any:
        """Attributions of all generated tokens, or of the one at a position."""
        return self.primary_attributions(**options) if position is None else self.position(position, **options)

    def explorable(self, printJson: bool = False) -> Any:
        """The tokens, as a notebook shows them; or their data."""
        tokens = self.transcript.explained
        return {"tokens": list(tokens.texts), "ids": tokens.ids.tolist()} if printJson else self

    def primary_attributions(
        self, attr_method: str = "grad_x_input", style: str = "minimal", ignore_tokens: Any = (), **options: Any
    ) -> Any:
        """Attributions of all generated tokens, as the original drew them.

        Args:
            attr_method: ``grad_x_input``, ``saliency``, ``ig``, ``dl``, ``dls``, ``gs``, ``gb``, ``gg``, ``deconv`` or
                ``lrp``.
            style: accepted for old notebooks; the page shows both views.
            ignore_tokens: positions whose scores are set to zero. `options`: of the analysis; with ``printJson=True``
                the data are returned.

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
        offer, data = plugins().analysis(ATTRIBUTIONS[attr_method]), options.pop("printJson", False)
        takes = options_for(offer.spec, offer.load())
        if attr_method != "lrp":  # scores were probabilities, magnitudes L2 norms; relevance is of logits
            as_it_was = {"score": "prob", "aggregation": "l2"}
            options = {name: value for name, value in as_it_was.items() if name in takes} | options
        some = ignore_tokens is not None and np.size(ignore_tokens) > 0
        ignored = self.resolve_positions(ignore_tokens) if some else ()
        result = self.analyze(ATTRIBUTIONS[attr_method], **options)
        result = _without_sources(result, ignored) if ignored else result
        return data_of(result) if data else result

    def saliency(self, attr_method: str = "grad_x_input", style: str = "minimal", **options: Any) -> Any:
        """Input saliency of all generated tokens; the original's name of `primary_attributions`."""
        return self.primary_attributions(attr_method=attr_method, style=style, **options)

    def position(self, position: int, attr_method: str = "grad_x_input", **options: Any) -> Any:
        """Attributions of the token at one position."""
        return self.primary_attributions(attr_method=attr_method, targets=[position], **options)

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
    def embedding_states(self) -> Any:
        """What enters the first layer ``(1, token, unit)``."""
        return self.capture("resid_pre", layers=[0]).stacked("resid_pre")

    @property
    def encoder_hidden_states(self) -> tuple[Any, ...] | None:
        """What leaves each layer of the encoder ``(1, token, unit)``; None without encoder."""
        return self._states("encoder")

    @property
    def decoder_hidden_states(self) -> tuple[Any, ...] | None:
        """What leaves each layer of the decoder ``(1, token, unit)``; None without decoder."""
        return self._states("decoder")

    def _get_encoder_hidden_states(self) -> tuple[Any, ...] | None:
        return self.encoder_hidden_states

    def _states(self, stack: str) -> tuple[Any, ...] | None:
        if stack not in self.transcript.tokens:
            return None
        return tuple(self.capture("resid_post", stack=stack).stacked("resid_post", stack)[:, None])


def data_of(result: Result) -> dict[str, Any]:
    """The arrays of a result in lists: name -> values, their dimensions, and the labels along these."""
    return {
        name: {
            "values": array.values.tolist(),
            "dims": list(array.dims),
            "labels": {dim: list(array.labels(dim)) for dim in array.dims},
        }
        for name, array in result.arrays().items()
    }


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
