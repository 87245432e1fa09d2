"""`verify` proves what is true and catches what is not: each wrong line in a file is found and its module named."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import attrs
import pytest
import torch

import ecco_core as ecco
from ecco_core.models.architecture import Architecture
from ecco_core.proving import verify as verifying
from ecco_core.proving.tiny_models import tiny_model
from ecco_core.proving.verify import verify
from ecco_core.registry import lookup
from ecco_core.registry.structure import AUTO
from ecco_core.registry.yaml_source import parse_dict

GONE = object()


def tree_of(model_type):
    """The registry's file as a plain dict."""
    from ruamel.yaml import YAML

    origin = lookup.require(model_type).structure.origin
    return YAML(typ="safe", pure=True).load(Path(origin))


def changed(tree, path, value):
    """The tree with another value at a dotted path."""
    tree = copy.deepcopy(tree)
    *steps, last = path.split(".")
    node = tree
    for step in steps:
        node = node.setdefault(step, {})
    if value is GONE:
        del node[last]
    else:
        node[last] = value
    return tree


def verified(model_type, task, changes, overrides=None):
    tree = tree_of(model_type)
    for path, value in changes.items():
        tree = changed(tree, path, value)
    model = tiny_model(model_type, task, overrides)
    return verify(model, Architecture(parse_dict(tree, "changed.yaml"), model), task)


