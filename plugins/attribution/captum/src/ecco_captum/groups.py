"""How methods share a context: one inside of another, and targets in groups that fit into memory."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ecco_core import Context, LabelledArray, OptionError, TokenScores, halving

if TYPE_CHECKING:
    import torch

    from ecco_core import ScoreModule, Target

    Attributions = tuple[torch.Tensor, ...]

MOST_STEPS, MOST_SAMPLES = 5_000, 100_000
ROWS_AT_ONCE = 800  # steps × tokens in one forward: matrix products run at full speed, memory stays small
NUMBERS = 2**24  # of gradients (target × row × unit) held at once, a few times over: 64 MB in float32, each

Method = Callable[..., TokenScores]


def check_range(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Refuse what is out of an option's range; NaN is in none.

    Raises:
        OptionError: it is.
    """
    if not least <= value <= most:
        bound = f"most {most:,}" if value > most else f"least {least:,}"
        raise OptionError(f"{name} is at {bound}, found {value}.")


class Within(Context):
    """The context of a method that another one runs, on scores of its own; options, notes and seed are shared.

    Args:
        ctx: the other method's. `scores`: what is explained; its stacks are those that features are of.
        name: the method that is run, if it has a name of its own.
        averaged: what to make of the attributions per unit before they are aggregated, the first time that they are;
            if left out, what the other method's context would.
    """

    def __init__(
        self,
        ctx: Context,
        scores: ScoreModule,
        name: str = "",
        averaged: Callable[[Attributions], Attributions] | None = None,
    ) -> None:
        super().__init__(ctx.runs, attrs.evolve(ctx.spec, name=name or ctx.spec.name), ctx.options)
        self.rng, self.notes, self.scores = ctx.rng, ctx.notes, scores
        self.features = [
            source for source in self.run.features(self.options["features"], scores) if source.stack in scores.stacks
        ]
        outer = ctx._averaged if isinstance(ctx, Within) else None
        self._averaged: Callable[[Attributions], Attributions] | None = averaged or outer

    def average(self, attributions: Attributions) -> Attributions:
        """What `averaged` makes of attributions, per stack ``(target, token, unit)``; they themselves from then on."""
        averaged, self._averaged = self._averaged, None
        return averaged(attributions) if averaged else attributions


def in_groups(rows: int = 0) -> Callable[[Method], Method]:
    """Have a method explain so many targets at a time as fit, or half of them; each group sees the same random numbers.

    Args:
        rows: that it takes gradients of at once for each target, at least, if it goes along a path.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def grouped(ctx: Context, *args: Any, **options: Any) -> TokenScores:
            import torch

            groups, rounded = _groups(ctx, rows), "bf16" in (*args, *options.values())
            start, every = ctx.rng.bit_generator.state, ctx.scores.targets

            def explain(targets: Sequence[Target]) -> TokenScores:
                ctx.rng.bit_generator.state = start
                some = ctx if len(targets) == len(every) else Within(ctx, ctx.scores.only(targets))
                return method(some, *args, **options)

            # a block around those of each graph keeps the rounded weights for all of them
            kept = torch.autocast(ctx.run.lm.device.type, enabled=False) if rounded else contextlib.nullcontext()
            with kept:
                results = list(halving(explain, ctx.progress(groups) if len(groups) > 1 else groups))
            return together(results)

        return grouped

    return decorate


def _groups(ctx: Context, rows: int) -> list[Sequence[Target]]:
    """The targets, so many together that their gradients have `NUMBERS` entries."""
    targets = ctx.scores.targets
    unit = max(tensor.shape[-1] for tensor in ctx.scores.inputs())
    each = max(1, NUMBERS // (max(ctx.scores.n_sources, rows) * unit))
    return [targets[start : start + each] for start in range(0, len(targets), each)]


def together(results: Sequence[TokenScores]) -> TokenScores:
    """One result of several that have the same sources."""
    if len(results) == 1:
        return results[0]
    import numpy as np

    def joined(name: str) -> LabelledArray | None:
        parts = [getattr(result, name) for result in results]
        if any(part is None for part in parts):
            return None
        coords = parts[0].coords | {"target": [target.position for result in results for target in result.targets]}
        return LabelledArray(np.concatenate([part.values for part in parts]), parts[0].dims, coords)

    targets = tuple(target for result in results for target in result.targets)
    arrays: Any = {name: joined(name) for name in ("values", "completeness", "change")}
    return attrs.evolve(results[0], targets=targets, **arrays)
