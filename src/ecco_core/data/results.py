"""The kinds of result: labelled values with where they come from, saved and shown without the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs.validators import instance_of

from ecco_core.data.fields import as_dict, as_rows, as_tuple
from ecco_core.data.labelled import LabelledArray
from ecco_core.data.tokens import Tokens
from ecco_core.errors import OptionError, optional_library

_ARRAY = instance_of(LabelledArray)


@attrs.frozen(kw_only=True)
class Provenance:
    """Where a result comes from; enough to make it again.

    Attributes:
        analysis: name of the analysis; `plugin` is the distribution and version that brought it.
        model: name of the model, `model_type` its architecture.
        options: the options in force, common ones included.
        seed: seed of everything random in it.
        precision: dtype of the model's forward pass; `device` where it ran.
        versions: library -> version.
        interventions: what the model was changed by.
    """

    analysis: str = ""
    plugin: str = ""
    model: str = ""
    model_type: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=as_dict)
    seed: int | None = None
    precision: str = ""
    device: str = ""
    versions: Mapping[str, str] = attrs.field(factory=dict, converter=as_dict)
    interventions: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Target:
    """One thing to explain.

    Attributes:
        position: the token at this position of `stack` is explained (0 is the first token of the run).
        token_id: the vocabulary entry whose score is explained, usually the token that stands there.
        text: that entry's text.
        score: ``"logprob"`` (natural log), ``"logit"`` or ``"prob"`` of the entry; of all entries the ``"entropy"``
            (nats), or ``"kl"``: minus the divergence (nats) of the prediction from the one at the run's own input.
        contrast_id: explain the difference of its score to this entry's; `contrast_text` is its text.
        value: the score at the run's own input.
        probability: probability of `token_id` there, 0 to 1.
        kind: ``"token"``, ``"masked"``, ``"class"`` (number `token_id`; a text's stands after its last token), or
            ``"neuron"`` (unit `token_id` of what `score` names, at this position).
        upto: end of a span: the scores of the tokens from `position` to before it are summed; None for one token.
    """

    position: int
    token_id: int
    text: str
    score: str = "logprob"
    stack: str = "decoder"
    contrast_id: int | None = None
    contrast_text: str = ""
    value: float | None = None
    probability: float | None = None
    kind: str = "token"
    upto: int | None = None

    def valued(self, value: float) -> Target:
        """Return the same target with its score at the run's own input."""
        probability = {"logprob": math.exp(min(value, 0.0)), "prob": value}.get(self.score)
        return attrs.evolve(self, value=value, probability=None if self.contrast_id is not None else probability)

    @property
    def quantity(self) -> str:
        """What is explained, in words: ``"log-probability of ' Nora'"``, ``"logit of class 'good'"``."""
        if self.kind == "neuron":
            return f"{self.score} at {self.text!r}"
        names = {"logprob": "log-probability", "prob": "probability", "kl": "minus the KL divergence"}
        of = " the prediction for" if self.score in ("entropy", "kl") else " class" * (self.kind == "class")
        versus = f" rather than {self.contrast_text!r}" if self.contrast_id is not None else ""
        versus = " from the run's own" if self.score == "kl" else versus
        return f"{names.get(self.score, self.score)} of{of} {self.text!r}{versus}"


@attrs.frozen(kw_only=True)
class Source:
    """One thing that a score is given to: a token, or several tokens that form a word or a span.

    Attributes:
        stack: stack whose tokens these are.
        positions: the positions it covers, ascending.
        text: their text.
    """

    stack: str
    positions: tuple[int, ...] = attrs.field(converter=as_tuple)
    text: str


@attrs.frozen(kw_only=True)
class Heat:
    """A block to show: a matrix of numbers, with a text in each cell if there are `texts`."""

    title: str
    values: LabelledArray
    texts: LabelledArray | None = None


@attrs.frozen(kw_only=True)
class Rows:
    """A block to show: a table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def _rendering() -> Any:
    """The module that shows results; it imports this one."""
    from ecco_core import rendering

    return rendering


def _numbered(tokens: Tokens) -> list[str]:
    """Labels of a token axis: position and text."""
    return [f"{position} {label}" for position, label in enumerate(tokens.labels)]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Result:
    """What an analysis returns. Holds arrays and labels only; saves to one file, renders in any medium.

    Attributes:
        title: what it shows, one line.
        provenance: where it comes from.
        notes: what a reader must know to read it right: warnings, limits, a degenerate method.
    """

    title: str = attrs.field(default="", validator=instance_of(str))
    provenance: Provenance = attrs.field(factory=Provenance)
    notes: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """Names of this kind and the kinds it inherits from, nearest first."""
        return tuple(c.__name__ for c in cls.__mro__ if issubclass(c, Result))

    def arrays(self) -> dict[str, LabelledArray]:
        """Field name -> labelled array, of all that are there."""
        fields = {a.name: getattr(self, a.name) for a in attrs.fields(type(self))}
        return {name: value for name, value in fields.items() if isinstance(value, LabelledArray)}

    def blocks(self) -> Iterator[Heat | Rows]:
        """What to show of it as heat maps and tables: the view of every renderer that knows no better."""
        main = getattr(self, "quantity", "") or self.title
        for name, array in self.arrays().items():
            if name != "ids" and array.values.dtype.kind in "biuf" and array.values.ndim in (1, 2):
                texts = getattr(self, "texts", None) if name == "values" else None
                yield Heat(title=main if name == "values" else name, values=array, texts=texts)

    def to_dataframe(self) -> Any:
        """The main array in long form: a column per dimension, and ``value`` (needs pandas)."""
        arrays = list(self.arrays().values())
        if not arrays:
            raise OptionError(f"A {type(self).__name__} has no array of its own to make a DataFrame of.")
        return arrays[0].to_dataframe()

    def show(self, **options: Any) -> None:
        """Display it: the page in a notebook, coloured text in a terminal, plain text elsewhere."""
        _rendering().show(self, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write it to `path`; the suffix says as what (``.ecco`` keeps all of it, ``.html`` a page).

        Raises:
            RenderError: nothing installed writes that suffix.
            StorageError: the file cannot be written.
        """
        return Path(_rendering().save(self, Path(path), **options))

    def to_html(self, **options: Any) -> str:
        """A self-contained HTML fragment (needs ecco-html)."""
        return str(_rendering().render(self, "text/html", **options))

    def to_text(self) -> str:
        """Plain text."""
        return str(_rendering().render(self, "text/plain"))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return dict(_rendering().mimebundle(self))

    def __repr__(self) -> str:
        return str(_rendering().terminal_or_plain(self))

    def __str__(self) -> str:
        return self.to_text()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TokenScores(Result):
    """How much each source contributed to each target.

    Attributes:
        values: ``(target, source)``, in units of the target's score where `signed`. A causal model's
            later tokens have exactly 0.
        tokens: stack -> the whole run's tokens, prompt and output.
        sources: one per column; `targets` one per row.
        n_input_tokens: length of the prompt in the targets' stack.
        aggregation: how the embedding's units became one number: ``sum``, ``l2``, ``dot``, ``max``; empty if none did.
        signed: whether negative means "spoke against". `unit`: what the numbers are in, in words.
        completeness: ``(target,)``: what the signed sum over sources and units misses of score(input) −
            score(baseline), whatever the aggregation; None where the method makes no such promise.
        change: ``(target,)``, that difference itself. `missed`: what to call what is missed, if it is no error.
        baseline: what absence was taken to be, in words.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    tokens: Mapping[str, Tokens]
    sources: tuple[Source, ...] = attrs.field(converter=as_tuple)
    targets: tuple[Target, ...] = attrs.field(converter=as_tuple)
    n_input_tokens: int
    aggregation: str = "sum"
    signed: bool = True
    unit: str = "units of the target"
    completeness: LabelledArray | None = None
    change: LabelledArray | None = None
    missed: str = "completeness error"
    baseline: str = ""

    def __attrs_post_init__(self) -> None:
        shape = (len(self.targets), len(self.sources))
        if self.values.shape != shape:
            raise ValueError(f"values have the shape {self.values.shape}, targets and sources make it {shape}")
        for array in (self.completeness, self.change):
            if array is not None and array.shape != shape[:1]:
                raise ValueError(f"completeness and change are one per target, found {array.shape} for {shape[0]}")
        if not all(isinstance(t, Target) for t in self.targets) or not all(s.positions for s in self.sources):
            raise ValueError("targets are Target objects, and a source covers at least one position")

    @property
    def described(self) -> str:
        """What the numbers are: signed or not, how aggregated, in which unit."""
        names = {"sum": "sum", "l2": "L2 norm", "max": "largest", "dot": "product with the embedding, summed"}
        how = f", {names.get(self.aggregation, self.aggregation)} over the embedding's units" * bool(self.aggregation)
        return f"{'signed' if self.signed else 'unsigned'}{how}, in {self.unit}"

    def relative_error(self) -> np.ndarray | None:
        """Completeness error as a share of the change it should explain, ``(target,)``; None without."""
        if self.completeness is None or self.change is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.abs(self.completeness.values / self.change.values))

    def to_dataframe(self) -> Any:
        """Long form: target and source, their positions and texts, and the score (needs pandas)."""
        pandas = optional_library("pandas", "a DataFrame")
        rows = [
            (i, t.position, t.text, s.stack, s.positions[0], s.text, float(value))
            for i, (t, row) in enumerate(zip(self.targets, self.values.values))
            for s, value in zip(self.sources, row)
        ]
        names = "target target_position target_text source_stack source_position source_text score"
        return pandas.DataFrame(rows, columns=names.split())

    def blocks(self) -> Iterator[Heat | Rows]:
        """One heat map, target × source."""
        labels = {
            "target": [f"{t.position} {t.text}" for t in self.targets],
            "source": [f"{s.stack} " * (len(self.tokens) > 1) + f"{s.positions[0]} {s.text}" for s in self.sources],
        }
        yield Heat(title=self.title, values=LabelledArray(self.values.values, ("target", "source"), labels))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TokenGrid(Result):
    """A number and a token for each layer and position: lens and rankings.

    Attributes:
        values: ``(layer, position)``; `texts` the token of each cell, same shape.
        quantity: what the numbers are, with their unit or range.
        candidates: ``(layer, position, rank)``, the tokens that are most likely in each cell, best first;
            `candidate_values` their probabilities, 0 to 1, same shape.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    texts: LabelledArray | None = None
    candidates: LabelledArray | None = None
    candidate_values: LabelledArray | None = None
    quantity: str = ""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Predictions(Result):
    """Candidates with their probabilities, best first.

    Attributes:
        values: probabilities ``(row, rank)``, 0 to 1; rows are layers or positions, as its dims say.
        texts: the candidates' texts, same shape; `ids` their vocabulary entries.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    texts: LabelledArray
    ids: LabelledArray | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Patterns(Result):
    """Attention patterns.

    Attributes:
        values: ``(layer, head, query, key)``, rows sum to 1 over key.
        tokens: stack -> tokens; `query_stack` and `key_stack` say which belong to the axes.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    tokens: Mapping[str, Tokens] = attrs.field(factory=dict)
    query_stack: str = "decoder"
    key_stack: str = "decoder"

    def blocks(self) -> Iterator[Heat | Rows]:
        """Per layer the mean over heads, query × key."""
        stacks = {"query": self.tokens.get(self.query_stack), "key": self.tokens.get(self.key_stack)}
        coords = {dim: _numbered(tokens) for dim, tokens in stacks.items() if tokens is not None}
        for i, layer in enumerate(self.values.labels("layer")):
            mean = LabelledArray(self.values.values[i].mean(0), ("query", "key"), coords)
            yield Heat(title=f"layer {layer}, mean over heads", values=mean)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Components(Result):
    """Factors of activations.

    Attributes:
        values: activation of each component at each token ``(component, token)``.
        loadings: ``(component, unit)``; `tokens` the tokens along the axis.
        quality: name -> how well they fit: explained variance, reconstruction error, stability.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    loadings: LabelledArray
    tokens: Tokens | None = None
    quality: Mapping[str, float] = attrs.field(factory=dict)

    def blocks(self) -> Iterator[Heat | Rows]:
        """Component × token, and the quality as a table."""
        coords = dict(self.values.coords) | ({"token": _numbered(self.tokens)} if self.tokens is not None else {})
        yield Heat(title="activation", values=LabelledArray(self.values.values, self.values.dims, coords))
        if self.quality:
            yield Rows(title="quality", columns=("measure", "value"), rows=tuple(self.quality.items()))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Grid(Result):
    """One number for each pair: similarities of layers, scores of heads.

    Attributes:
        values: ``(a, b)``; `low` and `high` its confidence interval, `null` what chance gives; same shape.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    low: LabelledArray | None = None
    high: LabelledArray | None = None
    null: LabelledArray | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Curves(Result):
    """Lines over a common axis.

    Attributes:
        values: ``(curve, x)`` with the x values as coordinates; `low` and `high` their intervals.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    low: LabelledArray | None = None
    high: LabelledArray | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Points(Result):
    """Places in a plane or space.

    Attributes:
        values: ``(point, axis)``; `labels` one text per point.
    """

    values: LabelledArray = attrs.field(validator=_ARRAY)
    labels: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)

    def blocks(self) -> Iterator[Heat | Rows]:
        """Point × axis, each point by its label."""
        coords = dict(self.values.coords) | ({"point": self.labels} if self.labels else {})
        yield Heat(title=self.title, values=LabelledArray(self.values.values, self.values.dims, coords))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Table(Result):
    """Rows of named columns.

    Attributes:
        columns: their names; `rows` one tuple of strings, numbers, booleans or None per row.
    """

    columns: tuple[str, ...] = attrs.field(converter=as_tuple)
    rows: tuple[tuple[Any, ...], ...] = attrs.field(converter=as_rows)

    def __attrs_post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"each row has {len(self.columns)} cells, one per column")

    def blocks(self) -> Iterator[Heat | Rows]:
        """The table."""
        yield Rows(title=self.title, columns=self.columns, rows=self.rows)

    def to_dataframe(self) -> Any:
        """As a pandas DataFrame."""
        return optional_library("pandas", "a DataFrame").DataFrame(list(self.rows), columns=list(self.columns))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Fitted(Result):
    """A trained thing - a lens, a probe, a dictionary - to save, load and pass back as an option.

    Attributes:
        parameters: name -> array.
        settings: what it was trained with.
    """

    parameters: Mapping[str, np.ndarray]
    settings: Mapping[str, Any] = attrs.field(factory=dict)

    def blocks(self) -> Iterator[Heat | Rows]:
        """Its parameters' shapes, and its settings."""
        shapes = tuple((name, " × ".join(map(str, p.shape)), str(p.dtype)) for name, p in self.parameters.items())
        yield Rows(title="parameters", columns=("name", "shape", "dtype"), rows=shapes)
        if self.settings:
            yield Rows(title="settings", columns=("name", "value"), rows=tuple(self.settings.items()))


def _results(values: Any) -> tuple[Result, ...]:
    found = (values,) if isinstance(values, Result) else tuple(values)
    if wrong := [type(value).__name__ for value in found if not isinstance(value, Result)]:
        raise OptionError(f"A report is made of results, found {wrong[0]}.")
    return found


@attrs.frozen(eq=False, repr=False)
class Report(Result):
    """Several results to show or save together; ``ecco.report([...])``.

    Attributes:
        results: in the order in which they are shown.
    """

    results: tuple[Result, ...] = attrs.field(converter=_results)

    def blocks(self) -> Iterator[Heat | Rows]:
        """All of theirs."""
        for result in self.results:
            yield from result.blocks()


report = Report
RESULT_KINDS = (TokenScores, TokenGrid, Predictions, Patterns, Components, Grid, Curves, Points, Table, Fitted, Report)
