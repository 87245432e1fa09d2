"""Our own model files, broken at random: what comes out is a structure that works or a located error, nothing else."""

from __future__ import annotations

import collections
import contextlib
import copy
import io
import re
import resource
import signal
import subprocess
import sys
import types

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from ruamel.yaml import YAML

import ecco_core as ecco
from ecco_core.registry import lookup
from ecco_core.registry.structure import DECLARED_SITES, HEAD_TASKS, STACKS, ModulePath, Site, Structure, Value
from ecco_core.registry.yaml_source import parse_yaml

TEXTS = [path.read_text(encoding="utf-8") for path in lookup.yaml_files(lookup.packaged_folder())]
BREAKS = ("\r\n|[\n\r]", "\r\n|[\n\r\x85\u2028\u2029]")  # of lines, in YAML 1.2 and in 1.1
SECONDS, MEGABYTES = 10, 200  # far more than any of these needs, far less than a bomb takes

KEYS = ["schema", "model_types", "stacks", "heads", "logits", "variants", "tiny", "blocks", "layers", "embedding"]
KEYS += ["final_norm", "attention", "cross_attention", "experts", "norms", "sites", "when", "bias", "scale", "cap"]
KEYS += [*STACKS, *HEAD_TASKS, *DECLARED_SITES, "pattern", "q", "cross_v", "resid_post", "logits", "backbone", "gpt2"]
KEYS += ["blokcs", "é", "", "1", "null", "true", ".nan", "a.b", "'a b'", "<<", "? x", "[a]", "{a: b}", "*a", "&a x"]
SCALARS = ["", "null", "~", "true", "no", "0", "-1", "3", "1e999", "-.inf", ".nan", "9" * 30, "9" * 5000, "0x1F", "0o9"]
SCALARS += [
    "1_000",
    "1:30",
    "2001-01-01",
    "2001-99-99",
    "2001-01-01T99:00:00Z",
    "h",
    "a.b.c",
    "a..b",
    "a?",
    "é.ü",
    "😀",
]
SCALARS += [
    "'> mlp'",
    "'mlp >'",
    "'mlp > * x ** 2 ?'",
    "'> a * b ** -0.5'",
    "'> mlp >'",
    "'mlp > * 1e9'",
    "'>'",
    "'* *'",
]
SCALARS += ["d_model ** -0.5", "d ** 999999999", "0 ** -1", "x ** y", '"\\u202e"', '"\\0"', '"\\ud800"', "a" * 2000]
TREES = ["[]", "{}", "[a]", "[[a]]", "[null]", "[1, a]", "{a: b}", "{a: {b: {c: d}}}", "[{a: b}]", "[a, [b, {c: d}]]"]
TREES += ["[" * 30 + "]" * 30, "{a: " * 30 + "}" * 30, "[" * 500, "? " * 30, "- " * 40, "{a, b}", "{1: 2}", "[a" * 100]
TAGGED = ["!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!x [a]", "!!int x", "!!float a", "!!timestamp a", "!<x> y"]
TAGGED += [
    "!!python/object:os.system x",
    "&a [*a]",
    "&a {x: *a}",
    "*a",
    "&a",
    "<<: {a: 1}",
    "<<: [{a: 1}, {a: 2}]",
    "!",
]
TEXT = [
    "\t",
    "\0",
    "\x07",
    "\ufeff",
    "\x85",
    "\u2028",
    "\r",
    "\r\n",
    "\ud800",
    "\n",
    "\n\n",
    " ",
    "    ",
    "#",
    " # x",
    "|",
]
TEXT += [
    "|\n  x",
    ">-",
    "%",
    "%YAML 1.1\n---\n",
    "%YAML 9.9\n---\n",
    "---\n",
    "...\n",
    "--- x",
    "@",
    "`",
    "'",
    '"',
    "\\",
]
TEXT += [":", ": ", "- ", "? ", ",", "[", "]", "{", "}", "&", "*", "!", "!!", "<<", "é", "😀", "=", ">", "?", "**", "~"]
VALUES = [*SCALARS, *TREES, *TAGGED]


