"""Labels made from texts: classes of Python source, kinds of words."""

from __future__ import annotations

import io
import keyword
import tokenize
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from ecco_probing import lexicon, python_classes, sentences, word_kinds
from hypothesis import given, strategies as st

SOURCE = '''def add(total, n=2):  # for each
    """Return the sum."""
    return total + f"{n}" if n else 'in it'
'''
LISTS = Path(__file__).parents[3] / "models" / "tiny" / "training" / "fillers_lists"


def classes_of(texts):
    return {position: label for position, label, _ in python_classes(texts)}


def test_each_token_of_python_has_the_class_that_python_gives_it():
    texts = [
        "def",
        " add",
        "(",
        "total",
        "=",
        "2",
        "):",
        "  #",
        " for",
        " x",
        "\n",
        "    ",
        "return",
        " 'if",
        " it'",
        " ,'",
    ]
    assert python_classes(texts) == [
        (0, "keyword", "def"),
        (1, "name", "add"),
        (2, "operator", "("),
        (3, "name", "total"),
        (4, "operator", "="),
        (5, "number", "2"),
        (6, "operator", "):"),
        (7, "comment", "#"),
        (8, "comment", "for"),
        (9, "comment", "x"),
        (12, "keyword", "return"),
        (13, "string", "'if"),
        (14, "string", "it'"),
    ]  # the last is an operator and the start of a string that does not end: no class


@given(st.sets(st.integers(1, len(SOURCE) - 1)))
def test_the_class_does_not_depend_on_where_the_model_cuts(cuts):
    edges = [0, *sorted(cuts), len(SOURCE)]
    by_character = classes_of(list(SOURCE))
    cut = classes_of([SOURCE[a:b] for a, b in pairwise(edges)])
    for position, (a, b) in enumerate(pairwise(edges)):
        inside = {by_character.get(i) for i in range(a, b) if not SOURCE[i].isspace()}
        assert cut.get(position) == (inside.pop() if len(inside) == 1 else None)


def test_every_character_agrees_with_tokenize():
    lines, by_character = SOURCE.splitlines(keepends=True), classes_of(list(SOURCE))
    for token in tokenize.generate_tokens(io.StringIO(SOURCE).readline):
        start = sum(map(len, lines[: token.start[0] - 1])) + token.start[1]
        if token.type == tokenize.NAME:
            assert by_character[start] == ("keyword" if keyword.iskeyword(token.string) else "name")
        elif token.type == tokenize.COMMENT:
            assert {by_character[i] for i in (start, start + 2)} == {"comment"}
    assert by_character[SOURCE.index("'in")] == by_character[SOURCE.index("Return")] == "string"


@pytest.mark.parametrize(
    "broken", ["x = (1,\n", "if x:\n        y\n  z\n", 'x = """never ends\n', "x = 'never\ny = 1\n", ""]
)
def test_source_that_breaks_off_is_read_as_far_as_it_goes(broken):
    found = classes_of(list(broken))
    assert set(found.values()) <= {"name", "operator", "number", "keyword"}
    assert not broken or found[0] in ("name", "keyword")


def test_tokens_without_text_have_no_class():
    assert classes_of(["", "x", "", " ", "\n"]) == {1: "name"}


def test_the_words_are_those_that_the_tiny_models_copy():
    texts = {
        kind: (LISTS / f"{kind}.txt").read_text(encoding="utf-8").casefold().split() for kind in set(lexicon().values())
    }
    assert set(texts) == {"animal", "colour", "food", "name", "object", "place", "role", "room"}
    times = Counter(word for words in texts.values() for word in words)
    assert lexicon() == {word: kind for kind, words in texts.items() for word in words if times[word] == 1}
    assert "florence" not in lexicon()  # a name and a place


def test_a_word_is_labelled_at_its_last_token():
    texts = ["<s>", "The", " bak", "er", " met", " NORA", "'s", " oranges", " and", " dog", "ma", " in London", "."]
    found = [(1 + 2, "role", "baker"), (5, "name", "nora"), (7, "food", "oranges"), (11, "place", "london")]
    assert word_kinds(texts) == found


def test_the_sentences_are_the_same_for_a_seed_and_hold_every_kind():
    assert sentences(50, 1) == sentences(50, 1) != sentences(50, 2)
    assert sentences(60, 1)[:50] != sentences(60, 2)[:50]
    found = [kind for text in sentences(100) for _, kind, _ in word_kinds([text])]
    kinds = {kind for text in sentences(100) for _, kind, _ in word_kinds(list(text))}
    assert kinds == set(lexicon().values())
    assert all(text.endswith(".") and "{" not in text for text in sentences(100))
    assert found
