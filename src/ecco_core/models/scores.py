"""ScoreModule: what is explained, as a module - embeddings in, one score per target out."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import Source, Target, TokenScores
from ecco_core.data.transcript import Transcript
from ecco_core.errors import ArchitectureError, TargetError, out_of_memory
from ecco_core.models.architecture import Place
from ecco_core.models.cuts import Cuts
from ecco_core.models.feed import Feed
from ecco_core.models.gradients import CHUNK, Pass, values_and_gradients
from ecco_core.models.hooks import alone, evaluating, hooked, state_of
from ecco_core.models.interventions import active, prompted
from ecco_core.models.reading import without_cache
from ecco_core.models.replacing import embedded_again, replaced
from ecco_core.products import fast_products
from ecco_core.registry.structure import GENERATING

ROWS_AT_ONCE = 1600  # batch × tokens of masked variants in one forward
#: What models raise that were not made to go on from a cache, and caches that cannot be cut.
_NOT_FROM_CACHE = (AttributeError, TypeError, ValueError, RuntimeError, IndexError, ArchitectureError)


def require_numbers(logits: torch.Tensor, model: nn.Module) -> None:
    """Refuse logits that are no numbers.

    Raises:
        ArchitectureError: some are NaN.
    """
    if bool(torch.isnan(logits.detach().amax(-1)).any()):  # NaN is largest, and no copy of them is made
        half = any(p.dtype == torch.float16 for p in model.parameters())
        raise ArchitectureError(
            f"{type(model).__name__} returns logits that are no numbers (NaN): its weights are broken"
            + (", or float16 overflows; load it with dtype='float32' or 'bfloat16'." if half else ".")
        )


class ScoreModule(nn.Module):
    """The scores of chosen targets as a function of the input embeddings of a run.

    The embeddings replace what the model's own embedding modules return, so position embeddings, scales and norms
    after them are the model's. The vocabulary projection is computed at the targets' rows only. A masked language
    model's target is masked when it is explained: targets with other masked places are other variants of the input,
    run as one batch. The model is put in evaluation mode for each call and back afterwards; its parameters and flags
    are not touched.

    Args:
        model: a transformers model with a head.
        transcript: the tokens of the run, and its task.
        targets: what to explain; all of one ``score``.
        embeddings: stack -> the module that embeds its tokens; the model's only one if left out.
        again: what embeds the same tokens once more, in the decoder of a classifier that has one.
        mask_id: the mask token of a masked language model.
        scope: makes the context that every forward runs in, such as the run's interventions.
        read: what passes this place is explained and not a prediction; the `token_id` of a target is its unit.
        deep: what enters the last block, and what leaves the weighted sum of its attention, where known.

    Attributes:
        stacks: the stacks that `inputs` has a tensor for, in this order. `ids`: the token ids ``(token,)`` of all
            stacks, as far as any target sees them. `embeddings`: their embedding modules.
        n_sources: number of tokens in `stacks`.

    Raises:
        TargetError: targets are missing or of several scores.
    """

    def __init__(
        self,
        model: Any,
        transcript: Transcript,
        targets: Sequence[Target],
        *,
        embeddings: Mapping[str, nn.Module] | None = None,
        again: nn.Module | None = None,
        mask_id: int | None = None,
        scope: Callable[[], Any] = contextlib.nullcontext,
        read: Place | None = None,
        deep: Sequence[Place] = (),
    ) -> None:
        super().__init__()
        self._made = {"embeddings": embeddings, "again": again, "mask_id": mask_id, "scope": scope, "read": read,
                      "deep": deep}  # fmt: skip
        if not targets:
            raise TargetError("Nothing to explain: no target was given.")
        if len({target.score for target in targets}) > 1:
            raise TargetError("All targets of one call share one score.")
        self.model, self.transcript = model, transcript
        self.targets, self.score = tuple(targets), targets[0].score
        self.stacks = tuple(transcript.tokens)
        self.embeddings = dict(embeddings or {transcript.stack: model.get_input_embeddings()})
        self._again, self._mask_id, self._scope, self._read, self._deep = again, mask_id, scope, read, deep
        self._inside: tuple[Place, ScoreModule, tuple[torch.Tensor, ...]] | None = None
        self._device = next(iter(self.embeddings.values())).weight.device
        self._shifted = transcript.task in GENERATING
        ids = transcript.explained.ids
        spans = [(i, p) for i, t in enumerate(targets) for p in range(t.position, t.upto or t.position + 1)]
        wanted = [int(ids[p]) if targets[i].upto else targets[i].token_id for i, p in spans]
        self._owner = torch.tensor([i for i, _ in spans], device=self._device)
        positions = torch.tensor([p for _, p in spans], device=self._device)
        self._rows = positions - 1 if self._shifted and read is None else positions
        self._classes = transcript.task == "sequence_classification"
        self.ids = {
            stack: torch.tensor(tokens.ids.tolist(), device=self.embeddings[stack].weight.device)
            for stack, tokens in transcript.tokens.items()
        }
        if self._shifted:  # what no target's prediction can see is left out
            self.ids[transcript.stack] = self.ids[transcript.stack][: int(self._rows.max()) + 1]
        self.n_sources = sum(len(ids) for ids in self.ids.values())
        self._wanted = torch.tensor(wanted, device=self._device)
        contrasts = [-1 if targets[i].contrast_id is None else targets[i].contrast_id for i, _ in spans]
        self._contrast = torch.tensor(contrasts, device=self._device)
        self._at_once = sys.maxsize  # entries of a batch that memory was enough for
        self._cached: tuple[Any, tuple[Any, torch.Tensor]] | None = None  # of which state; a cache or None, and scores
        self._own: torch.Tensor | None = None  # log-probabilities (place, vocabulary) at the run's own input
        self._masked, self._variant = self._variants()

    def _variants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Masked places of each variant of the input ``(variant, token)``, and the variant of each target."""
        ids = self.ids[self.transcript.stack]
        if self.transcript.task != "masked" or self._mask_id is None or self._read is not None:
            return torch.zeros(1, len(ids), dtype=torch.bool), torch.zeros_like(self._rows)
        each = (ids == self._mask_id).expand(len(self._rows), -1).clone()
        each[torch.arange(len(self._rows)), self._rows] = True
        unique: tuple[torch.Tensor, torch.Tensor] = torch.unique(each, dim=0, return_inverse=True)
        return unique[0], unique[1]

    def only(self, targets: Sequence[Target]) -> ScoreModule:
        """Return the module of some of the targets; its inputs are of the same tokens."""
        found = ScoreModule(self.model, self.transcript, targets, **self._made)  # type: ignore[arg-type]
        found.ids, found.n_sources, found.stacks, found._inside = self.ids, self.n_sources, self.stacks, self._inside
        self._compare()
        if self._own is not None:
            found._own = torch.cat([self._own[self._owner == self.targets.index(target)] for target in targets])
        return found

    def inside(self, place: Place, stack: str, *embeddings: torch.Tensor) -> ScoreModule:
        """Return the same targets as a function of what passes a place in the model.

        The inputs of the new module are one tensor ``(batch, token, unit)``, which replaces what passes there.

        Args:
            embeddings: what goes into the model before, as this module's inputs; the run's own if left out.

        Raises:
            TargetError: targets with different masks, which are different inputs.
        """
        if len(self._masked) > 1:
            raise TargetError("From inside of the model, explain one masked place at a time.")
        self._compare()
        found, outer = copy.copy(self), self if self._inside is None else self._inside[1]
        found._inside = (place, outer, embeddings or outer.inputs())
        found.stacks, found.n_sources = (stack,), len(self.ids[stack])
        found._cached = None
        return found

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Embeddings of the run, one tensor ``(1, token, unit)`` per stack, detached; or what passes inside there."""
        if self._inside is not None:
            return (self._inside[1].reached(self._inside[0], *self._inside[2]),)
        return tuple(self.embed(self.ids[stack], stack)[None] for stack in self.stacks)

    @torch.no_grad()
    def reached(self, place: Place, *embeddings: torch.Tensor) -> torch.Tensor:
        """What passes a place in the model, ``(batch, token, unit)``, when `embeddings` go in."""
        seen: list[torch.Tensor] = []
        with alone(self.model), hooked(place, seen.append, first=True):
            upto = len(self.ids[self.transcript.stack])
            self.run_part(embeddings, torch.arange(len(self._rows)), split=False, upto=upto)
        if len(seen) != 1:
            raise ArchitectureError(f"{type(place.module).__name__} is passed {len(seen)} times in one forward.")
        return seen[0].detach().reshape(len(embeddings[0]), -1, seen[0].shape[-1])

    def embed(self, ids: torch.Tensor, stack: str | None = None) -> torch.Tensor:
        """Embed token ids ``(token,)`` as the model does; returns ``(token, unit)``, detached."""
        embedding = self.embeddings[stack or self.transcript.stack]
        with alone(self.model), torch.no_grad():
            embedded: torch.Tensor = embedding.forward(ids.to(embedding.weight.device))  # hooks change it afterwards
            return embedded.detach()

    def forward(self, *embeddings: torch.Tensor, same: int = 0) -> torch.Tensor:
        """Score every target.

        Args:
            embeddings: one tensor ``(batch, token, unit)`` per stack.
            same: so many of the first tokens are the run's own in the whole batch. Without gradients, a model whose
                cache can be gone on from, which is tried, passes the others and up to an eighth of all before them.

        Returns:
            ``(batch, target)``, in the unit of ``self.score``, float32 or wider.
        """
        self._compare()
        start = same - same % max(4, len(embeddings[0][0]) // 8)  # few lengths: libraries keep a kernel for each shape
        with fast_products(self._device):
            cache, own = self._tried_cache() if start and not torch.is_grad_enabled() else (None, torch.empty(0))
        given, found, done = (*embeddings, *self._around(len(embeddings[0]))), [], 0
        while done < len(given[0]):
            some = [tensor[done : done + self._at_once] for tensor in given]
            try:
                with fast_products(self._device):
                    found.append(self._each(some) if cache is None else self._later(some, same, start, cache, own))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or len(some[0]) == 1:
                    raise
                self._at_once = len(some[0]) // 2
                continue
            done += len(some[0])
        return self._summed(torch.cat(found), 1)

    def _tried_cache(self) -> tuple[Any, torch.Tensor]:
        """The run's keys and values, None if the model does not go on from them as from its inputs; and its scores."""
        now = (state_of(self.model), active(self.model))
        if self._cached is None or self._cached[0] != now:
            ids = self.ids[self.transcript.stack]
            half = min(len(ids) // 2, int(self._rows.max()))
            plain = self.transcript.task == "causal" and self._inside is None and self._read is None
            own, usable = self._each(self.inputs())[0] if plain else torch.empty(0), None
            with evaluating(self.model), self._scope(), contextlib.suppress(*_NOT_FROM_CACHE):
                if plain and half > 0 and not active(self.model):
                    body = getattr(self.model, "base_model", self.model)  # logits of all rows would be large
                    cache = body(input_ids=ids[None], use_cache=True, return_dict=True).past_key_values
                    found = self._later(self.inputs(), half, half, cache, own)[0]
                    near = torch.allclose(found, own, rtol=1e-4, atol=1e-4 * float(own.abs().max()))
                    usable = cache if near else None
            self._cached = now, (usable, own)
        return self._cached[1]

    def _later(
        self, embeddings: Sequence[torch.Tensor], same: int, start: int, cache: Any, own: torch.Tensor
    ) -> torch.Tensor:
        """Scores ``(batch, place)`` from a run's cache up to `start`; of what the `same` tokens decide, the run's."""
        scores = own.repeat(len(embeddings[0]), 1)
        if bool((self._rows >= same).any()):
            past = copy.deepcopy(cache)
            past.crop(start - past.get_seq_length())
            past.batch_repeat_interleave(len(embeddings[0]))
            places = torch.nonzero(self._rows >= start)[:, 0]  # few numbers of them, too
            found = self.run_part(embeddings, places, split=False, past=past).scores
            scores[:, places] = torch.where(self._rows[places] >= same, found, scores[:, places])
        return scores

    def _each(self, embeddings: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores ``(batch, place)``, those of a span one by one."""
        every = self.parts(embeddings, gradients=False)
        parts = [(places, self.run_part(embeddings, places, split=False).scores) for places in every]
        scores = torch.cat([part for _, part in parts], dim=1)
        return scores[:, torch.argsort(torch.cat([places for places, _ in parts]))]

    def _around(self, batch: int) -> tuple[torch.Tensor, ...]:
        """What goes into the model, for scores as a function of what passes inside."""
        outer = () if self._inside is None else self._inside[2]
        return tuple(tensor.expand(batch, -1, -1) for tensor in outer)

    def _compare(self) -> None:
        """For divergences: predict at the run's own input, once."""
        if self.score == "kl" and self._own is None:
            with torch.no_grad():
                self._own = self._each((*self.inputs(), *self._around(1)))[0]

    def _summed(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """Sum the places of each span along `dim`, so that it counts targets."""
        if len(self._owner) == len(self.targets):
            return tensor
        shape = [*tensor.shape[:dim], len(self.targets), *tensor.shape[dim + 1 :]]
        return tensor.new_zeros(shape).index_add(dim, self._owner.to(tensor.device), tensor)

    def values_and_gradients(self, *embeddings: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Score every target, with the gradient of each score, sharing forwards among targets.

        Args:
            embeddings: one tensor ``(batch, token, unit)`` per stack.

        Returns:
            scores ``(batch, target)`` and, per stack, gradients ``(target, batch, token, unit)``; detached.

        Raises:
            ArchitectureError: gradients are no numbers.
        """
        self._compare()
        around = self._around(len(embeddings[0]))
        values, gradients, _ = values_and_gradients(self.run_part, self.parts(embeddings), embeddings, around)
        return self._summed(values, 1), self._of_targets(gradients)

    def rounded_gradients(
        self, rounded: Callable[[], contextlib.AbstractContextManager[Any]], exactly: int, *embeddings: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Return what `values_and_gradients` does, where blocks are passed in a context that rounds.

        Scores, and gradients down to the last block's attention, are found outside of it; of a model whose graph
        cannot be cut there, scores only.

        Args:
            rounded: makes the context, such as autocast's. `exactly`: the index of a target.

        Returns:
            scores, gradients, and those of the one target ``(1, batch, token, unit)``, found outside of the context.

        Raises:
            ArchitectureError: gradients are no numbers.
        """
        self._compare()
        around, only = self._around(len(embeddings[0])), self._owner == exactly
        parts = self.parts(embeddings, gradients=False)
        values, exact, known = values_and_gradients(self.run_part, parts, embeddings, around, only=only)
        parts = self.parts(embeddings)
        with rounded():
            _, gradients, _ = values_and_gradients(self.run_part, parts, embeddings, around, known=known)
        one = tuple(part.sum(0, keepdim=True) for part in exact)
        return self._summed(values, 1), self._of_targets(gradients), one

    def _of_targets(self, gradients: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        if not all(bool(part.sum(dtype=torch.float64).isfinite()) for part in gradients):
            raise ArchitectureError(
                f"Gradients of {type(self.model).__name__} here are no numbers (NaN or infinite): its precision "
                "is too narrow, so load it with dtype='float32'; or a baseline is singular, so take another."
            )
        return tuple(self._summed(gradient, 0) for gradient in gradients)

    def parts(self, embeddings: Sequence[torch.Tensor], *, gradients: bool = True) -> tuple[torch.Tensor, ...]:
        """Indices of targets that one forward serves: all, those of a batch of variants or, with gradients, a chunk.

        A score at row r of a causal decoder depends on the tokens up to r only: with gradients, targets are taken in
        chunks of neighbouring rows, each run over the prefix that it can see.
        """
        if self._shifted and gradients:
            return torch.tensor_split(torch.argsort(self._rows, stable=True), math.ceil(len(self._rows) / CHUNK))
        each = max(1, ROWS_AT_ONCE // (embeddings[0].shape[0] * embeddings[0].shape[1]))
        order = torch.argsort(self._variant, stable=True)
        groups = self._variant[order] // each
        return tuple(order[groups == group] for group in torch.unique(groups))

    def result(
        self,
        values: np.ndarray,
        *,
        target_values: np.ndarray,
        aggregation: str = "sum",
        signed: bool = True,
        unit: str = "units of the target",
        change: np.ndarray | None = None,
        total: np.ndarray | None = None,
        baseline: str = "",
        features: Sequence[Source] | None = None,
    ) -> TokenScores:
        """Make the result of an attribution of these targets from its numbers.

        Args:
            values: ``(target, source)`` over `features`, or the tokens of all stacks in their order. `unit`: what they
                are in.
            target_values: ``(target,)``, each score at the run's input.
            change: ``(target,)``, score(input) − score(baseline), for methods that promise to add up to it.
            total: ``(target,)``, what the method's contributions add up to; the sum of `values` if left out.
            baseline: what absence was taken to be, in words.
        """
        coords = {"target": [target.position for target in self.targets]}
        missed = None if change is None else change - (values.sum(1) if total is None else total)
        return TokenScores(
            values=LabelledArray(values, ("target", "source"), coords),
            tokens=self.transcript.tokens,
            sources=features
            or [
                Source(stack=stack, positions=(p,), text=self.transcript.tokens[stack].labels[p])
                for stack in self.stacks
                for p in range(len(self.ids[stack]))
            ],
            targets=[target.valued(float(value)) for target, value in zip(self.targets, target_values)],
            n_input_tokens=self.transcript.n_input_tokens,
            aggregation=aggregation,
            signed=signed,
            unit=unit,
            completeness=None if missed is None else LabelledArray(missed, ("target",), coords),
            change=None if change is None else LabelledArray(change, ("target",), coords),
            baseline=baseline,
        )

    def run_part(
        self,
        embeddings: Sequence[torch.Tensor],
        places: torch.Tensor,
        *,
        split: bool,
        past: Any = None,
        upto: int = 0,
        known: Sequence[torch.Tensor] = (),
    ) -> Pass:
        """Score the targets at `places`, from the part of the embeddings that they can see.

        Args:
            embeddings: one tensor ``(batch, token, unit)`` per stack; before them, what replaces what passes inside.
            places: indices of targets, as from `parts`.
            split: cut the graph, for `values_and_gradients`. `known`: the gradients of the cuts, if not to be found.
            past: the model's cache of the first tokens, which are not passed then. `upto`: so many tokens of the
                explained stack are, if more than the targets see.

        Raises:
            ArchitectureError: the model's forward does not use its embedding modules exactly once.
        """
        batch, rows = len(embeddings[0]), self._rows[places]
        if self._classes and batch > 1 and getattr(self.model.config, "pad_token_id", None) is None:
            # without a padding token, these heads take one sequence
            singles = [[tensor[n : n + 1] for tensor in embeddings] for n in range(batch)]
            scores = torch.cat([self.run_part(single, places, split=split).scores for single in singles])
            return Pass(scores, torch.zeros_like(rows), rows)
        which = (self._variant[places] - self._variant[places].min()).cpu()
        masked = self._masked[int(self._variant[places].min()) :][: int(which.max()) + 1]
        end = max(upto, int(rows.max()) + 1) if self._shifted else None
        before = 0 if past is None else int(past.get_seq_length())
        inputs, feed = self._fed(embeddings[-len(self.embeddings) :], end, masked, before)
        rows = rows - before
        puts = [(Place(self.embeddings[s], "output"), f"{s} embeddings", t) for s, t in inputs.items()]
        if self._inside is not None:
            seen = end if self.stacks[0] == self.transcript.stack else None
            puts.append((self._inside[0], "values inside", embeddings[0][:, :seen]))
        length = feed.ids[self.transcript.stack].shape[1]
        apart = len(set(zip(which.tolist(), rows.tolist()))) == len(rows) and self._read is None
        deep = self._deep if (len(known) > 1 if known else apart) else ()
        cuts = Cuts(self.model, rows, which, len(masked), batch, length, split=split, deep=deep, known=known)
        read: list[torch.Tensor] = []
        with contextlib.ExitStack() as scope:
            scope.enter_context(evaluating(self.model))
            scope.enter_context(prompted(self.model, *([self.transcript.n_input_tokens] if self._shifted else [])))
            scope.enter_context(replaced(self.model, puts, inside=bool(self._inside or self._read)))
            if self._again is not None:
                ids, tensor = next(zip(feed.ids.values(), inputs.values()))
                scope.enter_context(embedded_again(self._again, ids, tensor))
            scope.enter_context(self._scope())
            if self._read is not None:
                scope.enter_context(hooked(self._read, read.append))
            elif not self._classes and not any(change.site == "logits" for change in active(self.model)):
                scope.enter_context(cuts.placed())  # changes of logits need all rows
            cache = without_cache(self.model) if past is None else {"past_key_values": past, "use_cache": True}
            output = self.model(**feed.arguments(), **cache, return_dict=True)
        if known:
            return Pass(known[0][..., 0], which, rows, cuts.done(known[0], ()) or ())
        if self._classes and self._read is None:
            return Pass(self._score(output.logits[:, None].expand(-1, len(places), -1), places), which, rows)
        whole = output.logits if self._read is None else read[-1].view(batch, length, -1)
        logits = whole if cuts.applied else cuts.chosen(whole)
        b, n = (1, 5) if not torch.is_grad_enabled() else (len(logits), len(places))  # a copy of vocabularies is large
        pieces = places.split(n)  # type: ignore[no-untyped-call]
        each = [[self._score(*some) for some in zip(one.split(n, 1), pieces)] for one in logits.split(b)]
        scores = torch.cat([torch.cat(of_places, dim=1) for of_places in each])
        if not (split and torch.is_grad_enabled()):
            return Pass(scores, which, rows)
        found = cuts.done(scores, embeddings[: len(self.stacks)])
        if found is None:  # for this model and these targets, for good
            self._deep = ()
            return self.run_part(embeddings, places, split=split)
        return Pass(scores, which, rows, found)

    def _fed(
        self, embeddings: Sequence[torch.Tensor], upto: int | None, masked: torch.Tensor, before: int
    ) -> tuple[dict[str, torch.Tensor], Feed]:
        """What replaces each stack's embeddings ``(variant · batch, token, unit)`` from `before` on, and its ids."""
        inputs, ids = {}, {}
        for stack, tensor in zip(self.embeddings, embeddings):
            end = upto if stack == self.transcript.stack else None
            inputs[stack], row = tensor[:, before:end], self.ids[stack][before:end].expand(len(tensor), -1)
            if bool(masked.any()) and self._mask_id is not None:
                places = masked.to(tensor.device)[:, None]
                mask = self.embed(torch.tensor([self._mask_id]), stack)
                inputs[stack] = torch.where(places[..., None], mask, tensor).flatten(0, 1)
                row = torch.where(places, self._mask_id, row).flatten(0, 1)
            ids[stack] = row
        lengths = {stack: (row.shape[1],) * len(row) for stack, row in ids.items()}
        return inputs, Feed(ids, lengths)

    def _score(self, logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Turn logits ``(batch, target, vocabulary)`` into scores ``(batch, target)``."""
        require_numbers(logits, self.model)
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        if self._read is not None:
            return logits.gather(-1, self._wanted[places].to(logits.device).expand(len(logits), 1, -1).mT)[..., 0]
        several = self._classes and getattr(self.model.config, "problem_type", "") == "multi_label_classification"
        normed = nn.functional.logsigmoid if several else nn.LogSoftmax(-1)
        scored = logits if self.score == "logit" else normed(logits)
        if self.score == "entropy":
            return torch.sum(torch.special.entr(scored.exp()), dim=-1)
        if self.score == "kl" and self._own is None:
            return scored  # (batch, target, vocabulary), for `_compare`
        if self._own is not None:
            return torch.sum((own := self._own[places].to(logits.device)).exp() * (scored - own), dim=-1)

        def pick(ids: torch.Tensor) -> torch.Tensor:
            index = ids.to(logits.device).clamp(min=0).view(1, -1, 1).expand(len(logits), -1, 1)
            picked = scored.gather(-1, index)[..., 0]
            return picked.exp() if self.score == "prob" else picked

        contrast = self._contrast[places].to(logits.device)
        picked = pick(self._wanted[places])
        return picked - pick(contrast) * (contrast >= 0) if bool((contrast >= 0).any()) else picked
