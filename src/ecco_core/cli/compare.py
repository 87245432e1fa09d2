"""``ecco compare METHOD METHOD``: which explanation to believe, by the analysis ``faithfulness``."""

from __future__ import annotations

from typing import Any

import click

from ecco_core.cli import inputs, showing
from ecco_core.cli.run import Method, results
from ecco_core.errors import OptionError

#: What is compared if nothing is named, of these what is installed.
METHODS = ("integrated_gradients", "saliency", "lrp")


def _scoring(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the methods that score tokens."""
    from ecco_core.plugin.manager import plugins

    specs = [offer.spec for offer in plugins().offers("ecco_analyses")]
    return sorted(s.name for s in specs if s.produces == "TokenScores" and s.name.startswith(incomplete))


class Comparison(Method):
    """The analysis ``faithfulness``, with the methods as arguments."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters but the option that the arguments stand for."""
        return [p for p in super().get_params(ctx) if p not in self.own or p.name != "methods"]

    def invoke(self, ctx: click.Context) -> None:
        """Compare the methods."""
        from ecco_core.plugin.manager import plugins

        given: dict[str, Any] = {"methods": None, **ctx.params}
        if len(given["model"]) > 1:
            raise OptionError(
                "Methods are compared on one model. How alike two models are, layer by layer: "
                "`ecco run cka -m MODEL -m OTHER -t TEXT`."
            )
        showing.check_suffixes(given["save"])
        named = given["compared"] or [name for name in METHODS if plugins().find("ecco_analyses", name)]
        given["methods"] = None if given["scores"] and not given["compared"] else named
        showing.deliver(results(self, given, inputs.runs_of(given)), given["save"], given["as_json"])


compare = Comparison(
    "faithfulness",
    "compare",
    params=[
        click.Argument(["compared"], nargs=-1, metavar="[METHOD]...", shell_complete=_scoring),
        *inputs.parameters(),
        *showing.parameters(),
    ],
    options_metavar="-m MODEL -t TEXT [OPTIONS]",
    short_help="Find out which method to believe on a text, or on several.",
    help=f"""Find out which method to believe: take away the tokens that each ranks first, and see what the model says
    then. Several texts are measured together.

    A METHOD is one that scores tokens, with options of its own as 'integrated_gradients[n_steps=20]'; without any:
    {", ".join(METHODS)}, of what is installed. Random rankings are compared too, as the floor.

    How alike two models are, layer by layer, is another question: ecco run cka -m MODEL -m OTHER -t TEXT. What two
    models or two texts look like to one method: repeat -m or -t of ecco run or ecco report.""",
)
