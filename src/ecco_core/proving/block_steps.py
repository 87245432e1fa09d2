"""What one block adds to its stream, and where: found by the numbers that pass through its modules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import attrs
import torch
from torch import nn

from ecco_core.proving.tracing import Call, Trace
from ecco_core.registry.structure import Side, Site, Value

MOST_ADDED = 4  # what a block adds to its stream at most: attention, cross attention, mixer, MLP
HALF = {torch.bfloat16: 2e-2, torch.float16: 3e-3}  # how far sums in half precision may be off
Explain = Callable[[float], Value]


def rows(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Floating numbers as float64 ``(token, unit)``; None for anything else."""
    if tensor is None or tensor.ndim < 2 or not tensor.is_floating_point() or not tensor.numel():
        return None
    return tensor.detach().cpu().reshape(-1, tensor.shape[-1]).double()


def same(one: torch.Tensor | None, other: torch.Tensor | None, tolerance: float = 1e-6) -> bool:
    """Whether two tensors hold the same rows, up to rounding."""
    a, b = rows(one), rows(other)
    return a is not None and b is not None and a.shape == b.shape and bool((a - b).norm() <= tolerance * b.norm())


@attrs.frozen(eq=False)
class Step:
    """Something that a block adds to its stream: the calls that leave it, its factor, and the norm after the sum."""

    calls: Sequence[Call]
    scale: float
    norm: str = ""

    @property
    def ended(self) -> int:
        """When it was there first."""
        return self.calls[0].ended


