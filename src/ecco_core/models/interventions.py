"""Interventions: change what flows through a model at a site, for the time of a ``with`` block only."""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import nn

from ecco_core.errors import OptionError, did_you_mean, listed, saying
from ecco_core.models.architecture import Architecture, Place
from ecco_core.models.attention import Change, attending
from ecco_core.models.hooks import alone, hooked, uncompiled
from ecco_core.registry.structure import INSIDE_ATTENTION, OUTSIDE_BLOCKS, base_of

Places = int | Sequence[int] | None
WHEN = ("prompt", "generated", "predicting")
_BY_HEADS = (*INSIDE_ATTENTION, "z", "cross_z")


@attrs.frozen(eq=False, repr=False)
class Intervention:
    """A change at a site; made by `ablate`, `scale`, `add` and `replace`.

    Attributes:
        kind: ``ablate``, ``scale``, ``add`` or ``replace``. `site`: where.
        layers: numbers from 0, -1 is the last; all that have the site if None.
        units: which of the site's units; of a pattern which keys, by their positions. `heads`: which heads, at sites
            that have them.
        positions: which tokens, from 0: a list, ``"prompt"``, ``"generated"``, ``"predicting"`` (those whose
            states choose a generated token: the prompt's last and on); all if None.
        stack: ``"decoder"`` or ``"encoder"``; the model's only stack, or the decoder, if empty.
        value: a number, or a tensor ``(unit,)`` or ``(token, unit)``, which goes by position, or along `positions` if
            these are a list of that length; of another run, layer -> what it had, by position.
    """

    kind: str
    site: str
    layers: tuple[int, ...] | None = None
    units: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    positions: tuple[int, ...] | str | None = None
    stack: str = ""
    value: Any = None
    told: str = ""

    def __repr__(self) -> str:
        where = ""
        for name in ("layers", "units", "heads", "positions"):
            if isinstance(numbers := getattr(self, name), tuple):
                where += f", {name} {', '.join(map(str, numbers[:8]))}{' …' * (len(numbers) > 8)}"
        when = f", {self.positions} positions" if isinstance(self.positions, str) else ""
        return f"{self.kind} {f'{self.stack} ' if self.stack else ''}{self.site}{where}{when}{self.told}"


def ablate(site: str, layer: Places = None, units: Places = None, **where: Any) -> Intervention:
    """Set a site to zero.

    Args:
        site: such as ``"mlp_post"``. `layer`: one, several, or all that have it. `units`: which of its units.
        where: ``heads``, ``positions``, ``stack``; see Intervention.
    """
    return _made("ablate", site, layer, units, None, where)


def scale(site: str, factor: float, layer: Places = None, units: Places = None, **where: Any) -> Intervention:
    """Multiply a site by a number; see `ablate` for the rest."""
    if isinstance(factor, bool) or not isinstance(factor, (int, float)):
        raise OptionError(f"scale multiplies by a number, found {factor!r}.")
    return _made("scale", site, layer, units, _value(factor), where)


def add(site: str, value: Any, layer: Places = None, units: Places = None, **where: Any) -> Intervention:
    """Add a number or a vector to a site, such as a steering direction ``(unit,)``; see `ablate` for the rest."""
    return _made("add", site, layer, units, value, where)


def replace(site: str, value: Any, layer: Places = None, units: Places = None, **where: Any) -> Intervention:
    """Put something else in a site's place: a number, a tensor, or another run's values (activation patching).

    Args:
        value: a number; ``(unit,)``; ``(token, unit)``; or a Run, whose values at the same site, layers and positions
            are taken.
    """
    return _made("replace", site, layer, units, value, where)


def _made(kind: str, site: str, layer: Places, units: Places, value: Any, where: Mapping[str, Any]) -> Intervention:
    known = ("heads", "positions", "stack")
    wrong = next((name for name in where if name not in known), None)
    if wrong:
        raise OptionError(f"{kind} has no option {wrong!r}.{did_you_mean(wrong, known)} It takes: {listed(known)}.")
    positions: Places | str = where.get("positions")
    if not isinstance(site, str):
        raise OptionError(f"An intervention names a site such as 'mlp_post', found {site!r}.")
    if isinstance(positions, str) and positions not in WHEN:
        near = did_you_mean(positions, WHEN)
        raise OptionError(f"positions are numbers or {listed(WHEN)}, found {positions!r}.{near}")
    told = f" by {value:g}" if kind == "scale" else ""
    if kind in ("add", "replace"):
        value = _value(value)
        told = f" with {value:g}" if isinstance(value, float) else f" with {type(value).__name__}"
    units = _numbers(units, "units", 0 if site.endswith("pattern") else None)
    of_layer = _numbers(layer, "layer"), units, _numbers(where.get("heads"), "heads")
    positions = positions if isinstance(positions, str) else _numbers(positions, "positions", 0)
    return Intervention(kind, site, *of_layer, positions, where.get("stack", ""), value, told)


