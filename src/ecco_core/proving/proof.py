"""Checks of a model, and the readings that they compare."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import nn

from ecco_core.models.architecture import Architecture
from ecco_core.models.feed import Feed
from ecco_core.models.reading import Key, read, without_cache
from ecco_core.registry import structure as s

Status = Literal["proven", "failed", "not there", "not proven"]
Layer = int | None
SITES = (*s.IMPLIED_SITES, *s.DECLARED_SITES, *s.INSIDE_ATTENTION)
TOLERANCE = 1e-4  # relative, in float32
#: Identities that say that a site can be changed, not what it means.
WRITING = ("write back", "zeros")


@attrs.frozen(kw_only=True)
class Check:
    """One identity at one site of a stack.

    Attributes:
        layer: where it is worst; None outside of the blocks. `residual`: relative error, None if there is none.
        detail: what was expected of which module, or why it is not there or not proven.
    """

    identity: str
    stack: str
    site: str
    status: Status
    detail: str
    layer: Layer = None
    residual: float | None = None
    tolerance: float | None = None


@attrs.frozen(kw_only=True)
class Verification:
    """All checks of one model."""

    model_type: str
    task: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed; none if the structure is true."""
        return tuple(check for check in self.checks if check.status == "failed")

    def sites(self, stack: str) -> dict[str, Status]:
        """Site -> its status in a stack: the worst of the checks of what it means, and of writing if it failed."""
        found: dict[str, Status] = {}
        for site in SITES:
            of_site = [check for check in self.checks if (check.stack, check.site) == (stack, site)]
            statuses = {c.status for c in of_site if c.identity not in WRITING or c.status == "failed"}
            order: tuple[Status, ...] = ("failed", "not proven", "proven", "not there")
            found[site] = next((status for status in order if status in statuses), "not proven")
        return found


class Evidence:
    """What a model says and has inside on random ids, and the checks that are made of it.

    Attributes:
        feed, other: two sequences of random ids. `found`: every site, read on the first.
    """

    def __init__(self, model: Any, architecture: Architecture, task: str, seed: int) -> None:
        self.model, self.architecture, self.task = model, architecture, task
        self.names = {id(module): name or type(module).__name__ for name, module in model.named_modules()}
        self.checks: list[Check] = []
        self.found: dict[Key, torch.Tensor] = {}
        random = torch.Generator().manual_seed(seed)
        self.feed, self.other = (Feed.of(self._ids(random)) for _ in range(2))
        self.tolerance = max(TOLERANCE, 8 * torch.finfo(next(model.parameters()).dtype).eps)

    def _ids(self, random: torch.Generator) -> dict[str, torch.Tensor]:
        """Random ids, none of them special but the end, which seq2seq classifiers look for."""
        config, stacks = self.model.config, self.architecture.stacks
        special = {n for key, v in config.to_dict().items() if key.endswith("token_id") for n in numbers_in(v)}
        plain = torch.tensor([n for n in range(config.vocab_size) if n not in special])
        ids = {}
        for stack in stacks:
            length = 9 if stack == "decoder" and len(stacks) > 1 and self.task in s.HEAD_TASKS else 12
            ids[stack] = plain[torch.randint(len(plain), (length,), generator=random)]
            if len(stacks) > 1 and (ends := numbers_in(getattr(config, "eos_token_id", None))):
                ids[stack][-1] = ends[0]
        return {stack: row.to(next(self.model.parameters()).device) for stack, row in ids.items()}

    def forward(self, feed: Feed, **options: Any) -> Any:
        """The model's output."""
        return self.model(**feed.arguments(), **without_cache(self.model), **options, return_dict=True)

    def answer(self, feed: Feed | None = None) -> torch.Tensor:
        """What the model says: logits, or the last hidden state of a bare one."""
        output = self.forward(feed or self.feed)
        answer: torch.Tensor | None = getattr(output, "logits", None)
        return (output.last_hidden_state if answer is None else answer).clone()

    def read(self) -> None:
        """Read every site, all at once; if one is not passed, one by one."""
        keys: list[Key] = []
        for stack in self.architecture.stacks:
            for site in self.architecture.sites(stack):
                inside = site not in s.OUTSIDE_BLOCKS
                keys += [(stack, site, n) for n in (self.architecture.layers_with(site, stack) if inside else [None])]
        last = (self.architecture.stacks[-1], "logits", None)
        keys = [key for key in keys if key[1] != "logits" or (key == last and self.task in s.HEAD_TASKS)]
        try:
            (self.found,) = read(self.model, self.architecture, self.feed, keys)
        except Exception:
            for key in keys:
                try:
                    self.found |= read(self.model, self.architecture, self.feed, [key])[0]
                except Exception as error:
                    self.add("reading", key[0], key[1], "failed", f"{self.at(*key)}: {error}", layer=key[2])

    def layers(self, stack: str, *sites: str) -> list[int]:
        """The layers in which all of the sites were read."""
        layers = range(self.architecture.n_layers(stack))
        return [layer for layer in layers if all((stack, site, layer) in self.found for site in sites)]

    def at(self, stack: str, site: str, layer: Layer) -> str:
        """The module of a site as a file writes it: what enters or leaves it."""
        place = self.architecture.place(site, layer, stack)
        name = self.name(place.module)
        return f"'> {name}'" if place.side == "input" else f"'{name} >'" if place.side == "output" else f"'{name}'"

    def name(self, module: nn.Module) -> str:
        """Path of a module in the model."""
        return self.names.get(id(module), type(module).__name__)

    def add(self, identity: str, stack: str, site: str, status: Status, detail: str, **numbers: Any) -> None:
        """Add a check."""
        self.checks.append(Check(identity=identity, stack=stack, site=site, status=status, detail=detail, **numbers))

    def judge(self, identity: str, stack: str, site: str, residuals: Mapping[Any, float], told: str) -> None:
        """Add the check of the worst layer, nothing if there is none; `told` has the names of sites in braces."""
        if residuals:
            worst = max(residuals, key=lambda layer: math.inf if math.isnan(residuals[layer]) else residuals[layer])
            status: Status = "proven" if residuals[worst] <= self.tolerance else "failed"
            detail = re.sub(r"\{(\w+)\}", lambda name: self.at(stack, name[1], worst), told)
            numbers = {"layer": worst, "residual": residuals[worst], "tolerance": self.tolerance}
            self.add(identity, stack, site, status, detail, **numbers)


def numbers_in(value: Any) -> list[int]:
    """The integers in a config's value: one, several, or none."""
    return [n for n in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(n, int)]


def error_of(
    ours: torch.Tensor | Callable[[], torch.Tensor], theirs: torch.Tensor, size: torch.Tensor | None = None
) -> float:
    """Norm of the difference relative to `size`, or to the norm of `theirs`; infinite where ours cannot be computed."""
    try:
        value = ours if isinstance(ours, torch.Tensor) else ours()
    except Exception:  # a wrong module, which takes something else
        return math.inf
    if not isinstance(value, torch.Tensor) or value.shape != theirs.shape:
        return math.inf
    return float((value.float() - theirs.float()).norm() / (theirs.float().norm() if size is None else size))
