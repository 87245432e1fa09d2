"""Interventions: exact where they change nothing, equal to edited weights, the same in replay as while generating."""

from __future__ import annotations

import threading

import numpy as np
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


@pytest.mark.parametrize(("kind", "changes"), [("llama", {}), ("mistral", {"sliding_window": 6})])
def test_keys_of_a_pattern_are_the_same_tokens_in_a_padded_batch_in_a_window_and_in_the_replay(
    open_tiny, kind, changes
):
    lm = open_tiny(kind, **changes)
    texts = ["The captain is called Nora. The cook is called", "The cook"]
    source = lm("The cook is called Felix. Everyone")
    for change in (
        [ecco.ablate("pattern", units=[0, 1, 2, 3, 9])],
        [ecco.add("pattern", [0.3, 0.7], 0, units=[1, 4]), ecco.replace("pattern", source, 1, positions="prompt")],
    ):
        with lm.intervene(*change):
            together = lm.generate(texts, max_new_tokens=6)
            alone = [lm.generate(text, max_new_tokens=6) for text in texts]
        for run, single in zip(together, alone):
            assert run.ids.tolist() == single.ids.tolist()
            assert (
                run.logits()[run.n_input_tokens - 1 : -1].argmax(-1).tolist() == run.ids[run.n_input_tokens :].tolist()
            )


def test_a_cache_that_hides_where_keys_and_padding_are_is_refused(open_tiny):
    lm = open_tiny("llama")
    for change in (ecco.ablate("pattern", units=[0]), ecco.ablate("mlp_out", positions=[1])):
        with lm.intervene(change), pytest.raises(ecco.OptionError, match=r"cache of fixed size|StaticLayer"):
            lm.generate([TEXT, "The cook"], max_new_tokens=2, cache_implementation="static")


def test_a_changed_pattern_gives_no_weight_to_later_tokens_or_padding(open_tiny):
    lm = open_tiny("llama")
    for change in (ecco.add("pattern", 0.1, 0), ecco.replace("pattern", 0.2, 0)):
        with lm.intervene(change):
            nora, felix = lm(f"{TEXT} Nora").logits(), lm(f"{TEXT} Felix").logits()
            n = len(lm(TEXT))
            assert torch.equal(nora[: n - 1], felix[: n - 1])
            assert torch.isfinite(nora).all()
            shorter = lm([TEXT, f"{TEXT} Nora. The cook"]).capture("logits")[0]
            torch.testing.assert_close(shorter.get("logits"), lm(TEXT).logits())


def test_heads_are_those_of_their_own_stack_and_unknown_ones_are_refused(open_tiny):
    lm = open_tiny("bart", "seq2seq", encoder_attention_heads=4, decoder_attention_heads=2)
    run = lm.generate(TEXT, output="Nora")
    for stack, heads in (("decoder", 2), ("encoder", 4)):
        with lm.intervene(ecco.ablate("z", 0, heads=[1], stack=stack)):
            z = run.capture("z", stack=stack).get("z", 0)
        n = z.shape[-1] // heads
        assert (z[:, n : 2 * n] == 0).all()
        assert (z[:, :n] != 0).any(0).all()
        assert (z[:, 2 * n :] != 0).any(0).all()
        with (
            pytest.raises(ecco.OptionError, match=f"No head {heads}"),
            lm.intervene(ecco.ablate("z", 0, heads=[heads], stack=stack)),
        ):
            pass
    lm = open_tiny("llama")
    vars(lm.model.config)["num_attention_heads"] = None
    with pytest.raises(ecco.OptionError, match="How many heads"), lm.intervene(ecco.ablate("z", 0, heads=[0])):
        pass


def test_a_decoder_whose_stack_is_called_encoder_knows_what_is_generated(open_tiny):
    lm = open_tiny("bert", is_decoder=True)
    run = lm.generate(TEXT, max_new_tokens=4)
    plain, n = logits(run), run.n_input_tokens
    for positions, changed in (
        ("prompt", slice(0, n)),
        ("generated", slice(n, None)),
        ("predicting", slice(n - 1, None)),
    ):
        with lm.intervene(ecco.ablate("mlp_out", 1, positions=positions)):
            differ = (logits(run) != plain).any(-1)
            assert run.capture("mlp_out").get("mlp_out", 1)[changed].eq(0).all()
        first = range(len(run))[changed][0]
        assert differ[first:].all() if positions != "prompt" else differ[first]
        assert not differ[:first].any()
    lm.neurons_to_inhibit = {0: range(60), 1: range(60)}
    assert lm.generate(TEXT, max_new_tokens=4).ids.tolist() != run.ids.tolist()
    masked = open_tiny("bert", "masked")
    run = masked(TEXT)
    plain = logits(run)
    with masked.intervene(ecco.ablate("mlp_out", positions="predicting")):
        assert torch.equal(logits(run), plain)  # nothing is generated


