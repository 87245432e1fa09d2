"""The site: it builds without a warning and asks for nothing, and its pages say what is true of the code today."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import ecco_core as ecco

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE_LATER = {"captum_lrp"}  # its example shows a refusal


def script(name):
    """A generator of docs/ as a module."""
    if str(DOCS) not in sys.path:
        sys.path.insert(0, str(DOCS))
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; its tutorials are executed, and a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", DOCS, "-d", folder / "trees", ROOT]
    done = subprocess.run([*command, folder / "site"], capture_output=True, text=True, timeout=900)
    assert not done.returncode, done.stderr[-4000:]
    return folder / "site"


class Asked(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "audio", "video", "embed"):
            self.found.append(attrs.get("src") or "")
        if tag == "link" and attrs.get("rel") not in ("canonical", "author"):
            self.found.append(attrs.get("href") or "")


def test_the_built_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 100
    for page in pages:
        parser = Asked()
        parser.feed(page.read_text(encoding="utf-8"))
        wrong = [address for address in parser.found if re.match(r"(https?:)?//", address)]
        assert not wrong, f"{page.relative_to(site)} loads {wrong[0]}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style


def test_pages_ask_for_nothing_in_a_browser(site):
    from playwright.sync_api import sync_playwright

    names = ["index", "start", "gallery", "methods/index", "methods/nmf", "tutorials/introduction", "api", "migration"]
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        context = browser.new_context(viewport={"width": 380, "height": 800}, offline=True)
        for name in names:
            page, wrong = context.new_page(), []
            page.on("requestfailed", lambda request, wrong=wrong: wrong.append(request.url))
            page.on("request", lambda r, wrong=wrong: wrong.append(r.url) if r.url.startswith("http") else None)
            page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
            page.goto((site / "docs" / f"{name}.html").as_uri())
            page.wait_for_timeout(200)
            assert not wrong, f"{name}: {wrong}"
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} is {wide} pixels wider than a narrow screen"
            page.close()
        browser.close()


def test_tutorials_are_on_the_site_with_what_they_show(site):
    tutorials = {page.stem for page in (DOCS / "tutorials").glob("*.md")} - {"index"}
    assert len(tutorials) == 10  # one for each notebook of the original
    for name in tutorials:
        page = (site / "docs" / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
        assert page.count('class="output ') + page.count("cell_output") >= 2, name
        assert "Traceback" not in page


@pytest.mark.parametrize("generator", ["generate_methods", "generate_reference"])
def test_no_generated_page_is_stale(generator):
    for path, text in script(generator).pages().items():
        assert path.exists(), f"{path} is missing: make docs"
        assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(ROOT)} is stale: make docs"


def test_every_method_has_a_page_that_says_when_it_misleads():
    offers = script("generate_methods").offers()
    assert len(offers) >= 60
    pages = {page.stem for page in (DOCS / "methods").glob("*.md")} - {"index"}
    assert pages == set(offers)
    for name in offers:
        text = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
        parts = dict(re.findall(r"^## ([^\n]+)\n\n(.*?)(?=^## |^<!-- gen|\Z)", text, re.MULTILINE | re.DOTALL))
        assert {"Example", "How to read it", "When it misleads", "Options"} <= set(parts), name
        assert len(parts["How to read it"].split()) >= 12, name
        assert len(parts["When it misleads"].split()) >= 12, name
        assert script("generate_methods").question(DOCS / "methods" / f"{name}.md").endswith(("?", ".")), name


def test_our_distributions_are_all_on_the_pages():
    from ecco_core.plugin.manager import plugins

    with_methods = {o.distribution for o in plugins().offers("ecco_analyses")}
    names = {
        re.search(r'^name = "(.+)"', p.read_text(encoding="utf-8"), re.MULTILINE)[1]
        for p in ROOT.glob("plugins/*/*/pyproject.toml")
    }
    assert with_methods & names == set(script("generate_methods").FAMILIES)
    install = (DOCS / "install.md").read_text(encoding="utf-8")
    for name in names:
        assert f"`{name}`" in install, f"docs/install.md does not say what {name} is for"


def test_hooks_groups_errors_and_renderers_are_documented():
    from ecco_core import errors
    from ecco_core.plugin.manager import HOOKS
    from ecco_core.plugin.specs import OPTION_GROUPS

    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    kinds = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    for name in [*HOOKS, *OPTION_GROUPS, *kinds]:
        assert f"| `{name}` |" in page, f"docs/plugins.md does not tell of {name}"


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    for name in set(ecco.__all__) - {"__version__"}:
        assert f"### `{name}`\n" in page, f"docs/api.md does not tell of {name}"


EXAMPLES = script("generate_pictures").examples()


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_the_example_of_a_method_runs(name):
    result = script("generate_pictures").result_of(EXAMPLES[name])
    if name in MADE_LATER:
        assert result is None
        return
    assert isinstance(result, ecco.Result)
    assert result.provenance.analysis == name
    assert (DOCS / "pictures" / "methods" / f"{name}.png").exists(), "no picture: make pictures"


def test_every_kind_is_in_the_gallery():
    from ecco_core.data import results

    kinds = {k.__name__ for k in vars(results).values() if isinstance(k, type) and ecco.Result in k.__bases__}
    pictures = script("generate_pictures")
    assert kinds == set(pictures.KINDS) == set(pictures.ABOUT)
    gallery = (DOCS / "gallery.md").read_text(encoding="utf-8")
    for kind in pictures.KINDS:
        assert f"## {kind}\n" in gallery
        for medium in pictures.MEDIA[1:]:  # the first is the method's own picture
            assert (DOCS / "pictures" / "gallery" / f"{kind}-{medium}.png").exists(), "no picture: make pictures"
    for view in pictures.VIEWS:
        for medium in pictures.PAGES:
            assert f"pictures/gallery/{view}-{medium}.png" in gallery
            assert (DOCS / "pictures" / "gallery" / f"{view}-{medium}.png").exists(), "no picture: make pictures"


def test_pictures_are_small():
    sizes = {path: path.stat().st_size for path in (DOCS / "pictures").rglob("*.png")}
    assert max(sizes.values()) <= 100_000
    assert sum(sizes.values()) <= 6_000_000


def exit_code(command):
    from ecco_core.cli.main import main

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main(shlex.split(command))
    except SystemExit as left:
        return left.code
    return 0


def test_the_first_steps_run(tmp_path, monkeypatch):
    text = (DOCS / "start.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ ecco (.+)$", text, re.MULTILINE)
    assert len(commands) >= 5
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert not exit_code(command), command
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            exec(compile(block, "start.md", "exec"), names)
    assert (tmp_path / "why.html").is_file()


def rows():
    """Call of the original, tests that hold it or None if it does not run; of each row of the migration table."""
    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    runs, missing = page.split("## What does not run\n")
    for line in re.findall(r"^\| `.+$", runs, re.MULTILINE):
        cells = [cell.strip() for cell in line.strip("|\n ").split(" | ")]
        yield re.match(r"`(.+?)`", cells[0])[1], re.findall(r"`(test_\w+)`", line.rsplit(" | ", 1)[1])
    for line in re.findall(r"^\| `.+$", missing, re.MULTILINE):
        yield re.match(r"\| `(.+?)`", line)[1], None


@pytest.fixture(scope="module")
def classic():
    """What the calls of the migration table are about."""
    lm = ecco.from_pretrained("tiny:prose", activations=True)
    text = "We met a captain called Nora. We met a cook called Felix. The name of the captain was"
    output = lm.generate(text, generate=3, do_sample=False)
    rng = np.random.default_rng(0)
    arrays = {"acts1": rng.standard_normal((22, 100)), "acts2": rng.standard_normal((22, 100))}
    others = {
        "bert": ecco.from_pretrained("tiny:masked")("The captain is called Nora."),
        "t5": ecco.from_pretrained("tiny:seq2seq").generate("question: who is the captain?", generate=2),
    }
    made = {"inputs": lm.tokenizer([text], return_tensors="pt"), "nmf": output.run_nmf(n_components=3)}
    names = {"ecco": ecco, "lm": lm, "text": text, "output": output}
    return names | arrays | others | made | {"position": output.n_input_tokens}


@pytest.mark.parametrize(("call", "held_by"), [pytest.param(*row, id=row[0]) for row in rows()])
def test_the_migration_table_is_true(call, held_by, classic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = None
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            eval(call, dict(classic))
        except (ecco.EccoError, AttributeError, TypeError) as error:
            wrong = error
    if held_by is None:
        assert wrong, f"{call} runs now: move its row up in docs/migration.md"
        return
    assert not wrong, f"{call}: {wrong}"
    tree = ast.parse((ROOT / "tests" / "test_classic.py").read_text(encoding="utf-8"))
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(held_by) <= there, "tests/test_classic.py has no such test"


def test_every_call_of_the_original_is_in_the_migration_table():
    """What is public in ecco 0.1.2: its functions, methods and attributes, and all of their arguments."""
    page = (DOCS / "migration.md").read_text(encoding="utf-8")
    calls = """from_pretrained generate predict_token to display_input_sequence display_token explorable position
        primary_attributions saliency layer_predictions rankings rankings_watch attention run_nmf explore plot cca svcca
        pwcca cka plot_activations plot_clustered_activations token_barplot plot_logit_lens plot_inner_token_rankings
        plot_inner_token_rankings_watch _get_encoder_hidden_states LM OutputSeq NMF"""
    for name in calls.split():
        assert re.search(rf"\b{name}\(", page), name
    named = """model_config activations attention hidden_states activations_layer_nums verbose gpu max_length
        hf_model_id temperature top_k top_p do_sample attribution generate beam_size topk printJson attr_method style
        ignore_tokens position layer watch attention_values n_components from_layer to_layer
        collect_activations_layer_nums input_sequence dims epsilon input_str input_tokens vmin vmax height show_inputs
        save_file_path token_found_mask token_ids n_input_tokens tokenizer output_text tokens encoder_hidden_states
        decoder_hidden_states embedding_states activations attention_values lm_head device config model_type
        components model_name model_embeddings neurons_to_inhibit neurons_to_induce"""
    for name in named.split():
        assert re.search(rf"\b{name}\b", page), name
