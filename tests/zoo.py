"""Plugins that do what they should not, each a distribution of its own, and the keeper, who looks at them."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import warnings
from pathlib import Path

HEAD = """
import sys
from ecco_core import AnalysisSpec, CaptureSpec, CommandSpec, ModelSource, RendererSpec, Table, hookimpl
HERE = __name__
"""
ANALYSIS = (
    "@hookimpl\ndef ecco_analyses(): return [AnalysisSpec(name={name!r}, summary='x', target=HERE + ':go', {more})]"
)
TABLE = "Table(columns=['a'], rows=[[1]])"
AT_RUN = HEAD + ANALYSIS.format(name="beast", more="produces='Table'") + "\ndef go(ctx):\n    m = ctx.run.lm.model\n"
HOOKS = """
    m.register_forward_pre_hook(lambda *_: None)
    m.transformer.h[0].register_full_backward_hook(lambda *_: None)
    next(m.parameters()).register_hook(lambda g: g)
    import torch.nn.modules.module as everywhere
    everywhere.register_module_forward_hook(lambda *_: None)
"""
RENDERER = (
    HEAD + "@hookimpl\ndef ecco_renderers(): return [RendererSpec(name='beast', summary='x', target=HERE + ':go', "
    "media_type='text/html', accepts=['TokenScores'], priority=999)]\ndef go(result):\n    "
)
CAPTURE = (
    HEAD + "@hookimpl\ndef ecco_captures(): return [CaptureSpec(name={name!r}, summary='x', target=HERE + ':go')]\n"
)

#: name -> its module; what a pip-installed plugin of that name would be.
ANIMALS = {
    # when it is imported
    "raises-at-import": "raise ValueError('no')",
    "exits-at-import": "raise SystemExit(3)",
    "is-cancelled": "import asyncio\nraise asyncio.CancelledError",
    "raises-its-own": "class Odd(BaseException): pass\nraise Odd",
    "cannot-say": "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
    "writes-to-the-terminal": "raise ValueError('\\x1b]0;owned\\x07\\u202e')",
    "lacks-a-library": "import a_library_that_does_not_exist",
    "prints-at-import": HEAD + "print('hello')\n@hookimpl\ndef ecco_analyses(): return []",
    "imports-slowly": HEAD + "import time; time.sleep(0.6)\n@hookimpl\ndef ecco_analyses(): return []",
    "changes-switches-at-import": HEAD
    + "import random, numpy, torch\nrandom.seed(0); numpy.random.seed(0); torch.manual_seed(0)\n"
    "torch.set_grad_enabled(False); torch.set_default_dtype(torch.float64); numpy.seterr(all='raise')\n"
    "@hookimpl\ndef ecco_analyses(): return []",
    "wants-a-newer-core": "raise SystemExit('it was imported')",
    "wants-an-older-core": "raise SystemExit('it was imported')",
    "cannot-be-parsed": "raise SystemExit('it was imported')",
    # when its hooks are called
    "raises-at-hook": HEAD + "@hookimpl\ndef ecco_analyses(): raise ValueError('no')",
    "returns-another-thing": HEAD + "@hookimpl\ndef ecco_renderers(): return [{}]",
    "offers-without-end": HEAD
    + "import itertools\n@hookimpl\ndef ecco_model_sources(): return (ModelSource(name=f's{n}', summary='x', "
    "target='json:dumps') for n in itertools.count())",
    "names-by-number": HEAD + ANALYSIS.format(name="beast", more="aliases=(5, None)"),
    # when what it offers is loaded
    "shadows-an-analysis": HEAD + ANALYSIS.format(name="saliency", more="") + "\ndef go(ctx): ...",
    "shadows-an-alias": HEAD + ANALYSIS.format(name="ig", more="") + "\ndef go(ctx): ...",
    "shadows-a-command": HEAD + "import click\n@hookimpl\ndef ecco_commands():\n"
    "    return [CommandSpec(name='run', summary='x', target=HERE + ':go')]\n@click.command\ndef go(): print('taken')",
    "shadows-a-site": CAPTURE.format(name="resid_post") + "def go(values): raise ValueError('taken')",
    "shadows-a-source": HEAD
    + "@hookimpl\ndef ecco_model_sources(): return [ModelSource(name='tiny', summary='x', target='json:dumps')]",
    "is-no-function": HEAD + ANALYSIS.format(name="beast", more="") + "\ngo = 5",
    "has-no-signature": HEAD + ANALYSIS.format(name="beast", more="") + "\ngo = dict",
    "takes-the-seed": HEAD + ANALYSIS.format(name="beast", more="") + "\ndef go(ctx, *, seed: str = ''): ...",
    "is-no-command": HEAD
    + "@hookimpl\ndef ecco_commands(): return [CommandSpec(name='beast', summary='x', target='json:dumps')]",
    "has-broken-yaml": HEAD
    + "from pathlib import Path\n@hookimpl\ndef ecco_model_configs(): return [Path(__file__).with_name('broken.yaml')]",
    "exits-at-load": HEAD
    + "@hookimpl\ndef ecco_analyses(): return [AnalysisSpec(name='beast', summary='x', target='zoo_exit:go')]",
    # when it works
    "raises-at-run": AT_RUN + "    raise ValueError('no')",
    "exits-at-run": AT_RUN + "    sys.exit(3)",
    "returns-text": AT_RUN + "    return 'rubbish'",
    "returns-no-end": AT_RUN + "    import itertools\n    return itertools.count()",
    "leaves-hooks": AT_RUN + HOOKS + f"    return {TABLE}",
    "leaves-hooks-and-raises": AT_RUN + HOOKS + "    raise ValueError('no')",
    "changes-the-model": AT_RUN
    + "    m.train(); m.requires_grad_(False); m.lm_head.forward = lambda x: x\n"
    + f"    next(m.parameters()).requires_grad_().sum().backward()\n    return {TABLE}",
    "changes-switches-at-run": AT_RUN
    + "    import numpy, torch\n    torch.set_grad_enabled(False); torch.set_default_dtype(torch.float64)\n"
    f"    torch.set_num_threads(2); numpy.seterr(all='raise')\n    return {TABLE}",
    "seeds-globally": AT_RUN
    + "    import random, numpy, torch\n    random.seed(0); numpy.random.seed(0); torch.manual_seed(0)\n"
    f"    return {TABLE}",
    "captures-and-leaves-hooks": CAPTURE.format(name="beast")
    + "def go(values):\n    import torch.nn.modules.module as m\n    m.register_module_forward_hook(lambda *_: None)\n"
    "    return values",
    "captures-another-shape": CAPTURE.format(name="beast") + "def go(values): return values[0]",
    "renders-and-raises": RENDERER + "raise ValueError('no')",
    "renders-and-exits": RENDERER + "sys.exit(3)",
    "renders-rubbish": RENDERER + "return 5",
    "renders-without-end": RENDERER + "return iter(int, 1)",
    "renders-and-leaves-hooks": RENDERER
    + "import torch.nn.modules.module as m\n    m.register_module_forward_hook(lambda *_: None)\n    return 'page'",
}
REQUIRES = {
    "cannot-be-parsed": "ecco-core is nice",
    "wants-a-newer-core": "ecco-core>=99",
    "wants-an-older-core": "ecco-core<0.1",
}
GOOD = (
    HEAD
    + "import click\n"
    + ANALYSIS.format(name="good", more="produces='Table'")
    + f"\ndef go(ctx): return {TABLE}\n"
    + "@hookimpl\ndef ecco_renderers(): return [RendererSpec(name='good', summary='x', target=HERE + ':show', "
    "media_type='text/x-good', suffixes=['.good'])]\ndef show(result): return 'shown'\n"
    "@hookimpl\ndef ecco_captures(): return [CaptureSpec(name='good', summary='x', target=HERE + ':read')]\n"
    "def read(values): return values * 2\n"
    "@hookimpl\ndef ecco_commands(): return [CommandSpec(name='good', summary='x', target=HERE + ':say')]\n"
    "@click.command\ndef say(): print('said')\n"
    "@hookimpl\ndef ecco_model_sources(): return [ModelSource(name='good', summary='x', target=HERE + ':where')]\n"
    "def where(name):\n    import ecco_tiny\n    from pathlib import Path\n    "
    "return next(p for p in Path(ecco_tiny.__file__).parent.rglob('config.json') if p.parent.name == name).parent\n"
)


def install(name: str, code: str, folder: Path) -> Path:
    """Lay out a distribution as pip would, in a folder of its own, and return that folder."""
    module = "zoo_" + name.replace("-", "_")
    place = folder / name
    info = place / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (place / f"{module}.py").write_text(code)
    (place / "broken.yaml").write_text("schema: 1\nmodel_types: gpt2\n")
    (place / "zoo_exit.py").write_text("raise SystemExit(3)")
    requires = f"Requires-Dist: {REQUIRES[name]}\n" if name in REQUIRES else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: zoo-{name}\nVersion: 1.0\n{requires}")
    (info / "entry_points.txt").write_text(f"[ecco]\nx = {module}\n")
    return place


def program(*arguments: str) -> tuple[str, str, object]:
    """What ``ecco`` prints, what it says on standard error, and its exit code."""
    from ecco_core.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as error:
            code = error.code
    return out.getvalue(), err.getvalue(), code or 0


class Keeper:
    """Runs neighbours and animals, and looks whether anything is changed after."""

    def __init__(self) -> None:
        import ecco_core as ecco

        self.ecco, self.lm = ecco, ecco.from_pretrained("tiny:prose")
        self.run = self.lm.generate("The captain is called Nora.", max_new_tokens=2)
        self.expected = self.run.analyze("ecco-captum:saliency")
        self.own = self.lm.model.register_forward_hook(lambda *_: None)  # a user's
        self.page = self.expected.to_html()
        self.read = self.run.capture("resid_post", layers=0).numpy("resid_post", 0)

    def state(self) -> dict[str, object]:
        """All that must not change, in words."""
        import torch

        from ecco_core.testing import comparing

        process = {name: repr(value) for name, value in comparing.state_of_process().items()}
        everywhere = vars(torch.nn.modules.module)
        hooks = {name: len(value) for name, value in everywhere.items() if name.endswith("_hooks") and value}
        weights = [
            (len(p._backward_hooks or ()), len(p._post_accumulate_grad_hooks or ())) for p in self.lm.model.parameters()
        ]
        return {
            **process,
            **comparing.state_of_model(self.lm.model),
            "threads": torch.get_num_threads(),
            "hooks everywhere": hooks,
            "hooks on weights": weights,
            "the user's hook": self.own.id in self.lm.model._forward_hooks,
        }

    def neighbours(self, alone: bool) -> dict[str, object]:
        """Whether the good plugin and ours still do what they do."""
        import numpy as np

        name = "ecco-captum:saliency"
        told = {
            "an analysis of ours": np.array_equal(self.run.analyze(name).values.values, self.expected.values.values),
            "another's analysis": self.run.analyze("good").rows == ((1,),),
            "a renderer": self.ecco.Table(columns=["a"], rows=[]).save("t.good").read_text() == "shown",
            "plain text in a notebook": "scores" in self.expected._repr_mimebundle_()["text/plain"],
            "a site": np.array_equal(self.run.capture("resid_post", layers=0).numpy("resid_post", 0), self.read),
            "a capture": np.array_equal(self.run.capture("good", layers=0).numpy("good", 0), self.read * 2),
            "a command": program("good")[::2] == ("said\n", 0),
        }
        if not alone:
            helps = [["--help"], ["run", "--help"], ["run", "good", "--help"], ["models", "show", "gpt2"]]
            told["help"] = [program(*of)[2] for of in helps] == [0] * 4
            lm = self.ecco.from_pretrained("good:prose")
            told["a model source"] = self.ecco.from_pretrained("ecco-tiny:tiny:prose").model_type == lm.model_type
            told["the program"] = program("run", name, "-m", "good:prose", "-t", "The captain")[2] == 0
        return told

    def use(self, name: str) -> str:
        """Have an animal do what it does at work, and return what was said."""
        said: list[str] = []
        kind = f"zoo-{name}:beast"
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                if name.startswith("captures"):
                    self.run.capture(kind, layers=0)
                elif name.startswith("renders"):
                    said.append(self.expected._repr_mimebundle_()["text/plain"])
                elif name.startswith("shadows"):
                    self.run.analyze("saliency" if name == "shadows-an-analysis" else "ig")
                else:
                    said += self.run.analyze(kind).notes
            except self.ecco.EccoError as error:
                said.append(str(error))
        return "\n".join([*said, *(str(one.message) for one in warned)])

    def look(self, folders: list[Path]) -> dict[str, object]:
        """Install these plugins, and tell what the program says and what came of everything else."""
        from ecco_core.plugin.manager import plugins

        modules = set(sys.modules)
        sys.path[:0] = map(str, folders)
        plugins.cache_clear()
        before = self.state()
        discovered = io.StringIO()
        with contextlib.redirect_stderr(discovered):
            plugins()
        alone = len(folders) == 2
        texts = {
            "discovery": discovered.getvalue(),
            "list_json": json.loads(program("plugins", "list", "--json")[0]),
            "check_json": json.loads(program("plugins", "check", "--json")[0]),
        }
        if not alone:
            texts |= {"list": program("plugins", "list"), "check": program("plugins", "check")}
        used = {folder.name: self.use(folder.name) for folder in folders[1:]} if alone else {}
        neighbours = self.neighbours(alone)
        after = self.state()
        changed = [what for what in before if before[what] != after.get(what)]
        del sys.path[: len(folders)]
        for module in set(sys.modules) - modules:
            if module.startswith("zoo_"):
                del sys.modules[module]
        return {**texts, "used": used, "neighbours": neighbours, "changed": changed}


def main(folder: Path) -> None:
    """Look at each animal alone, then at all of them, and print what was seen as JSON."""
    import torch

    from ecco_core import guard

    torch.set_num_threads(1)
    guard.SLOW = 0.5
    random.seed(1)
    keeper = Keeper()
    good = install("good", GOOD, folder)
    places = {name: install(name, code, folder) for name, code in ANIMALS.items()}
    seen = {name: keeper.look([good, place]) for name, place in places.items()}
    seen["all"] = keeper.look([good, *places.values()])
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
