"""Saved results, broken in every way: one clear StorageError or a result that works, in bounded time and memory."""

from __future__ import annotations

import collections
import copy
import json
import os
import re
import resource
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, TypedDict, Union

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import ecco_core as ecco
from ecco_core.data import storage
from ecco_core.data.results import RESULT_KINDS
from ecco_core.files import write_whole
from ecco_core.rendering import plain_text, render


def array(*shape, dims="ab"):
    return ecco.LabelledArray(np.linspace(-1, 1, int(np.prod(shape))).reshape(shape), tuple(dims))


def each_kind():
    """One small result of every kind, with each optional part that it can have."""
    text = ecco.Tokens([5, 6], ["The", " cat"], ["The", " cat"], [True, True], [False, False])
    words = ecco.LabelledArray(np.array([["a", "b"], ["c", "\x00"]], dtype=object), ("a", "b"))
    ids = ecco.LabelledArray(np.arange(4).reshape(2, 2), ("a", "b"), {"b": ["left", 2.5]})
    sources = [ecco.Source(stack="decoder", positions=(n,), text=t) for n, t in enumerate(text.texts)]
    targets = [ecco.Target(position=1, token_id=6, text=" cat", value=-0.5, contrast_id=3)]
    made = ecco.Provenance(analysis="saliency", options={"n": 5, "x": float("inf"), "of": ["a"]}, seed=0)
    shared = {"title": "why", "provenance": made, "notes": ["read me"]}
    one = array(1, dims="a")
    yield ecco.TokenScores(
        values=array(1, 2), tokens={"decoder": text}, sources=sources, targets=targets, n_input_tokens=1,
        completeness=one, change=one, **shared,
    )  # fmt: skip
    ranked = ecco.LabelledArray(np.full((2, 2, 1), "x", dtype=object), ("a", "b", "c"))
    yield ecco.TokenGrid(
        values=array(2, 2), texts=words, candidates=ranked, candidate_values=array(2, 2, 1, dims="abc")
    )
    yield ecco.Predictions(values=array(2, 2), texts=words, ids=ids, **shared)
    patterns = array(1, 2, 2, 2, dims=("layer", "head", "query", "key"))
    yield ecco.Patterns(values=patterns, tokens={"decoder": text}, **shared)
    factors = array(2, 2, dims=("component", "token"))
    yield ecco.Components(values=factors, loadings=array(2, 3), tokens=text, quality={"fit": 0.5}, **shared)
    yield ecco.Grid(values=array(2, 2), low=array(2, 2), high=array(2, 2), null=array(2, 2), **shared)
    yield ecco.Curves(values=array(2, 3), low=array(2, 3), high=array(2, 3), **shared)
    yield ecco.Points(values=array(2, 2, dims=("point", "axis")), labels=["a", "b"], **shared)
    yield ecco.Table(columns=["name", "n"], rows=[["x", 1], [None, float("nan")]], **shared)
    yield ecco.Fitted(parameters={"weight": np.ones((2, 3), np.float16)}, settings={"steps": 3}, **shared)
    yield ecco.report([ecco.Table(columns=["n"], rows=[[1]]), ecco.Grid(values=array(2, 2))], title="both")


EACH = list(each_kind())
SECONDS = 1  # of work for a file of 2 KB


def parts_of(content):
    """The header of a safetensors file, the tree that is in it, and the bytes of its tensors."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return header, json.loads(header["__metadata__"]["ecco"]), content[8 + size :]


def content_of(header, tree, data):
    header = {**header, "__metadata__": {"ecco": tree if isinstance(tree, str) else json.dumps(tree)}}
    return with_header(json.dumps(header), data)


def with_header(header, data):
    raw = header.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of one saved result of each kind."""
    folder = tmp_path_factory.mktemp("saved")
    return [result.save(folder / f"{n}.ecco").read_bytes() for n, result in enumerate(EACH)]


def test_each_kind_is_broken():
    assert [type(result) for result in EACH] == list(RESULT_KINDS)


