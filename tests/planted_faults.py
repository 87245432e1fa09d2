"""A plugin that keeps every promise, and what to change in it to break one: for the tests of the contract kit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecco_core.registry.lookup import packaged_folder

ENTRY = """
from pathlib import Path
from ecco_core import AnalysisSpec, CaptureSpec, CommandSpec, ModelSource, RendererSpec, hookimpl

@hookimpl
def ecco_analyses():
    return [AnalysisSpec(name="NAME", summary="Norms", target="NAME.targets:norms", produces="TokenGrid",
                         takes=("sites", "layers"))]

@hookimpl
def ecco_captures():
    return [CaptureSpec(name="NAME", summary="Norm", target="NAME.targets:norm", dims=("token",))]

@hookimpl
def ecco_renderers():
    return [RendererSpec(name="NAME", summary="A table", target="NAME.targets:page", accepts=("Table",),
                         media_type="text/html;profile=NAME")]

@hookimpl
def ecco_model_configs():
    return [Path(__file__).parent / "gpt2.yaml"]

@hookimpl
def ecco_model_sources():
    return [ModelSource(name="NAME", summary="Models", target="NAME.targets:folder", models=("prose",))]

@hookimpl
def ecco_commands():
    return [CommandSpec(name="NAME".replace("_", "-"), summary="Greet", target="NAME.greeting:greet")]
"""

TARGETS = '''
import html
from ecco_core import EccoError, LabelledArray, ModelNotFoundError, TokenGrid, plugins

def norms(ctx, *, order: float = 2.0) -> TokenGrid:
    """Norm of a site at every layer and token.

    Options:
        order: which norm.
    """
    import numpy as np

    capture = ctx.capture(ctx.site, layers=ctx.layers)
    if not capture.layers(ctx.site) or capture.get(ctx.site, 0).dim() != 2:
        raise EccoError("Norms are of one vector for each layer and token; take another site.")
    values = capture.stacked(ctx.site).norm(p=order, dim=-1).cpu().numpy()
    if not np.isfinite(values).all():
        raise EccoError("The model computes no numbers; look at its weights.")
    labels = {"layer": ctx.layers, "position": [f"{p} {t}" for p, t in enumerate(ctx.run.tokens.labels)]}
    grid = LabelledArray(values, ("layer", "position"), labels)
    return TokenGrid(title="Norms", quantity="norm", values=grid)

def norm(resid_post):
    """Length of each token's state ``(token,)``."""
    return resid_post.norm(dim=-1)

def page(result) -> str:
    """A table."""
    cell = lambda value: f"<td>{html.escape(str(value).encode('utf-8', 'replace').decode())}</td>"
    rows = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in [result.columns, *result.rows])
    return f"<table><caption>{html.escape(result.title)}</caption>{rows}</table>"

def folder(name):
    """The folder of a model."""
    if name != "prose":
        raise ModelNotFoundError(f"No model {name!r}. Did you mean 'NAME:prose'?")
    return plugins().find("ecco_model_sources", "tiny").load()(name)
'''

GREETING = '''
import click

@click.command()
@click.option("--name", default="you", help="Whom to greet.")
def greet(name):
    """Greet."""
    click.echo(f"Hello {name}")
