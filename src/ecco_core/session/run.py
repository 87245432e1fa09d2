"""Run: a transcript bound to the model that made it; analyses and captures start here."""

from __future__ import annotations

import contextlib
import html
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from ecco_core import running
from ecco_core.classic import ClassicRun
from ecco_core.data.capture import Capture
from ecco_core.data.results import Provenance, Result, Source
from ecco_core.data.shown import visible
from ecco_core.data.tokens import Tokens
from ecco_core.data.transcript import Transcript
from ecco_core.errors import OptionError, TargetError, halving, saying
from ecco_core.models.architecture import Place
from ecco_core.models.feed import Feed
from ecco_core.models.hooks import evaluating, state_of
from ecco_core.models.interventions import Intervention, prompted, stack_of, under
from ecco_core.models.reading import Key, read, without_cache
from ecco_core.models.scores import ScoreModule, require_numbers
from ecco_core.options import convert
from ecco_core.plugin.manager import Offer, plugins
from ecco_core.registry.structure import GENERATING, OUTSIDE_BLOCKS
from ecco_core.session import targets as of_task
from ecco_core.texts.features import features_of
from ecco_core.texts.tokenizing import label_of, single_token

if TYPE_CHECKING:
    from ecco_core.session.language_model import LanguageModel

Under = tuple[Intervention, ...]
#: What is asked for -> the plugin's capture that it is, None for a site, and the places that it is made of.
MadeOf = dict[Key, tuple[Offer[Any] | None, list[Key]]]


