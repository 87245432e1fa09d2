"""``ecco plugins``: what is installed, and whether it works."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import click

from ecco_core.cli.new import new_plugin
from ecco_core.data.shown import visible
from ecco_core.errors import EccoError, PluginError, PluginWarning, listed, one_line
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


plugins_group.add_command(new_plugin)


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
        for fault in _record_faults(record):
            click.echo(visible(f"    to mend it: {fault['remedy']}"))
        for hook, kind in _SHOWN.items():
            for spec in record.specs.get(hook, ()):
                click.echo(visible(f"    {kind:<13} {_name(spec):<36} {spec.summary}"))
        for path in record.specs.get("ecco_model_configs", ()):
            click.echo(f"    {'model file':<13} {path}")


@plugins_group.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(as_json: bool) -> None:
    """Load every target of every plugin; say what is wrong and exit with 1 if anything is."""
    faults = []
    for record in plugins().records:
        faults += _record_faults(record)
        for hook, specs in record.specs.items():
            faults += [fault for spec in specs for fault in _target_faults(hook, spec, record)]
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


def _record_faults(record: Record) -> list[dict[str, str]]:
    """What went wrong when a plugin was imported."""
    faults = [_fault(record, listed(record.faults))] if record.faults else []
    broken = record.status in ("broken", "incompatible")
    return [_fault(record, record.reason, record.remedy), *faults] if broken else faults


def _fault(record: Record, reason: str, remedy: str = "") -> dict[str, str]:
    name = record.distribution
    return {
        "plugin": name,
        "version": record.version,
        "status": record.status,
        "reason": reason,
        "remedy": remedy
        or f"tell its authors, or leave it out with ECCO_BLOCK_PLUGINS={name}, or pip uninstall {name}",
    }


def _target_faults(hook: str, spec: Any, record: Record) -> list[dict[str, str]]:
    """What is wrong with one thing that a plugin offers, or with the import of it."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            _check_target(hook, spec, Offer(spec, record.distribution, record.version))
        except Exception as error:
            return [_fault(record, str(error) if isinstance(error, EccoError) else f"{spec.target}: {one_line(error)}")]
    return [_fault(record, str(one.message)) for one in warned if issubclass(one.category, PluginWarning)]


def _check_target(hook: str, spec: Any, offer: Offer[Any]) -> None:
    """Load what a spec names.

    Raises:
        EccoError: it does not load, or is not what the hook wants.
    """
    from ecco_core.cli.main import COMMANDS
    from ecco_core.options import options_of
    from ecco_core.registry import lookup
    from ecco_core.registry.structure import DECLARED_SITES, IMPLIED_SITES, INSIDE_ATTENTION
    from ecco_core.registry.yaml_source import read_yaml
    from ecco_core.running import options_for

    if hook == "ecco_model_configs":
        for path in lookup.yaml_files(spec):
            read_yaml(path)
        return
    sites = (*IMPLIED_SITES, *DECLARED_SITES, *INSIDE_ATTENTION)
    target, what = offer.load(), f"the {_SHOWN[hook]} {spec.name!r}"
    if spec.name in {"ecco_commands": COMMANDS, "ecco_captures": sites}.get(hook, ()):
        raise PluginError(f"{what} has a name of Ecco's own, which it does not replace")
    if hook == "ecco_commands" and not isinstance(target, click.Command):
        raise PluginError(f"{what}: {spec.target} is no click.Command")
    if hook != "ecco_commands" and not callable(target):
        raise PluginError(f"{what}: {spec.target} cannot be called")
    if hook == "ecco_analyses":
        options_for(spec, target)
    elif hook == "ecco_renderers":
        options_of(target)


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
    said = f"{record.status}: {record.reason}" if record.reason else record.status
    return "; ".join([said, *record.faults])


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
        "seconds": round(record.seconds, 3),
        "faults": record.faults,
        "provides": {
            hook: [getattr(spec, "name", str(spec)) for spec in specs] for hook, specs in record.specs.items()
        },
    }
