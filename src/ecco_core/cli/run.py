"""``ecco run METHOD``: generate, analyze, print, save; the options come from the method's own function."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TextIO, Union, get_args, get_origin

import click

from ecco_core.errors import OptionError
from ecco_core.options import Option, type_name
from ecco_core.registry.structure import GENERATING, TASKS


class Methods(click.Group):
    """One command per installed analysis."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the analyses."""
        from ecco_core.plugin.manager import plugins

        return sorted({o.spec.name for o in plugins().offers("ecco_analyses")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Build the command from the spec and the signature of its target."""
        return command_for(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and summaries from the specs alone, without loading any target."""
        from ecco_core.plugin.manager import plugins

        offers = sorted(plugins().offers("ecco_analyses"), key=lambda offer: offer.spec.name)
        for inputs, titled in (("run", ""), ("runs", " of several texts"), ("pair", " of two texts")):
            if rows := [(o.spec.name, o.spec.summary) for o in offers if o.spec.inputs == inputs]:
                with formatter.section(f"Methods{titled}"):
                    formatter.write_dl(rows)


@click.group(cls=Methods, subcommand_metavar="METHOD [OPTIONS]")
def run() -> None:
    """Run an analysis on a text: continue it with a model, explain, print and save."""


class Listed(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated values, as ``3,4,-1``."""

    name = "list"

    def __init__(self, item: type) -> None:
        self.item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split and convert."""
        if not isinstance(value, str):
            return value
        try:
            return [self.item(part) for part in value.split(",")]  # a blank may belong to a token
        except ValueError:
            self.fail(f"{value!r} is no comma-separated list of {self.item.__name__}.", param, ctx)


class Chosen(click.Choice):  # type: ignore[type-arg]
    """One of the values of a Literal, which need not be texts."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        super().__init__([str(value) for value in values])
        self.values = {str(value): value for value in values}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Choose by text, return the value."""
        return self.values[super().convert(value, param, ctx)]


class TokenOrId(click.ParamType):  # type: ignore[type-arg]
    """A token's text, or its id where it is written in digits alone."""

    name = "token"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Tell the two apart."""
        return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def command_for(name: str) -> click.Command:
    """Return the command of one analysis.

    Raises:
        AnalysisNotFoundError: there is none of that name.
    """
    from ecco_core.plugin.manager import plugins
    from ecco_core.running import options_for

    offer = plugins().analysis(name)
    options = options_for(offer.spec, offer.load())
    own = [_parameter(option) for option in options.values() if _click_type(option.annotation)]
    about = f"{offer.spec.summary}.\n\n{offer.spec.reference}".strip()
    return click.Command(
        name,
        params=[*_text_parameters(), *own],
        callback=_callback(name, offer.spec.inputs, list(options)),
        help=about,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _text_parameters() -> list[click.Parameter]:
    return [
        click.Option(["-m", "--model"], required=True, help="Name on the hub, local folder, or source:name."),
        click.Option(
            ["-t", "--text"],
            multiple=True,
            help="The prompt; '-' reads it from standard input. May be repeated, for methods of several texts.",
        ),
        click.Option(
            ["--texts"],
            type=click.File(encoding="utf-8"),
            help="A file of prompts, one on each line; '-' reads standard input.",
        ),
        click.Option(
            ["-n", "--max-new-tokens"],
            type=click.IntRange(min=0),
            help="How many tokens to generate and explain, of a model that generates; 0 takes the text as it stands."
            " [default: 10]",
        ),
        click.Option(["--output"], help="What the model is taken to have answered, instead of generating."),
        click.Option(
            ["--task"], type=click.Choice(TASKS), help="What to open the model for. [default: what it was saved for]"
        ),
        click.Option(
            ["--save"],
            type=click.Path(path_type=Path),
            multiple=True,
            help="Also write it there; the suffix says as what (.html, .ecco, .txt). May be repeated.",
        ),
    ]


def _parameter(option: Option) -> click.Parameter:
    flag = "--" + option.name.replace("_", "-")
    kind = _click_type(option.annotation)
    shown = option.default is not None and not option.required
    text = option.help.replace("\b", "")
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", option.name], default=None, help=text)
    default = f" [default: {option.default}]" if shown else ""
    return click.Option(
        [flag, option.name],
        type=kind,
        required=option.required,
        help=f"{text}{default}".strip(),
        metavar=_metavar(kind, option.annotation),
    )


def _metavar(kind: Any, annotation: Any) -> str | None:
    if isinstance(kind, click.Choice):
        return None
    return (
        f"{kind.item.__name__.upper()},…"
        if isinstance(kind, Listed)
        else type_name(annotation).replace(" or None", "").replace("int or str", "token").upper()
    )


def _click_type(annotation: Any) -> Any:
    """The click type of an option's annotation; None for what a command line cannot give (a Result)."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [a for a in get_args(annotation) if a is not type(None)]
        sequence = next((k for k in kinds if get_args(k) and get_origin(k) is not Literal), None)
        if sequence is not None:
            return _click_type(sequence)
        if str in kinds and len(kinds) > 1:
            return TokenOrId() if int in kinds else click.STRING
        return float if float in kinds else _click_type(kinds[0])
    if get_origin(annotation) is Literal:
        return Chosen(get_args(annotation))
    if get_args(annotation):
        items = [a for a in get_args(annotation) if a is not Ellipsis]
        return Listed(items[0] if items[0] in (int, float, str) else str)
    if annotation is Path:
        return click.Path(path_type=Path)
    return annotation if annotation in (bool, int, float, str) else None


def _callback(name: str, inputs: str, options: list[str]) -> Callable[..., None]:
    def callback(
        model: str,
        text: tuple[str, ...],
        texts: TextIO | None,
        max_new_tokens: int | None,
        output: str | None,
        task: str | None,
        save: tuple[Path, ...],
        **given: Any,
    ) -> None:
        from ecco_core import analyze, rendering
        from ecco_core.cli.main import quiet_transformers
        from ecco_core.session.opening import from_pretrained

        check_suffixes(save)
        prompts = _prompts(name, inputs, text, texts)
        chosen = {k: v for k, v in given.items() if v is not None and k in options}
        quiet_transformers()
        lm = from_pretrained(model, task=task)
        if output is not None:
            runs = [lm.generate(prompt, max_new_tokens, output=output) for prompt in prompts]
        elif lm.task in GENERATING or max_new_tokens:
            runs = [lm.generate(prompt, 10 if max_new_tokens is None else max_new_tokens) for prompt in prompts]
        else:
            runs = [lm(prompt) for prompt in prompts]
        result = analyze(name, runs, **chosen)
        click.echo(rendering.terminal_or_plain(result), color=True)
        for path in save:
            click.echo(f"Wrote {result.save(path)}", err=True)

    return callback


def _prompts(name: str, inputs: str, text: tuple[str, ...], texts: TextIO | None) -> list[str]:
    """The texts that were given, as many as the method works on.

    Raises:
        OptionError: these are not that many.
    """
    found = [sys.stdin.read().rstrip("\n") if one == "-" else one for one in text]
    if texts is not None:
        lines = [line.rstrip("\r\n") for line in texts]
        found += [line for line in lines if line.strip()]
        if not any(map(str.strip, lines)):
            raise OptionError(f"No text in {texts.name!r}: it has one on each line that is not blank.")
    expected = {"run": ("one text", len(found) == 1), "pair": ("two texts", len(found) == 2)}
    told, fits = expected.get(inputs, ("one text or more", bool(found)))
    if not fits:
        raise OptionError(f"{name} works on {told}, found {len(found)}. Give each with -t, or a file with --texts.")
    return found


def check_suffixes(paths: tuple[Path, ...]) -> None:
    """Refuse an unwritable place before the work, not after it."""
    from ecco_core.rendering import suffixes, unknown_suffix

    for path in paths:
        if path.suffix.lower() not in suffixes():
            raise unknown_suffix(path)
        if not path.parent.is_dir():
            raise OptionError(f"Cannot write {str(path)!r}: the folder {str(path.parent)!r} does not exist.")
