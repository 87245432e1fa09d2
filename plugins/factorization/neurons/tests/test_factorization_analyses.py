import subprocess
import sys

import numpy as np
import pytest
import torch
from ecco_factorization import NeuronFactors, match_components, nonnegative_factors, semi_nonnegative_factors
from sklearn.decomposition import PCA

import ecco_core as ecco

TEXT = (
    "The function open(file, mode) returns a file object. If the file cannot be opened, an OSError is raised. See "
    "also: os.path (the module), print(), and the list [1, 2, 3].\n\n    >>> print(len([1, 2]))\n    2\n\n"
    "    >>> str(3)"
)
OTHER = (
    "Calls print(value).\n\n    >>> sorted([3, 1, 2])\n    [1, 2, 3]\n\n"
    "The class list(items) has a method append(item)."
)


@pytest.fixture(scope="module")
def run(prose):
    return prose.generate(TEXT, max_new_tokens=4)


@pytest.fixture(scope="module")
def other(prose):
    return prose.generate(OTHER, max_new_tokens=0)


def neurons_of(run, layers, site="mlp_post"):
    """Tokens × units of all layers, read in a forward of our own."""
    capture = run.capture(site, layers=layers)
    return np.concatenate([capture.numpy(site, layer).reshape(len(run), -1) for layer in layers], axis=1)


def test_nmf_factors_the_clipped_neurons_of_all_layers_side_by_side(run):
    result = run.analyze("nmf", n_components=4, layers=[1, 3], n_seeds=2)
    raw = neurons_of(run, [1, 3])
    x = np.maximum(raw, 0)
    expected = nonnegative_factors(x, 4)
    np.testing.assert_allclose(result.values.values, expected.activations.T)
    np.testing.assert_allclose(result.loadings.values, expected.loadings)
    units = result.loadings.labels("unit")
    assert (units[0], units[768], units[-1]) == ("1:0", "3:0", "3:767")
    assert result.tokens.texts == run.tokens.texts
    assert result.values.labels("token")[3] == "3 ("
    rebuilt = result.values.values.T @ result.loadings.values
    quality = result.quality
    assert quality["relative error"] == pytest.approx(np.linalg.norm(x - rebuilt) / np.linalg.norm(x), rel=1e-4)
    spread = np.square(x - x.mean(0)).sum()
    assert quality["explained variance"] == pytest.approx(1 - np.square(x - rebuilt).sum() / spread, abs=1e-4)
    assert quality["clipped energy"] == pytest.approx(np.square(np.minimum(raw, 0)).sum() / np.square(raw).sum())
    assert "below zero and was clipped to zero" in result.notes[0]
    assert len(result.stability) == 4
    assert quality["stability"] == pytest.approx(result.stability.mean())


def test_semi_nmf_clips_nothing(run):
    result = run.analyze("nmf", n_components=3, negative="semi", site="resid_post", layers=2, n_seeds=0)
    x = neurons_of(run, [2], "resid_post")
    np.testing.assert_allclose(result.loadings.values, semi_nonnegative_factors(x, 3).loadings)
    assert (result.loadings.values < 0).any()
    assert (result.values.values >= 0).all()
    assert "clipped energy" not in result.quality
    assert result.stability is None
    assert "Semi-NMF: 3 components of resid_post in layer 2" in str(result)


def test_pca_ica_and_kmeans_of_a_run(run):
    x = neurons_of(run, [3]).astype(np.float64)
    oracle = PCA(3, svd_solver="full").fit(x)
    pca = run.analyze("pca", n_components=3, layers=-1)
    assert pca.quality["explained variance"] == pytest.approx(oracle.explained_variance_ratio_.sum(), abs=1e-5)
    ica = run.analyze("ica", n_components=3, layers=-1, n_seeds=2)
    assert ica.quality["explained variance"] == pytest.approx(pca.quality["explained variance"], abs=1e-5)
    assert ica.stability.min() > 0.9
    groups = run.analyze("k_means", n_components=3, layers=-1, n_seeds=2)
    assert (groups.values.values.sum(0) == 1).all()
    assert 0 < groups.quality["explained variance"] < pca.quality["explained variance"]
    again = run.analyze("kmeans", n_components=3, layers=-1, n_seeds=2)
    np.testing.assert_array_equal(groups.values.values, again.values.values)


