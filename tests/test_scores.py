"""ScoreModule and many-target gradients against a naive loop that knows nothing of them, in float64."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given, settings, strategies as st

import ecco_core as ecco
from ecco_core.models import gradients

SCORES = {
    "logit": lambda logits: logits,
    "logprob": lambda logits: logits.log_softmax(-1),
    "prob": lambda logits: logits.softmax(-1),
}


def naive(lm, ids, position, token, score, contrast=None):
    """Score of one target and its gradient by the model's own inputs_embeds, on the prefix alone."""
    embeddings = lm.model.get_input_embeddings()(ids[None, :position]).detach().requires_grad_()
    scored = SCORES[score](lm.model(inputs_embeds=embeddings).logits[0, -1])
    value = scored[token] - (scored[contrast] if contrast is not None else 0)
    return value.detach(), torch.autograd.grad(value, embeddings)[0][0]


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt_neox"])
def double(request, make_lm):
    lm = make_lm(request.param)
    lm.model.double()
    return lm


@pytest.mark.parametrize("score", list(SCORES))
@pytest.mark.parametrize("contrast", [None, " Felix"])
def test_values_and_gradients_equal_a_naive_loop(double, score, contrast):
    run = double.generate("The captain is called Nora. The cook", max_new_tokens=20, do_sample=True, seed=1)
    scores = run.scores(contrast=contrast, score=score)
    values, (grads,) = scores.values_and_gradients(*scores.inputs())
    assert len(scores.targets) == len(run) - run.n_input_tokens > gradients.CHUNK
    for i, target in enumerate(scores.targets):
        value, gradient = naive(double, run.ids, target.position, target.token_id, score, target.contrast_id)
        torch.testing.assert_close(values[0, i], value, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(grads[i, 0, : target.position], gradient, rtol=1e-9, atol=1e-12)
        assert not grads[i, 0, target.position :].any()


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_targets_in_any_order_and_any_batch(gpt2_double, data):
    run = gpt2_double("The captain is called Nora.")
    positions = data.draw(st.lists(st.integers(1, len(run)), min_size=1, max_size=14))
    batch = data.draw(st.integers(1, 4))
    scores = run.scores(positions)
    (x,) = scores.inputs()
    noise = torch.randn(batch, *x.shape[1:], dtype=x.dtype, generator=torch.Generator().manual_seed(len(positions)))
    inputs = x + 0.1 * noise
    values, (grads,) = scores.values_and_gradients(inputs)
    leaf = inputs.clone().requires_grad_()
    direct = scores(leaf)
    torch.testing.assert_close(values, direct.detach())
    for i in range(len(positions)):
        (expected,) = torch.autograd.grad(direct[:, i].sum(), leaf, retain_graph=True)
        torch.testing.assert_close(grads[i], expected, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def gpt2_double(make_lm):
    lm = make_lm("gpt2")
    lm.model.double()
    return lm


def test_a_model_whose_head_cannot_be_cut_is_explained_all_the_same(gpt2_double, monkeypatch):
    run = gpt2_double("The captain is called Nora.")
    scores = run.scores([3, 5, 5, 2])
    expected = scores.values_and_gradients(*scores.inputs())
    from ecco_core.models.cuts import Cuts

    monkeypatch.setattr(Cuts, "_at_head", lambda self, hidden: None)
    values, (grads,) = scores.values_and_gradients(*scores.inputs())
    torch.testing.assert_close(values, expected[0])
    torch.testing.assert_close(grads, expected[1][0])
    values, (grads,), (second,) = scores.rounded_gradients(contextlib.nullcontext, 1, *scores.inputs())
    torch.testing.assert_close(values, expected[0])
    torch.testing.assert_close(grads, expected[1][0])
    torch.testing.assert_close(second[0], expected[1][0][1])


def test_operations_without_a_batching_rule_fall_back_to_a_loop(gpt2_double, monkeypatch):
    run = gpt2_double("The captain is called Nora.")
    scores = run.scores([3, 5, 2])
    expected = scores.values_and_gradients(*scores.inputs())[1][0]
    real = torch.autograd.grad

    def grad(*args, is_grads_batched=False, **kwargs):
        if is_grads_batched:
            raise RuntimeError("Batching rule not implemented")
        return real(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    torch.testing.assert_close(scores.values_and_gradients(*scores.inputs())[1][0], expected)


def test_half_precision_scores_are_float32(make_lm):
    lm = make_lm("llama")
    lm.model.bfloat16()
    scores = lm("The captain is called Nora.").scores([3, 4])
    values, (grads,) = scores.values_and_gradients(*scores.inputs())
    assert values.dtype == torch.float32
    assert grads.dtype == torch.bfloat16
    assert bool(torch.isfinite(grads.float()).all())


def hooks_of(model):
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) + len(m._backward_pre_hooks)
        for m in model.modules()
    )


def state_of(model):
    return [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()], hooks_of(model)


@pytest.mark.parametrize("outcome", ["success", "error", "interrupt"])
def test_the_model_is_left_as_it_was(make_lm, monkeypatch, outcome):
    lm = make_lm("gpt2")
    lm.model.train()
    lm.model.transformer.h[1].eval()
    lm.model.transformer.wpe.weight.requires_grad_(False)
    before = state_of(lm.model)
    run = lm("The captain is called Nora.")
    if outcome != "success":
        raised = {"error": ValueError, "interrupt": KeyboardInterrupt}[outcome]

        def broken(*args, **kwargs):
            raise raised("planted")

        monkeypatch.setattr(lm.model.transformer.h[1], "forward", broken)
    for work in (lambda: run.analyze("ig", targets=[4], n_steps=3), lambda: run.capture("mlp_post")):
        if outcome == "success":
            work()
        else:
            with pytest.raises((ecco.PluginError, ValueError, KeyboardInterrupt)):
                work()
        assert state_of(lm.model) == before
    assert all(p.grad is None for p in lm.model.parameters())


def test_dropout_is_off_while_explaining_a_model_in_training_mode(make_lm):
    lm = make_lm("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    expected = lm("The captain is called Nora.").analyze("saliency", targets=[5]).values.values
    lm.model.train()
    again = lm("The captain is called Nora.").analyze("saliency", targets=[5]).values.values
    assert (expected == again).all()


@pytest.mark.slow
@pytest.mark.parametrize("raised", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("work", ["saliency", "ig", "capture"])
def test_an_interrupt_at_any_module_leaves_the_model_as_it_was(make_lm, work, raised):
    """Stop at the k-th module that runs, for every k until the work gets through."""
    lm = make_lm("llama")
    lm.model.train()
    run = lm("The captain is")
    before = state_of(lm.model)
    jobs = {
        "saliency": lambda: run.analyze("saliency", targets=[2]),
        "ig": lambda: run.analyze("ig", targets=[2, 3], n_steps=2),
        "capture": lambda: (run.release(), run.capture("mlp_post", "attn_out", "logits")),
    }
    for k in range(1000):
        calls = 0

        def stop(*_, k=k):
            nonlocal calls
            calls += 1
            if calls > k:
                raise raised("planted")

        handle = torch.nn.modules.module.register_module_forward_pre_hook(stop)
        try:
            jobs[work]()
            finished = True
        except (raised, ecco.PluginError):
            finished = False
        finally:
            handle.remove()
        assert state_of(lm.model) == before
        if finished:
            break
    assert finished
    assert k > 20