def _value(value: Any) -> Any:
    """A number or a tensor of what is given as numbers; a run as it is."""
    if hasattr(value, "transcript"):
        return value
    with saying(f"The value of an intervention is numbers, found {type(value).__name__}", OptionError):
        if isinstance(value, (int, float, np.number)):
            return float(value)
        if isinstance(value, (np.ndarray, list, tuple)):
            value = torch.as_tensor(np.asarray(value, dtype=np.float32))
        if not isinstance(value, torch.Tensor):
            raise TypeError("give a number, a tensor, or a run")
    if not 1 <= value.ndim <= 2:
        raise OptionError(f"The value of an intervention is (unit,) or (token, unit), found {tuple(value.shape)}.")
    return value.detach().clone()


def _numbers(given: Any, what: str, least: int | None = None) -> tuple[int, ...] | None:
    if given is None:
        return None
    several = [given] if isinstance(given, (int, np.integer)) else given
    try:
        numbers = tuple(int(n) for n in several if not isinstance(n, (bool, str)) and n == int(n))
        if len(numbers) != len(several) or not numbers:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise OptionError(f"{what} takes a number or several, found {given!r}.") from error
    if least is not None and min(numbers) < least:  # while a text is generated, its end is not known
        raise OptionError(f"{what} of tokens count from {least}, found {min(numbers)}.")
    return numbers


_PROMPTS: weakref.WeakKeyDictionary[nn.Module, list[int]] = weakref.WeakKeyDictionary()
_ACTIVE: weakref.WeakKeyDictionary[nn.Module, tuple[Intervention, ...]] = weakref.WeakKeyDictionary()
_HOOKS: weakref.WeakKeyDictionary[nn.Module, contextlib.ExitStack] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def prompted(model: nn.Module, *lengths: int) -> Iterator[None]:
    """Tell interventions how many tokens of each sequence are the prompt, if any are generated, for the block."""
    before, _PROMPTS[model] = _PROMPTS.get(model, []), list(lengths)
    try:
        yield
    finally:
        _PROMPTS[model] = before


def active(model: nn.Module) -> tuple[Intervention, ...]:
    """What a model is changed by, in order, as the thread that asks sees it: others' blocks are waited for."""
    with alone(model):
        return _ACTIVE.get(model, ())


def _without(interventions: Sequence[Intervention], others: Sequence[Intervention]) -> tuple[Intervention, ...]:
    """Interventions less others, each as often as it is among these, from the end."""
    left = list(reversed(interventions))
    for other in others:
        if other in left:
            left.remove(other)
    return tuple(reversed(left))


def under(model: nn.Module, made: Sequence[Intervention]) -> tuple[Intervention, ...]:
    """What a model is changed by in a replay: as when that was made, then by others of the blocks around."""
    return (*made, *_without(active(model), made))


@contextlib.contextmanager
def intervening(architecture: Architecture, changes: Sequence[Intervention], *, again: bool = False) -> Iterator[None]:
    """Change each forward of a model in the block, after blocks around, or, `again`, as in a replay (see `under`)."""
    model = architecture.model
    with alone(model) if changes else contextlib.nullcontext():
        before = active(model)
        try:
            _change(architecture, under(model, changes) if again else (*before, *changes))
            yield
        finally:  # any block may end first
            _change(architecture, before if again else _without(active(model), changes))


def _change(architecture: Architecture, interventions: Sequence[Intervention]) -> None:
    """Take away the hooks that change a model, and place those of exactly these interventions."""
    model = architecture.model
    if tuple(interventions) == active(model):
        return
    _HOOKS.pop(model, contextlib.ExitStack()).close()
    _ACTIVE[model] = tuple(interventions)
    with contextlib.ExitStack() as scope:
        if interventions:
            scope.enter_context(uncompiled())
        clock_of = functools.cache(lambda stack: _Clock(architecture, stack, scope))
        for intervention in interventions:
            stack = stack_of(architecture, intervention)
            for place, change in _changes(architecture, intervention, stack, clock_of(stack)):
                scope.enter_context(hooked(place, change))
        if any(intervention.site in INSIDE_ATTENTION for intervention in interventions):
            scope.enter_context(attending(model))
        _HOOKS[model] = scope.pop_all()


