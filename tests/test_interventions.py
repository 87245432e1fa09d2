"""Interventions: exact where they change nothing, equal to edited weights, the same in replay as while generating."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

import ecco_core as ecco

TEXT = "The captain is called"
OPENED = [
    ("gpt2", "causal"),
    ("llama", "causal"),
    ("opt", "causal"),
    ("gpt_neox", "causal"),
    ("granite", "causal"),
    ("mamba", "causal"),
    ("bert", "masked"),
    ("albert", "masked"),
    ("t5", "seq2seq"),
    ("bart", "seq2seq"),
]


@pytest.fixture(scope="module", params=OPENED, ids=lambda pair: pair[0])
def opened(request, open_tiny):
    return open_tiny(*request.param)


def some_run(lm, **options):
    return lm.generate(TEXT, max_new_tokens=4, **options) if lm.task in ("causal", "seq2seq") else lm(TEXT)


def logits(run):
    run.release()
    return run.logits()


def sites_and_layers(lm):
    for stack in lm.architecture.stacks:
        for site in lm.architecture.sites(stack):
            if site in ("embedding", "logits"):
                yield stack, site, None
            else:
                yield from ((stack, site, layer) for layer in lm.architecture.layers_with(site, stack)[:2])


INSIDE = ("q", "k", "v", "pattern", "cross_q", "cross_k", "cross_v", "cross_pattern")


def editable(lm, stack, site):
    return not site.endswith("pattern") or site.replace("pattern", "q") in lm.architecture.sites(stack)


def test_an_intervention_that_changes_nothing_leaves_the_logits_bit_identical_and_zeros_change_them(opened):
    from ecco_core.models.attention import attending

    run = some_run(opened)
    plain = logits(run)
    with attending(opened.model):
        plain_inside = logits(run)
    for stack, site, layer in sites_and_layers(opened):
        if site == "logits" and opened.task != "masked" and layer is None and stack != run.transcript.stack:
            continue
        if not editable(opened, stack, site):
            continue
        expected = plain_inside if site in INSIDE else plain
        for change in (ecco.scale(site, 1.0, layer, stack=stack), ecco.add(site, 0.0, layer, stack=stack)):
            with opened.intervene(change):
                assert torch.equal(logits(run), expected), change
        if site not in ("q", "k", "cross_q", "cross_k", "router"):
            with opened.intervene(ecco.ablate(site, layer, stack=stack)):
                assert not torch.allclose(logits(run), expected), (stack, site, layer)
    assert torch.equal(logits(run), plain)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt", "gpt_neox"])
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_ablating_neurons_and_heads_equals_editing_the_weights(open_tiny, kind, data):
    lm = open_tiny(kind)
    run = lm(TEXT)
    layer = data.draw(st.integers(0, lm.architecture.n_layers("decoder") - 1))
    for site, change in (
        ("mlp_post", {"units": data.draw(st.lists(st.integers(0, 31), min_size=1, unique=True))}),
        ("z", {"heads": [data.draw(st.integers(0, 3))]}),
    ):
        down = lm.architecture.place(site, layer, "decoder").module
        weight = down.weight  # Linear (out, in); GPT-2's Conv1D (in, out)
        columns = change.get("units") or [change["heads"][0] * 8 + i for i in range(8)]
        with lm.intervene(ecco.ablate(site, layer, **change)):
            ablated = logits(run)
        saved = weight.detach().clone()
        with torch.no_grad():
            if type(down).__name__ == "Conv1D":
                weight[columns] = 0
            else:
                weight[:, columns] = 0
        edited = logits(run)
        with torch.no_grad():
            weight.copy_(saved)
        torch.testing.assert_close(ablated, edited, atol=1e-5, rtol=1e-4)


CHANGES = {
    "gpt2": [ecco.ablate("mlp_post", 0, [1, 2, 3], positions="predicting"), ecco.scale("z", 3.0, 1, heads=[0])],
    "llama": [ecco.add("resid_post", [1.0] * 32, 0, positions=[2, 5]), ecco.ablate("pattern", 1, heads=[1])],
    "opt": [ecco.scale("mlp_post", 4.0, positions="prompt"), ecco.ablate("v", 0, heads=[0])],
    "mamba": [ecco.scale("mixer_out", 2.0, positions="generated"), ecco.ablate("resid_pre", 1, [0], positions=[5])],
    "t5": [ecco.scale("cross_attn_out", 2.0), ecco.ablate("mlp_post", 0, [3], positions="generated"),
           ecco.ablate("resid_post", 0, [1], positions=[1], stack="encoder")],
    "bart": [ecco.ablate("mlp_out", 1, positions="predicting"), ecco.scale("embedding", 2.0, stack="encoder")],
}  # fmt: skip


@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_replay_equals_the_generation_step_by_step(open_tiny, kind, cache):
    lm = open_tiny(kind, "seq2seq" if kind in ("t5", "bart") else "causal")
    plain = some_run(lm)
    with lm.intervene(*CHANGES[kind]):
        ids = lm.tensors(plain.transcript)
        given = ids["encoder"] if "encoder" in ids else ids["decoder"][: plain.n_input_tokens]
        from ecco_core.models.interventions import prompted

        with prompted(lm.model, plain.n_input_tokens), torch.no_grad():
            steps = lm.model.generate(
                input_ids=given[None], attention_mask=torch.ones_like(given)[None], max_new_tokens=4, min_new_tokens=4,
                do_sample=False, use_cache=cache, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
        run = lm.generate(TEXT, max_new_tokens=4, min_new_tokens=4, do_sample=False, use_cache=cache)
    assert run.transcript.interventions == tuple(map(repr, CHANGES[kind]))
    stepwise = torch.stack(steps.logits)[:, 0]
    replayed = run.capture("logits").get("logits")[run.n_input_tokens - 1 : -1]
    torch.testing.assert_close(replayed, stepwise, atol=2e-5, rtol=1e-4)
    assert torch.equal(run.ids[run.n_input_tokens :], steps.sequences[0, -4:])
    assert not torch.allclose(replayed, plain.capture("logits").get("logits")[plain.n_input_tokens - 1 : -1])


def test_a_run_made_under_an_intervention_is_replayed_under_it_and_others_are_not(open_tiny):
    lm = open_tiny("gpt2")
    plain = lm(TEXT)
    before = plain.capture("mlp_post").get("mlp_post", 0)
    with lm.intervene(ecco.ablate("mlp_post", 0, [5])):
        changed = lm(TEXT)
        assert (plain.capture("mlp_post").get("mlp_post", 0)[:, 5] == 0).all()
    assert (changed.capture("mlp_post").get("mlp_post", 0)[:, 5] == 0).all()
    assert torch.equal(plain.capture("mlp_post").get("mlp_post", 0), before)
    assert changed.provenance().interventions == ("ablate mlp_post, layers 0, units 5",)
    with pytest.raises(ecco.OptionError, match="names but does not hold: ablate mlp_post"):
        lm.replay(changed.transcript)
    assert lm.replay(plain.transcript).text == plain.text


def test_blocks_nest_in_order_and_are_undone_after_an_error_and_an_interrupt(open_tiny):
    lm = open_tiny("llama")
    run = lm(TEXT)
    plain = logits(run)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), lm.intervene(ecco.ablate("mlp_out", 0)), lm.intervene(ecco.scale("pattern", 0.5, 1)):
            raise error(len(lm.active), bool(torch.allclose(logits(run), plain)))
        assert lm.active == ()
        assert torch.equal(logits(run), plain)
        assert lm.model.config._attn_implementation == "sdpa"
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())
    with lm.intervene(ecco.replace("mlp_out", 1.0, 0), ecco.scale("mlp_out", 3.0, 0)):
        assert (run.capture("mlp_out").get("mlp_out", 0) == 3).all()


def test_another_model_of_the_class_is_left_alone(open_tiny):
    one, other = open_tiny("llama"), open_tiny("llama")
    other.model.config = one.model.config  # even with a shared config
    run = other(TEXT)
    plain = logits(run)
    with one.intervene(ecco.ablate("v", 0), ecco.ablate("mlp_out", 0)):
        torch.testing.assert_close(logits(run), plain, atol=1e-6, rtol=1e-5)


def test_patching_from_another_run(open_tiny):
    lm = open_tiny("llama")
    clean, corrupt = lm("The captain is called Nora"), lm("The cook is called Felix")
    n = min(len(clean), len(corrupt))
    with lm.intervene(ecco.replace("resid_post", clean, 1)):
        patched = logits(corrupt)[:n]
    torch.testing.assert_close(patched, logits(clean)[:n])
    with lm.intervene(ecco.replace("resid_post", clean, 1, positions=[2])):
        patched = logits(corrupt)
    torch.testing.assert_close(patched[2], logits(clean)[2])
    torch.testing.assert_close(patched[3:], logits(corrupt)[3:])


def test_the_originals_switches_change_the_generated_text(prose):
    prompt = "The captain is called Nora. The name of the captain is"
    plain = prose.generate(prompt, max_new_tokens=12, do_sample=False)
    try:
        prose.neurons_to_inhibit = {"0": range(300), 1: range(300)}
        inhibited = prose.generate(prompt, max_new_tokens=12, do_sample=False)
        neurons = inhibited.capture("mlp_post").get("mlp_post", 1)
        assert (neurons[plain.n_input_tokens - 1 :, :300] == 0).all()
        before = slice(0, plain.n_input_tokens - 1)
        assert torch.equal(neurons[before], plain.capture("mlp_post").get("mlp_post", 1)[before])
    finally:
        prose.neurons_to_inhibit = {}
    assert inhibited.output_text != plain.output_text
    try:
        prose.neurons_to_induce = {2: range(200)}
        assert prose.generate(prompt, max_new_tokens=12, do_sample=False).output_text != plain.output_text
    finally:
        prose.neurons_to_induce = {}
    assert prose.generate(prompt, max_new_tokens=12, do_sample=False).output_text == plain.output_text


def test_attributions_are_those_of_the_changed_model(open_tiny):
    lm = open_tiny("gpt2", dtype=torch.float64)
    run = lm("The captain is called Nora")
    with lm.intervene(ecco.ablate("mlp_post", 0, [1, 2]), ecco.ablate("pattern", 1, heads=[0])):
        changed = run.analyze("input_x_gradient", targets=[3, 4], score="logit")
        leaf = lm.model.get_input_embeddings()(run.ids)[None].detach().requires_grad_()
        scores = lm.model(inputs_embeds=leaf).logits[0, [2, 3]].gather(-1, run.ids[[3, 4], None])[:, 0]
        naive = torch.stack([(torch.autograd.grad(s, leaf, retain_graph=True)[0] * leaf).sum(-1)[0] for s in scores])
    torch.testing.assert_close(torch.as_tensor(changed.values.values), naive[:, :4].detach())
    assert changed.provenance.interventions
    plain = run.analyze("input_x_gradient", targets=[3, 4], score="logit")
    assert not plain.provenance.interventions
    assert abs(plain.values.values - changed.values.values).max() > 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: ecco.ablate("mlp_pots", 0), "No site 'mlp_pots' .* Did you mean 'mlp_post'"),
        (lambda: ecco.ablate("mlp_post", 9), "No layer 9 for ablate mlp_post, layers 9; the decoder has layers 0 to 1"),
        (lambda: ecco.ablate("mlp_post", 0, [999]), "No unit 999 for ablate mlp_post, layers 0, units 999; .* has 64"),
        (lambda: ecco.ablate("mlp_post", 0, heads=[1]), "'mlp_post' has no heads"),
        (lambda: ecco.ablate("z", 0, heads=[4]), "No head 4"),
        (lambda: ecco.ablate("z", 0, stack="encoder"), "No stack 'encoder'"),
        (lambda: ecco.ablate("z", 0, positions="promt"), "Did you mean 'prompt'"),
        (lambda: ecco.add("resid_post", [1.0, 2.0], 0), "has 2 units; the site has 32"),
        (lambda: ecco.add("resid_post", ["x"], 0), "is numbers, found list"),
        (lambda: ecco.scale("resid_post", "big", 0), "multiplies by a number, found 'big'"),
        (lambda: ecco.ablate("mlp_post", "all"), "layer takes a number or several, found 'all'"),
        (lambda: ecco.ablate("z", 0, head=1), "ablate has no option 'head'. Did you mean 'heads'"),
        (lambda: "ablate", "made by ecco.ablate"),
    ],
)  # fmt: skip
def test_a_bad_intervention_is_one_sentence(open_tiny, change, message):
    lm = open_tiny("llama")
    with pytest.raises(ecco.EccoError, match=message), lm.intervene(change()):
        lm(TEXT).logits()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


def test_positions_of_a_padded_batch_are_each_prompts_own(open_tiny):
    lm = open_tiny("llama")
    prompts = ["The captain is called", "Nora", "Everyone thanked the captain called Nora."]
    change = ecco.scale("mlp_out", 5.0, 0, positions=[1, 2]), ecco.ablate("resid_post", 1, [3], positions="generated")
    with lm.intervene(*change):
        together = lm.generate(prompts, max_new_tokens=5, do_sample=False)
        alone = [lm.generate(prompt, max_new_tokens=5, do_sample=False) for prompt in prompts]
    assert [run.ids.tolist() for run in together] == [run.ids.tolist() for run in alone]
