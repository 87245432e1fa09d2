"""Structure: the declared layout of an architecture, as paths; what a model YAML file says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

Side = Literal["input", "output"]

IMPLIED_SITES = ("embedding", "resid_pre", "resid_post", "logits")
DECLARED_SITES = (
    "resid_mid",
    "attn_out",
    "mlp_out",
    "mlp_post",
    "pattern",
    "q",
    "k",
    "v",
    "z",
    "cross_attn_out",
    "cross_pattern",
)
OUTSIDE_BLOCKS = ("embedding", "logits")
TASKS = ("causal", "masked", "seq2seq", "sequence_classification", "token_classification")
STACKS = ("decoder", "encoder")


@attrs.frozen
class Site:
    """A place to read: what enters (``input``) or leaves (``output``) the module at `path`, inside a block."""

    path: str
    side: Side


@attrs.frozen(kw_only=True)
class StackStructure:
    """One stack of blocks.

    Attributes:
        blocks: path of the ModuleList from the model's ``base_model``; its index is the layer.
        final_norm: path of the norm after the last block, empty if there is none.
        sites: site name -> place inside a block.
    """

    blocks: str
    final_norm: str = ""
    sites: Mapping[str, Site] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Structure:
    """What one YAML file declares.

    Attributes:
        model_types: values of ``config.model_type`` that it covers.
        stacks: stack name -> its layout. `heads`: task -> path of the head from the model.
        origin: the file it was read from, for messages.
    """

    model_types: tuple[str, ...]
    stacks: Mapping[str, StackStructure]
    heads: Mapping[str, str] = attrs.field(factory=dict)
    origin: str = ""
