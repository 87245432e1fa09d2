"""Relevance of this plugin against LXT, the published library of AttnLRP's authors, on models that both know.

    python plugins/attribution/lrp/compare_lxt.py

LXT is installed into a temporary folder, without its dependencies. It patches classes of transformers for a whole
process, so each model is run in a process of its own, after ours. Its LLaMA-like CP-LRP also takes the gate of the MLP
for a constant, so CP-LRP is compared where there is no such gate.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import importlib
import subprocess
import sys
import tempfile
import types

VERSION = "2.1"
#: Parts of LXT that import what this environment does not have, or transformers 5 has no more.
NOT_NEEDED = {
    "lxt.efficient.models.bert": ("modeling_bert", "attnLRP"),
    "lxt.efficient.models.vit_torch": ("vision_transformer", "cp_LRP"),
    "lxt.efficient.zennit_patches": ("monkey_patch_zennit",),
}
CASES = (("gpt2", "attnlrp"), ("gpt2", "cp"), ("llama", "attnlrp"), ("qwen2", "attnlrp"), ("qwen3", "attnlrp"),
         ("gemma3_text", "attnlrp"))  # fmt: skip
TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called Nora."


def compare(kind: str, rule: str) -> None:
    """Print how far the two are apart, relative to the largest relevance of a token, in float64."""
    import torch

    import ecco_core as ecco
    from ecco_core.proving.tiny_models import tiny_model

    tokenizer = ecco.from_pretrained("tiny:prose").tokenizer
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    model = tiny_model(kind, "causal", sizes).double()
    run = ecco.from_pretrained((model, tokenizer))(TEXT)
    found = run.analyze("lrp", rule=rule, targets=[len(run) - 1])
    ours = torch.tensor(found.values.values[0].tolist(), dtype=torch.float64)

    family = kind.removesuffix("_text")
    for name, attributes in NOT_NEEDED.items():
        sys.modules[name] = types.SimpleNamespace(**dict.fromkeys(attributes))  # type: ignore[assignment]
    of_lxt = importlib.import_module(f"lxt.efficient.models.{family}")
    from lxt.efficient import monkey_patch

    class Interface(dict):
        """What transformers 5 asks for a function of attention; LXT leaves a plain dict, as was right for 4."""

        def get_interface(self, name: str, default: object) -> object:
            return self.get(name, default)

    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    modeling.ALL_ATTENTION_FUNCTIONS = Interface(modeling.ALL_ATTENTION_FUNCTIONS.items())
    monkey_patch(modeling, patch_map=of_lxt.cp_LRP if rule == "cp" else of_lxt.attnLRP)
    modeling.ALL_ATTENTION_FUNCTIONS = Interface(modeling.ALL_ATTENTION_FUNCTIONS)
    embeddings = model.get_input_embeddings()(run.ids[None, :-1]).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False).logits
    logits[0, -1, run.ids[-1]].backward()
    theirs = (embeddings * embeddings.grad)[0].sum(-1).detach()
    apart = float((ours - theirs).abs().max() / theirs.abs().max())
    rank = float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1])
    sys.stdout.write(f"{kind:12} {rule:8} largest difference {apart:.1e} of the largest relevance, r = {rank:.10f}\n")


def main() -> None:
    """Compare one case, or install LXT and compare each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs=2, help="model type and rule; all if left out")
    case = parser.parse_args().case
    if case:
        compare(*case)
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, f"lxt=={VERSION}"]
        subprocess.run(pip, check=True)  # noqa: S603
        for kind, rule in CASES:
            environment = os.environ | {"PYTHONPATH": folder}
            subprocess.run([sys.executable, __file__, "--case", kind, rule], check=True, env=environment)  # noqa: S603


if __name__ == "__main__":
    main()
