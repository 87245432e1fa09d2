"""Interventions: change what flows through a model at a site, for the time of a ``with`` block only."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import nn

from ecco_core.errors import OptionError, did_you_mean, listed
from ecco_core.models.architecture import Architecture, Place
from ecco_core.models.attention import Change, attending
from ecco_core.models.hooks import alone, hooked
from ecco_core.registry.structure import ATTENTION_SITES, CROSS_ATTENTION_SITES, OUTSIDE_BLOCKS

Places = int | Sequence[int] | None
When = Literal["prompt", "generated", "predicting"]
WHEN = ("prompt", "generated", "predicting")
_BY_HEADS = (*ATTENTION_SITES, *CROSS_ATTENTION_SITES, "z", "cross_z")


@attrs.frozen(eq=False, repr=False)
class Intervention:
    """A change at a site; made by `ablate`, `scale`, `add` and `replace`.

    Attributes:
        kind: ``ablate``, ``scale``, ``add`` or ``replace``. `site`: where.
        layers: numbers from 0, -1 is the last; all that have the site if None.
        units: which of the site's units (of a pattern: which keys). `heads`: which heads, at sites that have them.
        positions: which tokens, from 0: a list, ``"prompt"``, ``"generated"``, ``"predicting"`` (those whose
            states choose a generated token: the prompt's last and on); all if None.
        stack: ``"decoder"`` or ``"encoder"``; the model's only stack, or the decoder, if empty.
        value: a number, or a tensor ``(unit,)`` or ``(token, unit)``, or one such per layer; ``(token, unit)`` goes
            by position, or along `positions` if these are a list of that length.
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
        def part(name: str, numbers: Any) -> str:
            some = f"{', '.join(map(str, numbers[:8]))}{' …' if len(numbers) > 8 else ''}" if numbers else ""
            return f", {name} {some}" if numbers is not None and not isinstance(numbers, str) else ""

        when = f", {self.positions} positions" if isinstance(self.positions, str) else ""
        where = "".join(part(name, getattr(self, name)) for name in ("layers", "units", "heads", "positions"))
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
    return _made("scale", site, layer, units, float(factor), where)


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
    positions: Places | When = where.get("positions")
    if not isinstance(site, str):
        raise OptionError(f"An intervention names a site such as 'mlp_post', found {site!r}.")
    if isinstance(positions, str) and positions not in WHEN:
        raise OptionError(
            f"positions are numbers or {listed(WHEN)}, found {positions!r}.{did_you_mean(positions, WHEN)}"
        )
    told = f" by {value:g}" if kind == "scale" else ""
    if kind in ("add", "replace"):
        number = isinstance(value, (int, float))
        told = f" with {value:g}" if number else f" with {getattr(value, 'summary', type(value).__name__)}"
        value = float(value) if number else _array(value)
    return Intervention(
        kind,
        site,
        _numbers(layer, "layer"),
        _numbers(units, "units"),
        _numbers(where.get("heads"), "heads"),
        positions if isinstance(positions, str) else _numbers(positions, "positions"),
        where.get("stack", ""),
        value,
        told,
    )


def _array(value: Any) -> Any:
    """A tensor of what is given as numbers; anything else (a run) as it is."""
    if isinstance(value, (np.ndarray, list, tuple)):
        try:
            value = torch.as_tensor(np.asarray(value, dtype=np.float32))
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"The value of an intervention is numbers, found {type(value).__name__}: {error}."
            ) from error
    if isinstance(value, torch.Tensor) and not 1 <= value.ndim <= 2:
        raise OptionError(
            f"The value of an intervention is (unit,) or (token, unit), found the shape {tuple(value.shape)}."
        )
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _numbers(given: Any, what: str) -> tuple[int, ...] | None:
    if given is None:
        return None
    several = [given] if isinstance(given, (int, np.integer)) else given
    try:
        numbers = tuple(
            int(number) for number in several if not isinstance(number, (bool, str)) and number == int(number)
        )
        if len(numbers) != len(several) or not numbers:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise OptionError(f"{what} takes a number or several, found {given!r}.") from error
    return numbers