def line_deleted(draw, text):
    lines = text.splitlines(keepends=True)
    first = draw(st.integers(0, len(lines)))
    del lines[first : first + draw(st.integers(1, 4))]
    return "".join(lines)


def line_repeated(draw, text):
    lines = text.splitlines(keepends=True)
    others = draw(st.sampled_from([text, *TEXTS])).splitlines(keepends=True) or ["\n"]
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(others)))
    return "".join(lines)


def line_moved(draw, text):
    lines = text.splitlines(keepends=True) or [""]
    line = lines.pop(draw(st.integers(0, len(lines) - 1)))
    lines.insert(draw(st.integers(0, len(lines))), line)
    return "".join(lines)


def indented(draw, text):
    lines = text.splitlines(keepends=True) or [""]
    n = draw(st.integers(0, len(lines) - 1))
    before = draw(st.sampled_from(["", " ", "  ", "   ", "\t", " \t", "        ", "- ", "\u3000", "\xa0"]))
    lines[n] = before + lines[n].lstrip(" ") if draw(st.booleans()) else before + lines[n]
    return "".join(lines)


def replaced(draw, text, pattern, pool):
    """One of the places where the pattern's group matches, by one of the pool."""
    places = [match.span(1) for match in re.finditer(pattern, text)]
    if not places:
        return text
    start, end = draw(st.sampled_from(places))
    return text[:start] + draw(st.sampled_from(pool)) + text[end:]


def key_renamed(draw, text):
    return replaced(draw, text, r"([\w-]+):", KEYS)


def value_replaced(draw, text):
    return replaced(draw, text, r"(?::|-|,|\[) +([^\s,\]}#][^\n,\]}#]*)", VALUES)


def anchored(draw, text):
    """An anchor at one value, its alias at others."""
    name = r"(?::|-|,|\[) +()"
    for piece in ("&x ", *["*x"] * draw(st.integers(0, 3))):
        text = replaced(draw, text, name, [piece])
    return text


def typed_in(draw, text):
    start = draw(st.integers(0, len(text)))
    end = start + draw(st.integers(0, 12))
    return text[:start] + draw(st.sampled_from(["", *TEXT, *VALUES])) + text[end:]


def spoken(draw, text):
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(st.text(max_size=8)) + text[start:]


def grafted(draw, text):
    """The tree with branches deleted, doubled, swapped, renamed or retyped; written anew, in blocks or on one line."""
    with contextlib.suppress(Exception):
        tree = YAML(typ="safe", pure=True).load(text)
        for _ in range(draw(st.integers(1, 3))):
            places = list(branches(tree))
            if not places:
                break
            (node, key), (other, its) = draw(st.sampled_from(places)), draw(st.sampled_from(places))
            change = draw(st.sampled_from(["delete", "copy", "swap", "rename", "wrap", "retype"]))
            if change == "delete":
                del node[key]
            elif change == "copy":
                node[key] = copy.deepcopy(other[its])
            elif change == "swap":
                node[key], other[its] = copy.deepcopy(other[its]), copy.deepcopy(node[key])
            elif change == "rename" and isinstance(node, dict):
                node[draw(st.sampled_from(KEYS))] = node.pop(key)
            elif change == "wrap":
                node[key] = draw(st.sampled_from([[node[key]], {"decoder": node[key]}, [[node[key]], node[key]]]))
            else:
                node[key] = draw(st.sampled_from([None, True, 1, 10**40, 0.5, float("inf"), "é", "h", [], {}, ["h"]]))
        writer = YAML(typ="safe", pure=True)
        writer.default_flow_style = draw(st.booleans())
        writer.allow_unicode = draw(st.booleans())
        writer.dump(tree, out := io.StringIO())
        return out.getvalue()
    return text


