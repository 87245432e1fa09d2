"""Results in the places that show them: live notebooks with a real kernel, files made of them, and other pages."""

from __future__ import annotations

import re

import html_hosts as hosts
import nbformat
import pytest
from html_browsing import token, view
from html_results import every_kind, small_scores
from playwright.sync_api import expect

SHORTCUTS = ["ArrowDown", "ArrowRight", "b", "a", "m", "x", "d", "d", "Enter", "Escape", "Shift+Enter", "j", "ArrowUp"]
#: Where a notebook opens, its cells, the class of the selected one, and what is beside a cell's code.
PLACES = {
    "JupyterLab": ("lab/tree/{}?reset", ".jp-Notebook .jp-Cell", "jp-mod-active", ".jp-InputPrompt"),
    "Notebook 7": ("notebooks/{}", ".jp-Notebook .jp-Cell", "jp-mod-active", ".jp-InputPrompt"),
    "nbclassic": ("nbclassic/notebooks/{}", ".cell", "selected", ".input_prompt"),
}


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A server, the folder of its notebooks, and in it `run.ipynb`, whose kernel runs."""
    with hosts.jupyter(tmp_path_factory.mktemp("jupyter")) as (address, work):
        hosts.write_notebook(work / "run.ipynb")
        hosts.start_kernel(address, "run.ipynb")
        yield address, work


@pytest.fixture(scope="module")
def lab(browser, jupyter):
    """A page with JupyterLab and all cells of the notebook run, and what goes wrong; other hosts open in it too."""
    address, _ = jupyter
    with hosts.tab(browser, address) as (page, trouble):
        page.goto(f"{address}lab/tree/run.ipynb?reset")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        view(page, ".title", root=1).first.wait_for(state="attached")
        yield page, trouble


@pytest.fixture(scope="module")
def saved(lab, jupyter):
    """The folder with the notebook and its outputs, and a copy of it that nobody trusts."""
    page, (_, work) = lab[0], jupyter
    page.locator('[data-command="docmanager:save"]').first.click()
    page.wait_for_function("!document.querySelector('.jp-mod-dirty')")
    hosts.untrusted_copy(work / "run.ipynb", work / "foreign.ipynb")
    return work


def selected(page, cell, mark):
    """How many cells there are, which is selected, and of what kinds they are."""
    look = """([cell, mark]) => { const all = [...document.querySelectorAll(cell)];
      return [all.length, all.findIndex((c) => c.classList.contains(mark)), all.map((c) => c.classList[1]).join()]; }"""
    return page.evaluate(look, [cell, mark])


def point_and_type(page, cell, mark, prompt):
    """Click a token, walk from it with the arrows, press every shortcut: ours answers, the notebook stays as it is."""
    token(page, 7).click()
    assert view(page, ".tok.goal.shown").first.get_attribute("data-p") == "7"
    before = selected(page, cell, mark)
    page.keyboard.press("ArrowRight")
    assert view(page, ".tok:focus").get_attribute("data-p") == "8"
    for key in SHORTCUTS:
        page.keyboard.press(key)
    assert selected(page, cell, mark) == before
    assert page.locator(".ecco-html").count() == 2
    page.locator(prompt).first.click()
    for key, cells in (("b", 4), ("d", 4), ("d", 3)):  # outside of ours the keys act
        page.keyboard.press(key)
        expect(page.locator(cell)).to_have_count(cells)


def test_in_jupyterlab_a_result_answers_and_leaves_the_notebook_alone(lab):
    page, trouble = lab
    assert "The captain is called" in page.locator(".jp-OutputArea-output pre b").first.locator("..").inner_text()
    point_and_type(page, *PLACES["JupyterLab"][1:])
    assert page.locator(".jp-Notebook.jp-mod-editMode").count() == 0
    assert trouble == []


@pytest.mark.parametrize("place", ["Notebook 7", "nbclassic"])
def test_in_other_notebooks_a_trusted_result_comes_to_life(lab, jupyter, saved, place):
    page, trouble = lab
    page.goto(jupyter[0] + PLACES[place][0].format("run.ipynb"))
    view(page, ".title", root=1).first.wait_for(state="attached")
    assert page.locator(".ecco-html").count() == 2
    point_and_type(page, *PLACES[place][1:])
    assert token(page, 7).evaluate("node => parseFloat(getComputedStyle(node).fontSize)") > 15
    assert trouble == []


@pytest.mark.parametrize("place", PLACES)
def test_an_untrusted_notebook_shows_painted_text_and_runs_nothing(lab, jupyter, saved, place):
    page, trouble = lab
    page.goto(jupyter[0] + PLACES[place][0].format("foreign.ipynb"))
    result = page.locator(".ecco-html").first
    result.wait_for()
    assert page.locator(".ecco-html >> .view").count() == 0
    assert page.locator(".ecco-html script").count() == 0
    text = re.sub(r"\s+", " ", result.inner_text())
    assert "The captain is called" in text
    assert "What led to" in text
    painted = "nodes => nodes.filter((n) => /rgba?/.test(n.style.backgroundColor)).length"
    assert result.locator("span").evaluate_all(painted) > 3
    assert trouble == []


@pytest.mark.parametrize("template", ["lab", "classic", "basic"])
def test_an_exported_page_works_from_disk_without_network(browser, saved, tmp_path, template):
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name=template)
    page_text, _ = exporter.from_filename(str(saved / "run.ipynb"))
    (tmp_path / "page.html").write_text(page_text, "utf-8")
    theirs = (exporter.require_js_url, exporter.mathjax_url, exporter.mermaid_js_url, exporter.jquery_url)
    with hosts.tab(browser) as (page, trouble):
        page.goto((tmp_path / "page.html").as_uri())
        token(page, 7).click()
        assert view(page, ".tok.goal.shown").first.get_attribute("data-p") == "7"
        assert page.locator(".ecco-html >> .view").count() == 2
        assert [entry for entry in trouble if not any(url.split("?")[0] in entry[1] for url in theirs)] == []


def test_plain_text_and_bare_markup_of_the_saved_outputs_are_enough_to_read(saved):
    """GitHub shows text, or markup without scripts, styles and attributes."""
    notebook = nbformat.read(saved / "run.ipynb", 4)
    for cell, wanted in zip(notebook.cells[1:], ("What led to", "probability")):
        data = cell.outputs[-1]["data"]
        bare = hosts.sanitised(data["text/html"])
        assert re.sub(r"\s+", " ", re.sub(r"<.*?>", "", bare)).count("captain") > 0
        assert wanted in bare
        assert not re.search(r"[{};]\s*\n|function|=>|var\(|attachShadow", bare)
        assert "captain" in data["text/plain"]
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|<div|\\x1b", data["text/plain"])


@pytest.fixture(scope="module")
def fragments():
    return {type(result).__name__: result.to_html() for result in every_kind()}


def test_by_the_rules_of_vs_code_every_kind_is_shown_again_and_again(browser, fragments, tmp_path):
    (tmp_path / "page.html").write_text(hosts.VS_CODE, "utf-8")
    with hosts.tab(browser) as (page, trouble):
        page.goto((tmp_path / "page.html").as_uri())
        for markup in fragments.values():
            for place in ("one", "one", "two"):
                page.evaluate("([place, markup]) => show(place, markup)", [place, markup])
            assert page.locator(".ecco-html").count() == page.locator(".ecco-html >> .view").count() == 2
            first, second = (page.locator(f"#{place} >> .view").inner_text() for place in ("one", "two"))
            assert first == second
        assert trouble == []


def test_in_a_frame_as_of_streamlit_a_result_works(browser, tmp_path):
    (tmp_path / "page.html").write_text(hosts.embedded(small_scores().to_html()), "utf-8")
    with hosts.tab(browser) as (page, trouble):
        page.goto((tmp_path / "page.html").as_uri())
        frame = page.frame_locator("iframe")
        frame.locator(".ecco-html >> .tok.goal >> nth=-1").click()
        assert frame.locator(".ecco-html >> .tok.goal.shown").count() == 1
        assert trouble == []


def test_a_strict_style_of_a_foreign_page_does_not_reach_a_result(browser, tmp_path):
    (tmp_path / "foreign.html").write_text(hosts.foreign(small_scores().to_html()), "utf-8")
    (tmp_path / "own.html").write_text(f'<!doctype html><meta charset="utf-8">{small_scores().to_html()}', "utf-8")
    look = (
        "node => { const s = getComputedStyle(node); return [s.fontSize, s.fontWeight, s.float, node.offsetHeight]; }"
    )
    seen = []
    with hosts.tab(browser) as (page, trouble):
        for name in ("own", "foreign"):
            page.goto((tmp_path / f"{name}.html").as_uri())
            seen.append([view(page, selector).first.evaluate(look) for selector in (".tok", ".title", ".row", "td")])
        assert seen[0] == seen[1]
        assert trouble == []
