"""What is about speed and memory must not change what is said: groups of targets, bfloat16, slopes."""

from __future__ import annotations

import concurrent.futures
import threading

import accelerate
import numpy as np
import pytest
import torch
from ecco_captum import groups
from ecco_captum.activations import BY_ELEMENT
from ecco_captum.shared_graph import SharedGraph, in_bfloat16, sloped
from transformers import activations

import ecco_core as ecco

TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked Nora."


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("saliency", {}),
        ("input_x_gradient", {"aggregation": "dot"}),
        ("integrated_gradients", {"n_steps": 5}),
        ("integrated_gradients", {"n_steps": 5, "baseline": "sample"}),
        ("deep_lift", {}),
        ("deep_lift_shap", {"n_samples": 3}),
        ("gradient_shap", {"n_samples": 3}),
        ("noise_tunnel", {"n_samples": 3}),
        ("noise_tunnel", {"n_samples": 2, "method": "ig", "n_steps": 4}),
        ("layer_integrated_gradients", {"layer": 0, "n_steps": 5}),
        ("layer_gradient_x_activation", {"layer": 0}),
        ("neuron_gradient", {"layer": 0, "unit": 3}),
    ],
)
def test_groups_of_targets_say_what_all_of_them_say(open_tiny, monkeypatch, name, options):
    run = open_tiny("gpt2", dtype=torch.float64)(TEXT)
    targets = list(range(3, 13))
    whole = run.analyze(name, targets=targets, **options)
    passed = []

    def of_four(ctx, rows):
        found = [ctx.scores.targets[i : i + 4] for i in range(0, len(ctx.scores.targets), 4)]
        passed.append(list(map(len, found)))
        return found

    monkeypatch.setattr(groups, "_groups", of_four)
    parts = run.analyze(name, targets=targets, **options)
    assert passed[0] == [4, 4, 2]
    np.testing.assert_allclose(parts.values.values, whole.values.values, atol=1e-10)
    assert parts.values.coords["target"] == whole.values.coords["target"]
    for field in ("completeness", "change"):
        one, other = getattr(parts, field), getattr(whole, field)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one.values, other.values, atol=1e-10)
    assert [t.value for t in parts.targets] == pytest.approx([t.value for t in whole.targets])
    assert parts.sources == whole.sources


def test_groups_are_as_large_as_memory_is_meant_for(open_tiny):
    from ecco_core import Context
    from ecco_core.plugin.manager import plugins
    from ecco_core.running import options_for

    run = open_tiny("gpt2")(TEXT)
    offer = plugins().analysis("saliency")
    values = {option.name: option.default for option in options_for(offer.spec, offer.load()).values()}
    ctx = Context((run,), offer.spec, values | {"targets": list(range(2, 14))})
    assert [len(group) for group in groups._groups(ctx, 0)] == [12]
    unit = ctx.scores.inputs()[0].shape[-1]
    rows = groups.NUMBERS // unit // 5  # five targets' fill it
    assert [len(group) for group in groups._groups(ctx, rows)] == [5, 5, 2]
    assert [len(group) for group in groups._groups(ctx, 10**12)] == [1] * 12


@pytest.mark.parametrize("name", ["saliency", "input_x_gradient", "integrated_gradients"])
def test_bfloat16_ranks_as_float32_and_says_how_well(prose, name):
    run = prose.generate("The captain is called Nora. The cook is called Felix. Then", max_new_tokens=6)
    exact = run.analyze(name)
    rough = run.analyze(name, precision="bf16")
    assert not np.array_equal(exact.values.values, rough.values.values)
    assert [t.value for t in rough.targets] == pytest.approx([t.value for t in exact.targets], abs=1e-5)
    (note,) = [note for note in rough.notes if note.startswith("bfloat16")]
    told = float(note.split("float32 ")[1].split(",")[0])
    from scipy.stats import spearmanr

    middle = len(exact.targets) // 2
    seen = exact.targets[middle].position
    measured = spearmanr(exact.values.values[middle, :seen], rough.values.values[middle, :seen]).statistic
    assert told == pytest.approx(measured, abs=5e-3 if name == "integrated_gradients" else 1e-4)
    assert min(spearmanr(a, b).statistic for a, b in zip(exact.values.values, rough.values.values)) > 0.95
    assert str(run.analyze(name, precision="bf16")).count("bfloat16") == 1
    assert torch.is_autocast_enabled("cpu") is False


def switches():
    """torch's switches of attention that are for all threads."""
    names = ("flash_sdp_enabled", "mem_efficient_sdp_enabled", "math_sdp_enabled", "cudnn_sdp_enabled",
             "fp16_bf16_reduction_math_sdp_allowed")  # fmt: skip
    return [getattr(torch.backends.cuda, name)() for name in names]


@pytest.mark.parametrize("before", [False, True])
def test_torchs_switches_are_as_they_were_when_the_last_thread_in_bfloat16_is_done(before):
    inside, done = threading.Event(), threading.Event()

    def other():
        with in_bfloat16("cpu"):
            inside.set()
            done.wait(60)

    allow = torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp
    allow(before)
    try:
        as_it_was = switches()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with in_bfloat16("cpu"):
                later = pool.submit(other)
                inside.wait(60)
            assert switches() == [False, False, True, False, True], "the other thread still needs it"
            done.set()
            later.result()
        assert switches() == as_it_was
        with pytest.raises(KeyboardInterrupt), in_bfloat16("cpu"):
            raise KeyboardInterrupt
        assert switches() == as_it_was
    finally:
        allow(False)


