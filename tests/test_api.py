"""The API policy, held: what is public is what the committed list says, and within a minor version it only grows.

Run as a program with ``--write``, this file renews the list.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

SNAPSHOT = Path(__file__).parent / "data" / "api.txt"
RENEW = "If that is meant: .venv/bin/python tests/test_api.py --write, and say it in CHANGELOG.md."


def written() -> str:
    """Everything public that has a form, one thing on each line."""
    import click

    import ecco_core
    from ecco_core.cli.main import program
    from ecco_core.plugin.manager import HOOKS
    from ecco_core.running import _GROUPS

    lines = [line for name in sorted(ecco_core.__all__) for line in of_name(name, getattr(ecco_core, name))]
    lines += [f"hook {name} -> {kind.__name__}" for name, kind in sorted(HOOKS.items())]
    for group, options in _GROUPS.items():
        lines += [f"option {group}: {name}: {annotation} = {default!r}" for name, annotation, default, _ in options]
    lines += list(of_command("ecco", program, click.Context(program)))
    return plain("\n".join(lines)) + "\n"


def of_name(name: str, value: Any) -> Iterator[str]:
    """A class with its bases, fields and methods; or a function."""
    import ecco_core as public

    if inspect.ismodule(value):
        for member, found in sorted(vars(value).items()):
            if inspect.isfunction(found) and found.__module__ == value.__name__ and member[0] != "_":
                yield from of_name(f"{name}.{member}", found)
    elif inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        fields = {field.name: field for field in attrs.fields(value)} if attrs.has(value) else {}
        for field in fields.values():
            default = "" if field.default is attrs.NOTHING else f" = {default_of(field)}"
            yield f"field {name}.{field.name}: {field.type}{default}"
        for member in sorted(dir(value)):
            found = inspect.getattr_static(value, member)
            owner = next(cls for cls in value.__mro__ if member in vars(cls))
            told = owner is value or (owner.__module__.startswith("ecco_core") and not hasattr(public, owner.__name__))
            if told and member not in fields and not member.startswith("_"):
                yield from of_member(f"{name}.{member}", found)
        if not attrs.has(value) and "__init__" in vars(value):
            yield f"method {name}{inspect.signature(value)}"
    elif callable(value):
        yield f"function {name}{inspect.signature(value)}"
    else:
        yield f"value {name}: {type(value).__name__}"


def default_of(field: Any) -> str:
    """The default of a field, or the name of what makes it."""
    factory = getattr(field.default, "factory", None)
    return f"{factory.__name__}()" if factory else repr(field.default)


def of_member(name: str, found: Any) -> Iterator[str]:
    """A method or a property."""
    function = getattr(found, "__func__", getattr(found, "__wrapped__", found))
    if inspect.isfunction(function):
        yield f"method {name}{inspect.signature(function)}"
    elif isinstance(found, property) or hasattr(found, "func"):
        yield f"property {name}"


def of_command(path: str, command: Any, context: Any) -> Iterator[str]:
    """A command of ours and its options, without those of methods, which plugins bring."""
    from ecco_core.cli.main import COMMANDS

    for parameter in command.params:
        names = ", ".join(parameter.opts + parameter.secondary_opts)
        yield f"command {path}: {names} {'required' if parameter.required else 'optional'}"
    if hasattr(command, "list_commands") and path not in ("ecco run", "ecco report", "ecco compare"):
        for name in sorted(COMMANDS if path == "ecco" else command.list_commands(context)):
            yield f"command {path} {name}"
            yield from of_command(f"{path} {name}", command.get_command(context, name), context)


def plain(text: str) -> str:
    """Without quotes around types and without their modules, which differ from one Python to the next."""
    text = re.sub(r"(: |-> )'([^']*)'(?=[,)= ]|$)", r"\1\2", text, flags=re.MULTILINE)
    text = re.sub(r"<(?:class|function) '?([\w.]+)'?[^>]*>", r"\1", text)
    return re.sub(r"\b(collections\.abc|typing)\.", "", text)


def test_what_is_public_is_what_the_list_says():
    now, before = written().splitlines(), SNAPSHOT.read_text(encoding="utf-8").splitlines()
    gone, come = [line for line in before if line not in now], [line for line in now if line not in before]
    told = "\n".join([*(f"- {line}" for line in gone), *(f"+ {line}" for line in come)])
    assert now == before, f"what is public differs from tests/data/api.txt:\n{told}\n{RENEW}"


def test_the_list_has_every_public_name():
    import ecco_core

    text = SNAPSHOT.read_text(encoding="utf-8")
    for name in ecco_core.__all__:
        assert re.search(rf"^(class|function|value) {name}\b", text, re.MULTILINE) or name == "analysis", name


def test_a_spec_can_be_made_as_before():
    """Fields of specs are only added: each has a default, but those that were required in 0.1.0."""
    import ecco_core

    required = {"RendererSpec": {"media_type"}}
    for name in ("AnalysisSpec", "CaptureSpec", "CommandSpec", "ModelSource", "RendererSpec"):
        fields = attrs.fields(getattr(ecco_core, name))
        assert all(field.kw_only for field in fields), name
        found = {field.name for field in fields if field.default is attrs.NOTHING}
        assert found == {"name", "summary", "target"} | required.get(name, set()), name


def test_a_changed_form_is_noticed(monkeypatch):
    import ecco_core

    def scale(site, *, factor): ...

    monkeypatch.setattr(ecco_core, "scale", scale)
    with pytest.raises(AssertionError, match=r"- function scale\((.|\n)*\+ function scale\(site, \*, factor"):
        test_what_is_public_is_what_the_list_says()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {sys.argv[0]} --write")
    SNAPSHOT.write_text(written(), encoding="utf-8")
