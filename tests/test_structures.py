"""The registry's files are true of live models: each site is what its name says, by numeric identities."""

from __future__ import annotations

import pytest
import torch

import ecco_core as ecco
from ecco_core.models import registry
from ecco_core.models.hooks import hooked


@pytest.fixture
def run(lm):
    return lm.generate("The captain is called", max_new_tokens=4)


def test_every_model_type_of_the_registry_is_tested_here(kinds):
    covered = {t for entry in registry.entries() for t in entry.structure.model_types}
    assert covered == set(kinds)


def test_blocks_write_the_hidden_states(run):
    states = run.lm.model(run.ids[None], output_hidden_states=True).hidden_states
    capture = run.capture("resid_pre", "resid_post", "embedding")
    n = run.lm.architecture.n_layers()
    assert n == run.lm.model.config.num_hidden_layers
    for layer in range(n):
        torch.testing.assert_close(capture.get("resid_pre", layer), states[layer][0])
    norm = run.lm.architecture.final_norm()
    torch.testing.assert_close(norm(capture.get("resid_post", n - 1)), states[-1][0])


def test_head_of_the_normed_last_state_gives_the_logits(run):
    capture = run.capture("resid_post", "logits")
    last = capture.get("resid_post", run.lm.architecture.n_layers() - 1)
    logits = run.lm.model.get_output_embeddings()(run.lm.architecture.final_norm()(last))
    torch.testing.assert_close(logits, capture.get("logits"))
    torch.testing.assert_close(logits, run.lm.model(run.ids[None]).logits[0])


def test_the_declared_head_is_the_models_own(lm):
    head = lm.architecture.structure.heads["causal"]
    assert lm.model.get_submodule(head) is lm.model.get_output_embeddings()


def test_the_neurons_are_what_the_down_projection_reads(run):
    architecture, config = run.lm.architecture, run.lm.model.config
    capture = run.capture("mlp_post", "mlp_out")
    width = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    for layer in range(architecture.n_layers()):
        neurons = capture.get("mlp_post", layer)
        assert neurons.shape == (len(run), width)
        down = architecture.place("mlp_post", layer).module
        torch.testing.assert_close(down(neurons), capture.get("mlp_out", layer))


def test_blocks_add_attention_and_mlp_to_the_stream(run):
    capture = run.capture("resid_pre", "attn_out", "mlp_out", "resid_post")
    for layer in range(run.lm.architecture.n_layers()):
        added = capture.get("attn_out", layer) + capture.get("mlp_out", layer)
        torch.testing.assert_close(
            capture.get("resid_post", layer) - capture.get("resid_pre", layer), added, atol=1e-5, rtol=1e-4
        )


def test_resid_mid_is_the_stream_between_attention_and_mlp(run):
    if "resid_mid" not in run.lm.architecture.sites():
        assert run.lm.model.config.use_parallel_residual
        return
    capture = run.capture("resid_pre", "attn_out", "resid_mid")
    for layer in range(run.lm.architecture.n_layers()):
        torch.testing.assert_close(
            capture.get("resid_mid", layer), capture.get("resid_pre", layer) + capture.get("attn_out", layer)
        )


def test_z_goes_through_the_output_projection(run):
    architecture = run.lm.architecture
    capture = run.capture("z", "attn_out")
    for layer in range(architecture.n_layers()):
        projection = architecture.place("z", layer).module
        torch.testing.assert_close(projection(capture.get("z", layer)), capture.get("attn_out", layer))


@pytest.mark.parametrize("site", ["attn_out", "mlp_out", "mlp_post", "z", "resid_pre", "resid_post"])
def test_writing_back_what_was_read_changes_nothing_and_zero_changes_the_logits(run, site):
    place = run.lm.architecture.place(site, 0)
    with torch.no_grad():
        before = run.lm.model(run.ids[None]).logits
        with hooked(place, lambda tensor: tensor.clone()):
            assert torch.equal(run.lm.model(run.ids[None]).logits, before)
        with hooked(place, torch.zeros_like):
            assert not torch.allclose(run.lm.model(run.ids[None]).logits, before)
        assert torch.equal(run.lm.model(run.ids[None]).logits, before)


def test_a_structure_that_does_not_fit_names_the_file_and_the_nearest_module(make_lm):
    from ecco_core.models.architecture import Architecture
    from ecco_core.models.yaml_source import parse_yaml

    text = "schema: 1\nmodel_types: [gpt2]\nstacks: {decoder: {blocks: h, sites: {mlp_out: 'mpl >'}}}\n"
    with pytest.raises(ecco.ArchitectureError, match=r"gpt2\.yaml: stacks\.decoder\.sites\.mlp_out: .*'mlp'"):
        Architecture(parse_yaml(text, "gpt2.yaml"), make_lm("gpt2").model)
    with pytest.raises(ecco.ArchitectureError, match="expected a non-empty ModuleList"):
        Architecture(parse_yaml(text.replace("blocks: h", "blocks: ln_f"), "x.yaml"), make_lm("gpt2").model)
