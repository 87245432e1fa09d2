"""Where the relevance that no token has went: to what is added, and into attention's softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from ecco_lrp.rules import Rules, live, positional

if TYPE_CHECKING:
    from ecco_core import ScoreModule

_BIASED = {functional.linear: 2, torch.conv1d: 2, functional.conv1d: 2, functional.layer_norm: 3}
_CHANGED = {"add_", "__iadd__", "sub_", "__isub__"}
_SUMS = {"add", "__add__", "__radd__", "sub", "__sub__", "__rsub__", "rsub", "masked_fill", "masked_fill_"} | _CHANGED
_JOINED = {"cat", "stack", "concat"}
_FIRST = {"addmm", "baddbmm", "addcmul"}
BIASES, ADDED, SOFTMAX = "biases", "embeddings and constants that are added", "attention's softmax"


class Ledger(Rules):
    """The rules, which also keep what takes relevance for itself, of the forwards in a block.

    A constant that is added to something has its value times the gradient there. A softmax has what leaves it, times
    the gradient, minus the same of what enters: of weights s and gradients g at them, ``Σ s g − Σ x s (g − Σ s g)``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, biases=True, **options)
        self._added: list[tuple[str, torch.Tensor]] = []
        self._passed: list[tuple[list[torch.Tensor], torch.Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Have each constant that is added be a leaf of the graph."""
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if not torch.is_grad_enabled() or not any(map(_alive, (*args, *kwargs.values()))):
            return super().__torch_function__(func, types, args, kwargs)
        args = list(positional(args, kwargs) if name in _SUMS | _JOINED | _FIRST else args)
        if func in _BIASED:
            self._bias(args, kwargs, _BIASED[func])
        elif name in _FIRST and not live(args[0]):
            args[0] = self._leaf(BIASES, args[0], args[0])
        elif name in _SUMS or name == "where":
            like = next((a for a in args if live(a)), args[0])
            leaves = [a if live(a) else self._leaf(ADDED, a, like) for a in args]
            if name in _CHANGED and not live(args[0]):
                leaves[0] = args[0].copy_(leaves[0])  # the sum is written there
            args = leaves
        elif name in _JOINED:
            like = next(a for a in args[0] if live(a))
            args[0] = [a if live(a) else self._leaf(ADDED, a, like) for a in args[0]]
        attention = func is functional.scaled_dot_product_attention or (name == "softmax" and self.attends())
        if attention and self.rule == "attnlrp":
            args = [a * 1 if live(a) else a for a in args]
        found = super().__torch_function__(func, types, tuple(args), kwargs)
        if attention and self.rule == "attnlrp":
            self._passed.append(([a for a in args if live(a)], found))
        return found

    def _bias(self, args: list[Any], kwargs: dict[str, Any], place: int) -> None:
        holder: Any = args if len(args) > place else kwargs
        key: Any = place if len(args) > place else "bias"
        if holder is args or key in kwargs:
            holder[key] = self._leaf(BIASES, holder[key], args[0])

    def _leaf(self, kind: str, added: Any, like: torch.Tensor) -> Any:
        """The same constant, of which a gradient can be taken."""
        if isinstance(added, (int, float)) and not isinstance(added, bool):
            added = torch.tensor(added, dtype=like.dtype, device=like.device)
        if not isinstance(added, torch.Tensor) or not added.is_floating_point():
            return added
        leaf = nn.Parameter(added.detach().clone())
        self._added.append((kind, leaf))
        return leaf

    def shares(self, scores: torch.Tensor) -> dict[str, float]:
        """What kind of thing took how much of the sum of some scores' relevance."""
        ends = [tensor for inputs, output in self._passed for tensor in (*inputs, output)]
        leaves = [leaf for _, leaf in self._added]
        gradients = torch.autograd.grad(scores.sum(), [*leaves, *ends], allow_unused=True)
        found = dict.fromkeys((BIASES, ADDED, SOFTMAX), 0.0)
        for (kind, leaf), gradient in zip(self._added, gradients):
            found[kind] += _relevance(leaf, gradient)
        of_ends = iter(gradients[len(leaves) :])
        for inputs, output in self._passed:
            found[SOFTMAX] -= sum(_relevance(tensor, next(of_ends)) for tensor in inputs)
            found[SOFTMAX] += _relevance(output, next(of_ends))
        return found


def _relevance(tensor: torch.Tensor, gradient: torch.Tensor | None) -> float:
    if gradient is None:
        return 0.0
    product = tensor.detach().double() * gradient.double()
    return float(torch.where(gradient == 0, 0.0, product).sum())  # a mask's infinity has none


def _alive(given: Any) -> bool:
    return any(map(live, given)) if isinstance(given, (list, tuple)) else live(given)


def ledger(scores: ScoreModule, rules: Callable[[], Ledger]) -> tuple[dict[str, float], float]:
    """What took how much of the relevance of the sum of all scores, and what is left that nothing accounts for."""
    inputs = [tensor.detach().clone().requires_grad_() for tensor in scores.inputs()]
    total: dict[str, float] = {}
    left = 0.0
    with torch.inference_mode(False), torch.enable_grad():
        for places in scores.parts(inputs):
            kept = rules()
            with kept:
                done = scores.run_part(inputs, places, split=False).scores
            gradients = torch.autograd.grad(done.sum(), inputs, retain_graph=True, allow_unused=True)
            tokens = sum(_relevance(tensor, gradient) for tensor, gradient in zip(inputs, gradients))
            shares = kept.shares(done)
            left += float(done.detach().double().sum()) - tokens - sum(shares.values())
            total = {kind: total.get(kind, 0.0) + share for kind, share in shares.items()}
    return total, left
