"""Layer and neuron methods against Captum's own classes on the model's modules, one target at a time, in float64."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch

import ecco_core as ecco

PROMPT = "The captain is called Nora. The cook"
METHODS = (
    "layer_integrated_gradients",
    "layer_gradient_x_activation",
    "layer_deep_lift",
    "layer_conductance",
    "internal_influence",
)
STEPS = 7


class Naive:
    """Captum by hand: the model's own inputs_embeds, one prefix per target, the module of a site by its name."""

    def __init__(self, run, score="logprob"):
        self.run, self.model, self.score, self.own = run, run.lm.model, score, None
        embed = self.model.get_input_embeddings()
        self.here = embed(run.ids[None]).detach()
        self.there = embed(torch.full_like(run.ids[None], run.lm.tokenizer.eos_token_id)).detach()

    def modules(self, site, layer):
        """The module, and whether what enters it is meant."""
        model = self.model
        block = (model.transformer.h if model.config.model_type == "gpt2" else None) or (
            model.gpt_neox.layers if model.config.model_type == "gpt_neox" else model.model.layers
        )
        if site in ("resid_post", "resid_pre"):  # what enters a block is what left the one before
            return block[layer - (site == "resid_pre")], False
        names = {"gpt2": "c_proj", "gpt_neox": "dense_4h_to_h", "llama": "down_proj"}
        return getattr(block[layer].mlp, names[model.config.model_type]), site == "mlp_post"

    def forward(self, embeddings):
        """Scores of all tokens ``(batch, vocabulary)`` after a prefix, or their negative divergence ``(batch,)``."""
        logprobs = self.model(inputs_embeds=embeddings).logits[:, -1].log_softmax(-1)
        return logprobs if self.own is None else (self.own.exp() * (logprobs - self.own)).sum(-1)

    def row(self, position, name, site, layer, **options):
        """Attributions ``(token, unit)`` of one of Captum's classes for the token at a position."""
        module, enters = self.modules(site, layer)
        here, there = self.here[:, :position], self.there[:, :position]
        self.own = None
        self.own = self.forward(here).detach() if self.score == "kl" else None
        target = {} if self.score == "kl" else {"target": int(self.run.ids[position])}
        common = {**target, "attribute_to_layer_input": enters}

        def attributed(class_name, *inputs, **more):
            explainer = getattr(captum.attr, class_name)(self.forward, module)
            if class_name == "LayerGradientXActivation":
                found = explainer.attribute(inputs[0], **common)
            else:
                found = explainer.attribute(inputs[0], baselines=inputs[1], n_steps=STEPS, **common, **more)
            return (found[0] if isinstance(found, tuple) else found)[0].detach()

        if name == "LayerConductance":  # forwards it takes the gradient before each step, backwards the one after it
            more = {"method": "riemann_trapezoid"}
            return (attributed(name, here, there, **more) - attributed(name, there, here, **more)) / 2
        return attributed(name, here, there)


CLASSES = {
    "layer_integrated_gradients": "LayerIntegratedGradients",
    "layer_gradient_x_activation": "LayerGradientXActivation",
    "layer_conductance": "LayerConductance",
    "internal_influence": "InternalInfluence",
}
AGGREGATES = {"sum": lambda row: row.sum(-1), "l2": lambda row: row.norm(dim=-1)}


def assert_rows(result, rows, aggregate):
    close = 1e-6 if result.provenance.model_type == "llama" else 1e-8  # its norms compute in float32
    scale = max(float(aggregate(row.abs()).max()) for row in rows)
    assert len(result.values.values) == len(rows)
    for got, row in zip(result.values.values, rows):
        expected = aggregate(row).numpy()
        assert np.abs(got[: len(expected)] - expected).max() <= close * scale
        assert not got[len(expected) :].any()


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt_neox"])
def run(request, make_lm):
    lm = make_lm(request.param, **{"n_layer" if request.param == "gpt2" else "num_hidden_layers": 3})
    lm.model.double()
    return lm.generate(PROMPT, max_new_tokens=4, do_sample=True, seed=3)


def steps_of(name):
    return {} if name == "layer_gradient_x_activation" else {"n_steps": STEPS}


