"""``ecco plugins``: what is installed, and whether it works."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ecco_core.data.shown import visible
from ecco_core.plugin.manager import Offer, Record, plugins

_SHOWN = {
    "ecco_analyses": "analysis",
    "ecco_renderers": "renderer",
    "ecco_captures": "capture",
    "ecco_model_sources": "model source",
    "ecco_commands": "command",
}


@click.group("plugins")
def plugins_group() -> None:
    """See what is installed, and check it."""


@plugins_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List installed plugins and what they bring."""
    records = plugins().records
    if as_json:
        click.echo(json.dumps([_as_dict(record) for record in records], indent=2))
        return
    if not records:
        click.echo("No plugins are installed. To begin: pip install ecco-captum ecco-html ecco-terminal ecco-tiny")
    for record in records:
        click.echo(visible(f"{record.distribution} {record.version}  {_status(record)}"))
        for hook, kind in _SHOWN.items():
            for spec in record.specs.get(hook, ()):
                click.echo(visible(f"    {kind:<13} {_name(spec):<24} {spec.summary}"))
        for path in record.specs.get("ecco_model_configs", ()):
            click.echo(f"    {'model file':<13} {path}")


@plugins_group.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(as_json: bool) -> None:
    """Load every target of every plugin; say what is wrong and exit with 1 if anything is."""
    faults = []
    for record in plugins().records:
        if record.status in ("broken", "incompatible"):
            faults.append(_fault(record, record.reason, record.remedy))
        for hook, specs in record.specs.items():
            faults += [f for spec in specs if (f := _target_fault(hook, spec, record))]
    faults += _clashes()
    if as_json:
        click.echo(json.dumps(faults, indent=2))
    else:
        for fault in faults:
            click.echo(visible(f"{fault['plugin']} {fault['version']}: {fault['reason']}"))
            click.echo(visible(f"    to mend it: {fault['remedy']}"))
        good = sum(record.status == "loaded" for record in plugins().records)
        click.echo(f"{len(plugins().records)} plugins, {good} loaded, {len(faults)} faults.")
    sys.exit(1 if faults else 0)


def _fault(record: Record, reason: str, remedy: str) -> dict[str, str]:
    return {
        "plugin": record.distribution,
        "version": record.version,
        "status": record.status,
        "reason": reason,
        "remedy": remedy,
    }


def _target_fault(hook: str, spec: Any, record: Record) -> dict[str, str] | None:
    from ecco_core.cli.main import COMMANDS
    from ecco_core.errors import EccoError
    from ecco_core.options import options_of
    from ecco_core.registry import lookup
    from ecco_core.registry.yaml_source import read_yaml
    from ecco_core.running import options_for

    remedy = f"tell its authors, or pip uninstall {record.distribution}"
    try:
        if hook == "ecco_model_configs":
            for path in lookup.yaml_files(spec):
                read_yaml(path)
            return None
        target = Offer(spec, record.distribution, record.version).load()
        if hook == "ecco_analyses":
            options_for(spec, target)
        elif hook == "ecco_renderers":
            options_of(target)
        elif hook == "ecco_commands" and (not isinstance(target, click.Command) or spec.name in COMMANDS):
            fault = "is a command of Ecco's own" if spec.name in COMMANDS else f"{spec.target} is no click.Command"
            return _fault(record, f"the command {spec.name!r}: {fault}", remedy)
        elif not callable(target):
            return _fault(record, f"{spec.target} of {spec.name!r} cannot be called", remedy)
    except EccoError as error:
        return _fault(record, str(error), remedy)
    return None


def _clashes() -> list[dict[str, str]]:
    """Names that several distributions claim."""
    claims: dict[tuple[str, str], list[Offer[Any]]] = {}
    for hook in _SHOWN:
        for offer in plugins().offers(hook):
            for name in {offer.spec.name, *getattr(offer.spec, "aliases", ())}:
                claims.setdefault((hook, name), []).append(offer)
    return [
        {
            "plugin": " and ".join(o.distribution for o in offers),
            "version": " and ".join(o.version for o in offers),
            "status": "loaded",
            "reason": f"both offer the {_SHOWN[hook]} {name!r}",
            "remedy": "call it " + " or ".join(f"{o.distribution}:{name}" for o in offers),
        }
        for (hook, name), offers in claims.items()
        if hook != "ecco_renderers" and len(offers) > 1
    ]


def _status(record: Record) -> str:
    return record.status if record.status == "loaded" else f"{record.status}: {record.reason}"


def _name(spec: Any) -> str:
    aliases = ", ".join(getattr(spec, "aliases", ()))
    return f"{spec.name} ({aliases})" if aliases else spec.name


def _as_dict(record: Record) -> dict[str, Any]:
    return {
        "plugin": record.distribution,
        "version": record.version,
        "status": record.status,
        "reason": record.reason,
        "remedy": record.remedy,
        "provides": {
            hook: [getattr(spec, "name", str(spec)) for spec in specs] for hook, specs in record.specs.items()
        },
    }
