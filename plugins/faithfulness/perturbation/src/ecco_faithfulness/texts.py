"""One run's numbers: every method's curves and measures for every target, the floor's and the ceiling's; kept by text.

What is returned is plain data for JSON, so that what was computed and what is read back are the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from ecco_core import OptionError, StorageError
from ecco_faithfulness import masking, measures
from ecco_faithfulness.masking import Replaced
from ecco_faithfulness.results import CEILING, FLOOR, Metric

if TYPE_CHECKING:
    from ecco_core import Run, ScoreModule, Source

_FORMAT = 1
_ROUNDING = 1e-6  # of a score: a smaller drop is what float32 leaves where nothing changed, and would be ranked
Text = dict[str, Any]


@attrs.frozen(kw_only=True)
class Plan:
    """What is measured, and how; see the options of the analysis."""

    metrics: tuple[Metric, ...]
    replacement: str
    n_draws: int
    fractions: tuple[float, ...]
    n_random: int
    n_masks: int
    exact: bool
    seed: int

    def rng(self, run: Run, what: str) -> np.random.Generator:
        """Random numbers that depend on the seed, the run's tokens and what they are for, and not on other runs."""
        told = json.dumps([what, *(t.ids.tolist() for t in run.transcript.tokens.values())])
        return np.random.default_rng([self.seed, int.from_bytes(hashlib.sha256(told.encode()).digest()[:8])])

    @property
    def curves(self) -> tuple[str, ...]:
        """Which of the curves are needed."""
        needed = {"deletion": ("deletion", "comprehensiveness"), "insertion": ("insertion", "sufficiency")}
        return tuple(curve for curve, of in needed.items() if any(metric in self.metrics for metric in of))