@pytest.mark.parametrize(("site", "layer"), [("resid_post", 1), ("resid_pre", 2), ("mlp_post", 0), ("mlp_post", 2)])
@pytest.mark.parametrize("aggregation", ["sum", "l2"])
@pytest.mark.parametrize("name", CLASSES)
def test_layer_methods_are_captums(run, name, site, layer, aggregation):
    result = run.analyze(name, site=site, layer=layer, aggregation=aggregation, **steps_of(name))
    naive = Naive(run)
    rows = [naive.row(p, CLASSES[name], site, layer) for p in range(run.n_input_tokens, len(run))]
    assert_rows(result, rows, AGGREGATES[aggregation])
    assert f"{site} in layer {layer}" in result.title
    assert f"{site} in layer {layer}" in result.described
    assert "embedding" not in result.described


@pytest.mark.parametrize("name", ["layer_integrated_gradients", "layer_conductance", "internal_influence"])
@pytest.mark.parametrize("site", ["resid_post", "mlp_post"])
def test_a_divergence_is_from_the_runs_own_prediction(run, name, site):
    result = run.analyze(name, site=site, layer=1, score="kl", aggregation="sum", targets=[-1, 7], n_steps=STEPS)
    naive = Naive(run, "kl")
    assert_rows(result, [naive.row(p, CLASSES[name], site, 1) for p in (len(run) - 1, 7)], AGGREGATES["sum"])


@pytest.mark.parametrize("aggregation", ["dot", "max"])
def test_dot_is_with_the_activation(run, aggregation):
    result = run.analyze("layer_gradient_x_activation", layer=1, aggregation=aggregation, targets=[-1])
    naive = Naive(run)
    row = naive.row(len(run) - 1, "LayerGradientXActivation", "resid_post", 1)
    active = run.capture("resid_post", layers=1).tensors[run.transcript.stack, "resid_post", 1].double()
    if aggregation == "dot":
        expected = (row * active[: len(row)]).sum(-1)
    else:
        expected = row.gather(-1, row.abs().argmax(-1, keepdim=True))[..., 0]
    np.testing.assert_allclose(result.values.values[0], expected.numpy(), rtol=1e-6, atol=1e-9)


def patched(naive, position, site, layer):
    """The log-probability of a token with the baseline's activations at a site and the run's own embeddings."""
    module, enters = naive.modules(site, layer)
    seen = []

    def keep(_, args, output=None):
        seen.append(args[0] if enters else output[0] if isinstance(output, tuple) else output)

    def replace(_, args, output=None):
        if enters:
            return (seen[0], *args[1:])
        return (seen[0], *output[1:]) if isinstance(output, tuple) else seen[0]

    hook = module.register_forward_pre_hook if enters else module.register_forward_hook
    with torch.no_grad():
        handle = hook(keep)
        naive.forward(naive.there[:, :position])
        handle.remove()
        handle = hook(replace)
        value = naive.forward(naive.here[:, :position])[0, int(naive.run.ids[position])]
        handle.remove()
    return float(value)


@pytest.mark.parametrize(("site", "layer"), [("resid_post", 0), ("resid_post", 2), ("mlp_post", 1)])
@pytest.mark.parametrize("name", ["layer_integrated_gradients", "layer_deep_lift"])
def test_scores_add_up_to_what_the_layers_change_does(run, name, site, layer):
    options = {"n_steps": 100} if name == "layer_integrated_gradients" else {}
    result = run.analyze(name, site=site, layer=layer, targets=[-1, 6], **options)
    naive = Naive(run)
    for i, position in enumerate((len(run) - 1, 6)):
        token = int(run.ids[position])
        with torch.no_grad():
            here = float(naive.forward(naive.here[:, :position])[0, token])
        change = here - patched(naive, position, site, layer)
        assert result.targets[i].value == pytest.approx(here, abs=1e-12)
        assert result.change.values[i] == pytest.approx(change, abs=1e-9)
        exactly = 1e-6 if run.lm.model_type == "llama" else 1e-10  # its norms compute in float32
        close = exactly if name == "layer_deep_lift" else 1e-4
        assert result.values.values[i].sum() == pytest.approx(change, abs=close * max(1, abs(change)))
        assert result.completeness.values[i] == pytest.approx(change - result.values.values[i].sum(), abs=1e-12)


