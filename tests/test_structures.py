"""The registry's files are true of live models: every identity holds for every type and task, and in known cases."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

import ecco_core as ecco
from ecco_core.models.architecture import Architecture
from ecco_core.models.feed import Feed
from ecco_core.models.reading import read
from ecco_core.proving.tiny_models import tiny_model
from ecco_core.proving.verify import covered_tasks, verify_type
from ecco_core.registry import lookup
from ecco_core.registry.yaml_source import parse_yaml

TYPES = sorted({model_type for entry in lookup.entries() for model_type in entry.structure.model_types})
PROMISED = (
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "bloom", "opt", "mpt", "falcon", "phi", "phi3", "llama",
    "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "olmo2",
    "stablelm", "starcoder2", "cohere", "granite", "gpt_oss", "deepseek_v3", "mamba", "rwkv", "bert", "roberta",
    "xlm-roberta", "distilbert", "albert", "electra", "deberta-v2", "modernbert", "mpnet", "t5", "mt5", "bart", "mbart",
    "pegasus", "marian", "m2m_100",
)  # fmt: skip


def opened(model_type, task="causal", **overrides):
    model = tiny_model(model_type, task, overrides)
    return model, Architecture(lookup.require(model_type).structure, model)


def read_all(model, architecture, *sites, stack="decoder", layer=0):
    ids = {name: torch.arange(10, 20) for name in architecture.stacks}
    found = read(model, architecture, Feed.of(ids), [(stack, site, layer) for site in sites])[0]
    return [found[key] for key in found]


PAGE = Path(__file__).parent.parent / "docs" / "models.md"


def test_the_page_names_exactly_the_registrys_types():
    _, table = PAGE.read_text(encoding="utf-8").split("generate_models.py: begin -->")
    rows = re.findall(r"^\| `([^`]+)` \|", table.split("<!-- end -->")[0], re.MULTILINE)
    assert sorted(set(rows)) == TYPES


@pytest.mark.slow
def test_the_page_is_what_its_generator_writes():
    generator = runpy.run_path(str(PAGE.parent / "generate_models.py"))
    text = PAGE.read_text(encoding="utf-8")
    assert generator["page"](text) == text


def test_the_promised_families_have_files():
    assert set(PROMISED) <= set(TYPES)


@pytest.mark.parametrize("model_type", TYPES)
def test_every_identity_holds_for_every_task(model_type):
    tasks = covered_tasks(model_type)
    assert tasks
    for task in tasks:
        found = verify_type(model_type, task)
        assert not found.failed, [f"{task}: {check.identity}: {check.detail}" for check in found.failed]
        for stack in {check.stack for check in found.checks}:
            proven = {site for site, status in found.sites(stack).items() if status == "proven"}
            assert {"embedding", "resid_pre", "resid_post"} <= proven
            if task in ("causal", "masked", "seq2seq") and stack == found.checks[-1].stack:
                assert "logits" in proven or not lookup.require(model_type).structure.heads[task]


VARIANTS = [
    ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),  # OPT-350m
    ("gpt_neox", {"use_parallel_residual": False}),
    ("falcon", {"parallel_attn": False}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),  # Falcon-40B
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),  # Falcon2-11B
    ("falcon", {"alibi": True, "parallel_attn": False, "multi_query": False}),  # Falcon-RW
    ("falcon", {"attn_implementation": "sdpa"}),
    ("stablelm", {"use_parallel_residual": True, "qk_layernorm": True}),
    ("bloom", {"apply_residual_connection_post_layernorm": True}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
    ("gpt2", {"attn_implementation": "eager"}),
    ("gpt_bigcode", {"multi_query": False}),
    ("phi", {"num_key_value_heads": 2, "qk_layernorm": True}),
    ("gemma3_text", {"final_logit_softcapping": 2.0}),
    ("cohere", {"use_qk_norm": True}),
    ("deepseek_v3", {"q_lora_rank": None}),
    ("qwen2_moe", {"mlp_only_layers": []}),
    ("gemma3_text", {"num_hidden_layers": 5}),
    ("rwkv", {"num_hidden_layers": 8}),  # halves the stream after the sixth layer
]


@pytest.mark.parametrize(("model_type", "overrides"), VARIANTS)
def test_every_identity_holds_in_the_variants(model_type, overrides):
    found = verify_type(model_type, "causal", overrides)
    assert not found.failed, [check.detail for check in found.failed]


def test_twelve_layers_are_in_their_order():
    model, architecture = opened("gpt2", n_layer=12)
    assert architecture.n_layers("decoder") == 12
    for layer in range(12):
        assert architecture.place("mlp_post", layer, "decoder").module is model.transformer.h[layer].mlp.c_proj
    assert not verify_type("gpt2", "causal", {"n_layer": 12}).failed


def test_opt_350m_projects_in_and_out_and_norms_after():
    model, architecture = opened("opt", do_layer_norm_before=False, word_embed_proj_dim=16)
    assert architecture.final_norm("decoder") == [model.model.decoder.project_out]
    embedding, entering = read_all(model, architecture, "embedding", "resid_pre")
    assert (embedding.shape[-1], entering.shape[-1]) == (16, 32)
    middle, left = read_all(model, architecture, "resid_mid", "mlp_out")
    (post,) = read_all(model, architecture, "resid_post")
    torch.testing.assert_close(model.model.decoder.layers[0].final_layer_norm(middle + left), post)


def test_opt_of_other_sizes_norms_before():
    model, architecture = opened("opt")
    assert architecture.final_norm("decoder") == [model.model.decoder.final_layer_norm]


def test_neox_is_parallel_by_default_and_sequential_by_its_config():
    assert "resid_mid" not in opened("gpt_neox")[1].sites("decoder")
    model, architecture = opened("gpt_neox", use_parallel_residual=False)
    entering, attention, middle = read_all(model, architecture, "resid_pre", "attn_out", "resid_mid")
    torch.testing.assert_close(entering + attention, middle)


@pytest.mark.parametrize("model_type", ["falcon", "gpt_neo", "gptj", "mpt", "bloom"])
def test_patterns_that_a_model_only_reports_are_those_of_the_eager_kernel_whatever_it_runs_with(model_type):
    model, architecture = opened(model_type)
    expected = read_all(model, architecture, "pattern", "resid_post")
    if not model._supports_sdpa:
        return
    model, architecture = opened(model_type, attn_implementation="sdpa")
    for wanted, got in zip(expected, read_all(model, architecture, "pattern", "resid_post"), strict=True):
        torch.testing.assert_close(got, wanted)
    assert model.config._attn_implementation == "sdpa"


def test_gemma2_caps_its_logits_and_its_attention():
    model, architecture = opened("gemma2")
    hidden = torch.randn(3, 32)
    with torch.no_grad():
        logits = architecture.logits_of(hidden, "causal")
        torch.testing.assert_close(logits, 2 * torch.tanh(model.lm_head(hidden) / 2))
    queries = [
        check for check in verify_type("gemma2", "causal").checks if (check.identity, check.site) == ("scores", "q")
    ]
    assert [check.status for check in queries] == ["not proven"]


def test_cohere_scales_its_logits():
    model, architecture = opened("cohere")
    hidden = torch.randn(3, 32)
    assert model.config.logit_scale == 0.0625
    with torch.no_grad():
        torch.testing.assert_close(architecture.logits_of(hidden, "causal"), model.lm_head(hidden) * 0.0625)


def test_granite_multiplies_what_it_adds():
    model, architecture = opened("granite")
    assert model.config.residual_multiplier == 0.5
    place = architecture.place("mlp_out", 0, "decoder")
    assert (place.module, place.scale) == (model.model.layers[0].mlp, 0.5)
    hidden = torch.randn(3, 32)
    with torch.no_grad():
        torch.testing.assert_close(architecture.logits_of(hidden, "causal"), model.lm_head(hidden) / 4)


def test_mamba_has_no_attention_and_no_neurons():
    found = verify_type("mamba", "causal").sites("decoder")
    assert {site for site, status in found.items() if status == "proven"} == {
        "embedding", "resid_pre", "resid_post", "logits", "mixer_out"
    }  # fmt: skip
    model, architecture = opened("mamba")
    with pytest.raises(ecco.OptionError, match="No site 'pattern'"):
        read_all(model, architecture, "pattern")


def test_rwkv_norms_what_enters_its_first_block():
    details = [check.detail for check in verify_type("rwkv", "causal").checks if check.identity == "additions"]
    assert any("layer 0 adds to rwkv.blocks.0.pre_ln" in detail for detail in details)


def test_mixtrals_experts_are_fused():
    found = verify_type("mixtral", "causal")
    sites = found.sites("decoder")
    assert (sites["router"], sites["mlp_out"], sites["mlp_post"]) == ("proven", "proven", "not there")
    model, architecture = opened("mixtral")
    (router,) = read_all(model, architecture, "router")
    assert router.shape == (10, 4)
    with pytest.raises(ecco.OptionError, match="fused in one module"):
        read_all(model, architecture, "mlp_post")


def test_dense_layers_between_experts_have_neurons():
    assert opened("deepseek_v3")[1].layers_with("mlp_post", "decoder") == (0,)
    assert opened("deepseek_v3")[1].layers_with("router", "decoder") == (1,)


def test_a_structure_that_does_not_fit_names_the_file_and_the_nearest_module():
    text = "schema: 1\nmodel_types: [gpt2]\nstacks: {decoder: {blocks: h, sites: {mlp_out: 'mpl >'}}}\n"
    model = tiny_model("gpt2")
    with pytest.raises(ecco.ArchitectureError, match=r"gpt2\.yaml.*stacks\.decoder\.sites\.mlp_out: .*'mlp'"):
        Architecture(parse_yaml(text, "gpt2.yaml"), model)
    with pytest.raises(ecco.ArchitectureError, match="expected a non-empty ModuleList"):
        Architecture(parse_yaml(text.replace("blocks: h", "blocks: ln_f"), "x.yaml"), model)
