"""``ecco report METHOD METHOD``: several analyses of one run, and saved results, in one page."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecco_core.cli import inputs, showing
from ecco_core.cli.run import Method, Methods, method_command, results
from ecco_core.errors import AnalysisNotFoundError, EccoError, OptionError

if TYPE_CHECKING:
    from ecco_core.data.results import Result
    from ecco_core.session.run import Run

#: What a report holds if nothing is named, of these what is installed and fits the model.
METHODS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {}, "logit_lens": {}, "attention": {}, "nmf": {"n_components": 4}
}  # fmt: skip
Part = tuple[click.Command, Mapping[str, Any]]


class Parts(Methods):
    """Methods one after the other, each with its options; or files of saved results."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """A part of the report: what is named, with the options that follow it."""
        if "." in cmd_name.rpartition(":")[2]:  # no name of a method has a dot
            shared = [*inputs.parameters(required=False), *showing.parameters()]
            command = click.Command(cmd_name, params=shared)
        else:
            command = method_command(cmd_name, required=False)
        command.callback = functools.partial(_part, command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say where the methods are listed."""
        with formatter.section("Methods and their options"):
            formatter.write_text("ecco run --help, ecco run METHOD --help")


def _part(command: click.Command, **given: Any) -> Part:
    return command, given


@click.group(
    cls=Parts,
    chain=True,
    invoke_without_command=True,
    subcommand_metavar="[METHOD [ITS OPTIONS] | FILE.ecco]...",
    params=[*inputs.parameters(required=False), *showing.parameters()],
    context_settings={"help_option_names": ["-h", "--help"]},
)
def report(**given: Any) -> None:
    """Explain one run by several methods; all in one page with --save, or printed without.

    \b
    ecco report -m tiny:prose -t "The captain is called" --save why.html
    ecco report -m tiny:prose -t "..." lrp --targets=-1 nmf --n-components 4
    ecco report monday.ecco friday.ecco --save week.html

    The options of a method follow its name. Without a method: integrated_gradients, logit_lens, attention and nmf, of
    what is installed and fits the model. Files are results that were saved as .ecco.
    """  # noqa: D301


@report.result_callback()
def _report(parts: list[Part], **given: Any) -> None:
    for _, more in parts:
        given = {name: _merged(value, more[name]) for name, value in given.items()}
    showing.check_suffixes(given["save"])
    several = [command.offer.spec.inputs != "run" for command, _ in parts if isinstance(command, Method)]
    if parts and not several:
        if given["model"] or given["text"] or given["texts"]:
            raise OptionError("Saved results need no model and no text; name a method to explain one.")
        runs = []
    elif not given["model"]:
        raise click.UsageError("Missing option '-m' / '--model'.", click.get_current_context())
    else:
        runs = inputs.runs_of(given, compared=bool(several) and all(several))
    found = _results(parts, runs) if parts else _usual(runs)
    showing.deliver(found, given["save"], given["as_json"], silent=bool(given["save"]))


def _merged(value: Any, more: Any) -> Any:
    """An option that was given before the first method and after one: both values, or the later."""
    if isinstance(value, tuple):
        return (*value, *more)
    return value if more is None else more


def _results(parts: list[Part], runs: list[tuple[str, Run]]) -> Iterator[Result]:
    for command, given in parts:
        if isinstance(command, Method):
            yield from results(command, given, runs)
        else:
            yield showing.loaded(Path(command.name or ""))


def _usual(runs: list[tuple[str, Run]]) -> Iterator[Result]:
    """What the usual methods say; of those that do not fit or are not installed, why."""
    said = False
    for name, options in METHODS.items():
        try:
            command = method_command(name)
            for result in results(command, {p.name: options.get(p.name or "") for p in command.own}, runs):
                said = True
                yield result
        except EccoError as error:
            click.echo(f"{name} is left out: {error}", err=True)
    if not said:
        raise AnalysisNotFoundError("No method is left for the report; `ecco run --help` lists those installed.")
