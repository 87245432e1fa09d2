"""How heavy pages are and how fast they answer, in Chromium: `python benchmarks/pages.py` prints a table.

A page is opened from a file, with nothing else in it. parse + mount: from navigation to the first layout after the
script. pointer, key: from the event to the end of the layout that it causes, without the browser's own painting.
Medians of five; load the machine with nothing else.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np

import ecco_core as ecco
from ecco_core import LabelledArray, Source, Target, Tokens

TIMES = 5
_EVENTS = """([selector, key]) => {
    const view = document.querySelector('.ecco-html').shadowRoot.querySelector('.view');
    const nodes = [...view.querySelectorAll(selector)], times = [];
    for (let n = 0; n < 5; n++) {
        const node = nodes[Math.floor((n + 1) * (nodes.length - 2) / 6)];
        if (key) node.focus({ preventScroll: true });
        view.offsetHeight;
        const before = performance.now();
        node.dispatchEvent(key ? new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true })
            : new PointerEvent('pointerover', { bubbles: true }));
        view.offsetHeight;
        times.push(performance.now() - before);
    }
    return times; }"""


def _tokens(n: int) -> Tokens:
    texts = [f" word{i % 997}" for i in range(n)]
    return Tokens(list(range(n)), texts, texts, [True] * n, [False] * n)


def scores(n: int = 2000, m: int = 200) -> ecco.TokenScores:
    """Token scores, targets × tokens."""
    tokens, rng = _tokens(n), np.random.default_rng(0)
    return ecco.TokenScores(
        values=LabelledArray(np.tril(rng.laplace(0, 0.3, (n, n)), -1)[n - m :], ("target", "source")),
        tokens={"decoder": tokens}, n_input_tokens=n - m,
        sources=[Source(stack="decoder", positions=(p,), text=text) for p, text in enumerate(tokens.texts)],
        targets=[Target(position=p, token_id=p, text=tokens.texts[p], value=-0.1) for p in range(n - m, n)],
    )  # fmt: skip


def lens(layers: int = 48, positions: int = 200, ranks: int = 10) -> ecco.TokenGrid:
    """A lens with its candidates."""
    rng = np.random.default_rng(0)
    dims, coords = ("layer", "position"), {"position": [f"{i}  word{i % 97}" for i in range(positions)]}
    words = np.array([f" token{i}" for i in range(20_000)], dtype=object)
    best = words[rng.integers(0, len(words), (layers, positions, ranks))]
    shares = -np.sort(-rng.dirichlet(np.ones(30), (layers, positions)), axis=-1)[..., :ranks]
    return ecco.TokenGrid(
        quantity="probability", values=LabelledArray(shares[..., 0], dims, coords),
        texts=LabelledArray(best[..., 0], dims, coords), candidates=LabelledArray(best, (*dims, "rank"), coords),
        candidate_values=LabelledArray(shares, (*dims, "rank"), coords),
    )  # fmt: skip


def patterns(layers: int = 32, heads: int = 32, n: int = 24) -> ecco.Patterns:
    """Causal attention of many heads."""
    values = np.tril(np.random.default_rng(0).exponential(1, (layers, heads, n, n)))
    values /= values.sum(-1, keepdims=True)
    array = LabelledArray(values.astype(np.float32), ("layer", "head", "query", "key"))
    return ecco.Patterns(values=array, tokens={"decoder": _tokens(n)})


def factors(components: int = 40, n: int = 2000) -> ecco.Components:
    """Components over a long text."""
    rng = np.random.default_rng(0)
    return ecco.Components(
        values=LabelledArray(rng.exponential(1, (components, n)), ("component", "token")), tokens=_tokens(n),
        loadings=LabelledArray(rng.normal(0, 1, (components, 512)), ("component", "unit")),
    )  # fmt: skip


#: What is shown, and what is pointed at.
PAGES = {
    "token scores, 2,000 tokens × 200 targets": (scores, ".tok.goal"),
    "lens, 48 layers × 200 positions × 10 candidates": (lens, "tbody td[tabindex]"),
    "attention, 32 × 32 heads, 24 tokens": (patterns, ".heads .head"),
    "factors, 40 components × 2,000 tokens": (factors, ".tok"),
}


def measure(browser: object, file: Path, selector: str) -> tuple[float, float, float]:
    """Milliseconds until a page can be used, of a pointer's move, and of a key."""
    opened: list[float] = []
    page = browser.new_page()  # type: ignore[attr-defined]
    for _ in range(TIMES):
        page.goto(file.as_uri())
        opened.append(
            page.evaluate("""() => { document.body.offsetHeight;
            return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd; }""")
        )
    moved, stepped = page.evaluate(_EVENTS, [selector, ""]), page.evaluate(_EVENTS, [selector, "ArrowRight"])
    page.close()
    return statistics.median(opened), statistics.median(moved), statistics.median(stepped)


def main() -> None:
    """Print the table."""
    from playwright.sync_api import sync_playwright

    print("| page | bytes | parse + mount, ms | pointer, ms | key, ms |\n|---|---:|---:|---:|---:|")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for name, (make, selector) in PAGES.items():
            file = make().save(Path(folder) / "page.html")
            opened, moved, stepped = measure(browser, file, selector)
            print(f"| {name} | {file.stat().st_size:,} | {opened:.0f} | {moved:.1f} | {stepped:.1f} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
