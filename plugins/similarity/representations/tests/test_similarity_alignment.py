"""Token sequences of one text, aligned by characters."""

from __future__ import annotations

import pytest
from ecco_similarity.alignment import aligned
from hypothesis import given, settings, strategies as st

import ecco_core as ecco


def tokens(*texts, special=()):
    flags = [i in special for i in range(len(texts))]
    return ecco.Tokens(range(len(texts)), texts, texts, [False] * len(texts), flags)


@pytest.mark.parametrize(("a", "b", "spans"), [
    (["ab", "cd"], ["ab", "cd"], [((0,), (0,)), ((1,), (1,))]),
    (["ab", "cd"], ["a", "b", "cd"], [((0,), (0, 1)), ((1,), (2,))]),
    (["abc", "d"], ["a", "bcd"], [((0, 1), (0, 1))]),
    (["a", "bc", "d"], ["ab", "c", "d"], [((0, 1), (0, 1)), ((2,), (2,))]),
    (["x", "", "", "€", "y"], ["x€", "y"], [((0, 1, 2, 3), (0,)), ((4,), (1,))]),
    (["x", "", "", "€", "y"], ["x", "€", "y"], [((0,), (0,)), ((1, 2, 3), (1,)), ((4,), (2,))]),
    (["x", "y", ""], ["x", "y"], [((0,), (0,)), ((1, 2), (1,))]),
])  # fmt: skip
def test_spans_are_the_finest_that_both_cut_at(a, b, spans):
    assert aligned(tokens(*a), tokens(*b)) == (spans, "")


def test_special_tokens_stand_for_no_characters():
    a, b = tokens("<s>", "ab", "c", special=[0]), tokens("a", "bc", "</s>", special=[2])
    assert aligned(a, b) == ([((1, 2), (0, 1))], "")


def test_white_space_case_and_accents_are_ignored_where_texts_differ_in_them_alone():
    a, b = tokens("The", " Café", "\n", " is"), tokens("the ", "cafe ", "i", "s")
    assert aligned(a, b) == ([((0,), (0,)), ((1,), (1,)), ((3,), (2, 3))], "white space, case and accents")


@given(st.text("abc é\n", min_size=1, max_size=30), st.data())
@settings(max_examples=100, deadline=None)
def test_spans_hold_every_token_once_and_the_same_text(text, data):
    sides = []
    for _ in range(2):
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=8)))
        sides.append([text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)]) if text[i:j]])
    spans, _ = aligned(tokens(*sides[0]), tokens(*sides[1]))
    for k in (0, 1):
        assert [i for span in spans for i in span[k]] == list(range(len(sides[k])))
    ends = [{sum(map(len, side[: i + 1])) for i in range(len(side))} for side in sides]
    assert len(spans) == len(ends[0] & ends[1])
    for a, b in spans:
        assert "".join(sides[0][i] for i in a) == "".join(sides[1][i] for i in b)


@pytest.mark.parametrize(("a", "b", "sentence"), [
    ("same here", "same there", "the texts differ: after 'same', one has 'here', the other 'there'"),
    ("abc", "abcd", "the texts differ: after 'abc', one has its end, the other 'd'"),
])  # fmt: skip
def test_other_texts_are_refused(a, b, sentence):
    with pytest.raises(ValueError, match=sentence):
        aligned(tokens(a), tokens(b))
