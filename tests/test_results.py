"""Results: labelled, immutable, saved and loaded without model and plugin, readable as plain text."""

from __future__ import annotations

import json
import subprocess
import sys

import attrs
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

import ecco_core as ecco
from ecco_core.data.results import RESULT_KINDS
from ecco_core.rendering import plain_text

HOSTILE = ["</script><script>alert(1)</script>", "\x1b[31mred\x1b]0;x\x07", "\ud800", "a\u202eb\u2066", "\n\t\r", ""]


def tokens(texts):
    labels = [t or "<E2>" for t in texts]
    return ecco.Tokens(range(len(texts)), texts, labels, [True] * len(texts), [False] * len(texts))


def scores(texts=("The", " cat", " sat"), values=None, **changes):
    n = len(texts)
    values = np.arange(n, dtype=float)[None] - 1 if values is None else values
    return ecco.TokenScores(
        title="saliency",
        values=ecco.LabelledArray(values, ("target", "source")),
        tokens={"decoder": tokens(texts)},
        sources=[ecco.Source(stack="decoder", positions=(i,), text=t) for i, t in enumerate(texts)],
        targets=[ecco.Target(position=n - 1, token_id=2, text=texts[-1], value=-0.5)],
        n_input_tokens=1,
        completeness=ecco.LabelledArray([0.01], ("target",)),
        change=ecco.LabelledArray([0.5], ("target",)),
        provenance=ecco.Provenance(analysis="saliency", options={"n_steps": 5, "x": float("inf")}, seed=0),
        **changes,
    )


def one_of_each_kind():
    text = tokens(["The", " cat"])
    grid = ecco.LabelledArray(np.eye(2), ("layer", "position"))
    words = ecco.LabelledArray(np.array([["a", "b"], ["c", "\x00"]], dtype=object), ("layer", "position"))
    yield scores()
    yield ecco.TokenGrid(title="lens", values=grid, texts=words, quantity="rank")
    yield ecco.Predictions(title="candidates", values=grid, texts=words)
    attention = np.full((1, 2, 2, 2), 0.5, dtype=np.float32)
    yield ecco.Patterns(values=ecco.LabelledArray(attention, ("layer", "head", "query", "key")))
    component = ecco.LabelledArray(np.eye(2), ("component", "token"))
    loadings = ecco.LabelledArray(np.ones((2, 5)), ("component", "unit"))
    yield ecco.Components(values=component, loadings=loadings, tokens=text, quality={"explained variance": 0.5})
    pair = ecco.LabelledArray(np.array([[1, np.nan]]), ("a", "b"), {"b": ["left", "right"]})
    yield ecco.Grid(values=pair, low=pair, null=pair)
    yield ecco.Curves(values=ecco.LabelledArray(np.eye(3), ("curve", "x"), {"x": [0.0, 0.5, 1.0]}))
    yield ecco.Points(values=ecco.LabelledArray(np.eye(2), ("point", "axis")), labels=["a", "b"])
    yield ecco.Table(columns=["name", "n"], rows=[["x", 1], [None, 2.5]])
    yield ecco.Fitted(parameters={"weight": np.ones((2, 3), np.float16)}, settings={"steps": 3})
    yield ecco.report([scores(), ecco.Table(title="more", columns=["n"], rows=[[1]])], title="both")


EACH = list(one_of_each_kind())


def test_each_kind_is_here():
    assert [type(r) for r in EACH] == list(RESULT_KINDS)


def same(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    elif attrs.has(type(a)):
        assert type(a) is type(b)
        for field in attrs.fields(type(a)):
            same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("result", EACH, ids=lambda r: type(r).__name__)
def test_every_kind_saves_and_loads_equal(result, tmp_path):
    path = result.save(tmp_path / "why.ecco")
    same(result, ecco.load(path))


@pytest.mark.parametrize("result", EACH, ids=lambda r: type(r).__name__)
def test_every_kind_has_a_plain_text_form(result):
    text = plain_text(result)
    assert result.title in text
    assert len(text.splitlines()) > 1
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)


def test_a_result_loads_in_a_process_without_model_and_plugin(tmp_path):
    class NormGrid(ecco.TokenGrid):
        """A kind that only a plugin knows."""

    grid = NormGrid(title="norms", values=ecco.LabelledArray(np.eye(3), ("layer", "position")))
    grid.save(tmp_path / "grid.ecco")
    scores().save(tmp_path / "scores.ecco")
    ecco.report([grid, scores()]).save(tmp_path / "report.ecco")
    code = f"""
import sys, json, ecco_core as ecco
grid, scores = ecco.load({str(tmp_path / "grid.ecco")!r}), ecco.load({str(tmp_path / "scores.ecco")!r})
first, second = ecco.load({str(tmp_path / "report.ecco")!r}).results
assert first.title == grid.title and second.values.values.tolist() == scores.values.values.tolist()
heavy = [m for m in ("torch", "transformers", "captum", "ecco_captum") if m in sys.modules]
print(json.dumps([type(grid).__name__, grid.values.values.tolist(), scores.values.values.tolist(), heavy]))
"""
    env = {"ECCO_BLOCK_PLUGINS": "ecco-captum,ecco-html,ecco-terminal,ecco-tiny", "PATH": ""}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert json.loads(out) == ["TokenGrid", np.eye(3).tolist(), [[-1.0, 0.0, 1.0]], []]


