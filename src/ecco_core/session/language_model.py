"""LanguageModel: a loaded model and its tokenizer; makes runs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ecco_core.data.transcript import Transcript
from ecco_core.errors import (
    ArchitectureError,
    EccoError,
    ModelNotFoundError,
    OptionError,
    PluginError,
    PromptError,
    did_you_mean,
    listed,
)
from ecco_core.models import registry
from ecco_core.models.architecture import Architecture
from ecco_core.models.hooks import alone
from ecco_core.models.scores import require_causal
from ecco_core.options import convert
from ecco_core.plugin.catalogue import SOURCE_NAMES, install_for
from ecco_core.plugin.manager import plugins
from ecco_core.session.run import Run
from ecco_core.session.tokenizing import encode, tokens_of


class LanguageModel:
    """A transformers model with its tokenizer.

    Attributes:
        model: the transformers model, as it was given. `tokenizer`: its fast tokenizer.
        name: what it was loaded as.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, name: str = "") -> None:
        self.model: Any = model
        self.tokenizer = tokenizer
        self.name = name or getattr(model.config, "name_or_path", "") or type(model).__name__
        self._causal = False
        if getattr(model.config, "is_encoder_decoder", False) or self._head() is None:
            raise ArchitectureError(f"{type(model).__name__} is no causal language model; this version opens those.")

    def _head(self) -> Any:
        return self.model.get_output_embeddings() if hasattr(self.model, "get_output_embeddings") else None

    @property
    def model_type(self) -> str:
        """The architecture, ``config.model_type``."""
        return str(self.model.config.model_type)

    @property
    def device(self) -> str:
        """Device of the input embedding."""
        return str(self.model.get_input_embeddings().weight.device)

    @property
    def precision(self) -> str:
        """Floating-point type of the weights."""
        return str(self.model.get_input_embeddings().weight.dtype).removeprefix("torch.")

    @property
    def vocabulary(self) -> int:
        """Number of entries that the head scores."""
        return int(self._head().weight.shape[0])

    def require_causal(self, ids: torch.Tensor) -> None:
        """Prove once, on the token ids ``(token,)`` of a run, that later tokens do not matter to earlier ones.

        Raises:
            ArchitectureError: they do, as in a masked language model.
        """
        if not self._causal:
            require_causal(self.model, ids[:16])
            self._causal = True

    @functools.cached_property
    def architecture(self) -> Architecture:
        """Where the parts of the model are.

        Raises:
            ArchitectureError: no model file covers this architecture, or it does not fit.
        """
        return Architecture(registry.require(self.model_type).structure, self.model)

    def generate(
        self,
        text: str,
        max_new_tokens: int | None = None,
        *,
        generate: int | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Run:
        """Continue `text` with the model's own ``generate``, untouched, and return the run.

        Args:
            text: the prompt.
            max_new_tokens: most tokens to generate; 20 if left out. `generate` is the original library's name.
            seed: set torch's random state first, for sampling that repeats.
            options: anything that the model's ``generate`` takes (``do_sample``, ``temperature``, ``top_k`` …).

        Raises:
            PromptError: the prompt is empty or longer than the context. OptionError: an option is wrong.
        """
        if generate is not None and max_new_tokens is not None:
            raise OptionError("generate and max_new_tokens say the same; give one of them.")
        count = generate if generate is not None else 20 if max_new_tokens is None else max_new_tokens
        count, seed = convert(count, int, "max_new_tokens"), convert(seed, int | None, "seed")
        if count < 0 or not -(2**63) <= (seed or 0) < 2**63:
            raise OptionError(f"max_new_tokens counts from 0 and seed has 64 bits, found {count} and {seed}.")
        if options.get("num_return_sequences", 1) != 1:
            raise OptionError("A run is one sequence: leave num_return_sequences out and call generate again.")
        weight = self.model.get_input_embeddings().weight
        ids = torch.tensor([encode(self.tokenizer, text, len(weight))], device=weight.device)
        self._check_length(ids.shape[1], count)
        if count == 0:
            return self._run(ids[0], ids.shape[1])
        if seed is not None:
            torch.manual_seed(seed)
        if self.model.generation_config.pad_token_id is None and "pad_token_id" not in options:
            options["pad_token_id"] = self._pad()
        try:
            with alone(self.model):
                output = self.model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, **options
                )
        except Exception as error:
            raise OptionError(f"The model's generate stopped: {_told(error)}") from error
        sequence = (output if isinstance(output, torch.Tensor) else output.sequences)[0]
        return self._run(sequence, ids.shape[1])

    def __call__(self, text: str) -> Run:
        """Return a run of `text` as it stands, without generating."""
        return self.generate(text, max_new_tokens=0)

    def _pad(self) -> int | None:
        eos = self.model.generation_config.eos_token_id
        pad: int | None = self.tokenizer.pad_token_id
        return pad if pad is not None else eos[0] if isinstance(eos, list) else eos

    def _check_length(self, given: int, count: int) -> None:
        context = getattr(self.model.config, "max_position_embeddings", None)
        if isinstance(context, int) and given + count > context:
            raise PromptError(
                f"The prompt has {given} tokens and {count} more are wanted, but this model's context holds "
                f"{context}; shorten the prompt"
                + (f" or generate at most {context - given}." if given < context else ".")
            )

    def _run(self, ids: torch.Tensor, n_input_tokens: int) -> Run:
        tokens = tokens_of(self.tokenizer, ids.tolist())
        return Run(self, Transcript(tokens={"decoder": tokens}, n_input_tokens=n_input_tokens, model=self.name))

    def __repr__(self) -> str:
        return f"LanguageModel({self.name}: {self.model_type}, {self.precision} on {self.device})"


