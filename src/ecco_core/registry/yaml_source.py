"""Read one model YAML file into a Structure; every error names file, line, column and key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ecco_core.errors import RegistryError, did_you_mean, listed
from ecco_core.registry.structure import (
    ADDED_SITES,
    DECLARED_SITES,
    HEAD_TASKS,
    IMPLIED_SITES,
    INSIDE_ATTENTION,
    STACKS,
    Logits,
    ModulePath,
    Site,
    StackStructure,
    Structure,
    Value,
    Variant,
)

SCHEMA = 1
LARGEST_FILE = 100_000  # bytes; ours are below 2,000
DEEPEST, LONGEST = 20, 1000  # levels of nesting, characters of one text; ours have 8 and 60
_PATH = r"[A-Za-z_]\w*(?:\.\w+)*"
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_VALUE = rf"(?:{_NUMBER}|[A-Za-z_]\w*(?: ?\*\* ?{_NUMBER})?)"


def read_yaml(path: Path) -> Structure:
    """Return the structure declared in a file.

    Raises:
        RegistryError: the file cannot be read, is not YAML, or does not follow the schema.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise RegistryError(f"{path}:1:1: a model file is a regular file, this is none.")
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
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = _loader().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join(str(error.problem or error.context).split())
        raise RegistryError(f"{origin}:{line}:{column}: not valid YAML: {problem}.") from error
    except (YAMLError, ValueError, TypeError, ArithmeticError, RecursionError, AttributeError) as error:
        raise RegistryError(f"{origin}:1:1: not valid YAML: {' '.join(str(error).split())[:200]}.") from error
    return _structure(_Node(tree, origin))


def parse_dict(tree: Mapping[str, Any], origin: str) -> Structure:
    """Return the structure declared by a dict of the same keys as a file.

    Raises:
        RegistryError: not of the schema.
    """
    return _structure(_Node(tree, origin))


def _loader() -> Any:
    """A loader of YAML in which no text is more data than it looks: no aliases, merges, tags, deep or huge values.

    Its errors have a place.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer, ComposerError
    from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
    from ruamel.yaml.events import AliasEvent, ScalarEvent

    class PlainComposer(Composer):
        level = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.parser.peek_event()
            text = event.value if isinstance(event, ScalarEvent) else None
            is_key = parent is not None and index is None
            refused = {
                "anchors or aliases (write it out)": isinstance(event, AliasEvent) or event.anchor is not None,
                "tags": getattr(event, "tag", None) is not None,
                "merges, or keys that are no text": is_key and (text is None or text == "<<"),
                f"more than {DEEPEST} levels": self.level >= DEEPEST,
                f"texts of more than {LONGEST} characters": len(text or "") > LONGEST,
            }
            for what, there in refused.items():
                if there:
                    raise ComposerError(None, None, f"a model file has no {what}", event.start_mark)
            self.level += 1
            node = super().compose_node(parent, index)
            self.level -= 1
            return node

    class LocatingConstructor(RoundTripConstructor):
        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
                raise ConstructorError(None, None, str(error)[:200], node.start_mark) from error

    loader = YAML(typ="rt", pure=True)
    loader.Composer, loader.Constructor = PlainComposer, LocatingConstructor
    return loader


class _Node:
    """A value of the tree that knows where it stands."""

    def __init__(
        self, value: Any, origin: str, key: str = "", line: int = 1, column: int = 1, marks: Any = None
    ) -> None:
        self.value, self.origin, self.key, self.line, self.column = value, origin, key, line, column
        self.marks: dict[str, tuple[int, int]] = {} if marks is None else marks

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
        key = f"{self.key}.{name}".lstrip(".")
        where = _where(self.value, name, "key")
        if where:
            self.marks[key] = where
        return _Node(value, self.origin, key, *(where or (self.line, self.column)), self.marks)

    def part(self, value: Any) -> _Node:
        """The same place with another value."""
        return _Node(value, self.origin, self.key, self.line, self.column, self.marks)

    def texts(self) -> tuple[str, ...]:
        if not isinstance(self.value, list) or not self.value:
            raise self.error(f"expected a list of names, found {_found(self.value)}.")
        for item in self.value:
            if not isinstance(item, str) or not item:
                raise self.error(f"expected a list of names, found {_found(item)} in it.")
        return tuple(str(item) for item in self.value)

    def items(self) -> Iterator[_Node]:
        """The entries of a list."""
        if not isinstance(self.value, list) or not self.value:
            raise self.error(f"expected a list, found {_found(self.value)}.")
        for place, value in enumerate(self.value):
            line, column = _where(self.value, place, "item") or (self.line, self.column)
            yield _Node(value, self.origin, f"{self.key}.{place}", line, column, self.marks)

    def module(self) -> ModulePath:
        """A dotted path, with a question mark after it if the module may be missing."""
        text = self.value if isinstance(self.value, str) else ""
        optional = text.endswith("?")
        return ModulePath(self.part(text[:-1].strip()).path() if optional else self.path(), optional)

    def modules(self) -> tuple[ModulePath, ...]:
        """One module path, or a list of them."""
        return tuple(n.module() for n in self.items()) if isinstance(self.value, list) else (self.module(),)

    def number(self) -> Value:
        """A number, or the config's key for it, with a power."""
        text = str(self.value) if isinstance(self.value, (int, float, str)) else ""
        pattern = _VALUE if isinstance(self.value, str) else _NUMBER  # infinity is no number, and no key
        if isinstance(self.value, bool) or not re.fullmatch(pattern, text.strip()):
            raise self.error(f"expected a number or 'config_key' or 'config_key ** power', found {_found(self.value)}.")
        return _value(text.strip())

    def path(self) -> str:
        if not isinstance(self.value, str) or not re.fullmatch(_PATH, self.value):
            raise self.error(
                f"expected the dotted path of a module such as 'model.layers', found {_found(self.value)}."
            )
        return str(self.value)