SITES = "stacks.decoder.sites."
SWAPPED = {SITES + "mlp_out": "attn >", SITES + "attn_out": "mlp >"}
ENCODER = "stacks.encoder."
WRONG = [
    # type, task, changes, config, (identity, site) that fails, what the message names
    ("gpt2", "causal", {SITES + "mlp_post": "> mlp.c_fc"}, {}, ("down projection", "mlp_post"), "h.0.mlp.c_fc'"),
    ("gpt2", "causal", {SITES + "mlp_post": "> mlp.c_fc"}, {}, ("width", "mlp_post"), "32 units"),
    ("t5", "seq2seq", {SITES + "mlp_post": "> layer.2.DenseReluDense.wi"}, {}, ("down projection", "mlp_post"), ".wi'"),
    ("gpt2", "causal", {SITES + "mlp_out": "> mlp"}, {}, ("additions", "mlp_out"), "'> transformer.h.0.mlp'"),
    ("gpt2", "causal", SWAPPED, {}, ("down projection", "mlp_post"), ""),
    ("gpt2", "causal", SWAPPED, {}, ("output projection", "z"), ""),
    ("gptj", "causal", SWAPPED, {}, ("output projection", "z"), ""),
    ("gpt2", "causal", {SITES + "attn_out": "attn.c_attn >"}, {}, ("additions", "attn_out"), "attn.c_attn >'"),
    ("gpt2", "causal", {SITES + "resid_mid": "> ln_1"}, {}, ("additions", "resid_mid"), "ln_1'"),
    ("gpt2", "causal", {SITES + "z": "> attn.c_attn"}, {}, ("output projection", "z"), "attn.c_attn'"),
    ("gpt2", "causal", {SITES + "z": "> attn.c_attn"}, {}, ("mixing", "v"), "attn.c_attn'"),
    ("gpt2", "causal", {"stacks.decoder.attention": "mlp"}, {}, ("reading", "pattern"), "h.0.mlp'"),
    ("gpt2", "causal", {"stacks.decoder.final_norm": "h.0.ln_1"}, {}, ("head", "logits"), "transformer.h.0.ln_1"),
    ("gpt2", "causal", {"stacks.decoder.final_norm": GONE}, {}, ("head", "logits"), "(no norm)"),
    ("llama", "backbone", {"stacks.decoder.final_norm": GONE}, {}, ("final norm", "resid_post"), "(no norm)"),
    ("gpt2", "causal", {"heads.causal": "transformer.h.0.mlp.c_fc"}, {}, ("head", "logits"), "h.0.mlp.c_fc"),
    ("cohere", "causal", {"logits": GONE}, {}, ("head", "logits"), "0.0625 times as large: a scale is missing"),
    ("granite", "causal", {"logits": GONE}, {}, ("head", "logits"), "0.25 times as large"),
    ("granite", "causal", {SITES + "mlp_out": "mlp >"}, {}, ("additions", "mlp_out"), "mlp >'"),
    ("granite", "causal", {SITES + "attn_out": "self_attn >"}, {}, ("additions", "attn_out"), "self_attn >'"),
    ("gemma2", "causal", {"logits": GONE}, {}, ("head", "logits"), "lm_head"),
    ("gemma2", "causal", {SITES + "attn_out": "self_attn >"}, {}, ("additions", "attn_out"), "self_attn >'"),
    ("gemma2", "causal", {SITES + "mlp_out": "mlp >"}, {}, ("additions", "mlp_out"), "mlp >'"),
    ("gpt_neox", "causal", {SITES + "resid_mid": "> post_attention_layernorm"}, {}, ("additions", "resid_mid"),
     "post_attention_layernorm"),
    ("opt", "causal", {"variants": GONE}, {"do_layer_norm_before": False}, ("additions", "attn_out"), "self_attn >'"),
    ("opt", "causal", {"stacks.decoder.final_norm": "decoder.final_layer_norm?"}, {"word_embed_proj_dim": 16},
     ("head", "logits"), "decoder.final_layer_norm"),
    ("mixtral", "causal", {SITES + "router": "mlp.experts >"}, {}, ("router", "router"), "mlp.experts >'"),
    ("mamba", "causal", {SITES + "mixer_out": "mixer.in_proj >"}, {}, ("additions", "mixer_out"), "mixer.in_proj >'"),
    ("bert", "masked", {ENCODER + "norms": GONE}, {}, ("additions", "attn_out"), "attention.output.dense >'"),
    ("bert", "masked", {ENCODER + "norms.mlp_out": "attention.output.LayerNorm"}, {}, ("additions", "mlp_out"), "bert"),
    ("bert", "masked", {"heads.masked": "cls.predictions.decoder"}, {}, ("head", "logits"), "cls.predictions.decoder"),
    ("bart", "seq2seq", {"logits": GONE}, {}, ("head", "logits"), "lm_head"),
    ("bart", "seq2seq", {SITES + "cross_attn_out": GONE}, {}, ("additions", "attn_out"), "self_attn >'"),
    ("bart", "seq2seq", {"stacks.decoder.cross_attention": "self_attn"}, {}, ("mixing", "cross_v"), "self_attn'"),
    ("t5", "seq2seq", {"variants": GONE}, {"scale_decoder_outputs": True}, ("head", "logits"),
     "times as large: a scale is missing"),
    ("t5", "seq2seq", {"stacks.decoder.embedding": "encoder.embed_tokens"}, {}, ("reading", "embedding"), "encoder"),
    ("bart", "seq2seq", {ENCODER + "blocks": "decoder.layers"}, {}, ("reading", "resid_post"), "decoder.layers"),
    ("llama", "causal", {SITES + "mlp_post": "mlp.act_fn >"}, {}, ("down projection", "mlp_post"), "mlp.act_fn >'"),
    ("llama", "causal", {SITES + "mlp_post": "mlp.up_proj >"}, {}, ("down projection", "mlp_post"), "mlp.up_proj >'"),
    ("llama", "causal", {SITES + "mlp_post": "> mlp.up_proj"}, {"intermediate_size": 32},
     ("down projection", "mlp_post"), "'> model.layers.0.mlp.up_proj'"),
    ("rwkv", "causal", {SITES + "mlp_post": "> feed_forward.receptance"}, {}, ("down projection", "mlp_post"),
     "feed_forward.receptance'"),
    ("bert", "masked", {ENCODER + "sites.mlp_post": "> intermediate.intermediate_act_fn"}, {},
     ("down projection", "mlp_post"), "intermediate_act_fn'"),
    ("gemma2", "causal", {SITES + "mlp_post": "> mlp.down_proj * 2"}, {}, ("down projection", "mlp_post"), "down_proj"),
    ("gptj", "causal", {SITES + "z": "> attn.resid_dropout"}, {}, ("output projection", "z"), "attn.resid_dropout'"),
    ("llama", "causal", {"stacks.decoder.attention": "mlp.up_proj"}, {}, ("attention", "pattern"),
     "mlp.up_proj' computes the attention; what does is 'model.layers.0.self_attn'"),
    ("gptj", "causal", {"stacks.decoder.attention": "mlp.fc_in"}, {}, ("attention", "pattern"),
     "what does is 'transformer.h.0.attn'"),
    ("mpnet", "masked", {ENCODER + "attention": "attention"}, {}, ("attention", "pattern"), "layer.0.attention.attn'"),
    ("t5", "seq2seq", {"stacks.decoder.cross_attention": "layer.0.SelfAttention.v"}, {}, ("attention", "cross_pattern"),
     "what does is 'decoder.block.0.layer.1.EncDecAttention'"),
    ("bert", "masked", {ENCODER + "embedding": "embeddings"}, {}, ("embeddings", "embedding"), "bert.embeddings >'"),
    ("mixtral", "causal", {"stacks.decoder.experts": "self_attn"}, {}, ("experts", "mlp_post"), "layers.0.self_attn'"),
    ("bert", "masked", {ENCODER + "final_norm": "encoder.layer.0.intermediate.dense"}, {}, ("head", "logits"),
     "intermediate.dense of the last resid_post"),
    ("llama", "causal", {"heads.causal": "model.rotary_emb"}, {}, ("head", "logits"), "model.rotary_emb"),
    ("bert", "masked", {ENCODER + "embedding": "encoder"}, {}, ("embeddings", "embedding"), "bert.encoder >'"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "task", "changes", "overrides", "where", "named"), WRONG)
