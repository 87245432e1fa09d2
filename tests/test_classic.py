"""The original library's notebooks, by its own calls, on models of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ecco_core as ecco
from ecco_core import lm_plots

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
    last = output.rankings_watch([output.token_ids[0, -1]])  # the last that was generated
    np.testing.assert_array_equal(last.values.values[:, 0], chosen.values.values[:, -1])


def test_neuron_factors_of_a_gpt(output):
    """Notebook "Neuron factors": NMF of all layers' neurons, or of some, and its page."""
    factors = output.run_nmf(n_components=4)
    assert factors.values.shape == (4, len(output))
    assert (factors.values.values >= 0).all()
    assert factors.loadings.shape == (4, 4 * 768)
    some = output.run_nmf(n_components=3, from_layer=1, to_layer=3)
    assert some.loadings.shape == (3, 2 * 768)
    assert output.run_nmf(n_components=3, from_layer=2).loadings.shape == (3, 2 * 768)
    assert len(output.lm("The captain is called").run_nmf(n_components=10).components) == 4
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
    assert output.config.stacks.keys() == {"encoder"}
    assert (output.model_type, output.tokenizer) == ("masked", lm.tokenizer)


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
    assert ecco.analysis.pwcca(few[0], few[1], epsilon=1e-10) == ecco.analysis.pwcca(few[0], few[1])
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


def test_displays(lm, output):
    shown = lm.display_input_sequence(output.token_ids[0, :-1])
    shown = lm.display_token(shown, output.token_ids[0, -1], len(shown))
    np.testing.assert_array_equal(shown.token_ids, output.token_ids)


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


def test_the_originals_names_of_first_arguments(lm):
    text = "The captain is called"
    said = lm.generate(text, 3, do_sample=False).text
    again = ecco.LM(lm.model, lm.tokenizer, "mine", {})
    assert (again.name, again.task) == ("mine", lm.task)
    assert again.generate(input_str=text, generate=3, do_sample=False).text == said
    assert lm(input_tokens=lm.tokenizer([text], return_tensors="pt")).text == text
    for call in (lm.generate, lm):
        with pytest.raises(ecco.PromptError, match="empty"):
            call()
    with pytest.raises(ecco.ModelNotFoundError, match="empty"):
        ecco.from_pretrained()


@pytest.fixture(scope="module")
def answer():
    return ecco.from_pretrained("tiny:seq2seq").generate(
        "question: who is the captain? context: Nora is the captain.", generate=2, do_sample=False
    )


def test_states_by_stack(lm, answer):
    assert (len(answer.encoder_hidden_states), len(answer.decoder_hidden_states)) == (3, 2)
    assert answer.decoder_hidden_states[0].shape[1] == len(answer)
    assert answer._get_encoder_hidden_states()[0].shape == answer.encoder_hidden_states[0].shape
    run = lm("Nora")
    assert run.encoder_hidden_states is None
    states = lm.model(run.ids[None], output_hidden_states=True).hidden_states
    for ours, theirs in zip(run._get_encoder_hidden_states(), states[1:-1]):  # the last has passed the final norm
        np.testing.assert_allclose(ours, theirs.detach(), atol=1e-5)


def test_where_the_same_call_means_something_else(lm, answer):
    text = "The captain is called"
    assert len(lm.generate(text, 9)) == lm(text).n_input_tokens + 9
    output = lm.generate(text, max_length=9)
    assert len(output) == 9
    assert output.text == text + output.output_text
    first = answer.layer_predictions(position=answer.n_input_tokens, layer=1, topk=1)
    start = answer.lm.model.config.decoder_start_token_id
    ids = answer.lm.tokenizer("question: who is the captain? context: Nora is the captain.", return_tensors="pt")
    greedy = answer.lm.model(**ids, decoder_input_ids=torch.tensor([[start]])).logits[0, -1].softmax(-1).max(-1)
    assert first.ids.values.item() == greedy.indices.item() == answer.token_ids[0, 1]
    assert first.values.values.item() == pytest.approx(greedy.values.item(), rel=1e-4)
    masked = ecco.from_pretrained("tiny:masked")("The captain is called Nora.")
    assert list(masked.activations) == ["encoder"]
    assert masked.decoder_hidden_states is None


def test_arguments_without_names(lm, output):
    """In the original's order: position, topk, layer; watch, position; attention_values, layer."""
    position, watch = output.n_input_tokens, lm.tokenizer(" Nora Felix")["input_ids"]
    for by_place, by_name in (
        (output.layer_predictions(position, 2, 3), output.layer_predictions(position=position, topk=2, layer=3)),
        (output.rankings_watch(watch, position), output.rankings_watch(watch=watch, position=position)),
        (output.attention(None, 2), output.attention(layer=2)),
    ):
        assert by_place.provenance.options == by_name.provenance.options
        np.testing.assert_array_equal(by_place.values.values, by_name.values.values)
    with pytest.raises(ecco.OptionError, match="rankings takes by place: none; found 1"):
        output.rankings(3)
    with pytest.raises(ecco.OptionError, match="Did you mean 'top_k'"):
        output.layer_predictions(position=position, topq=3)


def test_attributions_are_the_originals_but_for_their_sum(lm, output):
    """Against a loop over generated tokens: gradient of the probability times the embedding, its L2 norm."""
    found = output.primary_attributions(attr_method="grad_x_input")
    table = lm.model.get_input_embeddings().weight.detach()
    for row, position in enumerate(range(output.n_input_tokens, len(output))):
        embeddings = table[output.ids[:position]].clone().requires_grad_(True)
        probability = lm.model(inputs_embeds=embeddings[None]).logits[0, -1].softmax(-1)[output.ids[position]]
        (gradient,) = torch.autograd.grad(probability, embeddings)
        naive = (gradient * embeddings).norm(dim=-1).detach().numpy()
        np.testing.assert_allclose(found.values.values[row, :position], naive, rtol=2e-3, atol=1e-7)


