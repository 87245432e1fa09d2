"""The scores of a run's targets where some of its tokens are taken away; no masked input is passed twice.

A mask is boolean over the tokens of all stacks, one stack after the other, true where a token is replaced. What counts
of it for a target are the tokens that the target sees and that may be replaced, so two masks that differ elsewhere are
one, and a mask of the whole run passed for all targets of a causal model serves each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch

from ecco_core import OptionError, ScoreModule, Target, Tokens
from ecco_faithfulness import replacements

if TYPE_CHECKING:
    from ecco_core import Run, Source

ROWS_AT_ONCE = 800  # masks × tokens in one forward: matrix products run at full speed, memory stays small
_CLASSES = ("sequence_classification", "token_classification")


class Replaced:
    """Scores of a run's targets for masks.

    Args:
        module: the targets. `replacement`: a way of `replacements.WORDS`. `n_draws`: texts drawn for ``sample``.

    Attributes:
        replaceable: boolean ``(target, token)``: tokens that a target sees and that may be replaced: all but special
            tokens, the token that a decoder's answer starts from, and the place of a masked target itself.
        forwards: how many masked inputs went through the model; `tokens` how many tokens these had together.
        here: ``(target,)``, the scores with nothing replaced.
    """

    def __init__(self, run: Run, module: ScoreModule, replacement: str, n_draws: int, rng: np.random.Generator) -> None:
        self.run, self.module, self._removing = run, module, replacement == "remove"
        self._shifted = module.transcript.task in ("causal", "seq2seq")
        if self._removing and module.score == "kl":
            raise OptionError(
                "replacement='remove' is not for score='kl': a divergence compares with what the whole run predicts; "
                "take mean, zero or sample."
            )
        self._inputs = module.inputs()
        self._filled = replacements.filled(replacement, run, module, n_draws, rng)
        self._own = {target: module.only([target]) for target in module.targets} if len(module.targets) > 1 else {}
        self._stack_of = np.concatenate([np.full(len(module.ids[s]), i) for i, s in enumerate(module.stacks)])
        self._place_of = np.concatenate([np.arange(len(module.ids[s])) for s in module.stacks])
        self.replaceable = np.stack([replaceable(run, module, target) for target in module.targets])
        self._known: dict[tuple[int, bytes], float] = {}
        self.forwards = self.tokens = 0
        nothing = np.zeros((1, module.n_sources), dtype=bool)
        self.here = np.array([self.of_target(t, nothing)[0] for t in range(len(module.targets))])

    def share(self, masks: np.ndarray) -> None:
        """Pass masks ``(mask, token)`` once for all targets, to be asked for by `of_target`.

        Not those whose inputs are their own: shortened, itself masked, or a generated span, which sees its own tokens.
        """
        alike = [t for t, target in enumerate(self.module.targets) if not (self._shifted and target.upto)]
        if self._removing or len(alike) < 2 or self.module.transcript.task == "masked":
            return
        for some in self._batches(np.unique(masks & self.replaceable[alike].any(0), axis=0)):
            scores = self._passed(self.module, some)
            for t in alike:
                may = self.replaceable[t]
                self._known.update({(t, _key(mask & may)): float(s) for mask, s in zip(some, scores[:, t])})

    def of_target(self, t: int, masks: np.ndarray) -> np.ndarray:
        """Scores ``(mask,)`` of target number `t` for masks ``(mask, token)``."""
        masks = masks & self.replaceable[t]
        keys = [(t, _key(mask)) for mask in masks]
        new = np.array(list({key: mask for key, mask in zip(keys, masks) if key not in self._known}.values()))
        if len(new) and self._removing:
            self._shortened(t, new)
        elif len(new) and self.module.transcript.task in _CLASSES:
            self.share(new) if len(self.module.targets) > 1 else self._each(t, new)
        elif len(new):
            self._each(t, new)
        return np.array([self._known[key] for key in keys])

    def _each(self, t: int, masks: np.ndarray) -> None:
        module = self._own.get(self.module.targets[t], self.module)
        for some in self._batches(masks):
            scores = self._passed(module, some)[:, 0]
            self._known.update({(t, _key(mask)): float(s) for mask, s in zip(some, scores)})

    def _batches(self, masks: np.ndarray) -> Iterator[np.ndarray]:
        """A few masks at a time, those that share the longest beginnings with the run together."""
        size = max(1, ROWS_AT_ONCE // self.module.n_sources)
        ordered = masks[np.argsort([-_first(mask) for mask in masks], kind="stable")]
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    @torch.no_grad()
    def _passed(self, module: ScoreModule, masks: np.ndarray) -> np.ndarray:
        """Scores ``(mask, target)`` of a module, averaged over draws."""
        # to find out whether a module can go on from a cache takes three forwards: too many for one target of several
        same = min(map(_first, masks)) if len(module.stacks) == 1 and module is self.module else 0
        split = np.cumsum([len(module.ids[s]) for s in module.stacks])[:-1]
        total = np.zeros((len(masks), len(module.targets)))
        for draw in self._filled:
            mixed = [
                torch.where(torch.from_numpy(gone).to(here.device)[..., None], there, here)
                for gone, here, there in zip(np.split(masks, split, axis=1), self._inputs, draw)
            ]
            total += module(*mixed, same=same).double().cpu().numpy()
        self._count(len(masks) * len(self._filled), module)
        return total / len(self._filled)

    def _count(self, n: int, module: ScoreModule) -> None:
        if module.transcript.task == "masked":  # a span's tokens are masked one after the other
            n *= sum((target.upto or target.position + 1) - target.position for target in module.targets)
        self.forwards += n
        last = max(target.upto or target.position + 1 for target in module.targets) - 1
        ends = {
            s: last if self._shifted and s == module.transcript.stack else len(module.ids[s]) for s in module.stacks
        }
        self.tokens += n * sum(ends.values())

    def _shortened(self, t: int, masks: np.ndarray) -> None:
        """Scores where tokens are removed; where none of a stack would be left, one mean embedding stands there."""
        target = self.module.targets[t]
        groups: dict[tuple[tuple[int, ...], int], list[tuple[np.ndarray, np.ndarray]]] = {}
        own = self._stack_of == self.module.stacks.index(target.stack)
        ahead = own & (self._place_of >= target.position) & self._shifted
        for mask in masks:
            kept = ~mask
            for i in range(len(self.module.stacks)):
                if not kept[(self._stack_of == i) & ~ahead].any():
                    kept[np.flatnonzero(self._stack_of == i)[0]] = True
            before = int((~kept[own & (self._place_of < target.position)]).sum())
            lengths = tuple(int(kept[self._stack_of == i].sum()) for i in range(len(self.module.stacks)))
            groups.setdefault((lengths, before), []).append((mask, kept))
        for (lengths, before), group in groups.items():
            module = self._shorter(target, group[0][1], before)
            size = max(1, ROWS_AT_ONCE // sum(lengths))
            for start in range(0, len(group), size):
                some = group[start : start + size]
                scores = self._pass_shorter(module, some)
                self._known.update({(t, _key(mask)): float(s) for (mask, _), s in zip(some, scores)})

    def _shorter(self, target: Target, kept: np.ndarray, before: int) -> ScoreModule:
        """The target in a run without some tokens."""
        old, tokens = self.module.transcript, {}
        for i, stack in enumerate(self.module.stacks):
            seen, every = kept[self._stack_of == i], old.tokens[stack]
            places = [*np.flatnonzero(seen), *range(len(seen), len(every))]
            fields = (
                [getattr(every, name)[p] for p in places] for name in ("texts", "labels", "starts_word", "special")
            )
            tokens[stack] = Tokens(every.ids[places], *fields)
        upto = None if target.upto is None else target.upto - before
        return ScoreModule(
            self.module.model,
            attrs.evolve(old, tokens=tokens),
            [attrs.evolve(target, position=target.position - before, upto=upto)],
            embeddings=self.module.embeddings,
            mask_id=self.run.lm.tokenizer.mask_token_id,
        )

    @torch.no_grad()
    def _pass_shorter(self, module: ScoreModule, group: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        mixed = []
        for i, (here, there) in enumerate(zip(self._inputs, self._filled[0])):
            rows = []
            for mask, kept in group:
                of = self._stack_of == i
                stands = torch.where(torch.from_numpy(mask[of]).to(here.device)[:, None], there[0], here[0])
                rows.append(stands[torch.from_numpy(np.flatnonzero(kept[of])).to(here.device)])
            mixed.append(torch.stack(rows))
        found: np.ndarray = module(*mixed)[:, 0].double().cpu().numpy()
        self._count(len(group), module)
        return found


def replaceable(run: Run, module: ScoreModule, target: Target) -> np.ndarray:
    """Which tokens a target sees and may be replaced: boolean ``(token,)`` over all stacks."""
    tokenizer, found = run.lm.tokenizer, []
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    unknown = None if tokenizer.unk_token_id in ends else tokenizer.unk_token_id  # a word it has no entry for
    for stack in module.stacks:
        tokens, n = module.transcript.tokens[stack], len(module.ids[stack])
        may = ~np.array(tokens.special[:n]) | (tokens.ids[:n] == unknown)
        if stack == target.stack:
            if module.transcript.task in ("causal", "seq2seq"):
                may[target.position :] = False
            elif target.kind == "masked":
                may[target.position : target.upto or target.position + 1] = False
            if module.transcript.task == "seq2seq":
                may[0] = False
        found.append(may)
    return np.concatenate(found)


def members(module: ScoreModule, sources: Sequence[Source]) -> np.ndarray:
    """Which tokens a source is made of: boolean ``(source, token)``."""
    places = [(stack, p) for stack in module.stacks for p in range(len(module.ids[stack]))]
    return np.array([[stack == s.stack and p in s.positions for stack, p in places] for s in sources])


def seen(run: Run, module: ScoreModule, sources: Sequence[Source]) -> np.ndarray:
    """Which sources a target sees and may be replaced, some of their tokens at least: ``(target, source)``."""
    may = np.stack([replaceable(run, module, target) for target in module.targets])
    return np.asarray((members(module, sources)[None] & may[:, None]).any(2))


def _key(mask: np.ndarray) -> bytes:
    return np.packbits(mask).tobytes()


def _first(mask: np.ndarray) -> int:
    """Number of tokens before the first that is replaced."""
    return int(mask.argmax()) if mask.any() else len(mask)
