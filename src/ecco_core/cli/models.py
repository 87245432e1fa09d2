"""``ecco models``: the architectures that are known, and the models that are at hand offline."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ecco_core.cli.new import new_model
from ecco_core.errors import ArchitectureError, did_you_mean
from ecco_core.registry import lookup
from ecco_core.registry.structure import ATTENTION_SITES, IMPLIED_SITES

if TYPE_CHECKING:
    from ecco_core.proving.verify import Check, Verification
    from ecco_core.session.language_model import LanguageModel


@click.group("models")
def models_group() -> None:
    """See which architectures are known and how they are laid out."""


models_group.add_command(new_model)


@models_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the known architectures, and the models that plugins bring."""
    from ecco_core.plugin.manager import plugins

    entries = [(t, e) for e in lookup.entries() for t in e.structure.model_types]
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
    for model_type, entry in sorted(entries, key=lambda entry: entry[0]):
        click.echo(listed_type(model_type, entry.structure.heads, entry.source))
    click.echo("Models that need no network:")
    for name, distribution in offline:
        click.echo(f"    {name:<16} from {distribution}")
    if not offline:
        click.echo("    none; pip install ecco-tiny brings tiny:prose")


def listed_type(model_type: str, heads: Iterable[str], source: str) -> str:
    """Return the line of a list for one architecture."""
    return f"    {model_type:<16} {', '.join(heads):<24} from {source}"


@models_group.command()
@click.argument("model_type")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(model_type: str, as_json: bool) -> None:
    """Show where the parts of an architecture are, e.g. `ecco models show gpt2`."""
    entry = lookup.require(model_type)
    structure = entry.structure
    if as_json:
        stacks = {
            name: {
                "blocks": stack.blocks,
                "final_norm": list(map(str, stack.final_norm)),
                "sites": {site: list(map(str, places)) for site, places in stack.sites.items()},
            }
            for name, stack in structure.stacks.items()
        }
        heads = {task: list(map(str, paths)) for task, paths in structure.heads.items()}
        tree: dict[str, Any] = {"model_types": structure.model_types, "stacks": stacks, "heads": heads}
        click.echo(json.dumps(tree | {"source": entry.source, "file": structure.origin}, indent=2))
        return
    covering = [e for e in lookup.entries(model_type) if model_type in e.structure.model_types]
    click.echo(f"{model_type}: {structure.origin} (from {entry.source}; covers {', '.join(structure.model_types)})")
    for other in covering[1:]:
        click.echo(f"    goes before {other.structure.origin} (from {other.source})")
    click.echo(f"Always there: {', '.join(IMPLIED_SITES)}; where it names attention: {', '.join(ATTENTION_SITES)}.")
    click.echo(Path(structure.origin).read_text(encoding="utf-8"), nl=False)


@models_group.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def detect(model: str, as_json: bool) -> None:
    """Find the layout of a model, prove it, and print it as a file to keep or to contribute.

    MODEL is a folder, a name on the hub, a plugin's such as tiny:prose, or an architecture of transformers, of which a
    small random model is made.
    """
    from ecco_core.proving.detect import detect as detected, to_yaml

    found = detected(*opened(model))
    if as_json:
        verification = found.verification
        sites = {stack: verification.sites(stack) for stack in found.structure.stacks}
        tree = {"model_type": verification.model_type, "task": verification.task, "sites": sites}
        click.echo(json.dumps(tree | {"notes": found.notes, "yaml": to_yaml(found.structure)}, indent=2))
        return
    click.echo(to_yaml(found.structure, found.notes), nl=False)


