"""What a command is given to work on: models and texts, and the runs that they make."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from ecco_core.data.shown import visible
from ecco_core.errors import EccoError, OptionError
from ecco_core.registry.structure import GENERATING, TASKS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ecco_core.session.language_model import LanguageModel
    from ecco_core.session.run import Run

#: Arguments of generating that have an option of their own.
_OWN = {"text": "-t", "max_new_tokens": "-n", "output": "--output", "stream": "--stream"}
#: Those of transformers that must be written with a point in Python: 2 is taken for 2.0.
_FLOATS = {"temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty"}


class Generation(click.ParamType):  # type: ignore[type-arg]
    """``name=value`` for a model's generate: true, false, null, a number, or else a text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split and read the value."""
        if not isinstance(value, str):
            return value
        name, equals, text = value.partition("=")
        if not (equals and name.isidentifier()):
            self.fail(f"{value!r} is not written as name=value, such as temperature=0.7.", param, ctx)
        if name in _OWN:
            self.fail(f"{name} is given with {_OWN[name]}.", param, ctx)
        try:
            read = json.loads(text.lower())
        except ValueError:
            return name, text
        if isinstance(read, int) and name in _FLOATS:
            return name, float(read)
        return name, text if isinstance(read, (dict, list, str)) else read


def parameters(required: bool = True) -> list[click.Parameter]:
    """Return the options that name models and texts and say how an answer is made."""
    return [
        click.Option(
            ["-m", "--model"],
            multiple=True,
            required=required,
            shell_complete=_models,
            help="Name on the hub, local folder, or source:name such as tiny:prose. Repeat it for several models.",
        ),
        click.Option(["-t", "--text"], multiple=True, help="The text; '-' is standard input. May be repeated."),
        click.Option(
            ["--texts"],
            type=click.File(encoding="utf-8-sig"),
            metavar="FILE",
            help="A file of texts, one on each line; '-' is standard input.",
        ),
        click.Option(
            ["-n", "--max-new-tokens"],
            type=click.IntRange(min=0),
            metavar="INTEGER",
            help="How many tokens to generate, of a model that generates; 0 takes the text as it stands."
            " [default: 10, or 0 where several models are compared]",
        ),
        click.Option(["--output"], help="What the model is taken to have answered, instead of generating."),
        click.Option(
            ["-g", "--generation"],
            type=Generation(),
            multiple=True,
            help="How to generate, as the model's own generate takes it: do_sample=true, temperature=0.7, num_beams=4,"
            " seed=1. May be repeated.",
        ),
        click.Option(
            ["--stream"], is_flag=True, default=None, help="Show the answer on standard error as it is generated."
        ),
        click.Option(
            ["--task"],
            type=click.Choice(TASKS),
            metavar="TASK",
            help=f"What to open the model for: {', '.join(TASKS)}. [default: what it was saved for]",
        ),
        click.Option(["--device"], help="Where to put the model, such as cuda. [default: cpu]"),
        click.Option(["--dtype"], help="Numbers to compute with, such as bfloat16. [default: the model's own]"),
    ]


def _models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the models that plugins bring, else folders."""
    from click.shell_completion import CompletionItem

    from ecco_core.plugin.manager import plugins

    offers = plugins().offers("ecco_model_sources")
    names = [f"{offer.spec.name}:{model}" for offer in offers for model in offer.spec.models]
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="dir")]


def runs_of(given: Mapping[str, Any], *, compared: bool = False) -> list[tuple[str, Run]]:
    """Open each model, read or continue each text with it, and return the runs, each with what to call it.

    Args:
        given: values of `parameters`.
        compared: whether one analysis gets all runs; texts of several models are then taken as they stand.

    Raises:
        EccoError: no text, no such model, a text that it cannot read, an option that does not fit.
    """
    from ecco_core.cli.main import quiet_transformers
    from ecco_core.session.opening import from_pretrained
    from ecco_core.session.run import dtype_of

    texts, models = _texts(given), given["model"]
    if given["dtype"] != "auto":
        dtype_of(given["dtype"])
    quiet_transformers()
    opening = {name: given[name] for name in ("task", "device", "dtype") if given[name] is not None}
    count = 0 if compared and len(models) > 1 and given["max_new_tokens"] is None else given["max_new_tokens"]
    found = []
    for model in models:
        lm = from_pretrained(model, **opening)
        for text in texts:
            name = _called(text) + f" by {visible(model)}" * (len(models) > 1)
            with naming(name, texts):
                found.append((name, _run(lm, text, count, given)))
    return found


def _run(lm: LanguageModel, text: str, count: int | None, given: Mapping[str, Any]) -> Run:
    options, output = dict(given["generation"]), given["output"]
    if given["stream"]:
        options["stream"] = True
    if output is None:
        if lm.task not in GENERATING and not count and not options:
            return lm(text)  # type: ignore[no-any-return]
        options = {"seed": 0, **options}
        count = 10 if count is None and "max_length" not in options else count
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
        return lm.generate(text, count, output=output, **options)  # type: ignore[no-any-return]


@contextlib.contextmanager
def naming(name: str, several: Sequence[Any]) -> Iterator[None]:
    """Say in errors of the block which of several texts they are about."""
    try:
        yield
    except EccoError as error:
        if len(several) == 1:
            raise
        raise type(error)(f"{name}: {error}") from error


def _called(text: str, most: int = 40) -> str:
    line = " ".join(text.split())
    return repr(visible(line if len(line) <= most else line[: most - 1] + "…"))


def _texts(given: Mapping[str, Any]) -> list[str]:
    """The texts that were given, those of ``-t`` first.

    Raises:
        OptionError: there is none, or a file is not UTF-8.
    """
    found = [
        _read(click.open_file("-", encoding="utf-8-sig")).rstrip("\n") if one == "-" else one for one in given["text"]
    ]
    if (file := given["texts"]) is not None:
        lines = [line for line in _read(file).split("\n") if line.strip()]
        if not lines:
            raise OptionError(f"No text in {file.name!r}: it has one on each line that is not blank.")
        found += lines
    if not found:
        raise OptionError("There is no text: give one with -t, or a file of texts with --texts.")
    return found


def _read(file: IO[str]) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise OptionError(f"{file.name!r} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
