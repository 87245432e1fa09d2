"""The house rules that a machine can hold: light imports, one import direction, public names, size."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ecco_core

ROOT = Path(__file__).parent.parent
CORE = ROOT / "src" / "ecco_core"
HEAVY = {"torch", "transformers", "captum", "numpy", "rich", "sklearn", "pandas", "matplotlib", "scipy"}

# What a room may import from, besides itself; calls upward happen only where named in LATE.
ROOMS = [
    "errors",
    "products",
    "files",
    "interrupts",
    "data",
    "texts",
    "guard",
    "plugin",
    "registry",
    "models",
    "proving",
    "options",
    "rendering",
    "running",
    "classic",
    "session",
    "analysis",
    "lm_plots",
    "cli",
]
LATE = {("data", "rendering")}
PACKAGES = sorted(path.name for path in ROOT.glob("plugins/*/*/src/*") if (path / "__init__.py").exists())


def modules_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json\nprint(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name.split(".")[0] for name in json.loads(out.splitlines()[-1])}


def test_what_runs_a_known_model_does_not_import_the_proofs():
    code = "import ecco_core.session.run, ecco_core.session.opening, ecco_core.models.scores, sys\n"
    code += "assert not [m for m in sys.modules if m.startswith('ecco_core.proving.')]"
    subprocess.run([sys.executable, "-c", code], check=True)
    light = "import ecco_core.registry.lookup as lookup\nassert lookup.find('gpt2')"
    assert not modules_after(light) & HEAVY


def test_importing_ecco_core_imports_nothing_heavy():
    assert not modules_after("import ecco_core") & {*HEAVY, "attr", "pluggy", "click"}


@pytest.mark.parametrize(
    "arguments", [["plugins", "list"], ["plugins", "list", "--json"], ["--help"], ["run", "--help"], ["models", "list"]]
)
def test_listing_imports_nothing_heavy(arguments):
    code = (
        f"from ecco_core.cli.main import main\ntry: main({arguments!r})\nexcept SystemExit as e: assert not e.code, e"
    )
    assert not modules_after(code) & HEAVY


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency", "input_x_gradient"])
def test_the_help_of_a_method_imports_neither_torch_nor_captum(method):
    code = f"from ecco_core.cli.main import main\ntry: main(['run', {method!r}, '--help'])\nexcept SystemExit: pass"
    assert not modules_after(code) & (HEAVY - {"numpy"})


@pytest.mark.parametrize("package", PACKAGES)
def test_a_plugin_is_light_to_import(package):
    assert not modules_after(f"import {package}") & HEAVY


def imports(path: Path) -> list[tuple[str, list[str], bool]]:
    """(module, names, whether it is inside a function or under TYPE_CHECKING) of every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            inner |= {id(child) for child in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, [a.name for a in node.names], id(node) in inner))
        elif isinstance(node, ast.Import):
            found += [(a.name, [], id(node) in inner) for a in node.names]
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_cores_rooms_import_one_way():
    wrong = []
    for path in CORE.rglob("*.py"):
        here = path.relative_to(CORE).parts[0].removesuffix(".py")
        if here in ("__init__", "testing"):
            continue
        for module, names, inner in imports(path):
            if module.split(".")[0] != "ecco_core":
                continue
            there = [room_of(module)] if "." in module else [n for n in names if n in ROOMS]
            for room in there:
                upward = ROOMS.index(room) > ROOMS.index(here)
                if upward and not (inner and ((here, room) in LATE or typing_only(path, module))):
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def typing_only(path: Path, module: str) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return any(isinstance(n, ast.ImportFrom) and n.module == module for b in blocks for n in ast.walk(b))


def plugin_files() -> list[Path]:
    return [*ROOT.glob("plugins/*/*/src/**/*.py"), *ROOT.glob("examples/*/src/**/*.py")]


def test_plugins_import_public_names_of_core_and_never_each_other():
    packages = {p.name for p in [*ROOT.glob("plugins/*/*/src/*"), *ROOT.glob("examples/*/src/*")]}
    assert {"ecco_captum", "ecco_lens", "ecco_html", "ecco_terminal", "ecco_tiny", "ecco_norms"} <= packages
    wrong = []
    for path in plugin_files():
        own = path.relative_to(ROOT).parts[path.relative_to(ROOT).parts.index("src") + 1]
        for module, names, _ in imports(path):
            top = module.split(".")[0]
            if top == "ecco_core" and (module != "ecco_core" or not set(names) <= set(ecco_core.__all__)):
                wrong.append(f"{path.relative_to(ROOT)}: from {module} import {names}")
            if top in packages - {own}:
                wrong.append(f"{path.relative_to(ROOT)} imports the plugin {top}")
    assert not wrong


def test_every_public_name_is_there():
    for name in ecco_core.__all__:
        assert getattr(ecco_core, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ecco_core.nonsense


def test_no_submodule_shadows_a_public_function():
    modules = {p.stem for p in CORE.glob("*.py")} | {p.name for p in CORE.iterdir() if p.is_dir()}
    assert modules & set(ecco_core.__all__) == {"analysis", "lm_plots"}  # the modules themselves are the public names


def lines(*rooms: str) -> int:
    files = [p for r in rooms for p in ([CORE / f"{r}.py"] if (CORE / f"{r}.py").exists() else (CORE / r).glob("*.py"))]
    return sum(p.read_text(encoding="utf-8").count("\n") for p in files)


def test_core_is_thin():
    assert lines("data", "plugin", "options", "running", "rendering") <= 2000
    assert lines("models", "session") <= 3500
    assert lines("guard", "files", "interrupts") <= 400
    assert lines("texts") <= 275
    assert lines("products") <= 50
    assert lines("classic", "lm_plots", "analysis") <= 450
    assert lines("registry") <= 775
    assert lines("proving") <= 1725


def test_the_architecture_page_tells_the_true_sizes():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)(?:\.py|/)` \| .* \| (\d+) \|$", page, re.MULTILINE))
    assert set(rows) == set(ROOMS)
    for room, told in rows.items():
        assert abs(lines(room) - int(told)) <= 0.1 * int(told), f"{room} has {lines(room)} lines"
