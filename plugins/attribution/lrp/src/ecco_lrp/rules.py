"""Relevance as a gradient: rules for what transformers are made of, in force for the time of a block.

With `Rules` in force, a forward returns the same values, bit by bit, and its backward passes relevance: at any place,
relevance is the value times the gradient there. The rules, per operation:

- a norm's scale (``rsqrt``, ``sqrt``, ``var``, ``std``, a vector norm, LayerNorm's and RMSNorm's own) is a constant;
- an elementwise function with f(0) = 0 has the gradient ``f(x) / x`` (the identity rule), f'(0) at 0; an activation
  module is one function, whatever it is computed of;
- the relevance of a product of n things that depend on the input is shared equally: each gradient is one n-th (the
  uniform rule), in matrix products too;
- attention's softmax has its own gradient (``attnlrp``; Achtibat et al., AttnLRP, ICML 2024, eq. 13), or the weights
  of attention are constants (``cp``; Ali et al., ICML 2022);
- what else has no value of 0 at 0 is a gate and a constant, so that what it multiplies has all of the relevance (the
  rule for gates of Arras et al., WASSA 2017): sigmoid, softplus, exp, a router's softmax, a divisor.

Operations are the handle, not the architecture's sites: a mode of `torch.overrides` sees each function that is called
in this thread, in whatever module, so gates and products that no site names have their rule too. Sites would name the
norms and activations of known architectures, but neither what happens between modules nor those of unknown ones. Three
things are told by modules: activations, whose `forward` is wrapped on the instance for the time of the block; which
softmax is attention's; and where a function without a rule was called.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Rule = Literal["attnlrp", "cp"]
_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()
_MISSING = object()
_ROUTER = re.compile("Router|Gating|Gate$")  # in the name of a module's class


class _Carried(torch.autograd.Function):
    """A value that was computed without a graph, given the gradient ``factor · g`` to `x`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        ctx.mark_dirty(value)  # it becomes part of the graph itself, without a copy
        ctx.save_for_backward(factor)
        ctx.dtype = x.dtype
        return value

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        return (g * ctx.saved_tensors[0]).to(ctx.dtype), None, None


