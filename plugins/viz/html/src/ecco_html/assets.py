"""The scripts and styles of the views, squeezed: each page carries those that it needs."""

from __future__ import annotations

import collections
import functools
import hashlib
import re
import string
from importlib.resources import files

from ecco_html import palette
from ecco_html.escape import script_json

#: `view` of a part -> its scripts and styles, besides what all pages share.
VIEWS = {
    "grid": ("grid.js", "grid.css"),
    "patterns": ("grid.js", "grid.css", "patterns.js", "patterns.css"),
    "components": ("components.js", "text.css", "components.css"),
    "points": ("points.js", "points.css"),
    "predictions": ("predictions.js", "predictions.css"),
    "curves": ("curves.js", "curves.css"),
    "token_scores": ("token_scores.js", "text.css"),
}

_LITERAL = re.compile(r'("[^"]*"|`[^`]*`)')
_SPARE = ((r"\s*([{(\[,;=?:&|<>+*/%!-])\s*", r"\1"), (r"\s*([)\]}]) *", r"\1"), (r"}\n", "}"))
_SPARE_STYLE = ((r"\s*([{};,])\s*", r"\1"), (r": +", ":"), (r" ([>+]) ", r"\1"), (r";}", "}"))
_INSERTED = re.compile(r"\${(.*?)}")
#: What a script names: variables, functions and parameters; and what is fixed: properties, and what Python hands over.
_NAMED = re.compile(r"(?:const|let|function) (\w+)|(\w+)=>|[{([,](\w+)(?=[,)\]}=])")
_FIXED = re.compile(r"(?<!\.)\.(\w+)|(\w+):|views\.\w+=\(part,{(.*?)}\)=>")
_KEPT = {"views", "null", "true", "false", "this", "undefined"}
_NAME = re.compile(r"(?<![\w$])(?<![^.]\.)[a-zA-Z]\w*")


@functools.cache
def asset(name: str) -> str:
    """Return the text of a script or style of this package, without comments and blanks that mean nothing.

    Scripts end statements with semicolons, quote by " only, have no regular expressions and no template within another.
    """
    text = files("ecco_html").joinpath(name).read_text(encoding="utf-8")
    if name.endswith(".css"):  # a rem is 16 px wherever the page is shown; classic notebooks make it 10
        text = re.sub(r"([\d.]+)rem", lambda size: f"{16 * float(size[1]):g}px", text)
    lines = (re.sub(r"(^|\s)(//|/\*) .*", "", line).strip() for line in text.splitlines())
    parts = _LITERAL.split("\n".join(line for line in lines if line))
    for rule, kept in _SPARE_STYLE if name.endswith(".css") else _SPARE:
        parts[::2] = [re.sub(rule, kept, part) for part in parts[::2]]
    return "".join(parts)


def shortened(script: str) -> str:
    """Return a squeezed script whose own names are one or two letters, the same everywhere.

    A name that is also used as a property, or for what Python hands over, stays; so do those shorter than 3 letters.
    """
    parts = _LITERAL.split(script)
    code = "\n".join([*parts[::2], *(text for part in parts[1::2] for text in _INSERTED.findall(part))])
    fixed = {name for found in _FIXED.findall(code) for part in found for name in re.findall(r"\w+", part)}
    named = {name for found in _NAMED.findall(code) for name in found if len(name) > 2 and name[0].islower()}
    words = collections.Counter(_NAME.findall(code))
    letters = (a + b for b in ("", *string.ascii_uppercase) for a in string.ascii_letters if a + b not in words)
    new = dict(zip(sorted(named - fixed - _KEPT, key=lambda name: (-words[name], name)), letters))

    def renamed(text: str) -> str:
        pieces = _LITERAL.split(text)
        pieces[::2] = [_NAME.sub(lambda found: new.get(found[0], found[0]), piece) for piece in pieces[::2]]
        pieces[1::2] = [inserted(piece) if piece[0] == "`" else piece for piece in pieces[1::2]]
        return "".join(pieces)

    def inserted(template: str) -> str:
        return _INSERTED.sub(lambda found: "${" + renamed(found[1]) + "}", template)

    return renamed(script)


@functools.cache
def code(*views: str) -> tuple[str, str]:
    """Return the script and the style of a page with these views."""
    names = list(dict.fromkeys(name for view in views for name in VIEWS[view]))
    style = "\n".join(asset(name) for name in ("page.css", *(name for name in names if name.endswith(".css"))))
    scripts = [name for name in names if name.endswith(".js")]
    scripts = ["parts.js", *scripts, "page.js"] if scripts else ["page.js"]
    colours = (palette.FOR, palette.AGAINST, palette.AMOUNT, palette.OPAQUE)
    known = f"const [FOR,AGAINST,AMOUNT,OPAQUE]={script_json(colours)},views={{}};"
    body = shortened("\n".join([known, *map(asset, scripts)]))
    mark = hashlib.sha256((body + style).encode()).hexdigest()[:12]
    return f'(() => {{\nconst MARK = "{mark}";\n{body}\n}})();', style