def test_a_wrong_line_is_caught_and_its_module_named(model_type, task, changes, overrides, where, named):
    failed = verified(model_type, task, changes, overrides).failed
    found = [check for check in failed if (check.identity, check.site) == where]
    assert found, [(check.identity, check.site) for check in failed]
    assert any(named in check.detail for check in found), [check.detail for check in found]


def test_only_what_is_wrong_is_blamed():
    failed = verified("granite", "causal", {SITES + "mlp_out": "mlp >"}).failed
    assert {check.site for check in failed} <= {"mlp_out", "mlp_post"}
    failed = verified("gpt2", "causal", {SITES + "resid_mid": "> ln_1"}).failed
    assert {check.site for check in failed} == {"resid_mid"}


def test_parts_of_an_attention_that_the_file_does_not_name_are_absent_for_that_reason():
    for value in ("mlp.up_proj", GONE):
        found = verified("llama", "causal", {"stacks.decoder.attention": value})
        reasons = {check.site: check.detail for check in found.checks if check.identity == "sites"}
        assert {reasons[site] for site in "qkv"} == {"its file does not name the module that attends"}
        assert reasons["cross_q"] == "it has no cross attention"
    gone = {"stacks.decoder.attention": GONE, SITES + "z": GONE}
    reasons = {check.site: check.detail for check in verified("falcon", "causal", gone).checks}
    assert reasons["pattern"] == "its file does not name the module that attends"
    assert verified("gptj", "causal", {"stacks.decoder.attention": "mlp.fc_in"}).sites("decoder")["pattern"] == "failed"


def test_a_site_that_nothing_reads_fails():
    model = tiny_model("gpt2", "causal")
    block = model.transformer.h[1]
    block.idle = torch.nn.Identity()
    forward = block.mlp.forward
    block.mlp.forward = lambda hidden: block.idle(hidden) * 0 + forward(hidden)
    structure = parse_dict(changed(tree_of("gpt2"), SITES + "resid_mid", ["> idle ?", "> ln_2 ?"]), "idle.yaml")
    failed = verify(model, Architecture(structure, model), "causal").failed
    assert ("zeros", "resid_mid", 1) in {(check.identity, check.site, check.layer) for check in failed}


