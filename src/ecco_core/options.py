"""The options of an analysis or renderer: the keyword-only parameters of its function, bound and checked."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from ecco_core.errors import OptionError, PluginError, did_you_mean, listed

SIMPLE = (bool, int, float, str, Path)


@attrs.frozen
class Option:
    """One option.

    Attributes:
        annotation: its type. `default`: its value when not given. `required`: whether it must be given.
        help: its line under ``Options:`` in the function's docstring.
    """

    name: str
    annotation: Any
    default: Any
    required: bool
    help: str


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """Return the options of `function` by name, in order.

    Raises:
        PluginError: it takes ``*args`` or ``**kwargs``, or an option has no type that an option can have.
    """
    name = getattr(function, "__name__", repr(function))
    if not callable(function):
        raise PluginError(f"{name} is no function.")
    parameters = inspect.signature(function).parameters.values()
    helps = _helps(inspect.getdoc(function) or "")
    keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise PluginError(f"{name} takes *args or **kwargs; its options must be named.")
    holder = types.SimpleNamespace(__annotations__={p.name: p.annotation for p in keyword})
    try:
        hints = typing.get_type_hints(holder, globalns=getattr(inspect.unwrap(function), "__globals__", {}))
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise PluginError(f"the types of {name}'s options cannot be read: {error}") from error
    options = {}
    for p in keyword:
        if p.annotation is p.empty or not _supported(hints[p.name]):
            raise PluginError(
                f"option {p.name!r} of {name} needs a type among bool, int, float, str, Literal, Path, "
                "Result, or a sequence of these."
            )
        required = p.default is p.empty
        options[p.name] = Option(
            p.name, hints[p.name], None if required else p.default, required, helps.get(p.name, "")
        )
    return options


def _supported(annotation: Any) -> bool:
    from ecco_core.data.results import Result

    if annotation in SIMPLE or annotation is type(None) or get_origin(annotation) is Literal:
        return True
    if get_origin(annotation) in (Union, types.UnionType) or _is_sequence(annotation):
        return all(_supported(a) for a in get_args(annotation) if a is not Ellipsis)
    return isinstance(annotation, type) and issubclass(annotation, Result)


def _is_sequence(annotation: Any) -> bool:
    return get_origin(annotation) in (Sequence, Iterable, list, tuple)


def _helps(doc: str) -> dict[str, str]:
    """Read ``name: text`` lines (and their continuations) of the docstring's ``Options:`` section."""
    section = re.search(r"^Options:\n((?: +.*\n?|\n)+)", doc, re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): (.*(?:\n(?: {5,}.*)?$)*)", section.group(1) if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def fill(options: Mapping[str, Option], given: Mapping[str, Any], of: str) -> dict[str, Any]:
    """Return a value for every option: the given one, checked and converted, or its default.

    Raises:
        OptionError: an option is unknown, missing, or of the wrong type or value.
    """
    for name in given:
        if name not in options:
            known = listed(options, 20)
            raise OptionError(f"{of} has no option {name!r}.{did_you_mean(name, options)} It takes: {known}.")
    values = {}
    for name, option in options.items():
        if option.required and name not in given:
            raise OptionError(f"{of} needs the option {name!r} ({type_name(option.annotation)}).")
        what = f"option {name!r} of {of}"
        values[name] = convert(given[name], option.annotation, what) if name in given else option.default
    return values


def convert(value: Any, annotation: Any, what: str) -> Any:
    """Return `value` as `annotation` says; a string is not taken for a number.

    Raises:
        OptionError: it is not of that type.
    """
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    found, result = _as(value, annotation)
    if found:
        return result
    near = did_you_mean(value, [str(a) for c in choices for a in get_args(c)]) if isinstance(value, str) else ""
    raise OptionError(f"{what} takes {type_name(annotation)}, found {value!r}.{near}")


def _as(value: Any, annotation: Any) -> tuple[bool, Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for a in get_args(annotation) if (found := _as(value, a))[0]), (False, None))
    if annotation is type(None):
        return value is None, None
    if get_origin(annotation) is Literal:
        return any(value == a and type(value) is type(a) for a in get_args(annotation)), value
    if annotation is Path:
        return isinstance(value, (str, Path)), Path(value) if isinstance(value, (str, Path)) else None
    if annotation in (bool, str):
        return isinstance(value, annotation), value
    if annotation in (int, float):
        return _as_number(value, annotation)
    if _is_sequence(annotation):
        return _as_sequence(value, annotation)
    return isinstance(annotation, type) and isinstance(value, annotation), value


def _as_number(value: Any, annotation: type) -> tuple[bool, Any]:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()  # numpy and torch scalars
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False, None
    if isinstance(value, int):
        return True, value if annotation is int else float(value) if abs(value) < 2**1000 else math.inf
    return (True, value) if annotation is float else (value.is_integer(), int(value) if value.is_integer() else None)


def _as_sequence(value: Any, annotation: Any) -> tuple[bool, Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return False, None
    items = [a for a in get_args(annotation) if a is not Ellipsis] or [str]
    converted = [_as(v, items[0]) for v in value]
    return all(ok for ok, _ in converted), tuple(v for _, v in converted)


def type_name(annotation: Any) -> str:
    """Describe a type for a person: ``'sum' or 'l2'``, ``int``, ``sequence of int``."""
    if annotation is type(None):
        return "None"
    if get_origin(annotation) is Literal:
        return " or ".join(repr(a) for a in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(type_name(a) for a in get_args(annotation))
    if _is_sequence(annotation):
        inner = [a for a in get_args(annotation) if a is not Ellipsis] or [str]
        return f"sequence of {type_name(inner[0])}"
    return str(getattr(annotation, "__name__", annotation))