def test_bfloat16_of_targets_that_see_too_little_says_so(open_tiny):
    run = open_tiny("gpt2")(TEXT)
    (note,) = run.analyze("saliency", targets=[1], precision="bf16").notes
    assert note == "bfloat16: rank correlation with float32 not known, too few scores differ, of the target at 1"
    (note,) = run.analyze("saliency", targets=[1, 2, 12], precision="bf16").notes
    assert note.endswith("of the target at 12")


def test_bfloat16_of_a_model_that_is_not_float32_is_refused(open_tiny):
    run = open_tiny("gpt2", dtype=torch.bfloat16)(TEXT)
    with pytest.raises(ecco.OptionError, match="precision='bf16' rounds what is float32; this model is bfloat16"):
        run.analyze("saliency", precision="bf16")
    with pytest.raises(ecco.OptionError, match="precision"):
        run.analyze("saliency", precision="bf8")


def test_the_fused_gelu_is_the_same_function_and_gone_afterwards(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    written = lm.model.transformer.h[0].mlp.act
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    expected = written(x)
    with sloped(lm.model):
        torch.testing.assert_close(written(x), expected, rtol=1e-12, atol=1e-13)
        assert "forward" in vars(written)
    assert "forward" not in vars(written)
    with pytest.raises(KeyboardInterrupt), sloped(lm.model):
        raise KeyboardInterrupt
    assert "forward" not in vars(written)
    torch.testing.assert_close(written(x), expected, rtol=0, atol=0)


ACTIVATIONS = [getattr(home, name)() for home in (torch.nn, activations) for name in BY_ELEMENT if hasattr(home, name)]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_an_activations_slope_is_its_gradient_for_several_targets_at_once(activation):
    x = torch.linspace(-6, 6, 1201, dtype=torch.float64).requires_grad_()
    several = torch.randn(3, 1201, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = activation(x)
    expected = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in several]
    with sloped(torch.nn.Sequential(activation)):
        assert "forward" in vars(activation)
        again = activation(x)
        (found,) = torch.autograd.grad(again, x, several, is_grads_batched=True)
        with torch.no_grad():
            assert not activation(x).requires_grad
    torch.testing.assert_close(again, y, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-13)


def test_every_activation_that_keeps_its_slope_treats_each_number_by_itself():
    assert len(ACTIVATIONS) >= len(BY_ELEMENT)
    for activation in ACTIVATIONS:
        x = torch.linspace(-3, 3, 7, dtype=torch.float64).requires_grad_()
        jacobian = torch.autograd.functional.jacobian(activation, x)
        assert torch.equal(jacobian, jacobian.diagonal().diag())


def test_shared_graphs_keep_nothing_for_gradients_of_weights(open_tiny):
    lm = open_tiny("gpt2")
    scores = lm.generate("Nora is here.", max_new_tokens=3).scores()
    wide = lm.model.config.n_inner or 4 * lm.model.config.n_embd

    def kept(work):
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
            found = work()
        own = {parameter.data_ptr() for parameter in lm.model.parameters()}
        return found, [t for t in seen if t.shape[-1] == wide and t.data_ptr() not in own]

    (_, plain), without = kept(lambda: scores.values_and_gradients(*scores.inputs()))
    graph = SharedGraph(scores)
    shared, with_ = kept(lambda: graph(None, graph.expanded(scores.inputs())))
    assert 0 < len(with_) < len(without), "a slope for each activation, and not what goes into the next product"
    torch.testing.assert_close(shared[0], plain[0][:, 0], rtol=1e-4, atol=1e-6)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in lm.model.parameters())


def test_models_whose_weights_are_fetched_for_each_forward_stay_whole(open_tiny):
    lm = open_tiny("gpt2")
    run = lm.generate("Nora is here.", max_new_tokens=3)
    expected = run.analyze("saliency").values.values
    for block in lm.model.transformer.h:
        accelerate.cpu_offload(block, execution_device=torch.device("cpu"))
    for _ in range(2):
        np.testing.assert_allclose(run.analyze("saliency").values.values, expected, rtol=1e-5)
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in lm.model.parameters())
    assert all(parameter.requires_grad for parameter in lm.model.parameters())


@pytest.mark.parametrize("name", ["saliency", "deep_lift"])
def test_activations_in_place(open_tiny, name):
    lm = open_tiny("gpt2", activation_function="silu", dtype=torch.float64)
    run = lm.generate("Nora is here.", max_new_tokens=3)
    expected = run.analyze(name).values.values
    for block in lm.model.transformer.h:
        block.mlp.act = torch.nn.SiLU(inplace=True)
    np.testing.assert_allclose(run.analyze(name).values.values, expected, rtol=1e-9, atol=1e-12)


def test_threads_that_share_a_model_wait_for_its_activations(open_tiny):
    run = open_tiny("gpt2").generate("Nora is here.", max_new_tokens=3)
    names = ("deep_lift", "saliency", "deep_lift")
    expected = [run.analyze(name).values.values for name in names]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = [pool.submit(lambda n=n: [run.analyze(n).values.values for _ in range(6)]) for n in names]
        for future, one in zip(found, expected):
            for again in future.result():
                np.testing.assert_allclose(again, one, rtol=1e-3, atol=1e-5)
