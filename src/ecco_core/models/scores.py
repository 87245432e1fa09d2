"""ScoreModule: what is explained, as a module - embeddings in, one score per target out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import attrs
import torch
from torch import nn

from ecco_core.data.results import Target
from ecco_core.errors import ArchitectureError, TargetError
from ecco_core.models.architecture import Place
from ecco_core.models.gradients import Pass, values_and_gradients
from ecco_core.models.hooks import evaluating, hooked


class ScoreModule(nn.Module):
    """The scores of chosen tokens as a function of the input embeddings of a run.

    The embeddings replace what the model's own embedding module returns, so position embeddings, scales and norms
    after it are the model's. The vocabulary projection is computed at the targets' rows only. The model is put in
    evaluation mode for each call and back afterwards; its parameters and flags are not touched.

    Args:
        model: a transformers model with a language-model head.
        ids: ``(token,)`` token ids of the run.
        targets: what to explain; all of one ``score``.

    Raises:
        TargetError: targets are missing or of several scores.
    """

    stacks = ("decoder",)

    def __init__(self, model: nn.Module, ids: torch.Tensor, targets: Sequence[Target]) -> None:
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
        self.ids = ids.to(device)[: self.n_sources]
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
        with torch.no_grad():
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
        logits = output.logits if cut.applied else output.logits[:, rows]
        return Pass(self._score(logits, places), cut.hidden, cut.leaf, rows)

    def _score(self, logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Turn logits ``(batch, target, vocabulary)`` into scores ``(batch, target)``."""
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        scored = _SCORES[self.score](logits)

        def pick(ids: torch.Tensor) -> torch.Tensor:
            index = ids.clamp(min=0).view(1, -1, 1).expand(len(logits), -1, 1)
            return scored.gather(-1, index)[..., 0]

        contrast = self._contrast[places]
        picked = pick(self._wanted[places])
        return picked - pick(contrast) * (contrast >= 0) if bool((contrast >= 0).any()) else picked


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
        rows = hidden[:, self.rows]
        if not (self.split and torch.is_grad_enabled()):
            return rows
        self.hidden, self.leaf = hidden, rows.detach().requires_grad_()
        return self.leaf