def test_conductance_of_all_that_passes_adds_up_to_the_change(run):
    naive, position = Naive(run), len(run) - 1
    token = int(run.ids[position])
    with torch.no_grad():
        both = torch.cat([naive.here, naive.there])[:, :position]
        here, there = naive.forward(both)[:, token].tolist()
    errors = []
    for n_steps in (10, 40, 160):
        result = run.analyze("layer_conductance", layer=1, targets=[-1], n_steps=n_steps)
        assert result.change.values[0] == pytest.approx(here - there, abs=1e-12)
        errors.append(abs(result.values.values.sum() - (here - there)))
        assert abs(result.completeness.values[0]) == pytest.approx(errors[-1], abs=1e-12)
    assert errors[2] < errors[1] / 10 < errors[0] / 100
    part = run.analyze("layer_conductance", layer=1, site="mlp_post", targets=[-1])
    assert part.change is None
    assert part.completeness is None


def test_layer_deep_lift_follows_the_rest_of_the_model_with_the_same_rules(make_lm):
    from ecco_captum.rules import lifted

    lm = make_lm("gpt2", n_layer=3)
    lm.model.double()
    run = lm(PROMPT)
    naive, position = Naive(run), len(run) - 1
    seen = []
    with torch.no_grad():
        for embeddings in (naive.here, naive.there):
            handle = lm.model.transformer.h[1].register_forward_hook(lambda _, __, output: seen.append(output))
            naive.forward(embeddings[:, :position])
            handle.remove()
    here, there = (part[0] if isinstance(part, tuple) else part for part in seen)

    def rest(hidden):
        block = lm.model.transformer.h[2]
        attended = block.attn(block.ln_1(hidden))[0] + hidden
        final = lm.model.transformer.ln_f(block.mlp(block.ln_2(attended)) + attended)
        return lm.model.lm_head(final[:, -1]).log_softmax(-1)[0, int(run.ids[position])]

    leaf = here.clone().requires_grad_()
    (multipliers,) = torch.autograd.grad(lifted(rest, [leaf], [there]), leaf)
    result = run.analyze("layer_deep_lift", layer=1, targets=[-1])
    assert_rows(result, [(multipliers * (here - there))[0].as_subclass(torch.Tensor).detach()], AGGREGATES["sum"])


def neuron(naive, name, position, unit, layer, **options):
    """Attributions ``(token, unit)`` of one of Captum's neuron classes: of what enters the MLP's projection."""
    module, _ = naive.modules("mlp_post", layer)
    explainer = getattr(captum.attr, name)
    own = explainer(naive.forward, module)
    options = {"attribute_to_neuron_input": True, "neuron_selector": (position, unit), **options}
    return own.attribute(naive.here[:, : options.pop("upto")], **options)[0].detach()


@pytest.mark.parametrize(("aggregation", "aggregate"), list(AGGREGATES.items()))
def test_neuron_gradient_is_captums(run, aggregation, aggregate):
    options = {"unit": 5, "layer": 1, "aggregation": aggregation}
    rows = [neuron(Naive(run), "NeuronGradient", p, 5, 1, upto=p + 1) for p in (4, 0, len(run) - 1)]
    assert_rows(run.analyze("neuron_gradient", targets=[4, 0, -1], **options), rows, aggregate)
    assert_rows(run.analyze("neuron_gradient", **options), rows[-1:], aggregate)


def test_neuron_integrated_gradients_are_captums_and_add_up(run):
    naive = Naive(run)
    result = run.analyze("neuron_integrated_gradients", unit=-1, layer=2, targets=[4, -1], n_steps=STEPS)
    unit = result.targets[0].token_id
    rows = [
        neuron(naive, "NeuronIntegratedGradients", p, unit, 2, upto=p + 1, n_steps=STEPS,
               baselines=naive.there[:, : p + 1])
        for p in (4, len(run) - 1)
    ]  # fmt: skip
    assert_rows(result, rows, AGGREGATES["sum"])
    exact = run.analyze("neuron_integrated_gradients", unit=-1, layer=2, targets=[4, -1], n_steps=100)
    assert np.abs(exact.completeness.values).max() < 1e-5 * np.abs(exact.change.values).max()
    assert exact.targets[0].quantity.startswith(f"unit {unit} of mlp_post in layer 2 at")