def stack_of(architecture: Architecture, intervention: Intervention) -> str:
    """The stack that an intervention means."""
    stack = intervention.stack or ("decoder" if "decoder" in architecture.stacks else architecture.stacks[0])
    architecture.stack(stack)
    return stack


def layers_of(architecture: Architecture, intervention: Intervention, stack: str) -> tuple[int | None, ...]:
    """The layers that an intervention means, as numbers from 0; None stands for a site outside of the blocks.

    Raises:
        OptionError: no such layer.
    """
    if intervention.site in OUTSIDE_BLOCKS:
        return (None,)
    if intervention.layers is None:
        return architecture.layers_with(intervention.site, stack)
    n = architecture.n_layers(stack)
    for layer in (layer for layer in intervention.layers if not -n <= layer < n):
        raise OptionError(f"No layer {layer} for {intervention!r}; the {stack} has layers 0 to {n - 1}.")
    return tuple(layer % n for layer in intervention.layers)


def _changes(
    architecture: Architecture, intervention: Intervention, stack: str, clock: _Clock
) -> Iterator[tuple[Place, Change]]:
    site = intervention.site
    if intervention.heads and site not in _BY_HEADS:
        raise OptionError(f"The site {site!r} has no heads; those with heads are {listed(_BY_HEADS)}.")
    for layer in layers_of(architecture, intervention, stack):
        place = architecture.place(site, layer, stack)
        heads = _head_count(architecture, intervention, layer, stack) if intervention.heads else 0
        if place.side == "pattern" and site.replace("pattern", "q") not in architecture.sites(stack):
            name = type(architecture.model).__name__
            raise OptionError(f"{name} has its own attention: its pattern can be read, not changed; change 'z'.")
        value = intervention.value
        value = value[layer] if isinstance(value, Mapping) else value
        names = {"input": ("in_features", "nx"), "output": ("out_features", "nf", "embedding_dim")}.get(place.side, ())
        width = next((getattr(place.module, name) for name in names if hasattr(place.module, name)), None)
        if width is not None:  # the width of others is known at the first forward
            _mask(intervention.units, width, "unit", intervention)
        yield place, _Edit(intervention, site, value, heads, clock)


def _head_count(architecture: Architecture, intervention: Intervention, layer: int | None, stack: str) -> int:
    """The number of query heads of a layer: as its attention says, else as the config says for its stack."""
    module = architecture.attention(layer or 0, stack, intervention.site)
    names = (f"{stack}_attention_heads", "num_attention_heads", "n_head", "n_heads", "num_heads")
    of = ((module, names[1:]), (architecture.model.config, names))
    heads = next((n for where, some in of for name in some if isinstance(n := getattr(where, name, None), int)), 0)
    if not heads:
        raise OptionError(f"How many heads a layer has is not known, so {intervention!r} cannot be made; name units.")
    if intervention.site not in ("k", "v", "cross_k", "cross_v"):  # these may have fewer
        _mask(intervention.heads, heads, "head", intervention)
    return heads