class Run(ClassicRun):
    """What was said, and the model to ask why.

    Attributes:
        lm: the model. `transcript`: the tokens by stack, prompt and output.
        interventions: what the model was changed by when the run was made; applied whenever it is replayed.
    """

    def __init__(self, lm: LanguageModel, transcript: Transcript, interventions: Sequence[Intervention] = ()) -> None:
        self.lm = lm
        self.transcript = transcript
        self.interventions = tuple(interventions)
        #: under which interventions, where to and as what something was read, and the place -> what was read
        self._read: dict[tuple[Under, str | None, torch.dtype | None, Key], torch.Tensor] = {}
        self._logits: dict[Under, torch.Tensor] = {}
        self._state: str | None = None

    @property
    def tokens(self) -> Tokens:
        """All tokens, prompt and output; ``run.tokens[p]`` is the text of the token at position p."""
        return self.transcript.explained

    @property
    def n_input_tokens(self) -> int:
        """How many of the tokens are the prompt."""
        return self.transcript.n_input_tokens

    @property
    def text(self) -> str:
        """Prompt and output as one string."""
        return self.tokens.text

    @property
    def output_text(self) -> str:
        """What was generated."""
        return self.tokens.part(slice(self.n_input_tokens, None)).text

    def __len__(self) -> int:
        return len(self.tokens)

    def analyze(self, name: str, **options: Any) -> Result:
        """Run an analysis on this run; ``ecco plugins list`` names them.

        Args:
            name: its name or alias. `options`: its own options and the common ones that it takes.

        Raises:
            AnalysisNotFoundError, OptionError, TargetError: bad input. PluginError: the analysis failed.
        """
        return running.analyze(name, self, **options)

    def capture(
        self,
        *sites: str,
        layers: int | Sequence[int] | None = None,
        site: str = "",
        stack: str | None = None,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> Capture:
        """Read sites in one forward pass over the run's tokens; what was read before is not read again.

        Args:
            sites: names of sites, or of captures that plugins offer.
            layers: from 0; if left out, all that have the site.
            stack: ``"encoder"`` or ``"decoder"``; the one whose tokens count if left out.
            device, dtype: where to put what is read, and as what, such as ``"cpu"`` and ``"float32"``; the model's own
                if left out.

        Raises:
            OptionError: no such site, capture, layer, stack or dtype. ArchitectureError: the model's layout is not
                known, and cannot be proven.
        """
        wanted = (*sites, *([site] if site else []))
        if not wanted or not all(isinstance(name, str) for name in wanted):
            raise OptionError("Name at least one site to capture, such as 'resid_post' or 'mlp_post', by its name.")
        with saying(f"No device {device!r} here", OptionError):
            torch.empty(0, device=device)
        how = (device, dtype_of(dtype))
        made_of = self.made_of(wanted, layers, stack)
        read_together([self], made_of, *how)
        tensors: dict[Key, torch.Tensor] = {}
        for key, (offer, places) in made_of.items():
            values = [self._read[self.under, *how, place] for place in places]
            tensors[key] = _derived(offer, values) if offer else values[0]
        return Capture(tensors, self.transcript.tokens, self._stack(stack))

    def made_of(self, sites: Sequence[str], layers: int | Sequence[int] | None, stack: str | None) -> MadeOf:
        """Return what has to be read for sites and plugins' captures.

        Raises:
            OptionError: no such layer or stack.
        """
        stack, architecture = self._stack(stack), self.lm.architecture
        found: MadeOf = {}
        for name in sites:
            known = name in architecture.sites(stack)
            offer = None if known else plugins().find("ecco_captures", name)
            needs = offer.spec.needs if offer else (name,)
            every = architecture.layers_with(name, stack) if known and layers is None else None
            numbers = every or running.places(layers, architecture.n_layers(stack), "layer")
            for layer in (None,) if name in OUTSIDE_BLOCKS else numbers:
                places: list[Key] = [(stack, need, None if need in OUTSIDE_BLOCKS else layer) for need in needs]
                found[stack, name, layer] = offer, places
        return found

    def _stack(self, stack: str | None) -> str:
        stack = stack or self.transcript.stack
        if stack not in self.transcript.tokens:
            raise OptionError(f"No stack {stack!r} in this run; it has {', '.join(self.transcript.tokens)}.")
        return stack

    @property
    def under(self) -> Under:
        """What the model is changed by when this run is replayed now: as when it was made, and by blocks around."""
        return under(self.lm.model, self.interventions)

    def missing(self, keys: Iterable[Key], device: str | None, dtype: torch.dtype | None) -> list[Key]:
        """Return the places that are not read yet."""
        self._forget_stale()
        return [key for key in dict.fromkeys(keys) if (self.under, device, dtype, key) not in self._read]

    def _forget_stale(self) -> None:
        """Drop what was read before the weights changed, and tensors that somebody edited in place."""
        state = state_of(self.lm.model)
        if state != self._state:
            self.release()
            self._state = state
        self._read = {key: tensor for key, tensor in self._read.items() if not _edited(tensor)}
        self._logits = {key: tensor for key, tensor in self._logits.items() if not _edited(tensor)}

    def release(self) -> None:
        """Free everything that was captured."""
        self._read.clear()
        self._logits.clear()

    @property
    def ids(self) -> torch.Tensor:
        """Token ids ``(token,)`` of the explained stack, on the device of the model's embedding."""
        return self.lm.tensors(self.transcript)[self.transcript.stack]

    def scores(
        self,
        targets: int | str | Sequence[int | str] | None = None,
        contrast: int | str | None = None,
        score: str = "logprob",
        *,
        at: tuple[str, int] | None = None,
        neuron: tuple[str, int, int] | None = None,
    ) -> ScoreModule:
        """Return the chosen targets as a module from input embeddings to scores.

        Args:
            targets: positions of tokens; of a sequence classifier, its classes, by name or number. By default all
                generated tokens, the masked places, the predicted class, or the predicted class of every token.
            contrast: a token, or a class, that each target is compared with.
            score: ``logprob``, ``logit`` or ``prob``; ``entropy`` or ``kl`` of the prediction.
            at: site and layer: the module's input is what passes there, in the place of the embeddings.
            neuron: site, layer and unit: its activation at the targets' own positions is explained, no prediction.

        Raises:
            TargetError: a target is not in the run or has nothing to explain it, or the contrast is none.
            OptionError: no such site, layer or unit, or values do not pass it one after the other.
        """
        targets = convert(targets, running.TARGETS, "targets")
        score = convert(score, running.SCORES, "score")
        contrast = convert(contrast, int | str | None, "contrast")
        if neuron is not None and (contrast is not None or score != "logprob"):
            raise TargetError("A neuron's activation is explained as it is; leave score and contrast out.")
        if self.lm.task == "causal":
            self.lm.require_causal(self.ids)
        module = ScoreModule(
            self.lm.model,
            self.transcript,
            of_task.neurons_of(self, targets, neuron) if neuron else of_task.targets_of(self, targets, contrast, score),
            **self._embeddings(),
            mask_id=self.lm.tokenizer.mask_token_id,
            scope=lambda: self.lm.applying(self.interventions),
            read=self._inside(*neuron[:2]) if neuron else None,
            deep=self._last_block(),
        )
        return module.inside(self._inside(*at), self.transcript.stack) if at else module

    def _inside(self, site: str, layer: int) -> Place:
        """Where a site passes, one row per token."""
        place = self.lm.architecture.place(site, self.resolve_layers(layer)[0], self.transcript.stack)
        if place.side not in ("input", "output") or site in ("embedding", "logits"):
            raise OptionError(f"The site {site!r} cannot be explained from: take resid_post, mlp_post or attn_out.")
        return place

    def _last_block(self) -> tuple[Place, ...]:
        """What enters the last block, and what its attention sums up; nothing where that is not known."""
        architecture, stack = self.lm.architecture if self.lm.structure[0] else None, self.transcript.stack
        if architecture is not None and len(architecture.stacks) == 1:
            with contextlib.suppress(OptionError):  # no attention, or none in the last layer
                return tuple(architecture.place(s, architecture.n_layers(stack) - 1, stack) for s in ("resid_pre", "z"))
        return ()

    def features(self, wanted: str | Sequence[str] = "tokens", scores: ScoreModule | None = None) -> list[Source]:
        """Return the run's ``tokens``, ``words``, ``sentences``, or spans such as ``["0:4", "4:9"]``.

        Args:
            scores: leave out the tokens that none of its targets can see.

        Raises:
            OptionError: no such kind, or spans that do not cover each token once.
        """
        tokens = self.transcript.tokens
        seen = {stack: len(scores.ids[stack] if scores else of_stack) for stack, of_stack in tokens.items()}
        return features_of(tokens, seen, wanted)

    def _embeddings(self) -> dict[str, Any]:
        """The modules that embed the tokens of each stack, and the one that embeds them again."""
        if self.lm.structure[0] is None and len(self.transcript.tokens) == 1:
            return {}  # the model names it itself
        architecture = self.lm.architecture
        modules = {stack: architecture.embedding(stack).module for stack in architecture.stacks}
        of_tokens = {stack: modules.pop(stack) for stack in self.transcript.tokens}
        return {"embeddings": of_tokens, "again": next(iter(modules.values()), None)}

    def provenance(self) -> Provenance:
        """Where this run comes from: model, precision, device, interventions, versions."""
        return Provenance(
            model=self.lm.name,
            model_type=self.lm.model_type,
            precision=self.lm.precision,
            device=str(self.lm.device),
            versions={name: version(name) for name in ("ecco-core", "torch", "transformers")},
            interventions=tuple(map(repr, self.under)),
        )

    def label(self, token: int) -> str:
        """Return how a vocabulary entry reads inside of a text."""
        return label_of(self.lm.tokenizer, token)

    def token_id(self, wanted: int | str, what: str) -> int:
        """Return the vocabulary entry that an id or a text names; `what` it is for, in messages.

        Raises:
            TargetError: no such id, or the text is not exactly one token.
        """
        return single_token(self.lm.tokenizer, wanted, self.lm.vocabulary, what)

    def next_token(self) -> int:
        """Return the most probable token after the run, the one not chosen yet."""
        return int(self.logits()[-1].argmax())

    def logits(self, ids: torch.Tensor | None = None) -> torch.Tensor:
        """Return the model's logits for the run: ``(token, vocabulary)``, ``(token, class)`` or ``(class,)``.

        Args:
            ids: other token ids ``(token,)`` in the place of the run's own.

        Raises:
            ArchitectureError: they are no numbers, or the model has no head.
        """
        self._forget_stale()
        key = self.under
        if ids is None and key in self._logits:
            return self._logits[key]
        rows = self.lm.tensors(self.transcript) | ({} if ids is None else {self.transcript.stack: ids})
        model = self.lm.model
        with _as_made(self), evaluating(model), torch.inference_mode(False), torch.no_grad():
            output = model(**Feed.of(rows).arguments(), **without_cache(model), return_dict=True)
        if getattr(output, "logits", None) is None:
            raise TargetError(f"A {type(model).__name__} has no head, so it predicts nothing that could be explained.")
        logits: torch.Tensor = output.logits[0].clone()
        require_numbers(logits, model)
        if ids is None:
            self._logits[key] = logits
        return logits

    def resolve_layers(self, layers: int | Sequence[int] | None) -> tuple[int, ...]:
        """Return layers as numbers from 0, ascending as given; all for None; -1 is the last.

        Raises:
            OptionError: no such layer.
        """
        return running.places(layers, self.lm.architecture.n_layers(self.transcript.stack), "layer")

    def resolve_positions(self, positions: int | Sequence[int] | None) -> tuple[int, ...]:
        """Return positions as numbers from 0; all for None; -1 is the last.

        Raises:
            OptionError: no such position.
        """
        return running.places(positions, len(self), "position")

    def _said(self) -> tuple[str, str]:
        """What was given and what came out, as one reads it."""
        if self.lm.task == "seq2seq":
            return self.transcript.tokens["encoder"].text, self.output_text
        return self.tokens.part(slice(0, self.n_input_tokens)).text, self.output_text

    def __repr__(self) -> str:
        given, output = map(visible, self._said())
        n_output = len(self) - self.n_input_tokens
        n_given = sum(map(len, self.transcript.tokens.values())) - n_output
        return f"Run({self.lm.name}: {n_given} + {n_output} tokens)\n{given}│{output}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        given, output = (html.escape(visible(text).replace("⏎", "\n")) for text in self._said())
        page = f'<pre style="white-space:pre-wrap">{given}<b>{output}</b></pre>'
        return {"text/plain": repr(self), "text/html": page}


class Runs(tuple[Run, ...]):
    """Several runs of one model, in order; a tuple that reads all of its runs in few forwards."""

    __slots__ = ()

    def capture(
        self, *sites: str, layers: int | Sequence[int] | None = None, batch_size: int = 16, **options: Any
    ) -> list[Capture]:
        """Read sites of all runs, runs of like length together in one padded forward; no padding is returned.

        Args:
            sites, layers, options: as of `Run.capture`. `batch_size`: most runs in one forward.
        """
        size = max(1, convert(batch_size, int, "batch_size"))
        ordered = sorted(self, key=len)
        for start in range(0, len(ordered), size):
            some = ordered[start : start + size]
            made_of = some[0].made_of(sites, layers, options.get("stack"))
            read_together(some, made_of, options.get("device"), dtype_of(options.get("dtype")))
        return [run.capture(*sites, layers=layers, **options) for run in self]

    def analyze(self, name: str, **options: Any) -> list[Result]:
        """Run an analysis of single runs on each of them."""
        return [run.analyze(name, **options) for run in self]

    def release(self) -> None:
        """Free everything that was captured."""
        for run in self:
            run.release()

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))


