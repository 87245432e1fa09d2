"""Value objects that a plugin registers. A spec names its target as ``"module:attribute"``, loaded when used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal

import attrs
from attrs import validators

from ecco_core.data.fields import as_dict, as_tuple

OPTION_GROUPS = ("targets", "features", "sites", "layers", "positions", "labels")
_NAME = validators.matches_re(r"[a-z][a-z0-9_]*")
_COMMAND_NAME = validators.matches_re(r"[a-z][a-z0-9-]*")
_TARGET = validators.matches_re(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # package.module:attribute
_TEXTS = validators.deep_iterable(validators.matches_re(r"\S+"))
_INPUTS = validators.in_(("run", "pair", "runs"))
_GROUPS = validators.deep_iterable(validators.in_(OPTION_GROUPS))
_LINE = validators.matches_re(r"[^\n]*\S[^\n]*")


@attrs.frozen(kw_only=True)
class _Spec:
    name: str = attrs.field(validator=_NAME)
    summary: str = attrs.field(validator=_LINE)
    target: str = attrs.field(validator=_TARGET)

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
        inputs: what it takes: one ``run``, a ``pair``, or several ``runs``.
        takes: groups of options that core owns and that it uses (``targets features sites layers positions labels``);
            core parses and checks them and hands them over in ``ctx``. `defaults`: of these options, where not core's.
        needs_model: whether it cannot work from a saved run.
        tags: words to find it by. `reference`: paper or page of its formula.
    """

    produces: str = "TokenScores"
    inputs: Literal["run", "pair", "runs"] = attrs.field(default="run", validator=_INPUTS)
    takes: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, validator=_GROUPS)
    defaults: Mapping[str, Any] = attrs.field(factory=dict, converter=as_dict, hash=False)
    needs_model: bool = False
    aliases: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, validator=_TEXTS)
    tags: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, validator=_TEXTS)
    reference: str = ""


@attrs.frozen(kw_only=True)
class RendererSpec(_Spec):
    """A renderer: ``def target(result, *, own_option: type = default) -> str | bytes``.

    Attributes:
        accepts: kinds of result that it shows, by name; it shows kinds that inherit from them too.
        media_type: what it makes, such as ``"text/html"``. `suffixes`: file endings that ask for it.
        priority: among renderers of one kind and medium, the highest wins.
    """

    accepts: tuple[str, ...] = attrs.field(default=("Result",), converter=as_tuple, validator=_TEXTS)
    media_type: str = attrs.field(validator=_LINE)
    suffixes: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, validator=_TEXTS)
    priority: int = 0


@attrs.frozen(kw_only=True)
class CaptureSpec(_Spec):
    """A capture made of sites: ``def target(*values) -> array``, then usable wherever a site is.

    Attributes:
        needs: sites whose values at one layer are handed over, each a tensor ``(token, unit)``.
        dims: names of the axes of what it returns.
    """

    needs: tuple[str, ...] = attrs.field(default=("resid_post",), converter=as_tuple, validator=_TEXTS)
    dims: tuple[str, ...] = attrs.field(default=("token", "unit"), converter=as_tuple, validator=_TEXTS)


@attrs.frozen(kw_only=True)
class ModelSource(_Spec):
    """Names such as ``"tiny:prose"``: ``def target(name: str) -> Path`` returns a local model folder.

    Attributes:
        name: the part before the colon. `models`: the parts after it that there are.
    """

    models: tuple[str, ...] = attrs.field(default=(), converter=as_tuple, validator=_TEXTS)


@attrs.frozen(kw_only=True)
class CommandSpec(_Spec):
    """A command ``ecco NAME``: the target is a ``click.Command``."""

    name: str = attrs.field(validator=_COMMAND_NAME)