def test_a_hook_left_behind_is_caught(monkeypatch):
    model = tiny_model("gpt2", "causal")
    hooked = verifying.hooked

    def leaky(place, change):
        place.module.register_forward_hook(lambda *_: None)
        return hooked(place, change)

    monkeypatch.setattr(verifying, "hooked", leaky)
    failed = verify(model, Architecture(lookup.require("gpt2").structure, model), "causal").failed
    assert [check.identity for check in failed] == ["hooks"]
    assert "hooks are left behind" in failed[0].detail


def test_nan_fails():
    model = tiny_model("gpt2", "causal")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.bias[0] = math.nan
    failed = verify(model, Architecture(lookup.require("gpt2").structure, model), "causal").failed
    assert {"head", "additions", "write back"} <= {check.identity for check in failed}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["llama", "mamba", "rwkv", "qwen3_moe"])
def test_half_precision_has_its_own_tolerance(model_type, dtype):
    model = tiny_model(model_type, "causal").to(
        dtype
    )  # Mamba's stream stays float32, other kernels choose other experts
    found = verify(model, Architecture(lookup.require(model_type).structure, model), "causal")
    assert not found.failed, [check.detail for check in found.failed]


def test_the_model_is_left_as_it_was():
    model = tiny_model("gpt2", "causal").train()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    verify(model, Architecture(lookup.require("gpt2").structure, model), "causal")
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_verification_is_plain_data():
    found = verified("llama", "causal", {})
    assert not found.failed
    assert found.sites("decoder")["mlp_post"] == "proven"
    assert found.sites("decoder")["cross_z"] == "not there"
    assert json.loads(json.dumps(attrs.asdict(found)))["model_type"] == "llama"


def test_tiny_models_are_random_everywhere_and_the_same_each_time():
    model, again, other = (tiny_model("bart", "seq2seq", seed=seed) for seed in (0, 0, 1))
    for name, value in model.named_parameters():
        assert value.std() > 0, name
        assert torch.equal(value, dict(again.named_parameters())[name]), name
        assert not torch.equal(value, dict(other.named_parameters())[name]), name
    assert model.final_logits_bias.std() > 0
    assert not model.training
    experts = tiny_model("gpt_oss", "causal").model.layers[0].mlp.experts  # (expert, in, out)
    assert experts.gate_up_proj.shape[1:] == (32, 128)
    assert experts.gate_up_proj.std().item() == pytest.approx(32**-0.5, rel=0.05)
    assert experts.down_proj.std().item() == pytest.approx(64**-0.5, rel=0.05)
    matrix = tiny_model("gpt2", "causal").transformer.h[0].mlp.c_proj.weight  # (in, out)
    assert matrix.shape == (64, 32)
    assert matrix.std().item() == pytest.approx(64**-0.5, rel=0.1)


def test_tiny_models_need_no_file_and_say_what_they_cannot():
    assert lookup.find("olmo") is None
    assert tiny_model("olmo", "causal")(torch.arange(3)[None]).logits.shape == (1, 3, 99)
    with pytest.raises(ecco.OptionError, match="no model type 'lama'"):
        tiny_model("lama")
    with pytest.raises(ecco.OptionError, match="no 'masked' model of type 'gpt2'; it has causal"):
        tiny_model("gpt2", "masked")
    with pytest.raises(ecco.ArchitectureError, match="A small random gpt2 model for causal cannot be built: "):
        tiny_model("gpt2", "causal", {"n_head": 5})
    with pytest.raises(ecco.ArchitectureError, match="parameters; its config needs keys that make it small"):
        tiny_model("gpt2", "causal", {"vocab_size": 10_000_000})


