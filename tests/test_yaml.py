"""Model YAML: every fault is located; anything else is a structure."""

from __future__ import annotations

import os

import pytest

import ecco_core as ecco
from ecco_core.registry import lookup
from ecco_core.registry.structure import ModulePath, Site
from ecco_core.registry.yaml_source import parse_yaml, read_yaml

GOOD = """\
schema: 1
model_types: [gpt2]
stacks:
  decoder:
    blocks: h
    final_norm: ln_f
    sites:
      mlp_post: "> mlp.c_proj"
      mlp_out: "mlp >"
heads: {causal: lm_head}
"""


def test_a_good_file():
    structure = parse_yaml(GOOD, "x.yaml")
    assert structure.model_types == ("gpt2",)
    assert structure.stacks["decoder"].sites["mlp_post"] == (Site("mlp.c_proj", "input"),)
    assert structure.stacks["decoder"].sites["mlp_out"] == (Site("mlp", "output"),)
    assert structure.heads == {"causal": (ModulePath("lm_head"),)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("blocks: h", "block: h", "x.yaml:4:3: at stacks.decoder: the key 'blocks' is missing"),
        ("    final_norm", "    final_nrom", "x.yaml:6:5: at stacks.decoder.final_nrom: unknown key 'final_nrom'. Did"),
        ("mlp_out:", "mlp_uot:", "x.yaml:9:7: at stacks.decoder.sites.mlp_uot: unknown site 'mlp_uot'. Did you mean"),
        ("mlp_out:", "resid_post:", "it is not declared"),
        ('"mlp >"', "mlp", "x.yaml:9:7: at stacks.decoder.sites.mlp_out: expected '> path'"),
        ('"mlp >"', "[mlp]", "x.yaml:9:17: at stacks.decoder.sites.mlp_out.0: expected '> path'"),
        ('"mlp >"', "", "found nothing"),
        ('"mlp >"', '"mlp; rm >"', "expected '> path'"),
        ("schema: 1", "schema: 2", "x.yaml:1:1: at schema: this version reads schema 1, found 2"),
        ("schema: 1", "schema: true", "found True"),
        ("schema: 1\n", "", "x.yaml:1:1: the key 'schema' is missing"),
        ("[gpt2]", "gpt2", "x.yaml:2:1: at model_types: expected a list of names, found 'gpt2'"),
        ("[gpt2]", "[]", "expected a list of names, found a list"),
        ("[gpt2]", "[1]", "found 1 in it"),
        ("decoder:", "decoders:", "unknown key 'decoders'. Did you mean 'decoder'?"),
        ("causal:", "casual:", "x.yaml:10:9: at heads.casual: unknown key 'casual'. Did you mean 'causal'?"),
        ("blocks: h", "blocks: 3", "expected the dotted path of a module such as 'model.layers', found 3"),
        ("blocks: h", "blocks: h\n    blocks: g", "x.yaml:6:5: not valid YAML: found duplicate key"),
        ("blocks: h", "blocks: [h", "not valid YAML"),
        ("blocks: h", "blocks: !!python/object:os.system h", "x.yaml:5:13: not valid YAML: a model file has no tags"),
        ("stacks:", "stacks: {}\nother:", "unknown key 'other'"),
    ],
)
def test_each_fault_names_file_line_column_and_key(old, new, message):
    assert old in GOOD
    with pytest.raises(ecco.RegistryError) as caught:
        parse_yaml(GOOD.replace(old, new, 1), "x.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "a", "- x", "null", "\x00", "&a [*a]", "? {a: b}\n: c", "2001-99-99"])
def test_what_is_no_mapping_is_located_too(text):
    with pytest.raises(ecco.RegistryError, match=r"^x\.yaml:\d+:\d+:"):
        parse_yaml(text, "x.yaml")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.yaml").write_text("# " + "x" * 200_000)
    for name in ("bytes.yaml", "huge.yaml", "missing.yaml"):
        with pytest.raises(ecco.RegistryError, match=rf"{name}:1:1: "):
            read_yaml(tmp_path / name)


def test_a_pipe_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ecco.RegistryError, match=r"pipe\.yaml:1:1: a model file is a regular file, this is none"):
        read_yaml(tmp_path / "pipe.yaml")
    monkeypatch.setenv(lookup.VARIABLE, str(tmp_path))
    with pytest.raises(ecco.RegistryError, match=r"pipe\.yaml"):
        lookup.find("gpt2")
    monkeypatch.delenv(lookup.VARIABLE)
    monkeypatch.setattr(lookup, "packaged_folder", lambda: tmp_path)
    with pytest.raises(ecco.RegistryError, match=r"pipe\.yaml"):
        lookup.find("gpt2")


def test_the_users_folder_comes_first(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(GOOD.replace("ln_f", "ln_x"))
    monkeypatch.setenv(lookup.VARIABLE, str(tmp_path))
    entry = lookup.find("gpt2")
    assert entry.source == "user"
    assert entry.structure.stacks["decoder"].final_norm == (ModulePath("ln_x"),)
    monkeypatch.setenv(lookup.VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(ecco.RegistryError, match="which is no folder"):
        lookup.find("gpt2")


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(
        ecco.ArchitectureError, match=r"No model file covers the architecture 'lama'\. Did you mean 'llama'"
    ):
        lookup.require("lama")


def test_no_model_type_is_covered_twice():
    types = [t for entry in lookup.entries() for t in entry.structure.model_types]
    assert len(types) == len(set(types))