class _LayerNorm(torch.autograd.Function):
    """LayerNorm with a constant scale: subtract the mean, multiply."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, value: torch.Tensor, factor: torch.Tensor, dims: int
    ) -> torch.Tensor:
        ctx.mark_dirty(value)
        ctx.save_for_backward(factor)
        ctx.dims, ctx.dtype = tuple(range(-dims, 0)), x.dtype
        return value

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        scaled = g * ctx.saved_tensors[0]
        of_bias = g.flatten(0, g.ndim - len(ctx.dims) - 1).sum(0) if ctx.needs_input_grad[1] else None
        return (scaled - scaled.mean(ctx.dims, keepdim=True)).to(ctx.dtype), of_bias, None, None, None


def _carried(x: torch.Tensor, value: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _Carried.apply(x, value, factor)  # type: ignore[no-untyped-call]
    return found


class Rules(TorchFunctionMode):
    """The rules in force for the time of a ``with`` block, in this thread and for this model.

    Args:
        model: its activation modules are taken as one function each.
        attention: modules whose softmax is attention's, besides those that are called so.
        traced: also keep, with each node of the graph, which rule made it and where, for `ecco_lrp.graphs`.
        biases: also give gradients to the biases of norms, for a ledger.

    Attributes:
        gates: name of a function that was taken as a constant -> modules that it was called in, if `traced`.
        calls: name of a function -> modules that it was called in, if `traced`.
        seen: the functions that were called.
    """

    def __init__(
        self,
        model: nn.Module,
        rule: Rule = "attnlrp",
        attention: Sequence[nn.Module] = (),
        *,
        traced: bool = False,
        biases: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.rule, self.traced, self.biases = model, rule, traced, biases
        self.attention = {id(module) for module in attention}
        self.attention |= {id(m) for m in model.modules() if "attention" in type(m).__name__.lower()}
        self.routers = {id(m) for m in model.modules() if _ROUTER.search(type(m).__name__)} - self.attention
        self.names = {id(module): name for name, module in model.named_modules()}
        self.gates: dict[str, set[str]] = {}
        self.calls: dict[str, set[str]] = {}
        self.seen: set[Any] = set()
        self._slopes: dict[int, float | None] = {}
        self._wrapped = contextlib.ExitStack()
        self._weights: list[Any] = []

    def __enter__(self) -> Rules:
        with _LOCKS_LOCK:
            lock = _LOCKS.setdefault(self.model, threading.RLock())
        with contextlib.ExitStack() as scope:
            scope.enter_context(lock)
            for module in self.model.modules():
                self._weights += map(_as_weight, filter(live, (*vars(module).values(), *module.buffers(False))))
                if _may_be_activation(module):
                    scope.enter_context(_forward_of(module, functools.partial(_activation, self, module)))
            super().__enter__()  # type: ignore[no-untyped-call]
            self._wrapped = scope.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)  # type: ignore[no-untyped-call]
        finally:
            self._wrapped.close()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Apply the rule of a function that has one; call it as it is otherwise."""
        kwargs = kwargs or {}
        self.seen.add(func)
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        traced, where = self.traced and getattr(func, "__name__", "__get__") != "__get__", ""
        if traced:  # what entered and has no mark was made by a function that no mode sees
            where = self.where()
            trace([*args, *kwargs.values()], ("", where, False))
        rule = _RULES.get(func)
        if rule is not None:
            args = positional(args, kwargs)
        found = NotImplemented if rule is None else rule(self, func, *args, **kwargs)
        ruled = found is not NotImplemented
        found = found if ruled else func(*args, **kwargs)
        if traced:
            name = func.__name__.strip("_")
            trace([found, *args[:1]], (name, where, ruled))
            self.calls.setdefault(name, set()).add(where)
        return found

    def where(self) -> str:
        """Name of the innermost module that runs, empty outside of the model."""
        return next((self.names[found] for found in self._running()), "")

    def attends(self) -> bool:
        """Whether an attention module runs, and no router in it."""
        known = (found for found in self._running() if found in self.attention or found in self.routers)
        return next(known, None) in self.attention

    def _running(self) -> Iterator[int]:
        frame: Any = sys._getframe(1)
        while frame is not None:
            found = frame.f_locals.get("self")
            if isinstance(found, nn.Module) and id(found) in self.names:
                yield id(found)
            frame = frame.f_back

    def gate(self, func: Any) -> None:
        """Keep that a function is taken as a constant."""
        if self.traced and (where := self.where()):
            self.gates.setdefault(func.__name__.strip("_"), set()).add(where)


def live(tensor: Any) -> bool:
    """Whether a tensor depends on what relevance is asked for, and not on the model's parameters alone."""
    if not isinstance(tensor, torch.Tensor) or not tensor.requires_grad:
        return False
    return not isinstance(tensor, nn.Parameter) and live_node(get_gradient_edge(tensor).node)


def _as_weight(tensor: torch.Tensor) -> Any:
    """Have a tensor that a module holds not be live, as long as what is returned is kept."""
    node: Any = get_gradient_edge(tensor).node
    node.metadata["live"] = False
    return node


def live_node(node: Any) -> bool:
    """Whether a node of a graph depends on a leaf that is no parameter; kept with the node."""
    todo = [node]
    while todo:
        top = todo[-1]
        if "live" in top.metadata:
            todo.pop()
        elif hasattr(top, "variable"):
            top.metadata["live"] = not isinstance(top.variable, nn.Parameter)
        else:
            before: list[Any] = [n for n, _ in top.next_functions if n is not None]
            unknown = [n for n in before if "live" not in n.metadata]
            if unknown and not any(n.metadata.get("live") for n in before):
                todo += unknown
            else:
                top.metadata["live"] = any(n.metadata.get("live") for n in before)
    return bool(node.metadata["live"])


def trace(tensors: Any, mark: tuple[str, str, bool]) -> None:
    """Keep with the new nodes behind tensors the function's name, where it was called, and whether it has a rule."""
    todo: list[Any] = [t.grad_fn for t in tree_leaves(tensors) if isinstance(t, torch.Tensor) and t.grad_fn is not None]
    while todo:
        node = todo.pop()
        if "called" not in node.metadata and not hasattr(node, "variable"):
            node.metadata["called"] = mark
            todo += [n for n, _ in node.next_functions if n is not None]


