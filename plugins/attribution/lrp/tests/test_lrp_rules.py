"""The rules by themselves: what each makes of a gradient, what has none, and that nothing is left behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from ecco_lrp.graphs import unruled
from ecco_lrp.rules import Rules
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional

import ecco_core as ecco

TEXT = "The captain is called Nora. The cook is called Felix."
NONE = nn.Module()


def passed_back(function, *inputs, rule="attnlrp"):
    """Value and relevance of each input of a function in force of the rules; the value is the function's own."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    with Rules(NONE, rule):
        value = function(*leaves)
    assert torch.equal(value, function(*inputs))
    weights = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view(value.shape)
    gradients = torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)
    return (value * weights).detach(), [0.0 if g is None else leaf.detach() * g for leaf, g in zip(leaves, gradients)]


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


ELEMENTWISE = [
    functional.gelu, functional.silu, functional.relu, torch.tanh, torch.square, functional.mish, torch.abs,
    lambda x: functional.relu(x).square(), lambda x: x * torch.sigmoid(1.7 * x), lambda x: x.pow(3), lambda x: x**2,
    lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), lambda x: functional.leaky_relu(x, 0.1),
    lambda x: torch.clamp(x, -0.5, 0.5),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ELEMENTWISE)))
@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8))
def test_an_elementwise_function_keeps_the_relevance_of_each_element(number, values):
    x = torch.tensor(values, dtype=torch.float64)
    value, (relevance,) = passed_back(ELEMENTWISE[number], x)
    torch.testing.assert_close(relevance, value.detach(), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(("function", "slope"), [(functional.gelu, 0.5), (torch.tanh, 1.0), (functional.relu, 0.0)])
def test_at_zero_the_gradient_is_the_functions_own(function, slope):
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    with Rules(NONE):
        function(x).sum().backward()
    assert x.grad.tolist() == [slope] * 3


PRODUCTS = {
    "mul": (torch.mul, (3, 4), (3, 4)),
    "broadcast": (lambda a, b: a * b, (3, 4), (4,)),
    "matmul": (torch.matmul, (2, 3, 4), (2, 4, 5)),
    "bmm": (torch.bmm, (2, 3, 4), (2, 4, 5)),
    "einsum": (lambda a, b: torch.einsum("ij,kj->ik", a, b), (3, 4), (2, 4)),
    "in place": (lambda a, b: (a * 1).mul_(b), (3, 4), (3, 4)),
    "baddbmm": (lambda a, b: torch.baddbmm(torch.zeros(1, dtype=a.dtype), a, b), (2, 3, 4), (2, 4, 5)),
    "addcmul": (lambda a, b: torch.addcmul(torch.zeros(1, dtype=a.dtype), a, b), (3, 4), (3, 4)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_factors_of_a_product_share_equally(name):
    function, *shapes = PRODUCTS[name]
    value, found = passed_back(function, *(numbers(*shape, seed=n) for n, shape in enumerate(shapes)))
    for relevance in found:
        assert float(relevance.detach().sum()) == pytest.approx(float(value.detach().sum()) / 2)


def test_a_product_that_is_written_into_afterwards_is_still_shared():
    def function(a, b):
        product = a * b
        product[..., :1] = 0
        product[..., 1:2] *= 2
        return product

    value, found = passed_back(function, numbers(3, 4), numbers(3, 4, seed=1))
    for relevance in found:
        torch.testing.assert_close(relevance, value / 2)


def test_three_factors_of_an_einsum_have_a_third_each():
    value, found = passed_back(
        lambda a, b, c: torch.einsum("i,i,i->i", a, b, c), *(numbers(4, seed=n) for n in (1, 2, 3))
    )
    for relevance in found:
        torch.testing.assert_close(relevance, value.detach() / 3)


NORMS = {
    "layer_norm": (lambda x: functional.layer_norm(x, (6,)), 0.0),
    "rms_norm": (lambda x: functional.rms_norm(x, (6,), torch.full((6,), 1.3, dtype=x.dtype)), 1.0),
    "rsqrt": (lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6), 1.0),
    "power": (lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6).pow(-0.5), 1.0),
    "std": (lambda x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6), 0.0),
    "normalize": (lambda x: functional.normalize(x, dim=-1), 1.0),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_scale_of_a_norm_is_a_constant(name):
    function, kept = NORMS[name]
    x = numbers(3, 6) + 0.7
    value, (relevance,) = passed_back(function, x)
    assert float(relevance.detach().sum()) == pytest.approx(float(value.detach().sum()))
    leaf = x.clone().requires_grad_()
    with Rules(NONE):
        (gradient,) = torch.autograd.grad(function(leaf)[1, 2], leaf)
    factor = function(x)[1, 2] / (x[1, 2] - (1 - kept) * x[1].mean())  # linear in x, but for the scale
    expected = torch.zeros_like(x)
    expected[1, 2] = factor
    expected[1] -= (1 - kept) * factor / 6
    torch.testing.assert_close(gradient, expected)


def test_cp_has_constant_weights_of_attention_and_attnlrp_does_not():
    q, k, v = (numbers(1, 2, 5, 4, seed=n) for n in range(3))
    attend = functional.scaled_dot_product_attention
    value, (of_q, of_k, of_v) = passed_back(attend, q, k, v, rule="cp")
    assert of_q is of_k or not (torch.is_tensor(of_q) and of_q.abs().sum())
    torch.testing.assert_close(of_v.sum(), value.sum().detach())
    value, (of_q, of_k, of_v) = passed_back(attend, q, k, v)
    torch.testing.assert_close(of_v.sum(), value.sum().detach() / 2)
    torch.testing.assert_close(of_q.sum(), of_k.sum())
    assert of_q.abs().sum() > 0


class Own(torch.autograd.Function):
    """A function that no mode sees."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


def in_a_part(change):
    def function(x):
        x = x * 1
        change(x[..., :2], x[..., 2:4].clone())
        return x

    return function


UNRULED = {
    "sigmoid, in a part": in_a_part(lambda part, _: part.sigmoid_()),
    "mul, in a part": in_a_part(lambda part, other: part.mul_(other)),
    "i1": torch.special.i1,
    "logcumsumexp": lambda x: torch.logcumsumexp(x, -1),
    "own": Own.apply,
    "own, then a product": lambda x: Own.apply(x) * x,
    "in place": lambda x: (x * 1).sigmoid_(),
}


@pytest.mark.parametrize("name", UNRULED)
def test_what_has_no_rule_is_found_and_named(name, open_tiny):
    lm = open_tiny("llama")
    run, module = lm(TEXT), lm.model.model.layers[1].mlp
    handle = module.register_forward_hook(lambda *given: UNRULED[name](given[2]))
    with pytest.raises(
        ecco.ArchitectureError, match=r"no rule for \w+ in model\.layers\.1(\.mlp)? of .* take another"
    ) as e:
        run.analyze("lrp", targets=[4])
    assert name.split(",")[0].replace("in place", "sigmoid") in str(e.value)
    handle.remove()
    handle = module.down_proj.register_forward_hook(lambda *given: given[2] * 2)
    assert run.analyze("lrp", targets=[4])
    handle.remove()


def test_a_way_through_the_model_that_was_not_checked_is_checked(open_tiny):
    lm = open_tiny("llama")
    run = lm(TEXT)
    run.analyze("lrp", targets=[4])
    kept = lm.model.model.layers[1].mlp.register_forward_hook(lambda *given: torch.special.i0(given[2]))
    with pytest.raises(ecco.ArchitectureError, match=r"no rule for \w*i0"):
        run.analyze("lrp", targets=[4])
    kept.remove()


def test_linear_functions_of_two_live_tensors_are_found():
    x = numbers(3, 3).requires_grad_()
    product = torch.mm(x, x)
    assert list(unruled(product.sum())) == [("mm", "")]
    assert not list(unruled((x @ numbers(3, 3) + x.T).sum()))


def test_gates_are_said(open_tiny):
    found = open_tiny("mamba")(TEXT).analyze("lrp", targets=[4])
    assert "softplus in backbone.layers.0.mixer" in found.notes[-1]
    found = open_tiny("qwen2_moe")(TEXT).analyze("lrp", targets=[4])
    assert "softmax in model.layers.1.mlp.gate" in found.notes[-1]
    assert not any("gates" in note for note in open_tiny("llama")(TEXT).analyze("lrp", targets=[4]).notes)


def forwards(model):
    return [module for module in model.modules() if "forward" in vars(module)]


def test_nothing_is_left_behind_also_after_an_error(open_tiny):
    lm = open_tiny("gpt2")
    act, run = lm.model.transformer.h[0].mlp.act, lm(TEXT)
    with pytest.raises(RuntimeError), Rules(lm.model):
        lm.model(input_ids=torch.zeros(1, 3, 2))
    assert not forwards(lm.model)
    mine = act.forward
    act.forward = mine  # as accelerate does
    run.analyze("lrp", targets=[4])
    assert vars(act)["forward"] is mine
    del act.forward
    x = torch.randn(3, requires_grad=True)
    own = torch.autograd.grad(torch.tanh(x).sum(), x)[0]
    torch.testing.assert_close(own, 1 - torch.tanh(x.detach()) ** 2)
    hooks = [m for m in lm.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
    assert all(parameter.requires_grad and parameter.grad is None for parameter in lm.model.parameters())


def test_other_threads_and_other_models_have_their_own_gradients(open_tiny):
    lm, other = open_tiny("gpt2"), open_tiny("gpt2")
    own = [plain_gradient(each) for each in (lm, other)]
    found = {}
    with Rules(lm.model):
        inside = plain_gradient(lm)
        for name, each in (("same model", lm), ("other model", other)):
            thread = threading.Thread(target=lambda n=name, e=each: found.update({n: plain_gradient(e)}))
            thread.start()
            thread.join()
    torch.testing.assert_close(found["same model"], own[0])
    torch.testing.assert_close(found["other model"], own[1])
    assert not torch.allclose(inside, own[0])


def plain_gradient(lm):
    x = lm.model.get_input_embeddings()(lm(TEXT).ids[None]).detach().requires_grad_()
    return torch.autograd.grad(lm.model(inputs_embeds=x).logits[0, -1, 3], x)[0]


def test_two_threads_explain_one_model_at_once(open_tiny):
    lm = open_tiny("llama")
    run, found = lm(TEXT), {}
    expected = {rule: run.analyze("lrp", rule=rule, targets=[4]).values.values for rule in ("attnlrp", "cp")}

    def work(rule):
        for _ in range(5):
            found[rule] = lm(TEXT).analyze("lrp", rule=rule, targets=[4]).values.values

    threads = [threading.Thread(target=work, args=(rule,)) for rule in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rule, values in expected.items():
        np.testing.assert_array_equal(found[rule], values)
    assert not forwards(lm.model)


@pytest.mark.parametrize("kind", ["gpt2", "opt", "qwen2", "gpt_neox"])
def test_gradients_of_the_parameters_themselves_account_for_biases(kind, open_tiny):
    """Independent of the ledger: bias × gradient at each bias and position embedding, and tokens, are the score."""
    lm = open_tiny(kind, dtype=torch.float64)
    scores = lm(TEXT).scores(targets=[8], score="logit")
    inputs = [tensor.requires_grad_() for tensor in scores.inputs()]
    added = [
        p for name, p in lm.model.named_parameters() if name.endswith("bias") or "wpe" in name or "embed_pos" in name
    ]
    with Rules(lm.model, "cp", biases=True):
        done = scores.run_part(inputs, torch.tensor([0]), split=False).scores
    gradients = torch.autograd.grad(done.sum(), [*inputs, *added], allow_unused=True)
    total = sum(float((t.detach() * g).sum()) for t, g in zip([*inputs, *added], gradients) if g is not None)
    assert total == pytest.approx(float(done.detach()), rel=1e-6)
    tokens = float((inputs[0].detach() * gradients[0]).sum())
    assert tokens != pytest.approx(total, rel=1e-3)


class Noop(nn.Module):
    """Has nothing to do, as a dropout of a trained model."""

    def forward(self, x):
        return x


class Seen(nn.Module):
    """A view of what is put in."""

    def forward(self, x):
        return x.view_as(x)


class Snake(nn.Module):
    """An activation with a number to learn."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x):
        return x + torch.sin(self.alpha * x).square() / self.alpha


class Former(nn.Module):
    """Mixes tokens, not units."""

    def forward(self, x):
        return x - x.mean(-2 if x.ndim > 1 else (), keepdim=True)


@pytest.mark.parametrize("inner", [Noop, Seen, Snake, nn.PReLU, nn.ReLU, lambda: nn.ReLU(inplace=True)])
def test_a_module_without_units_of_its_own_keeps_values_and_relevance(inner):
    module = inner().double()

    def function(x):
        first, second = x.chunk(2)  # which must not be written into
        wide = first * 3
        return module(first * 1) + (module(second) if inner in (Noop, Seen) else 0) + module(wide).exp().detach() * wide

    x = numbers(4, 6).requires_grad_()
    with Rules(module):
        value = function(x)
    assert torch.equal(value, function(x.detach().clone()))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert float((x * gradient).detach().sum()) == pytest.approx(float(value.detach().sum()))


def test_a_module_that_mixes_tokens_is_no_activation():
    module, x = Former(), numbers(3, 6).requires_grad_()
    with Rules(module):
        (gradient,) = torch.autograd.grad(module(x)[0, 0], x)
    expected = torch.zeros(3, 6, dtype=torch.float64)
    expected[:, 0] = -1 / 3
    expected[0, 0] += 1
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    "change", [lambda x: functional.relu(x, inplace=True), nn.ReLU(inplace=True), lambda x: functional.elu(x, 1, True)]
)
def test_what_an_activation_writes_into_its_input_is_there(change):
    def function(x):
        double = x * 2
        change(double)  # what it returns is not used
        return double

    holder, x = nn.ModuleList([change] if isinstance(change, nn.Module) else []), numbers(3, 4).requires_grad_()
    with Rules(holder):
        value = function(x)
    assert torch.equal(value, function(x.detach()))
    torch.testing.assert_close(x * torch.autograd.grad(value.sum(), x)[0], value)


