"""A real browser for the tests, and what they ask of a page. A missing browser fails them: it does not skip them."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PATIENCE = 120_000  # ms; a busy machine is slow, not wrong
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser():
    path = shutil.which("chromium")
    assert path, "these tests drive Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pages(browser):
    """A function: settings -> a page with them, the same for all tests, for starting a page takes long."""
    opened = {}

    def page_for(settings):
        key = repr(sorted(settings.items()))
        if key not in opened:
            context = browser.new_context(**settings)
            context.set_default_timeout(PATIENCE)
            opened[key] = context.new_page()
        return opened[key]

    return page_for


@pytest.fixture
def visit(pages, tmp_path):
    """Save a result (or take a page's text), open it, and afterwards insist on: no request, message or dialog."""
    trouble, undo = [], []

    def open_page(result, save=None, **settings):
        target = tmp_path / f"page{len(undo)}.html"
        if isinstance(result, str):
            target.write_text(result, "utf-8")
        else:
            result.save(target, **(save or {}))
        page = pages(settings)
        watch = {
            "request": lambda r: r.url == target.as_uri() or trouble.append(("request", r.url)),
            "console": lambda m: trouble.append((m.type, m.text)),
            "pageerror": lambda e: trouble.append(("error", str(e))),
            "dialog": lambda d: (trouble.append(("dialog", d.message)), d.dismiss()),
        }
        for event, note in watch.items():
            page.on(event, note)
        page.route("**/*", lambda route: route.continue_() if route.request.url == target.as_uri() else route.abort())
        undo.append((page, watch))
        page.mouse.move(0, 0)
        page.goto(target.as_uri())
        return page

    open_page.trouble = trouble
    yield open_page
    for page, watch in undo:
        for event, note in watch.items():
            page.remove_listener(event, note)
        page.unroute_all()
        page.emulate_media(media="screen")
    assert trouble == []


def token(page, place, stack=0, root=0):
    return page.locator(f'.ecco-html >> nth={root} >> .view .row[data-stack="{stack}"] .tok[data-p="{place}"]')


def ink(page, place, stack=0, root=0):
    return token(page, place, stack, root).locator(".ink")


def alpha(locator):
    """The signed opacity of a token's paint, and 0 where there is none."""
    colour = locator.evaluate("node => node.style.backgroundColor")
    if not colour:
        return 0.0
    red, *_, opacity = map(float, re.findall(r"[\d.]+", colour))
    return opacity if red > 100 else -opacity


def told(text):
    return float(text.replace("−", "-").split("·")[-1])


def view(page, selector, root=0):
    return page.locator(f".ecco-html >> nth={root} >> .view {selector}")


def live(page, root=0):
    return view(page, '[role="status"]', root)
