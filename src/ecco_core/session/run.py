"""Run: a transcript bound to the model that made it; analyses and captures start here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from ecco_core import running
from ecco_core.data.capture import Capture
from ecco_core.data.results import Provenance, Result, Target
from ecco_core.data.shown import visible
from ecco_core.data.tokens import Tokens
from ecco_core.data.transcript import Transcript
from ecco_core.errors import OptionError, PluginError, TargetError
from ecco_core.models.hooks import evaluating, read
from ecco_core.models.scores import ScoreModule
from ecco_core.models.structure import OUTSIDE_BLOCKS
from ecco_core.options import convert
from ecco_core.plugin.manager import Offer, plugins
from ecco_core.session.classic import ClassicRun
from ecco_core.session.tokenizing import label_of, single_token

if TYPE_CHECKING:
    from ecco_core.session.language_model import LanguageModel


class Run(ClassicRun):
    """What was said, and the model to ask why.

    Attributes:
        lm: the model. `transcript`: the tokens by stack, prompt and output.
    """

    def __init__(self, lm: LanguageModel, transcript: Transcript) -> None:
        self.lm = lm
        self.transcript = transcript
        self._read: dict[tuple[str, str, int | None], torch.Tensor] = {}
        self._next: int | None = None
        self._weights: int | None = None

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

    def capture(self, *sites: str, layers: int | Sequence[int] | None = None, site: str = "") -> Capture:
        """Read sites in one forward pass over the run's tokens; what was read before is not read again.

        Args:
            sites: names of sites, or of captures that plugins offer. `layers`: from 0; all if left out.

        Raises:
            OptionError: no such site, capture or layer. ArchitectureError: the model's layout is not known.
        """
        wanted = (*sites, *([site] if site else []))
        if not wanted or not all(isinstance(name, str) for name in wanted):
            raise OptionError("Name at least one site to capture, such as 'resid_post' or 'mlp_post', by its name.")
        chosen = self.resolve_layers(layers)
        offers = {name: self._capture_offer(name) for name in wanted}
        raw = [n for name, offer in offers.items() for n in (offer.spec.needs if offer else (name,))]
        self._read_places(raw, chosen)
        tensors: dict[tuple[str, str, int | None], torch.Tensor] = {}
        for name, offer in offers.items():
            for layer in (None,) if name in OUTSIDE_BLOCKS else chosen:
                key = (self.transcript.stack, name, layer)
                tensors[key] = self._derived(offer, layer) if offer else self._read[key]
        return Capture(tensors, self.transcript.tokens, self.transcript.stack)

    def _capture_offer(self, name: str) -> Offer[Any] | None:
        if name in self.lm.architecture.sites(self.transcript.stack):
            return None
        return plugins().find("ecco_captures", name)

    def _read_places(self, sites: Iterable[str], layers: Sequence[int]) -> None:
        stack = self.transcript.stack
        places = [(s, None) if s in OUTSIDE_BLOCKS else (s, layer) for s in dict.fromkeys(sites) for layer in layers]
        self._forget_stale()
        missing = [place for place in dict.fromkeys(places) if (stack, *place) not in self._read]
        if missing:
            self._read |= read(self.lm.model, self.lm.architecture, self.ids, missing, stack)

    def _derived(self, offer: Offer[Any], layer: int | None) -> torch.Tensor:
        spec, stack = offer.spec, self.transcript.stack
        values = [self._read[stack, need, None if need in OUTSIDE_BLOCKS else layer] for need in spec.needs]
        try:
            result = torch.as_tensor(offer.load()(*values))
        except Exception as error:
            raise PluginError(f"The capture {spec.name!r} of {offer.distribution} failed: {error}") from error
        if result.ndim != len(spec.dims):
            raise PluginError(
                f"The capture {spec.name!r} of {offer.distribution} promises the dims {spec.dims}, returned a "
                f"shape of {tuple(result.shape)}."
            )
        return result

    def _forget_stale(self) -> None:
        """Drop what was read before the weights changed, and tensors that somebody edited in place."""
        weights = sum(parameter._version for parameter in self.lm.model.parameters())
        if weights != self._weights:
            self.release()
            self._weights = weights
        self._read = {key: tensor for key, tensor in self._read.items() if tensor._version == 0}

    def release(self) -> None:
        """Free everything that was captured."""
        self._read.clear()
        self._next = None

    @property
    def ids(self) -> torch.Tensor:
        """Token ids ``(token,)`` on the device of the model's embedding."""
        weight = self.lm.model.get_input_embeddings().weight
        return torch.as_tensor(self.tokens.ids.copy(), device=weight.device)

    def scores(
        self, targets: int | Sequence[int] | None = None, contrast: int | str | None = None, score: str = "logprob"
    ) -> ScoreModule:
        """Return the chosen targets as a module from input embeddings to scores.

        Raises:
            TargetError: a position is not in the run or has nothing before it, or the contrast is no token.
        """
        positions = self._target_positions(targets)
        score = convert(score, running.SCORES, "score")
        if contrast is not None:
            contrast = self.token_id(convert(contrast, int | str, "contrast"), "contrast")
        self.lm.require_causal(self.ids)
        chosen = [self._target(p, contrast, score, chosen=targets is not None) for p in positions]
        return ScoreModule(self.lm.model, self.transcript, chosen)

    def provenance(self) -> Provenance:
        """Where this run comes from: model, precision, device, interventions, versions."""
        return Provenance(
            model=self.lm.name,
            model_type=self.lm.model_type,
            precision=self.lm.precision,
            device=self.lm.device,
            versions={name: version(name) for name in ("ecco-core", "torch", "transformers")},
            interventions=self.transcript.interventions,
        )

    def _target_positions(self, targets: int | Sequence[int] | None) -> list[int]:
        length = len(self)
        targets = convert(targets, running.PLACES, "targets")
        if targets is None:
            generated = list(range(max(1, self.n_input_tokens), length))
            return generated or [length]
        wanted = [targets] if isinstance(targets, int) else list(targets)
        if not wanted:
            raise TargetError("targets is empty; leave it out to explain all generated tokens.")
        positions = [p + length if p < 0 else p for p in wanted]
        for given, p in zip(wanted, positions):
            if not 0 <= p <= length:
                raise TargetError(
                    f"Target {given} is not in the run: its {length} tokens have positions 0 to {length - 1} "
                    f"(or -1 to -{length}), and {length} is the token not chosen yet."
                )
            if p == 0:
                raise TargetError("Target 0 has nothing before it: a causal model did not predict the first token.")
        return positions

    def _target(self, position: int, contrast: int | None, score: str, *, chosen: bool) -> Target:
        token = int(self.tokens.ids[position]) if position < len(self) else self.next_token()
        if token == contrast and chosen:
            raise TargetError(f"The contrast is the token at position {position} itself; there is nothing to compare.")
        text = self.tokens.labels[position] if position < len(self) else self._label(token)
        return Target(
            position=position,
            token_id=token,
            text=text,
            score=score,
            contrast_id=contrast,
            contrast_text="" if contrast is None else self._label(contrast),
        )

    def _label(self, token: int) -> str:
        return label_of(self.lm.tokenizer, token)

    def token_id(self, wanted: int | str, what: str) -> int:
        """Return the vocabulary entry that an id or a text names; `what` it is for, in messages.

        Raises:
            TargetError: no such id, or the text is not exactly one token.
        """
        return single_token(self.lm.tokenizer, wanted, self.lm.vocabulary, what)

    def next_token(self) -> int:
        """Return the most probable token after the run, the one not chosen yet."""
        self._forget_stale()
        if self._next is None:
            with evaluating(self.lm.model), torch.no_grad():
                logits = self.lm.model(input_ids=self.ids[None], use_cache=False).logits
            self._next = int(logits[0, -1].argmax())
        return self._next

    def resolve_layers(self, layers: int | Sequence[int] | None) -> tuple[int, ...]:
        """Return layers as numbers from 0, ascending as given; all for None; -1 is the last.

        Raises:
            OptionError: no such layer.
        """
        n = self.lm.architecture.n_layers(self.transcript.stack)
        return _places(layers, n, "layer")

    def resolve_positions(self, positions: int | Sequence[int] | None) -> tuple[int, ...]:
        """Return positions as numbers from 0; all for None; -1 is the last.

        Raises:
            OptionError: no such position.
        """
        return _places(positions, len(self), "position")

    def __repr__(self) -> str:
        shown = visible(self.tokens.part(slice(0, self.n_input_tokens)).text) + "│" + visible(self.output_text)
        return f"Run({self.lm.name}: {self.n_input_tokens} + {len(self) - self.n_input_tokens} tokens)\n{shown}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        prompt = html.escape(visible(self.tokens.part(slice(0, self.n_input_tokens)).text).replace("⏎", "\n"))
        output = html.escape(visible(self.output_text).replace("⏎", "\n"))
        page = f'<pre style="white-space:pre-wrap">{prompt}<b>{output}</b></pre>'
        return {"text/plain": repr(self), "text/html": page}


def _places(wanted: int | Sequence[int] | None, n: int, what: str) -> tuple[int, ...]:
    wanted = convert(wanted, running.PLACES, f"{what}s")
    if wanted is None:
        return tuple(range(n))
    given = [wanted] if isinstance(wanted, int) else list(wanted)
    if not given:
        raise OptionError(f"No {what} was named; leave it out for all of them.")
    for place in given:
        if not -n <= place < n:
            raise OptionError(f"No {what} {place!r}; there are {n}, from 0 to {n - 1}.")
    return tuple(place % n for place in given)
