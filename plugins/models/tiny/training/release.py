"""Saves the trained model the way the package ships it: half-precision weights that load as float32."""

import json
import shutil
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel, PreTrainedModel

END = "<|endoftext|>"
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END,
    "eos_token": END,
    "unk_token": END,
    "pad_token": END,
    "add_prefix_space": False,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 512,
}


def save_release(model: GPT2LMHeadModel, tokenizer: Path, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write weights, configuration and tokenizer to `folder`, ready for `from_pretrained`."""
    model.generation_config.update(
        bos_token_id=0, eos_token_id=0, pad_token_id=0, do_sample=False, max_length=None, max_new_tokens=None
    )
    halve(model, folder, dtype)
    if tokenizer.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)


def halve(model: PreTrainedModel, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write weights of half precision to `folder`, and a configuration that loads them as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    write_json(folder / "config.json", config)


def write_json(path: Path, content: object) -> None:
    """Write readable JSON with a final newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