@models_group.command()
@click.argument("model", required=False)
@click.option("--all", "every", is_flag=True, help="Every architecture of the registry, on small random models.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(model: str | None, every: bool, as_json: bool) -> None:
    """Prove where the parts of a model are by numeric identities; exit code 1 if one fails.

    MODEL is an architecture of the registry, proven on small random models of all its tasks, or a folder, a name on
    the hub, or a plugin's such as tiny:prose.
    """
    if every == (model is not None):
        raise click.UsageError("Name one model, or give --all.")
    found = []
    for start, verification in _verifications(model):
        found.append(verification)
        if not as_json:
            seconds = time.perf_counter() - start
            (_one_line if every else _table)(verification, seconds)
    if as_json:
        click.echo(json.dumps([_tree(verification) for verification in found], indent=2))
    if any(verification.failed for verification in found):
        raise SystemExit(1)


def _verifications(model: str | None) -> Iterator[tuple[float, Verification]]:
    """When each proof began, and what it found."""
    from transformers import CONFIG_MAPPING

    from ecco_core.proving.verify import covered_tasks, verify_type

    known = [model_type for entry in lookup.entries() for model_type in entry.structure.model_types]
    if model is None or (model in known and not Path(model).exists()):
        for model_type in sorted(set(known)) if model is None else [model]:
            for task in covered_tasks(model_type):
                start = time.perf_counter()
                try:
                    found = verify_type(model_type, task)
                except ArchitectureError as error:
                    found = _refused(model_type, task, error)
                yield start, found
        return
    if model in CONFIG_MAPPING and not Path(model).exists():
        raise ArchitectureError(
            f"No model file covers {model!r}, an architecture of transformers: `ecco models detect {model}` finds its "
            "layout and proves it."
        )
    lm, start = _loaded(model, known), time.perf_counter()
    try:
        found = lm.verify()
    except ArchitectureError as error:
        if lookup.find(lm.model_type) is None:  # it is detection that fails, and no file
            raise
        found = _refused(lm.model_type, lm.task, error)
    yield start, found


def _refused(model_type: str, task: str, error: ArchitectureError) -> Verification:
    """The proof of a file that does not even fit the model: one failed check."""
    from ecco_core.proving.verify import Check, Verification

    stack = next(iter(lookup.require(model_type).structure.stacks))
    check = Check(identity="modules", stack=stack, site="", status="failed", detail=str(error))
    return Verification(model_type=model_type, task=task, checks=(check,))


def _loaded(name: str, architectures: Iterable[str]) -> LanguageModel:
    """Open a model; what is no model's name may be a slip of an architecture's."""
    import ecco_core as ecco
    from ecco_core.cli.main import quiet_transformers

    quiet_transformers()
    try:
        return ecco.from_pretrained(name)
    except ecco.ModelNotFoundError as error:
        near = did_you_mean(name, architectures)
        raise ecco.ModelNotFoundError(f"{error} Nor is it an architecture.{near}" if near else str(error)) from error


def _tree(found: Verification) -> dict[str, Any]:
    """As JSON has it: a residual that is no number is null."""
    checks = [attrs.asdict(check) for check in found.checks]
    for check in checks:
        check["residual"] = check["residual"] if math.isfinite(check["residual"] or 0) else None
    sites = {stack: found.sites(stack) for stack in dict.fromkeys(check.stack for check in found.checks)}
    return {"model_type": found.model_type, "task": found.task, "sites": sites, "checks": checks}


def _one_line(found: Verification, seconds: float) -> None:
    said = "proven" if not found.failed else f"{len(found.failed)} FAILED"
    click.echo(f"{found.model_type:<16} {found.task:<24} {said:<10} {len(found.checks):>3} checks {seconds:6.2f} s")
    for check in found.failed:
        click.echo(f"    {_told(check)}")


def _table(found: Verification, seconds: float) -> None:
    click.echo(f"{found.model_type}, {found.task} ({seconds:.2f} s)")
    stacks = {check.stack for check in found.checks}
    for check in sorted(found.checks, key=lambda check: check.status == "failed"):
        if check.status != "not there" or check.identity == "stream":
            site = f"{check.stack} {check.site}".strip() if len(stacks) > 1 else check.site
            residual = "" if check.residual is None else f"{check.residual:.1e}"
            click.echo(f"    {check.status:<10} {check.identity:<18} {site:<22} {residual:>7}  {check.detail}")
    absent = [f"{check.site} ({check.detail})" for check in found.checks if check.identity == "sites"]
    if absent:
        click.echo(f"    not there: {', '.join(absent)}")


def _told(check: Check) -> str:
    residual = "" if check.residual is None else f" (relative error {check.residual:.2g})"
    return f"{check.identity}, {check.stack} {check.site}: {check.detail}{residual}"


def opened(name: str) -> tuple[Any, str | None]:
    """A model and its task: from a folder or by name, or a small random one of an architecture."""
    from transformers import CONFIG_MAPPING

    if name in CONFIG_MAPPING and not Path(name).exists():
        from ecco_core.proving.tiny_models import tasks_of, tiny_model

        tasks = tasks_of(name)
        task = "seq2seq" if "seq2seq" in tasks else tasks[0]  # both stacks, where there are two
        return tiny_model(name, task), task
    lm = _loaded(name, CONFIG_MAPPING)
    return lm.model, lm.task
