"""DeepLift's rules for what transformers are made of, for the time of a call and without touching the model.

`lifted` calls a function at the baseline, keeping what enters each operation that has a rule, then at the run, where
each of them finds its counterpart. Values are exact; gradients are DeepLift's multipliers, by which the differences of
inputs add up to the difference of outputs:

- an elementwise function multiplies by its slope between baseline and run (the rescale rule; Shrikumar, Greenside,
  Kundaje: Learning Important Features, ICML 2017, eq. 6); also one that is an autograd Function of the model's own,
  and the step of a comparison, which goes up where the two differ in sign;
- a product of two things that both change gives each the mean of the other: ``ab − a₀b₀ = (a−a₀)(b+b₀)/2 +
  (b−b₀)(a+a₀)/2`` - also in matrix products, so in attention and gated layers;
- a maximum changes by no less than what is largest at the baseline and by no more than what is largest at the run
  (`_largest`): the two share it;
- norms are made of these; softmax has a rule of its own, of the product's kind (`_shares`);
- a choice (the experts that a router sends a token to, the order of a sorting) has no difference to pass on: both
  sides take the run's, and `Tape.changed` counts what the baseline would have chosen otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch.autograd.function import BackwardCFunction
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map

from ecco_core import EccoError

T = TypeVar("T")
_BENT = 1e-3  # of the change: halfway off a straight line by more, a function is not linear


class Tracked(torch.Tensor):
    """A tensor that depends on the inputs of a call, and so does what is computed from it."""

    tape: ClassVar[Tape]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Apply a rule where there is one; everything else is taken for linear, or no matter of gradients."""
        kwargs, tape, found, bent = kwargs or {}, cls.tape, NotImplemented, False
        if tape.running and getattr(func, "__name__", "__get__") != "__get__":
            if func in _CHOICES:
                found = _CHOICES[func](tape, *args, **kwargs)
            elif tape.applies:
                args = tuple(tape.followed(a) if isinstance(a, Tracked) else a for a in args)
                found = _RULES[func](tape, *args, **kwargs) if func in _RULES else found
                bent = found is NotImplemented and tape.names is not None and tape.bent(func, args, kwargs)
        if found is NotImplemented:
            found = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
            if bent and any(t.requires_grad for t in tree_leaves(found) if isinstance(t, Tracked)):
                tape.names |= {func.__name__.strip("_")}  # type: ignore[operator]
        return found


class _Chosen(Exception):  # noqa: N818 - no error: the run's choices have to be known first
    pass