VALUES = [
    None,
    True,
    0,
    -1,
    2,
    10**6,
    2**63,
    10**40,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x00",
    "é",
    "\ud800",
]
VALUES += ["a0", "a9", "../../etc/passwd", "/etc/passwd", "Grid", "Provenance", "__class__", [], [[]], [1], ["a"], {}]
VALUES += [{"$array": "a0"}, {"$array": "../a0"}, {"$array": 3}, {"$float": "1e999"}, {"$float": None}, {"a": 1}]
VALUES += [
    {"$strings": ["a"], "shape": [1]},
    {"$strings": ["a"], "shape": [10**12]},
    {"$strings": [None], "shape": [1]},
]
VALUES += [{"$strings": [], "shape": [0, 2**62]}, {"$strings": "ab", "shape": [2]}, {"$kind": "Target", "fields": {}}]
VALUES += [
    {"$kind": "os.system", "fields": {"command": "x"}},
    {"$kind": "Table", "fields": {"columns": [], "rows": []}},
]
VALUES += [
    {"$kind": "Source", "fields": {"stack": 1, "positions": ["a"], "text": None}},
    {"$array": "a0", "$kind": "Grid"},
]
KEYS = [
    "$array",
    "$kind",
    "$float",
    "$strings",
    "shape",
    "fields",
    "kinds",
    "format",
    "values",
    "dims",
    "coords",
    "title",
]
KEYS += ["", "x", "__init__", "__class__", "targets", "tokens", "position", "é", "../x"]
DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I8", "U64", "BOOL", "F8_E4M3", "F8_E5M2", "F4", "C64", "X", "", "f64"]
SHAPES = [[], [0], [1], [2, 2], [4], [0, 2**62], [2**62, 2**62], [10**12], [-1], [1.5], ["a"], None, [[2]], [2] * 70]


