"""What the pages do in a real browser. A missing browser fails these tests: it does not skip them."""

from __future__ import annotations

import re
import time

import attrs
import numpy as np
import pytest
from ecco_html.assets import asset
from ecco_html.escape import number
from ecco_html.page import document
from html_browsing import alpha, ink, live, token, told, view
from html_results import (
    HOSTILE,
    arabic_scores,
    class_scores,
    contrast_scores,
    every_kind,
    hostile_scores,
    long_scores,
    masked_scores,
    named_scores,
    row_at,
    small_scores,
    story_scores,
    translation_scores,
    world_scores,
)
from playwright.sync_api import expect

from ecco_core import Curves, LabelledArray, Target

# Mouse


def test_starts_with_the_last_target(visit):
    page = visit(small_scores())
    expect(view(page, ".name")).to_have_text("' mat'")
    expect(token(page, 5)).to_have_class(re.compile("shown"))
    assert alpha(ink(page, 4)) == pytest.approx(0.62)


def test_hover_paints_what_led_to_a_token(visit):
    result = small_scores()
    page = visit(result)
    token(page, 3).hover()
    expect(view(page, ".name")).to_have_text("' on'")
    expect(view(page, ".where")).to_have_text("at position 3")
    row = row_at(result, 3)
    for place in range(6):
        assert alpha(ink(page, place)) == pytest.approx(0.62 * row[place] / np.abs(row).max(), abs=0.006)
    expect(view(page, ".high")).to_have_text("+0.375")
    expect(view(page, ".low")).to_have_text("−0.375")


def test_what_was_shown_stays_when_the_mouse_leaves(visit):
    page = visit(small_scores())
    token(page, 3).hover()
    page.mouse.move(5, 5)
    expect(view(page, ".name")).to_have_text("' on'")
    expect(view(page, ".tip")).to_be_hidden()


def test_one_scale_for_all(visit):
    page = visit(small_scores(), save={"scale": "all"})
    token(page, 3).hover()
    assert alpha(ink(page, 2)) == pytest.approx(0.62 * 0.375 / 0.625, abs=0.006)
    expect(view(page, ".high")).to_have_text("+0.625")


def test_click_pins_and_sources_tell_exact_scores(visit):
    result = story_scores()
    page = visit(result)
    target = result.targets[10]
    token(page, target.position).click()
    expect(token(page, target.position)).to_have_attribute("aria-pressed", "true")
    row = row_at(result, target.position)
    for place in (0, 7, 33, 38, target.position - 1, target.position + 2):
        token(page, place).hover()
        expect(view(page, ".name")).to_have_text(f"'{target.text}'")
        assert told(view(page, ".tip").inner_text()) == pytest.approx(row[place], rel=6e-4)
    token(page, target.position).click()
    expect(token(page, target.position)).to_have_attribute("aria-pressed", "false")
    token(page, target.position + 1).hover()
    expect(token(page, target.position + 1)).to_have_class(re.compile("shown"))


def test_another_click_pins_another(visit):
    page = visit(small_scores())
    token(page, 3).click()
    token(page, 4).click()
    expect(view(page, "[aria-pressed=true].tok")).to_have_count(1)
    expect(view(page, ".name")).to_have_text("' the'")


def test_touch(visit):
    page = visit(small_scores(), has_touch=True, viewport={"width": 360, "height": 640})
    token(page, 3).tap()
    expect(view(page, ".name")).to_have_text("' on'")
    expect(view(page, ".pin")).to_have_text("pinned")
    token(page, 1).tap()
    expect(view(page, ".tip")).to_have_text("1 · −0.25")
    view(page, ".pin").tap()
    expect(view(page, ".pin")).to_have_text("pin")