@pytest.mark.parametrize("position", [3, None])
def test_neuron_conductance_is_captums(run, position):
    naive, targets = Naive(run), (len(run) - 1, 7)
    rows = []
    for target in targets:
        options = {"target": int(run.ids[target]), "n_steps": STEPS, "method": "gausslegendre", "upto": target}
        options["baselines"] = naive.there[:, :target]
        places = range(target) if position is None else [position]
        rows.append(sum(neuron(naive, "NeuronConductance", p, 5, 1, **options) for p in places))
    result = run.analyze("neuron_conductance", unit=5, layer=1, position=position, n_steps=STEPS, targets=targets)
    assert_rows(result, rows, AGGREGATES["sum"])
    assert "unit 5 of mlp_post in layer 1" in result.title
    assert ("at position 3" in result.title) == (position == 3)


def test_a_neurons_conductance_adds_up_to_its_part_of_the_layers(run):
    naive, position = Naive(run), len(run) - 1
    module, _ = naive.modules("mlp_post", 1)
    explainer = captum.attr.LayerConductance(naive.forward, module)
    fine = explainer.attribute(
        naive.here[:, :position], baselines=naive.there[:, :position], target=int(run.ids[position]), n_steps=2000,
        method="riemann_trapezoid", attribute_to_layer_input=True,
    )  # fmt: skip
    fine = (fine[0] if isinstance(fine, tuple) else fine)[0].detach().sum(0)
    for unit in (0, 5, 11):
        found = run.analyze("neuron_conductance", unit=unit, layer=1, targets=[-1], n_steps=60)
        assert found.values.values.sum() == pytest.approx(float(fine[unit]), abs=2e-3 * float(fine.abs().max()))


@pytest.fixture(scope="module")
def bert(open_tiny):
    return open_tiny("bert", "masked", dtype=torch.float64)


def masked_forward(lm, ids, place, token):
    """A score as a function of the embeddings, with the mask at a place."""
    mask = lm.model.get_input_embeddings()(torch.tensor([lm.tokenizer.mask_token_id])).detach()

    def forward(embeddings):
        there = torch.arange(len(ids)) == place
        embeddings = torch.where(there[:, None], mask, embeddings)
        return lm.model(inputs_embeds=embeddings).logits[:, place].log_softmax(-1)[:, token]

    return forward


@pytest.mark.parametrize("name", ["LayerIntegratedGradients", "LayerConductance", "NeuronConductance"])
def test_each_place_of_a_masked_model_is_explained_with_its_own_mask(bert, name):
    run = bert("The captain is called Nora.")
    places, module = (2, 4), bert.model.bert.encoder.layer[0].intermediate
    embed = bert.model.get_input_embeddings()
    here = embed(run.ids[None]).detach()
    there = embed(torch.full_like(run.ids[None], bert.tokenizer.mask_token_id)).detach()
    rows = []
    for place in places:
        explainer = getattr(captum.attr, name)(masked_forward(bert, run.ids, place, int(run.ids[place])), module)
        if name == "LayerIntegratedGradients":
            row = explainer.attribute(here, baselines=there, n_steps=STEPS)
        elif name == "LayerConductance":
            options = {"n_steps": STEPS, "method": "riemann_trapezoid"}
            row = (
                explainer.attribute(here, baselines=there, **options)
                - explainer.attribute(there, baselines=here, **options)
            ) / 2
        else:
            options = {"baselines": there, "n_steps": STEPS, "method": "gausslegendre"}
            row = explainer.attribute(here, neuron_selector=(3, 5), **options)
        rows.append((row[0] if isinstance(row, tuple) else row)[0].detach())
    options = {"site": "mlp_post", "layer": 0, "targets": places, "n_steps": STEPS}
    options |= {"unit": 5, "position": 3} if name == "NeuronConductance" else {}
    ours = {"LayerIntegratedGradients": "layer_integrated_gradients", "LayerConductance": "layer_conductance"}
    result = run.analyze(ours.get(name, "neuron_conductance"), **options)
    assert_rows(result, rows, AGGREGATES["sum"])
    assert [t.position for t in result.targets] == list(places)


