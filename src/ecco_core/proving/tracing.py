"""One forward pass, watched whole: what enters and leaves every module, and which modules attend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import torch
from torch import nn

from ecco_core.models.attention import attending, routable, watched
from ecco_core.models.feed import Feed
from ecco_core.models.hooks import evaluating
from ecco_core.models.reading import without_cache


def is_light(module: nn.Module) -> bool:
    """Whether a module has no matrix: a norm, an activation, a dropout."""
    return all(sum(size > 1 for size in p.shape) < 2 for p in module.parameters())


@attrs.define(eq=False)
class Call:
    """One call of a module.

    Attributes:
        name: its path from the model. `entered`, `left`: the first tensors that went in and came out.
        parts: all tensors that came out. `began`, `ended`: places in the order of events.
    """

    name: str
    module: nn.Module
    entered: torch.Tensor | None
    began: int
    left: torch.Tensor | None = None
    parts: tuple[torch.Tensor, ...] = ()
    ended: int = 0

    @property
    def light(self) -> bool:
        """Whether the module has no matrix."""
        return is_light(self.module)

    @property
    def projects(self) -> bool:
        """Whether the module itself has a matrix, and no parts with parameters."""
        own = [p for p in self.module.parameters(recurse=False) if p.ndim == 2]
        return bool(own) and len(list(self.module.parameters())) <= len(own) + 1


@attrs.frozen(eq=False)
class Attended:
    """An attention that was computed: by the module of this name, at this place in the order of events."""

    name: str
    at: int
    cross: bool


@attrs.define(eq=False)
class Trace:
    """What one forward pass did, call by call in the order of their ends."""

    feed: Feed
    calls: list[Call] = attrs.field(factory=list)
    attended: list[Attended] = attrs.field(factory=list)
    output: Any = None
    clock: int = 0

    def tick(self) -> int:
        """The next place in the order of events."""
        self.clock += 1
        return self.clock

    def of(self, name: str) -> list[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.name == name]


def traced(model: Any, feed: Feed) -> Trace:
    """Return the trace of one forward pass; the model and its hooks are as before."""
    if any(map(routable, model.modules())):
        with contextlib.suppress(Exception):  # not every one can be switched to our attention function
            trace = _run(model, feed, True, {})
            if trace.attended:
                return trace
    trace = _run(model, feed, False, {})
    with contextlib.suppress(Exception):  # nor reports its attention
        trace.attended = _reported(_run(model, feed, False, {"output_attentions": True}), trace)
    return trace


def _run(model: Any, feed: Feed, attends: bool, options: dict[str, Any]) -> Trace:
    trace = Trace(feed)
    running: list[Call] = []

    def enter(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            first = (
                args[0] if args and isinstance(args[0], torch.Tensor) else next(iter(_tensors(kwargs.values())), None)
            )
            running.append(Call(name, module, _kept(first), trace.tick()))

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    def leave(module: nn.Module) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            call = running.pop()
            while call.module is not module:  # one that ended in an error which the model caught
                call = running.pop()
            several = tuple(output.values()) if isinstance(output, dict) else output
            parts = (several,) if isinstance(several, torch.Tensor) else several
            call.parts = tuple(_tensors(parts)) if isinstance(parts, (tuple, list)) else ()
            first = parts[0] if isinstance(parts, (tuple, list)) and parts else None
            call.left, call.ended = _kept(first), trace.tick()
            trace.calls.append(call)

        return module.register_forward_hook(hook)

    def attend(name: str) -> Any:
        def change(pattern: torch.Tensor) -> None:
            trace.attended.append(Attended(name, trace.tick(), pattern.shape[-1] != pattern.shape[-2]))

        return change

    with contextlib.ExitStack() as scope, torch.no_grad():
        scope.enter_context(evaluating(model))
        if attends:
            scope.enter_context(attending(model))
        for name, module in model.named_modules():
            scope.callback(enter(name, module).remove)
            scope.callback(leave(module).remove)
            if attends:
                scope.enter_context(watched(module, "pattern", attend(name)))
        trace.output = model(**feed.arguments(), **without_cache(model), **options, return_dict=True)
    return trace


def _tensors(values: Iterable[Any]) -> Sequence[torch.Tensor]:
    return [value for value in values if isinstance(value, torch.Tensor)]


def _kept(value: Any) -> torch.Tensor | None:
    return value.detach().clone() if isinstance(value, torch.Tensor) else None


def _reported(reporting: Trace, trace: Trace) -> list[Attended]:
    """Which modules return the patterns that a model reports - of several around each other the innermost -, and when.

    When is told by the other trace: some models compute something else while they report.
    """
    found = []
    for key in ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions"):
        for pattern in getattr(reporting.output, key, None) or ():
            if not isinstance(pattern, torch.Tensor) or pattern.ndim != 4:
                continue
            calls = (c for c in reporting.calls if any(p.shape == pattern.shape and p.equal(pattern) for p in c.parts))
            call = next((c for c in calls if not c.light), None)
            if call:
                nth = reporting.of(call.name).index(call)
                found.append(Attended(call.name, trace.of(call.name)[nth].began, key.startswith("cross")))
    return found
