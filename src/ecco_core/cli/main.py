"""The ``ecco`` program: its commands, and one place where errors become one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from ecco_core import __version__
from ecco_core.data.shown import visible
from ecco_core.errors import EccoError, PluginError, did_you_mean

COMMANDS = {
    "demo": "ecco_core.cli.demo:demo",
    "run": "ecco_core.cli.run:run",
    "plugins": "ecco_core.cli.plugins:plugins_group",
    "models": "ecco_core.cli.models:models_group",
}


class Program(click.Group):
    """Ecco's own commands, and those that plugins register."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our commands first, then plugins' by name."""
        return [*COMMANDS, *sorted(offer.spec.name for offer in _offers() if offer.spec.name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that is asked for, and no other."""
        if cmd_name in COMMANDS:
            module, attribute = COMMANDS[cmd_name].split(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        offer = next((offer for offer in _offers() if offer.spec.name == cmd_name), None)
        target = offer.load() if offer else None
        if offer and not isinstance(target, click.Command):
            raise PluginError(f"{offer.spec.target} of {offer.distribution} is no click.Command.")
        return target

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List our commands, and plugins' from their specs alone, without loading them."""
        ours = [(name, self.get_command(ctx, name)) for name in COMMANDS]
        rows = [(name, command.get_short_help_str(80)) for name, command in ours if command]
        rows += [(o.spec.name, visible(o.spec.summary)) for o in _offers() if o.spec.name not in COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click, with the nearest command in the message."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if not args or "Did you mean" in error.format_message():
                raise
            near = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(error.format_message() + near, ctx) from error


def _offers() -> list[Any]:
    from ecco_core.plugin.manager import plugins

    return list(plugins().offers("ecco_commands"))


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ecco")
def program() -> None:
    """See why a language model said what it said."""


def main(arguments: list[str] | None = None) -> None:
    """Run the program; bad input ends in one line on standard error and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        program.main(args=arguments, prog_name="ecco", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" ('{context.command_path} --help' says more.)" if context else ""
        click.echo(f"Error: {_one_line(error.format_message())}{hint}", err=True)
        sys.exit(error.exit_code)
    except EccoError as error:
        if os.environ.get("ECCO_TRACEBACK"):
            raise
        click.echo(f"Error: {_one_line(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:  # standard output is full or gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        click.echo(f"Error: {error.strerror or error}", err=True)
        sys.exit(2)


def _one_line(message: str) -> str:
    return visible(" ".join(message.split("\n")))


def quiet_transformers() -> None:
    """Silence the notices and progress bars of transformers, which are not part of our output."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
