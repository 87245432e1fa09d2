"""``ecco models``: the architectures that are known, and the models that are at hand offline."""

from __future__ import annotations

import json
from typing import Any

import click

from ecco_core.models import registry
from ecco_core.models.structure import IMPLIED_SITES, Site


@click.group("models")
def models_group() -> None:
    """See which architectures are known and how they are laid out."""


@models_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the known architectures, and the models that plugins bring."""
    from ecco_core.plugin.manager import plugins

    entries = [(t, e) for e in registry.entries() for t in e.structure.model_types]
    offline = [
        (f"{o.spec.name}:{model}", o.distribution)
        for o in plugins().offers("ecco_model_sources")
        for model in o.spec.models
    ]
    if as_json:
        rows = [{"model_type": t, "tasks": list(e.structure.heads), "source": e.source} for t, e in entries]
        click.echo(json.dumps({"architectures": rows, "offline": [name for name, _ in offline]}, indent=2))
        return
    click.echo("Architectures (config.model_type):")
    for model_type, entry in entries:
        click.echo(f"    {model_type:<16} {', '.join(entry.structure.heads):<10} from {entry.source}")
    click.echo("Models that need no network:")
    for name, distribution in offline:
        click.echo(f"    {name:<16} from {distribution}")
    if not offline:
        click.echo("    none; pip install ecco-tiny brings tiny:prose")


@models_group.command()
@click.argument("model_type")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(model_type: str, as_json: bool) -> None:
    """Show where the parts of an architecture are, e.g. `ecco models show gpt2`."""
    entry = registry.require(model_type)
    structure = entry.structure
    if as_json:
        stacks = {
            name: {
                "blocks": stack.blocks,
                "final_norm": stack.final_norm,
                "sites": {site: _place(place) for site, place in stack.sites.items()},
            }
            for name, stack in structure.stacks.items()
        }
        tree: dict[str, Any] = {"model_types": structure.model_types, "stacks": stacks, "heads": dict(structure.heads)}
        click.echo(json.dumps(tree | {"source": entry.source}, indent=2))
        return
    click.echo(f"{model_type}: {structure.origin} (from {entry.source}; covers {', '.join(structure.model_types)})")
    for name, stack in structure.stacks.items():
        click.echo(f"{name}:\n    blocks           {stack.blocks}\n    final_norm       {stack.final_norm or '-'}")
        click.echo(f"    always           {', '.join(IMPLIED_SITES)}")
        for site, place in stack.sites.items():
            click.echo(f"    {site:<16} {_place(place)}")
    for task, path in structure.heads.items():
        click.echo(f"head, {task}: {path}")


def _place(site: Site) -> str:
    return f"> {site.path}" if site.side == "input" else f"{site.path} >"
