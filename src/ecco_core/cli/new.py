"""``ecco plugins new`` and ``ecco models new``: complete folders to begin from, written whole or not at all."""

from __future__ import annotations

import re
import shlex
import shutil
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata, util
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ecco_core import __version__
from ecco_core.data.shown import visible
from ecco_core.errors import OptionError, StorageError
from ecco_core.plugin.catalogue import install_for
from ecco_core.plugin.manager import plugins

if TYPE_CHECKING:
    from ecco_core.cli.model_file import ModelFile

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 40
#: Kind -> what the distribution is, what its tests need besides the kit, and the command that shows it.
KINDS = {
    "analysis": (
        "An analysis for Ecco: how far each layer moves the residual stream.",
        "",
        'ecco run $spec -m tiny:prose -n 0 -t "The captain is called Nora."',
    ),
    "renderer": (
        "A renderer for Ecco: any result as Markdown.",
        ', "markdown-it-py"',
        'ecco run predict -m tiny:prose -n 0 -t "The captain is called Nora." --save why.md',
    ),
    "model": (
        "A model file for Ecco: where the parts of $model_type models are.",
        "",
        "ecco models verify $model_type",
    ),
}
_INTO = click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Folder to write it into.  [here]")


@click.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What the plugin brings.")
@click.option(
    "--model", help="For --kind model: a folder, a name on the hub or an architecture of transformers, to be detected."
)
@_INTO
def new_plugin(name: str, kind: str, model: str | None, into: Path) -> None:
    """Write a plugin to begin from: code that works, tests, packaging, README, CI.

    NAME is how it is called, as in my-probe: the distribution becomes ecco-my-probe, the package ecco_my_probe.
    """
    if (model is not None) != (kind == "model"):
        wanted = "needs --model MODEL, whose layout is found and proven" if kind == "model" else "takes no --model"
        raise click.UsageError(f"--kind {kind} {wanted}.")
    from ecco_core.cli.models import listed_type

    words = _words(name, kind)
    target = into / words["distribution"]
    _free(target)
    file = _model_file(model) if model else None
    if file:
        words |= {"model_type": file.model_type, "found_in": file.found_in, "tasks": ", ".join(file.tasks)}
        words["listed"] = listed_type(file.model_type, file.heads, words["distribution"])
    words["description"], words["try"] = (Template(KINDS[kind][place]).substitute(words) for place in (0, 2))
    contents = {path: text for folder in ("common", kind) for path, text in _filled(folder, words)}
    if file:
        contents[f"src/{words['package']}/{file.model_type}.yaml"] = file.text
    _write(target, contents)
    _tell(target, contents, [f"cd {shlex.quote(str(target))}", "pip install -e '.[test]'", "pytest", words["try"]])


@click.command("new")
@click.argument("model")
@_INTO
def new_model(model: str, into: Path) -> None:
    """Find the layout of a model, prove it, and write it as a file with its test.

    MODEL is a folder, a name on the hub, a plugin's such as tiny:prose, or an architecture of transformers.
    """
    file = _model_file(model)
    target = into / f"{file.model_type}-file"  # a folder called as the architecture would be taken for a checkpoint
    _free(target)
    contents = {f"{file.model_type}.yaml": file.text}
    words = {"model_type": file.model_type, "name": re.sub(r"\W", "_", file.model_type)}
    contents |= dict(_filled("file", words))
    _write(target, contents)
    here = shlex.quote(str(target))
    _tell(target, contents, [f"pytest {here}", f"ECCO_MODEL_REGISTRY={here} ecco models verify {file.model_type}"])
    click.echo(
        "To contribute it, put the .yaml into model_registry/ of a fork of ecco-core: tests there prove every file.\n"
        f"To publish it yourself: ecco plugins new NAME --kind model --model {shlex.quote(model)}"
    )


def _words(name: str, kind: str) -> dict[str, str]:
    """What the templates are filled with.

    Raises:
        OptionError: no distribution or package can be called so, or one is.
    """
    short = canonicalize_name(name).removeprefix("ecco-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", short) or len(short) > LONGEST:
        raise OptionError(
            f"A plugin is named with letters, digits and hyphens, a letter first, {LONGEST} at most, as in my-probe; "
            f"found {name!r}."
        )
    distribution, spec = f"ecco-{short}", short.replace("-", "_")
    taken = _taken(distribution, spec, kind)
    if taken:
        raise OptionError(f"The name {short!r} is taken: {taken}. Choose another.")
    version = Version(__version__)
    fits = f">={version.major}.{version.minor},<{version.major}.{version.minor + 1}"
    return {
        "name": short,
        "distribution": distribution,
        "package": f"ecco_{spec}",
        "spec": spec,
        "core": f"ecco-core{fits}",
        "test": f'"ecco-core[testing]{fits}"{KINDS[kind][1]}',
    }


def _taken(distribution: str, spec: str, kind: str) -> str:
    """By what a name is taken; an empty text if it is free."""
    ours = {Requirement(said).name for said in metadata.requires("ecco-core") or ()} | {"ecco-core"}
    if distribution in ours:
        return f"{distribution} is one of Ecco's own plugins"
    if util.find_spec(f"ecco_{spec}"):
        return f"ecco_{spec} is installed"
    if kind == "analysis" and (offer := plugins().find("ecco_analyses", spec)):
        return f"{offer.distribution} offers an analysis of that name"
    ours_too = install_for(spec) if kind == "analysis" else ""
    return ours_too and f"it is that of an analysis of Ecco's own ({ours_too})"


def _free(target: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        StorageError: it has, or it is a file, or the folder that it goes into is not there.
    """
    if not target.parent.is_dir():
        raise StorageError(f"Cannot write {str(target)!r}: the folder {str(target.parent)!r} does not exist.")
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise StorageError(f"Cannot write {str(target)!r}: it is there, and no empty folder. Move it, or give --into.")


def _filled(folder: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Path and text of each file of a template."""
    for template in sorted((TEMPLATES / folder).rglob("*.in")):
        path = template.relative_to(TEMPLATES / folder).as_posix().removesuffix(".in")
        path = path.replace("src/package/", f"src/{words.get('package')}/")
        path = path.replace("test_module.py", f"test_{words.get('spec') or words['name']}.py")
        yield path, Template(template.read_text(encoding="utf-8")).substitute(words)


def _write(target: Path, contents: Mapping[str, str]) -> None:
    """Write a folder beside its place and rename it into it.

    Raises:
        StorageError: it cannot be written.
    """
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        for path, text in contents.items():
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_text(text, encoding="utf-8", newline="\n")
        if target.is_dir():
            target.rmdir()
        part.rename(target)
    except OSError as error:
        raise StorageError(f"Cannot write {str(target)!r}: {error.strerror}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _tell(target: Path, contents: Mapping[str, str], then: list[str]) -> None:
    click.echo(visible(f"Wrote {target}:"))
    for path in sorted(contents):
        click.echo(f"    {path}")
    click.echo("Next:")
    for command in then:
        click.echo(f"    {command}")


def _model_file(name: str) -> ModelFile:
    """The proven file of a model; what could not be proven is said on standard error."""
    from ecco_core.cli.model_file import model_file
    from ecco_core.cli.models import opened
    from ecco_core.registry import lookup

    file = model_file(*opened(name), name)
    there = lookup.find(file.model_type)
    if there:
        click.echo(f"{file.model_type} has a file from {there.source}; the new one goes before it.", err=True)
    if file.notes:
        click.echo("Not proven, or not there:", err=True)
    for note in file.notes:
        click.echo(visible(f"    {note}"), err=True)
    return file
