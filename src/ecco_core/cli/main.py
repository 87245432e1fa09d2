"""The ``ecco`` program: its commands, and one place where errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from typing import Any

import click

from ecco_core import __version__
from ecco_core.data.shown import visible
from ecco_core.errors import EccoError, PluginError, did_you_mean, one_line

COMMANDS = {
    "demo": "ecco_core.cli.demo:demo",
    "run": "ecco_core.cli.run:run",
    "report": "ecco_core.cli.report:report",
    "compare": "ecco_core.cli.compare:compare",
    "show": "ecco_core.cli.showing:show",
    "plugins": "ecco_core.cli.plugins:plugins_group",
    "models": "ecco_core.cli.models:models_group",
    "completion": "ecco_core.cli.completion:completion",
}
#: The variable by which a shell's script asks for completions.
COMPLETE = "_ECCO_COMPLETE"
#: Exit code where what reads our output has left, as shells have it for other programs.
PIPE_CLOSED = 141


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
        offer = _offer(cmd_name)
        target = offer.load() if offer else None
        if offer and not isinstance(target, click.Command):
            raise PluginError(f"{offer.spec.target} of {offer.distribution} is no click.Command.")
        return target

    def invoke(self, ctx: click.Context) -> Any:
        """As click; what a plugin's command raises names the plugin."""
        try:
            return super().invoke(ctx)
        except (EccoError, click.ClickException, click.exceptions.Exit, click.exceptions.Abort, OSError):
            raise
        except Exception as error:
            offer = None if ctx.invoked_subcommand in COMMANDS else _offer(str(ctx.invoked_subcommand))
            if offer is None:
                raise
            who = f"The command {offer.spec.name!r} of {offer.distribution} {offer.version}"
            raise PluginError(f"{who} failed: {one_line(error)}") from error

    def _rows(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Name and summary of our commands, and of plugins' from their specs alone, without loading them."""
        ours = [(name, self.get_command(ctx, name)) for name in COMMANDS]
        rows = [(name, command.get_short_help_str(80)) for name, command in ours if command]
        return rows + [(o.spec.name, visible(o.spec.summary)) for o in _offers() if o.spec.name not in COMMANDS]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List all commands."""
        with formatter.section("Commands"):
            formatter.write_dl(self._rows(ctx))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete the name of a command, or one of the program's own options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=about) for name, about in self._rows(ctx) if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click, with the nearest command in the message."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if not args or "Did you mean" in error.format_message():
                raise
            near = did_you_mean(args[0], self.list_commands(ctx)) or _as_method(args[0])
            raise click.UsageError(error.format_message() + near, ctx) from error


def _as_method(name: str) -> str:
    from ecco_core.plugin.manager import plugins

    with contextlib.suppress(EccoError):
        return f" It is a method: ecco run {plugins().analysis(name).spec.name}" if name else ""
    return ""


def _offer(name: str) -> Any:
    from ecco_core.plugin.manager import plugins

    return plugins().find("ecco_commands", name)


def _offers() -> list[Any]:
    from ecco_core.plugin.manager import plugins

    return list(plugins().offers("ecco_commands"))


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ecco")
def program() -> None:
    """See why a language model said what it said.

    \b
    ecco demo
    ecco run integrated_gradients -m tiny:prose -t "The captain is called"
    ecco report -m tiny:prose -t "The captain is called" --save why.html
    """  # noqa: D301


def main(arguments: list[str] | None = None) -> None:
    """Run the program; bad input ends in one line on standard error and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115, PTH123 - it may be closed
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            _run(sys.argv[1:] if arguments is None else arguments)
    except (KeyboardInterrupt, EOFError, click.exceptions.Abort):
        click.echo("\nInterrupted.", err=True)
        sys.exit(130)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" ('{context.command_path} --help' says more.)" if context else ""
        message = error.format_message()
        if isinstance(error, click.NoSuchOption):
            name = error.option_name
            message = f"No such option {name!r}.{did_you_mean(name, error.possibilities or ())}"
        click.echo(f"Error: {_one_line(message)}{hint}", err=True)
        sys.exit(2)
    except EccoError as error:
        if os.environ.get("ECCO_TRACEBACK"):
            raise
        if COMPLETE not in os.environ:  # what is typed so far needs not be right
            click.echo(f"Error: {_one_line(str(error))}", err=True)
        sys.exit(2)
    except UnicodeEncodeError as error:  # half of a character, which no file can be called
        click.echo(f"Error: {visible(str(error.object))!r} holds what is no character.", err=True)
        sys.exit(2)
    except BrokenPipeError:  # as by `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except OSError as error:  # standard output is full or gone
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        click.echo(f"Error: {error.strerror or error}", err=True)
        sys.exit(2)


def _run(arguments: list[str]) -> None:
    if COMPLETE in os.environ:
        from ecco_core.cli.completion import shell_complete

        sys.exit(shell_complete(program, {}, "ecco", COMPLETE, os.environ[COMPLETE]))
    with program.make_context("ecco", [*arguments]) as context:
        program.invoke(context)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {_one_line(str(message))}", err=True)


def _one_line(message: str) -> str:
    return visible(" ".join(message.split()))


def quiet_transformers() -> None:
    """Silence the notices and progress bars of transformers, which are not part of our output."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
