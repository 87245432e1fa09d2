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
