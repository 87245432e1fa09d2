"""DeepLift's rules for what transformers are made of, for the time of a call and without touching the model.

A `Pair` holds the run in the first half of its first dimension and the baseline in the second. What a model computes
from pairs are pairs. Their values are exact; their gradients are DeepLift's multipliers, by which the differences of
inputs add up to the difference of outputs:

- an elementwise function multiplies by its slope between baseline and run (the rescale rule; Shrikumar, Greenside,
  Kundaje: Learning Important Features, ICML 2017, eq. 6);
- a product of two things that both change gives each the mean of the other: ``ab − a₀b₀ = (a−a₀)(b+b₀)/2 +
  (b−b₀)(a+a₀)/2`` - also in matrix products, so in attention and gated layers;
- norms are made of these; softmax has a rule of its own, of the same kind (`_shares`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional


class Pair(torch.Tensor):
    """A tensor of runs and, behind them, their baselines."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Apply a rule where there is one; everything else is linear in pairs, or no matter of gradients."""
        rule = _RULES.get(func)
        if rule is not None and torch.is_grad_enabled():
            found = rule(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def pair(here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Return a run ``(1, …)`` and its baseline as a Pair ``(2, …)``."""
    return torch.cat([here, there.to(here.dtype)]).detach().as_subclass(Pair)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor without its rules."""
    return tensor.as_subclass(torch.Tensor)


def _exactly(surrogate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The value of one tensor with the gradient of another."""
    return (value + (surrogate - surrogate.detach()).to(value.dtype)).as_subclass(Pair)


def _elementwise(function: Callable[..., torch.Tensor], x: Any, *args: Any, **kwargs: Any) -> Any:
    """The rescale rule."""
    if not isinstance(x, Pair) or any(isinstance(a, torch.Tensor) and a.ndim for a in (*args, *kwargs.values())):
        return NotImplemented
    kwargs.pop("inplace", None)
    x = plain(x)
    with torch.no_grad():
        value = function(x, *args, **kwargs)
        (here, there), (after, before) = x.chunk(2), value.chunk(2)
        change = here - there
    with torch.enable_grad():
        middle = ((here + there) / 2).detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(middle, *args, **kwargs).sum(), middle)
    near = torch.finfo(x.dtype).eps ** 0.5  # nearer, rounding would spoil the slope: take the derivative half way
    far = change.abs() > near * (here.abs() + there.abs())
    slope = torch.where(far, (after - before) / torch.where(far, change, 1.0), slope)
    return _exactly(torch.cat([slope, slope]) * x, value)


def _product(multiply: Callable[..., torch.Tensor], a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
    """The product rule, for any function that is linear in each of two pairs."""
    if not isinstance(a, Pair) or not isinstance(b, Pair) or kwargs.get("out") is not None:
        return NotImplemented
    a, b = plain(a), plain(b)
    with torch.no_grad():
        value, (of_a, of_b) = multiply(a, b, *args, **kwargs), map(_mean, (a, b))
    return _exactly(multiply(a, of_b, *args, **kwargs) + multiply(of_a, b, *args, **kwargs), value)


def _mean(tensor: torch.Tensor) -> torch.Tensor:
    here, there = tensor.chunk(2)
    return torch.cat([(here + there) / 2] * 2)


def _divided(a: Any, b: Any, *, rounding_mode: Any = None) -> Any:
    if not isinstance(b, Pair) or rounding_mode is not None:
        return NotImplemented
    return a * torch.reciprocal(b)


def _divided_by(b: Any, a: Any) -> Any:
    return _divided(a, b)


def _power(x: Any, exponent: Any) -> Any:
    return NotImplemented if isinstance(exponent, torch.Tensor) else _elementwise(torch.pow, x, exponent)


def _einsum(equation: str, *operands: Any) -> Any:
    if len(operands) != 2:
        return NotImplemented
    return _product(lambda a, b: torch.einsum(equation, a, b), *operands)


def _baddbmm(added: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return (beta * added if beta else 0) + alpha * torch.bmm(batch1, batch2)


def _bounded(x: torch.Tensor, dtype: Any) -> torch.Tensor:
    """What softmax is of, without −∞: what it masks is as good as masked by less."""
    wide = plain(x).to(dtype or x.dtype)
    return wide.clamp(min=torch.finfo(wide.dtype).min / 4)


def _shares(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logarithms of softmax, the logarithmic means of its run and baseline, and their shares along `dim`.

    With y = exp(x − L) and m the logarithmic mean of y and y₀, ``Δy = m (Δx − ΔL)``; since y sums to 1 in both,
    ``ΔL = Σ m Δx / Σ m``: exact, and no multiplier is above 1 however far the two are apart.
    """
    with torch.no_grad():
        logs = torch.log_softmax(x, dim)
        (log, log_0), (y, y_0) = logs.chunk(2), logs.exp().chunk(2)
        change = log - log_0
        near = change.abs() < torch.finfo(logs.dtype).eps ** (1 / 3)
        mean = torch.where(near, (y + y_0) / 2, (y - y_0) / torch.where(near, 1.0, change))
        mean = torch.cat([mean, mean])
        return logs, mean, mean / mean.sum(dim, keepdim=True)


def _softmax(x: Any, dim: Any = -1, *_: Any, dtype: Any = None, **__: Any) -> Any:
    if not isinstance(x, Pair):
        return NotImplemented
    x = _bounded(x, dtype)
    logs, mean, share = _shares(x, dim)
    return _exactly(mean * (x - (share * x).sum(dim, keepdim=True)), logs.exp())


def _log_softmax(x: Any, dim: Any = -1, *_: Any, dtype: Any = None, **__: Any) -> Any:
    if not isinstance(x, Pair):
        return NotImplemented
    x = _bounded(x, dtype)
    logs, share = _shares(x, dim)[::2]
    return _exactly(x - (share * x).sum(dim, keepdim=True), logs)


def _layer_norm(x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    if not isinstance(x, Pair):
        return NotImplemented
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    normed = centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def _rms_norm(x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    if not isinstance(x, Pair):
        return NotImplemented
    dims = tuple(range(-len(shape), 0))
    normed = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    return normed if weight is None else normed * weight


def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(groups, dim=-3) for t in (key, value))
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value


def _rules() -> dict[Any, Callable[..., Any]]:
    """Function -> its rule, for torch's functions, their methods and operators."""
    own = torch.Tensor
    found: dict[Any, Callable[..., Any]] = {}

    def add(rule: Callable[..., Any], *functions: Any) -> None:
        found.update(dict.fromkeys(functions, rule))

    for name in ("relu", "tanh", "sigmoid", "exp", "rsqrt", "sqrt", "erf", "log", "log1p", "expm1", "reciprocal",
                 "square", "abs", "cos", "sin"):  # fmt: skip
        add(functools.partial(_elementwise, getattr(torch, name)), getattr(torch, name), getattr(own, name))
    for name in ("gelu", "silu", "relu", "softplus", "mish", "hardswish", "elu", "leaky_relu", "relu6", "logsigmoid",
                 "tanh", "sigmoid", "hardsigmoid", "hardtanh", "celu", "selu"):  # fmt: skip
        add(functools.partial(_elementwise, getattr(functional, name)), getattr(functional, name))
    add(_power, torch.pow, own.pow, own.__pow__)
    add(functools.partial(_product, torch.mul), torch.mul, torch.multiply, own.mul, own.__mul__, own.__rmul__)
    add(functools.partial(_product, torch.matmul), torch.matmul, own.matmul, own.__matmul__, torch.bmm, own.bmm)
    add(_divided, torch.div, torch.true_divide, own.div, own.__truediv__)
    add(_divided_by, own.__rtruediv__, own.__rdiv__)
    add(_einsum, torch.einsum)
    add(_baddbmm, torch.baddbmm, own.baddbmm)
    add(_softmax, functional.softmax, torch.softmax, own.softmax)
    add(_log_softmax, functional.log_softmax, torch.log_softmax, own.log_softmax)
    add(_layer_norm, functional.layer_norm)
    add(_rms_norm, functional.rms_norm)
    add(_attention, functional.scaled_dot_product_attention)
    return found


_RULES = _rules()