def _where(tree: Any, name: Any, what: str) -> tuple[int, int] | None:
    """Line and column, from 1, of a key or an item; None in a tree that was not read from a file."""
    if not hasattr(tree, "lc"):
        return None
    line, column = getattr(tree.lc, what)(name)
    return line + 1, column + 1


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    name = {"CommentedMap": "a mapping", "CommentedSeq": "a list", "dict": "a mapping", "list": "a list"}
    return name.get(type(value).__name__) or repr(value)[:80]


def _structure(root: _Node) -> Structure:
    keys = ("schema", "model_types", "stacks", "heads", "logits", "variants", "tiny")
    parts = dict(root.mapping(keys, required=("schema", "model_types", "stacks")))
    schema = parts["schema"]
    if schema.value != SCHEMA or isinstance(schema.value, bool):
        raise schema.error(f"this version reads schema {SCHEMA}, found {_found(schema.value)}.")
    model_types = parts["model_types"].texts()
    stacks = {name: StackStructure(**_stack(node, ("blocks",))) for name, node in parts["stacks"].mapping(STACKS)}
    if not stacks:
        raise parts["stacks"].error("at least one stack is needed.")
    heads = {task: node.modules() for task, node in parts["heads"].mapping(HEAD_TASKS)} if "heads" in parts else {}
    variants = [_variant(node, stacks) for node in parts["variants"].items()] if "variants" in parts else ()
    tiny = {name: _plain(node) for name, node in parts["tiny"].mapping(model_types)} if "tiny" in parts else {}
    return Structure(
        model_types=model_types,
        stacks=stacks,
        heads=heads,
        logits=_logits(parts["logits"]) if "logits" in parts else Logits(),
        variants=tuple(variants),
        tiny=tiny,
        origin=root.origin,
        marks=root.marks,
    )


_PATHS = ("blocks", "embedding", "layers")
_MODULES = ("attention", "cross_attention", "experts")
_STACK_KEYS = (*_PATHS, *_MODULES, "final_norm", "norms", "sites")