def positional(args: Any, kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a function, with those that were named ``input`` or ``other`` at their place."""
    first = [kwargs.pop(name) for name in ("input", "tensors") if name in kwargs]
    return (*first, *args, *(kwargs.pop(name) for name in ("other", "exponent") if name in kwargs))


def plainly(tensor: Any) -> Any:
    """A tensor without its history; anything else as it is."""
    return tensor.detach() if isinstance(tensor, torch.Tensor) else tensor


def _half(g: torch.Tensor) -> torch.Tensor:
    return g * 0.5


@contextlib.contextmanager
def _forward_of(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Have one instance run another forward; it is given its own as the first argument."""
    own, before = module.forward, vars(module).get("forward", _MISSING)
    thread = threading.get_ident()

    def called(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:  # the model is another thread's too
            return own(*args, **kwargs)
        return forward(own, *args, **kwargs)

    module.forward = called
    try:
        yield
    finally:
        if before is _MISSING:
            del module.forward
        else:
            module.forward = before


def _may_be_activation(module: nn.Module) -> bool:
    """Whether a module has nothing inside that could mix units: no module, and no parameter but numbers."""
    plain = not any(True for _ in module.children()) and all(p.numel() <= 1 for p in module.parameters())
    return plain and not isinstance(module, (nn.Identity, nn.modules.dropout._DropoutNd))


def _activation(rules: Rules, module: nn.Module, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The identity rule for a module that is one elementwise function."""
    if len(args) != 1 or kwargs or not torch.is_grad_enabled() or not live(args[0]):
        return own(*args, **kwargs)
    x, key, inplace = args[0], id(module), getattr(module, "inplace", False) is True

    def function(given: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = own(given.clone() if inplace else given)
        return found

    with torch._C.DisableTorchFunction():
        if key not in rules._slopes:
            rules._slopes[key] = _slope_at_zero(function, x.dtype, x.device)
        slope = rules._slopes[key]
        if slope is not None:
            with torch.no_grad():
                value = function(x)
            found = _by_share(x, value, slope)
            found = x.copy_(found) if inplace else found
            if rules.traced:
                trace(found, (type(module).__name__, rules.names[key], True))
            return found
    return own(x)


def _slope_at_zero(function: Callable[..., Any], dtype: torch.dtype, device: torch.device) -> float | None:
    """f'(0) of an elementwise function with f(0) = 0; None if it is no such function, or gives or changes its input."""
    with torch._C.DisableTorchFunction(), torch.enable_grad():
        probe = torch.tensor([[0.0, -2.0, 0.5], [1.5, -0.25, 3.0]], dtype=dtype, device=device)
        try:
            value, one = function(given := probe.clone()), function(probe[1:, 1:2].clone())
            zero = torch.zeros((), dtype=dtype, device=device, requires_grad=True)
            at_zero = function(zero * 1)
            (slope,) = torch.autograd.grad(at_zero, zero)
        except (RuntimeError, TypeError, AttributeError, ValueError, IndexError):
            return None
    elementwise = isinstance(value, torch.Tensor) and value.shape == probe.shape
    elementwise = elementwise and value.data_ptr() != given.data_ptr() and torch.equal(given, probe)
    elementwise = elementwise and torch.allclose(one, value[1:, 1:2], rtol=1e-2)
    return float(slope) if elementwise and float(at_zero.detach()) == 0 else None


def _by_share(x: torch.Tensor, value: torch.Tensor, slope: float) -> torch.Tensor:
    with torch.no_grad():
        near = x.abs() < torch.finfo(x.dtype).tiny
        factor = torch.where(near, slope, value / x)
    return _carried(x, value, factor)


@functools.cache
def _slope_of(function: Any, extra: tuple[Any, ...]) -> float | None:
    return _slope_at_zero(lambda x: function(x, *extra[0], **dict(extra[1])), torch.float64, torch.device("cpu"))


def _elementwise(rules: Rules, func: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The identity rule, or a constant where f(0) is not 0."""
    if not live(x):
        return NotImplemented
    inplace = kwargs.pop("inplace", False)
    if tensors := [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]:  # such as bounds
        with torch.no_grad():
            at_zero = func(torch.zeros_like(x), *args, **kwargs)
        slope = None if any(map(live, tensors)) or bool(at_zero.any()) else 1.0
    else:
        slope = _slope_of(func, (args, tuple(kwargs.items())))
    if slope is None:
        found = _constant(rules, func, x, *args, **kwargs)
    else:
        with torch.no_grad():
            value = func(x, *args, **kwargs)
        found = _by_share(x, value, slope)
    return x.copy_(found) if inplace else found


def _power(rules: Rules, func: Any, x: Any, exponent: Any, **kwargs: Any) -> Any:
    if not live(x) and not live(exponent):
        return NotImplemented
    if isinstance(exponent, (int, float)) and exponent == 2:
        with torch.no_grad():
            value = func(x, exponent)
        return _carried(x, value, x.detach())
    whole = isinstance(exponent, (int, float)) and exponent >= 1 and exponent == int(exponent)
    return _elementwise(rules, func, x, exponent) if whole else _scale(rules, func, x, exponent, **kwargs)


def _scale(rules: Rules, func: Any, *args: Any, **kwargs: Any) -> Any:
    """A norm's scale, or what it is made of: a constant."""
    if not any(live(a) for a in (*args, *kwargs.values())):
        return NotImplemented
    return func(*map(plainly, args), **{name: plainly(a) for name, a in kwargs.items()})


def _constant(rules: Rules, func: Any, *args: Any, **kwargs: Any) -> Any:
    """A gate."""
    found = _scale(rules, func, *args, **kwargs)
    if found is not NotImplemented:
        rules.gate(func)
    return found


def _softmax(rules: Rules, func: Any, *args: Any, **kwargs: Any) -> Any:
    if not any(live(a) for a in (*args, *kwargs.values())):
        return NotImplemented
    if rules.attends():
        return func(*args, **kwargs) if rules.rule == "attnlrp" else _scale(rules, func, *args, **kwargs)
    return _constant(rules, func, *args, **kwargs)


def _product(rules: Rules, func: Any, *args: Any, **kwargs: Any) -> Any:
    """The uniform rule, for any function that is linear in each of its tensors."""
    n = sum(live(a) for a in args)
    if n < 2 or (getattr(func, "__name__", "") in ("mul_", "__imul__") and args[0]._is_view()):
        return NotImplemented  # what is written into a part of a tensor passes no hook
    found = func(*args, **kwargs)
    found.register_hook(_half if n == 2 else lambda g: g / n)
    return found


def _einsum(rules: Rules, func: Any, equation: Any, *operands: Any) -> Any:
    flat = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    return _product(rules, lambda *given: func(equation, *given), *flat)


def _added_product(rules: Rules, func: Any, added: Any, *factors: Any, **kwargs: Any) -> Any:
    """The uniform rule for ``added + a b``, whose factors may be named."""
    named = [name for name in ("batch1", "batch2", "mat1", "mat2", "tensor1", "tensor2") if name in kwargs]
    factors = (*factors, *(kwargs.pop(name) for name in named))
    return NotImplemented if not all(map(live, factors)) else func(added, *map(_halved, factors), **kwargs)


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor, which has half of its gradient."""
    found = tensor * 1
    found.register_hook(_half)  # type: ignore[no-untyped-call]
    return found


def _divided(rules: Rules, func: Any, a: Any, b: Any, **kwargs: Any) -> Any:
    return func(a, b.detach(), **kwargs) if live(b) else NotImplemented


def _divides(rules: Rules, func: Any, b: Any, a: Any) -> Any:
    return func(b.detach(), a) if live(b) else NotImplemented


def _layer_norm(
    rules: Rules, func: Any, input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    if not live(input):
        return NotImplemented
    with torch.no_grad():
        value = func(input, normalized_shape, weight, bias, eps)
        dims = tuple(range(-len(normalized_shape), 0))
        wide = input.float() if input.element_size() < 4 else input
        factor = torch.rsqrt(wide.var(dims, correction=0, keepdim=True) + eps)
        factor = factor if weight is None else factor * weight
    bias = bias if rules.biases else None
    return _LayerNorm.apply(input, bias, value, factor, len(dims))  # type: ignore[no-untyped-call]


def _rms_norm(
    rules: Rules, func: Any, input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Any:
    if not live(input):
        return NotImplemented
    with torch.no_grad():
        value = func(input, normalized_shape, weight, eps)
        wide = input.float() if input.element_size() < 4 else input
        least = torch.finfo(input.dtype).eps if eps is None else eps
        factor = torch.rsqrt(wide.square().mean(tuple(range(-len(normalized_shape), 0)), keepdim=True) + least)
        factor = factor if weight is None else factor * weight
    return _carried(input, value, factor)


def _unit_length(
    rules: Rules, func: Any, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None
) -> Any:
    if not live(input):
        return NotImplemented
    with torch.no_grad():
        value = func(input, p, dim, eps)
        factor = torch.linalg.vector_norm(input, p, dim, keepdim=True).clamp_min(eps).reciprocal()
    return _carried(input, value, factor)


def _attention(rules: Rules, func: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Queries and keys have a quarter of the gradient each, values one half; with constant weights, values all."""
    if not any(map(live, (query, key, value, *args, *kwargs.values()))):
        return NotImplemented
    if rules.rule == "cp":
        args = tuple(plainly(given) if live(given) else given for given in args)  # a parameter's bias picks the kernel
        kwargs = {name: plainly(given) if live(given) else given for name, given in kwargs.items()}
        return func(query.detach(), key.detach(), value, *args, **kwargs)
    weighed = any(map(live, (query, key, *args, *kwargs.values())))
    if live(query) and live(key):
        query, key = _halved(query), _halved(key)
    found = func(query, key, value, *args, **kwargs)
    if weighed and live(value):
        found.register_hook(_half)
    return found


def _rules() -> dict[Any, Callable[..., Any]]:
    """Function -> its rule, for torch's functions, their methods and operators."""
    found: dict[Any, Callable[..., Any]] = {}
    every = (torch, torch.Tensor, functional, torch.special, torch.linalg)

    def add(rule: Callable[..., Any], *names: str, homes: Sequence[Any] = every) -> None:
        found.update({getattr(home, name): rule for home in homes for name in names if hasattr(home, name)})

    add(_elementwise, "gelu", "silu", "relu", "tanh", "relu6", "elu", "selu", "celu", "leaky_relu", "mish", "hardswish",
        "hardtanh", "softsign", "tanhshrink", "softshrink", "hardshrink", "square", "abs", "clamp", "clip", "clamp_min",
        "clamp_max", "expm1", "log1p", "sinh", "sin", "asinh", "atan")  # fmt: skip
    add(_constant, "sigmoid", "softplus", "exp", "exp2", "erf", "logsigmoid", "hardsigmoid", "cos", "log", "log2",
        "logsumexp", "cumprod", "prod")  # fmt: skip
    add(_scale, "rsqrt", "sqrt", "var", "std", "norm", "vector_norm", "reciprocal")
    add(_softmax, "softmax", "log_softmax")
    add(_power, "pow", "__pow__")
    add(_constant, "__rpow__")
    add(_product, "mul", "multiply", "__mul__", "__rmul__", "__imul__", "mul_", "matmul", "__matmul__", "bmm", "mm",
        "mv", "dot", "outer", "inner")  # fmt: skip
    add(_einsum, "einsum", homes=(torch,))
    add(_added_product, "baddbmm", "addmm", "addcmul")
    add(_divided, "div", "true_divide", "divide", "__truediv__", "__itruediv__", "div_")
    add(_divides, "__rtruediv__", "__rdiv__")
    add(_layer_norm, "layer_norm", homes=(functional,))
    add(_rms_norm, "rms_norm", homes=(functional,))
    add(_unit_length, "normalize", homes=(functional,))
    add(_attention, "scaled_dot_product_attention", homes=(functional,))
    return found


_RULES = _rules()