def measured(
    run: Run,
    module: ScoreModule,
    sources: Sequence[Source],
    plan: Plan,
    scores: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    moved: Callable[[np.ndarray], Mapping[str, Sequence[np.ndarray]]],
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> Text:
    """Measure one run.

    Args:
        scores: from what is compared, boolean ``(target, source)``, to name -> scores ``(target, source)``.
        moved: the same, to name -> these scores after each small move of the input, for max-sensitivity.

    Raises:
        OptionError: a target has too few sources, or too many for the exact ceiling.
    """
    replaced = Replaced(run, module, plan.replacement, plan.n_draws, plan.rng(run, "draws"))
    members, seen = masking.members(module, sources), masking.seen(run, module, sources)
    _require_sources(module, seen, plan)
    every = dict(scores(seen))
    names = list(every)
    every |= _random(plan, plan.rng(run, "floor"), seen.shape)
    masks = _random_masks(plan, plan.rng(run, "masks"), len(sources))
    _share(replaced, members, masks, plan)
    ties = plan.rng(run, "ties").permutation(len(sources))
    kinds = (*names, *(f"{FLOOR} {r}" for r in range(plan.n_random)), *([CEILING] if plan.exact else []))
    values: dict[str, dict[str, list[Any]]] = {k: {m: [] for m in plan.metrics} for k in kinds}
    curves: dict[str, dict[str, list[Any]]] = {k: {c: [] for c in plan.curves} for k in kinds}
    for t in progress(range(len(module.targets))):
        of = _Target(replaced, members, t, np.flatnonzero(seen[t]), plan, masks)
        found = of.of_rankings({name: each[t] for name, each in every.items()}, ties)
        if plan.exact:
            found[CEILING] = of.ceiling()
        for name, (numbers, lines) in found.items():
            for metric, number in numbers.items():
                values[name][metric].append(_plain(number))
            for curve, line in lines.items():
                curves[name][curve].append([_plain(point) for point in line])
    _sensitivity(values, every, moved(seen) if "max_sensitivity" in plan.metrics else {}, seen)
    return {
        "targets": [f"{t.position} {t.text}" for t in module.targets],
        "sources": seen.sum(1).tolist(),
        "here": replaced.here.tolist(),
        "forwards": replaced.forwards,
        "tokens": replaced.tokens,
        "values": values,
        "curves": curves,
    }


def _require_sources(module: ScoreModule, seen: np.ndarray, plan: Plan) -> None:
    few = int(seen.sum(1).argmin())
    if seen[few].sum() < 2:
        target = module.targets[few]
        raise OptionError(
            f"Target {target.position} {target.text!r} sees {seen[few].sum()} source that may be replaced (special "
            "tokens stay); a ranking needs two."
        )
    most = int(seen.sum(1).max())
    if plan.exact and plan.curves and most > measures.MOST_EXACT:
        raise OptionError(
            f"The exact ceiling of {most} sources needs 2^{most} forwards; up to {measures.MOST_EXACT} are offered: "
            "take larger features, or exact='auto'."
        )


def _random(plan: Plan, rng: np.random.Generator, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Random scores, each followed by its reverse: without the first k of one is with only the last k of the other."""
    drawn: list[np.ndarray] = []
    while len(drawn) < plan.n_random:
        scores = rng.standard_normal(shape)
        drawn += [scores, -scores]
    return {f"{FLOOR} {r}": scores for r, scores in enumerate(drawn[: plan.n_random])}


def _random_masks(plan: Plan, rng: np.random.Generator, n: int) -> np.ndarray:
    """Masks ``(mask, source)`` for infidelity: each takes every source away with a probability drawn from 0 to 1."""
    count = plan.n_masks if "infidelity" in plan.metrics else 0
    return rng.random((count, n)) < rng.random((count, 1))


def _share(replaced: Replaced, members: np.ndarray, masks: np.ndarray, plan: Plan) -> None:
    shared = [_tokens(masks, members)]
    if "leave_one_out" in plan.metrics:
        shared.append(members)
    replaced.share(np.concatenate(shared))


def _tokens(masks: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Masks of sources ``(mask, source)`` as masks of tokens ``(mask, token)``."""
    return (masks.astype(np.int64) @ members.astype(np.int64)) > 0


def _sensitivity(
    values: dict[str, Any], every: Mapping[str, np.ndarray], moved: Mapping[str, Sequence[np.ndarray]], seen: np.ndarray
) -> None:
    for name in values:
        if "max_sensitivity" in values[name]:
            values[name]["max_sensitivity"] = [
                _plain(measures.max_sensitivity(every[name][t, own], np.stack([m[t, own] for m in moved[name]])))
                if name in moved
                else None
                for t, own in enumerate(seen)
            ]


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


Found = tuple[dict[str, float], dict[str, np.ndarray]]
"""Metric -> number, and curve -> values."""


@attrs.define
class _Target:
    """One target of a run: number `t`, with the sources `own` that it sees."""

    replaced: Replaced
    members: np.ndarray
    t: int
    own: np.ndarray
    plan: Plan
    masks: np.ndarray

    def scores(self, masks: np.ndarray) -> np.ndarray:
        """Its scores for masks ``(mask, own source)``."""
        return self.replaced.of_target(self.t, _tokens(masks, self.members[self.own]))

    @property
    def ks(self) -> np.ndarray:
        """How many sources the points of its curves count."""
        n = len(self.own)
        return np.array([0, *measures.counts(n, self.plan.fractions), n])

    def of_rankings(self, every: Mapping[str, np.ndarray], ties: np.ndarray) -> dict[str, Found]:
        """What each of the scores ``(source,)`` is worth."""
        broken = np.searchsorted(self.own, ties[np.isin(ties, self.own)])
        firsts = []
        for scores in every.values():
            rank = np.argsort(measures.order(scores[self.own], broken))
            firsts.append(rank[None] < self.ks[:, None])  # (point, source): the first k
        wanted = [masks for first in firsts for masks in self._of_curves(first)]
        drops_of = self._drops()
        parts = iter(np.split(self.scores(np.concatenate(wanted)), len(wanted)) if wanted else [])
        found: dict[str, Found] = {}
        for name, scores in every.items():
            lines = {curve: next(parts) for curve in self.plan.curves}
            found[name] = (self._of_lines(lines) | self._of_drops(scores[self.own], drops_of), lines)
        return found

    def _of_curves(self, first: np.ndarray) -> list[np.ndarray]:
        masks = {"deletion": first, "insertion": ~first}
        return [masks[curve] for curve in self.plan.curves]

    def _of_lines(self, lines: Mapping[str, np.ndarray]) -> dict[str, float]:
        here, shares = self.replaced.here[self.t], self.ks / len(self.own)
        found: dict[str, float] = {}
        pairs: tuple[tuple[Metric, Metric], ...] = (("deletion", "comprehensiveness"), ("insertion", "sufficiency"))
        for curve, drop in pairs:
            if curve in self.plan.metrics:
                found[curve] = measures.area(shares, lines[curve])
            if drop in self.plan.metrics:
                found[drop] = float(here - lines[curve][1:-1].mean())
        return found

    def _drops(self) -> tuple[np.ndarray, np.ndarray]:
        """How much the score drops without each source alone, and without those of each random mask."""
        here, n = self.replaced.here[self.t], len(self.own)
        alone = np.eye(n, dtype=bool) if "leave_one_out" in self.plan.metrics else np.zeros((0, n), dtype=bool)
        scores = self.scores(np.concatenate([alone, self.masks[:, self.own]]))
        drops = here - scores
        drops[np.abs(drops) <= _ROUNDING * np.maximum(np.abs(scores), np.abs(here))] = 0.0
        return drops[: len(alone)], drops[len(alone) :]

    def _of_drops(self, scores: np.ndarray, drops: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
        found = {}
        if "leave_one_out" in self.plan.metrics:
            found["leave_one_out"] = measures.rank_correlation(scores, drops[0])
        if "infidelity" in self.plan.metrics:
            found["infidelity"] = measures.infidelity(scores, self.masks[:, self.own], drops[1])
        return found

    def ceiling(self) -> Found:
        """The best that any ranking, or any scores, could reach."""
        lines: dict[str, np.ndarray] = {}
        if self.plan.curves:
            without, only = measures.best_subsets(self.scores(measures.subsets(len(self.own))))
            both = {"deletion": without[self.ks], "insertion": only[self.ks]}
            lines = {curve: both[curve] for curve in self.plan.curves}
        found, drops = self._of_lines(lines), self._drops()
        if "leave_one_out" in self.plan.metrics:
            found["leave_one_out"] = measures.rank_correlation(drops[0], drops[0])
        if "infidelity" in self.plan.metrics:
            found["infidelity"] = measures.least_infidelity(self.masks[:, self.own], drops[1])
        return found, lines


class Kept:
    """A folder with one file per text, so that an interrupted comparison goes on where it stopped.

    A file is found by a hash of all that its numbers depend on, so one that is out of date is never read.

    Raises:
        StorageError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".{uuid.uuid4().hex}.part"
                probe.write_text("")
                probe.unlink()
            except OSError as error:
                raise StorageError(
                    f"resume: the folder {str(folder)!r} cannot be written: {error.strerror}."
                ) from error

    def read(self, key: str) -> Text | None:
        """Return what was kept under a key, None if nothing was.

        Raises:
            StorageError: the file is damaged.
        """
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["key"] != key or found["format"] != _FORMAT:
                raise ValueError("another key")
            text: Text = found["text"]
            if not {"targets", "sources", "here", "forwards", "tokens", "values", "curves"} <= set(text):
                raise ValueError("fields are missing")
            return text
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StorageError(
                f"resume: {str(path)!r} is damaged; delete it, and its text is computed again."
            ) from error

    def write(self, key: str, text: Text) -> None:
        """Keep what was computed, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        path = self._path(key)
        if path is None:
            return
        part = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            try:
                with part.open("w", encoding="utf-8") as file:
                    json.dump({"format": _FORMAT, "key": key, "text": text}, file, allow_nan=False)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"resume: {str(path)!r} cannot be written: {error.strerror}.") from error

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key[:32]}.json"


def key_of(run: Run, module: ScoreModule, told: Mapping[str, Any], weights: str) -> str:
    """A hash of all that the numbers of a run depend on.

    Args:
        told: the options and given scores, as JSON. `weights`: of `weights_of`.
    """
    origin = run.provenance()
    everything = {
        "weights": weights,
        "origin": attrs.asdict(origin),
        "tokens": {stack: tokens.ids.tolist() for stack, tokens in run.transcript.tokens.items()},
        "task": [run.transcript.task, run.n_input_tokens],
        "targets": [attrs.asdict(target) for target in module.targets],
        "interventions": [_told(change.value) for change in run.under],
        "told": dict(told),
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()


def _told(value: Any) -> Any:
    """A tensor of an intervention by its numbers; its repr names only its kind."""
    if isinstance(value, Mapping):
        return [(repr(place), _told(each)) for place, each in value.items()]
    if hasattr(value, "detach"):
        return hashlib.sha256(value.detach().cpu().double().numpy().tobytes()).hexdigest()
    return repr(value)


def weights_of(run: Run) -> str:
    """A hash of the model's weights: of each parameter and buffer the name, shape, dtype and bytes."""
    import torch

    found = hashlib.sha256()
    for name, tensor in (*run.lm.model.named_parameters(), *run.lm.model.named_buffers()):
        found.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()