class Block:
    """One layer's part of a trace."""

    def __init__(self, trace: Trace, call: Call) -> None:
        self.call, self.tolerance = call, tolerance_of(call)
        self.before, self.after = rows(call.entered), rows(call.left)
        self.start = self.before  # the stream, after the norm that RWKV's first layer begins with
        self.calls = [
            c for c in trace.calls if c.name.startswith(f"{call.name}.") and call.began < c.began < call.ended
        ]
        self.attended = [a for a in trace.attended if a.name.startswith(call.name) and call.began < a.at < call.ended]

    def path(self, name: str) -> str:
        """The path of a module inside the block."""
        return name[len(self.call.name) + 1 :]

    def places(self, calls: Iterable[Call], side: Side, scale: Value | None = None) -> list[Site]:
        """Calls as places, the outermost module first."""
        return [Site(self.path(c.name), side, scale) for c in sorted(calls, key=lambda c: (c.name.count("."), c.began))]

    def steps(self) -> list[Step]:
        """What the block adds to its stream, in the order in which it does; nothing if that cannot be told."""
        if self.before is None or self.after is None or self.before.shape != self.after.shape:
            return []
        return self._steps(self.after, self.call.ended + 1)

    def _steps(self, target: torch.Tensor, until: int) -> list[Step]:
        assert self.before is not None
        normed = [rows(c.left) for c in self.calls if c.light and same(c.entered, self.before)]
        for start in (self.before, *normed):
            if start is not None and start.shape == target.shape and (added := self._sum(target - start, until)):
                self.start = start
                return added
        for norm in (c for c in self.calls if same(c.left, target) and c.light and not same(c.entered, c.left)):
            inner = rows(norm.entered)
            earlier = [rows(c.left) for c in self.calls if c.light and c.ended < norm.began]
            for stream in (self.before, *reversed(earlier)):
                if inner is None or stream is None or not inner.shape == stream.shape == target.shape:
                    continue
                added = self._sum(inner - stream, norm.began)
                before = self._steps(stream, norm.began) if added and stream is not self.before else []
                if added and (before or stream is self.before):
                    return [*before, *added[:-1], attrs.evolve(added[-1], norm=self.path(norm.name))]
        return []

    def _sum(self, target: torch.Tensor, until: int) -> list[Step]:
        """The fewest outputs of modules, times positive factors, whose sum is the target."""
        groups = self._groups(target, until)
        if not groups or not target.norm():
            return []
        outputs = torch.stack([rows(group[0].left).flatten() for group in groups])  # type: ignore[union-attr]
        gram, shared, square = outputs @ outputs.T, outputs @ target.flatten(), target.norm() ** 2
        for size in range(1, min(MOST_ADDED if len(groups) < 25 else 3, len(groups)) + 1):
            chosen = torch.tensor(list(itertools.combinations(range(len(groups)), size)))
            matrix, vector = gram[chosen[:, :, None], chosen[:, None, :]], shared[chosen]
            fitted, _ = torch.linalg.solve_ex(matrix, vector)
            for factors in (torch.ones_like(vector), fitted):
                error = square - 2 * (factors * vector).sum(1) + torch.einsum("ci,cij,cj->c", factors, matrix, factors)
                error[(factors < 1e-3).any(1) | ~factors.isfinite().all(1)] = torch.inf
                best = int(error.argmin())
                if error[best] <= self.tolerance**2 * square:
                    found = zip(chosen[best].tolist(), factors[best].tolist(), strict=True)
                    return sorted((Step(groups[i], scale) for i, scale in found), key=lambda step: step.ended)
        return []

    def _groups(self, target: torch.Tensor, until: int) -> list[list[Call]]:
        """Calls by what they leave, of the target's shape; without those that only pass the stream on."""
        groups: list[list[Call]] = []
        for call in self.calls:
            left = rows(call.left)
            if left is None or left.shape != target.shape or call.ended >= until or not left.norm() > 0:
                continue
            if same(left, self.before) or same(left, self.after):
                continue
            known = next((group for group in groups if same(group[0].left, left)), None)
            if known:
                known.append(call)
            else:
                groups.append([call])
        return groups

    def named(self, steps: Sequence[Step]) -> dict[str, Step]:
        """Added site -> step, by when attention was computed; nothing if a step stays without a name."""
        found: dict[str, Step] = {}
        left = sorted(steps, key=lambda step: step.ended)
        for attended in sorted(self.attended, key=lambda a: a.at):
            site = "cross_attn_out" if attended.cross else "attn_out"
            step = next((s for s in left if s.ended > attended.at), None)
            if step and site not in found:
                found[site] = step
                left.remove(step)
        only = len(left) == 1 and not found
        if (len(left) == 2 and not found) or ((len(left) == 2 or only) and not self._by_token(left[0])):
            found["mixer_out"] = left.pop(0)
        if left:
            found["mlp_out"] = left.pop(0)
        return {} if left else found

    def _by_token(self, step: Step) -> bool:
        """Whether what is added at a token depends on that token only."""
        call = min(step.calls, key=lambda c: c.name.count("."))
        while call.light and (before := [c for c in self.calls if same(c.left, call.entered) and c.ended < call.began]):
            call = min(before, key=lambda c: c.name.count("."))
        if call.entered is None or call.left is None or call.entered.ndim != 3:
            return False
        try:
            with torch.no_grad():
                alone = call.module(call.entered[:, -1:])
        except Exception:  # it wants more than the stream
            return False
        alone = alone[0] if isinstance(alone, tuple) else alone
        return isinstance(alone, torch.Tensor) and same(alone, call.left[:, -1:], 1e-3)

    def projected(self, calls: Sequence[Call]) -> list[Call]:
        """The linear maps that what leaves `calls` comes from, through norms if need be."""
        for _ in range(3):
            linear = [c for c in calls if c.projects]
            norm = next((c for c in calls if c.light and not same(c.entered, c.left)), None)
            if linear or norm is None:
                return linear
            calls = [c for c in self.calls if same(c.left, norm.entered) and c.ended < norm.began]
        return []

    def narrowing(self, step: Step) -> list[Call]:
        """The last linear map that leaves a stream's width from another one: before a gate or a factor."""
        last = max(step.calls, key=lambda c: c.ended)
        inside = (c for c in self.calls if c.name.startswith(f"{last.name}.") and c.projects)
        width = last.left.shape[-1] if last.left is not None else 0
        found = [
            c for c in inside
            if c.entered is not None and c.left is not None and c.left.shape[-1] == width != c.entered.shape[-1]
        ]  # fmt: skip
        return found[-1:]

    def between(self, steps: Sequence[Step], mlp: Step) -> list[Site]:
        """Where the stream passes between the mixing of tokens and the MLP; nothing in a parallel block."""
        earlier = [step for step in steps if step.ended < mlp.ended]
        if not earlier or earlier[-1].norm:
            return [Site(earlier[-1].norm, "output")] if earlier else []
        assert self.start is not None
        stream = self.start
        for step in earlier:
            stream = stream + step.scale * rows(step.calls[0].left)  # type: ignore[operator]
        entered = [c for c in self.calls if same(c.entered, stream, self.tolerance)]
        return self.places(entered, "input") or self.places(
            [c for c in self.calls if same(c.left, stream, self.tolerance)], "output"
        )

    def fused(self) -> dict[str, int]:
        """Path of each module that holds the weights of several experts -> their number."""
        return {
            name: next(p.shape[0] for p in module.parameters(recurse=False) if p.ndim == 3)
            for name, module in self.call.module.named_modules()
            if any(p.ndim == 3 for p in module.parameters(recurse=False))
            and "conv" not in type(module).__name__.lower()
        }

    def routers(self, after: int) -> list[Site]:
        """Where one number per expert comes out, for each token, after the mixing of tokens."""
        lists = (m for m in self.call.module.modules() if isinstance(m, nn.ModuleList) and len(m) > 1)
        numbers, tokens = {*self.fused().values(), *map(len, lists)}, len(self.before) if self.before is not None else 0
        found = [
            call
            for call in self.calls
            if call.began > after and any(p.ndim == 2 and len(p) in numbers for p in call.module.parameters(False))
            if (left := rows(call.left)) is not None and len(left) == tokens and left.shape[1] in numbers
        ]
        return self.places(found[:1], "output")


def tolerance_of(call: Call) -> float:
    """How far sums in a model's own precision may be off."""
    dtype = call.left.dtype if call.left is not None else torch.float32
    return HALF.get(dtype, 1e-5)


def sites_of(block: Block, explain: Explain) -> tuple[dict[str, list[Site]], dict[str, str]]:
    """Return site -> the places that are it, best first, and added site -> the norm after its sum."""
    steps = block.steps()
    named = block.named(steps)
    found: dict[str, list[Site]] = {}
    for site, step in named.items():
        found[site] = block.places(step.calls, "output", None if step.scale == 1 else explain(step.scale))
        entered = {"attn_out": "z", "cross_attn_out": "cross_z", "mlp_out": "mlp_post"}.get(site)
        if entered:
            found[entered] = block.places(block.projected(step.calls), "input")
    if "mlp_out" in named:
        found["router"] = block.routers(max((s.ended for s in steps if s.ended < named["mlp_out"].ended), default=0))
        if not found["mlp_post"] and not found["router"]:
            found["mlp_post"] = block.places(block.narrowing(named["mlp_out"]), "input")
        found["resid_mid"] = block.between(steps, named["mlp_out"])
    norms = {site: step.norm for site, step in named.items() if step.norm}
    return {site: places for site, places in found.items() if places}, norms
