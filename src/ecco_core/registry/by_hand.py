"""A model_config given by hand - a file, a dict of its keys, or the original library's dict - as a Structure."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ecco_core.errors import OptionError, RegistryError, did_you_mean, listed
from ecco_core.registry import lookup
from ecco_core.registry.structure import Site, Structure, base_of
from ecco_core.registry.yaml_source import parse_dict, read_yaml

ORIGIN = "model_config"
_ORIGINALS = ("embedding", "type", "activations", "token_prefix", "partial_token_prefix")


def structure_of(config: Mapping[str, Any] | str | Path, model: Any, detected: Callable[[], Structure]) -> Structure:
    """Return the structure that a model_config declares.

    Args:
        config: a path of a YAML file; a dict with the keys of such a file; or the original library's dict, whose
            ``activations`` says what to take as neurons where no file declares it, or in place of what one does.
        detected: detects the structure of a model that no file covers.

    Raises:
        RegistryError: it does not follow the schema. OptionError: an original's dict that does not fit the model.
    """
    if isinstance(config, (str, Path)):
        return read_yaml(Path(config))
    if not isinstance(config, Mapping):
        raise OptionError(f"model_config is the path of a YAML file or a dict, found {type(config).__name__}.")
    if "stacks" in config or "schema" in config:
        return parse_dict(config, ORIGIN)
    unknown = next((key for key in config if key not in _ORIGINALS), None)
    if unknown is not None or "activations" not in config:
        problem = f"unknown key {unknown!r}" if unknown is not None else "the key 'activations' is missing"
        raise RegistryError(
            f"{ORIGIN}: {problem}.{did_you_mean(str(unknown), _ORIGINALS)} A dict has the keys of a model file "
            f"(schema, model_types, stacks, heads), or those of the original library: {listed(_ORIGINALS)}."
        )
    return _of_original(config, model, detected)


def _of_original(config: Mapping[str, Any], model: Any, detected: Callable[[], Structure]) -> Structure:
    """The structure of the registry, or the detected one, with the neurons where the original's dict says."""
    _check_embedding(str(config.get("embedding", "")), model)
    entry = lookup.find(str(model.config.model_type))
    structure = detected() if entry is None else entry.structure
    patterns = config["activations"]
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    stacks = dict(structure.stacks)
    for name, stack in stacks.items():
        blocks = base_of(model).get_submodule(stack.blocks)
        path = _matching(blocks[0], patterns)
        declared = stack.sites.get("mlp_post", ())
        if any(site.path == path and site.side == "input" for site in declared):
            continue
        if declared:
            warnings.warn(
                f"model_config reads the neurons of the {name} where they enter {path!r}; those of this architecture "
                f"enter {listed(str(site.path) for site in declared)}.",
                stacklevel=5,
            )
        stacks[name] = attrs.evolve(stack, sites={**stack.sites, "mlp_post": (Site(path, "input"),)})
    return attrs.evolve(structure, stacks=stacks, origin=ORIGIN)


def _check_embedding(path: str, model: Any) -> None:
    module = path.removesuffix(".weight")
    names = [name for name, part in model.named_modules() if part is model.get_input_embeddings()]
    if module and module not in names:
        raise OptionError(f"{ORIGIN}: embedding: {path!r} is not the model's; its input embedding is {listed(names)}.")


def _matching(block: Any, patterns: list[Any]) -> str:
    """The module of a block that the original's patterns name: they are searched in names such as ``0.mlp.c_proj``."""
    names = [name for name, _ in block.named_modules() if name]
    try:
        found = [n for n in names if any(re.search(str(pattern), f"0.{n}") for pattern in patterns)]
    except re.error as error:
        raise OptionError(f"{ORIGIN}: activations: {patterns!r} is no regular expression: {error}.") from error
    if len(found) != 1:
        near = did_you_mean(str(patterns[0]).replace("\\", "") if patterns else "", names)
        raise OptionError(
            f"{ORIGIN}: activations: {patterns!r} names {len(found)} modules of a block ({listed(found)}), not one."
            f"{near}"
        )
    return str(found[0])