def test_the_lists_hold_the_data(visit):
    result = story_scores()
    page = visit(result)
    row = result.values.values[-1]
    strongest = sorted(np.abs(row), reverse=True)[:8]
    listed = view(page, ".top >> nth=0").locator("tbody .num").all_inner_texts()
    assert [abs(told(text)) for text in listed] == pytest.approx(strongest, rel=6e-4)
    view(page, ".all summary").click()
    expect(view(page, ".all tbody .num")).to_have_count(len(row))
    everything = view(page, ".all tbody .num").all_inner_texts()
    assert [told(text) for text in everything] == pytest.approx(list(row), rel=6e-4)
    view(page, ".all tbody tr >> nth=7").hover()
    expect(token(page, 7)).to_have_class(re.compile("lit"))


def test_words_paint_all_their_tokens(visit):
    result = contrast_scores()
    page = visit(result)
    token(page, 4).hover()
    expect(token(page, 3)).to_have_class(re.compile("lit"))
    expect(token(page, 4)).to_have_class(re.compile("lit"))
    assert alpha(ink(page, 3)) == alpha(ink(page, 4)) != 0
    assert told(view(page, ".tip").inner_text()) == pytest.approx(result.values.values[2, 3], rel=6e-4)


def test_several_targets_at_one_position(visit):
    page = visit(contrast_scores())
    expect(view(page, ".name")).to_have_text("' Nora' rather than ' Tom'")
    options = view(page, ".pick option").all_inner_texts()
    assert options == ["15: ' Nora'", "15: ' Tom'", "15: ' Nora' rather than ' Tom'"]
    view(page, ".pick").select_option(index=1)
    expect(view(page, ".name")).to_have_text("' Tom'")
    expect(view(page, ".facts")).to_contain_text("log-probability −2.1")
    expect(token(page, 15)).to_have_text("Tom")
    assert alpha(ink(page, 2)) == pytest.approx(0.62)
    view(page, ".pick").press("Escape")
    expect(view(page, ".pin")).to_have_text("pin")


def test_a_target_without_a_token_is_reachable(visit):
    targets = [*small_scores().targets[:2], Target(position=3, token_id=1, text=" x", stack="elsewhere")]
    page = visit(small_scores(targets=targets))
    view(page, ".pick").select_option(index=2)
    expect(view(page, ".name")).to_have_text("' x'")


def test_two_stacks(visit):
    result = translation_scores()
    page = visit(result)
    token(page, 3, stack=1).click()
    assert alpha(ink(page, 2, stack=0)) != 0
    token(page, 2, stack=0).hover()
    assert told(view(page, ".tip").inner_text()) == pytest.approx(result.values.values[2, 2], rel=6e-4)
    expect(view(page, ".tip")).to_contain_text("encoder 2 ·")
    expect(live(page)).to_contain_text("at encoder 2")


def test_each_token_of_a_translation_can_be_chosen(visit):
    result = translation_scores()
    page = visit(result)
    for target in result.targets:
        token(page, target.position, stack=1).hover()
        expect(view(page, ".name")).to_have_text(f"'{target.text}'")
    token(page, 4, stack=0).hover()
    expect(view(page, ".name")).to_have_text(f"'{result.targets[-1].text}'")
    source, output = (view(page, f".row >> nth={i}") for i in (0, 1))
    expect(source).to_contain_text("source text")
    expect(source.locator(".goal")).to_have_count(0)
    expect(output.locator(".goal")).to_have_count(len(result.targets))


# Classes and masks


def test_each_class_can_be_chosen(visit):
    result = class_scores()
    page = visit(result)
    classes = view(page, ".chip")
    assert classes.all_inner_texts() == ["negative", "positive"]
    expect(view(page, ".pick")).to_have_count(0)
    expect(view(page, ".what")).to_contain_text("What led to class 'positive'")
    expect(classes.nth(1)).to_have_class(re.compile("shown"))
    classes.nth(0).hover()
    expect(view(page, ".name")).to_have_text("class 'negative'")
    expect(view(page, ".where")).to_have_text("")
    expect(classes.nth(0)).to_have_class(re.compile("shown"))
    for place, score in enumerate(result.values.values[0]):
        assert alpha(ink(page, place)) == pytest.approx(0.62 * score / 0.875, abs=0.006), "no token is dimmed"
        expect(token(page, place)).to_have_css("opacity", "1")
    token(page, 3).hover()
    expect(view(page, ".tip")).to_have_text("3 · −0.5")
    classes.nth(0).click()
    classes.nth(1).hover()
    expect(view(page, ".name")).to_have_text("class 'negative'")
    expect(view(page, ".tip")).to_have_text("not a source")