@pytest.mark.parametrize("name", METHODS)
def test_several_masks_are_explained_as_each_alone(bert, name):
    run = bert("The captain is called Nora.")
    both = run.analyze(name, targets=[2, 4])
    for i, place in enumerate((2, 4)):
        alone = run.analyze(name, targets=place)
        np.testing.assert_allclose(both.values.values[i], alone.values.values[0], atol=1e-12)
        assert both.targets[i] == alone.targets[0]
        if alone.change is not None:
            assert both.change.values[i] == alone.change.values[0]
            assert both.change.labels("target")[i] == place


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_layers_of_a_seq2seq_model_are_those_of_its_decoder(open_tiny, kind):
    lm = open_tiny(kind, "seq2seq", dtype=torch.float64)
    run = lm.generate("The captain is called Nora.", output="Nora is.")
    embed, position = lm.model.get_input_embeddings(), len(run) - 1
    encoder = embed(torch.tensor(run.transcript.tokens["encoder"].ids.tolist())[None]).detach()
    decoder = embed(run.ids[None, :position]).detach()

    def forward(embeddings):
        logits = lm.model(inputs_embeds=encoder, decoder_inputs_embeds=embeddings, use_cache=False).logits
        return logits[:, -1].log_softmax(-1)

    module = lm.model.decoder.block[0].layer[-1] if kind == "t5" else lm.model.model.decoder.layers[0]
    row = captum.attr.LayerGradientXActivation(forward, module).attribute(decoder, target=int(run.ids[position]))
    result = run.analyze("layer_gradient_x_activation", layer=0, targets=[-1])
    assert_rows(result, [(row[0] if isinstance(row, tuple) else row)[0].detach()], AGGREGATES["sum"])
    assert {source.stack for source in result.sources} == {"decoder"}
    for name in ("layer_deep_lift", "layer_integrated_gradients"):
        found = run.analyze(name, layer=0)
        assert np.abs(found.completeness.values).max() < 1e-2 * np.abs(found.change.values).max()
    assert run.analyze("layer_conductance", layer=0).change is None  # the encoder's part goes around it
    neuron_of = {"unit": 1, "layer": 1, "site": "resid_post"}
    neurons = run.analyze("neuron_integrated_gradients", targets=[2], n_steps=1000, **neuron_of)
    assert [source.stack for source in neurons.sources] == ["encoder"] * encoder.shape[1] + ["decoder"] * 3
    assert np.abs(neurons.completeness.values).max() < 1e-2 * np.abs(neurons.change.values).max()
    through = run.analyze("neuron_conductance", **neuron_of)
    assert through.values.values[:, : encoder.shape[1]].any(1).all()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_layers_of_a_classifier(open_tiny, kind):
    lm = open_tiny(kind, "sequence_classification", dtype=torch.float64)
    lm.model.config.pad_token_id = None if kind == "gpt2" else lm.model.config.pad_token_id
    run = lm("The captain is called Nora.")
    embed = lm.model.get_input_embeddings()
    here = embed(run.ids[None]).detach()
    result = run.analyze("layer_conductance", layer=0, targets=[0, 1], n_steps=60)
    assert np.abs(result.completeness.values).max() < 1e-2 * np.abs(result.change.values).max()
    blocks = lm.model.bert.encoder.layer if kind == "bert" else lm.model.transformer.h
    product = run.analyze("layer_gradient_x_activation", layer=0, targets=[0, 1])

    def forward(embeddings):
        return lm.model(inputs_embeds=embeddings).logits.log_softmax(-1)

    rows = []
    for target in (0, 1):
        row = captum.attr.LayerGradientXActivation(forward, blocks[0]).attribute(here, target=target)
        rows.append((row[0] if isinstance(row, tuple) else row)[0].detach())
    assert_rows(product, rows, AGGREGATES["sum"])
    through = run.analyze("neuron_conductance", unit=2, layer=0, targets=[0, 1], n_steps=5)
    assert through.values.values.any()
    at = run.analyze("neuron_gradient", unit=2, layer=0, targets=[1, 3])
    assert [t.position for t in at.targets] == [1, 3]


def test_words_are_the_sums_of_their_tokens(run):
    tokens = run.analyze("layer_conductance", layer=1, targets=[-1], n_steps=5)
    words = run.analyze("layer_conductance", layer=1, targets=[-1], n_steps=5, features="words")
    assert len(words.sources) < len(tokens.sources)
    for source, value in zip(words.sources, words.values.values[0]):
        assert value == pytest.approx(tokens.values.values[0, list(source.positions)].sum(), abs=1e-12)