def from_pretrained(
    model: str | Path | tuple[Any, Any],
    *,
    activations: bool | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    gpu: bool | None = None,
    **options: Any,
) -> LanguageModel:
    """Load a causal language model.

    Args:
        model: ``"source:name"`` of a plugin such as ``"tiny:prose"``, a name on the hub, a local folder, or a loaded
            ``(model, tokenizer)``.
        activations: the original library's switch; nothing has to be switched on here.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
        device: where to put it, such as ``"cuda"``. `gpu`, of the original, means ``"cuda"`` where there is one.
        options: for a model by name, anything that transformers' ``from_pretrained`` takes
            (``dtype``, ``device_map``, ``revision`` …).

    Raises:
        ModelNotFoundError: nothing is there by that name. ArchitectureError: it is not a causal language model.
    """
    options = {name: value for name, value in options.items() if name not in _ORIGINALS}
    if isinstance(model, tuple):
        if options:
            raise OptionError(f"A loaded (model, tokenizer) takes no further options, found {listed(options)}.")
        loaded = _from_pair(model)
    elif isinstance(model, (str, Path)):
        folder = _resolve(str(model))
        loaded = _from_name(str(model), folder, {**options, "trust_remote_code": trust_remote_code})
    else:
        raise OptionError(f"Give a name, a folder or (model, tokenizer), found {type(model).__name__}.")
    device = "cuda" if gpu and device is None and torch.cuda.is_available() else device
    try:
        return loaded if device is None else _moved(loaded, device)
    except Exception as error:
        raise OptionError(f"The model cannot be put on the device {device!r}: {_told(error)}") from error


#: Switches of the original library that need no switching here: everything is read when it is asked for.
_ORIGINALS = ("attention", "hidden_states", "activations_layer_nums", "verbose")


def _moved(loaded: LanguageModel, device: str) -> LanguageModel:
    loaded.model.to(device)
    return loaded


def _told(error: BaseException) -> str:
    """An exception's first lines as one, not too long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _from_pair(pair: tuple[Any, ...]) -> LanguageModel:
    if len(pair) != 2 or not isinstance(pair[0], nn.Module) or not hasattr(pair[1], "convert_ids_to_tokens"):
        found = ", ".join(type(part).__name__ for part in pair)
        raise OptionError(f"A loaded model is given as (model, tokenizer), found ({found}).")
    if not hasattr(pair[0], "config"):
        raise ArchitectureError(f"{type(pair[0]).__name__} has no config; give a transformers model.")
    return LanguageModel(pair[0], pair[1])


def _resolve(name: str) -> str:
    """Turn ``source:model`` into a folder; leave hub names and folders as they are."""
    source, colon, rest = name.partition(":")
    if not colon or len(source) == 1 or _exists(name):
        return name
    offer = plugins().find("ecco_model_sources", source)
    if offer is None:
        known = [o.spec.name for o in plugins().offers("ecco_model_sources")]
        install = install_for(source)
        near = did_you_mean(source, {*known, *SOURCE_NAMES})
        fix = f" Install it: {install}" if install else f"{near} Installed: {listed(known)}."
        raise ModelNotFoundError(f"No model source {source!r} for {name!r}.{fix}")
    try:
        return str(offer.load()(rest))
    except EccoError:
        raise
    except Exception as error:
        raise PluginError(f"The model source {source!r} of {offer.distribution} failed on {rest!r}: {error}") from error


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # too long for a path
        return False


def _from_name(name: str, folder: str, options: dict[str, Any]) -> LanguageModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(folder)
    if len(name) > 300 or "\0" in name:
        raise ModelNotFoundError(f"No model {name[:60] + '…'!r}: a name has at most 300 characters.")
    if path.is_dir() and not (path / "config.json").is_file():
        there = listed(sorted(p.name for p in path.iterdir()), 6)
        raise ModelNotFoundError(f"The folder {name!r} holds no transformers model: no config.json (it has: {there}).")
    wanted = {k: options[k] for k in ("revision", "token", "cache_dir", "trust_remote_code") if k in options}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **wanted)
        model = AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    except OSError as error:
        raise ModelNotFoundError(_not_found(name, path, error)) from error
    except Exception as error:
        raise ArchitectureError(f"{name!r} cannot be opened as a causal language model: {_told(error)}") from error
    if len(tokenizer) < 2:
        raise ModelNotFoundError(f"{name!r} holds a model but no tokenizer; save one beside it, or give both loaded.")
    return LanguageModel(model, tokenizer, name)


def _not_found(name: str, folder: Path, error: OSError) -> str:
    if folder.is_dir():
        return f"The folder {name!r} does not load: {' '.join(str(error).split())[:300]}"
    sources = [f"{o.spec.name}:{m}" for o in plugins().offers("ecco_model_sources") for m in o.spec.models]
    near = did_you_mean(name, sources)
    here = f" Here without a network: {listed(sources)}." if sources else " Offline models: pip install ecco-tiny"
    return f"No model {name!r}: it is no local folder, and the hub does not give it (or cannot be reached).{near}{here}"