def test_classes_by_keyboard_and_by_ear(visit):
    page = visit(class_scores())
    page.keyboard.press("Tab")
    expect(view(page, ".chip >> nth=1")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(live(page)).to_have_text(
        "class 'negative': led to by '[SEP]' +0.875 at 6, ' joy' −0.75 at 5, ' a' +0.625 at 4"
    )
    page.keyboard.press("ArrowLeft")
    expect(live(page)).to_have_text("position 6: '[SEP]' +0.875")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="class 'negative'")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="class 'positive'")).to_have_attribute("aria-pressed", "false")
    expect(view(page, ".key")).to_contain_text("to a class to see what led to it")


def test_a_single_class_needs_no_instructions_to_choose(visit):
    page = visit(class_scores(("good",)))
    expect(view(page, ".key")).to_have_text("Point at, tap or arrow to a token to see its exact score.")


def test_classes_of_tokens(visit):
    page = visit(named_scores())
    expect(token(page, 0)).to_contain_text("PERSON")
    token(page, 0).hover()
    expect(view(page, ".what")).to_contain_text("What led to class 'PERSON' for 'Nora' at position 0")
    said = "'Nora' −0.5 at 0, ' met' −0.375 at 1, ' Felix' −0.25 at 2"
    expect(live(page)).to_have_text(f"position 0 'Nora', class 'PERSON': led to by {said}")
    token(page, 0).click()
    expect(view(page, ".tip")).to_have_text("0 · −0.5")
    expect(view(page, ".key")).to_contain_text("what led to its class")


def test_masked_places(visit):
    page = visit(masked_scores())
    expect(token(page, 6)).to_contain_text("kind")
    expect(view(page, ".what")).to_contain_text("What led to ' kind' at [MASK], position 6")
    assert alpha(ink(page, 7)) > alpha(ink(page, 5)) > 0, "what comes after a mask is read, too"
    token(page, 2).hover()
    expect(view(page, ".what")).to_contain_text("What led to ' Nora' at position 2, masked")
    expect(page.get_by_role("button", name="position 6 [MASK], ' kind'")).to_have_count(1)
    expect(view(page, ".key")).to_contain_text("the prediction there")


# Keyboard and screen reader


def test_one_tab_stop_and_arrows(visit):
    page = visit(small_scores())
    page.keyboard.press("Tab")
    expect(token(page, 5)).to_be_focused()
    expect(view(page, '.tok[tabindex="0"]')).to_have_count(1)
    for key, place in (("ArrowUp", 4), ("ArrowUp", 3), ("ArrowUp", 3), ("ArrowLeft", 2), ("ArrowLeft", 1),
                       ("ArrowRight", 2), ("ArrowDown", 3), ("Home", 0), ("ArrowLeft", 0), ("End", 5),
                       ("ArrowRight", 5), ("ArrowUp", 4)):  # fmt: skip
        page.keyboard.press(key)
        expect(token(page, place)).to_be_focused()
    expect(view(page, ".name")).to_have_text("' the'")
    expect(view(page, '.tok[tabindex="0"]')).to_have_count(1)
    page.keyboard.press("Tab")
    expect(view(page, ".pin")).to_be_focused()


def test_what_is_announced(visit):
    page = visit(small_scores())
    expect(live(page)).to_have_text("")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    expect(live(page)).to_have_text(
        "position 4 ' the': led to by ' on' −0.5 at 3, ' sat' +0.375 at 2, ' cat' −0.25 at 1"
    )
    page.keyboard.press("Enter")
    page.keyboard.press("Home")
    expect(live(page)).to_have_text("position 0: 'The' +0.125")