def test_the_middle_layer_is_the_default_and_the_last_says_that_it_is_the_last(run):
    named, left_out = (run.analyze("layer_gradient_x_activation", **o) for o in ({"layer": 1}, {}))
    np.testing.assert_array_equal(named.values.values, left_out.values.values)
    assert not named.notes
    last = run.analyze("layer_gradient_x_activation", layer=-1, targets=[-1])
    assert "resid_post in layer 2" in last.title
    assert any("no layer after this one" in note for note in last.notes)
    assert not last.values.values[0, :-1].any()


def test_a_run_made_under_an_intervention_is_explained_under_it(make_lm):
    lm = make_lm("gpt2", n_layer=3)
    lm.model.double()
    with lm.intervene(ecco.ablate("mlp_out", layer=2)):
        run = lm(PROMPT)
    found = run.analyze("layer_integrated_gradients", layer=0, targets=[-1], n_steps=60)
    plain = lm(PROMPT).analyze("layer_integrated_gradients", layer=0, targets=[-1], n_steps=60)
    assert np.abs(found.completeness.values).max() < 1e-3 * np.abs(found.change.values).max()
    assert np.abs(found.values.values - plain.values.values).max() > 1e-3 * np.abs(plain.values.values).max()


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_gives_numbers(make_lm, name):
    lm = make_lm("llama", num_hidden_layers=3)
    expected = lm(PROMPT).analyze(name, targets=[-1]).values.values
    lm.model.bfloat16()
    found = lm(PROMPT).analyze(name, targets=[-1]).values.values
    assert np.corrcoef(found[0], expected[0])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("layer_conductance", {"layer": 9}, "No layer 9; there are 3, from 0 to 2"),
        ("layer_conductance", {"site": "mlp_pots"}, r"No site 'mlp_pots' .* Did you mean 'mlp_post'\?"),
        ("layer_conductance", {"site": "pattern"}, "The site 'pattern' has no layer whose units could be explained"),
        ("layer_integrated_gradients", {"site": "logits"}, "The site 'logits' has no layer"),
        ("internal_influence", {"site": "embedding"}, "The site 'embedding' has no layer"),
        ("layer_integrated_gradients", {"n_steps": 1}, "n_steps is at least 2, found 1"),
        ("layer_conductance", {"n_steps": 10_000}, "n_steps is at most 5,000, found 10000"),
        ("internal_influence", {"baseline": "zeros"}, "Did you mean 'zero'"),
        ("neuron_gradient", {"layer": 1}, "needs the option 'unit'"),
        ("neuron_gradient", {"unit": 1}, "needs the option 'layer'"),
        ("neuron_gradient", {"unit": 999, "layer": 1}, "No unit 999 in mlp_post of layer 1; its units are 0 to"),
        ("neuron_gradient", {"unit": 1, "layer": 7}, "No layer 7"),
        ("neuron_gradient", {"unit": 1, "layer": 1, "targets": 99}, "Target 99 is not in the run"),
        ("neuron_gradient", {"unit": 1, "layer": 1, "score": "prob"}, "which has no contrast and no score"),
        ("neuron_integrated_gradients", {"unit": 1, "layer": 1, "contrast": 5}, "has no contrast and no score"),
        ("neuron_conductance", {"unit": 999, "layer": 1}, "No unit 999 in mlp_post of layer 1"),
        ("neuron_conductance", {"unit": 1, "layer": 1, "position": 99}, "No position 99"),
        ("neuron_conductance", {"unit": 1, "layer": 1, "position": 4, "targets": 3}, "No target sees position 4"),
        ("neuron_conductance", {"unit": 1, "layer": 1, "n_steps": 0}, "n_steps is at least 2, found 0"),
    ],
)
def test_bad_options_are_one_sentence(run, name, options, message):
    with pytest.raises(ecco.EccoError, match=message) as raised:
        run.analyze(name, **options)
    assert not isinstance(raised.value, ecco.PluginError)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith((".", "?"))


def test_a_neuron_that_an_intervention_changes_has_no_conductance(open_tiny):
    lm = open_tiny("gpt2")
    with lm.intervene(ecco.scale("mlp_post", 0.5, layer=0)):
        run = lm("The captain is called Nora.")
        with pytest.raises(ecco.OptionError, match="which an intervention changes, would count it twice"):
            run.analyze("neuron_conductance", layer=0, unit=3, n_steps=4, targets=[4])
        run.analyze("neuron_conductance", layer=0, unit=3, n_steps=4, targets=[4], site="attn_out")
