"""The original library's notebooks, by its own calls, on models of ours."""

from __future__ import annotations

import numpy as np
import pytest

import ecco_core as ecco

PROMPT = (
    "We met a captain called Nora. We met a cook called Felix. They talked until midnight.\n\n"
    "The name of the captain was"
)


@pytest.fixture(scope="module")
def lm():
    return ecco.from_pretrained("tiny:prose", activations=True)


@pytest.fixture(scope="module")
def output(lm):
    return lm.generate(PROMPT, generate=3, do_sample=False)


def test_evolution_of_a_token(output):
    """Notebook "Evolution of a selected token": what each layer would say in a place."""
    position = output.n_input_tokens
    found = output.layer_predictions(position=position, topk=5)
    assert found.values.shape == (4, 5)
    assert (np.diff(found.values.values, axis=1) <= 0).all()
    assert found.texts.values[-1, 0] == output.tokens[position]
    one = output.layer_predictions(position=position, layer=3, topk=2)
    assert one.values.shape == (1, 2)
    np.testing.assert_allclose(one.values.values[0], found.values.values[-1, :2], rtol=1e-4)


def test_comparing_rankings(lm, output):
    """Notebook "Comparing token rankings": of what was chosen, and of watched tokens in one place."""
    chosen = output.rankings()
    assert chosen.values.shape == (4, 3)
    assert (chosen.values.values[-1] == 1).all(), "greedy decoding takes the best token of the last layer"
    watch = [lm.tokenizer(" Nora")["input_ids"][-1], lm.tokenizer(" Felix")["input_ids"][-1]]
    watched = output.rankings_watch(watch=watch, position=output.n_input_tokens)
    assert watched.values.shape == (4, 2)
    assert watched.values.values[-1, 0] == 1
    np.testing.assert_array_equal(watched.values.values[:, 0], chosen.values.values[:, 0])
    following = lm(PROMPT).rankings_watch(watch=watch, position=-1, printJson=False)  # the one not chosen yet
    np.testing.assert_array_equal(following.values.values, watched.values.values)


def test_neuron_factors_of_a_gpt(output):
    """Notebook "Neuron factors": NMF of all layers' neurons, or of some, and its page."""
    factors = output.run_nmf(n_components=4)
    assert factors.values.shape == (4, len(output))
    assert (factors.values.values >= 0).all()
    assert factors.loadings.shape == (4, 4 * 768)
    some = output.run_nmf(n_components=3, from_layer=1, to_layer=3)
    assert some.loadings.shape == (3, 2 * 768)
    assert output.run_nmf(n_components=3, from_layer=2).loadings.shape == (3, 2 * 768)
    some.explore(input_sequence=0, printJson=False)
    np.testing.assert_array_equal(some.components, some.values.values)


def test_neuron_factors_of_a_bert():
    """Notebook "Neuron factors of BERT": a masked model, given what its tokenizer returns."""
    lm = ecco.from_pretrained("tiny:masked", activations=True)
    inputs = lm.tokenizer(["The captain is called Nora. The cook is called Felix."], return_tensors="pt")
    output = lm(inputs)
    layers, width = output.activations["encoder"].shape[1:3]
    assert output.activations["encoder"].shape[3] == len(output) == inputs["input_ids"].shape[1]
    assert output.run_nmf(n_components=3).loadings.shape == (3, layers * width)


def test_output_token_scores(lm, output):
    """Notebook "Output token scores": candidates for the next token of a text."""
    found = lm.predict_token(PROMPT, topk=10)
    assert found.values.shape[-1] == 10
    assert found.texts.values[0, 0] == output.tokens[output.n_input_tokens]
    inputs = lm.tokenizer([PROMPT], return_tensors="pt")
    hot = lm.predict_token(inputs, topk=10, temperature=5.0)
    np.testing.assert_array_equal(hot.ids.values, found.ids.values)
    assert hot.values.values[0, 0] < found.values.values[0, 0]


def test_cca_similarity(lm):
    """Notebook "Language models and CCA similarity": layers' states, given as (unit, token)."""
    people = (("captain", "Nora"), ("cook", "Felix"), ("doctor", "Ida"), ("baker", "Otto"))
    text = " ".join(f"The {who} is called {name}. We met the {who} at the mill in the rain." for who, name in people)
    states = [state[0].numpy().T for state in lm(text).decoder_hidden_states]
    rng = np.random.default_rng(0)
    few = [rng.standard_normal((8, 192)) @ state for state in states]  # fewer units than tokens
    for measure in (ecco.analysis.cca, ecco.analysis.pwcca, ecco.analysis.cka):
        assert measure(few[0], few[0]) == pytest.approx(1, abs=1e-5)
        assert -0.2 < measure(few[0], few[-1]) < 0.999
    assert ecco.analysis.svcca(states[0], states[0], dims=5) == pytest.approx(1, abs=1e-5)
    rotated = np.linalg.qr(rng.standard_normal((8, 8)))[0] @ few[1]
    assert ecco.analysis.cka(few[0], rotated) == pytest.approx(ecco.analysis.cka(few[0], few[1]), abs=1e-6)
    assert ecco.analysis.cka(few[0], few[1], debiased=False) > ecco.analysis.cka(few[0], few[1])


