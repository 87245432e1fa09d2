"""Take the pictures of the site: run the example of every method's page and photograph its result (`make pictures`).

    python docs/generate_pictures.py            # all of them, and docs/gallery.md
    python docs/generate_pictures.py nmf cka    # those of some methods

Needs chromium and Pillow. Nothing is loaded from anywhere: what a page asks of a network is an error.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"
#: Kind of result -> the method whose example shows it.
KINDS = {
    "TokenScores": "integrated_gradients",
    "Predictions": "candidates",
    "TokenGrid": "logit_lens",
    "Patterns": "attention",
    "Components": "nmf",
    "Grid": "cka",
    "Curves": "probe",
    "Points": "umap",
    "Table": "top_neurons",
    "Fitted": "fit_probe",
}
MEDIA = ("light", "dark", "narrow", "figure", "terminal")
WIDE, NARROW, TALLEST = 760, 380, 900  # pixels
MOST = 1000  # pixels across, of a figure
LARGEST = 100_000  # bytes of one picture
LINES = 24  # of plain text in the gallery


def examples() -> dict[str, str]:
    """Method -> the code of its page's example."""
    found = {}
    for page in sorted((DOCS / "methods").glob("*.md")):
        if code := re.search(r"^## Example\n\n```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            found[page.stem] = code.group(1)
    return found


def result_of(code: str) -> Any:
    """What an example names `result`; None if it makes none."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "example", "exec"), names)  # noqa: S102 - our own pages
    return names.get("result")


@contextlib.contextmanager
def camera() -> Iterator[Any]:
    """A function that photographs a page: ``shoot(url, path, width, dark)``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)

        def shoot(html: Path, picture: Path, width: int = WIDE, dark: bool = False) -> None:
            scheme = "dark" if dark else "light"
            page = browser.new_page(viewport={"width": width, "height": 120}, color_scheme=scheme)
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(html.as_uri())
            page.wait_for_timeout(300)
            if others := [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]:
                raise RuntimeError(f"{html} asks for {others[0]}")
            height = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
            page.set_viewport_size({"width": width, "height": height})
            _write(page.screenshot(), picture)
            page.close()

        yield shoot
        browser.close()


def _write(png: bytes, picture: Path) -> None:
    """Write a picture with few colours, small enough to be committed."""
    from PIL import Image

    picture.parent.mkdir(parents=True, exist_ok=True)
    full = Image.open(io.BytesIO(png)).convert("RGB")
    full.thumbnail((MOST, 2 * MOST))
    for colours in (96, 48, 24):
        full.quantize(colours, dither=Image.Dither.NONE).save(picture, optimize=True)
        if picture.stat().st_size <= LARGEST:
            return
    raise RuntimeError(f"{picture} has {picture.stat().st_size} bytes; make its example smaller")


def _terminal(result: Any, path: Path) -> Path:
    """The terminal's view as a page: what rich makes of the control codes."""
    from rich.console import Console
    from rich.text import Text

    ansi = result.save(path.with_suffix(".ansi"), width=88, theme="dark", colour="truecolor")
    console = Console(record=True, width=88, file=io.StringIO())
    console.print(Text.from_ansi(Path(ansi).read_text(encoding="utf-8")))
    body = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    style = (
        "body{background:#1e1e1e;color:#e6e6e6;margin:16px}pre{font:13px/1.35 'DejaVu Sans Mono',monospace;margin:0}"
    )
    html = path.with_suffix(".terminal.html")
    html.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{body}", encoding="utf-8")
    return html


def _page(method: str) -> str:
    return f"pictures/methods/{method}.png"


def gallery(texts: dict[str, str]) -> str:
    """The page of all kinds in all media."""
    rows = []
    for kind, method in KINDS.items():
        cells = [f"[`{kind}`](#{kind.lower()})", f"[`{method}`](methods/{method}.md)"]
        for medium in MEDIA:
            picture = f"pictures/gallery/{kind}-{medium}.png" if medium != "light" else _page(method)
            there = (DOCS / picture).exists()
            cells.append(f"[![{kind}, {medium}]({picture})]({picture})" if there else "")
        rows.append("| " + " | ".join(cells) + " |")
    heads = ["kind", "made by", "page", "page, dark", "page, narrow", "figure", "terminal"]
    table = "\n".join(["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|", *rows])
    sections = [
        f"## {kind}\n\n{ABOUT[kind]} Made by the example of [`{KINDS[kind]}`](methods/{KINDS[kind]}.md).\n\n"
        f"![{kind} as a page]({_page(KINDS[kind])})\n\nPlain text, which is always there:\n\n"
        f"```text\n{text}\n```\n"
        for kind, text in texts.items()
    ]
    return f"{HEAD}\n{table}\n\n" + "\n".join(sections)


HEAD = """# Gallery

<!-- written by docs/generate_pictures.py -->

An analysis returns one of ten kinds of result, and each kind has a view in every medium: an interactive page
(`pip install ecco-html`; light and dark, wide and narrow), a figure (`ecco-matplotlib`), coloured text
(`ecco-terminal`), and plain text, which needs nothing. Several results of one run share a page by
`ecco.report([first, second]).save("why.html")`. Pictures are of the shipped tiny models; click one to see it large.
"""
ABOUT = {
    "TokenScores": "A score for each target and source: attributions, attention, relevance.",
    "Predictions": "Candidates with probabilities, a row per layer or position.",
    "TokenGrid": "A number, often with a token, for each layer (or neuron) and position.",
    "Patterns": "A matrix of positions for each layer and head.",
    "Components": "Factors over tokens, with their loadings on neurons.",
    "Grid": "A number for each pair, with interval and null.",
    "Curves": "Lines with intervals over layers.",
    "Points": "Tokens as places in a plane.",
    "Table": "Rows and columns.",
    "Fitted": "Something fitted, to keep and to apply.",
}


def main(names: list[str]) -> None:
    """Photograph the results of some methods, or of all, with the gallery."""
    import torch

    torch.set_num_threads(1)
    texts = {}
    with tempfile.TemporaryDirectory() as folder, camera() as shoot:
        for name, code in examples().items():
            if names and name not in names:
                continue
            result, path = result_of(code), Path(folder) / name
            if result is None:
                continue
            shoot(page := result.save(path.with_suffix(".html")), PICTURES / "methods" / f"{name}.png")
            for kind in (kind for kind, method in KINDS.items() if method == name):
                stem = PICTURES / "gallery" / kind
                shoot(page, stem.with_name(f"{kind}-dark.png"), dark=True)
                shoot(page, stem.with_name(f"{kind}-narrow.png"), width=NARROW)
                shoot(_terminal(result, path), stem.with_name(f"{kind}-terminal.png"))
                _write(Path(result.save(path.with_suffix(".png"))).read_bytes(), stem.with_name(f"{kind}-figure.png"))
                lines = result.text().splitlines() if hasattr(result, "text") else str(result).splitlines()
                cut = [*lines[:LINES], f"… and {len(lines) - LINES} more lines"] if len(lines) > LINES else lines
                texts[kind] = "\n".join(cut)
            sys.stdout.write(f"{name}\n")
    if not names:
        in_order = {kind: texts[kind] for kind in KINDS}
        (DOCS / "gallery.md").write_text(gallery(in_order), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
