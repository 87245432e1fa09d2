"""Model YAML: every fault is located; anything else is a structure."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

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
        ("blocks: h", "blocks: !!python/object:os.system h", "expected the dotted path"),
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


PIECES = [
    "schema",
    "model_types",
    "stacks",
    "decoder",
    "blocks",
    "sites",
    "h",
    ":",
    " ",
    "\n",
    "  ",
    "[",
    "]",
    "{",
    "}",
]
PIECES += ['"', "'", ">", "- ", "#", "&a", "*a", "!!binary", "!!set", "<<", "1", "1e999", "~", "|", "\t", "é", "%", "@"]


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_mutated_file_is_a_structure_or_a_located_error(data):
    text = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + data.draw(st.sampled_from(["", *PIECES])) + text[end:]
    assert structure_or_located(text)


def structure_or_located(text):
    """Whether `text` is a structure or ends in an error whose line and column are in it."""
    try:
        parse_yaml(text, "x.yaml")
    except ecco.RegistryError as error:
        file, line, column = str(error).partition(": ")[0].rsplit(":", 2)
        return file == "x.yaml" and 1 <= int(line) <= text.count("\n") + 2 and int(column) >= 1
    return True


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.yaml").write_text("# " + "x" * 200_000)
    for name in ("bytes.yaml", "huge.yaml", "missing.yaml"):
        with pytest.raises(ecco.RegistryError, match=rf"{name}:1:1: "):
            read_yaml(tmp_path / name)


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


@pytest.mark.slow
def test_ten_thousand_mutations():
    rng = random.Random(0)
    for _ in range(10_000):
        text = GOOD
        for _ in range(rng.randint(1, 5)):
            start = rng.randint(0, len(text))
            text = text[:start] + rng.choice(["", *PIECES]) + text[min(len(text), start + rng.randint(0, 12)) :]
        assert structure_or_located(text)
