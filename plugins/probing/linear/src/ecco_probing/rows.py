"""What is probed: the tokens or runs that have a label, and their states at the layers of a site."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ecco_core import OptionError
from ecco_probing.tasks import Labelled, python_classes, word_kinds

if TYPE_CHECKING:
    from ecco_core import Context, Run, Runs, Tokens

FOLDS = 5
MAKERS: dict[str, tuple[Callable[[Sequence[str]], list[Labelled]], str]] = {
    "python": (python_classes, "token classes of Python source"),
    "kinds": (word_kinds, "kinds of words"),
}


@dataclass(frozen=True)
class Rows:
    """Labelled tokens, or labelled runs.

    Attributes:
        runs: where they are. `stack`: in which stack.
        of_run: run -> positions of its rows; of labelled runs, the positions that are averaged for its one row.
        labels: one per row. `types`: its word type, of a labelled run the run's text.
        whole: whether runs are labelled, not tokens. `what`: the labels, in words.
    """

    runs: Runs
    stack: str
    of_run: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    types: tuple[str, ...]
    whole: bool
    what: str

    @property
    def sequences(self) -> tuple[int, ...]:
        """The run of each row; runs of the same tokens are one."""
        same: dict[Hashable, int] = {}
        found = []
        for run, positions in zip(self.runs, self.of_run):
            tokens = tuple(tuple(some.ids.tolist()) for some in run.transcript.tokens.values())
            found += [same.setdefault(tokens, len(same))] * (1 if self.whole else len(positions))
        return tuple(found)

    def of_class(self, values: Sequence[Hashable]) -> dict[str, set[Hashable]]:
        """Return label -> what there is among its rows of `values`, one value per row."""
        found: dict[str, set[Hashable]] = {label: set() for label in self.labels}
        for label, value in zip(self.labels, values):
            found[label].add(value)
        return found

    def states(self, site: str, layers: int | Sequence[int] | None) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield each layer (of a site outside of the blocks, its name) and its states ``(row, unit)``."""
        captures = self.runs.capture(site, layers=layers, stack=self.stack)
        for layer in captures[0].layers(site) or (None,):
            parts = []
            for run, capture, positions in zip(self.runs, captures, self.of_run):
                state = capture.numpy(site, layer)
                if len(state) != len(run.transcript.tokens[self.stack]) or "pattern" in site:
                    raise OptionError(
                        f"The site {site!r} has no state per token; take resid_post, mlp_post or attn_out."
                    )
                state = state.reshape(len(state), -1)[list(positions)]
                parts.append(state.mean(0, keepdims=True) if self.whole else state)
            yield site if layer is None else layer, np.concatenate(parts)


def rows_of(ctx: Context, concept: str, state: str, stack: str | None) -> Rows:
    """Return the rows that the labels, or the concept that makes labels, give.

    Raises:
        OptionError: no labels, labels that fit neither tokens nor runs, a concept that finds none, or no such stack.
    """
    from ecco_core import Runs

    runs, stack = Runs(ctx.runs), stack or ctx.run.transcript.stack
    if any(run.lm.model is not ctx.run.lm.model for run in runs):
        raise OptionError("A probe reads one model; these runs are of several.")
    if stack not in ctx.run.transcript.tokens:
        raise OptionError(f"No stack {stack!r} in this run; it has {', '.join(ctx.run.transcript.tokens)}.")
    tokens = [run.transcript.tokens[stack] for run in runs]
    labels = ctx.options["labels"]
    if concept != "labels":
        if labels is not None:
            raise OptionError(f"The concept {concept!r} makes its labels itself; leave labels or the concept out.")
        return _made(ctx, concept, runs, stack, tokens)
    if labels is None:
        raise OptionError(f"Give labels, one per run or per token, or a concept that makes them: {', '.join(MAKERS)}.")
    lengths = [len(some) for some in tokens]
    if len(labels) == len(runs) > 1:
        return _whole(runs, stack, tokens, labels, state)
    if len(labels) != sum(lengths):
        raise OptionError(
            f"labels are one per run, here {len(runs)} of two or more, or one per token of all runs, here "
            f"{sum(lengths)} ('' for a token without one); found {len(labels)}."
        )
    ends = np.cumsum(lengths)[:-1]
    given = [
        [(p, str(label), word_type(tokens[i], p)) for p, label in enumerate(part) if label]
        for i, part in enumerate(np.split(np.array(labels, dtype=object), ends))
    ]
    return _tokens(runs, stack, given, "labels of tokens")


def word_type(tokens: Tokens, position: int) -> str:
    """Return a token's text without case and white space; white space and the bytes of a character as they are."""
    return tokens.texts[position].strip().casefold() or tokens.labels[position]


def _made(ctx: Context, concept: str, runs: Runs, stack: str, tokens: Sequence[Tokens]) -> Rows:
    """Rows of a concept, without the classes that are too rare to be told."""
    maker, what = MAKERS[concept]
    found = [maker(["" if special else text for text, special in zip(s.texts, s.special)]) for s in tokens]
    if concept == "python" and "\n" not in _round_trip(ctx.run, "a\nb"):
        ctx.note("This tokenizer forgets line breaks: a comment reaches to the end of its run; give one line per run.")
    types: dict[str, set[str]] = {}
    for _, label, word in (row for rows in found for row in rows):
        types.setdefault(label, set()).add(word)
    rare = sorted(label for label, words in types.items() if len(words) < FOLDS)
    if rare:
        ctx.note(f"Left out, as they have fewer than {FOLDS} word types: {', '.join(rare)}.")
    if len(types) - len(rare) < 2:
        raise OptionError(
            f"The concept {concept!r} found {len(types) - len(rare)} classes with {FOLDS} word types or more in the "
            "text; a probe tells two or more from each other: give more text."
        )
    return _tokens(runs, stack, [[row for row in rows if row[1] not in rare] for rows in found], what)


def _round_trip(run: Run, text: str) -> str:
    tokenizer = run.lm.tokenizer
    return str(tokenizer.decode(tokenizer(text)["input_ids"]))


def _tokens(runs: Runs, stack: str, found: Sequence[Sequence[Labelled]], what: str) -> Rows:
    of_run = tuple(tuple(position for position, _, _ in rows) for rows in found)
    rows = [row for rows in found for row in rows]
    return Rows(runs, stack, of_run, tuple(r[1] for r in rows), tuple(r[2] for r in rows), False, what)


def _whole(runs: Runs, stack: str, tokens: Sequence[Tokens], labels: Sequence[str], state: str) -> Rows:
    kept = [i for i, label in enumerate(labels) if label]
    of_run = tuple((len(tokens[i]) - 1,) if state == "last" else tuple(range(len(tokens[i]))) for i in kept)
    texts = tuple(tokens[i].text for i in kept)
    what = f"labels of runs ({'last state' if state == 'last' else 'mean of the states'})"
    return Rows(type(runs)(runs[i] for i in kept), stack, of_run, tuple(labels[i] for i in kept), texts, True, what)