@pytest.mark.parametrize(("kind", "task"), [("llama", "causal"), ("bert", "masked"), ("t5", "seq2seq")])
def test_attributions_under_changed_embeddings_and_logits_are_of_the_changed_model(open_tiny, kind, task):
    lm = open_tiny(kind, task)
    for changes in (
        [ecco.scale("embedding", 2.0), ecco.ablate("embedding", positions=[1])],
        [ecco.add("logits", 5.0, units=[7], positions=[2, 3]), ecco.scale("logits", 0.5, positions="generated")],
    ):
        with lm.intervene(*changes):
            run = lm.generate(TEXT, 4) if task != "masked" else lm("The <mask> is <mask> Nora")
            inside = run.analyze("saliency", score="logit", targets=None if task == "masked" else [-1, -3])
            method = run.analyze("integrated_gradients", score="logit", n_steps=4)
        outside = run.analyze("saliency", score="logit", targets=None if task == "masked" else [-1, -3])
        torch.testing.assert_close(torch.tensor(inside.values.values), torch.tensor(outside.values.values))
        full, shift = run.logits(), int(task != "masked")
        for target in (*inside.targets, *outside.targets, *method.targets):
            assert target.value == pytest.approx(float(full[target.position - shift, target.token_id]), abs=1e-4)


def test_another_threads_changes_are_neither_seen_nor_recorded(open_tiny):
    lm = open_tiny("llama")
    plain = lm.generate(TEXT, 3)
    made: list = []

    def work():
        made.append((lm.generate(TEXT, 3), lm(TEXT), plain.analyze("saliency", targets=[-1]), lm.active))

    thread = threading.Thread(target=work)
    with lm.intervene(ecco.ablate("resid_post", 1)):
        thread.start()
        thread.join(0.2)
    thread.join()
    run, read, result, active = made[0]
    assert run.interventions == read.interventions == active == result.provenance.interventions == ()
    assert run.ids.tolist() == plain.ids.tolist()
    assert torch.equal(run.logits(), plain.logits())


def test_two_language_models_of_one_model_know_of_each_others_changes(open_tiny):
    one = open_tiny("llama")
    other = ecco.from_pretrained((one.model, one.tokenizer))
    run = other(TEXT)
    plain = logits(run)
    with one.intervene(ecco.ablate("mlp_out")):
        made = other(TEXT)
        assert made.interventions == one.active
        changed = made.logits()
        assert torch.equal(run.logits(), changed)
    assert torch.equal(made.logits(), changed)
    assert torch.equal(run.logits(), plain)


def test_blocks_of_the_same_change_add_up_end_in_any_order_and_are_replayed_in_theirs(open_tiny):
    lm = open_tiny("llama")
    run = lm(TEXT)
    twice, one, zero = ecco.scale("mlp_out", 2.0, 0), ecco.add("mlp_out", 1.0, 0), ecco.scale("mlp_out", 0.0, 0)

    def read(run):
        return run.capture("mlp_out").get("mlp_out", 0)

    plain = read(run)
    with lm.intervene(twice):
        assert torch.equal(read(run), 2 * plain)
        made = lm(TEXT)
        with lm.intervene(twice):
            assert torch.equal(read(run), 4 * plain)
            assert torch.equal(read(made), 4 * plain)
        assert torch.equal(read(made), 2 * plain)
    with lm.intervene(twice):
        assert torch.equal(read(made), 2 * plain)  # as it was made, not once more
    first, second = lm.intervene(twice), lm.intervene(one)
    first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    assert lm.active == (one,)
    assert torch.equal(read(run), plain + 1)
    second.__exit__(None, None, None)
    assert torch.equal(read(run), plain)
    assert lm.active == ()
    with lm.intervene(zero), lm.intervene(one):
        made = lm(TEXT)
    with lm.intervene(one):
        assert (read(made) == 1).all()
        with pytest.raises(ecco.OptionError), lm.intervene(ecco.ablate("mlp_pots")):
            pass
        assert lm.active == (one,)
        made.release()
        assert (read(made) == 1).all()


