"""``ecco run METHOD``: generate, analyze, print, save; the options come from the method's own function."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ecco_core.cli import inputs, showing
from ecco_core.cli.parameters import parameter

if TYPE_CHECKING:
    from ecco_core.data.results import Result
    from ecco_core.plugin.manager import Offer
    from ecco_core.plugin.specs import AnalysisSpec
    from ecco_core.session.run import Run


class Method(click.Command):
    """A command with the options of an analysis, whose function is imported when these are asked for.

    Attributes:
        method: name of the analysis.
    """

    def __init__(self, method: str, name: str | None = None, **settings: Any) -> None:
        settings["context_settings"] = {"help_option_names": ["-h", "--help"]}
        super().__init__(name or method, **settings)
        self.method = method

    @functools.cached_property
    def offer(self) -> Offer[AnalysisSpec]:
        """The analysis.

        Raises:
            AnalysisNotFoundError: there is none of that name.
        """
        from ecco_core.plugin.manager import plugins

        return plugins().analysis(self.method)

    @functools.cached_property
    def own(self) -> list[click.Parameter]:
        """The parameters of the analysis."""
        from ecco_core.running import options_for

        options = options_for(self.offer.spec, self.offer.load()).values()
        return [made for option in options if (made := parameter(option))]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters of the command, then those of the analysis."""
        params = super().get_params(ctx)
        return [*params[:-1], *self.own, *params[-1:]]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the analysis first; then those that all have."""
        own = {id(one) for one in self.own}
        shown = [(id(p) in own, row) for p in self.get_params(ctx) if (row := p.get_help_record(ctx))]
        for ours, title in ((True, f"Options of {self.offer.spec.name}"), (False, "Model, texts and output")):
            if rows := [row for mine, row in shown if mine is ours]:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def chosen(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the given values that are options of the analysis."""
        return {p.name: given[p.name] for p in self.own if p.name and given[p.name] is not None}


def method_command(name: str, required: bool = True) -> Method:
    """Return a command of one analysis, with what names models, texts and files.

    Raises:
        AnalysisNotFoundError: there is none of that name.
    """
    usage = "-m MODEL -t TEXT [OPTIONS]" if required else "[OPTIONS]"
    command = Method(name, params=[*inputs.parameters(required), *showing.parameters()], options_metavar=usage)
    spec = command.offer.spec
    others = [other for other in (spec.name, *spec.aliases) if other != name]
    also = f"Also called {', '.join(others)}." if others else ""
    command.help = "\n\n".join(part for part in (f"{spec.summary}.", also, spec.reference) if part)
    command.short_help = spec.summary
    return command


class Methods(click.Group):
    """One command per installed analysis."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the analyses."""
        from ecco_core.plugin.manager import plugins

        return sorted({o.spec.name for o in plugins().offers("ecco_analyses")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one analysis."""
        command = method_command(cmd_name)
        command.callback = functools.partial(_run, command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and summaries from the specs alone, without loading any target."""
        from ecco_core.plugin.manager import plugins

        offers = sorted(plugins().offers("ecco_analyses"), key=lambda offer: offer.spec.name)
        for takes, titled in (("run", "of one text"), ("runs", "of several texts"), ("pair", "of two texts")):
            if rows := [(o.spec.name, o.spec.summary) for o in offers if o.spec.inputs == takes]:
                with formatter.section(f"Methods {titled}"):
                    formatter.write_dl(rows)


@click.group(cls=Methods, options_metavar="", subcommand_metavar="METHOD [OPTIONS]")
def run() -> None:
    """Run an analysis on a text: continue it with a model, explain, print and save.

    `ecco run METHOD --help` tells the options. Given several texts, a method of one text answers for each.
    """


def _run(command: Method, **given: Any) -> None:
    showing.check_suffixes(given["save"])
    runs = inputs.runs_of(given, compared=command.offer.spec.inputs != "run")
    showing.deliver(results(command, given, runs), given["save"], given["as_json"])


def results(command: Method, given: Mapping[str, Any], runs: list[tuple[str, Run]]) -> Iterator[Result]:
    """Run an analysis: on each run, named in the title if there are several; or on all, if it works on several."""
    import attrs

    from ecco_core.running import analyze

    options = command.chosen(given)
    if len(runs) == 1 or command.offer.spec.inputs != "run":
        yield analyze(command.method, [run for _, run in runs], **options)
        return
    for name, run in runs:
        with inputs.naming(name, runs):
            result = analyze(command.method, run, **options)
        yield attrs.evolve(result, title=f"{result.title}: {name}")
        run.release()