def test_enter_pins_and_escape_lets_go(visit):
    page = visit(small_scores())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(token(page, 5)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowUp")
    expect(view(page, ".name")).to_have_text("' mat'")
    expect(view(page, ".tip")).to_have_text("4 · +0.625")
    page.keyboard.press("Escape")
    expect(view(page, "[aria-pressed=true]")).to_have_count(0)
    page.keyboard.press("Space")
    expect(token(page, 4)).to_have_attribute("aria-pressed", "true")
    expect(view(page, ".name")).to_have_text("' the'")


def test_focus_can_be_seen(visit):
    page = visit(small_scores())
    page.keyboard.press("Tab")
    assert ink(page, 5).evaluate("n => getComputedStyle(n).outline").startswith("rgb(45, 120, 220) solid 2")


def test_host_keys_are_left_alone_and_ours_are_kept(visit):
    page = visit(small_scores())
    page.keyboard.press("Tab")
    page.evaluate("window.keys = []; document.addEventListener('keydown', e => keys.push(e.key))")
    for key in ("ArrowUp", "Enter", "Escape", "x", "Control+ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("keys") == ["x", "Control", "ArrowUp"], "what is not ours goes on to the host"


def test_roles_and_names(visit):
    page = visit(small_scores())
    buttons = page.get_by_role("button", name="position 4 ' the'")
    expect(buttons).to_have_count(1)
    expect(page.get_by_role("group", name="tokens of the run")).to_have_count(1)
    expect(page.get_by_role("heading", name="Small")).to_have_count(1)
    expect(page.get_by_role("table", name="strongest sources")).to_have_count(1)


# Several pages in one


def test_two_results_do_not_disturb_each_other(visit):
    page = visit(small_scores().to_html() + contrast_scores().to_html() + small_scores().to_html() * 2)
    expect(page.locator(".view")).to_have_count(4)
    token(page, 3, root=0).click()
    expect(view(page, ".name", 0)).to_have_text("' on'")
    expect(view(page, ".name", 1)).to_have_text("' Nora' rather than ' Tom'")
    expect(view(page, ".name", 2)).to_have_text("' mat'")
    token(page, 4, root=3).hover()
    expect(view(page, ".name", 3)).to_have_text("' the'")
    expect(view(page, ".name", 0)).to_have_text("' on'")


def test_the_script_may_run_again(visit):
    page = visit(small_scores())
    page.evaluate("""() => { for (const s of document.querySelectorAll('.ecco-html > script:not([type])')) {
        const again = document.createElement('script'); again.textContent = s.textContent; s.replaceWith(again); } }""")
    expect(page.locator(".view")).to_have_count(1)
    token(page, 3).hover()
    expect(view(page, ".name")).to_have_text("' on'")


def test_inserted_as_a_notebook_does(visit):
    """JupyterLab sets innerHTML and then replaces each script by a copy, so that it runs."""
    page = visit("<!doctype html><meta charset=utf-8><div id=out></div>")
    page.evaluate("""markup => { const out = document.getElementById('out'); out.innerHTML = markup;
        for (const old of out.querySelectorAll('script')) { const copy = document.createElement('script');
            for (const a of old.attributes) copy.setAttribute(a.name, a.value);
            copy.textContent = old.textContent; old.replaceWith(copy); } }""", small_scores().to_html())  # fmt: skip
    token(page, 3).hover()
    expect(view(page, ".name")).to_have_text("' on'")


def test_reloading(visit):
    page = visit(small_scores())
    page.reload()
    token(page, 3).hover()
    expect(view(page, ".name")).to_have_text("' on'")


# Safety


def test_hostile_text_does_nothing(visit):
    page = visit(hostile_scores())
    page.keyboard.press("Tab")
    for _ in range(12):
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
    view(page, ".all summary").click()
    view(page, "details:not(.all) summary").click()
    page.wait_for_timeout(100)
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.locator("img, b[onclick]").count() == 0
    expect(view(page, ".title")).to_contain_text("</script><script>window.pwned=1</script>")
    expect(token(page, 2)).to_have_text("<img src=x onerror=window.pwned=1>")


def test_a_document_cannot_load_anything(visit):
    page = visit(small_scores())
    blocked = page.evaluate("""() => new Promise(done => {
        document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));
        fetch('/x').catch(() => 0); })""")
    assert blocked == "connect-src"
    assert {kind for kind, _ in visit.trouble} == {"error"}, "the browser's report on what this test tried"
    visit.trouble.clear()


# Looks


def test_scripts_write_numbers_as_the_markup_does(visit):
    """The same number may stand in both, and a long one would not fit into its column."""
    rng = np.random.default_rng(0)
    numbers = [*(10.0 ** rng.uniform(-12, 12, 300) * rng.choice([-1, 1], 300)), 0.00009999, 9999.96, 1e6, 123456, 0]
    digits = [int(n) for n in rng.integers(2, 7, len(numbers))]
    page = visit(small_scores())
    script = "\n".join((asset("parts.js").split("const plus")[0], "globalThis.spell = number;"))
    page.evaluate(f"() => {{ {script} }}")
    told = page.evaluate("all => all.map(([x, digits]) => spell(x, digits))", list(zip(numbers, digits)))
    assert told == [number(x, d) for x, d in zip(numbers, digits)]


def test_a_page_whose_scripts_are_blocked_shows_its_markup(visit):
    """While scripts may still run, a page does not lay out twice; a blocked one waits for some seconds."""
    blocked = document(small_scores().to_html(), "x").replace("script-src 'unsafe-inline'", "script-src 'none'")
    page = visit(blocked)
    assert [name for name, _ in visit.trouble] == ["error"], "the browser says that it blocked the script"
    visit.trouble.clear()
    expect(page.locator(".title")).to_be_hidden()
    page.evaluate("document.getAnimations().forEach(wait => wait.finish())")
    expect(page.locator(".title")).to_be_visible()
    expect(page.locator(".name")).to_have_text("' mat'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_without_scripts_it_can_be_read(visit, scheme):
    result = small_scores()
    page = visit(result, java_script_enabled=False, color_scheme=scheme)
    expect(page.locator(".title")).to_have_text("Small")
    expect(page.locator(".name")).to_have_text("' mat'")
    for place, score in enumerate(row_at(result, 5)):
        locator = page.locator(f'.tok[data-p="{place}"] .ink')
        expect(locator).to_be_visible()
        style = locator.get_attribute("style")
        assert ("rgba(213,94,0" in style) == (score > 0)
        assert ("rgba(45,120,220" in style) == (score < 0)


def test_dark(visit):
    page = visit(small_scores(), color_scheme="dark")
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert colours == ["rgb(22, 23, 26)", "rgb(230, 230, 230)"]
    assert ink(page, 2).evaluate("n => getComputedStyle(n).color") == "rgb(230, 230, 230)"


def test_narrow_pages_do_not_overflow(visit):
    results = [
        make()
        for make in (
            contrast_scores,
            translation_scores,
            world_scores,
            arabic_scores,
            hostile_scores,
            class_scores,
            named_scores,
            masked_scores,
        )
    ]
    results.append(class_scores(HOSTILE))
    for scripts in (True, False):
        markup = "".join(result.to_html() for result in [*results, *every_kind()])
        page = visit(document(markup, "all"), viewport={"width": 360, "height": 640}, java_script_enabled=scripts)
        root = page.locator("html")
        assert root.evaluate("n => n.scrollWidth") <= 360, f"scripts: {scripts}"


def test_newlines_break_lines_and_blanks_stay(visit):
    page = visit(world_scores())
    first, second = token(page, 15).bounding_box(), token(page, 16).bounding_box()
    assert second["y"] > first["y"]
    assert token(page, 17).inner_text() == "  indented"


def test_right_to_left_rows_run_right_to_left(visit):
    page = visit(arabic_scores())
    places = [token(page, p).bounding_box()["x"] for p in (3, 4, 5)]
    assert places == sorted(places, reverse=True)


def test_other_kinds(visit):
    results = every_kind()[1:]
    markup = document("".join(result.to_html() for result in results), "all")
    page, still = visit(markup), visit(markup, java_script_enabled=False)
    for i, result in enumerate(results):
        expect(view(page, ".title >> nth=0", i)).to_have_text(result.title)
        expect(view(page, ".piece >> nth=1", i)).to_be_visible()
        expect(still.locator(f".ecco-html >> nth={i} >> .piece >> nth=1")).to_be_visible()


def test_printing(visit):
    page = visit(small_scores(), color_scheme="dark")
    page.emulate_media(media="print")
    expect(view(page, ".pin")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


# Weight


def test_a_long_result_is_interactive(visit, record_property):
    result = long_scores()
    clock = time.perf_counter()
    page = visit(result)
    expect(view(page, ".name")).to_have_text("' word59'")
    opened = time.perf_counter() - clock
    took = page.evaluate("""() => {
        const root = document.querySelector('.ecco-html').shadowRoot, times = [];
        for (let p = 1800; p < 2000; p += 10) {
            const token = root.querySelector(`.tok[data-p="${p}"]`), before = performance.now();
            token.dispatchEvent(new PointerEvent('pointerover', { bubbles: true }));
            root.querySelector('.view').offsetHeight;
            times.push(performance.now() - before);
        }
        return times.sort((a, b) => a - b); }""")
    record_property("opened_s", opened)
    record_property("hover_ms_median", took[len(took) // 2])
    print(f"\nopened in {opened:.2f} s; a hover takes {took[len(took) // 2]:.1f} ms, at most {took[-1]:.1f} ms")
    expect(view(page, ".where")).to_have_text("at position 1990")
    expect(token(page, 0)).not_to_be_in_viewport()
    token(page, 1990).click()
    token(page, 1980).hover()
    assert told(view(page, ".tip").inner_text()) == pytest.approx(row_at(result, 1990)[1980], rel=6e-3)


def test_values_beyond_numbers(visit):
    values = LabelledArray([[np.nan, np.inf, 0.0], [np.nan, 1.0, 0.0]], ("target", "source"))
    page = visit(small_scores(("a", "b", "c"), given=1, values=values))
    token(page, 0).hover()
    expect(view(page, ".tip")).to_have_text("0 · not a number")
    assert alpha(ink(page, 1)) == pytest.approx(0.62)


def test_a_row_of_the_list_brings_its_token_into_sight(visit):
    values = np.zeros((1, 2000))
    values[0, 3] = 1.0
    result = long_scores(2000, 1)
    page = visit(attrs.evolve(result, values=LabelledArray(values, ("target", "source"))))
    expect(token(page, 1999)).to_be_in_viewport()
    expect(token(page, 3)).not_to_be_in_viewport()
    view(page, ".top tbody tr >> nth=0").click()
    expect(token(page, 3)).to_be_in_viewport()


def test_a_long_name_of_a_curve_fits_a_narrow_page(visit):
    values = LabelledArray(np.eye(2), ("curve", "x"), {"curve": ("a long name of a curve " * 6, "b")})
    page = visit(Curves(title="Curves", values=values), viewport={"width": 380, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 380


def test_curves_are_drawn(visit):
    array = LabelledArray(np.array([[0.1, 0.5, 0.9], [0.2, np.nan, 0.3]]), ("curve", "layer"))
    page = visit(Curves(title="probe", values=array))
    drawing = page.locator("svg.curves:visible")
    expect(drawing).to_have_count(1)
    box = drawing.bounding_box()
    assert box["width"] > 300
    assert box["height"] > 150
    assert drawing.locator("circle").count() == 5