class Tape:
    """What entered the operations with a rule at the baseline, in their order.

    Args:
        names: a set, for the names of functions that are not linear and have no rule; it takes twice as long.

    Attributes:
        choices: what was chosen at the run. `made`: how many choices at the baseline; `changed`: those it would make
            otherwise.
    """

    def __init__(self, names: set[str] | None = None) -> None:
        self.kind = type("Tracked", (Tracked,), {"tape": self})
        self.names = names
        self.kept: list[tuple[torch.Tensor, ...]] = []
        self.choices: list[torch.Tensor] | None = None
        self.made = self.changed = 0
        self.here = self.choosing = self.over = False
        self.at = self.chosen = 0

    @property
    def running(self) -> bool:
        """Whether rules apply: what follows the last of the baseline's operations is no part of the function."""
        left = self.at < len(self.kept) or self.chosen < len(self.choices or ())
        return not self.over and (left or not self.here)

    @property
    def applies(self) -> bool:
        """Whether what has a rule follows it."""
        return self.running and torch.is_grad_enabled() and not self.choosing

    def between(self, function: Callable[..., T], here: Sequence[torch.Tensor], there: Sequence[torch.Tensor]) -> T:
        """Call a function at the baseline, and at the run with the multipliers between the two as its gradients."""
        self.kept, self.made, self.changed, self.here = [], 0, 0, False
        self.call(function, [tensor.detach().to(x.dtype, copy=True).requires_grad_() for tensor, x in zip(there, here)])
        self.here = True
        return self.call(function, here)

    def call(self, function: Callable[..., T], tensors: Sequence[torch.Tensor]) -> T:
        """Call a function of tensors, from the start of the tape."""
        self.at = self.chosen = 0
        result: Any = function(*(tensor.as_subclass(self.kind) for tensor in tensors))
        return self.followed(result) if isinstance(result, Tracked) else result  # type: ignore[no-any-return]

    def partners(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        """Keep what enters an operation at the baseline, or return it at the run."""
        if not self.here:
            self.kept.append(tuple(plain(tensor).detach().clone() for tensor in tensors))
            return None
        found = self.kept[self.at] if self.at < len(self.kept) else ()
        self.kept[self.at : self.at + 1] = [()]  # each is asked for once
        self.at += 1
        if [t.shape for t in found] != [t.shape for t in tensors]:
            raise EccoError("DeepLift compares operation by operation; this model does others at the baseline.")
        return found

    def wrapped(self, value: torch.Tensor) -> torch.Tensor:
        """Return a tensor as one that depends on the inputs."""
        return value.as_subclass(self.kind)

    def exactly(self, surrogate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """The value of one tensor with the gradient of another."""
        surrogate = plain(surrogate)
        return self.wrapped(plain(value).detach() + (surrogate - surrogate.detach()).to(value.dtype))

    def choice(self, natural: torch.Tensor, dim: int) -> torch.Tensor:
        """Return the indices that the run chose at this point."""
        if self.choices is None:
            raise _Chosen
        if self.choosing:
            self.choices.append(natural)
            return natural
        found = self.choices[self.chosen] if self.chosen < len(self.choices) else natural[:0]
        self.chosen += 1
        if found.shape != natural.shape:
            raise EccoError("DeepLift compares operation by operation; this model does others at the baseline.")
        if not self.here:
            other = (found.sort(dim)[0] != natural.sort(dim)[0]).any(dim)
            self.made, self.changed = self.made + other.numel(), self.changed + int(other.sum())
        return found

    def followed(self, x: torch.Tensor) -> Any:
        """What an autograd Function of the model's own made, with the rescale rule if it is elementwise."""
        with torch._C.DisableTorchFunctionSubclass():
            node = x.grad_fn
            known = x.__dict__.get("followed", x)
            if not isinstance(node, BackwardCFunction) or known is not x:
                return known
            function = type(node)._forward_cls.apply
            source = next((t for t in node.saved_tensors if _elementwise_in(function, t, x)), None)
        if source is not None:
            x.__dict__["followed"] = _elementwise(function, self, self.wrapped(source))
        elif self.names is not None:
            self.names.add(node.name().removesuffix("Backward"))
        return x.__dict__.get("followed", x)

    def bent(self, func: Any, args: Sequence[Any], kwargs: Any) -> bool:
        """Whether a function is not linear between baseline and run."""

        def moves(tensor: Any) -> bool:
            return isinstance(tensor, Tracked) and tensor.dtype.is_floating_point

        own = [t for t in tree_leaves((args, kwargs)) if moves(t)]
        kept = self.partners(*own) if own else None
        if kept is None:
            return False

        def at(*tensors: torch.Tensor) -> list[torch.Tensor]:
            rest = iter(tensors)

            def given(t: Any) -> Any:
                if moves(t):
                    return next(rest).clone()
                copied = func.__name__.endswith("_") and isinstance(t, torch.Tensor)  # it would be changed
                return plain(t).detach().clone() if copied else plain(t)

            some, named = tree_map(given, (list(args), dict(kwargs)))
            found = tree_leaves(func(*some, **named))
            return [t for t in found if isinstance(t, torch.Tensor) and t.dtype.is_floating_point]

        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            here = [plain(t) for t in own]
            for one, other, middle in zip(at(*here), at(*kept), at(*(a / 2 + b / 2 for a, b in zip(here, kept)))):
                off, size = (middle - (one / 2 + other / 2)).abs().nan_to_num(), (one - other).abs().nan_to_num()
                rounding = torch.finfo(one.dtype).eps ** 0.5 * one.abs().nan_to_num(posinf=0.0)
                if bool((off > _BENT * size + rounding).any()):
                    return True
        return False


def lifted(
    function: Callable[..., T], here: Sequence[torch.Tensor], there: Sequence[torch.Tensor], tape: Tape | None = None
) -> T:
    """Return what a function makes of `here`, with the multipliers between `there` and `here` as its gradients.

    Args:
        function: of as many tensors, doing the same operations on both.
        here: inputs that the gradients are to be taken of.
        there: the baseline, of the same shapes.

    Raises:
        EccoError: the function does other operations at the baseline than at the run.
    """
    tape = tape or Tape()
    try:
        result = tape.between(function, here, there)
    except _Chosen:
        tape.choices, tape.kept, tape.choosing = [], [], True
        with torch.no_grad():
            tape.call(function, [tensor.detach() for tensor in here])
        tape.choosing = False
        result = tape.between(function, here, there)
    tape.over, tape.kept = True, []
    return result


def plain(tensor: Any) -> Any:
    """Return a tensor without its rules; anything else as it is."""
    return tensor.as_subclass(torch.Tensor) if isinstance(tensor, Tracked) else tensor


def _floats(*tensors: Any) -> bool:
    return all(isinstance(t, Tracked) and t.dtype.is_floating_point for t in tensors)


def activated(function: Callable[..., torch.Tensor], x: torch.Tensor) -> Any:
    """An activation as one function of each number, however its model writes it."""
    found: Any = NotImplemented
    if isinstance(x, Tracked) and x.tape.applies:
        found = _elementwise(function, x.tape, x.tape.followed(x))
    return function(x) if found is NotImplemented else found


def _elementwise_in(function: Callable[..., Any], source: torch.Tensor, result: torch.Tensor) -> bool:
    """Whether a function of one tensor makes `result` of `source`, each element by itself."""
    with torch.no_grad():
        try:
            backwards = function(plain(source).flatten().flip(0))
            return bool(torch.equal(backwards.flip(0).view(result.shape), plain(result)))
        except (RuntimeError, TypeError, AttributeError, ValueError, IndexError):
            return False


def _elementwise(function: Callable[..., torch.Tensor], tape: Tape, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The rescale rule."""
    if not _floats(x) or any(isinstance(a, torch.Tensor) and a.ndim for a in (*args, *kwargs.values())):
        return NotImplemented
    kwargs.pop("inplace", None)
    kept, x = tape.partners(x), plain(x)
    if kept is None:
        return tape.wrapped(function(x, *args, **kwargs))
    there = kept[0]
    with torch.no_grad():
        after, before, change = function(x, *args, **kwargs), function(there, *args, **kwargs), x - there
    with torch.enable_grad():
        middle = ((x + there) / 2).detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(middle, *args, **kwargs).sum(), middle)
    near = torch.finfo(x.dtype).eps ** 0.5  # nearer, rounding would spoil the slope: take the derivative half way
    far = change.abs() > near * (x.abs() + there.abs())
    slope = torch.where(far & change.isfinite(), (after - before) / torch.where(far, change, 1.0), slope)
    return tape.exactly(slope * torch.where(x.isfinite(), x, 0.0), after)  # −∞ masks, here and there


def _product(multiply: Callable[..., torch.Tensor], tape: Tape, a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
    """The product rule, for any function that is linear in each of two tensors."""
    if not _floats(a, b) or kwargs.get("out") is not None:
        return NotImplemented
    kept, a, b = tape.partners(a, b), plain(a), plain(b)
    if kept is None:
        return tape.wrapped(multiply(a, b, *args, **kwargs))
    with torch.no_grad():
        value = multiply(a, b, *args, **kwargs)
        of_a, of_b = (a + kept[0]) / 2, (b + kept[1]) / 2
    return tape.exactly(multiply(a, of_b, *args, **kwargs) + multiply(of_a, b, *args, **kwargs), value)


def _in_place(rule: Callable[..., Any], tape: Tape, x: Any, *args: Any, **kwargs: Any) -> Any:
    found = rule(tape, x, *args, **kwargs)
    return found if found is NotImplemented else x.copy_(found)


def _divided(tape: Tape, a: Any, b: Any, *, rounding_mode: Any = None) -> Any:
    return a * torch.reciprocal(b) if _floats(b) and rounding_mode is None else NotImplemented


def _divided_by(tape: Tape, b: Any, a: Any) -> Any:
    return _divided(tape, a, b)


def _power(tape: Tape, x: Any, exponent: Any) -> Any:
    return NotImplemented if isinstance(exponent, torch.Tensor) else _elementwise(torch.pow, tape, x, exponent)


def _einsum(tape: Tape, equation: str, *operands: Any) -> Any:
    if len(operands) != 2:
        return NotImplemented
    return _product(lambda a, b: torch.einsum(equation, a, b), tape, *operands)


def _baddbmm(tape: Tape, added: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return (beta * added if beta else 0) + alpha * torch.bmm(batch1, batch2)


def _largest(tape: Tape, x: torch.Tensor, dim: int, keepdim: bool = False) -> torch.Tensor:
    """A maximum: with i the largest at the run and j at the baseline, ``Δxⱼ ≤ Δ max ≤ Δxᵢ``.

    So ``Δ max = s Δxᵢ + (1 − s) Δxⱼ`` with a share s from 0 to 1; of two inputs, this is ``b + relu(a − b)`` by the
    rescale rule.
    """
    kept, x = tape.partners(x), plain(x)
    if kept is None:
        return tape.wrapped(x.amax(dim, keepdim))
    there = kept[0]
    i, j = x.argmax(dim, True), there.argmax(dim, True)
    of_i, of_j = x.gather(dim, i), x.gather(dim, j)
    with torch.no_grad():
        low = there.gather(dim, j)
        least, most = of_j - low, of_i - there.gather(dim, i)
        differ = most - least > 0
        share = torch.where(differ, (of_i - low - least) / torch.where(differ, most - least, 1.0), 1.0)
        value = of_i if keepdim else of_i.squeeze(dim)
    shared = torch.where(share > 0, of_i * share, 0.0) + torch.where(share < 1, of_j * (1 - share), 0.0)
    shared = torch.where(torch.isfinite(shared), shared, 0.0)
    return tape.exactly(shared if keepdim else shared.squeeze(dim), value)


def _maximum(tape: Tape, a: Any, b: Any) -> Any:
    both = torch.stack(torch.broadcast_tensors(a, b), -1)  # type: ignore[no-untyped-call]
    return _largest(tape, both, -1) if _floats(both) else NotImplemented


def _minimum(tape: Tape, a: Any, b: Any) -> Any:
    found = _maximum(tape, -a, -b)
    return found if found is NotImplemented else -found


def _max(sign: int, tape: Tape, x: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """``torch.max`` and ``torch.min``, of two tensors or along a dimension."""
    second = dim if other is None else other
    if isinstance(second, torch.Tensor):
        return (_maximum if sign > 0 else _minimum)(tape, x, second)
    if dim is None or not _floats(x):
        return NotImplemented
    made = torch.return_types.max if sign > 0 else torch.return_types.min
    indices = (plain(x) * sign).argmax(dim, keepdim)
    return made((sign * _largest(tape, sign * x, dim, keepdim), indices))


def _amax(sign: int, tape: Tape, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return sign * _largest(tape, sign * x, dim, keepdim) if isinstance(dim, int) and _floats(x) else NotImplemented


def _compared(function: Callable[..., torch.Tensor], tape: Tape, a: Any, b: Any) -> Any:
    """A comparison, and beside it its step: 0 or 1, with the slope of the rescale rule where it changes."""
    difference = a - b
    if not _floats(difference):
        return NotImplemented
    kept, difference = tape.partners(difference), plain(difference)
    value = function(plain(a), plain(b))
    step = value.to(difference.dtype)
    result: Any = tape.wrapped(value)
    result.step = tape.wrapped(step)
    if kept is not None:
        with torch.no_grad():
            jump = step - function(kept[0], 0).to(step)
            slope = jump / torch.where(jump == 0, 1.0, difference - kept[0])
        result.step = tape.exactly(slope * difference, step)
    return result


def _where(tape: Tape, condition: Any, *branches: Any) -> Any:
    """The product rule: ``where(c, a, b) = b + c (a − b)``, with c the step of a comparison."""
    if not hasattr(condition, "step") or len(branches) != 2:
        return NotImplemented
    value: Any = torch.where(plain(condition), *map(plain, branches))
    a, b = (torch.where(torch.isfinite(plain(x)), x, 0.0) if isinstance(x, torch.Tensor) else
            x if abs(x) != torch.inf else 0.0 for x in branches)  # fmt: skip
    return tape.exactly(b + condition.step * (a - b), value)


def _masked_fill(tape: Tape, x: Any, mask: Any, value: Any) -> Any:
    return _where(tape, mask, value, x)


def _where_of(tape: Tape, x: Any, condition: Any, other: Any) -> Any:
    return _where(tape, condition, x, other)


def _bounded(x: torch.Tensor, dtype: Any) -> torch.Tensor:
    """What softmax is of, without −∞: what it masks is as good as masked by less."""
    wide = x.to(dtype or x.dtype)
    return wide.clamp(min=torch.finfo(wide.dtype).min / 4)


def _shares(x: torch.Tensor, there: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logarithms of softmax, the logarithmic means of its run and baseline, and their shares along `dim`.

    With y = exp(x − L) and m the logarithmic mean of y and y₀, ``Δy = m (Δx − ΔL)``; since y sums to 1 in both,
    ``ΔL = Σ m Δx / Σ m``: exact, and no multiplier is above 1 however far the two are apart.
    """
    with torch.no_grad():
        log, log_0 = torch.log_softmax(x, dim), torch.log_softmax(there, dim)
        change, mean, y_0 = log - log_0, log.exp(), log_0.exp_()  # a vocabulary for each target: few copies are made
        near = change.abs() < torch.finfo(log.dtype).eps ** (1 / 3)
        half = (mean + y_0).div_(2)
        mean = torch.where(near, half, mean.sub_(y_0).div_(change.masked_fill_(near, 1.0)))
        return log, mean, mean / mean.sum(dim, keepdim=True)


def _normalised(kind: str, tape: Tape, x: Any, dim: Any = -1, *_: Any, dtype: Any = None, **options: Any) -> Any:
    """Softmax, its logarithm, and the logarithm of a sum of exponentials."""
    if not _floats(x) or not isinstance(dim, int):
        return NotImplemented
    kept, x = tape.partners(x), _bounded(plain(x), dtype)
    log, mean, share = _shares(x, x if kept is None else _bounded(kept[0], dtype), dim)
    level = (share * x).sum(dim, keepdim=True)
    if kind == "softmax":
        return tape.exactly(mean * (x - level), log.exp())
    if kind == "log_softmax":
        return tape.exactly(x - level, log)
    level = tape.exactly(level, torch.logsumexp(x, dim, keepdim=True))
    return level if options.get("keepdim", bool(_ and _[0])) else level.squeeze(dim)


def _layer_norm(
    tape: Tape, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    dims, wide = tuple(range(-len(shape), 0)), _wide(x)
    centred = wide - wide.mean(dims, keepdim=True)
    normed = (centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)).to(x.dtype)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def _rms_norm(tape: Tape, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    dims, wide, least = tuple(range(-len(shape), 0)), _wide(x), torch.finfo(x.dtype).eps if eps is None else eps
    normed = (wide * torch.rsqrt((wide * wide).mean(dims, keepdim=True) + least)).to(x.dtype)
    return normed if weight is None else normed * weight


def _wide(x: Any) -> Any:
    """The same in float32 at least: in float16, squares of what passes in large models are infinite."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _variance(
    tape: Tape, x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    if not isinstance(dim, int):
        return NotImplemented
    centred = x - x.mean(dim, keepdim=True)
    fewer = int(unbiased) if correction is None else correction
    return (centred * centred).sum(dim, keepdim=keepdim) / (x.shape[dim] - fewer)


def _unit_length(tape: Tape, x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Any:
    if p != 2 or out is not None or not _floats(x):
        return NotImplemented
    return x / torch.sqrt((x * x).sum(dim, keepdim=True)).clamp_min(eps)


def _attention(
    tape: Tape, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
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


def _choice(function: Callable[..., Any], tape: Tape, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The run's choice on both sides: indices, and the values at them."""
    if not isinstance(x, Tracked):
        return NotImplemented
    found = function(plain(x), *args, **kwargs)
    if isinstance(found, torch.Tensor):
        return tape.choice(found.unsqueeze(0), 0)[0]
    dim = kwargs.get("dim", next((a for a in args[function is torch.topk :] if type(a) is int), -1))
    indices = tape.choice(found.indices, dim)
    return type(found)((x.gather(dim, indices), indices))


def _rules() -> dict[Any, Callable[..., Any]]:
    """Function -> its rule, for torch's functions, their methods and operators."""
    own = torch.Tensor
    found: dict[Any, Callable[..., Any]] = {}

    def add(rule: Callable[..., Any], *names: str, homes: Sequence[Any] = (torch, own)) -> None:
        """Add a rule for what `homes` have under these names, and for what does the same in place."""
        for name in names:
            found.update({getattr(home, name): rule for home in homes if hasattr(home, name)})
            double = f"__i{name[2:]}" if name.startswith("__") else f"{name}_"
            found.update({getattr(h, double): functools.partial(_in_place, rule) for h in homes if hasattr(h, double)})

    every = (torch, own, functional)
    for name in ("relu", "tanh", "sigmoid", "exp", "rsqrt", "sqrt", "erf", "log", "log1p", "log2", "expm1", "exp2",
                 "reciprocal", "square", "abs", "cos", "sin", "clamp", "clip", "clamp_min", "clamp_max", "gelu", "silu",
                 "softplus", "mish", "hardswish", "elu", "leaky_relu", "relu6", "logsigmoid", "hardsigmoid", "hardtanh",
                 "celu", "selu", "softsign", "tanhshrink", "hardshrink", "softshrink"):  # fmt: skip
        function = next(getattr(home, name) for home in every if hasattr(home, name))
        add(functools.partial(_elementwise, function), name, homes=every)
    found[torch.special.entr] = functools.partial(_elementwise, torch.special.entr)
    add(_power, "pow", "__pow__")
    add(functools.partial(_product, torch.mul), "mul", "multiply", "__mul__", "__rmul__")
    add(functools.partial(_product, torch.matmul), "matmul", "__matmul__", "bmm", "mm")
    add(_divided, "div", "true_divide", "divide", "__truediv__")
    add(_divided_by, "__rtruediv__", "__rdiv__")
    add(_einsum, "einsum")
    add(_baddbmm, "baddbmm")
    add(_maximum, "maximum", "fmax")
    add(_minimum, "minimum", "fmin")
    for sign, name in ((1, "max"), (-1, "min")):
        add(functools.partial(_max, sign), name)
        add(functools.partial(_amax, sign), f"a{name}")
    for name in ("gt", "ge", "lt", "le"):
        add(functools.partial(_compared, getattr(torch, name)), name, f"__{name}__")
    add(_where, "where", homes=(torch,))
    add(_where_of, "where", homes=(own,))
    add(_masked_fill, "masked_fill")
    for name in ("softmax", "log_softmax", "logsumexp"):
        add(functools.partial(_normalised, name), name, homes=every)
    add(_variance, "var")
    add(_unit_length, "normalize", homes=(functional,))
    add(_layer_norm, "layer_norm", homes=(functional,))
    add(_rms_norm, "rms_norm", homes=(functional,))
    add(_attention, "scaled_dot_product_attention", homes=(functional,))
    return found


_RULES = _rules()
_CHOICES = {
    function: functools.partial(_choice, getattr(torch, name))
    for name in ("topk", "sort", "argsort", "argmax", "argmin")
    for function in (getattr(torch, name), getattr(torch.Tensor, name))
}