def branches(tree):
    """(container, key or index) of everything in a tree."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from branches(value)


def cut(draw, content):
    return content[: draw(st.integers(0, len(content)))]


def flipped(draw, content):
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(content)


def spliced(draw, content):
    start = draw(st.integers(0, len(content)))
    return content[:start] + draw(st.binary(max_size=9)) + content[start + draw(st.integers(0, 9)) :]


def claimed(draw, content):
    """Another size of the header, or another size of everything."""
    size = draw(st.sampled_from([0, 1, 2, 10**6, 10**8, 2**32, 2**63, 2**64 - 1]))
    return size.to_bytes(8, "little") + content[8:]


def tensors_changed(draw, content):
    """Other dtypes, shapes and places of the tensors; some swapped, dropped, renamed or overlapping."""
    header, tree, data = parts_of(content)
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return content
    name, other = draw(st.sampled_from(names)), draw(st.sampled_from(names))
    change = draw(st.sampled_from(["dtype", "shape", "offsets", "swap", "drop", "rename", "double", "key"]))
    if change == "dtype":
        header[name]["dtype"] = draw(st.sampled_from(DTYPES))
    elif change == "shape":
        header[name]["shape"] = draw(st.sampled_from(SHAPES))
    elif change == "offsets":
        header[name]["data_offsets"] = draw(st.sampled_from([[0, 0], [8, 0], [0, 2**62], [-1, 8], [0], "x", [0, 8]]))
    elif change == "swap":
        header[name], header[other] = header[other], header[name]
    elif change == "drop":
        del header[name]
    elif change == "rename":
        header[draw(st.sampled_from(KEYS))] = header.pop(name)
    elif change == "key":
        header[name].pop(draw(st.sampled_from(["dtype", "shape", "data_offsets"])))
    else:
        header["again"] = header[name]
    return content_of(header, tree, data)


def grafted(draw, content):
    """The tree with branches deleted, copied, swapped, renamed, wrapped or retyped."""
    header, tree, data = parts_of(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(branches(tree))
        if not places:
            break
        (node, key), (other, its) = draw(st.sampled_from(places)), draw(st.sampled_from(places))
        change = draw(st.sampled_from(["delete", "copy", "swap", "rename", "wrap", "retype", "retype", "retype"]))
        if change == "delete":
            del node[key]
        elif change == "copy":
            node[key] = copy.deepcopy(other[its])
        elif change == "swap":
            node[key], other[its] = copy.deepcopy(other[its]), copy.deepcopy(node[key])
        elif change == "rename" and isinstance(node, dict):
            node[draw(st.sampled_from(KEYS))] = node.pop(key)
        elif change == "wrap":
            node[key] = draw(st.sampled_from([[node[key]], {"x": node[key]}, {"$kind": "Report", "fields": node[key]}]))
        else:
            node[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return content_of(header, tree, data)


def retold(draw, content):
    """The text of the tree broken as text: keys twice, digits by the thousand, deep, cut, not JSON."""
    header, tree, data = parts_of(content)
    text = json.dumps(tree)
    start = draw(st.integers(0, len(text)))
    more = [
        "[" * 2000,
        '{"a":' * 2000,
        "9" * 5000,
        "NaN",
        "-Infinity",
        '"format": 1, ',
        ",",
        "}",
        '"',
        "\\ud800",
        "\x00",
        "",
    ]
    return content_of(
        header, text[:start] + draw(st.sampled_from(more)) + text[start + draw(st.integers(0, 5)) :], data
    )


def of_another(draw, content):
    """One's tree with another's tensors."""
    header, tree, _ = parts_of(content)
    other_header, _, other_data = parts_of(draw(st.sampled_from(_FILES)))
    return content_of(other_header, tree, other_data) if draw(st.booleans()) else content_of(header, tree, other_data)


_FILES: list[bytes] = []
MUTATIONS = [cut, flipped, spliced, claimed, tensors_changed, tensors_changed, retold, of_another, *[grafted] * 6]


@st.composite
def mutated(draw):
    return draw(st.sampled_from(MUTATIONS))(draw, draw(st.sampled_from(_FILES)))


def outcome(content, path):
    """``result`` or ``error``; anything else fails here."""
    path.write_bytes(content)
    told, started = "", time.process_time()
    try:
        result = ecco.load(path)
    except ecco.StorageError as error:
        told = str(error)
    assert time.process_time() - started < SECONDS
    if told:
        assert "\n" not in told
        assert str(path) in told or "of the unknown kind" in told
        assert len(told) < 1000
        return "error"
    assert isinstance(result, RESULT_KINDS)
    text = plain_text(result)
    assert all(character.isprintable() or character in "\n\u200c\u200d" for character in text)
    assert plain_text(ecco.load(result.save(path))) == text  # what could be loaded can be saved, and loaded again
    return "result"


def mutations(files, folder, count):
    """Mutate `count` files; how many came out as what."""
    _FILES[:] = files
    outcomes = collections.Counter()

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(content=mutated())
    def each(content):
        outcomes[outcome(content, folder / "x.ecco")] += 1

    each()
    return outcomes


def test_a_mutated_result_is_a_result_or_one_clear_error(files, tmp_path):
    outcomes = mutations(files, tmp_path, 1000)
    assert outcomes["error"] > 400
    assert outcomes["result"] > 50


@pytest.mark.slow
def test_ten_thousand_mutated_results(files, tmp_path):
    outcomes = mutations(files, tmp_path, 10_000)
    print(f"\n{outcomes}")
    assert outcomes["error"] > 4000
    assert outcomes["result"] > 500


def told(files, kind):
    """Header, tree and data of the saved result of a kind."""
    return parts_of(files[[type(result).__name__ for result in EACH].index(kind)])


NAN = "NaN is no number"
FAULTS = {
    "no header": (lambda h, t, d: b"", "is not a result saved by Ecco"),
    "a header of terabytes": (lambda h, t, d: (2**42).to_bytes(8, "little") + b"{}", "4,398,046,511,104 bytes"),
    "a header of 100 MB": (lambda h, t, d: (10**8).to_bytes(8, "little") + b" " * 10**6, "100,000,000 bytes"),
    "half of the tensors": (lambda h, t, d: content_of(h, t, d[: len(d) // 2]), "not fully covered"),
    "more than the tensors": (lambda h, t, d: content_of(h, t, d + b"x"), "not fully covered"),
    "a shape of terabytes": (lambda *p: changed(*p, shape=[2**20, 2**20]), "invalid shape, data type, or offset"),
    "a shape of nothing, by terabytes": (
        lambda *p: changed(*p, shape=[0, 2**62]),
        "invalid shape, data type, or offset",
    ),
    "a complex dtype": (lambda *p: changed(*p, dtype="C64"), "something else than data"),
    "a dtype of another width": (lambda *p: changed(*p, dtype="F32"), "invalid shape, data type, or offset"),
    "a tensor twice": (lambda h, t, d: content_of({**h, "b": h["a0"]}, t, d), "invalid offset"),
    "another's metadata": (
        lambda h, t, d: with_header(json.dumps(h | {"__metadata__": {"a": "b"}}), d),
        "KeyError: 'ecco'",
    ),
    "no JSON": (lambda h, t, d: content_of(h, "{", d), "JSONDecodeError"),
    "a key twice": (lambda h, t, d: content_of(h, json.dumps(t)[:-1] + ', "kinds": []}', d), "a key is there twice"),
    "NaN": (lambda h, t, d: content_of(h, json.dumps(t).replace("1", "NaN", 1), d), "NaN is no number"),
    "deep": (lambda h, t, d: content_of(h, '{"format": ' + "[" * 10**6, d), "RecursionError"),
    "deep in our own words": (
        lambda h, t, d: content_of(
            h, json.dumps(with_fields(t, {"notes": "@"})).replace('"@"', "[" * 900 + "]" * 900), d
        ),
        "RecursionError",
    ),
    "reports in reports": (
        lambda h, t, d: content_of(h, json.dumps({**t, "result": nested(300)} | {"kinds": ["Report"]}), d),
        "RecursionError",
    ),
    "a newer format": (lambda h, t, d: content_of(h, {**t, "format": 2}, d), "is of format 2, this version reads 1"),
    "a kind that nobody knows": (lambda h, t, d: content_of(h, {**t, "kinds": ["Chart"]}, d), "unknown kind ['Chart']"),
    "a class of Python": (
        lambda h, t, d: content_of(h, {**t, "kinds": ["Path", "object"]}, d),
        "unknown kind ['Path']",
    ),
    "a part in the place of a result": (lambda h, t, d: content_of(h, {**t, "kinds": ["Tokens"]}, d), "unknown kind"),
    "a field of another type": (lambda *p: field(*p, notes=[5]), "notes of Grid is a tuple that"),
    "a result in the place of a text": (lambda *p: field(*p, title=p[1]["result"]), "title of Grid is a Grid that"),
    "texts in the place of numbers": (lambda *p: field(*p, values="x"), "values of Grid is a str that"),
    "no array": (lambda *p: field(*p, values=None), "values of Grid is a NoneType that"),
    "a missing field": (lambda h, t, d: content_of(h, {**t, "result": {"fields": {}}}, d), "missing 1 required"),
    "too few dims": (lambda *p: of_array(*p, dims=["a"]), "2 axes need as many dims"),
    "the same dim twice": (lambda *p: of_array(*p, dims=["a", "a"]), "dims must differ"),
    "too many labels": (lambda *p: of_array(*p, coords={"a": [1, 2, 3]}), "2 places and 3 labels"),
    "a tensor that is not there": (lambda *p: of_array(*p, values={"$array": "a9"}), "does not contain tensor a9"),
    "a tensor outside of the folder": (
        lambda *p: of_array(*p, values={"$array": "../../etc/passwd"}),
        "does not contain tensor ../../etc/passwd",
    ),
    "texts of terabytes": (
        lambda *p: of_array(*p, values={"$strings": ["a"], "shape": [2**40]}),
        "cannot reshape array",
    ),
    "texts that are none": (
        lambda *p: of_array(*p, values={"$strings": [None] * 4, "shape": [2, 2]}),
        "something else than data",
    ),
    "a word of ours that is none": (lambda *p: of_array(*p, values={"$eval": "1"}), "something else than data"),
}


def changed(header, tree, data, **what):
    return content_of({**header, "a0": {**header["a0"], **what}}, tree, data)


def with_fields(tree, what):
    return {**tree, "result": {**tree["result"], "fields": {**tree["result"]["fields"], **what}}}


def field(header, tree, data, **what):
    return content_of(
        header, {**tree, "result": {**tree["result"], "fields": {**tree["result"]["fields"], **what}}}, data
    )


def of_array(header, tree, data, **what):
    values = tree["result"]["fields"]["values"]
    return field(header, tree, data, values={**values, "fields": {**values["fields"], **what}})


def nested(levels):
    """A report in a report in a report …"""
    tree = {"$kind": "Report", "kinds": ["Report"], "fields": {"results": []}}
    for _ in range(levels):
        tree = {"$kind": "Report", "kinds": ["Report"], "fields": {"results": [tree]}}
    return tree


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_saved_result_is_told(files, tmp_path, fault):
    breaks, message = FAULTS[fault]
    (tmp_path / "x.ecco").write_bytes(breaks(*told(files, "Grid")))
    with pytest.raises(ecco.StorageError) as caught:
        ecco.load(tmp_path / "x.ecco")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_axes_cannot_act_on_a_terminal(files, tmp_path):
    (tmp_path / "x.ecco").write_bytes(of_array(*told(files, "Grid"), dims=["\x1b]0;owned\x07", "\u202e"]))
    result = ecco.load(tmp_path / "x.ecco")
    assert result.values.dims == ("\x1b]0;owned\x07", "\u202e")
    for medium in ("text/plain", "text/x-ansi", "text/html"):
        assert not {"\x1b]", "\x07", "\u202e"} & {*re.findall("\x1b]|\x07|\u202e", render(result, medium))}


def test_fields_of_a_later_version_are_left_out(files, tmp_path):
    (tmp_path / "x.ecco").write_bytes(field(*told(files, "Grid"), shade="blue"))
    assert np.array_equal(ecco.load(tmp_path / "x.ecco").values.values, EACH[5].values.values)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    large = ecco.Table(columns=["text"], rows=[["x" * storage.LARGEST]])
    with pytest.raises(
        ecco.StorageError, match=r"^Cannot write .* labels and texts of 30,000,512 bytes, where at most 30,000,000"
    ):
        large.save(tmp_path / "x.ecco")
    assert not list(tmp_path.iterdir())


BOMBED = """
import resource, sys
import ecco_core as ecco
from ecco_core.data import storage
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[3]),) * 2)
try:
    print(ecco.load(sys.argv[1]))