def test_bounds_may_be_tensors():
    x, bound = numbers(4, 5) * 3, torch.tensor(1.5, dtype=torch.float64)
    value, (relevance,) = passed_back(lambda x: torch.clamp(x, min=-bound, max=bound), x)
    torch.testing.assert_close(relevance, value)
    gates = (lambda x, top: torch.clamp(x, max=top)), (lambda x, _: torch.clamp(x, min=bound))
    for gate in gates:  # of which nothing passes
        value, (relevance, _) = passed_back(lambda x, top, gate=gate: gate(x, top) * 0 + x, x, bound)
        torch.testing.assert_close(relevance, value)
        value, (relevance, of_top) = passed_back(lambda x, top, gate=gate: gate(x, top) * x, x, bound)
        torch.testing.assert_close(relevance, value)
        assert of_top == 0


def test_a_weight_may_be_a_plain_tensor():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = numbers(4).requires_grad_()
            self.register_buffer("beta", numbers(4, seed=3).requires_grad_())

        def forward(self, x):
            return x * self.gamma * self.beta

    module, x = Scaled(), numbers(3, 4).requires_grad_()
    with Rules(module):
        value = module(x)
    torch.testing.assert_close(x * torch.autograd.grad(value.sum(), x)[0], value)


def test_arguments_may_be_named():
    x, y = numbers(2, 3), numbers(2, 3, seed=1)
    for function in (lambda a: torch.tanh(input=a), lambda a: functional.gelu(input=a), lambda a: a.pow(exponent=3)):
        value, (relevance,) = passed_back(function, x)
        torch.testing.assert_close(relevance, value)
    for function in (lambda a, b: torch.mul(input=a, other=b), lambda a, b: torch.mul(a, other=b)):
        value, found = passed_back(function, x, y)
        for relevance in found:
            torch.testing.assert_close(relevance, value / 2)
    value, (of_x, of_y) = passed_back(lambda a, b: torch.div(a, other=b), x, y)
    torch.testing.assert_close(of_x, value)
    assert of_y == 0


