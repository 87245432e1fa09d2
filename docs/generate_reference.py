"""Write docs/api.md from the public names and their docstrings, and the tables of docs/plugins.md (`make docs`).

Static analysis: griffe reads the sources, nothing of them is run; what plugins register is asked of the manager.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import griffe
from generate_methods import offers, replaced, table, write

from ecco_core.options import type_name
from ecco_core.plugin.manager import plugins
from ecco_core.running import _GROUPS

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src"
PLUGINS, API = DOCS / "plugins.md", DOCS / "api.md"
#: Module of the public names -> title of their section, in order.
SECTIONS = {
    "session": "Open and run a model",
    "running": "Analyses",
    "models.interventions": "Change a model",
    "models.scores": "Scores as a module",
    "data": "Results and other values",
    "plugin": "For plugins",
    "errors": "Errors",
    "analysis": "The original library's analyses",
    "lm_plots": "The original library's figures",
}
HEAD = """# API reference

<!-- written by docs/generate_reference.py -->

The public names of `ecco_core`, read from their docstrings ([what is public, and what that means](api_policy.md)).
Analyses have [pages of their own](methods/index.md); the numerics of each plugin, functions on plain arrays, are
described in its README.
"""


def public() -> dict[str, str]:
    """Public name -> the module that it lives in, in the order of the stub."""
    found = {}
    for node in ast.parse((SOURCE / "ecco_core" / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.name] = node.module or alias.name
    return found


def api() -> str:
    """The whole page."""
    package = griffe.load("ecco_core", search_paths=[SOURCE], docstring_parser="google", allow_inspection=False)
    parts = [HEAD]
    for room, title in SECTIONS.items():
        names = {name: module for name, module in public().items() if module == room or module.startswith(f"{room}.")}
        parts += [f"## {title}\n", *(_entry(package, name, module) for name, module in names.items())]
    return "\n".join(parts)


def _entry(package: Any, name: str, module: str) -> str:
    found = package[f"{module}.{name}"] if module != name else package[name]
    parts = [f"### `{name}`\n", _code(found), _said(found)]
    if found.is_class or found.is_module:
        members = [m for m in found.members.values() if not m.is_alias and _shown(m.name) and m.docstring]
        read = [f"- `{m.name}`: {_plain(m.docstring.value.splitlines()[0])}" for m in members if _is_property(m)]
        parts += ["**Properties**\n", "\n".join(read) + "\n"] if read else []
        for member in members:
            if member.is_function and not _is_property(member):
                parts += [f"#### `{name}.{member.name}`\n", _code(member, f"{name}."), _said(member)]
    return "\n".join(part for part in parts if part)


def _is_property(member: Any) -> bool:
    return "property" in member.labels or any("property" in str(d.value) for d in getattr(member, "decorators", ()))


def _code(found: Any, before: str = "") -> str:
    """The call, as a block of code; nothing for what is not called."""
    if found.is_attribute or found.is_module:
        return ""
    if found.is_class:
        bases = f"({', '.join(map(str, found.bases))})" if found.bases else ""
        return f"```python\nclass {found.name}{bases}\n```\n"
    parameters = [p for p in found.parameters if p.name not in ("self", "cls")]
    parts, starred = [], False
    for p in parameters:
        kind = p.kind.value
        if kind == "keyword-only" and not starred:
            parts.append("*")
        starred = starred or kind in ("keyword-only", "variadic positional")
        star = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        note = f": {p.annotation}" if p.annotation is not None else ""
        default = f" = {p.default}" if p.default is not None and not star else ""
        parts.append(f"{star}{p.name}{note}{default if note else default.replace(' ', '')}")
    returns = f" -> {found.returns}" if found.returns is not None else ""
    line = f"{before}{found.name}({', '.join(parts)}){returns}"
    if len(line) > 100:
        line = f"{before}{found.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"
    return f"```python\n{line}\n```\n"


def _said(found: Any) -> str:
    """A docstring as Markdown."""
    if not found.docstring:
        return ""
    parts = []
    for section in found.docstring.parse("google", warnings=False):
        kind, value = section.kind.value, section.value
        if kind == "text":
            parts.append(_plain(value))
        elif kind in ("parameters", "attributes", "raises"):
            items = "\n".join(f"- `{_named(one)}`: " + _plain(one.description).replace("\n", "\n  ") for one in value)
            parts.append(f"**{'Arguments' if kind == 'parameters' else kind.title()}**\n\n{items}")
        elif kind in ("returns", "yields"):
            parts.append(f"**{kind.title()}** " + " ".join(_plain(one.description) for one in value))
        elif kind == "admonition":
            parts.append(f"**{section.title}**\n\n{_plain(value.description)}")
    return "\n\n".join(parts) + "\n"


def _shown(name: str) -> bool:
    return name == "__call__" or not name.startswith("_")


def _named(one: Any) -> str:
    """Whose line it is: a name, two names that share a line, or an error."""
    name = getattr(one, "name", "")
    return f"{name} {one.annotation}" if name.endswith(",") else name or str(one.annotation).strip("()")


def _plain(text: str) -> str:
    """Markdown of a docstring's text: literals, and blocks after a double colon."""
    text = text.replace("``", "`")
    block = r"::\n\n((?:[ ]{4}.*\n?|\n)+)"
    return re.sub(block, lambda m: f":\n\n```python\n{textwrap.dedent(m[1]).strip()}\n```\n", text)


