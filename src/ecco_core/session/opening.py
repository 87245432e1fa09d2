"""Open a model: by name, from a folder, or loaded already; for the task that it was made for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ecco_core.errors import ArchitectureError, ModelNotFoundError, OptionError, did_you_mean, listed, saying
from ecco_core.plugin.catalogue import SOURCE_NAMES, install_for
from ecco_core.plugin.manager import plugins
from ecco_core.registry.structure import AUTO, HEAD_TASKS, TASKS
from ecco_core.session.language_model import LanguageModel
from ecco_core.texts.tokenizing import fast_backend

#: Switches of the original library that need no switching here: everything is read when it is asked for.
_ORIGINALS = ("attention", "hidden_states", "activations_layer_nums", "verbose")
#: Weights that a checkpoint may lack and nothing that is explained follows from.
_UNUSED = ("position_ids", "pooler.dense.weight", "pooler.dense.bias")


def from_pretrained(
    model: str | Path | tuple[Any, Any] = "",
    *,
    task: str | None = None,
    model_config: Mapping[str, Any] | str | Path | None = None,
    activations: bool | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    gpu: bool | None = None,
    **options: Any,
) -> LanguageModel:
    """Open a transformer model for the task that it was made for, or for another that its weights serve.

    Args:
        model: ``"source:name"`` of a plugin such as ``"tiny:prose"``, a name on the hub, a local folder, or a loaded
            ``(model, tokenizer)``.
        task: ``causal``, ``masked``, ``seq2seq``, ``sequence_classification``, ``token_classification`` or
            ``backbone``; what the checkpoint's own class is for if left out.
        model_config: where the parts of the model are: a YAML file, a dict of the same keys, or a dict of the original
            library's (``embedding``, ``type``, ``activations``); taken before any registry.
        activations: the original library's switch; nothing has to be switched on here.
        trust_remote_code: run code that comes with the model. Only for models whose code you have read.
        device: where to put it, such as ``"cuda"``. `gpu`, of the original, means ``"cuda"`` where there is one.
        options: for a model by name, anything that transformers' ``from_pretrained`` takes
            (``dtype``, ``device_map``, ``revision`` …).

    Raises:
        ModelNotFoundError: nothing is there by that name. ArchitectureError: it cannot be opened for the task.
        PromptError: its tokenizer has no fast version.
    """
    model = options.pop("hf_model_id", model)  # the original's name
    options = {name: value for name, value in options.items() if name not in _ORIGINALS}
    if task is not None and task not in TASKS:
        raise OptionError(f"No task {task!r}.{did_you_mean(str(task), TASKS)} There are: {listed(TASKS)}.")
    if isinstance(model, tuple):
        if options:
            raise OptionError(f"A loaded (model, tokenizer) takes no further options, found {listed(options)}.")
        name, (loaded, tokenizer) = "", _pair(model)
    elif isinstance(model, (str, Path)):
        name = str(model)
        loaded, tokenizer = _by_name(name, task, {**options, "trust_remote_code": trust_remote_code})
    else:
        raise OptionError(f"Give a name, a folder or (model, tokenizer), found {type(model).__name__}.")
    fast_backend(tokenizer)
    found = task_of(loaded)
    if task not in (None, found, "backbone"):
        raise ArchitectureError(f"{type(loaded).__name__} is a {found} model; it cannot be opened for {task!r}.")
    lm = LanguageModel(loaded, tokenizer, name, task=task or found, model_config=model_config)
    device = "cuda" if gpu and device is None and torch.cuda.is_available() else device
    if device is not None:
        with saying(f"The model cannot be put on the device {device!r}", OptionError):
            lm.model.to(device)
    return lm


def LM(model: Any, tokenizer: Any, model_name: str = "", config: Any = None, **_: Any) -> LanguageModel:  # noqa: N802
    """The original's way to open what is loaded; see `from_pretrained`."""
    return LanguageModel(model, tokenizer, model_name, task=task_of(model), model_config=config or None)


def task_of(model: Any) -> str:
    """Return the task of a loaded model, by its class; ``backbone`` if it has no head that Ecco knows."""
    has_head = hasattr(model, "get_output_embeddings") and isinstance(model.get_output_embeddings(), nn.Module)
    tasks = _tasks_of(type(model).__name__)
    tasks = tasks or ["causal" if has_head else "backbone"]  # another's own class; proven at first use
    answers = has_head and getattr(model.config, "is_encoder_decoder", False) and {*HEAD_TASKS} & {*tasks}
    return "seq2seq" if answers else tasks[0]


def _tasks_of(name: str) -> list[str]:
    """The tasks that a transformers class of this name, or a model type, serves, by transformers' own lists."""
    from transformers.models.auto import modeling_auto

    def names(mapping: str) -> set[str]:
        classes = getattr(modeling_auto, f"{mapping}_NAMES")
        return {*classes, *(n for found in classes.values() for n in ([found] if isinstance(found, str) else found))}

    return [task for task, (_, mapping) in AUTO.items() if name in names(mapping)]