def test_a_runs_values_go_by_the_same_positions(open_tiny):
    lm = open_tiny("llama")
    source, run = lm(TEXT), lm(f"{TEXT} Nora. The cook")
    assert len(source) > 3
    there = source.capture("resid_post").get("resid_post", 0)
    positions = list(reversed(range(len(source))))
    with lm.intervene(ecco.replace("resid_post", source, 0, positions=positions)):
        torch.testing.assert_close(run.capture("resid_post").get("resid_post", 0)[: len(source)], there)
    with (
        pytest.raises(ecco.OptionError, match=f"No position {len(source)} in the run"),
        lm.intervene(ecco.replace("resid_post", source, 0, positions=[1, len(source)])),
    ):
        pass
    with lm.intervene(ecco.add("q", torch.ones(2, 8), 0, positions=[1, 2])):
        changed = run.capture("q").get("q", 0)
    torch.testing.assert_close(changed[1:3], run.capture("q").get("q", 0)[1:3] + 1)


def test_positions_that_no_token_has_are_said(open_tiny):
    lm = open_tiny("llama")
    run = lm(TEXT)
    with lm.intervene(ecco.ablate("mlp_out", positions=[999])), pytest.warns(UserWarning, match=r"positions 999: this"):
        run.logits()
    for make in (ecco.ablate, lambda site, positions: ecco.add(site, [[1.0] * 32] * 2, positions=positions)):
        with pytest.raises(ecco.OptionError, match="positions of tokens count from 0, found -2"):
            make("resid_post", positions=[-1, -2])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_units_and_heads_that_do_not_exist_are_refused_before_the_first_forward(open_tiny, kind):
    lm = open_tiny(kind)
    for change in (ecco.ablate("mlp_post", 0, [5000]), ecco.ablate("pattern", 0, heads=[4])):
        with pytest.raises(ecco.OptionError, match=r"No (unit 5000|head 4) for ablate"), lm.intervene(change):
            pytest.fail("the block was entered")
    with pytest.raises(ecco.OptionError, match="units of tokens count from 0, found -1"):
        ecco.ablate("pattern", 0, -1)


def test_logits_of_a_classifier_can_be_changed(open_tiny):
    for kind in ("bert", "gpt2"):
        lm = open_tiny(kind, "sequence_classification", num_labels=3)
        run = lm(TEXT)
        plain = logits(run)
        with lm.intervene(ecco.add("logits", 5.0, units=[1])):
            torch.testing.assert_close(run.logits(), plain + torch.tensor([0.0, 5.0, 0.0]))
            torch.testing.assert_close(run.capture("logits").get("logits"), run.logits())
            value = run.analyze("saliency", targets=[1], score="logit").targets[0].value
        assert value == pytest.approx(float(plain[1]) + 5, abs=1e-4)
        with (
            pytest.raises(ecco.OptionError, match="classes, not of tokens; leave positions out"),
            lm.intervene(ecco.add("logits", 5.0, positions=[0])),
        ):
            run.logits()


@pytest.mark.parametrize(
    ("kind", "task", "site"), [("albert", "masked", "mlp_post"), ("llama", "causal", "resid_post")]
)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_forward_that_ends_early_leaves_the_next_one_right(open_tiny, kind, task, site, error):
    lm = open_tiny(kind, task)

    def fail(*_):
        raise error("once")

    with lm.intervene(ecco.ablate(site, 0, positions=[0])):
        right = lm(TEXT).logits()
        handle = lm.architecture.place("mlp_out", 0, lm.stack).module.register_forward_hook(fail)
        with pytest.raises(error):
            lm("The cook is called Nora").logits()
        handle.remove()
        run = lm(TEXT)
        torch.testing.assert_close(run.capture("logits").get("logits"), right)
        torch.testing.assert_close(run.logits(), right)


