"""Take the pictures of the site: run the example of every method's page and photograph its result (`make pictures`).

    python docs/generate_pictures.py            # all of them, and docs/gallery.md
    python docs/generate_pictures.py nmf cka    # those of some methods, or of some of the gallery's further views

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
from typing import Any, NamedTuple

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
    "Report": "report",
}
PAGES = {"light": (False, False), "dark": (False, True), "narrow": (True, False), "narrow-dark": (True, True)}
MEDIA = (*PAGES, "figure", "terminal")
WIDE, NARROW, TALLEST = 760, 380, 900  # pixels
MOST = 1000  # pixels across, of a figure
LARGEST = 100_000  # bytes of one picture
LINES = 24  # of plain text in the gallery


class View(NamedTuple):
    """A view that no kind's own picture shows.

    Attributes:
        about: what one sees. `code`: what makes `result`, or the method whose page's example does.
        options: of `save`. `place`: the position that is pinned, as in the page's address.
    """

    about: str
    code: str
    options: dict[str, Any] = {}  # noqa: RUF012 - read only
    place: str = ""


_PROSE = """
import ecco_core as ecco

run = ecco.from_pretrained("tiny:prose").generate(
    "We met a captain called Nora. We met a cook called Felix. The name of the captain was", max_new_tokens=8
)
"""
REPORT = (
    _PROSE
    + """
result = ecco.report([
    run.analyze("integrated_gradients"), run.analyze("logit_lens", positions=range(20, 24)), run.analyze("attention"),
])
"""
)
_SEVERAL = _PROSE + 'result = run.analyze("integrated_gradients")'
VIEWS = {
    "pinned": View(
        "Token scores with a token pinned: `result.save('why.html')`, then `why.html#decoder-22`.",
        _SEVERAL,
        place="decoder-22",
    ),
    "minimal": View("`result.save('why.html', style='minimal')`: the text alone.", _SEVERAL, {"style": "minimal"}),
    "matrix": View("`style='matrix'`: targets × sources.", _SEVERAL, {"style": "matrix"}),
    "question": View(
        "An encoder-decoder: the question that is read, and the answer.",
        """
import ecco_core as ecco

lm = ecco.from_pretrained("tiny:seq2seq")
run = lm.generate("question: what does Sven own? context: Sven comes from Angola. Sven took the guitar.")
result = run.analyze("integrated_gradients", targets=[1])
""",
    ),
    "review": View(
        "A classifier: which words speak for and against its verdict.",
        """
import ecco_core as ecco