def test_a_mask_of_attention_that_depends_on_the_input_shares_with_the_values():
    q, k, v, mask = (numbers(1, 2, 5, n, seed=n) for n in (4, 4, 4, 5))
    weights = torch.linspace(0.5, 2, q.numel(), dtype=q.dtype).view(q.shape)
    v, mask = v.requires_grad_(), mask.requires_grad_()
    plain = functional.scaled_dot_product_attention(q, k, v, mask)
    own = torch.autograd.grad((plain * weights).sum(), (v, mask))
    with Rules(NONE):
        value = functional.scaled_dot_product_attention(q, k, v, mask)
    assert torch.equal(value, plain)
    for gradient, whole in zip(torch.autograd.grad((value * weights).sum(), (v, mask)), own):
        torch.testing.assert_close(gradient, whole / 2)


def test_a_router_in_an_attention_module_is_a_gate():
    class Router(nn.Module):
        def forward(self, x, y):
            return x.softmax(-1)

    class MixedAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = Router()

        def forward(self, x):
            return x * self.router(x, None)

    module, x = MixedAttention(), numbers(3, 4).requires_grad_()
    with Rules(module):
        value = module(x)
    torch.testing.assert_close(x * torch.autograd.grad(value.sum(), x)[0], value)


def added_product(x):
    return x + functional.linear(x, x[0]).sum(-1, keepdim=True)


@pytest.mark.parametrize("change", [Own.apply, added_product])
@pytest.mark.parametrize("how", ["hook", "forward"])
def test_a_model_that_was_changed_is_checked_again(change, how, open_tiny):
    """Also where no function is called that was not called before, or that a mode sees."""
    lm = open_tiny("llama")
    run, module = lm(TEXT), lm.model.model.layers[0].mlp
    run.analyze("lrp", targets=[4])
    if how == "hook":
        module.register_forward_hook(lambda *given: change(given[2]))
    else:
        module.forward = lambda x, own=module.forward: change(own(x))
    with pytest.raises(ecco.ArchitectureError, match=r"no rule for (own|linear) in"):
        run.analyze("lrp", targets=[4])


def test_an_unchanged_model_is_checked_once(open_tiny, monkeypatch):
    lm, checks = open_tiny("llama"), []
    from ecco_lrp.relevance import Relevance

    lm(TEXT).analyze("lrp", targets=[4])
    monkeypatch.setattr(Relevance, "_check", lambda self: checks.append(self))
    lm(TEXT).analyze("lrp", targets=[4, 5])
    assert not checks