@pytest.mark.parametrize("choose", ["elbow", "stability"])
def test_auto_chooses_from_a_curve_that_is_kept(run, choose, tmp_path):
    options = {"n_components": "auto", "choose": choose, "n_seeds": 2, "max_components": 5, "layers": 3}
    result = run.analyze("nmf", **options)
    n, curve = result.values.shape[0], result.curve
    assert curve.labels("components") == (1, 2, 3, 4, 5)
    explained = curve.sel(measure="explained variance").values
    assert (np.diff(explained) > 0).all()
    assert explained[n - 1] == pytest.approx(result.quality["explained variance"])
    if choose == "stability":
        stable = curve.sel(measure="stability").values
        assert n == 2 + stable[1:].argmax()
        assert stable[n - 1] == pytest.approx(result.quality["stability"])
    path = result.save(tmp_path / "factors.ecco")
    loaded = ecco.load(path)
    assert isinstance(loaded, NeuronFactors)
    assert loaded.quality == result.quality
    np.testing.assert_array_equal(loaded.curve.values, curve.values)
    code = f"import ecco_core as e, sys; r = e.load({str(path)!r}); print(type(r).__name__, len(r.quality)); str(r)\n"
    code += "assert 'ecco_factorization.results' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Components", str(len(result.quality))]


def test_several_runs_enter_one_after_the_other_without_padding(run, other):
    runs = (run, other)
    together = ecco.analyze("nmf", runs, n_components=3, layers=[0, 3], labels=["a", "b"], n_seeds=0)
    x = np.maximum(np.concatenate([neurons_of(each, [0, 3]) for each in runs]), 0)
    expected = nonnegative_factors(x, 3)
    assert together.values.shape == (3, len(run) + len(other))
    np.testing.assert_allclose(together.values.values, expected.activations.T, rtol=1e-3, atol=1e-3)
    assert together.tokens.texts == run.tokens.texts + other.tokens.texts
    assert together.values.labels("token")[len(run)] == "b: 0 C"
    some = ecco.analyze(
        "nmf", runs, n_components=3, layers=[0, 3], labels=["a", "b"], positions=[-1, 0, 1, 1, 2], n_seeds=0
    )
    places = [label.split(":")[0] + " " + label.split(" ")[1] for label in some.values.labels("token")]
    assert places == [f"{name} {p}" for name, each in zip("ab", runs) for p in (len(each) - 1, 0, 1, 2)]


def test_components_of_two_texts_are_matched(run, other):
    first, second = (each.analyze("nmf", n_components=3, layers=3, n_seeds=0) for each in (run, other))
    match = match_components(first, second)
    assert match.columns == ("first", "second", "cosine")
    assert sorted(row[1] for row in match.rows) == [0, 1, 2]
    assert all(0 < row[2] < 1 for row in match.rows)
    same = match_components(first, first)
    assert [row[:2] for row in same.rows] == [(0, 0), (1, 1), (2, 2)]
    assert [row[2] for row in same.rows] == pytest.approx([1, 1, 1])
    with pytest.raises(ecco.OptionError, match=r"the first result has 768 \(3:0 to 3:767\), the second 768 \(2:0 to"):
        match_components(first, run.analyze("nmf", n_components=3, layers=2, n_seeds=0))


def test_umap_places_tokens(run):
    result = run.analyze("umap", layers=3, n_neighbors=8)
    assert result.values.shape == (len(run), 2)
    assert result.labels[3] == "3 ("
    assert any("trustworthiness" in note for note in result.notes)


def test_umap_that_is_not_installed_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ecco.MissingDependencyError, match=r"pip install 'ecco-factorization\[umap\]'"):
        run.analyze("umap", layers=3)


@pytest.mark.parametrize(("token", "neuron"), [("(", "0:357"), ("\n   ", "3:734")])
def test_the_neuron_of_a_bracket_and_of_an_indent_are_found_and_hold_on_another_text(run, other, token, neuron):
    found = run.analyze("neuron_activations", token=token, n_neurons=8)
    names = [label.split()[0] for label in found.values.labels("neuron")]
    assert neuron in names
    assert all("AUC" in label for label in found.values.labels("neuron"))
    there = other.analyze("neuron_activations", neurons=[neuron])
    known = np.array([token in text for text in other.tokens.texts])
    values = there.values.values[0]
    assert values[known].min() > np.median(values[~known])
    assert (values[known][:, None] > values[~known]).mean() > 0.95