def test_a_report_is_what_it_is_made_of():
    parts = [scores(), ecco.Table(title="more", columns=["n"], rows=[[1]])]
    text = str(ecco.report(parts, title="both"))
    assert text.startswith("both\n")
    assert all(str(part) in text for part in parts)
    assert ecco.report(parts[0]).results == (parts[0],)
    with pytest.raises(ecco.OptionError, match="made of results, found str"):
        ecco.report(["x"])


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(st.text(), min_size=1, max_size=6),
    dtype=st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.bool_]),
    data=st.data(),
)
def test_any_texts_and_numbers_survive_the_round_trip(tmp_path_factory, texts, dtype, data):
    values = data.draw(hnp.arrays(dtype, (1, len(texts))))
    result = scores(texts, values)
    same(result, ecco.load(result.save(tmp_path_factory.mktemp("r") / "x.ecco")))


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(st.one_of(st.text(), st.sampled_from(HOSTILE)), min_size=1, max_size=6))
def test_no_token_brings_a_control_character_into_plain_text(texts):
    text = plain_text(scores(texts))
    assert all(c == "\n" or c.isprintable() or c in "\u200c\u200d" for c in text)
    text.encode("utf-8")


def test_nothing_in_a_result_can_be_changed():
    result = scores()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.title = "x"
    with pytest.raises(ValueError, match="read-only"):
        result.values.values[0, 0] = 3
    with pytest.raises(ValueError, match="read-only"):
        result.tokens["decoder"].ids[0] = 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.docx", "the suffix '.docx'; known here: .ansi, .ecco, .htm"),
        ("x", "no suffix"),
        ("missing/x.ecco", "does not exist"),
        ("missing/x.html", "does not exist"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, name, message):
    with pytest.raises(ecco.EccoError) as caught:
        scores().save(tmp_path / name)
    assert message in str(caught.value)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "x.ecco").mkdir()
    with pytest.raises(ecco.StorageError, match="it is a folder"):
        scores().save(tmp_path / "x.ecco")


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = scores().save(tmp_path / "x.ecco")
    before = path.read_bytes()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scores(("a", "b")).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "foreign", "newer", "unknown kind"])
def test_what_is_no_result_of_ours_is_one_sentence(tmp_path, damage):
    from safetensors.numpy import save_file

    path = tmp_path / "x.ecco"
    scores().save(path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage in ("empty", "text", "truncated"):
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": content[: len(content) // 2]}[damage])
    elif damage == "foreign":
        save_file({"a": np.ones(3)}, path)
    else:
        tree = {"format": 1, "kinds": ["Nonsense"], "result": {"fields": {}}}
        tree |= {"format": 2} if damage == "newer" else {}
        save_file({}, path, metadata={"ecco": json.dumps(tree)})
    with pytest.raises(ecco.StorageError) as caught:
        ecco.load(path)
    assert "\n" not in str(caught.value)


def test_dataframes():
    frame = scores().to_dataframe()
    assert list(frame["score"]) == [-1.0, 0.0, 1.0]
    assert list(frame["source_text"]) == ["The", " cat", " sat"]
    assert len(EACH[1].to_dataframe()) == 4
    assert list(EACH[-3].to_dataframe().columns) == ["name", "n"]


def test_a_missing_library_is_answered_with_its_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ecco.MissingDependencyError, match="pip install xarray"):
        EACH[1].values.to_xarray()


@pytest.mark.parametrize("result", EACH, ids=lambda result: type(result).__name__)
def test_json_says_all_fields_and_numbers(result, tmp_path):
    read = json.loads(result.save(tmp_path / "it.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert tuple(read.pop("kinds")) == result.kinds()
    assert list(read) == [field.name for field in attrs.fields(type(result))]
    for name, array in result.arrays().items():
        assert read[name]["dims"] == list(array.dims)
        found = np.array(read[name]["values"], dtype=array.values.dtype)  # null reads as NaN
        np.testing.assert_array_equal(found, array.values)


def test_json_has_no_word_for_what_is_no_number(tmp_path):
    values = ecco.LabelledArray(np.array([[1.5, np.nan, -np.inf]], dtype=np.float32), ("curve", "x"))
    nested = ecco.report([ecco.Curves(values=values), ecco.Table(columns=("n",), rows=((np.int64(3),), (None,)))])
    curves, table = json.loads(nested.save(tmp_path / "it.json").read_text())["results"]
    assert curves["values"]["values"] == [[1.5, None, None]]
    assert (curves["kinds"][0], table["rows"]) == ("Curves", [[3], [None]])


def test_labelled_arrays_select_by_label_and_place():
    array = ecco.LabelledArray(np.arange(6).reshape(2, 3), ("layer", "token"), {"token": ["a", "b", "c"]})
    assert array.sel(layer=1, token="b").values == 4
    assert array.sel(token=["c", "a"]).values.tolist() == [[2, 0], [5, 3]]
    assert array.sel(token=["c", "a"]).labels("token") == ("c", "a")
    assert array.isel(token=-1).dims == ("layer",)
    with pytest.raises(ecco.OptionError, match="no token 'd' here; there are a, b, c"):
        array.sel(token="d")
    with pytest.raises(ecco.OptionError, match="no dimension 'unit' here"):
        array.sel(unit=0)
    with pytest.raises(ecco.OptionError, match="layer 5 is outside of the 2"):
        array.isel(layer=5)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2)), st.data())
def test_selecting_is_indexing(values, data):
    array = ecco.LabelledArray(values, ("a", "b"))
    i = data.draw(st.integers(0, values.shape[0] - 1))
    j = data.draw(st.lists(st.integers(0, values.shape[1] - 1), min_size=1))
    np.testing.assert_array_equal(array.isel(a=i, b=j).values, values[i][j])
    np.testing.assert_array_equal(array.sel(b=j, a=i).values, values[i][j])
    table = array.to_dataframe()
    assert [tuple(row[:2]) for row in table.values] == list(np.ndindex(*values.shape))
    np.testing.assert_array_equal(table["value"].values, values.ravel())