def test_attention(output):
    """Where each generated token's prediction looked, mean over the heads of one layer, the first by default."""
    pattern = output.capture("pattern", layers=[0, 2])
    for layer, found in ((2, output.attention(layer=2)), (0, output.attention())):
        assert found.values.shape[0] == 3
        mean = pattern.get("pattern", layer).mean(0).numpy()
        row = found.values.values[0]
        np.testing.assert_allclose(
            row[: output.n_input_tokens],
            mean[output.n_input_tokens - 1, : len(row)][: output.n_input_tokens],
            atol=1e-6,
        )


def test_attributions_of_one_position(output):
    position = output.n_input_tokens
    assert output.position(position).values.shape[0] == 1


def test_tokenized_texts(lm):
    rows = lm(lm.tokenizer(["The captain is called Nora.", "Nora"], return_tensors="pt", padding=True))
    assert [run.text for run in rows] == ["The captain is called Nora.", "Nora"]
    assert rows[0].token_ids.tolist() == [rows[0].tokens.ids.tolist()]
    with pytest.raises(ecco.OptionError, match="input_ids"):
        lm({"ids": [1]})
    with pytest.raises(AttributeError, match="Did you mean 'rankings'"):
        _ = rows[0].ranking


def test_states_by_stack(lm):
    output = ecco.from_pretrained("tiny:seq2seq").generate("question: who is the captain?", max_new_tokens=2)
    assert (len(output.encoder_hidden_states), len(output.decoder_hidden_states)) == (3, 2)
    assert output.decoder_hidden_states[0].shape[1] == len(output)
    assert lm("Nora").encoder_hidden_states is None


def test_the_rest_of_the_originals_arguments(tmp_path):
    lm = ecco.from_pretrained("tiny:prose", activations=True)
    text = "We met a captain called Nora. We met a cook called Felix. The name of the captain was"
    output = lm.generate(text, generate=3, attribution=["ig"], do_sample=False)
    assert lm.generate(text, generate=3, beam_size=2).text == lm.generate(text, max_new_tokens=3, num_beams=2).text
    np.testing.assert_array_equal(output().values.values, output.primary_attributions().values.values)
    one = output(position=len(output) - 1)
    np.testing.assert_allclose(one.values.values[0], output().values.values[-1], rtol=1e-4)
    assert output.explorable() is output
    assert "".join(output.explorable(printJson=True)["tokens"]) == output.text
    data = output.primary_attributions(printJson=True)["values"]
    np.testing.assert_array_equal(data["values"], output().values.values)
    assert data["dims"] == ["target", "source"]
    same = output.attention(attention_values=None, layer=1).values.values
    np.testing.assert_array_equal(same, output.attention(layer=1).values.values)
    factors = output.run_nmf(n_components=3, collect_activations_layer_nums=[0, 1])
    np.testing.assert_array_equal(factors.values.values, output.run_nmf(n_components=3, to_layer=2).values.values)
    ranks = output.rankings(save_file_path=tmp_path / "ranks.txt")
    assert (tmp_path / "ranks.txt").read_text(encoding="utf-8") == str(ranks)
    assert output.rankings(show_inputs=True).values.shape[1] > ranks.values.shape[1]
    assert output.rankings(printJson=True)["values"]["values"] == ranks.values.values.tolist()
    embedded = lm.model.transformer.wte.weight[output.ids] + lm.model.transformer.wpe.weight[: len(output)]
    np.testing.assert_allclose(output.embedding_states[0], embedded.detach(), rtol=1e-6)


@pytest.mark.parametrize(
    ("attr_method", "analysis"),
    [("dl", "deep_lift"), ("dls", "deep_lift_shap"), ("gs", "gradient_shap"), ("lrp", "lrp")],
)
def test_the_rest_of_the_originals_methods(attr_method, analysis):
    output = ecco.from_pretrained("tiny:prose").generate("The captain is called", generate=2)
    found = output.primary_attributions(attr_method=attr_method)
    as_it_was = {} if attr_method == "lrp" else {"score": "prob", "aggregation": "l2"}
    np.testing.assert_array_equal(found.values.values, output.analyze(analysis, **as_it_was).values.values)


@pytest.mark.parametrize("attr_method", ["gb", "gg", "deconv"])
def test_what_would_be_the_plain_gradient_is_refused(attr_method):
    output = ecco.from_pretrained("tiny:prose").generate("The captain is called", generate=2)
    with pytest.raises(ecco.OptionError, match="plain gradient"):
        output.primary_attributions(attr_method=attr_method)
