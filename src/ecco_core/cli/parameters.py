"""Parameters of a command from the options of an analysis, which are read from its signature."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import click

from ecco_core.options import Option

if TYPE_CHECKING:
    from ecco_core.data.results import Result


class Listed(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated values, as ``3,4,-1``."""

    name = "list"

    def __init__(self, item: Any) -> None:
        self.item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split and convert."""
        if not isinstance(value, str):
            return value
        try:
            return [self.item(part) for part in value.split(",")]  # a blank may belong to a token
        except ValueError:
            self.fail(f"{value!r} is no comma-separated list of {self.item.__name__}.", param, ctx)


class Chosen(click.Choice):  # type: ignore[type-arg]
    """One of the values of a Literal, which need not be texts."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        super().__init__([str(value) for value in values])
        self.values = {str(value): value for value in values}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Choose by text, return the value."""
        return self.values[super().convert(value, param, ctx)]


class TextOrNumber(click.ParamType):  # type: ignore[type-arg]
    """A text, such as a token's, or a number where it is written in digits alone."""

    name = "text|int"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Tell the two apart."""
        return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class Saved(click.Path):
    """A result of a kind, read from the file that it was saved to."""

    def __init__(self, kind: type[Result]) -> None:
        super().__init__()
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the file."""
        from ecco_core.cli.showing import loaded

        result = loaded(value)
        if not isinstance(result, self.kind):
            self.fail(f"{value!r} holds a {type(result).__name__}, not a {self.kind.__name__}.", param, ctx)
        return result


def parameter(option: Option) -> click.Parameter | None:
    """Return what gives `option` on a command line; None where nothing can."""
    kind = _click_type(option.annotation)
    if kind is None:
        return None
    flag, text = "--" + option.name.replace("_", "-"), option.help.replace("\b", "")
    if kind is bool:
        said = "" if option.default is None else f" [default: {'' if option.default else 'no-'}{flag[2:]}]"
        return click.Option([f"{flag}/--no-{flag[2:]}", option.name], default=None, help=f"{text}{said}".strip())
    default = option.default
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
    said = "" if shown is None or shown == "" or option.required else f" [default: {shown}]"
    return click.Option(
        [flag, option.name], type=kind, required=option.required, help=f"{text}{said}".strip(), metavar=_metavar(kind)
    )


def _metavar(kind: Any) -> str | None:
    if isinstance(kind, Listed):
        return {int: "INT,…", float: "FLOAT,…", str: "TEXT,…"}.get(kind.item, "FILE,…")
    return "FILE" if isinstance(kind, Saved) else None


def _click_type(annotation: Any) -> Any:
    """The click type of an option's annotation; None for what a command line cannot give."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [a for a in get_args(annotation) if a is not type(None)]
        if all(get_origin(kind) is Literal for kind in kinds):
            return Chosen(tuple(value for kind in kinds for value in get_args(kind)))
        sequence = next((k for k in kinds if get_args(k) and get_origin(k) is not Literal), None)
        if sequence is not None:
            return _click_type(sequence)
        if str in kinds and len(kinds) > 1:
            return TextOrNumber() if int in kinds else click.STRING
        return float if float in kinds else _click_type(kinds[0])
    if get_origin(annotation) is Literal:
        return Chosen(get_args(annotation))
    if get_args(annotation):
        item = next(a for a in get_args(annotation) if a is not Ellipsis)
        saved = _click_type(item)
        return Listed(saved if isinstance(saved, Saved) else item if item in (int, float) else str)
    if annotation is Path:
        return click.Path(path_type=Path)
    if annotation in (bool, int, float, str):
        return annotation
    return Saved(annotation) if _is_result(annotation) else None


def _is_result(annotation: Any) -> bool:
    from ecco_core.data.results import Result

    return isinstance(annotation, type) and issubclass(annotation, Result)
