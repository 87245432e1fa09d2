"""``ecco completion``: the script that makes a shell complete what is typed after ``ecco``."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    shell_complete as shell_complete,
)

from ecco_core.errors import PluginError


@add_completion_class
class Bash(BashComplete):
    """As click's, for words with a colon, which bash takes for three and of which it wants the last completed."""

    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Put such words together again."""
        args, incomplete = super().get_completion_args()
        if args and ":" in (incomplete, args[-1]):
            words = args[-1:] if incomplete == ":" else args[-2:]
            self._before = "".join(words) + ":" * (incomplete == ":")
            return args[: -len(words)], self._before + incomplete.removeprefix(":")
        return args, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Leave out what is there."""
        return f"{item.type},{item.value.removeprefix(self._before)}"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script by which a shell completes commands, methods, options and models.

    \b
    bash:  ecco completion bash >> ~/.bashrc
    zsh:   ecco completion zsh >> ~/.zshrc       (after compinit)
    fish:  ecco completion fish > ~/.config/fish/completions/ecco.fish
    """  # noqa: D301
    from ecco_core.cli.main import COMPLETE, program

    kind = get_completion_class(shell)
    if kind is None:
        raise PluginError(f"click {click.__version__} completes no {shell}.")
    click.echo(kind(program, {}, "ecco", COMPLETE).source(), nl=False)