def read_together(runs: Sequence[Run], made_of: MadeOf, device: str | None, dtype: torch.dtype | None) -> None:
    """Read what runs of one model do not have yet, together as far as memory is enough, and keep it in the runs."""
    keys = [place for _, places in made_of.values() for place in places]

    def read_some(together: Sequence[Run]) -> None:
        lm, pad = together[0].lm, together[0].lm.tokenizer.pad_token_id
        feed = Feed.of(*(lm.tensors(run.transcript) for run in together), pad=pad if isinstance(pad, int) else 0)
        needed = list(dict.fromkeys(key for run in together for key in run.missing(keys, device, dtype)))
        with _as_made(*together):
            read_of_each = read(lm.model, lm.architecture, feed, needed, device=device, dtype=dtype)
        for run, found in zip(together, read_of_each):
            run._read |= {(run.under, device, dtype, key): tensor for key, tensor in found.items()}

    groups: dict[Under, list[Run]] = {}
    for run in (run for run in runs if run.missing(keys, device, dtype)):
        groups.setdefault(run.under, []).append(run)
    for _ in halving(read_some, groups.values()):
        pass


def _derived(offer: Offer[Any], values: Sequence[torch.Tensor]) -> torch.Tensor:
    """What a plugin's capture makes of the sites that it needs."""
    dims = offer.spec.dims
    with offer.at_work(f"The capture {offer.spec.name!r}"):
        result = torch.as_tensor(offer.load()(*values))
        if result.ndim != len(dims):
            raise ValueError(f"it promises the dims {dims}, returned a shape of {tuple(result.shape)}")
    return result


@contextlib.contextmanager
def _as_made(*runs: Run) -> Iterator[None]:
    """Have the model changed as when these runs were made, and say where an intervention means no token of theirs."""
    lm, task = runs[0].lm, runs[0].transcript.task
    for made, change in ((run, change) for run in runs for change in run.under):
        n = len(made.transcript.tokens.get(stack_of(lm.architecture, change), ()))
        if n and isinstance(change.positions, tuple) and max(change.positions) >= n:
            warnings.warn(f"{change!r}: this run has {n} tokens there, from 0 to {n - 1}.", stacklevel=4)
    prompts = [run.n_input_tokens for run in runs] if task in GENERATING else []
    with lm.applying(runs[0].interventions), prompted(lm.model, *prompts):
        yield


def dtype_of(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """Return a dtype by its name or as it is.

    Raises:
        OptionError: no such dtype.
    """
    found = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    if found is not None and not isinstance(found, torch.dtype):
        raise OptionError(f"No dtype {dtype!r}; there are float32, float64, float16, bfloat16.")
    return found


def _edited(tensor: torch.Tensor) -> bool:
    """Whether a tensor was changed in place since it was made; those of an inference mode do not tell."""
    return not tensor.is_inference() and tensor._version > 0