def hooks() -> str:
    """The hooks, as their docstrings say."""
    package = griffe.load("ecco_core.plugin.hookspecs", search_paths=[SOURCE], allow_inspection=False)
    specs = griffe.load("ecco_core.plugin.specs", search_paths=[SOURCE], allow_inspection=False)
    rows = []
    for name, function in package["EccoSpecs"].members.items():
        made = re.search(r"\[(\w+)\]", str(function.returns))
        assert made
        link = f"[`{made[1]}`](api.md#{made[1].lower()})" if made[1] in specs.members else f"`{made[1]}`"
        rows.append((f"`{name}`", link, _plain(function.docstring.value.split("\n")[0])))
    return table(("hook", "returns a list of", "what for"), rows)


def groups() -> str:
    """The option groups that core owns."""
    rows = []
    for group, options in _GROUPS.items():
        for name, annotation, default, text in options:
            shown = "" if default is None else f"`{default}`"
            rows.append((f"`{group}`", f"`{name}`", type_name(annotation).replace("'", "`"), shown, text))
    return table(("group", "option", "type", "default", "what it says"), rows)


def renderers() -> str:
    """What shows results, of all of our plugins."""
    ours = {o.distribution for o in offers().values()} | {"ecco-html", "ecco-matplotlib", "ecco-terminal"}
    rows = []
    for offer in plugins().offers("ecco_renderers"):
        if offer.distribution in ours:
            spec = offer.spec
            kinds, ends = ", ".join(f"`{kind}`" for kind in spec.accepts), ", ".join(f"`{s}`" for s in spec.suffixes)
            rows.append((f"`{spec.name}`", offer.distribution, kinds, f"`{spec.media_type}`", ends, spec.summary))
    return table(("renderer", "brought by", "shows", "as", "files", "what one sees"), rows)


def errors() -> str:
    """The error classes."""
    module = griffe.load("ecco_core.errors", search_paths=[SOURCE], allow_inspection=False)
    rows = [
        (f"`{name}`", f"`{found.bases[0]}`", found.docstring.value.split("\n")[0])
        for name, found in module.members.items()
        if not found.is_alias and found.is_class
    ]
    return table(("error", "is a kind of", "when"), rows)


def pages() -> dict[Path, str]:
    """Path -> text as it should be."""
    text = PLUGINS.read_text(encoding="utf-8")
    for what, part in (("hooks", hooks), ("groups", groups), ("renderers", renderers), ("errors", errors)):
        text = replaced(text, what, part())
    return {API: api(), PLUGINS: text}


if __name__ == "__main__":
    write(pages())
