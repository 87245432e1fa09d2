"""Every view by axe-core, light and dark, with its numbers shown; in narrow columns; and with forced colours."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from ecco_html.page import document
from html_browsing import view
from html_results import class_scores, every_kind, masked_scores, small_scores, translation_scores

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def markup():
    """One page with a fragment of each kind of result."""
    views = [small_scores(), *every_kind()[1:], translation_scores(), class_scores(), masked_scores()]
    return document("".join(result.to_html() for result in views), "all")


@pytest.mark.parametrize(("scheme", "scripts"), [("light", True), ("dark", True), ("light", False)])
def test_axe_finds_nothing_serious(visit, markup, scheme, scripts):
    page = visit(markup if scripts else re.sub(r"(?s)<script.*?</script>", "", markup), color_scheme=scheme)
    if scripts:  # every panel filled, every table unfolded
        page.evaluate("""() => { for (const host of document.querySelectorAll('.ecco-html')) {
            for (const fold of host.shadowRoot.querySelectorAll('details')) fold.open = true;
            for (const part of host.shadowRoot.querySelectorAll('[data-view]')) {
                const first = part.querySelector('tbody td[tabindex], [role=button]');
                if (first) first.dispatchEvent(new MouseEvent('click', { bubbles: true })); } } }""")
        expect_filled(page)
    found = Axe().run(page, options=RULES).response
    grave = [(rule["id"], node["html"][:160], node["failureSummary"]) for rule in found["violations"]
             if rule["impact"] in GRAVE for node in rule["nodes"]]  # fmt: skip
    assert grave == []


def expect_filled(page):
    """Each view has told something of what was clicked."""
    names = page.evaluate("""() => [...document.querySelectorAll('.ecco-html')].flatMap(host =>
        [...host.shadowRoot.querySelectorAll('.panel .name')].map(node => node.textContent.trim()))""")
    assert len(names) > 10
    assert sum(map(bool, names)) >= len(names) - 1, "but attention's own, where a head is picked first"


@pytest.mark.parametrize("width", [320, 380, 800, 1400])
def test_a_column_of_any_width(visit, markup, width):
    """The window is wide, and a notebook's column is not: nothing leaves it, no text breaks letter by letter."""
    inside = markup.split("<main>")[1].split("</main>")[0]
    page = visit(f"<!doctype html><meta charset=utf-8><div style='width:{width}px;font:16px sans-serif'>{inside}</div>",
                 viewport={"width": 1500, "height": 800})  # fmt: skip
    assert page.locator("html").evaluate("n => n.scrollWidth") <= 1500
    wide = page.evaluate("""limit => [...document.querySelectorAll('.ecco-html')].flatMap(host =>
        [...host.shadowRoot.querySelectorAll('.view *')].filter(node => {
            const box = node.getBoundingClientRect();
            return box.right > limit + 12 && box.width && !node.closest('.scroll, .heads, .lines, .unseen, .tip');
        }).map(node => node.outerHTML.slice(0, 120)))""", width)  # fmt: skip
    assert wide == []
    view(page, ".tok >> nth=3").hover()
    sources = view(page, ".top .source bdi >> visible=true")
    heights = sources.evaluate_all(
        "nodes => nodes.map(node => [node.textContent, node.offsetHeight, node.offsetWidth])"
    )
    assert heights
    assert not [text for text, height, _ in heights if len(text) < 8 and height > 30], heights


def test_without_the_hosts_width_a_fragment_keeps_one(visit):
    page = visit("<!doctype html><meta charset=utf-8><table><td>" + small_scores().to_html() + "</table>")
    assert view(page, ".text").bounding_box()["width"] >= 250


def test_forced_colours_keep_text_and_paint(visit):
    page = visit(small_scores(), forced_colors="active", color_scheme="dark")
    ink = view(page, ".tok >> nth=4 >> .ink")
    assert ink.evaluate("n => getComputedStyle(n).backgroundColor").startswith("rgba(213, 94, 0")
    assert ink.evaluate("n => getComputedStyle(n).color") == view(page, ".label b >> nth=0").evaluate(
        "n => getComputedStyle(n).color"
    )


def test_nothing_moves(visit, markup):
    """There is nothing to reduce for those who asked for less motion."""
    page = visit(markup)
    moving = page.evaluate("""() => [...document.querySelectorAll('.ecco-html')].flatMap(host =>
        [...host.shadowRoot.querySelectorAll('*')].filter(node => { const style = getComputedStyle(node);
            return style.transitionDuration !== '0s' || style.animationName !== 'none'
                || style.scrollBehavior !== 'auto'; }))""")
    assert moving == []