def _pair(pair: tuple[Any, ...]) -> tuple[Any, Any]:
    if len(pair) != 2 or not isinstance(pair[0], nn.Module) or not hasattr(pair[1], "convert_ids_to_tokens"):
        found = ", ".join(type(part).__name__ for part in pair)
        raise OptionError(f"A loaded model is given as (model, tokenizer), found ({found}).")
    if not hasattr(pair[0], "config"):
        raise ArchitectureError(f"{type(pair[0]).__name__} has no config; give a transformers model.")
    return getattr(pair[0], "_orig_mod", pair[0]), pair[1]  # what torch.compile wrapped


def _resolve(name: str) -> str:
    """Turn ``source:model`` into a folder; leave hub names and folders as they are."""
    source, colon, rest = name.partition(":")
    if not colon or len(source) == 1 or os.path.exists(name):  # noqa: PTH110 - Path fails at long names
        return name
    if source in [record.distribution for record in plugins().records] and ":" in rest:  # distribution:source:model
        source, rest = f"{source}:{rest.partition(':')[0]}", rest.partition(":")[2]
    offer = plugins().find("ecco_model_sources", source)
    if offer is None:
        known = [o.spec.name for o in plugins().offers("ecco_model_sources")]
        install = install_for(source)
        near = did_you_mean(source, {*known, *SOURCE_NAMES})
        fix = f" Install it: {install}" if install else f"{near} Installed: {listed(known)}."
        raise ModelNotFoundError(f"No model source {source!r} for {name!r}.{fix}")
    with offer.at_work(f"The model source {source!r}", f"failed on {rest!r}"):
        return str(offer.load()(rest))


def _by_name(name: str, task: str | None, options: dict[str, Any]) -> tuple[Any, Any]:
    import transformers

    folder = _resolve(name)
    path = Path(folder)
    if not name:
        raise ModelNotFoundError("The name of the model is empty; give one, a folder, or (model, tokenizer).")
    if len(name) > 300 or "\0" in name:
        raise ModelNotFoundError(f"No model {name[:60] + '…'!r}: a name has at most 300 characters.")
    if path.is_dir() and not (path / "config.json").is_file():
        there = listed(sorted(p.name for p in path.iterdir()), 6)
        raise ModelNotFoundError(f"The folder {name!r} holds no transformers model: no config.json (it has: {there}).")
    wanted = {k: options[k] for k in ("revision", "token", "cache_dir", "trust_remote_code") if k in options}
    by = f"for the task {task!r}" if task else "by transformers"
    with saying(f"{name!r} cannot be opened {by}", ArchitectureError):
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **wanted)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **wanted)
            auto = getattr(transformers, AUTO[task or _task_of_config(config)][0])
            model, report = auto.from_pretrained(folder, output_loading_info=True, **options)
        except OSError as error:
            raise ModelNotFoundError(_not_found(name, path, error)) from error
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            fix = "if you have read it and trust it: trust_remote_code=True"
            raise ArchitectureError(f"{name!r} brings code of its own, which was not run; {fix}.") from error
    if len(tokenizer) < 2:
        raise ModelNotFoundError(f"{name!r} holds a model but no tokenizer; save one beside it, or give both loaded.")
    unused = _UNUSED if task_of(model) == "backbone" else _UNUSED[:1]
    missing = sorted(key for key in report["missing_keys"] if not key.endswith(unused))
    if missing:
        warnings.warn(
            f"The checkpoint {name!r} lacks weights that a {type(model).__name__} has ({listed(missing, 3)}): they are "
            "random, and so is what follows from them.",
            stacklevel=3,
        )
    return model.eval(), tokenizer


def _task_of_config(config: Any) -> str:
    """The task of a checkpoint by the class that it was saved from."""
    names = getattr(config, "architectures", None) or []
    tasks = [task for name in names for task in _tasks_of(name)]
    if config.is_encoder_decoder and {*HEAD_TASKS} & {*tasks}:
        return "seq2seq"
    if names:
        return next(iter(tasks), "backbone")
    has = _tasks_of(config.model_type)
    return "seq2seq" if config.is_encoder_decoder and "seq2seq" in has else next(iter(has), "causal")


def _not_found(name: str, folder: Path, error: OSError) -> str:
    if folder.is_dir():
        return f"The folder {name!r} does not load: {' '.join(str(error).split())[:300]}"
    sources = [f"{o.spec.name}:{m}" for o in plugins().offers("ecco_model_sources") for m in o.spec.models]
    near = did_you_mean(name, sources)
    here = f" Here without a network: {listed(sources)}." if sources else " Offline models: pip install ecco-tiny"
    return f"No model {name!r}: it is no local folder, and the hub does not give it (or cannot be reached).{near}{here}"
