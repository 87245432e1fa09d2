"""A run's scores as a function of which features are there, so that Captum's perturbation methods see short vectors.

Captum masks inputs; given embeddings it would keep a copy of them for every target. Given one number per feature - 1
where it is there, 0 where the baseline takes its place - its classes do the same with vectors of features, and one
forward pass of the model serves all targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ecco_captum.groups import check_range
from ecco_core import Context

if TYPE_CHECKING:
    import numpy as np

ROWS_AT_ONCE = 80  # masks × tokens in one forward: 150 are 1.4 times as fast and take twice the memory


class Masked:
    """Scores of all targets for given features.

    Args:
        ctx: targets, features. `baseline`: per stack ``(1, token, unit)``, or ``(mask, token, unit)`` with one
            baseline per mask of each call.
        batch_size: masks in one forward; chosen to fit if None.

    Attributes:
        features: what the columns of masks are. `here`: scores ``(target,)`` with all features there.
        forwards: how many masks went through the model.
    """

    def __init__(self, ctx: Context, baseline: tuple[torch.Tensor, ...], batch_size: int | None = None) -> None:
        if batch_size is not None:
            check_range("internal_batch_size", batch_size, 1)
        self.ctx, self.scores, self.features = ctx, ctx.scores, ctx.features
        self._inputs, self._baseline = self.scores.inputs(), baseline
        self._batch = batch_size or max(1, ROWS_AT_ONCE // self.scores.n_sources)
        self._of_token = {
            stack: torch.tensor([f for f, s in enumerate(self.features) if s.stack == stack for _ in s.positions])
            for stack in self.scores.stacks
        }
        self._known: dict[bytes, torch.Tensor] = {}
        self.forwards = 0
        self.here = self(torch.ones(1, len(self.features)))[0]

    def __call__(self, masks: torch.Tensor) -> torch.Tensor:
        """Return scores ``(mask, target)``, float64, for masks ``(mask, feature)``; each mask is passed once."""
        keep = masks > 0.5
        keys = [row.numpy().tobytes() for row in keep]
        new = list({key: n for n, key in reversed(list(enumerate(keys))) if key not in self._known}.values())
        same = [int(self._same(keep[n])) for n in new]
        new = [n for _, n in sorted(zip(same, new), reverse=True)]  # those that share the longest beginnings together
        while new:
            some, new = new[: self._batch], new[self._batch :]
            self._known.update(zip((keys[n] for n in some), self._passed(keep[some])))
        return torch.stack([self._known[key] for key in keys])

    def _same(self, keep: torch.Tensor) -> int:
        """How many of the first tokens of the explained stack stay what they are, of a mask ``(feature,)``."""
        kept = keep[self._of_token[self.scores.transcript.stack]]
        return int(kept.long().cumprod(0).sum())

    @torch.no_grad()
    def _passed(self, keep: torch.Tensor) -> torch.Tensor:
        """Scores of some masks, in one forward."""
        self.forwards += len(keep)
        mixed = []
        for stack, here, there in zip(self.scores.stacks, self._inputs, self._baseline):
            kept = keep[:, self._of_token[stack]].to(here.device)
            mixed.append(torch.where(kept[..., None], here, there))
        found: torch.Tensor = self.scores(*mixed, same=min(map(self._same, keep)))
        return found.double().cpu()

    def seen(self) -> np.ndarray:
        """Whether a target can see any token of a feature: boolean ``(target, feature)``."""
        import numpy as np

        found = np.ones((len(self.scores.targets), len(self.features)), dtype=bool)
        if self.scores.transcript.task in ("causal", "seq2seq"):
            for t, target in enumerate(self.scores.targets):
                end = (target.upto or target.position + 1) - 1  # it is what the token before it predicts
                found[t] = [s.stack != target.stack or s.positions[0] < end for s in self.features]
        return found