class _Clock:
    """Knows the position of every token of a stack in the forward that runs, cached generation included."""

    def __init__(self, architecture: Architecture, stack: str, scope: contextlib.ExitStack) -> None:
        self._model: nn.Module = architecture.model
        steps = architecture.stack(stack).blocks.split(".")[:-1]
        base, *within = itertools.accumulate(steps, getattr, initial=base_of(self._model))
        whole = [] if len(architecture.structure.stacks) > 1 else [self._model, base]
        #: the modules whose forwards are those of the stack, from outside in; some models skip the outer ones
        self._owners: list[nn.Module] = list(dict.fromkeys([*whole, *within]))
        for owner in self._owners:  # of modules within each other, the outermost tells
            scope.callback(owner.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
            scope.callback(owner.register_forward_hook(self._leave, always_call=True).remove)
        self._outermost: nn.Module | None = None  # the owner whose forward runs
        self._generates = stack == "decoder" or len(architecture.stacks) == 1
        self._passed = 0
        self._prompts: list[int] | None = None
        self._positions = torch.zeros(1, 1, dtype=torch.long)
        self.padding_known = True

    def _leave(self, owner: nn.Module, *_: Any) -> None:
        if owner is self._outermost:
            self._outermost = None

    def _enter(self, owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        prompts = _PROMPTS.get(self._model)
        if prompts is not self._prompts:  # a new run begins; an interrupted one was never left
            self._prompts, self._passed, self._outermost = prompts, 0, None
        if self._outermost not in self._owners[: self._owners.index(owner)]:
            self._outermost = owner
            self._tick(args, kwargs)

    def _tick(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args)
        tokens = next(tensor for tensor in given if isinstance(tensor, torch.Tensor))
        batch, length = tokens.shape[:2]
        offset = self._offset(kwargs, length)
        self._passed = offset + length
        mask = kwargs.get("attention_mask")
        shift = torch.zeros(batch, dtype=torch.long, device=tokens.device)
        self.padding_known = mask is None or batch == 1
        if isinstance(mask, torch.Tensor) and mask.ndim == 2 and len(mask) == batch:
            self.padding_known, shift = True, (mask.cumsum(-1) == 0).sum(-1).to(tokens.device)
        self._positions = torch.arange(offset + length, device=tokens.device) - shift[:, None]

    def _offset(self, kwargs: dict[str, Any], length: int) -> int:
        """How many tokens went before: what the cache says, else what was counted."""
        names = ("past_key_values", "cache_params", "state")
        cache = next((kwargs[name] for name in names if kwargs.get(name) is not None), None)
        if cache is None:
            return 0
        with contextlib.suppress(Exception):  # the caches of state-space layers have no length
            return int(cache.get_seq_length())
        return self._passed if length == 1 else 0

    def positions(self, tokens: int) -> torch.Tensor:
        """Positions ``(sequence, token)`` of the last `tokens` tokens; below 0 is padding."""
        return self._positions[:, -tokens:]

    def chosen(self, wanted: tuple[int, ...] | str | None, tokens: int) -> torch.Tensor:
        """Which of the last `tokens` tokens are wanted, ``(sequence, token)`` truth values."""
        positions = self.positions(tokens)
        if wanted is None:
            return positions >= 0
        if not isinstance(wanted, str):
            return torch.isin(positions, torch.tensor(wanted, device=positions.device))
        if not self._prompts or not self._generates:  # all of it was given
            return (positions >= 0) & (wanted == "prompt")
        each = torch.tensor(self._prompts, device=positions.device)
        prompt = each.repeat_interleave(max(1, len(positions) // len(each)))[: len(positions), None]
        if wanted == "prompt":
            return (positions >= 0) & (positions < prompt)
        return positions >= (prompt - 1 if wanted == "predicting" else prompt)


@attrs.frozen(eq=False)
class _Edit:
    """The change of one tensor by one intervention."""

    intervention: Intervention
    site: str
    value: Any
    heads: int
    clock: _Clock

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        by_head = tensor.ndim == 4  # (batch, head, token, unit)
        rows = tensor.transpose(1, 2) if by_head else self._as_rows(tensor)
        index, mask = self._chosen(rows.shape[1])
        mask = mask.expand(len(rows), -1).view(*rows.shape[:2], *[1] * (rows.ndim - 2)) & self._units(rows, by_head)
        value, there = self._valued(rows, index)
        new = torch.where(mask & there, _CHANGED[self.intervention.kind](rows, value), rows)
        return new.transpose(1, 2) if by_head else new.reshape(tensor.shape)

    def _chosen(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions ``(sequence, token)`` of the tokens along a site, and which of them are meant."""
        if self.site in ("cross_k", "cross_v"):
            self._without_positions("holds the encoder's tokens")
            index = self._positions(tokens, of_encoder=True)
            return index, index >= 0
        return self._positions(tokens), self.clock.chosen(self.intervention.positions, tokens)

    def _positions(self, tokens: int, of_encoder: bool = False) -> torch.Tensor:
        """Positions ``(sequence, token)`` of the tokens along an axis: the encoder's, or the clock's last ones."""
        index = self.clock.positions(tokens)
        if of_encoder:
            return torch.arange(tokens, device=index.device)[None]
        by_token = self.intervention.positions is not None or getattr(self.value, "ndim", 0) > 1
        if index.shape[1] != tokens or (by_token and not self.clock.padding_known):
            raise OptionError(f"{self.site} cannot be changed so with a cache of fixed size; generate without it.")
        return index

    def _without_positions(self, why: str) -> None:
        if self.intervention.positions is not None:
            raise OptionError(f"{self.site} {why}; leave positions out of {self.intervention!r}.")

    def _as_rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """``(sequence, token, unit)`` of a site, also of one that comes as ``(sequence × token, unit)``."""
        if tensor.ndim == 3:
            return tensor
        sequences = len(self.clock.positions(1))
        if self.site == "logits" and len(tensor) == sequences:
            self._without_positions("are those of classes, not of tokens")
        return tensor.reshape(sequences, -1, tensor.shape[-1])

    def _units(self, rows: torch.Tensor, by_head: bool) -> torch.Tensor:
        """Which units are meant, along the last axes of `rows`."""
        device, n = rows.device, rows.shape[-1]
        units = self.intervention.units
        if self.site.endswith("pattern") and units is not None:
            keys = self._positions(n, self.site == "cross_pattern").to(device)
            chosen = torch.isin(keys, torch.tensor(units, device=device))[:, None, None]
        else:
            chosen = _mask(units, n, "unit", self.intervention).to(device)
        if self.intervention.heads is None:
            return chosen
        heads = rows.shape[2] if by_head else self.heads
        if n % heads and not by_head:
            raise OptionError(f"{self.site} has {n} units, which are not those of {heads} heads; name units.")
        of_heads = _mask(self.intervention.heads, heads, "head", self.intervention).to(device)
        return chosen & (of_heads[:, None] if by_head else of_heads.repeat_interleave(n // heads))

    def _valued(self, rows: torch.Tensor, index: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """The value for every token, and for which tokens there is one."""
        everywhere = torch.ones((), dtype=torch.bool, device=rows.device)
        if not isinstance(self.value, torch.Tensor):
            return self.value, everywhere
        value = self.value.to(device=rows.device, dtype=rows.dtype)
        units, n, from_run = self.intervention.units, rows.shape[-1], isinstance(self.intervention.value, Mapping)
        by_key = self.site.endswith("pattern")
        if units is not None and not from_run and value.shape[-1] == len(units) and (by_key or len(units) != n):
            wide = value.new_zeros(*value.shape[:-1], max(units) + 1 if by_key else n)
            wide[..., list(units)] = value
            value = wide
        if value.shape[-1] != n and not by_key:
            raise OptionError(f"The value of {self.intervention!r} has {value.shape[-1]} units; the site has {n}.")
        if by_key:
            keys = self._positions(n, self.site == "cross_pattern").to(rows.device)[:, None, None]
            everywhere = (keys >= 0) & (keys < value.shape[-1])
            keys = keys.clamp(0, value.shape[-1] - 1)
        if value.ndim == 1:
            return (value[keys] if by_key else value), everywhere
        wanted = self.intervention.positions
        if isinstance(wanted, tuple) and len(wanted) == len(value) and not from_run:
            spread = value.new_zeros(max(wanted) + 1, *value.shape[1:])
            spread[list(wanted)] = value
            value = spread
        there = (index >= 0) & (index < len(value))
        filled = value[index.clamp(0, len(value) - 1)]
        filled = filled.unsqueeze(2) if filled.ndim < rows.ndim else filled  # the same for every head
        filled = torch.take_along_dim(filled, keys, -1) if by_key else filled
        return filled, there.view(*there.shape, *[1] * (rows.ndim - 2)) & everywhere


_CHANGED: dict[str, Callable[[torch.Tensor, Any], torch.Tensor]] = {
    "ablate": lambda rows, _: torch.zeros_like(rows),
    "scale": lambda rows, factor: rows * factor,
    "add": lambda rows, value: rows + value,
    "replace": lambda rows, value: torch.as_tensor(value, dtype=rows.dtype, device=rows.device).expand_as(rows),
}


def _mask(wanted: tuple[int, ...] | None, n: int, what: str, intervention: Intervention) -> torch.Tensor:
    if wanted is None:
        return torch.ones(n, dtype=torch.bool)
    wrong = [number for number in wanted if not -n <= number < n]
    if wrong:
        raise OptionError(f"No {what} {wrong[0]} for {intervention!r}; the site has {n}, from 0 to {n - 1}.")
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[list(wanted)] = True
    return chosen
