"""The promises of a command."""

from __future__ import annotations

from typing import Any

import click
from click.testing import CliRunner, Result as Ran

from ecco_core.cli.main import COMMANDS, program
from ecco_core.plugin.manager import Offer
from ecco_core.plugin.specs import CommandSpec
from ecco_core.testing.contract import TargetContract, broken


class CommandContract(TargetContract):
    """What those rely on who type ``ecco NAME``.

    Attributes:
        name: the command to check; or `distribution`: all of its commands.
    """

    hook = "ecco_commands"

    def test_is_a_command(self, offer: Offer[CommandSpec]) -> None:
        """The target is a ``click.Command``."""
        found = type(self.target(offer)).__name__
        if not isinstance(self.target(offer), click.Command):
            broken(offer.spec.name, f"{offer.spec.target} is a {found}", "Decorate it with @click.command().")

    def test_name_is_free(self, offer: Offer[CommandSpec]) -> None:
        """It has no name of Ecco's own commands, which would go before it."""
        if offer.spec.name in COMMANDS:
            broken(offer.spec.name, "Ecco has a command of this name, which goes before it", "Take another name.")

    def test_help_says_what_it_does(self, offer: Offer[CommandSpec]) -> None:
        """``ecco NAME --help`` ends well, with a sentence on the command and on each option."""
        command = self.target(offer)
        if not isinstance(command, click.Command):
            return
        ran = _ran(command, "--help")
        if ran.exit_code or ran.exception:
            broken(offer.spec.name, f"--help ends with {ran.exception!r}", "Let click answer --help.")
        if not (command.help or "").strip():
            broken(offer.spec.name, "it has no help", "Write a docstring for the function.")
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.help and not parameter.hidden:
                broken(offer.spec.name, f"{parameter.opts[0]} has no help", 'Write help="..." for each option.')

    def test_a_wrong_option_is_said(self, offer: Offer[CommandSpec]) -> None:
        """An option that it does not have ends in a message and exit code 2, not in a traceback."""
        command = self.target(offer)
        if isinstance(command, click.Command):
            ran = _ran(command, "--no-such-option")
            if ran.exit_code != 2 or (ran.exception and not isinstance(ran.exception, SystemExit)):
                found = f"--no-such-option ends with code {ran.exit_code}, {ran.exception!r}"
                broken(offer.spec.name, found, "Let click check the options.")

    def test_listed(self, offer: Offer[CommandSpec]) -> None:
        """``ecco --help`` lists it."""
        if offer.spec.name not in program.list_commands(click.Context(program)):
            broken(offer.spec.name, "ecco --help does not list it", "Offer it by the hook ecco_commands.")


def _ran(command: Any, argument: str) -> Ran:
    return CliRunner().invoke(command, [argument])
