"""What a command does with its results: print them, as text or JSON, and write them to files."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecco_core.errors import EccoError, OptionError

if TYPE_CHECKING:
    from ecco_core.data.results import Result


def parameters() -> list[click.Parameter]:
    """Return the options that say where results go."""
    return [
        click.Option(
            ["--save"],
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="FILE",
            help="Also write it there; the suffix says as what: .html, .svg, .png, .pdf, .json, .txt, .ansi, or .ecco,"
            " which `ecco show` reads. Several results become one report. May be repeated.",
        ),
        click.Option(
            ["--json", "as_json"], is_flag=True, default=None, help="Print JSON; a list if there are several results."
        ),
    ]


def deliver(results: Iterable[Result], save: tuple[Path, ...], as_json: bool | None, *, silent: bool = False) -> None:
    """Print each result when it is there, unless `silent`; then write all of them to each of the paths in `save`."""
    from ecco_core.data.results import report
    from ecco_core.data.storage import as_data
    from ecco_core.rendering import terminal_or_plain

    made: list[Result] = []
    for result in aside(results):
        if not as_json and not silent:
            click.echo("\n" * bool(made) + terminal_or_plain(result), color=True)
        made.append(result)
    if as_json:
        data = [as_data(result) for result in made]
        click.echo(json.dumps(data if len(data) > 1 else data[0], allow_nan=False))
    for path in save:
        click.echo(f"Wrote {(made[0] if len(made) == 1 else report(made)).save(path)}", err=True)


def aside(results: Iterable[Result]) -> Iterator[Result]:
    """The results; what plugins print while they make them goes to standard error."""
    left = iter(results)
    while True:
        with contextlib.redirect_stdout(sys.stderr):
            result = next(left, None)
        if result is None:
            return
        yield result


def check_suffixes(paths: tuple[Path, ...]) -> None:
    """Refuse an unwritable place before the work, not after it."""
    from ecco_core.rendering import suffixes, unknown_suffix

    for path in paths:
        if path.suffix.lower() not in suffixes():
            raise unknown_suffix(path)
        if not path.parent.is_dir():
            raise OptionError(f"Cannot write {str(path)!r}: the folder {str(path.parent)!r} does not exist.")


def loaded(path: str | Path) -> Result:
    """Read a saved result, as the kind of the plugin that made it if that is installed."""
    from ecco_core.data.storage import load
    from ecco_core.plugin.manager import plugins

    result = load(path)
    with contextlib.suppress(EccoError):
        plugins().analysis(result.provenance.analysis).load()  # defines its kinds of result
        return load(path)
    return result


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
def show(files: tuple[Path, ...], save: tuple[Path, ...], as_json: bool | None) -> None:
    """Show saved results, or write them as something else: ecco show why.ecco --save why.svg."""
    check_suffixes(save)
    deliver([loaded(file) for file in files], save, as_json)


show.params += parameters()
