"""A result's markup as a self-contained fragment, and a fragment as a complete document."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ecco_html.assets import code
from ecco_html.escape import escaped, script_json

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_DOCUMENT_STYLE = """\
:root{color-scheme:light dark;--ecco-paper:#fff}
body{margin:0 auto;max-width:64rem;padding:2rem 1.25rem 4rem;font:1rem/1.5 system-ui,sans-serif;
background:var(--ecco-paper);color:#1c1c1e;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){:root{--ecco-paper:#16171a}body{color:#e6e6e6}}
@media (scripting:enabled){.piece{animation:wait 4s}}
@keyframes wait{from,to{display:none}}
@media print{:root{--ecco-paper:#fff}body{padding:0;color:#1c1c1e}}"""


@attrs.frozen
class Part:
    """A piece of a page.

    Attributes:
        markup: what can be read without scripts.
        view: the key in `assets.VIEWS` of what brings it to life with `data`, if there are any.
    """

    markup: str
    view: str = ""
    data: object = None


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
