"""The calls of the original library, each a line that names today's analysis and arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from ecco_core.data.capture import Capture
from ecco_core.data.results import TokenScores
from ecco_core.data.storage import as_data
from ecco_core.data.transcript import Transcript
from ecco_core.errors import OptionError, did_you_mean, listed
from ecco_core.plugin.manager import plugins
from ecco_core.running import options_for, places

#: attr_method of the original -> today's analysis.
ATTRIBUTIONS = {"grad_x_input": "input_x_gradient", "saliency": "saliency", "ig": "integrated_gradients",
                "dl": "deep_lift", "dls": "deep_lift_shap", "gs": "gradient_shap", "gb": "guided_backprop",
                "gg": "guided_grad_cam", "deconv": "deconvolution", "lrp": "lrp"}  # fmt: skip
#: The original's method -> today's analysis, the original's arguments in their order -> today's (others keep their
#: names), and those that it had by default.
CALLS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "layer_predictions": ("candidates", {"position": "position", "topk": "top_k", "layer": "layers"}, {}),
    "rankings": ("rankings", {}, {}),
    "rankings_watch": ("rankings_watch", {"watch": "watch", "position": "position"}, {"position": -1}),
    "attention": ("raw_attention", {"attention_values": "attention_values", "layer": "layers"}, {"layer": 0}),
    "run_nmf": ("nmf", {"collect_activations_layer_nums": "layers"}, {"n_components": 10}),
}
#: The original's attribute -> what it is today, of a run.
ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "tokenizer": lambda run: run.lm.tokenizer,
    "device": lambda run: run.lm.device,
    "to": lambda run: run.lm.to,
    "model_type": lambda run: run.lm.task,
    "config": lambda run: run.lm.architecture.structure,
    "token_ids": lambda run: run.tokens.ids[None],  # (1, token)
    "embedding_states": lambda run: run.capture("resid_pre", layers=[0]).stacked("resid_pre"),  # (1, token, unit)
    "encoder_hidden_states": lambda run: _states(run, "encoder"),
    "decoder_hidden_states": lambda run: _states(run, "decoder"),
    "_get_encoder_hidden_states": lambda run: lambda: run.encoder_hidden_states or run.decoder_hidden_states,
}


class ClassicRun:
    """The original's methods and attributes of an output; inherited by Run.

    ``layer_predictions``, ``rankings``, ``rankings_watch``, ``attention`` and ``run_nmf`` are analyses by other names
    (`CALLS`); most attributes are what is found elsewhere (`ATTRIBUTES`).
    """

    analyze: Callable[..., Any]
    capture: Callable[..., Capture]
    transcript: Transcript

    def __getattr__(self, name: str) -> Any:
        if name in CALLS:
            return functools.partial(self._called, name)
        if name in ATTRIBUTES:
            return ATTRIBUTES[name](self)
        known = [name for name in (*CALLS, *ATTRIBUTES, *dir(type(self))) if not name.startswith("_")]
        raise AttributeError(f"A {type(self).__name__} has no attribute {name!r}.{did_you_mean(name, known)}")

    def _called(self, name: str, /, *arguments: Any, **options: Any) -> Any:
        """Run the analysis that a method of the original is today."""
        analysis, renamed, defaults = CALLS[name]
        if len(arguments) > len(renamed):
            raise OptionError(f"{name} takes by place: {listed(renamed)}; found {len(arguments)} values.")
        options = defaults | dict(zip(renamed, arguments)) | options
        options = {name: value for name, value in options.items() if value is not None}
        path, data, every, *_ = (
            options.pop(name, None) for name in ("save_file_path", "printJson", "show_inputs", "vmin", "vmax")
        )
        if every:
            options["positions"] = range(1, len(self.transcript))  # nothing predicts the first token
        given = self.transcript.n_input_tokens == len(self.transcript)
        if name == "rankings_watch" and given and options.get("position") == -1:
            del options["position"]  # nothing was generated: the next token
        if isinstance(n := options.get("n_components"), int):
            options["n_components"] = min(n, len(self.transcript))
        if "from_layer" in options or "to_layer" in options:
            first, end = options.pop("from_layer", 0), options.pop("to_layer", None)
            every = self.capture("mlp_post").layers("mlp_post") if end is None else range(end)
            options["layers"] = [layer for layer in every if layer >= first]
        result = self.analyze(analysis, **{renamed.get(name, name): value for name, value in options.items()})
        if path is not None:
            result.save(path)
        return as_data(result) if data else result

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
            style: accepted for old notebooks; `Result.show` takes one.
            ignore_tokens: positions whose scores are set to zero; an encoder's tokens count before the decoder's.
            options: of the analysis; with ``printJson=True`` the data are returned.

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
        result = self.analyze(ATTRIBUTIONS[attr_method], **options)
        if ignore_tokens is not None and np.size(ignore_tokens) > 0:
            result = _without_sources(result, ignore_tokens)
        return as_data(result) if data else result

    saliency = primary_attributions  # its older name

    def position(self, position: int, attr_method: str = "grad_x_input", **options: Any) -> Any:
        """Attributions of the token at one position."""
        return self.primary_attributions(attr_method=attr_method, targets=[position], **options)

    @property
    def activations(self) -> dict[str, np.ndarray]:
        """Stack -> activations of the neurons of all layers ``(1, layer, neuron, token)``."""
        found = {stack: self.capture("mlp_post", stack=stack, device="cpu") for stack in self.transcript.tokens}
        return {
            stack: np.stack([read.numpy("mlp_post", layer).T for layer in read.layers("mlp_post")])[None]
            for stack, read in found.items()
        }


def _states(run: Any, stack: str) -> tuple[Any, ...] | None:
    """What leaves each layer of a stack ``(1, token, unit)``; None without that stack."""
    if stack not in run.transcript.tokens:
        return None
    return tuple(run.capture("resid_post", stack=stack).stacked("resid_post", stack)[:, None])


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


def _without_sources(scores: TokenScores, ignored: Any) -> TokenScores:
    """The same with the scores of the tokens at some positions set to zero, and a note that says so."""
    every = [(stack, position) for stack, tokens in scores.tokens.items() for position in range(len(tokens))]
    gone = {every[place] for place in places(ignored, len(every), "position")}
    values = scores.values.values.copy()
    values[:, [bool(gone.intersection((s.stack, place) for place in s.positions)) for s in scores.sources]] = 0
    note = f"scores of the tokens at positions {np.ravel(ignored).tolist()} are set to zero, as asked"
    return attrs.evolve(scores, values=attrs.evolve(scores.values, values=values), notes=(*scores.notes, note))