def branches(tree):
    """(container, key or index) of everything in a tree."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from branches(value)


MUTATIONS = [line_deleted, line_repeated, line_moved, indented, key_renamed, value_replaced, anchored, typed_in, spoken]
MUTATIONS += [grafted, grafted, key_renamed, value_replaced]


@st.composite
def mutated(draw):
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        text = draw(st.sampled_from(MUTATIONS))(draw, text)
    return text


@contextlib.contextmanager
def no_longer_than(seconds):
    """End what hangs in an error."""

    def stop(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(text):
    """``structure`` or ``error``; anything else fails here."""
    with no_longer_than(SECONDS):
        try:
            structure = parse_yaml(text, "x.yaml")
        except ecco.RegistryError as error:
            assert_located(str(error), text)
            return "error"
    assert_works(structure)
    return "structure"


def assert_located(message, text):
    found = re.match(r"x\.yaml:(\d+):(\d+): \S", message)
    assert found, message
    line, column = map(int, found.groups())
    assert any(stands_in([*re.split(breaks, text), ""], line, column) for breaks in BREAKS), message
    assert "\n" not in message
    assert len(message) < 1200


def stands_in(lines, line, column):
    return 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1


def assert_works(structure):
    """A structure is of the schema, and every config gets its own from it."""
    assert isinstance(structure, Structure)
    assert structure.model_types
    assert all(isinstance(name, str) and name for name in structure.model_types)
    assert set(structure.heads) <= set(HEAD_TASKS)
    assert set(structure.tiny) <= set(structure.model_types)
    values = [structure.logits.scale, structure.logits.cap]
    for variant in ({}, *(variant.when for variant in structure.variants)):
        fitting = structure.for_config(types.SimpleNamespace(model_type="x", **variant))
        assert set(fitting.stacks) <= set(STACKS)
        for stack in fitting.stacks.values():
            assert stack.blocks
            assert isinstance(stack.attention, ModulePath | None)
            assert all(isinstance(path, str) and path for path in stack.norms.values())
            for site, places in stack.sites.items():
                assert site in DECLARED_SITES
                assert places
                assert all(isinstance(place, Site) and place.side in ("input", "output") for place in places)
                values += [place.scale for place in places]
        values += [fitting.logits.scale, fitting.logits.cap]
    for value in filter(None, values):
        assert isinstance(value, Value)
        for number in (3.0, 0, -2, None):
            with contextlib.suppress(ecco.ArchitectureError):
                said = value.of(types.SimpleNamespace(model_type="x", **({value.key: number} if value.key else {})))
                assert said is None or isinstance(said, float)


def mutations(count):
    """Mutate `count` files; how many came out as what."""
    outcomes = collections.Counter()
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

    @settings(max_examples=count, deadline=SECONDS * 1000, suppress_health_check=health)
    @given(text=mutated())
    def each(text):
        outcomes[outcome(text)] += 1

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    each()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"{grown:.0f} MB more"
    return outcomes


@pytest.mark.filterwarnings("ignore:.*duplicate anchor")  # of the loader that the test grafts with
def test_a_mutated_file_is_a_structure_or_a_located_error():
    outcomes = mutations(1000)
    assert outcomes["error"] > 400  # the mutations break what they touch …
    assert outcomes["structure"] > 30  # … but not always


@pytest.mark.filterwarnings("ignore:.*duplicate anchor")  # of the loader that the test grafts with
@pytest.mark.slow
def test_ten_thousand_mutations():
    outcomes = mutations(10_000)
    assert outcomes["error"] > 4000
    assert outcomes["structure"] > 300


def test_our_own_files_are_structures():
    assert len(TEXTS) > 25
    assert {outcome(text) for text in TEXTS} == {"structure"}


GOOD = "schema: 1\nmodel_types: [gpt2]\nstacks: {decoder: {blocks: h}}\n"
LAUGHS = "".join(f"    k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10 if n else ['x'] * 10)}]\n" for n in range(12))
BOMBS = {
    "billions of items": GOOD + "tiny:\n  gpt2:\n" + LAUGHS,
    "billions of items in a condition": GOOD + "variants:\n- when:\n" + LAUGHS,
    "billions of merges": GOOD + "tiny:\n  gpt2:\n" + re.sub(r"\[(.*)\]", r"{<<: [\1]}", LAUGHS),
    "a value that holds itself": GOOD + "tiny: {gpt2: &a {x: *a}}\n",
    "a key that holds itself": "? &a [*a]\n: 1\n",
    "keys in keys": "? " * 60,
    "lists in lists": GOOD + "tiny: {gpt2: {a: " + "[" * 90_000,
    "mappings in mappings": GOOD + "tiny: {gpt2: " + "{a: " * 20_000,
    "blocks in blocks": GOOD + "tiny:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 400)),
    "lists in dashes": "- " * 50_000,
    "a long list": GOOD + "tiny: {gpt2: {a: [" + "a," * 45_000,
    "many keys": "".join(f"a{n}: b\n" for n in range(10_000)),
    "a long number": GOOD + "logits: {scale: " + "9" * 90_000 + "}\n",
    "a long text": GOOD + "logits: {scale: '" + "x " * 45_000 + "'}\n",
    "a long name": "schema: 1\nmodel_types: [" + "x" * 90_000 + "]\n",
    "a long tag": GOOD + "tiny: " + "!" * 90_000,
}
BOMBED = """
import resource, sys
import ecco_core as ecco
from ecco_core.registry.yaml_source import parse_yaml
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
try:
    parse_yaml(sys.stdin.read(), "x.yaml")
