"""Rendering: the nearest kind's renderer, always plain text, and a failure that costs the page only."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import ecco_core as ecco
from ecco_core import rendering
from ecco_core.plugin.manager import Offer


def grid():
    return ecco.Grid(title="similarity", values=ecco.LabelledArray(np.eye(2), ("a", "b")))


def use(monkeypatch, *specs):
    class Manager:
        def offers(self, hook):
            return [Offer(spec, "fake", "1") for spec in specs if hook == "ecco_renderers"]

    monkeypatch.setattr(rendering, "plugins", Manager)


def spec(name, target, accepts=("Result",), **options):
    return ecco.RendererSpec(
        name=name, summary="x", target=f"{__name__}:{target}", accepts=accepts, media_type="text/html", **options
    )


def low(result):
    return "low"


def high(result, *, loud: bool = False):
    return "HIGH" if loud else "high"


def broken(result):
    raise ZeroDivisionError("planted")


def wrong(result):
    return 3


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[low.__module__])


def test_the_nearest_kind_wins_then_the_priority(monkeypatch):
    use(monkeypatch, spec("a", "low", priority=9), spec("b", "high", ("Grid",)))
    assert grid().to_html() == "high"
    use(monkeypatch, spec("a", "low", priority=1), spec("b", "high"))
    assert grid().to_html() == "low"


def test_options_reach_the_renderer_and_are_checked(monkeypatch):
    use(monkeypatch, spec("b", "high"))
    assert grid().to_html(loud=True) == "HIGH"
    with pytest.raises(ecco.OptionError, match="Did you mean 'loud'"):
        grid().to_html(lout=True)


@pytest.mark.parametrize(
    ("target", "message"), [("broken", "ZeroDivisionError: planted"), ("wrong", "must return text")]
)
def test_a_failing_renderer_is_named_and_costs_only_the_page(monkeypatch, target, message):
    use(monkeypatch, spec("b", target))
    with pytest.raises(ecco.PluginError, match=message):
        grid().to_html()
    bundle = grid()._repr_mimebundle_()
    assert set(bundle) == {"text/plain"}
    assert message in bundle["text/plain"]
    assert "similarity" in bundle["text/plain"]


def test_without_any_renderer_there_is_plain_text_and_a_word_on_what_is_missing(monkeypatch):
    use(monkeypatch)
    assert "similarity" in repr(grid())
    assert set(grid()._repr_mimebundle_()) == {"text/plain"}
    with pytest.raises(ecco.RenderError, match="pip install ecco-html"):
        grid().to_html()


def test_a_notebook_gets_the_page_and_the_text():
    bundle = grid()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "\x1b" not in bundle["text/plain"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_colours_and_a_file_does_not(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert "\x1b[" in repr(grid())
    grid().show()
    assert "\x1b[" in sys.stdout.getvalue()
    assert "\x1b" not in str(grid())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert "\x1b" not in repr(grid())


def scores(*targets, stack="encoder"):
    """Scores of targets over two texts of three tokens, or one."""
    tokens = ecco.Tokens([5, 6, 7], ["We", " met", " [MASK]"], ["We", " met", " [MASK]"], [True] * 3, [False] * 3)
    stacks = ("encoder", "decoder") if stack == "decoder" else ("encoder",)
    sources = [ecco.Source(stack=s, positions=(p,), text=tokens[p]) for s in stacks for p in range(3)]
    return ecco.TokenScores(
        values=ecco.LabelledArray(np.ones((len(targets), len(sources))), ("target", "source")),
        tokens=dict.fromkeys(stacks, tokens),
        sources=sources,
        targets=[ecco.Target(stack=stack, score="logit", **target) for target in targets],
        n_input_tokens=3,
    )


def test_plain_text_says_of_each_target_what_it_is():
    whole = {"position": 3, "token_id": 1, "text": "good", "kind": "class"}
    contrast = {**whole, "contrast_id": 0, "contrast_text": "bad"}
    name = {"position": 1, "token_id": 1, "text": "VERB", "kind": "class"}
    filled = {"position": 2, "token_id": 9, "text": " Nora", "kind": "masked"}
    lines = str(scores(whole, contrast, name, filled)).splitlines()
    assert [line for line in lines if "logit of" in line] == [
        "logit of class 'good'",
        "logit of class 'good' rather than 'bad'",
        "position 1 ' met': logit of class 'VERB'",
        "masked position 2 ' [MASK]': logit of ' Nora'",
    ]
    next_one = str(scores({"position": 3, "token_id": 1, "text": " Nora"}, stack="decoder"))
    assert "\nposition 3: logit of ' Nora'\n" in next_one
    assert "encoder    1 ' met'" in next_one
    assert "decoder    1 ' met'" in next_one


def test_the_heat_map_of_scores_tells_the_stacks_apart():
    (block,) = scores({"position": 3, "token_id": 1, "text": " Nora"}, stack="decoder").blocks()
    assert block.values.labels("source")[2:4] == ("encoder 2  [MASK]", "decoder 0 We")
    (block,) = scores({"position": 1, "token_id": 1, "text": "VERB", "kind": "class"}).blocks()
    assert block.values.labels("source")[1] == "1  met"


def test_a_setting_may_be_a_table():
    weights = np.arange(6.0, dtype=np.float16).reshape(2, 3)
    fitted = ecco.Fitted(parameters={"weight": weights}, settings={"scale": weights[0], "steps": np.int64(3)})
    assert "[0. 1. 2.]" in rendering.plain_text(fitted)