_PROMPTS: weakref.WeakKeyDictionary[nn.Module, tuple[int, ...]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def prompted(model: nn.Module, *lengths: int) -> Iterator[None]:
    """Tell interventions how many tokens of each sequence are the prompt, for the time of the block."""
    before = _PROMPTS.get(model)
    _PROMPTS[model] = lengths
    try:
        yield
    finally:
        if before is None:
            _PROMPTS.pop(model, None)
        else:
            _PROMPTS[model] = before


@contextlib.contextmanager
def intervening(architecture: Architecture, interventions: Sequence[Intervention]) -> Iterator[None]:
    """Apply interventions, in order, to every forward of the model in the block.

    Raises:
        OptionError: a site, layer, head, unit or position that does not exist.
    """
    model = architecture.model
    with contextlib.ExitStack() as scope:
        if interventions:
            scope.enter_context(alone(model))
        clocks: dict[str, _Clock] = {}
        for intervention in interventions:
            stack = stack_of(architecture, intervention)
            if stack not in clocks:
                clocks[stack] = _Clock(model, architecture, stack)
                scope.enter_context(clocks[stack].running())
            for place, change in _changes(architecture, intervention, stack, clocks[stack]):
                scope.enter_context(hooked(place, change))
        inside = {*ATTENTION_SITES, *CROSS_ATTENTION_SITES}
        if any(intervention.site in inside for intervention in interventions):
            scope.enter_context(attending(model))
        yield


def stack_of(architecture: Architecture, intervention: Intervention) -> str:
    """The stack that an intervention means."""
    if intervention.stack:
        architecture.stack(intervention.stack)
        return intervention.stack
    return "decoder" if "decoder" in architecture.stacks else architecture.stacks[0]


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
    for layer in intervention.layers:
        if not -n <= layer < n:
            raise OptionError(f"No layer {layer} for {intervention!r}; the {stack} has layers 0 to {n - 1}.")
    return tuple(layer % n for layer in intervention.layers)


def _changes(
    architecture: Architecture, intervention: Intervention, stack: str, clock: _Clock
) -> Iterator[tuple[Place, Change]]:
    site = intervention.site
    heads = _head_count(architecture, site) if intervention.heads else 0
    for layer in layers_of(architecture, intervention, stack):
        place = architecture.place(site, layer, stack)
        if place.side == "pattern" and not _editable(architecture, layer, stack, site):
            raise OptionError(
                f"{type(architecture.model).__name__} computes its attention outside of transformers' attention "
                "interface; its pattern can be read, not changed. Change 'z' instead."
            )
        value = intervention.value
        value = value[layer] if isinstance(value, Mapping) else value
        yield place, _Edit(intervention, site, value, heads, clock)


def _editable(architecture: Architecture, layer: int | None, stack: str, site: str) -> bool:
    return any(s in architecture.sites(stack) for s in ("cross_q" if site.startswith("cross_") else "q",))


def _head_count(architecture: Architecture, site: str) -> int:
    if site not in _BY_HEADS:
        raise OptionError(f"The site {site!r} has no heads; those with heads are {listed(_BY_HEADS)}.")
    config = architecture.model.config
    names = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
    return next((int(n) for name in names if isinstance(n := getattr(config, name, None), int)), 0)


def _owners(model: nn.Module, architecture: Architecture, stack: str) -> list[nn.Module]:
    """The modules whose forwards are those of a stack, from outside in; some models skip the outer ones."""
    base: nn.Module = getattr(model, "base_model", model)
    steps = architecture.stack(stack).blocks.split(".")[:-1]
    within = [base.get_submodule(".".join(steps[: n + 1])) for n in range(len(steps))]
    whole = [] if len(architecture.structure.stacks) > 1 else list(dict.fromkeys([model, base]))
    return [*whole, *within]


class _Clock:
    """Knows the position of every token of a stack in the forward that runs, cached generation included."""

    def __init__(self, model: nn.Module, architecture: Architecture, stack: str) -> None:
        self._model = model
        self._owners = _owners(model, architecture, stack)
        self._depth = 0
        self._generates = stack == "decoder"
        self._passed = 0
        self._prompts: tuple[int, ...] | None = None
        self._positions = torch.zeros(1, 1, dtype=torch.long)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Watch the stack's forwards for the time of the block; of modules within each other, the outermost tells."""
        with contextlib.ExitStack() as scope:
            for owner in self._owners:
                scope.callback(owner.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
                scope.callback(owner.register_forward_hook(self._leave, always_call=True).remove)
            yield

    def _leave(self, *_: Any) -> None:
        self._depth -= 1

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth += 1
        if self._depth == 1:
            self._tick(args, kwargs)

    def _tick(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = next(
            t for t in (kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args) if isinstance(t, torch.Tensor)
        )
        batch, length = tokens.shape[:2]
        if _PROMPTS.get(self._model) is not self._prompts:  # a new run begins
            self._prompts, self._passed = _PROMPTS.get(self._model), 0
        offset = self._offset(kwargs, length)
        self._passed = offset + length
        mask = kwargs.get("attention_mask")
        shift = torch.zeros(batch, dtype=torch.long, device=tokens.device)
        if isinstance(mask, torch.Tensor) and mask.ndim == 2 and len(mask) == batch:
            shift = (mask.cumsum(-1) == 0).sum(-1).to(tokens.device)
        self._positions = torch.arange(offset + length, device=tokens.device) - shift[:, None]
        self._length = length

    def _offset(self, kwargs: dict[str, Any], length: int) -> int:
        """How many tokens went before: what the cache says, else what was counted."""
        cache = next(
            (c for n in ("past_key_values", "cache_params", "state") if (c := kwargs.get(n)) is not None), None
        )
        if cache is None:
            return 0
        if hasattr(cache, "get_seq_length"):
            with contextlib.suppress(Exception):  # the caches of state-space layers have no length
                return int(cache.get_seq_length())
        return self._passed if length == 1 else 0

    def positions(self, tokens: int) -> torch.Tensor:
        """Positions ``(sequence, token)`` of the last `tokens` tokens; below 0 is padding."""
        return self._positions[:, -tokens:]

    def prompt_lengths(self, batch: int) -> torch.Tensor | None:
        """Number of tokens of each sequence's prompt ``(sequence, 1)``; None if nobody told."""
        if not self._prompts:
            return None
        each = torch.tensor(self._prompts, device=self._positions.device)
        return each.repeat_interleave(max(1, batch // len(each)))[:batch, None]

    def chosen(self, wanted: tuple[int, ...] | str | None, tokens: int) -> torch.Tensor:
        """Which of the last `tokens` tokens are wanted, ``(sequence, token)`` truth values."""
        positions = self.positions(tokens)
        if wanted is None:
            return positions >= 0
        if not isinstance(wanted, str):
            return torch.isin(positions, torch.tensor(wanted, device=positions.device))
        prompt = self.prompt_lengths(len(positions)) if self._generates else None
        if prompt is None:  # all of it was given
            return positions >= 0 if wanted == "prompt" else torch.zeros_like(positions, dtype=torch.bool)
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
        wanted = self.intervention.positions
        if self.site in ("cross_k", "cross_v"):
            if wanted is not None:
                raise OptionError(
                    f"{self.site} holds the encoder's tokens; leave positions out of {self.intervention!r}."
                )
            index = torch.arange(tokens, device=self.clock.positions(1).device)[None]
            return index, torch.ones_like(index, dtype=torch.bool)
        index = self.clock.positions(tokens)
        if index.shape[1] != tokens:
            raise OptionError(
                f"{self.site} cannot be changed with a cache of fixed size; generate with the default one."
            )
        return index, self.clock.chosen(wanted, tokens)

    def _as_rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """``(sequence, token, unit)`` of a site, also of one that comes as ``(sequence × token, unit)``."""
        if tensor.ndim == 3:
            return tensor
        return tensor.reshape(len(self.clock.positions(1)), -1, tensor.shape[-1])

    def _units(self, rows: torch.Tensor, by_head: bool) -> torch.Tensor:
        """Which units are meant, along the last axes of `rows`."""
        device, n = rows.device, rows.shape[-1]
        units = self.intervention.units
        if self.site.endswith("pattern") and units is not None:  # keys, of which there are more with every token
            units = tuple(unit for unit in units if unit < n)
        chosen = _mask(units, n, "unit", self.intervention).to(device)
        if self.intervention.heads is None:
            return chosen
        heads = rows.shape[2] if by_head else self.heads
        of_heads = _mask(self.intervention.heads, heads, "head", self.intervention).to(device)
        return chosen & (of_heads[:, None] if by_head else of_heads.repeat_interleave(n // heads))

    def _valued(self, rows: torch.Tensor, index: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """The value for every token, and for which tokens there is one."""
        everywhere = torch.ones((), dtype=torch.bool, device=rows.device)
        if not isinstance(self.value, torch.Tensor):
            return self.value, everywhere
        value = self.value.to(device=rows.device, dtype=rows.dtype)
        units = self.intervention.units
        if units is not None and value.shape[-1] == len(units) != rows.shape[-1]:
            wide = value.new_zeros(*value.shape[:-1], rows.shape[-1])
            wide[..., list(units)] = value
            value = wide
        if value.shape[-1] != rows.shape[-1]:
            raise OptionError(
                f"The value of {self.intervention!r} has {value.shape[-1]} units; the site has {rows.shape[-1]}."
            )
        if value.ndim == 1:
            return value, everywhere
        wanted = self.intervention.positions
        if isinstance(wanted, tuple) and len(wanted) == len(value):
            spread = value.new_zeros(max(wanted) + 1, *value.shape[1:])
            spread[list(wanted)] = value
            value = spread
        there = (index >= 0) & (index < len(value))
        filled = value[index.clamp(0, len(value) - 1)]
        return filled, there.view(*there.shape, *[1] * (rows.ndim - 2))


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
