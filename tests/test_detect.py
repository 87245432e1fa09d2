"""Detection finds by numbers alone what the registry's files declare, proves it, and leaves the model as it was."""

from __future__ import annotations

import json

import attrs
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from ecco_core.errors import ArchitectureError
from ecco_core.models.architecture import Architecture
from ecco_core.models.feed import Feed
from ecco_core.models.reading import read
from ecco_core.proving.detect import detect, detected, to_yaml
from ecco_core.proving.tiny_models import tasks_of, tiny_model
from ecco_core.registry import lookup
from ecco_core.registry.yaml_source import parse_yaml

FAMILIES = [
    (model_type, task)
    for entry in lookup.entries()
    for model_type in entry.structure.model_types
    for task in tasks_of(model_type)
    if task in entry.structure.heads
]


def without_registry(monkeypatch):
    def forbidden(*_):
        raise AssertionError("detection asked the registry")

    for name in ("find", "require", "entries"):
        monkeypatch.setattr(lookup, name, forbidden)


def sites(architecture, stack):
    return {site: architecture.layers_with(site, stack) for site in architecture.sites(stack)}


@pytest.mark.parametrize(("model_type", "task"), FAMILIES)
def test_the_same_tensors_are_found_as_the_file_declares(model_type, task, monkeypatch):
    model = tiny_model(model_type, task)
    declared = Architecture(lookup.require(model_type).structure, model)
    without_registry(monkeypatch)
    found = detect(model, task)
    assert not found.verification.failed
    ours = Architecture(found.structure, model)
    assert ours.stacks == declared.stacks
    feed = Feed.of({stack: torch.arange(5, 12) + len(stack) for stack in declared.stacks})
    for stack in declared.stacks:
        assert sites(ours, stack) == sites(declared, stack)
        outside = ("embedding", "logits")
        keys = [(stack, s, None if s in outside else n) for s, layers in sites(ours, stack).items() for n in layers]
        one, other = (read(model, architecture, feed, keys)[0] for architecture in (ours, declared))
        for key in keys:
            torch.testing.assert_close(one[key], other[key])
    written = parse_yaml(to_yaml(found.structure, found.notes), "detected")
    assert written == found.structure


class OddConfig(PreTrainedConfig):
    model_type = "odd"

    def __init__(self, soft_cap=3.0, stream_scale=0.25, **kwargs):
        super().__init__(**kwargs)
        self.soft_cap, self.stream_scale, self.vocab_size = soft_cap, stream_scale, 40
        self.hidden_size, self.intermediate_size = 16, 24


class Mouth(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        mixed = torch.cumsum(self.a(x), 1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return self.b(mixed), None


class Wagon(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.one, self.two, self.mouth, self.scale = nn.LayerNorm(16), nn.LayerNorm(16), Mouth(), scale
        self.wide, self.narrow = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x):
        x = x + self.mouth(self.one(x))[0] * self.scale
        return x + self.narrow(torch.relu(self.wide(self.two(x)))) * 0.7


class OddModel(PreTrainedModel):
    config_class = OddConfig
    base_model_prefix = "none"

    def __init__(self, config):
        super().__init__(config)
        self.words, self.out = nn.Embedding(40, 16), nn.Linear(16, 40)
        self.train_of = nn.ModuleList([Wagon(config.stream_scale) for _ in range(3)])
        self.end, self.turn = nn.LayerNorm(16), nn.Linear(16, 16)
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def get_output_embeddings(self):
        return self.out

    def forward(self, input_ids, output_hidden_states=False, **kwargs):
        x = self.words(input_ids)
        for wagon in self.train_of:
            x = wagon(x)
        cap = self.config.soft_cap
        return CausalLMOutput(logits=cap * torch.tanh(self.out(self.turn(self.end(x))) / cap))


@pytest.fixture
def odd():
    torch.manual_seed(0)
    model = OddModel(OddConfig())
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model


def test_a_layout_that_nobody_has_seen_is_found(odd):
    found = detect(odd)
    stack = found.structure.stacks["decoder"]
    assert stack.blocks == "train_of"
    assert {site: str(places[0]) for site, places in stack.sites.items()} == {
        "mixer_out": "mouth > * stream_scale",
        "resid_mid": "> two",
        "mlp_post": "> narrow",
        "mlp_out": "narrow > * 0.7",
    }
    assert str(found.structure.logits.cap) == "soft_cap"
    assert any("no key of the config is the scale of mlp_out" in note for note in found.notes)
    assert [str(p) for p in (*stack.final_norm, *found.structure.heads["causal"])] == ["end", "turn", "out"]


def test_the_model_is_left_as_it_was(odd):
    odd.train()
    odd.end.eval()
    before = {name: value.clone() for name, value in odd.state_dict().items()}
    detect(odd)
    assert all(module.training is (module is not odd.end) for module in odd.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in odd.modules())
    assert all(torch.equal(value, before[name]) for name, value in odd.state_dict().items())


def test_an_error_in_the_model_leaves_it_as_it_was_too(odd):
    odd.train()
    odd.turn.forward = None
    with pytest.raises(ArchitectureError, match="does not run on token ids alone"):
        detect(odd)
    assert odd.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in odd.modules())


@pytest.mark.parametrize("model_type", ["xlm", "deepseek_v4"])
def test_what_cannot_be_proven_is_one_clear_error(model_type):
    with pytest.raises(ArchitectureError) as raised:
        detected(tiny_model(model_type, "causal"))
    assert f"The layout of this {model_type} model cannot be proven: there is no ModuleList" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_notes_say_why_a_site_is_missing():
    notes = " ".join(detect(tiny_model("mixtral", "causal")).notes)
    assert "mlp_post is not there: experts are fused" in notes
    notes = " ".join(detect(tiny_model("diffllama", "causal")).notes)
    assert "q, k, v, pattern are left out; what fails: " in notes


def test_a_gate_before_the_heads_output_costs_z_but_not_the_pattern():
    stack = detect(tiny_model("afmoe", "causal")).structure.stacks["decoder"]
    assert stack.attention is not None
    assert "z" not in stack.sites


def test_bare_models_and_classifiers_are_detected_too():
    for model_type, task in (("bert", "backbone"), ("gpt2", "sequence_classification"), ("bart", "backbone")):
        model = tiny_model(model_type, task)
        found = detect(model, task)
        assert not found.structure.heads
        for name, stack in found.structure.stacks.items():
            declared = Architecture(lookup.require(model_type).structure, model).stack(name)
            assert attrs.asdict(stack)["sites"] == attrs.asdict(declared)["sites"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_hindrance(dtype):
    model = tiny_model("llama", "causal")
    assert detect(model.to(dtype)).structure == detect(tiny_model("llama", "causal")).structure


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["falcon_mamba", "recurrent_gemma"])  # float32 states, and logits with a cap
def test_heads_less_precise_than_the_stream_are_found(model_type, dtype):
    half, whole = (detect(tiny_model(model_type, "causal").to(kind)).structure for kind in (dtype, torch.float32))
    assert half == whole


def test_the_command_prints_a_file_ready_to_contribute():
    from ecco_core.cli.models import models_group

    printed = CliRunner().invoke(models_group, ["detect", "mixtral"])
    assert printed.exit_code == 0
    assert printed.output.startswith("# decoder: mlp_post is not there")
    assert parse_yaml(printed.output, "printed").model_types == ("mixtral",)
    tree = json.loads(CliRunner().invoke(models_group, ["detect", "gpt2", "--json"]).output)
    assert tree["sites"]["decoder"]["mlp_post"] == "proven"
    assert parse_yaml(tree["yaml"], "json").heads["causal"]