except ecco.RegistryError as error:
    print(error)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_little_text_is_not_much_work(name):
    """In a process of its own, with half a gigabyte and a clock."""
    done = subprocess.run([sys.executable, "-c", BOMBED], input=BOMBS[name], capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stderr) == (0, "")
    assert_located(done.stdout.strip(), BOMBS[name])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("blocks: h", "blocks: &x h", "x.yaml:3:28: not valid YAML: a model file has no anchors or aliases (write it"),
        ("stacks: {", "stacks: {<<: {a: 1}, ", "x.yaml:3:10: not valid YAML: a model file has no merges, or keys"),
        ("stacks", "? [a]\n: b\nstacks", "x.yaml:3:3: not valid YAML: a model file has no merges, or keys that are no"),
        ("1\n", "2001-99-99\n", "x.yaml:1:9: not valid YAML: month must be in 1..12"),
        (
            "h}",
            "[[[[[[[[[[[[[[[[[[[[h]]]]]]]]]]]]]]]]]]]]}",
            "x.yaml:3:45: not valid YAML: a model file has no more than",
        ),
        ("h}", "h}, encoder: {blocks: " + "x" * 1001 + "}", "a model file has no texts of more than 1000 characters"),
        ("}}", "}}\nlogits: {scale: .inf}", "x.yaml:4:10: at logits.scale: expected a number"),
        ("}}", "}}\nlogits: {scale: .nan}", "x.yaml:4:10: at logits.scale: expected a number"),
    ],
)
def test_what_yaml_can_do_and_a_model_file_cannot(old, new, message):
    assert old in GOOD
    with pytest.raises(ecco.RegistryError) as caught:
        parse_yaml(GOOD.replace(old, new, 1), "x.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(("value", "power"), [(10.0, "999999"), (0, "-1"), (-2, "0.5")])
def test_a_power_that_has_no_value_is_one_sentence(value, power):
    scale = parse_yaml(GOOD + f"logits: {{scale: width ** {power}}}\n", "x.yaml").logits.scale
    with pytest.raises(
        ecco.ArchitectureError, match=r"width \*\* .* cannot be computed: 'width' is .* of this x model"
    ):
        scale.of(types.SimpleNamespace(model_type="x", width=value))