def _stack(node: _Node, required: Iterable[str] = (), *, changes: bool = False) -> dict[str, Any]:
    """The fields of a StackStructure that are given; in `changes`, nothing takes a site or norm away."""
    fields: dict[str, Any] = {}
    for name, part in node.mapping(_STACK_KEYS, required):
        if changes and part.value is None and name in (*_MODULES, "final_norm"):
            fields[name] = () if name == "final_norm" else None
        elif name in _PATHS:
            fields[name] = part.path()
        elif name in _MODULES:
            fields[name] = part.module()
        elif name == "final_norm":
            fields[name] = part.modules()
        else:
            fields[name] = (_sites if name == "sites" else _norms)(part, changes)
    return fields


def _sites(node: _Node, changes: bool) -> dict[str, Any]:
    sites: dict[str, Any] = {}
    for name, site in node.mapping(None):
        if name in IMPLIED_SITES:
            raise site.error(f"the site {name!r} is read from blocks, embedding or head; it is not declared.")
        if name in INSIDE_ATTENTION:
            module = "cross_attention" if name.startswith("cross_") else "attention"
            raise site.error(f"the site {name!r} is read by the attention function; name its module as {module!r}.")
        if name not in DECLARED_SITES:
            raise site.error(
                f"unknown site {name!r}.{did_you_mean(name, DECLARED_SITES)} Known: {listed(DECLARED_SITES, 20)}."
            )
        several = isinstance(site.value, list)
        sites[name] = (
            None
            if changes and site.value is None
            else tuple(_site(part) for part in (site.items() if several else [site]))
        )
    return sites


def _norms(node: _Node, changes: bool) -> dict[str, Any]:
    return {name: None if changes and part.value is None else part.path() for name, part in node.mapping(ADDED_SITES)}


def _site(node: _Node) -> Site:
    text = node.value if isinstance(node.value, str) else ""
    found = re.fullmatch(rf"(?:> ?({_PATH})|({_PATH}) ?>)(?: ?\* ?({_VALUE}))?( ?\?)?", text.strip())
    if not found:
        raise node.error(
            "expected '> path' (what enters the module) or 'path >' (what leaves it), with ' * config_key' after it if "
            f"the block scales it and ' ?' if some layers lack it, found {_found(node.value)}."
        )
    entered, left, scale, optional = found.groups()
    factor = _value(scale) if scale else None
    return Site(entered or left, "input" if entered else "output", factor, bool(optional))


def _value(text: str) -> Value:
    key, _, power = (part.strip() for part in text.partition("**"))
    return Value(key=key, power=float(power or 1)) if re.match(r"[A-Za-z_]", key) else Value(number=float(key))


def _logits(node: _Node) -> Logits:
    parts = dict(node.mapping(("bias", "scale", "cap")))
    return Logits(
        bias=parts["bias"].path() if "bias" in parts else "",
        scale=parts["scale"].number() if "scale" in parts else None,
        cap=parts["cap"].number() if "cap" in parts else None,
    )


def _variant(node: _Node, stacks: Mapping[str, Any]) -> Variant:
    parts = dict(node.mapping(("when", "stacks", "logits"), required=("when",)))
    when = _plain(parts["when"])
    if not when:
        raise parts["when"].error("name at least one key of the config, and its value.")
    changed = parts["stacks"].mapping(stacks) if "stacks" in parts else ()
    return Variant(
        when=when,
        stacks={name: _stack(part, changes=True) for name, part in changed},
        logits=_logits(parts["logits"]) if "logits" in parts else None,
    )


def _plain(node: _Node) -> dict[str, Any]:
    """A mapping of config keys to values as plain Python: texts, numbers, truth values, lists, mappings."""
    return {name: _value_of(part) for name, part in node.mapping(None)}


def _value_of(node: _Node) -> Any:
    value = node.value
    if isinstance(value, Mapping):
        return _plain(node)
    if isinstance(value, list):
        return [_value_of(part) for part in node.items()] if value else []
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    raise node.error(f"expected a text, a number, a truth value, a list or a mapping, found {_found(value)}.")