def test_ignored_tokens(output, answer):
    whole, some = answer.primary_attributions(), answer.primary_attributions(ignore_tokens=[0, 3, -1])
    n_encoder = len(answer.transcript.tokens["encoder"])
    gone = {("encoder", 0), ("encoder", 3), ("decoder", len(answer) - 1)}
    for column, source in enumerate(whole.sources):
        left = 0 if (source.stack, source.positions[0]) in gone else whole.values.values[:, column]
        np.testing.assert_allclose(some.values.values[:, column], left, rtol=1e-5)
    assert "set to zero" in some.notes[-1]
    np.testing.assert_array_equal(answer.primary_attributions(ignore_tokens=[n_encoder]).values.values[:, n_encoder], 0)
    assert (output.primary_attributions(ignore_tokens=[1]).values.values[:, 1] == 0).all()
    with pytest.raises(ecco.OptionError, match=f"No position {n_encoder + len(answer)}"):
        answer.primary_attributions(ignore_tokens=[n_encoder + len(answer)])


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


TOKENS = ["A", " man", " met", " Nora", " in", " Rome"]
NUMBERS = np.random.default_rng(0).random((3, 5)) * 4
FIGURES = {
    "activations": lambda: lm_plots.plot_activations(TOKENS, NUMBERS, vmin=0.5, vmax=2, height=3),
    "clustered": lambda: lm_plots.plot_clustered_activations(TOKENS, NUMBERS, {0: [4, 6], 1: [9]}, ["a", "b"]),
    "lens": lambda: lm_plots.plot_logit_lens(TOKENS, NUMBERS / 4, [TOKENS[:5]] * 3, vmin=0.5, vmax=2,
                                             show_input_tokens=True),
    "rankings": lambda: lm_plots.plot_inner_token_rankings(TOKENS[:5], TOKENS[1:], NUMBERS.round() + 1, 0.5, 2, True),
    "watched": lambda: lm_plots.plot_inner_token_rankings_watch(TOKENS, TOKENS[1:], NUMBERS.round() + 1, 3),
}  # fmt: skip
LABELS = {
    "activations": ["·man", "·met", "·Nora", "·in", "·Rome"],
    "rankings": ["A →  man", "·man →  met", "·met →  Nora", "·Nora →  in", "·in →  Rome"],
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_arrays(name):
    ax = FIGURES[name]()
    (painted,) = ax.collections
    expected = {"lens": NUMBERS / 4, "rankings": NUMBERS.round() + 1, "watched": NUMBERS.round() + 1}
    np.testing.assert_allclose(np.asarray(painted.get_array()).reshape(3, 5), expected.get(name, NUMBERS))
    shown = [text.get_text() for text in ax.get_xticklabels()]
    assert shown == LABELS.get(name, LABELS["activations"])
    ends = painted.get_clim()
    assert ends == (0.5, 2) if name in ("activations", "lens", "rankings") else ends[1] > 3
    for text in ax.texts:  # the WCAG contrast of what stands in a cell with its colour, against the other ink's
        column, row = map(round, text.get_position())
        paper = luminance(painted.to_rgba(painted.get_array()[row, column])[:3])
        contrast = {"black": (paper + 0.05) / 0.05, "white": 1.05 / (paper + 0.05)}
        assert contrast[text.get_color()] > 4, (name, row, column)
    assert ax.texts


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def test_what_a_figure_leaves_out_and_refuses(tmp_path):
    ax = lm_plots.plot_logit_lens(TOKENS, NUMBERS, [TOKENS[:5]] * 3, None, None, NUMBERS > 2, n_input_tokens=3)
    painted = np.ma.masked_invalid(ax.collections[0].get_array()).reshape(3, 3)
    np.testing.assert_array_equal(painted.mask, (NUMBERS > 2)[:, 2:])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["·Nora", "·in", "·Rome"]
    lm_plots.plot_inner_token_rankings(["a"], ["b"], [[3], [1]], save_file_path=tmp_path / "ranks.svg")
    assert (tmp_path / "ranks.svg").read_text(encoding="utf-8").startswith("<?xml")
    bars = lm_plots.token_barplot(TOKENS, [0.1, 0.4, 0.2])
    np.testing.assert_allclose([bar.get_extents().y1 for bar in bars.collections[0].get_paths()], [0.1, 0.4, 0.2])
    with pytest.raises(ecco.OptionError, match="needs 4 tokens for 3 values"):
        lm_plots.token_barplot(TOKENS[:3], [0.1, 0.4, 0.2])
    with pytest.raises(ecco.OptionError, match="2 neurons, activations have 3 rows"):
        lm_plots.plot_clustered_activations(TOKENS, NUMBERS, {0: [4, 6]}, ["a"])


def test_components_are_drawn(output):
    factors = output.run_nmf(n_components=4)
    panels = factors.plot(n_components=2)
    assert factors.explore(printJson=True)["factors"] == [factors.components.tolist()]
    assert len(panels) == 2
    assert "4 components of mlp_post in layers 0 to 3, the first 2" in str(
        [t.get_text() for t in panels[0].figure.texts]
    )
    for ax, row in zip(panels, factors.components):
        np.testing.assert_allclose(ax.patches[-1].get_data().values, row)
