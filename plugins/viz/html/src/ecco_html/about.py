"""What stands around every kind of result: its title, its notes, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator

from ecco_core import Provenance, Result, visible
from ecco_html.escape import escaped


def title_of(result: Result) -> str:
    """The result's title, or what it is."""
    return result.title or result.provenance.analysis.replace("_", " ") or result.kinds()[0]


def stack_of(result: Result) -> str:
    """The stack whose positions a result's are, as far as it is known; else empty."""
    return visible(str(result.provenance.options.get("stack") or ""))


def head(result: Result, lines: tuple[str, ...] = ()) -> str:
    """Title, one line on the method and model, further `lines`, and the notes."""
    origin = result.provenance
    made = " · ".join(escaped(part) for part in (origin.analysis, origin.model, *origin.interventions) if part)
    subtitle = [f'<div class="quiet">{text}</div>' for text in (made, *map(escaped, lines)) if text]
    title = (
        '<div class="title" role="heading" aria-level="3" style="font-weight:bold;font-size:1.15em">'
        f"{escaped(title_of(result))}</div>"
    )
    return "\n".join([title, *subtitle, notes(result)]).strip()


def notes(result: Result) -> str:
    """What a reader must know, as a list that stands out."""
    if not result.notes:
        return ""
    items = "".join(f"<li>{escaped(note)}</li>" for note in result.notes)
    style = "border-left:3px solid;padding-left:1.6em;margin:.6em 0"
    return f'<ul class="notes" aria-label="notes" style="{style}">{items}</ul>'


def provenance(*results: Result) -> str:
    """Where results come from, folded away; an empty string if nothing is known of it."""
    tables = [told for told in (_origin(result, named=len(results) > 1) for result in results) if told]
    if not tables:
        return ""
    inside = f'<div class="scroll">{"".join(tables)}</div>'
    return f'<details class="fold"><summary>how this was made</summary>{inside}</details>'


def _origin(result: Result, *, named: bool) -> str:
    facts = [(name, value) for name, value in _facts(result.provenance) if value]
    rows = "".join(f'<tr><th scope="row" style="text-align:left">{escaped(n)}</th><td>{escaped(v)}</td></tr>'
                   for n, v in facts)  # fmt: skip
    caption = f"<caption>{escaped(title_of(result))}</caption>" if named else ""
    return f'<table class="origin">{caption}{rows}</table>' if facts else ""


def _facts(origin: Provenance) -> Iterator[tuple[str, str]]:
    yield "analysis", origin.analysis
    yield "made by", origin.plugin
    yield "model", origin.model
    yield "architecture", origin.model_type
    yield "changed by", ", ".join(origin.interventions)
    yield "options", ", ".join(f"{k}={v!r}" for k, v in origin.options.items())
    yield "seed", "" if origin.seed is None else str(origin.seed)
    yield "computed in", " on ".join(part for part in (origin.precision, origin.device) if part)
    yield "versions", ", ".join(f"{k} {v}" for k, v in origin.versions.items())