'''
SITE = "    if not capture.layers(ctx.site) or capture.get(ctx.site, 0).dim() != 2:\n"
LAST, GUARD = "    grid = LabelledArray", "    if not np.isfinite(values).all():\n"
RETURNED = '    return TokenGrid(title="Norms", quantity="norm", values=grid)\n'


def to_the_model(deed: str) -> tuple[str, str, str]:
    """The change that has the analysis do something to its model."""
    return ("targets", LAST, f"    ctx.run.lm.model.{deed}\n{LAST}")


#: Name of a fault -> the contract that finds it, the only check that does, and the changes: file, old text, new text.
FAULTS = {
    "heavy_import": ("Analysis", "test_import_is_light", ("entry", "from pathlib", "import torch\nfrom pathlib")),
    "prints": ("Analysis", "test_import_is_light", ("entry", "from pathlib", "print('hello')\nfrom pathlib")),
    "eager_target": ("Command", "test_target_is_lazy", ("entry", "@hookimpl", "import NAME.greeting\n@hookimpl")),
    "heavy_target": ("Analysis", "test_target_is_lazy", ("targets", "import html", "import torch, html")),
    "missing_target": ("Command", "test_target_is_lazy", ("entry", "greeting:greet", "greeting:great")),
    "untyped_option": ("Analysis", "test_options_are_explicit", ("targets", "order: float = 2.0", "order=2.0")),
    "swallowed_options": ("Analysis", "test_options_are_explicit", ("targets", "*, order: float = 2.0", "**order")),
    "undocumented_option": ("Analysis", "test_options_are_documented", ("targets", "order: which", "odd: which")),
    "wrong_kind": ("Analysis", "test_result_is_of_the_declared_kind", ("entry", '"TokenGrid"', '"Grid"')),
    "positions_of_the_first": (
        "Analysis", "test_result_is_of_the_declared_kind",
        ("entry", 'produces="TokenGrid"', 'produces="TokenGrid", inputs="runs"'),
        ("targets", LAST, "    [run.resolve_positions(ctx.positions) for run in ctx.runs]\n" + LAST),
    ),
    "one_kind_of_site": ("Analysis", "test_other_sites", ("targets", SITE, "    if False:\n")),
    "two_equal_labels": (
        "Analysis", "test_dims_and_labels", ("targets", '{"layer": ctx.layers,', '{"layer": [0 for _ in ctx.layers],'),
    ),
    "layers_from_one": (
        "Analysis", "test_dims_and_labels", ("targets", '"layer": ctx.layers', '"layer": [n + 1 for n in ctx.layers]'),
    ),
    "attention_left": ("Analysis", "test_inputs_are_untouched", to_the_model('set_attn_implementation("eager")')),
    "settings_left": ("Analysis", "test_inputs_are_untouched", to_the_model("generation_config.do_sample = True")),
    "dims_of_another_kind": (
        "Analysis", "test_dims_and_labels",
        ("entry", '"TokenGrid"', '"Points"'), ("targets", "TokenGrid", "Points"), ("targets", 'quantity="norm", ', ""),
    ),
    "hook_left": ("Analysis", "test_inputs_are_untouched", to_the_model("register_forward_hook(lambda *_: None)")),
    "mode_left": ("Analysis", "test_inputs_are_untouched", to_the_model("train()")),
    "weights_moved": ("Analysis", "test_inputs_are_untouched", to_the_model("transformer.wpe.weight.data[-1] += 1")),
    "capture_changed": (
        "Analysis", "test_inputs_are_untouched",
        ("targets", LAST, "    capture.get(ctx.site, 1).mul_(-1)\n" + LAST),
    ),
    "unseeded": (
        "Analysis", "test_same_seed_same_result",
        ("targets", GUARD, "    values = values + np.random.default_rng().standard_normal(values.shape)\n" + GUARD),
    ),
    "shared_generator": (
        "Analysis", "test_same_seed_same_result",
        ("targets", GUARD, "    values = values + np.random.standard_normal(values.shape)\n" + GUARD),
    ),
    "reseeds": ("Analysis", "test_same_seed_same_result", ("targets", LAST, "    np.random.seed(ctx.seed)\n" + LAST)),
    "not_data": (
        "Analysis", "test_saved_and_loaded",
        ("targets", '{"layer": ctx.layers,', '{"layer": [complex(n) for n in ctx.layers],'),
    ),
    "remembers": (
        "Analysis", "test_batch_and_padding_do_not_matter",
        ("targets", "def norms(", "KEPT = {}\n\ndef norms("),
        ("targets", RETURNED, RETURNED.replace("return ", "return KEPT.setdefault(ctx.site, ").rstrip() + ")\n"),
    ),
    "needs_two_tokens": (
        "Analysis", "test_short_input", ("targets", LAST, "    ctx.run.tokens[1]\n" + LAST),
    ),
    "silent_nan": ("Analysis", "test_no_number_is_said", ("targets", GUARD, "    if False:\n")),
    "nothing_to_show": (
        "Analysis", "test_shown_in_every_medium",
        ("entry", '"TokenGrid"', '"Fitted"'), ("targets", "import EccoError", "import Fitted, EccoError"),
        ("targets", "def norms(", "class Quiet(Fitted):\n    def blocks(self):\n        return []\n\ndef norms("),
        ("targets", RETURNED, "    return Quiet(title=ctx.run.text, parameters={})\n"),
    ),
    "not_invariant": ("Analysis", "test_declared_invariance", ("targets", "order: float = 2.0", "order: float = 1.0")),
    "shape_of_a_capture": ("Capture", "test_shape_by_dims", ("targets", "resid_post.norm(dim=-1)", "resid_post")),
    "changes_its_values": (
        "Capture", "test_values_are_untouched",
        ("targets", "return resid_post.norm(dim=-1)", "return resid_post.abs_().norm(dim=-1)"),
    ),
    "needs_no_site": ("Capture", "test_spec_names_sites", ("entry", 'target="NAME.targets:norm",',
                      'target="NAME.targets:norm", needs=("resid_last",),')),
    "from_elsewhere": (
        "Renderer", "test_nothing_comes_from_elsewhere",
        ("targets", 'f"<table>', 'f"<link rel=stylesheet href=https://example.org/a.css><table>'),
    ),
    "not_escaped": (
        "Renderer", "test_hostile_texts_are_inert",
        ("targets", "{html.escape(result.title)}", "{result.title}"),
    ),
    "texts_dropped": (
        "Renderer", "test_texts_are_kept",
        ("targets", "cell = lambda value:", 'cell = lambda value: "" if "planted" in str(value) else'),
    ),
    "no_name": ("Renderer", "test_everything_has_a_name", ("targets", 'f"<table>', 'f"<button></button><table>')),
    "new_each_time": (
        "Renderer", "test_same_result_same_output",
        ("targets", 'f"<table>', 'f"<table id=t{id(object())}>'),
    ),
    "no_nan": (
        "Renderer", "test_no_number_is_shown",
        ("targets", '    return f"<table>', '    [int(v) for _, v in result.rows]\n    return f"<table>'),
    ),
    "title_by_script": (
        "Renderer", "test_text_can_be_read",
        ("targets", "<caption>{html.escape(result.title)}</caption>", ""),
    ),
    "wrong_module": ("ModelConfig", "test_proven", ("yaml", "ln_f", "wpe")),
    "unknown_key": ("ModelConfig", "test_loads", ("yaml", "model_types:", "colour: blue\nmodel_types:")),
    "no_near_name": ("ModelSource", "test_unknown_names_are_answered", ("targets", " Did you mean 'NAME:prose'?", "")),
    "wrong_folder": ("ModelSource", "test_folder_is_safe", ("targets", '.load()(name)', ".load()(name).parent")),
    "shadows": ("Command", "test_name_is_free", ("entry", '"NAME".replace("_", "-")', '"run"')),
    "no_help": ("Command", "test_help_says_what_it_does", ("greeting", ', help="Whom to greet."', "")),
}  # fmt: skip


#: What makes the renderer one of data: no title, and the ends of lines of RFC 4180.
PAGE = '    return f"<table><caption>{html.escape(result.title)}</caption>{rows}</table>"\n'
LINES = """    import csv, io
    from ecco_core import visible
    out = io.StringIO()
    csv.writer(out).writerows([visible(str(value)) for value in row] for row in result.rows)
    return out.getvalue()
"""
DATA = (("entry", "text/html;profile=NAME", "text/csv"), ("targets", PAGE, LINES))

#: Faults of what a whole distribution imports, which therefore have one of their own.
OF_IMPORTS = ("heavy_import", "prints", "eager_target")


def write(folder: Path, distribution: str, changes: dict[str, Sequence[tuple[str, str, str]]]) -> None:
    """Write plugins, each with changes to it, as one installed distribution with an entry point for each."""
    yaml = (packaged_folder() / "gpt2.yaml").read_text(encoding="utf-8")
    for name, wanted in changes.items():
        texts = {"entry": ENTRY, "targets": TARGETS, "greeting": GREETING, "yaml": yaml}
        for file, old, new in wanted:
            assert old in texts[file], (name, old)
            texts[file] = texts[file].replace(old, new, 1 if file == "entry" else -1)
        package = folder / name
        package.mkdir()
        (package / "__init__.py").write_text(texts["entry"].replace("NAME", name), encoding="utf-8")
        (package / "targets.py").write_text(texts["targets"].replace("NAME", name), encoding="utf-8")
        (package / "greeting.py").write_text(texts["greeting"], encoding="utf-8")
        (package / "gpt2.yaml").write_text(texts["yaml"], encoding="utf-8")
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
    entries = "".join(f"{name} = {name}\n" for name in changes)
    (info / "entry_points.txt").write_text(f"[ecco]\n{entries}", encoding="utf-8")
