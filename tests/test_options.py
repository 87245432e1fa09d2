"""Options come from signatures: bound, converted, explained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, strategies as st

import ecco_core as ecco
from ecco_core.options import convert, fill, options_of, type_name
from ecco_core.running import options_for


def example(
    ctx,
    *,
    count: int = 3,
    share: float = 0.5,
    name: str = "x",
    flag: bool = False,
    how: Literal["sum", "l2"] = "sum",
    where: Path | None = None,
    layers: int | Sequence[int] | None = None,
    other: ecco.TokenScores | None = None,
):
    """Do nothing.

    Options:
        count: how many,
            or more.
        how: sum or norm.
    """


def test_options_are_read_from_the_signature_and_the_docstring():
    options = options_of(example)
    assert list(options) == ["count", "share", "name", "flag", "how", "where", "layers", "other"]
    assert options["count"].help == "how many, or more."
    assert options["how"].default == "sum"
    assert not options["how"].required


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"count": np.int64(4)}, {"count": 4}),
        ({"count": 4.0}, {"count": 4}),
        ({"share": 1}, {"share": 1.0}),
        ({"where": "a/b"}, {"where": Path("a/b")}),
        ({"layers": range(3)}, {"layers": (0, 1, 2)}),
        ({"layers": np.array([1, 2])}, {"layers": (1, 2)}),
        ({"layers": None}, {"layers": None}),
    ],
)
def test_values_are_converted(given_, expected):
    defaults = {name: option.default for name, option in options_of(example).items()}
    assert fill(options_of(example), given_, of="it") == {**defaults, **expected}


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"cuont": 3}, "it has no option 'cuont'. Did you mean 'count'?"),
        ({"count": 2.5}, "option 'count' of it takes int, found 2.5"),
        ({"count": True}, "takes int, found True"),
        ({"count": float("nan")}, "takes int, found nan"),
        ({"count": float("inf")}, "takes int, found inf"),
        ({"share": "0.5"}, "takes float, found '0.5'"),
        ({"flag": 1}, "takes bool, found 1"),
        ({"how": "l3"}, "takes 'sum' or 'l2', found 'l3'"),
        ({"layers": "12"}, "takes int or sequence of int or None, found '12'"),
        ({"layers": [1, "2"]}, "found"),
        ({"other": 3}, "takes TokenScores or None, found 3"),
    ],
)
def test_wrong_values_are_one_sentence(given_, message):
    with pytest.raises(ecco.OptionError) as caught:
        fill(options_of(example), given_, of="it")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers())
def test_integers_stay_what_they_are(value):
    assert convert(value, int, "x") == value


@given(st.one_of(st.text(), st.none(), st.lists(st.text(min_size=1), min_size=1), st.binary()))
def test_nothing_else_is_taken_for_a_number(value):
    with pytest.raises(ecco.OptionError):
        convert(value, int | Sequence[int], "x")


def test_functions_without_named_options_are_refused():
    with pytest.raises(ecco.PluginError, match=r"\*args or \*\*kwargs"):
        options_of(lambda ctx, **options: None)

    def untyped(ctx, *, n=3): ...

    def object_(ctx, *, n: object = 3): ...

    for function in (untyped, object_):
        with pytest.raises(ecco.PluginError, match=r"option .n. of .* needs a type among"):
            options_of(function)


def test_a_missing_option_is_named():
    def needs(ctx, *, n: int): ...

    with pytest.raises(ecco.OptionError, match=r"it needs the option 'n' \(int\)"):
        fill(options_of(needs), {}, of="it")


def test_types_are_described_for_people():
    assert type_name(int | Sequence[int] | None) == "int or sequence of int or None"
    assert type_name(Literal["a", "b"]) == "'a' or 'b'"


def relevance(ctx, *, rule: str = "a"):
    """Nothing."""


def _spec(**fields):
    return ecco.AnalysisSpec(name="relevance", summary="x", target="m:f", takes=("targets", "sites"), **fields)


def test_an_analysis_may_have_other_defaults_of_the_common_options():
    plain, own = options_for(_spec(), relevance), options_for(_spec(defaults={"score": "logit"}), relevance)
    assert (plain["score"].default, own["score"].default) == ("logprob", "logit")
    assert {name for name in plain if plain[name] != own[name]} == {"score"}
    assert hash(_spec(defaults={"score": "logit"})) is not None


@pytest.mark.parametrize(
    ("defaults", "told"),
    [({"layers": 1}, "has a default of 'layers', which it does not take"), ({"score": "logits"}, "mean 'logit'")],
)
def test_defaults_of_what_is_not_there_are_refused(defaults, told):
    with pytest.raises(ecco.EccoError, match=told):
        options_for(_spec(defaults=defaults), relevance)
