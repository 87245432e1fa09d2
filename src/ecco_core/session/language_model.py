"""LanguageModel: a loaded model and its tokenizer; makes runs."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn

from ecco_core import guard
from ecco_core.classic import ids_of
from ecco_core.data.transcript import Transcript
from ecco_core.errors import ArchitectureError, OptionError, PromptError
from ecco_core.models.architecture import Architecture
from ecco_core.models.hooks import alone
from ecco_core.models.interventions import Intervention, ablate, active, intervening, layers_of, scale, stack_of
from ecco_core.registry import lookup
from ecco_core.registry.by_hand import structure_of
from ecco_core.registry.structure import GENERATING, Structure
from ecco_core.session import generating
from ecco_core.session.run import Run, Runs
from ecco_core.session.streaming import Streamer
from ecco_core.texts.tokenizing import chat, encode, tokens_of

_inhibit, _induce = functools.partial(ablate, "mlp_post"), functools.partial(scale, "mlp_post", 10.0)  # the original's
Text = str | Sequence[Mapping[str, str]]


class LanguageModel:
    """A transformers model with its tokenizer.

    Attributes:
        model: the transformers model, as it was given. `tokenizer`: its fast tokenizer.
        name: what it was loaded as; of a folder the last part of its path, since results are passed on.
        task: ``causal``, ``masked``, ``seq2seq``, ``sequence_classification``, ``token_classification``, ``backbone``.
        neurons_to_inhibit, neurons_to_induce: the original library's switches, layer -> neurons: from the last
            position of the prompt on, they are set to 0, or multiplied by 10, in all that is generated from now on.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        name: str = "",
        *,
        task: str = "causal",
        model_config: Mapping[str, Any] | str | Path | None = None,
    ) -> None:
        self.model: Any = model
        self.tokenizer = tokenizer
        name = str(name or getattr(model.config, "name_or_path", "") or type(model).__name__)
        self.name = Path(name).resolve().name if Path(name).is_absolute() or Path(name).is_dir() else name
        self.task = task
        self.neurons_to_inhibit: dict[Any, Sequence[int]] = {}
        self.neurons_to_induce: dict[Any, Sequence[int]] = {}
        self._model_config = model_config
        self._causal = False
        if not hasattr(model, "hf_device_map") and any(p.is_meta for p in model.parameters()):
            raise ArchitectureError(
                f"{type(model).__name__} is on the meta device, where weights are shapes without numbers; load it on "
                "'cpu' or a GPU."
            )

    @property
    def model_type(self) -> str:
        """The architecture, ``config.model_type``."""
        return str(self.model.config.model_type)

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the input embedding."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return torch.device("cpu") if device.type == "meta" else device

    @property
    def precision(self) -> str:
        """Floating-point type of the weights."""
        return str(self.model.get_input_embeddings().weight.dtype).removeprefix("torch.")

    @property
    def vocabulary(self) -> int:
        """Number of entries that a language-model head scores, else of tokens that are embedded."""
        head = self.model.get_output_embeddings() if hasattr(self.model, "get_output_embeddings") else None
        size = getattr(head, "out_features", None)
        return int(size or getattr(head, "weight", self.model.get_input_embeddings().weight).shape[0])

    @property
    def classes(self) -> dict[int, str]:
        """Number -> name of each class of a classifier."""
        return {int(n): str(label) for n, label in self.model.config.id2label.items()}

    def require_causal(self, ids: torch.Tensor) -> None:
        """Prove once, on the token ids ``(token,)`` of a run, that later tokens do not matter to earlier ones.

        Raises:
            ArchitectureError: they do, as in a masked language model.
        """
        if not self._causal:
            from ecco_core.proving.causality import require_causal

            require_causal(self.model, ids[:16])
            self._causal = True

    @guard.cached_property
    def structure(self) -> tuple[Structure | None, str]:
        """The declared layout of the model, None if there is none, and where it comes from."""
        if self._model_config is not None:
            return structure_of(self._model_config, self.model, self._detected), "model_config"
        entry = lookup.find(self.model_type)
        return (entry.structure, entry.source) if entry else (None, "")

    @guard.cached_property
    def architecture(self) -> Architecture:
        """Where the parts of the model are: as declared; else detected and proven, which is said once.

        Raises:
            ArchitectureError: what is declared does not fit; or nothing is, and it cannot be proven.
        """
        structure = self.structure[0]
        if structure is None:
            structure = self._detected()
            warnings.warn(
                f"No model file covers the architecture {self.model_type!r}: its layout was detected from this model "
                "and proven on it. `ecco models detect` prints it as a file to keep or to contribute.",
                stacklevel=3,
            )
        return Architecture(structure, self.model)

    def _detected(self) -> Structure:
        from ecco_core.proving.detect import detected

        return detected(self.model, self.task)

    @guard.cached_property
    def stack(self) -> str:
        """The stack whose tokens a run's positions count."""
        structure = self.structure[0]
        if structure is not None and len(structure.stacks) == 1:
            return next(iter(structure.stacks))
        if self.task in GENERATING:
            return "decoder"
        return "encoder" if structure is not None or self.task == "masked" else self.architecture.stacks[0]

    def verify(self) -> Any:
        """Prove the layout of this very model by numeric identities; see ``ecco models verify``."""
        from ecco_core.proving.verify import verify

        return verify(self.model, self.architecture, self.task)

    def generate(
        self,
        text: Text | Sequence[Text] = "",
        max_new_tokens: int | None = None,
        *,
        output: str | None = None,
        generate: int | None = None,
        seed: int | None = None,
        stream: bool = False,
        **options: Any,
    ) -> Any:
        """Continue a text with the model's own ``generate``, untouched, and return the run.

        Args:
            text: the prompt; or a chat, ``[{"role": "user", "content": …}, …]``; or a list of prompts or chats, which
                are generated as one batch.
            max_new_tokens: most tokens to generate; 20 if left out. `generate` is the original library's name;
                ``max_length`` counts the prompt too.
            output: what the model is taken to have answered, instead of generating.
            seed: set torch's random state first, for sampling that repeats.
            stream: show the answer as it is generated, in a terminal or notebook; of one prompt, without beams.
            options: anything that the model's ``generate`` takes (``do_sample``, ``num_beams``, ``top_k`` …).

        Returns:
            A Run, or Runs for a list.

        Raises:
            PromptError: the prompt is empty or longer than the context. OptionError: an option is wrong.
        """
        if self.task not in GENERATING:
            raise OptionError(f"A {self.task} model does not generate; lm(text) reads a text with it.")
        several = _is_batch(text := options.pop("input_str", text))  # the original's name
        if output is not None:
            if several:
                raise OptionError("output belongs to one prompt; give prompts that have one each by themselves.")
            if options or stream or max_new_tokens is not None or generate is not None:
                raise OptionError("With a given output nothing is generated; leave the options of generating out.")
            return self._forced(self._ids(text), output)
        prompts = list(map(self._ids, text if several else [text]))
        there = max(map(len, prompts)) if self.task == "causal" and prompts else 1
        checked = generating.checked(max_new_tokens, generate, seed, options, there)
        with contextlib.closing(Streamer(self, prompts, options, stream)):
            runs = self._generated(prompts, *checked, options)
        return Runs(runs) if several else runs[0]

    def __call__(self, text: Text | Sequence[Text] | Mapping[str, Any] = "", *, input_tokens: Any = None) -> Any:
        """Return a run of a text as it stands, without generating; Runs for a list of texts.

        What the tokenizer makes of texts is taken too, as in the original library, which calls it `input_tokens`.
        """
        if isinstance(text := text if input_tokens is None else input_tokens, Mapping):
            rows = ids_of(text)
            for ids in rows:
                self._check_length(len(ids), 0)
            return self._run(rows[0]) if len(rows) == 1 else Runs(map(self._run, rows))
        if _is_batch(text):
            return Runs(self._run(ids) for ids in map(self._ids, text))
        return self._run(self._ids(text))

    def to(self, inputs: Any) -> Any:
        """Move what a tokenizer returned to the model's device; of the original."""
        return inputs.to(self.device) if hasattr(inputs, "to") else inputs

    def predict_token(self, inputs: Text | Mapping[str, Any], topk: int = 50, temperature: float = 1.0) -> Any:
        """Candidates for the token after a text; the original's name of the analysis ``predict``."""
        return self(inputs).analyze("predict", top_k=topk, temperature=temperature)

    def display_input_sequence(self, input_ids: Any) -> Run:
        """A run of token ids ``(token,)``, which a notebook shows; of the original."""
        return self._run(ids_of({"input_ids": input_ids})[0])

    def display_token(self, viz_id: Run, token_id: int, position: int) -> Run:
        """What `display_input_sequence` returned, with a token at a position as its last; of the original."""
        return self._run([*viz_id.token_ids[0, :position].tolist(), int(token_id)])

    def replay(self, transcript: Transcript) -> Run:
        """Return a run of a transcript, such as another run's; nothing is generated.

        Raises:
            OptionError: it was made under interventions, which a transcript names but does not hold.
        """
        if transcript.interventions:
            raise OptionError(
                "This transcript was made under interventions, which it names but does not hold: "
                f"{'; '.join(transcript.interventions)}. Replay the run itself, or generate it again inside of "
                "lm.intervene(...)."
            )
        return Run(self, transcript, ())

    @contextlib.contextmanager
    def intervene(self, *interventions: Intervention) -> Iterator[None]:
        """Change the model at some sites for the time of a ``with`` block; blocks can be nested.

        All that is done with this model in the block is done with the changed one: generating, reading, attributions,
        and plain calls of ``lm.model``. Its weights are never touched.

        Args:
            interventions: made by ``ecco.ablate``, ``ecco.scale``, ``ecco.add`` and ``ecco.replace``; applied in order.

        Raises:
            OptionError: a site, layer, head or unit that does not exist; at the first forward where no module tells.
        """
        for intervention in interventions:
            if not isinstance(intervention, Intervention):
                found = type(intervention).__name__
                raise OptionError(f"An intervention is made by ecco.ablate, scale, add or replace, found {found}.")
        resolved = [self._resolved(intervention) for intervention in interventions]
        with intervening(self.architecture, resolved):
            yield

    def _resolved(self, intervention: Intervention) -> Intervention:
        """The same for the stack that runs count in, with another run's values read."""
        if not intervention.stack and self.stack != stack_of(self.architecture, intervention):
            intervention = attrs.evolve(intervention, stack=self.stack)  # of a classifier with two stacks: the encoder
        run = intervention.value
        if not isinstance(run, Run):
            return intervention
        stack = stack_of(self.architecture, intervention)
        layers = layers_of(self.architecture, intervention, stack)
        capture = run.capture(intervention.site, layers=[n for n in layers if n is not None] or None, stack=stack)
        values = {layer: capture.get(intervention.site, layer, stack) for layer in layers}
        if intervention.site.endswith("pattern"):
            values = {layer: value.transpose(0, 1) for layer, value in values.items()}
        n, wanted = len(next(iter(values.values()))), intervention.positions
        if isinstance(wanted, tuple) and max(wanted) >= n:
            raise OptionError(f"No position {max(wanted)} in the run whose values are taken; it has 0 to {n - 1}.")
        return attrs.evolve(intervention, value=values)

    @property
    def active(self) -> tuple[Intervention, ...]:
        """What the model is changed by through the blocks around, of other objects for the same model too."""
        return active(self.model)

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """What the model is changed by right now: by blocks around, and by the original's switches."""
        return (*self.active, *self._classic())

    def _classic(self) -> list[Intervention]:
        made: list[Intervention] = []
        for name, change in (("neurons_to_inhibit", _inhibit), ("neurons_to_induce", _induce)):
            switch = getattr(self, name)
            try:
                named = {int(layer): [int(n) for n in neurons] for layer, neurons in switch.items() if len(neurons)}
            except (AttributeError, TypeError, ValueError) as error:
                raise OptionError(f"{name} is a dict, {{layer: [neuron, …]}}, found {switch!r}.") from error
            made += [change(layer, neurons, positions="predicting") for layer, neurons in named.items()]
        return made

    def applying(self, made: Sequence[Intervention]) -> contextlib.AbstractContextManager[None]:
        """Have the model changed as when something was made, then by others of blocks around, for a block."""
        return intervening(self.architecture, made, again=True) if made else contextlib.nullcontext()

    def _ids(self, text: Any) -> list[int]:
        """Token ids of a text or a chat, checked against the context."""
        prompt, special = (text, True) if isinstance(text, str) else (chat(self.tokenizer, text), False)
        size = len(self.model.get_input_embeddings().weight)
        ids = encode(self.tokenizer, prompt, size, special=special)
        self._check_length(len(ids), 0)
        return ids

    def _forced(self, ids: list[int], output: str) -> Run:
        size, is_target = len(self.model.get_input_embeddings().weight), self.task == "seq2seq"
        answer = encode(self.tokenizer, output, size, what="output", special=is_target, target=is_target)
        if is_target:
            self._check_length(1 + len(answer), 0, "output")
            return self._run(ids, [self._decoder_start(), *answer])
        self._check_length(len(ids), len(answer))
        return self._run(ids, answer)

    def _decoder_start(self) -> int:
        for config in (getattr(self.model, "generation_config", None), self.model.config):
            for name in ("decoder_start_token_id", "bos_token_id"):
                token = getattr(config, name, None)
                if isinstance(token, int):
                    return token
        raise OptionError(f"The config of {self.name} names no decoder_start_token_id; set it.")

    def _generated(self, prompts: list[list[int]], count: int, seed: int | None, options: dict[str, Any]) -> list[Run]:
        for ids in prompts:
            self._check_length(len(ids), count if self.task == "causal" else 0)
        if count == 0:
            return [self._run(ids) for ids in prompts]
        interventions = self.interventions  # what other threads' blocks change is waited for
        with alone(self.model), self.applying(interventions):
            if seed is not None:
                torch.manual_seed(seed)
            answers = generating.answers(self, prompts, count, options)
        return [self._run(ids, answer, interventions) for ids, answer in zip(prompts, answers)]

    def _check_length(self, given: int, count: int, what: str = "prompt") -> None:
        context = getattr(self.model.config, "max_position_embeddings", None)
        if not isinstance(context, int) or context < 1:
            return
        for table in self.model.modules():  # RoBERTa's and others count positions from after the padding token's id
            if type(table) is nn.Embedding and table.num_embeddings == context and table.padding_idx is not None:
                context -= (table.padding_idx + 1) * (table is not self.model.get_input_embeddings())
        limit = getattr(self.tokenizer, "model_max_length", context)
        context = min(context, limit) if limit > 1 and self.task not in GENERATING else context
        if given + count > context:
            more = f" and {count} more are wanted" if count else ""
            raise PromptError(
                f"The {what} has {given} tokens{more}, but this model's context holds {context}; shorten the {what}"
                + (f" or generate at most {context - given}." if given < context else ".")
            )

    def _run(self, prompt: list[int], answer: Sequence[int] = (), made: Sequence[Intervention] | None = None) -> Run:
        """A run of token ids; the answer of an encoder-decoder model begins with the decoder's start."""
        if self.task == "seq2seq":
            ids, n_input_tokens = {"encoder": prompt, "decoder": answer or [self._decoder_start()]}, 1
        else:
            ids, n_input_tokens = {self.stack: [*prompt, *answer]}, len(prompt)
        made = self.interventions if made is None else made
        tokens = {stack: tokens_of(self.tokenizer, row) for stack, row in ids.items()}
        transcript = Transcript(tokens, n_input_tokens, self.stack, self.task, self.name, tuple(map(repr, made)))
        return Run(self, transcript, made)

    def tensors(self, transcript: Transcript) -> dict[str, torch.Tensor]:
        """Token ids ``(token,)`` of a transcript by stack, where the model wants them."""
        return {stack: torch.tensor(tokens.ids, device=self.device) for stack, tokens in transcript.tokens.items()}

    def __repr__(self) -> str:
        return f"LanguageModel({self.name}: {self.model_type}, {self.task}, {self.precision} on {self.device})"


def _is_batch(text: Any) -> bool:
    """Whether these are several prompts: a list whose entries are texts or chats, not messages."""
    return isinstance(text, (list, tuple)) and bool(text) and not isinstance(text[0], Mapping)