def run_ecco(capsys, *arguments):
    from ecco_core.cli.main import main

    code = 0
    try:
        main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_the_command_proves_an_architecture_and_a_model(capsys):
    code, out, _ = run_ecco(capsys, "models", "verify", "gpt2")
    assert code in (0, None)
    assert "gpt2, causal" in out
    assert "gpt2, backbone" in out
    assert "cross_z (it has no cross attention)" in out
    code, out, _ = run_ecco(capsys, "models", "verify", "tiny:prose", "--json")
    (found,) = json.loads(out)
    assert code in (0, None)
    assert found["sites"]["decoder"]["mlp_post"] == "proven"


def test_the_command_names_the_wrong_module_and_exits_with_1(capsys, tmp_path, monkeypatch):
    text = Path(lookup.require("gpt2").structure.origin).read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("> mlp.c_proj", "> mlp.c_fc"))
    monkeypatch.setenv("ECCO_MODEL_REGISTRY", str(tmp_path))
    code, out, _ = run_ecco(capsys, "models", "verify", "gpt2")
    assert code == 1
    assert [line for line in out.splitlines() if line.startswith("    failed") and ".mlp.c_fc'" in line]
    code, out, _ = run_ecco(capsys, "models", "verify", "gpt2", "--json")
    assert code == 1
    residuals = [check["residual"] for check in json.loads(out)[0]["checks"] if check["status"] == "failed"]
    assert None in residuals  # widths that do not agree: no number


def test_a_file_that_names_a_missing_module_is_a_failed_check_and_the_others_are_proven(capsys, tmp_path, monkeypatch):
    for model_type, (old, new) in {"gpt2": ("mlp >", "mpl >"), "mamba": ("", "")}.items():
        text = Path(lookup.require(model_type).structure.origin).read_text(encoding="utf-8")
        (tmp_path / f"{model_type}.yaml").write_text(text.replace(old, new))
    monkeypatch.setattr(lookup, "packaged_folder", lambda: tmp_path)
    told = "gpt2.yaml:13:7: at stacks.decoder.sites.mlp_out: no module 'mpl' in GPT2Block. Did you mean 'mlp'?"
    code, out, _ = run_ecco(capsys, "models", "verify", "gpt2")
    assert (code, out.count(told)) == (1, 4)
    code, out, err = run_ecco(capsys, "models", "verify", "--all", "--json")
    failed = [(v["model_type"], c["identity"]) for v in json.loads(out) for c in v["checks"] if c["status"] == "failed"]
    assert (code, failed, err) == (1, [(t, "modules") for t in ("gpt2", "gpt_bigcode") for _ in range(4)], "")
    assert {v["model_type"] for v in json.loads(out)} == {"gpt2", "gpt_bigcode", "mamba"}
    code, out, _ = run_ecco(capsys, "models", "verify", "tiny:prose", "--json")
    assert (code, told in out) == (1, True)


def test_an_architecture_without_a_file_is_pointed_to_detection(capsys):
    code, out, err = run_ecco(capsys, "models", "verify", "olmo")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "No model file covers 'olmo', an architecture of transformers: `ecco models detect olmo`" in err


def test_each_task_has_a_class_and_both_tables_of_transformers():
    import transformers
    from transformers.models.auto import modeling_auto

    for task, (name, table) in AUTO.items():
        assert hasattr(transformers, name), task
        config, *_ = getattr(transformers, table)
        assert config.model_type in getattr(modeling_auto, f"{table}_NAMES")


@pytest.mark.parametrize("arguments", [[], ["gpt2", "--all"], ["no/such"]])
def test_mistakes_of_the_user_are_one_sentence(capsys, arguments):
    code, out, err = run_ecco(capsys, "models", "verify", *arguments)
    assert code == 2
    assert not out
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["verify", "detect"])
def test_a_slip_in_an_architectures_name_is_pointed_out(capsys, command):
    code, _, err = run_ecco(capsys, "models", command, "gpt2x")
    assert (code, err.count("\n")) == (2, 1)
    assert "Nor is it an architecture. Did you mean 'gpt2'?" in err
