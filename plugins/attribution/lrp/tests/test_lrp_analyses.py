"""What a person asks for: all tasks, targets and places; relevance that adds up; one sentence for bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ecco_core as ecco

TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called"


def relevance(run, **options):
    return run.analyze("lrp", **options)


@pytest.fixture(scope="module")
def without_biases(open_tiny):
    """A LLaMA has neither biases nor embeddings of positions."""
    return open_tiny("llama", dtype=torch.float64)


@pytest.fixture(scope="module")
def prose_run(prose):
    return prose.generate(TEXT, max_new_tokens=1)


def test_the_name_is_given_its_token(prose_run):
    for rule in ("attnlrp", "cp"):
        found = relevance(prose_run, rule=rule, contrast=" Felix")
        best = max(zip(found.values.values[0], found.sources), key=lambda pair: pair[0])[1]
        assert best.text == " Nora"
        assert best.positions == (4,)


def test_the_ledger_says_where_the_rest_is(prose_run):
    plain, found = relevance(prose_run), relevance(prose_run, ledger=True)
    np.testing.assert_array_equal(plain.values.values, found.values.values)
    said = next(note for note in found.notes if note.startswith("of the logits' sum"))
    tokens, biases, added, softmax = (
        float(said.split(f"{name} ")[1].split(",")[0].split(";")[0])
        for name in ("tokens", "biases", "that are added", "softmax")
    )
    score = found.targets[0].value
    assert tokens + biases + added + softmax == pytest.approx(score, rel=1e-3)
    assert tokens == pytest.approx(found.values.values.sum(), rel=1e-3)
    assert min(abs(biases), abs(added), abs(softmax)) > 0.01
    assert float(found.completeness.values[0]) == pytest.approx(score - tokens, abs=1e-3 * score)
    assert "wpe" in plain.notes[0]
    assert "wpe" in found.notes[0]


def test_a_contrast_is_the_difference_of_two_relevances(without_biases):
    run, other = without_biases(TEXT), 40
    place = len(run) - 1
    instead = without_biases({"input_ids": torch.tensor([[*run.ids[:-1].tolist(), other]])})
    both = relevance(run, targets=[place], contrast=other)
    apart = [relevance(each, targets=[place]).values.values for each in (run, instead)]
    np.testing.assert_allclose(both.values.values, apart[0] - apart[1], atol=1e-6)
    assert relevance(run, targets=[place], contrast=other, rule="cp").relative_error().max() < 1e-5


def test_all_targets_at_once_are_as_one_by_one(without_biases):
    run = without_biases(TEXT)
    places = list(range(3, len(run)))
    together = relevance(run, targets=places).values.values
    for row, place in zip(together, places):
        alone = relevance(run, targets=[place]).values.values[0]
        np.testing.assert_allclose(row[: len(alone)], alone, atol=1e-8 * np.abs(alone).max())


def test_groups_of_targets_that_fit_into_memory(without_biases, monkeypatch):
    run = without_biases(TEXT)
    whole = relevance(run, targets=[5, 9, 15])
    layers = run.analyze("lrp_layers", targets=[5, 9, 15])
    monkeypatch.setattr("ecco_lrp.relevance.NUMBERS", 1)
    np.testing.assert_allclose(relevance(run, targets=[5, 9, 15]).values.values, whole.values.values, atol=1e-9)
    again = run.analyze("lrp_layers", targets=[5, 9, 15])
    np.testing.assert_allclose(again.values.values, layers.values.values, atol=1e-8)


@pytest.mark.parametrize("how", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3", "bert", "t5"])
def test_every_kernel_of_attention_gives_the_same(kind, how, open_tiny):
    task = {"bert": "masked", "t5": "seq2seq"}.get(kind, "causal")
    lm = open_tiny(kind, task, dtype=torch.float64)
    run = lm.generate(TEXT, output=TEXT) if task == "seq2seq" else lm(TEXT)
    for rule in ("attnlrp", "cp"):
        lm.model.set_attn_implementation("eager")
        eager = relevance(run, rule=rule, targets=[4, 9]).values.values
        lm.model.set_attn_implementation(how)
        found = relevance(run, rule=rule, targets=[4, 9]).values.values
        np.testing.assert_allclose(found, eager, atol=1e-6 * np.abs(eager).max())


def test_layers_keep_the_sum_where_nothing_is_added(without_biases):
    run = without_biases(TEXT)
    found = run.analyze("lrp_layers", rule="cp", targets=[6, 9])
    score = sum(target.value for target in relevance(run, targets=[6, 9]).targets)
    np.testing.assert_allclose(found.values.values.sum(1), score, rtol=1e-5)
    assert found.values.values.shape == (2, 9)
    some = run.analyze("lrp_layers", rule="cp", targets=[6, 9], layers=[-1])
    np.testing.assert_allclose(some.values.values[0], found.values.values[1], rtol=1e-9)
    assert "sum of 2 logits" in found.title
    assert str(found)


def test_heads_and_neurons_have_the_relevance_of_what_their_blocks_add(without_biases):
    run = without_biases(TEXT)
    scores = run.scores(targets=[9], score="logit")
    heads = run.analyze("lrp_heads", rule="cp", targets=[9]).values.values
    neurons = run.analyze("lrp_neurons", rule="cp", targets=[9], top_k=1000)
    architecture, model = run.lm.architecture, run.lm.model
    from ecco_lrp.rules import Rules

    for layer in range(2):
        for site, found in (("attn_out", heads[layer].sum()), ("mlp_out", None)):
            inside = scores.inside(architecture.place(site, layer, "decoder"), "decoder")
            (passing,) = inside.inputs()
            with Rules(model, "cp"):
                _, (gradient,) = inside.values_and_gradients(passing)
            whole = float((gradient[0] * passing).sum())
            found = sum(r[2] for r in neurons.rows if r[0] == layer) if found is None else found
            assert found == pytest.approx(whole, rel=1e-6)
    assert heads.shape == (2, 4)
    assert len(neurons.rows) == 2 * 64
    assert [abs(row[2]) for row in neurons.rows] == sorted((abs(row[2]) for row in neurons.rows), reverse=True)
    few = run.analyze("lrp_neurons", rule="cp", targets=[9], top_k=3)
    assert few.rows == neurons.rows[:3]


def test_a_model_of_two_stacks(open_tiny):
    run = open_tiny("t5", "seq2seq", dtype=torch.float64).generate(TEXT, output=TEXT)
    found = relevance(run, rule="cp", targets=[7])
    assert {source.stack for source in found.sources} == {"encoder", "decoder"}
    assert found.relative_error().max() < 1e-9
    assert np.abs(found.values.values).min() >= 0
    encoder = run.analyze("lrp_layers", rule="cp", targets=[7], stack="encoder")
    decoder = run.analyze("lrp_layers", rule="cp", targets=[7])
    assert encoder.values.values.shape[1] == len(run.transcript.tokens["encoder"])
    of_encoder = sum(v for v, s in zip(found.values.values[0], found.sources) if s.stack == "encoder")
    np.testing.assert_allclose(encoder.values.values.sum(1), of_encoder, rtol=1e-8)
    assert decoder.values.values[-1].sum() == pytest.approx(found.targets[0].value)
    assert run.analyze("lrp_heads", targets=[7], cross=True).values.values.shape == (2, 4)
    with pytest.raises(ecco.OptionError, match="No stack 'encoder' in this run; it has decoder"):
        open_tiny("llama")(TEXT).analyze("lrp_layers", stack="encoder", targets=[4])


def test_masked_places_are_explained_one_by_one(open_tiny):
    run = open_tiny("modernbert", "masked", dtype=torch.float64)(TEXT)
    both, one, other = (run.analyze("lrp_heads", targets=t).values.values for t in ([3, 8], [3], [8]))
    np.testing.assert_allclose(both, one + other, rtol=1e-8)
    assert relevance(run, targets=[3]).values.values[0, 3] == 0  # the mask stands there
    assert "the mask's own embedding" in relevance(run, targets=[3]).notes[0]


def test_shipped_models_of_each_task():
    classifier = ecco.from_pretrained("tiny:classifier")
    found = relevance(classifier("What a wonderful day, I am happy."), ledger=True)
    assert found.targets[0].kind == "class"
    assert np.isfinite(found.values.values).all()
    masked = ecco.from_pretrained("tiny:masked")
    assert np.isfinite(relevance(masked(TEXT), targets=[4]).values.values).all()
    both = ecco.from_pretrained("tiny:seq2seq")
    assert np.isfinite(relevance(both.generate("The cat sat.", max_new_tokens=4)).values.values).all()


def test_words_have_the_sum_of_their_tokens(prose_run):
    tokens, words = relevance(prose_run), relevance(prose_run, features="words")
    assert len(words.sources) < len(tokens.sources)
    for value, word in zip(words.values.values[0], words.sources):
        assert value == pytest.approx(tokens.values.values[0, list(word.positions)].sum())


def test_interventions_apply(prose):
    plain = relevance(prose(TEXT), targets=[-1])
    with prose.intervene(ecco.ablate("attn_out", layer=1)):
        changed = relevance(prose(TEXT), targets=[-1], rule="cp", ledger=True)
    assert changed.targets[0].value != plain.targets[0].value
    assert float(changed.notes[1].rsplit(" ", 1)[1]) == pytest.approx(0, abs=1e-3)


def test_half_precision_is_near(open_tiny):
    exact = relevance(open_tiny("llama", dtype=torch.float64)(TEXT), targets=[9]).values.values[0]
    half = relevance(open_tiny("llama", dtype=torch.bfloat16)(TEXT), targets=[9]).values.values[0]
    assert np.corrcoef(exact, half)[0, 1] > 0.98


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_float16_is_near_also_where_states_are_clamped_to_it(kind, open_tiny):
    found = []
    for dtype in (torch.float64, torch.float16):
        lm = open_tiny(kind, "seq2seq" if kind == "t5" else "causal", dtype=dtype)
        run = lm.generate(TEXT, output=TEXT) if kind == "t5" else lm(TEXT)
        found.append(relevance(run, targets=[9]).values.values[0])
    assert np.abs(found[1] - found[0]).max() < 0.05 * np.abs(found[0]).max()


def test_inside_of_a_block_that_wants_no_gradients(prose_run):
    own = relevance(prose_run).values.values
    with torch.no_grad():
        np.testing.assert_array_equal(relevance(prose_run).values.values, own)
    with torch.inference_mode():
        np.testing.assert_array_equal(relevance(prose_run).values.values, own)


@pytest.mark.parametrize("score", ["logprob", "prob", "entropy", "kl"])
@pytest.mark.parametrize("name", ["lrp", "lrp_layers", "lrp_heads", "lrp_neurons"])
def test_relevance_is_of_logits(name, score, prose_run):
    with pytest.raises(ecco.TargetError, match=f"Relevance is of a logit .* found score='{score}': leave score out"):
        prose_run.analyze(name, score=score)


def test_bad_input_is_said_in_one_sentence(prose_run, open_tiny):
    with pytest.raises(ecco.OptionError, match="top_k is at least 1, found 0"):
        prose_run.analyze("lrp_neurons", top_k=0)
    with pytest.raises(ecco.OptionError, match="No layer 9; the decoder has layers 0 to 3"):
        prose_run.analyze("lrp_layers", layers=[9])
    with pytest.raises(ecco.OptionError, match="rule"):
        relevance(prose_run, rule="epsilon")
    with pytest.raises(ecco.OptionError, match="No site 'z'"):
        open_tiny("mamba")(TEXT).analyze("lrp_heads", targets=[3])
    with pytest.raises(ecco.OptionError, match="experts are fused"):
        open_tiny("mixtral")(TEXT).analyze("lrp_neurons", targets=[3])


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize("rule", ["attnlrp", "cp"])
def test_layers_have_what_passes_them_on_the_way_to_the_tokens(stack, rule, open_tiny):
    """One graph of the whole model; in cross attention, what comes from the other stack shares."""
    from ecco_lrp.rules import Rules

    lm = open_tiny("t5", "seq2seq", dtype=torch.float64)
    run = lm.generate(TEXT, output=TEXT)
    scores, kept = run.scores(targets=[7], score="logit"), []
    blocks = [lm.architecture.place("resid_post", layer, stack).module for layer in range(2)]
    hooks = [block.register_forward_hook(lambda *given: kept.append(given[2][0])) for block in blocks]
    with Rules(lm.model, rule):
        inputs = [tensor.requires_grad_() for tensor in scores.inputs()]
        done = scores.run_part(inputs, torch.tensor([0]), split=False).scores
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(done.sum(), kept)
    expected = [(tensor * gradient)[0].sum(-1).detach() for tensor, gradient in zip(kept, gradients)]
    with torch.inference_mode():
        found = run.analyze("lrp_layers", rule=rule, targets=[7], stack=stack)
    np.testing.assert_allclose(found.values.values, torch.stack(expected), atol=1e-9)


ADDED = {
    "in place": lambda x: torch.ones_like(x).detach().add_(x),
    "named": lambda x: torch.add(torch.ones_like(x).detach(), other=x),
    "where": lambda x: torch.ones_like(x).detach().where(x.detach() > 0, x),
    "masked": lambda x: x.masked_fill(x.detach() > 0, 2.0),
    "joined": lambda x: torch.cat(tensors=[torch.ones_like(x).detach(), x], dim=-1)[..., 4 : 4 + x.shape[-1]],
}


@pytest.mark.parametrize("how", ADDED)
def test_the_ledger_sees_constants_however_they_are_added(how, without_biases):
    run = without_biases(TEXT)
    module = run.lm.model.model.layers[1].mlp
    handle = module.register_forward_hook(lambda *given: ADDED[how](given[2]))
    try:
        plain, found = relevance(run, targets=[9]), relevance(run, targets=[9], ledger=True)
    finally:
        handle.remove()
    np.testing.assert_array_equal(plain.values.values, found.values.values)
    said = found.notes[-1]
    assert "constants that are added" in said
    assert abs(float(said.rsplit(" ", 1)[1])) < 1e-5


def test_the_note_names_only_what_is_there(without_biases, prose_run):
    run = without_biases(TEXT)
    assert relevance(run, targets=[9], rule="cp").notes[0].endswith("is taken by constants, if any is added")
    assert "biases" not in relevance(run, targets=[9]).notes[0]
    assert "taken by biases, embeddings" in relevance(prose_run).notes[0]


def test_layers_that_are_named_twice_count_once(prose_run):
    with pytest.raises(ecco.OptionError, match="layers is empty; leave it out for all 4 of the decoder"):
        prose_run.analyze("lrp_layers", layers=[])
    for layers in ([1], [1, 1], [1, -3]):
        assert len(prose_run.analyze("lrp_neurons", layers=layers, top_k=10**6).rows) == 768
        assert prose_run.analyze("lrp_heads", layers=layers).values.values.shape[0] == 1
