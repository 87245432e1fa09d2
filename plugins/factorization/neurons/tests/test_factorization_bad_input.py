import pytest
import torch

import ecco_core as ecco


@pytest.fixture(scope="module")
def run(prose):
    return prose.generate("The function open(file, mode) returns a file.", max_new_tokens=2)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nmf", {"n_components": 99}, r"99 components do not fit \d+ tokens and 3072 units: ask for 1 to \d+, or read"),
        ("nmf", {"n_components": 0}, "0 components do not fit"),
        ("nmf", {"n_components": "many"}, "n_components is a number or 'auto', found 'many'"),
        ("nmf", {"negative": "error"}, r"mlp_post in layers 0 to 3 goes down to -0.17 .*: take negative='clip'"),
        ("nmf", {"negative": "fold"}, "takes 'clip' or 'semi' or 'error', found 'fold'"),
        ("nmf", {"n_seeds": -1}, "n_seeds is from 0 to 100, found -1"),
        ("nmf", {"n_components": "auto", "max_components": 2}, "found max_components=2"),
        ("nmf", {"n_components": "auto", "choose": "stability", "n_seeds": 0}, "take n_seeds of"),
        ("nmf", {"n_components": "auto", "positions": [0, 1]}, "2 tokens allow 2"),
        ("nmf", {"layers": 7}, "No layer 7; there are 4, from 0 to 3"),
        ("nmf", {"positions": 99}, "No position 99"),
        ("nmf", {"site": "mlp_pots"}, "mlp_pots"),
        ("nmf", {"site": "pattern", "layers": 0}, "'pattern' holds weights between tokens, no units"),
        ("nmf", {"stack": "encoder"}, "No stack 'encoder' in this run"),
        ("nmf", {"labels": ["a", "b"]}, "one name per run: found 2 for 1 runs"),
        ("pca", {"n_components": 2, "positions": [3]}, "2 components do not fit 1 tokens"),
        ("ica", {"n_components": 3, "positions": [0, 1, 2]}, "ask for 1 to 2 .one less than the tokens"),
        ("kmeans", {"n_components": 99}, "99 clusters do not fit"),
        ("umap", {"n_components": 40, "layers": 0}, "dimensions, found 40"),
        ("umap", {"min_dist": 2.0}, "min_dist is from 0 to 1, found 2"),
        ("umap", {"n_neighbors": 1}, "n_neighbors is from 2 to"),
        ("neuron_activations", {"neurons": ["9:1"]}, "No neuron '9:1' here. Name it as layer:unit, from 0:0 to 3:767"),
        ("neuron_activations", {"neurons": []}, "No neuron was named"),
        ("neuron_activations", {"neurons": ["0:1"], "token": "("}, "not both"),
        ("neuron_activations", {"token": "§"}, "No token contains '§'"),
        ("neuron_activations", {"token": ""}, "Every token contains ''"),
        ("neuron_activations", {"n_neurons": 0}, "n_neurons is from 1 to the 3072 there are, found 0"),
        ("top_neurons", {"n_neurons": 4000}, "n_neurons is from 1 to the 3072 there are, found 4000"),
        ("top_neurons", {"positions": [0, 1]}, "3 tokens at least, found 2; take by='activation'"),
        ("neuron_map", {"n_clusters": 60}, "60 clusters do not fit 50 units"),
        ("neuron_map", {"n_neurons": 2500}, "n_neurons is at most 2000, found 2500"),
        ("neuron_map", {"positions": [0]}, "No unit varies over the tokens"),
    ],
)
def test_one_sentence_says_what_does_not_fit(run, name, options, said):
    with pytest.raises(ecco.OptionError, match=said) as caught:
        run.analyze(name, **options)
    assert "\n" not in str(caught.value)


def test_a_token_that_repeats_has_no_variance(open_tiny):
    run = open_tiny("gpt2").generate("aaaa", max_new_tokens=1)
    same = [p for p, token in enumerate(run.tokens.ids) if token == run.tokens.ids[0]][:3]
    for name in ("nmf", "pca", "kmeans"):
        with pytest.raises(ecco.OptionError, match=r"No unit varies|vary in 0 directions"):
            run.analyze(name, site="embedding", positions=same, n_components=1)


def test_numbers_that_are_not_finite_are_placed(open_tiny):
    lm = open_tiny("llama")
    run = lm.generate("The captain is called Nora.", max_new_tokens=2)
    broken = ecco.replace("mlp_post", layer=1, units=[5], value=float("inf"), positions=[3])
    with lm.intervene(broken), pytest.raises(ecco.OptionError, match=r"mlp_post is inf at token '3 .*' of unit 1:5"):
        run.analyze("nmf", n_components=2)


def test_units_of_two_models_are_not_mixed(open_tiny):
    runs = [open_tiny(kind).generate("The captain", max_new_tokens=2) for kind in ("llama", "gpt2")]
    with pytest.raises(ecco.OptionError, match="Units of different models are not the same units"):
        ecco.analyze("nmf", runs, n_components=2)


def test_a_model_without_neurons_says_what_it_has(open_tiny):
    run = open_tiny("mamba").generate("The captain is called Nora.", max_new_tokens=2)
    with pytest.raises(ecco.EccoError, match="mlp_post"):
        run.analyze("nmf", n_components=2)


def test_an_encoders_positions_are_the_encoders(open_tiny):
    run = open_tiny("t5", "seq2seq").generate("The captain is called Nora. The cook is called Felix.", max_new_tokens=2)
    n = len(run.transcript.tokens["encoder"])
    result = run.analyze("nmf", n_components=2, stack="encoder", positions=[0, 5, n - 1], n_seeds=0)
    assert [label.split()[0] for label in result.values.labels("token")] == ["0", "5", str(n - 1)]
    with pytest.raises(ecco.OptionError, match=f"No position {n} in the encoder; there are {n}, from 0 to {n - 1}"):
        run.analyze("nmf", n_components=2, stack="encoder", positions=[n])


def test_all_zero_activations_are_refused(open_tiny):
    lm = open_tiny("llama", dtype=torch.float32)
    run = lm.generate("The captain is called Nora.", max_new_tokens=2)
    with lm.intervene(ecco.ablate("mlp_post")), pytest.raises(ecco.OptionError, match="Every number is zero"):
        run.analyze("nmf", n_components=2)