except ecco.StorageError as error:
    print(error)
"""


def bombed(path, memory, seconds):
    """Load in a process of its own, with so many bytes of address space and seconds of work."""
    command = [sys.executable, "-c", BOMBED, path, str(memory), str(seconds)]
    return subprocess.run(command, capture_output=True, text=True)


def test_little_is_not_made_much_of(tmp_path):
    """In a process of its own with half a gigabyte: what a header claims is not believed, and not even read."""
    path = tmp_path / "x.ecco"
    with path.open("wb") as file:
        file.write((10**8).to_bytes(8, "little"))
        file.truncate(10**8 + 8)  # 100 MB of header, which cost no disk
    done = bombed(path, 1 << 29, 10)
    assert (done.returncode, done.stderr) == (0, "")
    assert "labels and texts of 100,000,000 bytes" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["[],", "{},", '{"$float":"nan"},', '"\\u00e9",'])
def test_the_most_that_a_header_can_hold_takes_less_than_two_gigabytes(tmp_path, piece):
    rows = piece * ((storage.LARGEST - 10**6) // len(json.dumps(piece)[1:-1]))
    text = '{"format": 1, "kinds": ["Table"], "result": {"fields": {"columns": ["a"], "rows": [' + rows[:-1] + "]}}}"
    path = tmp_path / "x.ecco"
    path.write_bytes(content_of({}, text, b""))
    done = bombed(path, 2 << 30, 60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "damaged: " in done.stdout
    assert "MemoryError" not in done.stdout


TABLE = ecco.Table(title="new", columns=["n"], rows=[[1]])


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("suffix", [".ecco", ".txt", ".json"])
def test_a_new_file_has_the_permissions_of_the_umask_and_an_old_one_keeps_its_own(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    before = os.umask(0o027)
    try:
        assert mode_of(TABLE.save(path)) == 0o640
        path.chmod(0o604)
        path.write_bytes(b"old")
        assert mode_of(TABLE.save(path)) == 0o604
    finally:
        os.umask(before)
    assert path.read_bytes() != b"old"


def test_a_private_file_is_never_readable_by_others_while_it_is_replaced(tmp_path, monkeypatch):
    path = TABLE.save(tmp_path / "x.ecco")
    path.chmod(0o600)
    seen = []
    replace = type(path).replace
    monkeypatch.setattr(type(path), "replace", lambda part, to: (seen.append(mode_of(part)), replace(part, to)))
    TABLE.save(path)
    assert seen == [0o600]


@pytest.mark.parametrize("target", ["a file", "nothing"])
def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path, target):
    there, link = tmp_path / "there.ecco", tmp_path / "link.ecco"
    if target == "a file":
        there.write_bytes(b"mine")
        there.chmod(0o600)
    link.symlink_to(there)
    TABLE.save(link)
    assert not link.is_symlink()
    assert ecco.load(link).title == "new"
    assert [path.read_bytes() for path in (there,) if path.exists()] == [b"mine"] * (target == "a file")


def folder_at(path):
    path.mkdir()


def link_to_a_folder_at(path):
    folder_at(path.with_name("folder"))
    path.symlink_to(path.with_name("folder"))


def read_only_file_at(path):
    path.write_bytes(b"mine")
    path.chmod(0o444)


def socket_at(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


UNFIT = {
    folder_at: "a folder; name a file in it",
    link_to_a_folder_at: "a folder; name a file in it",
    read_only_file_at: "read-only",
    os.mkfifo: "no regular file",
    socket_at: "no regular file",
}


@pytest.mark.parametrize("make", UNFIT, ids=lambda make: make.__name__)
def test_what_must_not_be_replaced_stays(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = tmp_path / "x.ecco"
    make(path.relative_to(tmp_path)) if make is socket_at else make(path)
    before, names = path.lstat(), sorted(tmp_path.iterdir())
    with pytest.raises(ecco.StorageError) as caught:
        TABLE.save(path)
    assert str(caught.value) == f"Cannot write {str(path)!r}: it is {UNFIT[make]}."
    assert path.lstat() == before
    assert sorted(tmp_path.iterdir()) == names
    if make is not read_only_file_at:
        with pytest.raises(ecco.StorageError, match="No file"):
            ecco.load(path)


def test_a_device_is_not_replaced():
    with pytest.raises(ecco.StorageError, match="'/dev/full': it is no regular file"):
        write_whole(Path("/dev/full"), b"x")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path):
    for name in ("a\0b.ecco", "x" * 300 + ".ecco"):
        with pytest.raises(ecco.StorageError, match="Cannot write"):
            TABLE.save(tmp_path / name)
        with pytest.raises(ecco.StorageError):
            ecco.load(tmp_path / name)


@pytest.mark.parametrize("suffix", [".ecco", ".html", ".json", ".txt"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    """A real limit of the size of files: writing stops in the middle, as on a disk that is full."""
    path = TABLE.save(tmp_path / f"x{suffix}")
    before, content = resource.getrlimit(resource.RLIMIT_FSIZE), path.read_bytes()
    large = ecco.Table(columns=["text"], rows=[["long " * 20_000]])
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(ecco.StorageError, match=r"Cannot write .*: File too large"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


class Extent(TypedDict):
    first: int


# ruff: noqa: UP007, UP045 - as older plugins write it
ANNOTATED = {
    "an optional tuple": (Optional[tuple[str, ...]], ("a",)),
    "None": (Optional[tuple[str, ...]], None),
    "a union of tuples": (Union[int, tuple[int, ...]], (1, 2)),
    "a list": (list[int], (1, 2)),
    "a sequence": (Sequence[float], (1.0, 2)),
    "a dict": (dict[str, list[int]], {"a": (1,)}),
    "a mapping or nothing": (Optional[Mapping[str, int]], {"a": 1}),
    "a TypedDict": (Extent, {"first": 1}),
    "a pair": (tuple[int, str], (1, "a")),
    "pairs": (tuple[tuple[int, str], ...], ((1, "a"),)),
    "any rows": (tuple[Any, ...], ((1, "a"), (2, None))),
    "no places": (tuple[()], ()),
    "a literal": (Literal["a", "b"], "a"),
    "a path": (Path, "x"),
    "a name for type checkers": ("Unknown", 3),
    "results": (list[ecco.Table], (ecco.Table(columns=["a"], rows=[[1]]),)),
}


@pytest.mark.parametrize("name", ANNOTATED)
def test_what_a_plugins_kind_holds_is_loaded_whatever_it_is_annotated_with(tmp_path, name):
    annotation, value = ANNOTATED[name]
    body = {"__annotations__": {"extra": annotation}, "__module__": __name__, "extra": None}
    kind = attrs.frozen(kw_only=True)(type("Odd" + name.title().replace(" ", ""), (ecco.Table,), body))
    loaded = ecco.load(kind(columns=["a"], rows=[[(1, "b")]], extra=value).save(tmp_path / "x.ecco"))
    assert type(loaded) is kind
    assert loaded.rows == (((1, "b"),),)
    assert repr(loaded.extra) == repr(value)
    header, tree, data = parts_of((tmp_path / "x.ecco").read_bytes())
    (tmp_path / "x.ecco").write_bytes(field(header, tree, data, notes=[5]))  # a field of core's is looked at still
    with pytest.raises(ecco.StorageError, match="notes of Odd"):
        ecco.load(tmp_path / "x.ecco")


NASTY = "<b id=nasty>\x1b[2J\u202e"
ACTS = {
    "text/plain": re.compile("\x1b|\u202e"),
    "text/x-ansi": re.compile("\x1b\\[2J|\u202e"),
    "text/html": re.compile(r"<b id=nasty>|\x1b|\u202e|<script[^>]*>[^<]*(?<!\\)\\u202e"),  # JSON's escape acts
}


def texts_within(tree, path=()):
    """The path of each text in the tree of a saved result, and of what has a name there."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from texts_within(value, (*path, key))


@pytest.mark.parametrize("kind", range(len(EACH)), ids=[type(result).__name__ for result in EACH])
def test_each_text_of_a_result_is_inert_wherever_it_is_shown(files, tmp_path, kind):
    header, tree, data = parts_of(files[kind])
    shown = 0
    for *parents, last in texts_within(tree):
        changed_tree = copy.deepcopy(tree)
        place = changed_tree
        for key in parents:
            place = place[key]
        if isinstance(place[last], str):
            place[last] = NASTY
        elif isinstance(last, str):
            place[NASTY] = place.pop(last)
        else:
            continue
        (path := tmp_path / "x.ecco").write_bytes(content_of(header, changed_tree, data))
        try:
            result = ecco.load(path)
        except ecco.StorageError:
            continue
        for medium, acts in ACTS.items():
            page = render(result, medium)
            assert not (found := acts.search(page)), (medium, parents, last, page[found.start() - 100 : found.end()])
            shown += "\\u202e" in page
    assert shown > 1
