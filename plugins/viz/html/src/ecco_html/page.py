"""A result's markup as a self-contained fragment, and a fragment as a complete document."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

import attrs

from ecco_html import palette
from ecco_html.escape import escaped, script_json

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_DOCUMENT_STYLE = """\
:root{color-scheme:light dark;--ecco-paper:#fff}
body{margin:0 auto;max-width:64rem;padding:2rem 1.25rem 4rem;font:1rem/1.5 system-ui,sans-serif;
background:var(--ecco-paper);color:#1c1c1e;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){:root{--ecco-paper:#16171a}body{color:#e6e6e6}}
@media print{:root{--ecco-paper:#fff}body{padding:0;color:#1c1c1e}}"""

#: `view` of a part -> its scripts and styles, besides what all pages share.
VIEWS = {
    "grid": ("grid.js", "grid.css"),
    "patterns": ("grid.js", "grid.css", "patterns.js", "patterns.css"),
    "components": ("components.js", "text.css", "components.css"),
    "points": ("points.js", "points.css"),
    "predictions": ("predictions.js", "predictions.css"),
    "token_scores": ("token_scores.js", "text.css"),
}


@attrs.frozen
class Part:
    """A piece of a page.

    Attributes:
        markup: what can be read without scripts.
        view: the key in `VIEWS` of what brings it to life with `data`, if there are any.
    """

    markup: str
    view: str = ""
    data: object = None


_LITERAL = re.compile(r'("[^"]*"|`[^`]*`)')
_SPARE = ((r"\s*([{(\[,;=?:&|<>+*/%!-])\s*", r"\1"), (r"\s*([)\]}]) *", r"\1"), (r"}\n", "}"))
_SPARE_STYLE = ((r"\s*([{};,])\s*", r"\1"), (r": +", ":"), (r" ([>+]) ", r"\1"), (r";}", "}"))


@functools.cache
def asset(name: str) -> str:
    """Return the text of a script or style of this package, without comments and blanks that mean nothing.

    Scripts end statements with semicolons, have no regular expressions and no template within another.
    """
    text = files("ecco_html").joinpath(name).read_text(encoding="utf-8")
    lines = (re.sub(r"(^|\s)(//|/\*) .*", "", line).strip() for line in text.splitlines())
    parts = _LITERAL.split("\n".join(line for line in lines if line))
    for rule, kept in _SPARE_STYLE if name.endswith(".css") else _SPARE:
        parts[::2] = [re.sub(rule, kept, part) for part in parts[::2]]
    return "".join(parts)


@functools.cache
def code(*views: str) -> tuple[str, str]:
    """Return the script and the style of a page with these views."""
    names = list(dict.fromkeys(name for view in views for name in VIEWS[view]))
    style = "\n".join(asset(name) for name in ("page.css", *(name for name in names if name.endswith(".css"))))
    scripts = [name for name in names if name.endswith(".js")]
    scripts = ["parts.js", *scripts, "page.js"] if scripts else ["page.js"]
    colours = (palette.FOR, palette.AGAINST, palette.AMOUNT, palette.OPAQUE)
    known = f"const [FOR, AGAINST, AMOUNT, OPAQUE] = {script_json(colours)}, views = {{}};"
    body = "\n".join([known, *map(asset, scripts)])
    mark = hashlib.sha256((body + style).encode()).hexdigest()[:12]
    return f'(() => {{\nconst MARK = "{mark}";\n{body}\n}})();', style


def wrap(parts: Sequence[Part]) -> str:
    """Return `parts` in a fragment that a script, where scripts run, moves into a shadow root and brings to life.

    The markup alone must be readable: many hosts strip scripts, styles and attributes.
    """
    script, style = code(*sorted({part.view for part in parts if part.view}))
    mark = script.split('MARK = "', 1)[1][:12]
    markup = "\n".join(map(_part, parts))
    return (
        f'<div class="ecco-html" data-ecco-html="{mark}" data-lm-suppress-shortcuts="true">\n{markup}\n'
        f'<script type="text/css">\n{style}\n</script>\n<script>\n{script}\n</script>\n</div>'
    )


def _part(part: Part) -> str:
    """Its markup in a box, and what its script needs."""
    if part.data is None:
        return f'<div class="piece">\n{part.markup}\n</div>'
    return (
        f'<div class="piece" data-view="{part.view}">\n{part.markup}\n</div>\n'
        f'<script type="application/json">{script_json(part.data)}</script>'
    )


def document(fragment: str, title: str) -> str:
    """Return a whole HTML document around `fragment`; its policy forbids it to load anything."""
    return (
        '<!doctype html>\n<html lang="en" data-ecco-document>\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{_DOCUMENT_STYLE}\n</style>\n</head>\n"
        f"<body>\n<main>\n{fragment}\n</main>\n</body>\n</html>\n"
    )
