"""Structure: the declared layout of an architecture, as paths; what a model YAML file says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from ecco_core.errors import ArchitectureError

Side = Literal["input", "output"]

IMPLIED_SITES = ("embedding", "resid_pre", "resid_post", "logits")
#: Read by the attention function itself; there where a stack names its attention module.
ATTENTION_SITES = ("q", "k", "v", "pattern")
CROSS_ATTENTION_SITES = ("cross_q", "cross_k", "cross_v", "cross_pattern")
INSIDE_ATTENTION = (*ATTENTION_SITES, *CROSS_ATTENTION_SITES)
DECLARED_SITES = (
    "resid_mid",
    "attn_out",
    "mixer_out",
    "cross_attn_out",
    "mlp_out",
    "mlp_post",
    "router",
    "z",
    "cross_z",
)
OUTSIDE_BLOCKS = ("embedding", "logits")
#: What is added to the residual stream, in the order in which blocks add it.
ADDED_SITES = ("attn_out", "mixer_out", "cross_attn_out", "mlp_out")
HEAD_TASKS = ("causal", "masked", "seq2seq")
GENERATING = ("causal", "seq2seq")
#: Task -> transformers' class that opens a model for it, and its table of classes; ``…_NAMES`` is that of their names.
AUTO: Mapping[str, tuple[str, str]] = {
    "causal": ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING"),
    "masked": ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING"),
    "seq2seq": ("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING"),
    "sequence_classification": ("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING"),
    "token_classification": ("AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING"),
    "backbone": ("AutoModel", "MODEL_MAPPING"),
}
TASKS = tuple(AUTO)
STACKS = ("encoder", "decoder")


def base_of(model: Any) -> Any:
    """Return a model without its head, from which paths of stacks start; a bare model itself."""
    return getattr(model, "base_model", model)


@attrs.frozen
class Value:
    """A number that is written in the file or in the model's config: ``number`` or ``config[key] ** power``."""

    number: float = 1.0
    key: str = ""
    power: float = 1.0

    def of(self, config: Any) -> float | None:
        """Return the number for a config; None if its key is set to None there.

        Raises:
            ArchitectureError: the config has no such number.
        """
        if not self.key:
            return self.number
        value = getattr(config, self.key, None)
        if value is None and hasattr(config, self.key):
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ArchitectureError(f"The config of this {config.model_type} model has no number {self.key!r}.")
        try:
            return float(value**self.power)
        except (ArithmeticError, TypeError) as error:  # too large, a division by zero, a root of less than zero
            raise ArchitectureError(
                f"{self} cannot be computed: {self.key!r} is {value} in the config of this {config.model_type} model."
            ) from error

    def __str__(self) -> str:
        return f"{self.number:g}" if not self.key else self.key + (f" ** {self.power:g}" if self.power != 1 else "")


@attrs.frozen
class ModulePath:
    """Path of a module; an `optional` one may be missing, or None, in some checkpoints."""

    path: str
    optional: bool = False

    def __str__(self) -> str:
        return self.path + "?" * self.optional


@attrs.frozen
class Site:
    """A place to read: what enters (``input``) or leaves (``output``) the module at `path`, inside a block.

    Attributes:
        scale: what is read is multiplied by it, as the block does before it adds it to the stream.
        optional: the module is missing in some layers or checkpoints.
    """

    path: str
    side: Side
    scale: Value | None = None
    optional: bool = False

    def __str__(self) -> str:
        place = f"> {self.path}" if self.side == "input" else f"{self.path} >"
        return place + (f" * {self.scale}" if self.scale else "") + " ?" * self.optional


@attrs.frozen(kw_only=True)
class StackStructure:
    """One stack of blocks.

    Attributes:
        blocks: path of the ModuleList from the model's ``base_model``; its index is the layer.
        layers: config key of the number of layers, where blocks are shared by several of them (ALBERT).
        embedding: path of the embedding from the base model; ``get_input_embeddings()`` if empty.
        final_norm: what comes after the last block, in order.
        attention, cross_attention: path inside a block of the module that runs the attention function.
        norms: what is added (``attn_out`` …) -> path inside a block of the norm that follows that sum (BERT).
        experts: path inside a block of experts whose weights are fused in one module.
        sites: site name -> where it is inside a block; of several places, the first that a block has.
    """

    blocks: str
    layers: str = ""
    embedding: str = ""
    final_norm: tuple[ModulePath, ...] = ()
    attention: ModulePath | None = None
    cross_attention: ModulePath | None = None
    norms: Mapping[str, str] = attrs.field(factory=dict)
    experts: ModulePath | None = None
    sites: Mapping[str, tuple[Site, ...]] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Logits:
    """What happens after the head: + tensor at `bias`, × `scale`, then ``cap * tanh(logits / cap)``."""

    bias: str = ""
    scale: Value | None = None
    cap: Value | None = None


@attrs.frozen(kw_only=True)
class Variant:
    """Changes to a structure for checkpoints whose config has all of the values in `when`.

    Attributes:
        stacks: stack -> field -> new value; ``sites`` and ``norms`` are merged, None takes one away.
        logits: the new logits, or None.
    """

    when: Mapping[str, Any]
    stacks: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    logits: Logits | None = None

    def fits(self, config: Any) -> bool:
        """Whether the config has all of the values."""
        return all(getattr(config, key, None) == value for key, value in self.when.items())


@attrs.frozen(kw_only=True)
class Structure:
    """What one YAML file declares.

    Attributes:
        model_types: values of ``config.model_type`` that it covers.
        stacks: stack name -> its layout.
        heads: task -> paths from the model of the modules from the last hidden state to logits, in order.
        logits: what happens after the head. `variants`: changes by values of the config.
        tiny: model type -> config overrides of the small random model that proves the file.
        origin: the file it was read from, for messages. `marks`: key -> line and column there.
    """

    model_types: tuple[str, ...]
    stacks: Mapping[str, StackStructure]
    heads: Mapping[str, tuple[ModulePath, ...]] = attrs.field(factory=dict)
    logits: Logits = attrs.field(factory=Logits)
    variants: tuple[Variant, ...] = ()
    tiny: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    origin: str = attrs.field(default="", eq=False)
    marks: Mapping[str, tuple[int, int]] = attrs.field(factory=dict, eq=False, repr=False)

    def located(self, key: str) -> str:
        """Return ``file:line:column: at key`` of a key, in the file or in the last of its variants that has it."""
        line, column = next((m for k, m in reversed(list(self.marks.items())) if f".{k}".endswith(f".{key}")), (0, 0))
        return f"{self.origin}{f':{line}:{column}' if line else ''}: at {key}"

    def for_config(self, config: Any) -> Structure:
        """Return the structure with the variants that fit a config applied, in their order."""
        structure = self
        for variant in self.variants:
            if variant.fits(config):
                stacks = dict(structure.stacks)
                for name, changes in variant.stacks.items():
                    stacks[name] = _changed(stacks[name], changes)
                structure = attrs.evolve(structure, stacks=stacks, logits=variant.logits or structure.logits)
        return structure


def _changed(stack: StackStructure, changes: Mapping[str, Any]) -> StackStructure:
    merged = dict(changes)
    for field in ("sites", "norms"):
        if field in merged:
            both = {**getattr(stack, field), **merged[field]}
            merged[field] = {name: value for name, value in both.items() if value is not None}
    return attrs.evolve(stack, **merged)
