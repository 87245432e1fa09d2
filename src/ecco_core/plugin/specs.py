"""Value objects that a plugin registers. A spec names its target as ``"module:attribute"``, loaded when used."""

from __future__ import annotations

import importlib
import re
from typing import Any, Literal

import attrs

OPTION_GROUPS = ("targets", "features", "sites", "layers", "positions", "labels")
INPUTS = ("run", "pair", "runs", "store")


def _name(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise ValueError(f"{attribute.name} must be lower-case letters, digits and '_', found {value!r}")


def _command_name(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        raise ValueError(f"{attribute.name} must be lower-case letters, digits and '-', found {value!r}")


def _target(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        raise ValueError(f"target must read 'package.module:attribute', found {value!r}")


def _text(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise ValueError(f"{attribute.name} must be one line of text, found {value!r}")


def _one_of(*allowed: str) -> Any:
    def check(instance: Any, attribute: Any, value: Any) -> None:
        for item in (value,) if isinstance(value, str) else value:
            if item not in allowed:
                raise ValueError(f"{attribute.name} takes {', '.join(allowed)}; found {item!r}")

    return check


def _strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"expected a sequence of strings, found the string {value!r}")
    return tuple(value)


@attrs.frozen(kw_only=True)
class _Spec:
    name: str = attrs.field(validator=_name)
    summary: str = attrs.field(validator=_text)
    target: str = attrs.field(validator=_target)

    def load(self) -> Any:
        """Import the target's module and return the target."""
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)


@attrs.frozen(kw_only=True)
class AnalysisSpec(_Spec):
    """An analysis: ``def target(ctx, *, own_option: type = default) -> Result``.

    Attributes:
        name: how users call it. `aliases`: other names for it.
        summary: one line for lists.
        target: the function, ``"package.module:function"``; import heavy libraries inside of it.
        produces: the kind of result, a name such as ``"TokenScores"``.
        inputs: what it takes: one ``run``, a ``pair``, several ``runs``, or a ``store`` of captures.
        takes: groups of options that core owns and that it uses (``targets features sites layers positions
            labels``); core parses and checks them and hands them over in ``ctx``.
        needs_model: whether it cannot work from a saved run.
        tags: words to find it by. `reference`: paper or page of its formula.
    """

    produces: str = "TokenScores"
    inputs: Literal["run", "pair", "runs", "store"] = attrs.field(default="run", validator=_one_of(*INPUTS))
    takes: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_one_of(*OPTION_GROUPS))
    needs_model: bool = False
    aliases: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    tags: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    reference: str = ""


@attrs.frozen(kw_only=True)
class RendererSpec(_Spec):
    """A renderer: ``def target(result, *, own_option: type = default) -> str | bytes``.

    Attributes:
        accepts: kinds of result that it shows, by name; it shows kinds that inherit from them too.
        media_type: what it makes, such as ``"text/html"``. `suffixes`: file endings that ask for it.
        priority: among renderers of one kind and medium, the highest wins.
    """

    accepts: tuple[str, ...] = attrs.field(default=("Result",), converter=_strings)
    media_type: str = attrs.field(validator=_text)
    suffixes: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    priority: int = 0


@attrs.frozen(kw_only=True)
class CaptureSpec(_Spec):
    """A capture made of sites: ``def target(*values) -> array``, then usable wherever a site is.

    Attributes:
        needs: sites whose values at one layer are handed over, each a tensor ``(token, unit)``.
        dims: names of the axes of what it returns.
    """

    needs: tuple[str, ...] = attrs.field(default=("resid_post",), converter=_strings)
    dims: tuple[str, ...] = attrs.field(default=("token", "unit"), converter=_strings)


@attrs.frozen(kw_only=True)
class ModelSource(_Spec):
    """Names such as ``"tiny:prose"``: ``def target(name: str) -> Path`` returns a local model folder.

    Attributes:
        name: the part before the colon. `models`: the parts after it that there are.
    """

    models: tuple[str, ...] = attrs.field(default=(), converter=_strings)


@attrs.frozen(kw_only=True)
class CommandSpec(_Spec):
    """A command ``ecco NAME``: the target is a ``click.Command``."""

    name: str = attrs.field(validator=_command_name)