@pytest.mark.parametrize("how", ["wrapped", "in place", "by layer"])
def test_a_compiled_model_is_changed_and_read_like_any_other(open_tiny, how):
    lm = open_tiny("llama")
    run = lm.generate(TEXT, 3)
    plain, model = logits(run), lm.model
    with lm.intervene(ecco.scale("mlp_post", 3.0)):
        expected, generated = logits(run), lm.generate(TEXT, 3).ids.tolist()
    if how == "wrapped":
        model = torch.compile(model, backend="eager")
    else:
        for part in [model] if how == "in place" else model.model.layers:
            part.compile(backend="eager")
    model(run.ids[None])
    opened = ecco.from_pretrained((model, lm.tokenizer))
    assert opened.model is lm.model
    lm = opened
    again = lm.replay(run.transcript)
    torch.testing.assert_close(again.logits(), plain)
    assert again.capture("mlp_post").get("mlp_post", 0).shape[0] == len(run)
    with lm.intervene(ecco.scale("mlp_post", 3.0)):
        torch.testing.assert_close(logits(again), expected)
        torch.testing.assert_close(lm.model(run.ids[None]).logits[0], expected)
        assert lm.generate(TEXT, 3).ids.tolist() == generated
    torch.testing.assert_close(model(run.ids[None]).logits[0], plain)


@pytest.mark.parametrize(
    "value",
    ["x", None, object(), {0: 1.0}, 10**400, torch.ones(1, 1, 1), "lm"],
    ids=["x", "None", "object", "dict", "huge", "cube", "lm"],
)
def test_a_value_that_is_no_number_is_one_sentence(open_tiny, value):
    value = open_tiny("llama") if isinstance(value, str) and value == "lm" else value
    for make in (ecco.add, ecco.replace):
        with pytest.raises(ecco.OptionError, match="The value of an intervention is"):
            make("mlp_post", value)
    with pytest.raises(ecco.OptionError):
        ecco.scale("mlp_post", value)


@pytest.mark.parametrize("switch", [None, [1, 2], {0: 5}, {"x": [1]}, {0: ["a"]}], ids=repr)
def test_a_bad_switch_of_the_original_is_one_sentence(gpt2, switch):
    try:
        gpt2.neurons_to_inhibit = switch
        with pytest.raises(ecco.OptionError, match="neurons_to_inhibit is a dict"):
            gpt2.generate(TEXT, 2)
    finally:
        gpt2.neurons_to_inhibit = {}


def test_what_is_compiled_stays_uncompiled_until_the_last_block_ends():
    from torch._dynamo import eval_frame

    from ecco_core.models.hooks import uncompiled

    before = eval_frame._stance
    one, other = uncompiled(), uncompiled()  # of two threads with a model each
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert eval_frame._stance.stance == "force_eager"
    other.__exit__(None, None, None)
    assert eval_frame._stance == before


def test_a_classifier_with_two_stacks_is_changed_where_it_is_read(open_tiny):
    lm = open_tiny("bart", "sequence_classification")
    first, other = lm("Nora is here.</s>"), lm("Felix is not.</s>")
    n = min(len(first), len(other)) - 1
    with lm.intervene(ecco.replace("resid_post", other, 0, positions=list(range(n)))):
        changed = first.capture("resid_post", layers=0).get("resid_post", 0)
    torch.testing.assert_close(changed[:n], other.capture("resid_post", layers=0).get("resid_post", 0)[:n])


def test_a_thread_that_waits_for_the_model_holds_nothing_that_its_user_needs(open_tiny):
    lm, done = open_tiny("gpt2"), []
    run = lm(TEXT)
    run.analyze("saliency")  # imports

    def work():
        done.append(run.analyze("saliency").title)

    def intervened():
        with lm.intervene(ecco.ablate("resid_post", 1)):
            waiting.start()
            waiting.join(0.2)
            work()

    waiting, using = (threading.Thread(target=one, daemon=True) for one in (work, intervened))
    using.start()
    using.join(10)
    waiting.join(10)
    assert len(done) == 2


def test_an_analysis_has_gradients_where_its_caller_wants_none(open_tiny):
    run = open_tiny("gpt2")(TEXT)
    expected = ecco.analyze("saliency", run, targets=[-1]).values.values
    for block in (torch.inference_mode, torch.no_grad):
        with block():
            found = ecco.analyze("saliency", run, targets=[-1]).values.values
            assert not torch.is_grad_enabled()
        np.testing.assert_array_equal(found, expected)
