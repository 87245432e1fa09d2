"""ScoreModule: what is explained, as a module - embeddings in, one score per target out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import nn

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import Source, Target, TokenScores
from ecco_core.data.transcript import Transcript
from ecco_core.errors import ArchitectureError, TargetError
from ecco_core.models.architecture import Place
from ecco_core.models.feed import Feed
from ecco_core.models.gradients import CHUNK, Pass, values_and_gradients
from ecco_core.models.hooks import alone, evaluating, hooked
from ecco_core.models.interventions import active, prompted
from ecco_core.models.reading import without_cache
from ecco_core.registry.structure import GENERATING

ROWS_AT_ONCE = 1600  # batch × tokens of masked variants in one forward


def require_causal(model: nn.Module, ids: torch.Tensor) -> None:
    """Prove on `ids` ``(token,)`` that what is predicted at a position does not depend on later tokens.

    Raises:
        ArchitectureError: it does, as in a masked language model, or the model returns no logits.
    """
    ids = ids if len(ids) > 1 else ids.repeat(2)  # one token has nothing earlier to compare
    other = ids.clone()
    other[-1] = (other[-1] + 1) % int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    pair = torch.stack([ids, other])
    with evaluating(model), torch.no_grad():
        output = model(input_ids=pair, attention_mask=torch.ones_like(pair), use_cache=False, return_dict=True)
    logits = getattr(output, "logits", None)
    if logits is None or logits.ndim != 3 or logits.shape[1] != len(ids):
        raise ArchitectureError(f"{type(model).__name__} returns no logits per token; give a causal language model.")
    require_numbers(logits, model)
    share = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    before = logits[:, :-1].float()
    if not torch.allclose(before[0], before[1], atol=share * float(before.abs().max()), rtol=share):
        raise ArchitectureError(
            f"{type(model).__name__} lets earlier positions see later tokens: it is not causal. If it was "
            "trained to fill masks, open its checkpoint with task='masked'."
        )


def require_numbers(logits: torch.Tensor, model: nn.Module) -> None:
    """Refuse logits that are no numbers.

    Raises:
        ArchitectureError: some are NaN.
    """
    if bool(torch.isnan(logits).any()):
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

    Attributes:
        stacks: the stacks that `inputs` has a tensor for, in this order. `ids`: their token ids ``(token,)``, as far
            as any target sees them. `embeddings`: their embedding modules.
        n_sources: number of tokens in all stacks.

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
    ) -> None:
        super().__init__()
        if not targets:
            raise TargetError("Nothing to explain: no target was given.")
        if len({target.score for target in targets}) > 1:
            raise TargetError("All targets of one call share one score.")
        self.model = model
        self.transcript = transcript
        self.targets = tuple(targets)
        self.score = targets[0].score
        self.stacks = tuple(transcript.tokens)
        self.embeddings = dict(embeddings or {transcript.stack: model.get_input_embeddings()})
        self._again = again
        self._scope = scope
        self._device = next(iter(self.embeddings.values())).weight.device
        self._shifted = transcript.task in GENERATING
        ids = transcript.explained.ids
        spans = [(i, p) for i, t in enumerate(targets) for p in range(t.position, t.upto or t.position + 1)]
        wanted = [int(ids[p]) if targets[i].upto else targets[i].token_id for i, p in spans]
        self._owner = torch.tensor([i for i, _ in spans], device=self._device)
        positions = torch.tensor([p for _, p in spans], device=self._device)
        self._rows = positions - 1 if self._shifted else positions
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
        self._mask_id = mask_id
        self._own: torch.Tensor | None = None  # log-probabilities (place, vocabulary) at the run's own input
        self._masked, self._variant = self._variants()

    def _variants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Masked places of each variant of the input ``(variant, token)``, and the variant of each target."""
        ids = self.ids[self.transcript.stack]
        if self.transcript.task != "masked" or self._mask_id is None:
            return torch.zeros(1, len(ids), dtype=torch.bool), torch.zeros(len(self._rows), dtype=torch.long)
        each = (ids == self._mask_id).expand(len(self._rows), -1).clone()
        each[torch.arange(len(self._rows)), self._rows] = True
        unique: tuple[torch.Tensor, torch.Tensor] = torch.unique(each, dim=0, return_inverse=True)
        return unique[0], unique[1]

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Embeddings of the run, one tensor ``(1, token, unit)`` per stack, detached."""
        return tuple(self.embed(self.ids[stack], stack)[None] for stack in self.stacks)

    def embed(self, ids: torch.Tensor, stack: str | None = None) -> torch.Tensor:
        """Embed token ids ``(token,)`` as the model does; returns ``(token, unit)``, detached."""
        embedding = self.embeddings[stack or self.transcript.stack]
        with alone(self.model), torch.no_grad():
            embedded: torch.Tensor = embedding.forward(ids.to(embedding.weight.device))  # hooks change it afterwards
            return embedded.detach()

    def forward(self, *embeddings: torch.Tensor) -> torch.Tensor:
        """Score every target.

        Args:
            embeddings: one tensor ``(batch, token, unit)`` per stack.

        Returns:
            ``(batch, target)``, in the unit of ``self.score``, float32 or wider.
        """
        self._compare()
        return self._summed(self._each(embeddings), 1)

    def _each(self, embeddings: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores ``(batch, place)``, those of a span one by one."""
        parts = [(places, self.run_part(embeddings, places, split=False).scores) for places in self._parts(embeddings)]
        scores = torch.cat([part for _, part in parts], dim=1)
        return scores[:, torch.argsort(torch.cat([places for places, _ in parts]))]

    def _compare(self) -> None:
        """For divergences: predict at the run's own input, once."""
        if self.score == "kl" and self._own is None:
            with torch.no_grad():
                self._own = self._each(self.inputs())[0]

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
        """
        self._compare()
        values, gradients = values_and_gradients(self.run_part, self.parts(embeddings), embeddings)
        return self._summed(values, 1), tuple(self._summed(gradient, 0) for gradient in gradients)

    def _parts(self, embeddings: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Indices of targets that one forward without gradients serves: all, or those of a batch of variants."""
        each = max(1, ROWS_AT_ONCE // (embeddings[0].shape[0] * embeddings[0].shape[1]))
        order = torch.argsort(self._variant, stable=True)
        groups = self._variant[order] // each
        return tuple(order[groups == group] for group in torch.unique(groups))

    def parts(self, embeddings: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Indices of targets that one forward with gradients serves.

        A score at row r of a causal decoder depends on the tokens up to r only: targets are taken in chunks of
        neighbouring rows, each run over the prefix that it can see.
        """
        if self._shifted:
            return torch.split(torch.argsort(self._rows, stable=True), CHUNK)
        return self._parts(embeddings)

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
            targets=[_valued(target, float(value)) for target, value in zip(self.targets, target_values)],
            n_input_tokens=self.transcript.n_input_tokens,
            aggregation=aggregation,
            signed=signed,
            unit=unit,
            completeness=None if missed is None else LabelledArray(missed, ("target",), coords),
            change=None if change is None else LabelledArray(change, ("target",), coords),
            baseline=baseline,
        )

    def run_part(self, embeddings: Sequence[torch.Tensor], places: torch.Tensor, *, split: bool) -> Pass:
        """Score the targets at `places`, from the part of the embeddings that they can see.

        Args:
            embeddings: one tensor ``(batch, token, unit)`` per stack.
            places: indices of targets, as from `parts`.
            split: cut the graph between body and head, for `values_and_gradients`.

        Raises:
            ArchitectureError: the model's forward does not use its embedding modules exactly once.
        """
        if self._classes and len(embeddings[0]) > 1 and getattr(self.model.config, "pad_token_id", None) is None:
            # without a padding token, these heads take one sequence
            singles = [[tensor[n : n + 1] for tensor in embeddings] for n in range(len(embeddings[0]))]
            return Pass(torch.cat([self.run_part(single, places, split=split).scores for single in singles]))
        rows, first = self._rows[places], self._variant[places].min()
        which = (self._variant[places] - first).tolist()
        masked = self._masked[int(first) : int(first) + max(which) + 1]
        inputs, feed = self._fed(embeddings, int(rows.max()) + 1 if self._shifted else None, masked)
        batch, length = len(embeddings[0]), feed.ids[self.transcript.stack].shape[1]
        cut = _RowCut(
            self.model, rows, torch.tensor(which), variants=len(masked), batch=batch, length=length, split=split
        )
        uses = dict.fromkeys(self.stacks, 0)

        def substitute(stack: str) -> Callable[[torch.Tensor], torch.Tensor]:
            def change(_: torch.Tensor) -> torch.Tensor:
                uses[stack] += 1
                return inputs[stack] * 1  # a model that edits its embeddings in place must not edit ours

            return change

        with contextlib.ExitStack() as scope:
            scope.enter_context(evaluating(self.model))
            scope.enter_context(prompted(self.model, *([self.transcript.n_input_tokens] if self._shifted else [])))
            for stack in self.stacks:  # before the hooks of interventions
                scope.enter_context(hooked(Place(self.embeddings[stack], "output"), substitute(stack), first=True))
            if self._again is not None:
                scope.enter_context(_embedded_again(self._again, feed.ids[self.stacks[0]], inputs[self.stacks[0]]))
            scope.enter_context(self._scope())
            if not self._classes and not any(change.site == "logits" for change in active(self.model)):
                scope.enter_context(cut.placed())  # changes of logits need all rows
            output = self.model(**feed.arguments(), **without_cache(self.model), return_dict=True)
        wrong = next((stack for stack, n in uses.items() if n != 1), None)
        if wrong:
            raise ArchitectureError(
                f"{type(self.model).__name__} passes the embedding of its {wrong} {uses[wrong]} times in one forward; "
                "its inputs cannot be substituted there."
            )
        if self._classes:
            return Pass(self._score(output.logits[:, None].expand(-1, len(places), -1), places))
        logits = output.logits if cut.applied else cut.chosen(output.logits)
        return Pass(self._score(logits, places), cut.hidden, cut.leaf, cut.which, rows)

    def _fed(
        self, embeddings: Sequence[torch.Tensor], upto: int | None, masked: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], Feed]:
        """What replaces each stack's embeddings ``(variant · batch, token, unit)``, and the ids that go with it."""
        inputs, ids = {}, {}
        for stack, tensor in zip(self.stacks, embeddings):
            end = upto if stack == self.transcript.stack else None
            inputs[stack], row = tensor[:, :end], self.ids[stack][:end].expand(len(tensor), -1)
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
        several = self._classes and getattr(self.model.config, "problem_type", "") == "multi_label_classification"
        logprobs: torch.Tensor = torch.nn.functional.logsigmoid(logits) if several else logits.log_softmax(-1)
        if self.score == "entropy":
            return torch.sum(torch.special.entr(logprobs.exp()), dim=-1)
        if self.score == "kl" and self._own is None:
            return logprobs  # (batch, target, vocabulary), for `_compare`
        if self._own is not None:
            return torch.sum((own := self._own[places].to(logits.device)).exp() * (logprobs - own), dim=-1)
        scored = {"logit": logits, "logprob": logprobs, "prob": logprobs.exp()}[self.score]

        def pick(ids: torch.Tensor) -> torch.Tensor:
            index = ids.to(logits.device).clamp(min=0).view(1, -1, 1).expand(len(logits), -1, 1)
            return scored.gather(-1, index)[..., 0]

        contrast = self._contrast[places].to(logits.device)
        picked = pick(self._wanted[places])
        return picked - pick(contrast) * (contrast >= 0) if bool((contrast >= 0).any()) else picked


@contextlib.contextmanager
def _embedded_again(module: nn.Module, ids: torch.Tensor, embeddings: torch.Tensor) -> Iterator[None]:
    """Put embeddings in where a decoder embeds the encoder's tokens, as they are or one place later."""
    seen: list[torch.Tensor] = []

    def change(embedded: torch.Tensor) -> torch.Tensor:
        given = seen[-1]
        if given.shape == ids.shape and bool((given == ids).all()):
            return embeddings * 1
        if given.shape == ids.shape and bool((given[:, 1:] == ids[:, :-1]).all()):
            return torch.cat([embedded[:, :1], embeddings[:, :-1]], 1)
        raise ArchitectureError("The decoder reads other tokens than the encoder; its inputs cannot be substituted.")

    with hooked(Place(module, "input"), seen.append), hooked(Place(module, "output"), change, first=True):
        yield


def _valued(target: Target, value: float) -> Target:
    probability = {"logprob": math.exp(min(value, 0.0)), "prob": value}.get(target.score)
    return attrs.evolve(target, value=value, probability=None if target.contrast_id is not None else probability)


@attrs.define
class _RowCut:
    """A hook on what enters the head: keep only the targets' rows and, with `split`, cut the graph there.

    A model whose head does not see one tensor ``(variant · batch, token, unit)`` exactly once is left as it is.

    Attributes:
        rows, which: ``(target,)``, the row of each target, and the variant that it is in.
    """

    model: Any
    rows: torch.Tensor
    which: torch.Tensor
    variants: int
    batch: int
    length: int
    split: bool
    applied: bool = False
    hidden: torch.Tensor | None = None
    leaf: torch.Tensor | None = None

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Hook the head for the time of the block."""
        head = self.model.get_output_embeddings() if hasattr(self.model, "get_output_embeddings") else None
        with hooked(Place(head, "input"), self._change) if isinstance(head, nn.Module) else contextlib.nullcontext():
            yield

    def chosen(self, tensor: torch.Tensor) -> torch.Tensor:
        """The targets' rows ``(batch, target, unit)`` of ``(variant · batch, token, unit)``."""
        device = tensor.device
        apart = tensor.view(self.variants, self.batch, *tensor.shape[1:])
        return apart[self.which.to(device), :, self.rows.to(device)].transpose(0, 1)

    def _change(self, hidden: torch.Tensor) -> torch.Tensor | None:
        if self.applied:
            raise ArchitectureError(f"{type(self.model).__name__} uses its head more than once in one forward.")
        if hidden.ndim != 3 or hidden.shape[:2] != (self.variants * self.batch, self.length):
            return None
        self.applied = True
        rows = self.chosen(hidden)
        if not (self.split and torch.is_grad_enabled()):
            return rows
        self.hidden, self.leaf = hidden, rows.detach().requires_grad_()
        return self.leaf
