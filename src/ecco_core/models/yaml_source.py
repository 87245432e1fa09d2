"""Read one model YAML file into a Structure; every error names file, line, column and key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ecco_core.errors import RegistryError, did_you_mean, listed
from ecco_core.models.structure import DECLARED_SITES, IMPLIED_SITES, STACKS, TASKS, Site, StackStructure, Structure

SCHEMA = 1
LARGEST_FILE = 100_000  # bytes; ours are below 2,000
_PATH = r"[A-Za-z_]\w*(?:\.\w+)*"


def read_yaml(path: Path) -> Structure:
    """Return the structure declared in a file.

    Raises:
        RegistryError: the file cannot be read, is not YAML, or does not follow the schema.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise RegistryError(f"{path}:1:1: a model file has at most {LARGEST_FILE:,} bytes.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RegistryError(f"{path}:1:1: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RegistryError(f"{path}:1:1: is not UTF-8 text.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> Structure:
    """Return the structure declared in `text`; `origin` names it in messages.

    Raises:
        RegistryError: not YAML, or not of the schema.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join(str(error.problem or error.context).split())
        raise RegistryError(f"{origin}:{line}:{column}: not valid YAML: {problem}.") from error
    except (YAMLError, ValueError, TypeError, ArithmeticError, RecursionError, AttributeError) as error:
        raise RegistryError(f"{origin}:1:1: not valid YAML: {' '.join(str(error).split())[:200]}.") from error
    return _structure(_Node(tree, origin))


class _Node:
    """A value of the tree that knows where it stands."""

    def __init__(self, value: Any, origin: str, key: str = "", line: int = 1, column: int = 1) -> None:
        self.value, self.origin, self.key, self.line, self.column = value, origin, key, line, column

    def error(self, message: str) -> RegistryError:
        at = f" at {self.key}:" if self.key else ""
        return RegistryError(f"{self.origin}:{self.line}:{self.column}:{at} {message}")

    def mapping(self, known: Iterable[str] | None, required: Iterable[str] = ()) -> Iterator[tuple[str, _Node]]:
        if not isinstance(self.value, Mapping):
            raise self.error(f"expected a mapping of keys to values, found {_found(self.value)}.")
        for name in required:
            if name not in self.value:
                raise self.error(f"the key {name!r} is missing.")
        for name, value in self.value.items():
            child = self._child(name, value)
            if not isinstance(name, str) or (known is not None and name not in known):
                raise child.error(
                    f"unknown key {name!r}.{did_you_mean(str(name), known or ())} Known: {listed(known or (), 20)}."
                )
            yield name, child

    def _child(self, name: Any, value: Any) -> _Node:
        line, column = self.value.lc.key(name)
        return _Node(value, self.origin, f"{self.key}.{name}".lstrip("."), line + 1, column + 1)

    def texts(self) -> tuple[str, ...]:
        if not isinstance(self.value, list) or not self.value:
            raise self.error(f"expected a list of names, found {_found(self.value)}.")
        for item in self.value:
            if not isinstance(item, str) or not item:
                raise self.error(f"expected a list of names, found {_found(item)} in it.")
        return tuple(str(item) for item in self.value)

    def path(self) -> str:
        if not isinstance(self.value, str) or not re.fullmatch(_PATH, self.value):
            raise self.error(
                f"expected the dotted path of a module such as 'model.layers', found {_found(self.value)}."
            )
        return str(self.value)


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    name = {"CommentedMap": "a mapping", "CommentedSeq": "a list"}.get(type(value).__name__)
    return name or repr(value)[:80]


def _structure(root: _Node) -> Structure:
    keys = ("schema", "model_types", "stacks", "heads")
    parts = dict(root.mapping(keys, required=("schema", "model_types", "stacks")))
    schema = parts["schema"]
    if schema.value != SCHEMA or isinstance(schema.value, bool):
        raise schema.error(f"this version reads schema {SCHEMA}, found {_found(schema.value)}.")
    stacks = {name: _stack(node) for name, node in parts["stacks"].mapping(STACKS)}
    if not stacks:
        raise parts["stacks"].error("at least one stack is needed.")
    heads = {task: node.path() for task, node in parts["heads"].mapping(TASKS)} if "heads" in parts else {}
    return Structure(model_types=parts["model_types"].texts(), stacks=stacks, heads=heads, origin=root.origin)


def _stack(node: _Node) -> StackStructure:
    parts = dict(node.mapping(("blocks", "final_norm", "sites"), required=("blocks",)))
    sites = {}
    for name, site in parts["sites"].mapping(None) if "sites" in parts else ():
        if name in IMPLIED_SITES:
            raise site.error(f"the site {name!r} is read from blocks, embedding or head; it is not declared.")
        if name not in DECLARED_SITES:
            raise site.error(
                f"unknown site {name!r}.{did_you_mean(name, DECLARED_SITES)} Known: {listed(DECLARED_SITES, 20)}."
            )
        sites[name] = _site(site)
    norm = parts["final_norm"].path() if "final_norm" in parts else ""
    return StackStructure(blocks=parts["blocks"].path(), final_norm=norm, sites=sites)


def _site(node: _Node) -> Site:
    text = node.value if isinstance(node.value, str) else ""
    found = re.fullmatch(rf"> ?({_PATH})|({_PATH}) ?>", text.strip())
    if not found:
        raise node.error(
            f"expected '> path' (what enters the module) or 'path >' (what leaves it), found {_found(node.value)}."
        )
    return Site(found.group(1), "input") if found.group(1) else Site(found.group(2), "output")
