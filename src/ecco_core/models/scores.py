"""ScoreModule: what is explained, as a module - embeddings in, one score per target out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import attrs
import numpy as np
import torch
from torch import nn

from ecco_core.data.labelled import LabelledArray
from ecco_core.data.results import Source, Target, TokenScores
from ecco_core.data.transcript import Transcript
from ecco_core.errors import ArchitectureError, TargetError
from ecco_core.models.architecture import Place
from ecco_core.models.gradients import Pass, values_and_gradients
from ecco_core.models.hooks import alone, evaluating, hooked


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
    share = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    before = logits[:, :-1].float().nan_to_num()
    if not torch.allclose(before[0], before[1], atol=share * float(before.abs().max()), rtol=share):
        raise ArchitectureError(
            f"{type(model).__name__} lets earlier positions see later tokens: it is not causal. This version explains "
            "causal language models."
        )


class ScoreModule(nn.Module):
    """The scores of chosen tokens as a function of the input embeddings of a run.

    The embeddings replace what the model's own embedding module returns, so position embeddings, scales and norms
    after it are the model's. The vocabulary projection is computed at the targets' rows only. The model is put in
    evaluation mode for each call and back afterwards; its parameters and flags are not touched.

    Args:
        model: a transformers model with a language-model head.
        transcript: the tokens of the run.
        targets: what to explain; all of one ``score``.

    Raises:
        TargetError: targets are missing or of several scores.
    """

    stacks = ("decoder",)

    def __init__(self, model: nn.Module, transcript: Transcript, targets: Sequence[Target]) -> None:
        super().__init__()
        if not targets:
            raise TargetError("Nothing to explain: no target was given.")
        if len({target.score for target in targets}) > 1:
            raise TargetError("All targets of one call share one score: logprob, logit or prob.")
        self.model = model
        self.targets = tuple(targets)
        self.embedding = model.get_input_embeddings()  # type: ignore[operator]
        device = self.embedding.weight.device
        self._rows = torch.tensor([target.position - 1 for target in targets], device=device)
        self.n_sources = int(self._rows.max()) + 1
        self.transcript = transcript
        self.ids = torch.tensor(transcript.explained.ids[: self.n_sources].tolist(), device=device)
        self._wanted = torch.tensor([target.token_id for target in targets], device=device)
        contrasts = [-1 if target.contrast_id is None else target.contrast_id for target in targets]
        self._contrast = torch.tensor(contrasts, device=device)
        self.score = targets[0].score

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Embeddings of the run, one tensor ``(1, token, unit)`` per stack, detached.

        Tokens that no target's prediction can see are left out.
        """
        return (self.embed(self.ids)[None],)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Embed token ids ``(token,)`` as the model does; returns ``(token, unit)``, detached."""
        with alone(self.model), torch.no_grad():
            embedded: torch.Tensor = self.embedding(ids.to(self.embedding.weight.device))
            return embedded.detach()

    def forward(self, *embeddings: torch.Tensor) -> torch.Tensor:
        """Score every target.

        Args:
            embeddings: one tensor ``(batch, token, unit)`` per stack.

        Returns:
            ``(batch, target)``, in the unit of ``self.score``, float32 or wider.
        """
        return self.run_prefix(embeddings[0], torch.arange(len(self.targets)), split=False).scores

    def values_and_gradients(self, *embeddings: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Score every target, with the gradient of each score, sharing forwards among targets.

        Args:
            embeddings: one tensor ``(batch, token, unit)`` per stack.

        Returns:
            scores ``(batch, target)`` and, per stack, gradients ``(target, batch, token, unit)``; detached.
        """
        values, gradients = values_and_gradients(self.run_prefix, self._rows, embeddings[0])
        return values, (gradients,)

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
    ) -> TokenScores:
        """Make the result of an attribution of these targets from its numbers.

        Args:
            values: ``(target, source)`` over `n_sources` tokens; `unit`: what they are in, in words.
            target_values: ``(target,)``, each score at the run's input.
            change: ``(target,)``, score(input) − score(baseline), for methods that promise to add up to it.
            total: ``(target,)``, what the method's contributions add up to; the sum of `values` if left out.
            baseline: what absence was taken to be, in words.
        """
        tokens, stack = self.transcript.explained, self.transcript.stack
        coords = {"target": [target.position for target in self.targets]}
        missed = None if change is None else change - (values.sum(1) if total is None else total)
        return TokenScores(
            values=LabelledArray(values, ("target", "source"), coords),
            tokens=self.transcript.tokens,
            sources=[Source(stack=stack, positions=(p,), text=tokens.labels[p]) for p in range(self.n_sources)],
            targets=[_valued(target, float(value)) for target, value in zip(self.targets, target_values)],
            n_input_tokens=self.transcript.n_input_tokens,
            aggregation=aggregation,
            signed=signed,
            unit=unit,
            completeness=None if missed is None else LabelledArray(missed, ("target",), coords),
            change=None if change is None else LabelledArray(change, ("target",), coords),
            baseline=baseline,
        )

    def run_prefix(self, embeddings: torch.Tensor, places: torch.Tensor, *, split: bool) -> Pass:
        """Score the targets at `places` from the tokens up to the last of their rows.

        Args:
            embeddings: ``(batch, token, unit)``, at least as long as that prefix.
            places: indices of targets.
            split: cut the graph between body and head, for `values_and_gradients`.

        Raises:
            ArchitectureError: the model's forward does not use its embedding module exactly once.
        """
        rows = self._rows[places]
        upto = int(rows.max()) + 1
        inputs = embeddings[:, :upto]
        ids = self.ids[None, :upto].expand(len(inputs), -1)
        uses = 0

        def substitute(_: torch.Tensor) -> torch.Tensor:
            nonlocal uses
            uses += 1
            return inputs * 1  # a model that edits its embeddings in place must not edit ours

        with contextlib.ExitStack() as scope:
            scope.enter_context(evaluating(self.model))
            scope.enter_context(hooked(Place(self.embedding, "output"), substitute))
            cut = _RowCut(self.model, rows, length=upto, split=split)
            scope.enter_context(cut.placed())
            output = self.model(input_ids=ids, use_cache=False, return_dict=True)
        if uses != 1:
            raise ArchitectureError(
                f"{type(self.model).__name__} passes its embedding module {uses} times in one forward; "
                "its inputs cannot be substituted there."
            )
        logits = output.logits if cut.applied else output.logits[:, rows.to(output.logits.device)]
        return Pass(self._score(logits, places), cut.hidden, cut.leaf, rows)

    def _score(self, logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Turn logits ``(batch, target, vocabulary)`` into scores ``(batch, target)``."""
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        scored = _SCORES[self.score](logits)

        def pick(ids: torch.Tensor) -> torch.Tensor:
            index = ids.to(logits.device).clamp(min=0).view(1, -1, 1).expand(len(logits), -1, 1)
            return scored.gather(-1, index)[..., 0]

        contrast = self._contrast[places].to(logits.device)
        picked = pick(self._wanted[places])
        return picked - pick(contrast) * (contrast >= 0) if bool((contrast >= 0).any()) else picked


def _valued(target: Target, value: float) -> Target:
    probability = {"logprob": math.exp(min(value, 0.0)), "prob": value}.get(target.score)
    return attrs.evolve(target, value=value, probability=None if target.contrast_id is not None else probability)


_SCORES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logit": lambda logits: logits,
    "logprob": lambda logits: logits.log_softmax(-1),
    "prob": lambda logits: logits.softmax(-1),
}


@attrs.define
class _RowCut:
    """A hook on what enters the head: keep only some rows and, with `split`, cut the graph there.

    A model whose head does not see one tensor ``(batch, token, unit)`` exactly once is left as it is.
    """

    model: nn.Module
    rows: torch.Tensor
    length: int
    split: bool
    applied: bool = False
    hidden: torch.Tensor | None = None
    leaf: torch.Tensor | None = None

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Hook the head for the time of the block."""
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        if not isinstance(head, nn.Module):
            raise ArchitectureError(f"{type(self.model).__name__} has no language-model head to explain.")
        with hooked(Place(head, "input"), self._change):
            yield

    def _change(self, hidden: torch.Tensor) -> torch.Tensor | None:
        if self.applied:
            raise ArchitectureError(f"{type(self.model).__name__} uses its head more than once in one forward.")
        if hidden.ndim != 3 or hidden.shape[1] != self.length:
            return None
        self.applied = True
        rows = hidden[:, self.rows.to(hidden.device)]
        if not (self.split and torch.is_grad_enabled()):
            return rows
        self.hidden, self.leaf = hidden, rows.detach().requires_grad_()
        return self.leaf