def test_neurons_are_read_as_they_are_captured(run):
    grid = run.analyze("neuron_activations", neurons=["2:17", "0:5"], positions=[4, 2])
    capture = run.capture("mlp_post")
    assert grid.values.labels("neuron") == ("2:17", "0:5")
    assert grid.values.values[0] == pytest.approx(capture.numpy("mlp_post", 2)[[4, 2], 17])
    assert grid.values.values[1] == pytest.approx(capture.numpy("mlp_post", 0)[[4, 2], 5])
    vary = run.analyze("neuron_activations", layers=1, n_neurons=3)
    expected = np.argsort(-capture.numpy("mlp_post", 1).std(0))[:3]
    assert vary.values.labels("neuron") == tuple(f"1:{unit}" for unit in expected)


def test_top_neurons_by_activation_and_by_deviation(run):
    x = neurons_of(run, [0, 1, 2, 3])
    table = run.analyze("top_neurons", n_neurons=2, by="activation")
    best = int(x[5].argmax())
    assert table.rows[5][:2] == ("5 ,", f"{best // 768}:{best % 768} ({x[5, best]:.2f})")
    scores = (x - x.mean(0)) / x.std(0)
    best = int(scores[5].argmax())
    assert run.analyze("top_neurons").rows[5][1].split()[0] == f"{best // 768}:{best % 768}"


def test_the_map_has_clusters_side_by_side(run):
    grid = run.analyze("neuron_map", layers=3, n_neurons=12, n_clusters=3)
    clusters = [label.split()[1] for label in grid.values.labels("neuron")]
    assert clusters == sorted(clusters)
    assert len(set(clusters)) <= 3
    x = neurons_of(run, [3])
    unit = int(grid.values.labels("neuron")[0].split(":")[1])
    assert grid.values.values[0] == pytest.approx((x[:, unit] - x[:, unit].mean()) / x[:, unit].std(), abs=1e-4)
    assert "12 of 768 neurons" in grid.notes[0]


@pytest.mark.parametrize(
    ("kind", "task"),
    [("gpt2", "causal"), ("llama", "causal"), ("bert", "masked"), ("t5", "seq2seq"), ("mamba", "causal")],
)
def test_every_kind_of_model_has_factors(open_tiny, kind, task):
    lm = open_tiny(kind, task)
    text = "The captain is called <mask>." if task == "masked" else "The captain is called Nora."
    run = lm.generate(text, max_new_tokens=8) if task != "masked" else lm(text)
    sites = lm.architecture.sites(run.transcript.stack)
    site = "mlp_post" if "mlp_post" in sites else "resid_post"
    for stack in run.transcript.tokens:
        result = run.analyze("nmf", n_components=2, site=site, stack=stack, n_seeds=0)
        assert result.values.shape == (2, len(run.transcript.tokens[stack]))
        assert 0 < result.quality["relative error"] < 1
        layers = {unit.split(":")[0] for unit in result.loadings.labels("unit")}
        assert layers == {"0", "1"}
        last = run.analyze("pca", n_components=2, site=site, stack=stack, positions=[0, 1, -1])
        assert last.values.labels("token")[-1].startswith(f"{len(run.transcript.tokens[stack]) - 1} ")


def test_half_precision_and_attention_heads_are_factored_too(open_tiny):
    lm = open_tiny("llama", dtype=torch.bfloat16)
    run = lm.generate("The captain is called Nora.", max_new_tokens=4)
    assert run.analyze("nmf", n_components=2).values.values.dtype == np.float32
    heads = run.analyze("pca", n_components=2, site="q", layers=1)
    capture = run.capture("q", layers=1)
    assert heads.loadings.size("unit") == capture.get("q", 1)[0].numel()


def test_importing_the_plugin_is_light_and_its_functions_need_no_model():
    code = """import sys, ecco_factorization
assert not {"numpy", "torch", "sklearn", "scipy"} & set(sys.modules)
import numpy
assert ecco_factorization.nonnegative_factors(numpy.ones((3, 4)), 1).errors[-1] < 1e-6
assert not {"torch", "transformers"} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)
