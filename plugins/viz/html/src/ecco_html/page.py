"""A result's markup as a self-contained fragment, and a fragment as a complete document."""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files

from ecco_html.escape import escaped, script_json

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_DOCUMENT_STYLE = """\
:root{color-scheme:light dark}
body{margin:0 auto;max-width:64rem;padding:2rem 1.25rem 4rem;font:1rem/1.5 system-ui,sans-serif;
background:#fff;color:#1c1c1e;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){body{background:#16171a;color:#e6e6e6}}
@media print{body{padding:0;background:#fff;color:#1c1c1e}}"""


@functools.cache
def asset(name: str) -> str:
    """Return the text of a file of this package."""
    return files("ecco_html").joinpath(name).read_text(encoding="utf-8").strip()


@functools.cache
def script(*names: str) -> str:
    """Return the files called `names` and the one that mounts a page, as one closed script."""
    parts = "\n".join(asset(name) for name in (*names, "page.js"))
    mark = hashlib.sha256((parts + asset("page.css")).encode()).hexdigest()[:12]
    return f'(() => {{\n"use strict";\nconst MARK = "{mark}";\n{parts}\n}})();'


def wrap(markup: str, data: object = None, scripts: tuple[str, ...] = ()) -> str:
    """Return `markup` in a fragment that a script, where scripts run, moves into a shadow root and brings to life.

    The markup alone must be readable: many hosts strip scripts, styles and attributes.
    """
    code = script(*scripts)
    mark = code.split('MARK = "', 1)[1][:12]
    payload = "" if data is None else f'\n<script type="application/json">{script_json(data)}</script>'
    return (
        f'<div class="ecco-html" data-ecco-html="{mark}" data-lm-suppress-shortcuts="true">\n{markup}\n'
        f'<script type="text/css">\n{asset("page.css")}\n</script>{payload}\n<script>\n{code}\n</script>\n</div>'
    )


def document(fragment: str, title: str) -> str:
    """Return a whole HTML document around `fragment`; its policy forbids it to load anything."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{_DOCUMENT_STYLE}\n</style>\n</head>\n"
        f"<body>\n{fragment}\n</body>\n</html>\n"
    )
