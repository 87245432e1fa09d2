"""A small random model of any architecture, from transformers' config class alone: what proofs run on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ecco_core.errors import ArchitectureError, OptionError, listed, one_line
from ecco_core.registry import lookup
from ecco_core.registry.structure import AUTO

#: Size -> the names that config classes have for it.
SIZES: Mapping[int, tuple[str, ...]] = {
    99: ("vocab_size", "src_vocab_size", "tgt_vocab_size", "decoder_vocab_size"),
    64: ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length", "max_source_positions",
         "max_encoder_position_embeddings", "max_decoder_position_embeddings", "intermediate_size", "n_inner", "d_ff",
         "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "dff", "d_inner", "ffn_hidden_size", "dim_ff",
         "shared_intermediate_size", "dense_intermediate_size", "intermediate_size_mlp", "feed_forward_size",
         "max_length"),
    32: ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "embedding_dim", "word_embed_proj_dim",
         "attention_hidden_size", "pooler_hidden_size", "lru_width", "input_embedding_size", "output_embedding_size"),
    16: ("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size", "q_lora_rank",
         "kv_lora_rank", "state_size", "mamba_d_state", "conv_kernel_size", "moe_shared_expert_intermediate_size",
         "sliding_window", "window_size", "local_attention", "attention_window", "vocab_size_per_layer_input"),
    8: ("head_dim", "d_kv", "d_head", "dim_head", "v_head_dim", "qk_nope_head_dim", "attention_head_dim",
        "attention_head_size", "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim", "swa_head_dim",
        "mamba_d_head", "hidden_size_per_layer_input", "time_step_rank", "mamba_dt_rank", "kv_channels", "rotary_dim",
        "qk_rope_head_dim"),
    4: ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads", "encoder_attention_heads",
        "decoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads", "num_kv_heads",
        "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "linear_num_key_heads",
        "linear_num_value_heads", "linear_num_heads", "swa_num_attention_heads", "swa_num_key_value_heads"),
    2: ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
        "num_encoder_layers", "num_decoder_layers", "num_experts_per_tok", "num_experts_per_token", "moe_topk",
        "moe_k", "n_group", "num_expert_group"),
    1: ("topk_group", "n_shared_experts", "num_shared_experts", "first_k_dense_replace", "num_dense_layers", "n_groups",
        "mamba_n_groups", "pad_token_id"),
    0: ("bos_token_id",),
}  # fmt: skip
LARGEST = 20_000_000  # parameters
_SPECIAL = {"eos_token_id": 2, "decoder_start_token_id": 2, "unk_token_id": 3}
_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type", "block_types")  # kind of each layer, in a list


def tasks_of(model_type: str) -> tuple[str, ...]:
    """The tasks that transformers has a class for."""
    import transformers

    config = _config_class(model_type)
    return tuple(task for task, (_, table) in AUTO.items() if config in getattr(transformers, table))


def tiny_model(
    model_type: str, task: str = "causal", overrides: Mapping[str, Any] | None = None, *, seed: int = 0
) -> Any:
    """Return a float32 model of two or three layers in evaluation mode, the same for the same arguments.

    All of its parameters are random - norms and biases too - so that no identity holds by accident.

    Args:
        model_type: ``config.model_type``; what the registry's ``tiny`` says about it is used.
        overrides: config values that come before those.

    Raises:
        OptionError: transformers has no such type or task. ArchitectureError: the model cannot be built.
    """
    import torch
    import transformers

    if task not in tasks_of(model_type):
        raise OptionError(
            f"transformers has no {task!r} model of type {model_type!r}; it has {listed(tasks_of(model_type))}."
        )
    entry = lookup.find(model_type)
    given = {**(entry.structure.tiny.get(model_type, {}) if entry else {}), **(overrides or {})}
    auto = getattr(transformers, AUTO[task][0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = tiny_config(model_type, given)
            with torch.device("meta"):
                size = sum(parameter.numel() for parameter in auto.from_config(config).parameters())
            if size > LARGEST:
                raise ArchitectureError(f"it would have {size:,} parameters; its config needs keys that make it small.")
            model = auto.from_config(config, dtype=torch.float32).eval()
        except Exception as error:
            what = f"A small random {model_type} model for {task} cannot be built"
            raise ArchitectureError(f"{what}: {one_line(error, 300)}") from error
        _randomise(model)
    return model


def tiny_config(model_type: str, overrides: Mapping[str, Any]) -> Any:
    """Return the type's config with small sizes wherever the class has the usual keys."""
    config_class = _config_class(model_type)
    try:
        usual = vars(config_class())
    except Exception:
        usual = dict.fromkeys(getattr(config_class, "__dataclass_fields__", {}), 0)
    sizes = {key: size for size, keys in SIZES.items() for key in keys} | _SPECIAL
    values: dict[str, Any] = {key: size for key, size in sizes.items() if key in usual}
    kinds = {key: list(dict.fromkeys(usual[key])) for key in _KINDS if isinstance(usual.get(key), list)}
    counts = [key for key in ("num_hidden_layers", "n_layer", "num_layers") if key in values]
    layers = next((overrides[key] for key in counts if key in overrides), max([2, *map(len, kinds.values())]))
    for key, different in kinds.items():
        if len(different) > 1:
            values[key] = [different[place % len(different)] for place in range(layers)]
    values |= dict.fromkeys(counts if kinds else (), layers)
    return config_class(**{**values, **overrides})


def _config_class(model_type: str) -> Any:
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise OptionError(f"transformers has no model type {model_type!r}.")
    return CONFIG_MAPPING[model_type]


def _randomise(model: Any) -> None:
    import torch

    with torch.no_grad():
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                if value.is_floating_point() and value.numel():
                    if sum(size > 1 for size in value.shape) < 2:
                        value.add_(0.1 * torch.randn_like(value))
                    else:
                        value.normal_(0, _fan_in(module, name, value) ** -0.5)
            if "final_logits_bias" in dict(module.named_buffers(recurse=False)):
                module.final_logits_bias.normal_(0, 0.1)


def _fan_in(module: Any, name: str, value: Any) -> int:
    """Over how many inputs a weight sums: its last axis; all but the first in convolutions; experts say theirs."""
    if type(module).__name__ == "Conv1D":  # transformers' own: a transposed linear map
        return int(value.shape[0])
    if value.ndim > 2 and type(module).__name__.startswith("Conv"):
        return math.prod(value.shape[1:])
    return int(value.shape[-2 if getattr(module, "is_transposed", False) and value.ndim == 3 else -1])
