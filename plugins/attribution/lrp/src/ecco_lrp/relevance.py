"""Scores and relevance of a run's targets under the rules, checked once per model and rule."""

from __future__ import annotations

import weakref
from collections.abc import Set
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import nn

from ecco_core import ArchitectureError, Context, TargetError
from ecco_lrp.graphs import unruled
from ecco_lrp.ledger import Ledger
from ecco_lrp.rules import Rule, Rules

if TYPE_CHECKING:
    import numpy as np

    from ecco_core import ScoreModule

NUMBERS = 2**24  # of gradients (target × token × unit) held at once
#: Model -> the state that it was checked in, and what was found by rule, task and interventions.
_CHECKED: weakref.WeakKeyDictionary[Any, tuple[int, dict[Any, _Checked]]] = weakref.WeakKeyDictionary()


@attrs.frozen
class _Checked:
    """What a forward that was found to have rules everywhere has called.

    Attributes:
        seen: the functions. `gates`: name of a function that is taken as a constant -> modules that it is called in.
        embeddings: modules that add embeddings of something else than tokens.
    """

    seen: frozenset[Any]
    gates: dict[str, set[str]]
    embeddings: tuple[str, ...]


class Relevance:
    """Relevance of the scores of a context, by one rule.

    Raises:
        TargetError: the scores are no logits.
    """

    def __init__(self, ctx: Context, rule: Rule) -> None:
        if ctx.options["score"] != "logit":
            raise TargetError(
                f"Relevance is of a logit or the difference of two (contrast=), found score={ctx.options['score']!r}: "
                "leave score out, or take another method such as integrated_gradients."
            )
        self.ctx, self.rule = ctx, rule
        self.model = ctx.run.lm.model
        architecture = ctx.run.lm.architecture
        self._attention = [
            module
            for stack in architecture.stacks
            for layer in range(architecture.n_layers(stack))
            for site in ("pattern", "cross_pattern")
            if (module := architecture.attention(layer, stack, site)) is not None
        ]

    def rules(self, **options: bool) -> Rules:
        """The rules, to be put in force."""
        return Rules(self.model, self.rule, self._attention, **options)

    def ledger(self) -> Ledger:
        """The rules, which also keep what takes relevance for itself."""
        return Ledger(self.model, self.rule, self._attention)

    def of(self, scores: ScoreModule) -> tuple[np.ndarray, tuple[torch.Tensor, ...]]:
        """Scores ``(target,)`` and, per stack, relevance ``(target, token, unit)`` in float32 or wider.

        Raises:
            ArchitectureError: an operation between the inputs and the scores has no rule.
        """
        checked = self.checked()
        inputs = scores.inputs()
        with self.rules() as rules:
            values, gradients = scores.values_and_gradients(*inputs)
        if rules.seen - checked.seen:  # another way through the model than the one that was checked
            self.checked(again=rules.seen)
        wide = torch.promote_types(inputs[0].dtype, torch.float32)
        found = tuple(gradient[:, 0].to(wide) * tensor[0].to(wide) for gradient, tensor in zip(gradients, inputs))
        return values[0].double().cpu().numpy(), found

    def checked(self, again: Set[Any] = frozenset()) -> _Checked:
        """Make sure that all operations have a rule; done once per state of the model, rule and interventions.

        Args:
            again: functions that a forward called which was not checked; check this one.

        Raises:
            ArchitectureError: one has none.
        """
        state, key = made_of(self.model), (self.rule, self.ctx.run.transcript.task, repr(self.ctx.run.under))
        if self.model not in _CHECKED or _CHECKED[self.model][0] != state:
            _CHECKED[self.model] = state, {}
        known = _CHECKED[self.model][1]
        if again or key not in known:
            found, before = self._check(), known.get(key)
            known[key] = attrs.evolve(found, seen=found.seen | again | (before.seen if before else frozenset()))
        return known[key]

    def _check(self) -> _Checked:
        scores = self.ctx.scores
        inputs = [tensor.detach().clone().requires_grad_() for tensor in scores.inputs()]
        with torch.inference_mode(False), torch.enable_grad(), self.rules(traced=True) as rules:
            done = scores.run_part(inputs, scores.parts(inputs)[-1][-1:], split=False)
        for operation, where in unruled(done.scores):
            name = type(self.model).__name__
            raise ArchitectureError(
                f"Relevance has no rule for {operation} in {where or name} of this {name}: take another method, such "
                "as integrated_gradients, or deep_lift, which has other rules."
            )
        own = {rules.names.get(id(module)) for module in scores.embeddings.values()}
        embeddings = tuple(sorted(rules.calls.get("embedding", set()) - own - {""}))
        return _Checked(frozenset(rules.seen), rules.gates, embeddings)


def made_of(model: nn.Module) -> int:
    """Tell what a forward does: it differs after a module, a hook, a function or a setting was changed."""
    found: list[Any] = [repr(vars(model.config)) if hasattr(model, "config") else ""]
    for module in model.modules():
        found += [type(module), *module._forward_hooks, *module._forward_pre_hooks]
        for name, value in vars(module).items():
            if isinstance(value, (bool, int, float, str)):
                found.append((name, value))
            elif callable(value) and not isinstance(value, torch.Tensor):
                found.append((name, id(value)))
    return hash(tuple(found))
