"""Where many-target gradients cut the graph, and targets seen from inside, against naive gradients in float64."""

from __future__ import annotations

import contextlib

import pytest
import torch

import ecco_core as ecco
from ecco_core import products
from ecco_core.models import gradients
from ecco_core.models.architecture import Place
from ecco_core.models.hooks import hooked

TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked Nora."
CAUSAL = ("gpt2", "llama", "gpt_neox", "gptj", "opt", "phi", "mixtral", "gemma2", "gemma3_text", "olmo2", "stablelm",
          "starcoder2", "bloom", "falcon", "mamba", "rwkv", "cohere", "qwen3_moe")  # fmt: skip


def naive(scores):
    """Gradients ``(target, batch, token, unit)`` by autograd through the whole forward, one target after the other."""
    leaves = [tensor.clone().requires_grad_() for tensor in scores.inputs()]
    values = scores(*leaves)
    return [
        torch.autograd.grad(values[:, i].sum(), leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
        for i in range(values.shape[1])
    ]


def assert_right(scores, share=1e-6):
    """Some models compute a part of themselves in float32 whatever they are: `share` is of the largest gradient."""
    values, found = scores.values_and_gradients(*scores.inputs())
    one = len(scores.targets) // 2
    same, again, exact = scores.rounded_gradients(contextlib.nullcontext, one, *scores.inputs())
    torch.testing.assert_close(same, values)
    for i, expected in enumerate(naive(scores)):
        for n, want in enumerate(expected):
            for got in (found[n][i], again[n][i], *([exact[n][0]] if i == one else [])):
                torch.testing.assert_close(got, want, rtol=0, atol=share * float(want.abs().max()))


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_last_block_is_passed_once_for_all_targets(open_tiny, kind):
    experts = kind in ("mixtral", "qwen3_moe")  # torch's grouped products take no float64
    run = open_tiny(kind, dtype=torch.float32 if experts else torch.float64)(TEXT)
    n = len(run)
    for targets in (list(range(2, n)), [n - 3, n - 1, n - 1], [n], [1, 2, n - 2]):
        assert_right(run.scores(targets), 1e-4 if experts else 1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_only_what_lies_before_the_last_cut_is_passed_in_the_context(open_tiny, kind):
    lm = open_tiny(kind)
    run, inside, seen = lm.generate(TEXT, max_new_tokens=2 * gradients.CHUNK), [], []

    @contextlib.contextmanager
    def context():
        inside.append(True)
        yield
        inside.pop()

    scores = run.scores()
    places = {"embedding": lm.model.get_input_embeddings(), "head": lm.model.get_output_embeddings()}
    places["last projection"] = scores._deep[1].module
    with contextlib.ExitStack() as scope:
        for name, module in places.items():
            handle = module.register_forward_hook(lambda *_, name=name: seen.append((name, bool(inside))))
            scope.callback(handle.remove)
        scores.rounded_gradients(context, 0, *scores.inputs())
    assert seen.count(("head", False)) == 1, "all targets in one pass"
    assert ("head", True) not in seen
    assert ("last projection", True) not in seen
    assert seen.count(("embedding", True)) == 2, "a pass for each chunk"
    assert lm.model.get_output_embeddings()._forward_pre_hooks == {}


def test_passes_that_are_cut_at_different_places_do_not_count_as_known(open_tiny):
    scores = open_tiny("gpt2", dtype=torch.float64)(TEXT).scores([3, 5, 8])

    def run_part(embeddings, places, *, split):
        scores._deep, deep = scores._deep if 0 in places else (), scores._deep
        try:
            return scores.run_part(embeddings, places, split=split)
        finally:
            scores._deep = deep

    parts, only = [torch.tensor([0]), torch.tensor([1, 2])], torch.tensor([True, False, False])
    _, (first,), known = gradients.values_and_gradients(run_part, parts, scores.inputs(), only=only)
    assert known == ()
    torch.testing.assert_close(first[0], naive(scores)[0][0])


def test_masked_models_are_cut_too(open_tiny):
    for kind in ("bert", "roberta", "modernbert"):
        run = open_tiny(kind, "masked", dtype=torch.float64)(TEXT)
        scores = run.scores([2, 4])
        assert_right(scores)
        assert scores._deep, kind


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox", "gptj", "opt", "gemma2"])
def test_it_saves_what_it_is_there_for(open_tiny, kind, monkeypatch):
    from torch.utils.flop_counter import FlopCounterMode

    monkeypatch.setattr(products, "_onednn_is_faster", lambda: False)  # its products are not counted

    run = open_tiny(kind)(TEXT)
    scores = run.scores(list(range(2, len(run))))
    counted = []
    for _ in range(2):
        with FlopCounterMode(display=False) as counter:
            scores.values_and_gradients(*scores.inputs())
        counted.append(counter.get_total_flops())
        scores._deep = ()
    assert counted[0] < 0.85 * counted[1]


@pytest.mark.parametrize("targets", [list(range(5, 16)), [2, 5], [3, 6], [2, 5, 8], [9]], ids=str)
@pytest.mark.parametrize(
    "mix",
    [
        pytest.param(lambda x: x.cumsum(1), id="all earlier positions"),
        pytest.param(lambda x: x + x.roll(1, 1), id="the position before"),
        pytest.param(lambda x: x + torch.nn.functional.pad(x, (0, 0, 3, 0))[:, :-3], id="three positions before"),
        pytest.param(lambda x: x * x.norm(dim=-1, keepdim=True).cummax(1).values, id="the largest so far"),
    ],
)
def test_a_last_block_that_mixes_positions_is_not_cut(open_tiny, mix, targets):
    lm = open_tiny("gpt2", dtype=torch.float64)
    run = lm(TEXT)
    scores = run.scores(targets)
    mlp = lm.model.transformer.h[-1].mlp
    handle = mlp.register_forward_hook(lambda module, args, output: mix(output))
    try:
        assert_right(scores)
    finally:
        handle.remove()


def test_a_path_around_the_last_block_is_not_lost(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    run = lm(TEXT)
    scores = run.scores(list(range(5, len(run))))
    seen = []
    with hooked(Place(lm.model.transformer.drop, "output"), seen.append):
        handle = lm.model.transformer.ln_f.register_forward_pre_hook(lambda module, args: (args[0] + seen[-1] ** 2,))
        try:
            assert_right(scores)
        finally:
            handle.remove()
    assert scores._deep == ()


def test_values_that_skip_to_the_last_attention_are_not_lost(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    run = lm(TEXT)
    scores = run.scores(list(range(5, len(run))))
    seen = []
    with hooked(Place(lm.model.transformer.drop, "output"), seen.append):
        last = lm.model.transformer.h[-1].attn.c_attn
        handle = last.register_forward_hook(lambda module, args, output: output + seen[-1].repeat(1, 1, 3) ** 2)
        try:
            assert_right(scores)
        finally:
            handle.remove()
    assert scores._deep, "the way past the last block's input ends at its attention, which is passed for each target"


def test_interventions_in_the_last_block_count(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    changes = [ecco.scale(site, 0.5, layer=1) for site in ("attn_out", "mlp_post", "z", "resid_pre", "resid_post")]
    with lm.intervene(*changes):
        run = lm(TEXT)
        scores = run.scores([3, 6, 8])
        assert_right(scores)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError], ids=lambda e: e.__name__)
def test_parts_are_halved_when_memory_runs_out(open_tiny, error):
    run = open_tiny("gpt2", dtype=torch.float64)(TEXT)
    scores = run.scores(list(range(2, len(run))))
    x = torch.cat([scores.inputs()[0] * (1 + n / 10) for n in range(3)])
    expected = scores.values_and_gradients(x)
    passed = []

    def small(embeddings, places, *, split, known=()):
        if len(embeddings[0]) * len(places) > 2:
            raise error("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: out of memory")
        passed.append((len(embeddings[0]), len(places)))
        return scores.run_part(embeddings, places, split=split, known=known)

    values, (grads,), _ = gradients.values_and_gradients(small, scores.parts((x,)), (x,))
    torch.testing.assert_close(values, expected[0])
    torch.testing.assert_close(grads, expected[1][0])
    assert sum(batch * targets for batch, targets in passed) == 3 * len(scores.targets)
    only = torch.arange(len(scores.targets)) == 4
    _, (fourth,), known = gradients.values_and_gradients(small, scores.parts((x,)), (x,), only=only)
    torch.testing.assert_close(fourth, expected[1][0][4:5])
    assert len(known) == 2
    _, (grads,), _ = gradients.values_and_gradients(small, scores.parts((x,)), (x,), known=known)
    torch.testing.assert_close(grads, expected[1][0])


def test_what_does_not_fit_at_all_is_an_error_and_so_is_any_other(open_tiny):
    scores = open_tiny("gpt2", dtype=torch.float64)(TEXT).scores([3, 4])

    def never(message):
        def run_part(embeddings, places, *, split):
            raise RuntimeError(message)

        return run_part

    for message in ("out of memory", "shapes do not fit"):
        with pytest.raises(RuntimeError, match=message):
            gradients.values_and_gradients(never(message), scores.parts(scores.inputs()), scores.inputs())


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox", "opt", "mamba"])
@pytest.mark.parametrize("site", ["resid_pre", "resid_post", "mlp_post", "attn_out"])
def test_targets_seen_from_inside(open_tiny, kind, site):
    lm = open_tiny(kind, dtype=torch.float64)
    run = lm(TEXT)
    if site not in lm.architecture.sites("decoder"):
        with pytest.raises(ecco.OptionError, match=site):
            run.scores(at=(site, 0))
        return
    outer = run.scores([3, 7, 8])
    for layer in (0, -1):
        inner = run.scores([3, 7, 8], at=(site, layer))
        (passed,) = inner.inputs()
        captured = run.capture(site, layers=layer).get(site, layer % 2)
        torch.testing.assert_close(passed[0], captured[: passed.shape[1]])
        torch.testing.assert_close(inner(passed), outer(*outer.inputs()))
        assert_right(inner)
        assert not torch.allclose(inner(passed + passed.roll(1, -1)), inner(passed))


def test_other_embeddings_can_go_in_before(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    run = lm(TEXT)
    outer = run.scores([5, 8])
    x = torch.cat([outer.inputs()[0] * 0.5, outer.inputs()[0] * 0.25])
    place = lm.architecture.place("mlp_post", 0, "decoder")
    passed = outer.reached(place, x)
    inner = outer.inside(place, "decoder", x)
    torch.testing.assert_close(inner(passed), outer(x))
    _, (grads,) = inner.values_and_gradients(passed)
    assert grads.shape == (2, *passed.shape)


def test_neurons_of_seq2seq_masked_and_classifying_models(open_tiny):
    for kind, task in (("t5", "seq2seq"), ("bert", "masked"), ("bert", "sequence_classification"), ("gpt2", "causal")):
        lm = open_tiny(kind, task, dtype=torch.float64)
        run = lm(TEXT) if task != "seq2seq" else lm.generate(TEXT, max_new_tokens=4, min_new_tokens=4)
        last = len(run) - 1
        scores = run.scores([1, last], neuron=("mlp_post", 1, 3))
        captured = run.capture("mlp_post", layers=1).get("mlp_post", 1, run.transcript.stack)
        torch.testing.assert_close(scores(*scores.inputs())[0], captured[[1, last], 3])
        assert_right(scores)
        assert scores.targets[0].quantity.startswith("unit 3 of mlp_post in layer 1 at ")


def test_what_cannot_be_seen_from_inside_is_refused(open_tiny):
    run = open_tiny("gpt2")(TEXT)
    for wrong, message in (
        ({"at": ("pattern", 0)}, "pattern.*cannot be explained from"),
        ({"at": ("embedding", 0)}, "embedding.*cannot be explained from"),
        ({"at": ("resid_pots", 0)}, "Did you mean 'resid_post'"),
        ({"at": ("resid_post", 7)}, "layer"),
        ({"neuron": ("mlp_post", 0, 3), "score": "logit"}, "leave score and contrast out"),
        ({"neuron": ("mlp_post", 0, 3), "contrast": 5}, "leave score and contrast out"),
        ({"neuron": ("mlp_post", 0, 100_000)}, "No unit 100000 in mlp_post of layer 0; its units are 0 to 63"),
    ):
        with pytest.raises(ecco.OptionError, match=message):
            run.scores([3], **wrong)
    masked = open_tiny("bert", "masked")(TEXT)
    with pytest.raises(ecco.TargetError, match="one masked place at a time"):
        masked.scores([2, 4], at=("resid_post", 0))


@pytest.mark.parametrize(
    ("kind", "from_cache"),
    [("gpt2", True), ("llama", True), ("gpt_neox", True), ("bloom", True), ("opt", True), ("gptj", True),
     ("mamba", False), ("rwkv", False), ("falcon_h1", False), ("gemma2", False)],
)  # fmt: skip
def test_later_tokens_alone_give_the_same_scores(open_tiny, kind, from_cache):
    """gemma2's tiny window is full: its cache cannot be cut, which is found out and not an error."""
    run = open_tiny(kind, dtype=torch.float64)(TEXT)
    scores = run.scores([1, 5, "6:9", len(run)])
    (x,) = scores.inputs()
    with torch.no_grad():
        for same in (1, 4, 7, x.shape[1]):
            changed = x.repeat(3, 1, 1)
            changed[1:, same:] += 0.3 * torch.randn(2, *changed[0, same:].shape, dtype=x.dtype)
            torch.testing.assert_close(scores(changed, same=same), scores(changed), rtol=1e-6, atol=1e-6)
    assert (scores._cached[1][0] is not None) == from_cache


def test_a_cache_is_not_gone_on_from_where_the_model_is_changed_or_gradients_are_wanted(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    with lm.intervene(ecco.scale("attn_out", 0.5, layer=1, positions=[2])):
        run = lm(TEXT)
    scores = run.scores([5, 8])
    (x,) = scores.inputs()
    changed = torch.cat([x, x])
    changed[1, 4:] *= 2
    with torch.no_grad():
        torch.testing.assert_close(scores(changed, same=4), scores(changed))
    assert scores._cached[1][0] is None
    plain = lm(TEXT).scores([5, 8])
    leaf = changed.clone().requires_grad_()
    (grad,) = torch.autograd.grad(plain(leaf, same=4).sum(), leaf)
    assert grad[:, :4].any()


def test_embeddings_that_lie_token_by_token_are_not_mixed_up(open_tiny):
    """XLNet's are (token, batch, unit), which shows in their shape unless there are as many tokens as entries."""
    with pytest.warns(UserWarning, match="No model file covers"):
        scores = open_tiny("xlnet", "sequence_classification", dtype=torch.float64)("The captain is Nora").scores()
    (x,) = scores.inputs()
    apart = [x * (1 + n / 10) for n in range(x.shape[1])]
    for many in (apart[:2], apart):
        torch.testing.assert_close(scores(torch.cat(many)), torch.cat([scores(one) for one in many]))
    assert_right(scores)


def test_a_site_that_is_scaled_afterwards_has_a_gradient(open_tiny):
    """Granite multiplies what attention and MLP return; what is put in at the run's own values takes their place."""
    run = open_tiny("granite", dtype=torch.float64)(TEXT)
    for site in ("attn_out", "mlp_out"):
        scores = run.scores([6, 9], at=(site, 0))
        (x,) = scores.inputs()
        _, (gradients,) = scores.values_and_gradients(x)
        step = torch.zeros_like(x)
        step[0, 3, 5] = 1e-3
        expected = (scores(x + step) - scores(x - step))[0] / 2e-3
        torch.testing.assert_close(gradients[:, 0, 3, 5], expected.detach(), rtol=1e-2, atol=1e-4)
        assert float(expected.abs().max()) > 1e-3


def test_a_kept_module_does_not_go_on_from_what_was(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    scores = lm(TEXT).scores([8, 12])
    (x,) = scores.inputs()
    with torch.no_grad():
        scores(x, same=4)
        with lm.intervene(ecco.scale("attn_out", 0.5, layer=1)):
            torch.testing.assert_close(scores(x, same=4), scores(x))
        lm.model.transformer.h[0].mlp.c_fc.weight.mul_(1.5)
        torch.testing.assert_close(scores(x, same=4), scores(x))


def test_some_targets_of_a_divergence_are_from_the_same_prediction(open_tiny):
    scores = open_tiny("gpt2", dtype=torch.float64)(TEXT).scores([4, 8, "9:11"], score="kl")
    (x,) = scores.inputs()
    with torch.no_grad():
        torch.testing.assert_close(scores.only(scores.targets[1:])(x * 1.1), scores(x * 1.1)[:, 1:])