review = "The actors were charming and the songs were good, but the story was a waste of time."
result = ecco.from_pretrained("tiny:classifier")(review).analyze("lrp", contrast="positive")
""",
    ),
    "lens": View("Boxes of a logit lens, one of them pinned.", "logit_lens", place="decoder-21"),
    "ranks": View("Ranks of the generated tokens in each layer.", "rankings"),
    "watched": View("Ranks of watched tokens.", "rankings_watch"),
    "firing": View("Firing patterns: neurons × tokens, clustered.", "neuron_map"),
    "heads": View("A score for each head.", "head_scores"),
    "rollout": View("Attention passed on from layer to layer.", "attention_rollout"),
    "faithfulness": View("Which method to believe: curves and table.", "faithfulness"),
}


def examples() -> dict[str, str]:
    """Method -> the code of its page's example."""
    found = {}
    for page in sorted((DOCS / "methods").glob("*.md")):
        if code := re.search(r"^## Example\n\n```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            found[page.stem] = code.group(1)
    return found


def code_of(view: View) -> str:
    """The code that makes a view's result."""
    return examples().get(view.code, view.code)


def result_of(code: str) -> Any:
    """What an example names `result`; None if it makes none."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "example", "exec"), names)  # noqa: S102 - our own pages
    return names.get("result")


@contextlib.contextmanager
def camera() -> Iterator[Any]:
    """A function that photographs a page: ``shoot(html, picture, narrow, dark, place)``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)

        def shoot(html: Path, picture: Path, narrow: bool = False, dark: bool = False, place: str = "") -> None:
            width, scheme = NARROW if narrow else WIDE, "dark" if dark else "light"
            page = browser.new_page(viewport={"width": width, "height": TALLEST}, color_scheme=scheme)
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(html.as_uri() + (f"#{place}" if place else ""))
            page.wait_for_timeout(300)
            if others := [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]:
                raise RuntimeError(f"{html} asks for {others[0]}")
            height = min(TALLEST, page.evaluate("Math.ceil(document.body.getBoundingClientRect().bottom)"))
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
    """The page of all kinds in all media, and of further views."""
    rows = []
    for kind, method in KINDS.items():
        pictures = [_page(method), *(f"pictures/gallery/{kind}-{medium}.png" for medium in MEDIA[1:])]
        rows.append([f"[`{kind}`](#{kind.lower()})", _made_by(method), *map(_linked, pictures)])
    kinds = _table(
        ["kind", "made by", "page", *(f"page, {m.replace('-', ', ')}" for m in MEDIA[1:4]), *MEDIA[4:]], rows
    )
    sections = [
        f"## {kind}\n\n{ABOUT[kind]} Made by {_made_by(KINDS[kind])}.\n\n"
        f"![{kind} as a page]({_page(KINDS[kind])})\n\nPlain text, which is always there:\n\n"
        f"```text\n{text}\n```\n"
        for kind, text in texts.items()
    ]
    further = [
        [view.about, *(_linked(f"pictures/gallery/{name}-{medium}.png") for medium in PAGES)]
        for name, view in VIEWS.items()
    ]
    views = _table(["view", *(m.replace("-", ", ") for m in PAGES)], further)
    return f"{HEAD}\n{kinds}\n\n## Further views\n\n{views}\n\n" + "\n".join(sections)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def _made_by(method: str) -> str:
    return "[`ecco.report`](api.md#report)" if method == "report" else f"[`{method}`](methods/{method}.md)"


def _linked(picture: str) -> str:
    return f"[![{Path(picture).stem}]({picture})]({picture})"


HEAD = """# Gallery

<!-- written by docs/generate_pictures.py -->

An analysis returns one of eleven kinds of result, and each kind has a view in every medium: an interactive page
(`pip install ecco-html`; light and dark, wide and narrow), a figure (`ecco-matplotlib`), coloured text
(`ecco-terminal`), and plain text, which needs nothing. Pictures are of the shipped tiny models; click one to see it
large.
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
    "Report": "Several results in one page, figure or print; what is pinned in one is shown in all.",
}


def main(names: list[str]) -> None:
    """Photograph the results of some methods or views, or of all, with the gallery."""
    import torch

    torch.set_num_threads(1)
    texts = {}
    with tempfile.TemporaryDirectory() as folder, camera() as shoot:
        for name, code in (examples() | {"report": REPORT}).items():
            if names and name not in names:
                continue
            result, path = result_of(code), Path(folder) / name
            if result is None:
                continue
            page = result.save(path.with_suffix(".html"))
            shoot(page, PICTURES / "methods" / f"{name}.png")
            for kind in (kind for kind, method in KINDS.items() if method == name):
                for medium in MEDIA[1:4]:
                    shoot(page, _picture(kind, medium), *PAGES[medium])
                shoot(_terminal(result, path), _picture(kind, "terminal"))
                _write(Path(result.save(path.with_suffix(".png"))).read_bytes(), _picture(kind, "figure"))
                lines = str(result).splitlines()
                cut = [*lines[:LINES], f"… and {len(lines) - LINES} more lines"] if len(lines) > LINES else lines
                texts[kind] = "\n".join(cut)
            sys.stdout.write(f"{name}\n")
        for name, view in VIEWS.items():
            if names and name not in names:
                continue
            page = result_of(code_of(view)).save(Path(folder) / f"{name}-view.html", **view.options)
            for medium, look in PAGES.items():
                shoot(page, _picture(name, medium), *look, place=view.place)
            sys.stdout.write(f"{name}\n")
    if not names:
        in_order = {kind: texts[kind] for kind in KINDS}
        (DOCS / "gallery.md").write_text(gallery(in_order), encoding="utf-8")


def _picture(name: str, medium: str) -> Path:
    return PICTURES / "gallery" / f"{name}-{medium}.png"


if __name__ == "__main__":
    main(sys.argv[1:])
