import json
import subprocess
import sys

import pytest
from ecco_tiny.sources import available, resolve

from ecco_core import ModelNotFoundError


def test_the_source_names_every_shipped_model():
    from ecco_tiny import ecco_model_sources

    (source,) = ecco_model_sources()
    assert source.models == available() == ("classifier", "masked", "prose", "seq2seq")
    assert source.load() is resolve


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ModelNotFoundError, match="Did you mean 'tiny:prose'"):
        resolve("pros")


def test_the_package_imports_no_torch():
    code = "import sys, ecco_tiny.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_model_loads_in_float32_and_copies(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(resolve("prose")).eval()
    tokenizer = AutoTokenizer.from_pretrained(resolve("prose"))
    assert model.dtype == torch.float32
    prompts = json.loads((resolve("prose") / "copy_prompts.json").read_text(encoding="utf-8"))[:60]
    right = 0
    for prompt in prompts:
        tokens = tokenizer(prompt["text"], return_tensors="pt")["input_ids"]
        answer = tokenizer(prompt["text"] + prompt["answer"])["input_ids"][tokens.shape[1]]
        with torch.inference_mode():
            right += int(model(tokens).logits[0, -1].argmax()) == answer
    assert right >= 0.8 * len(prompts)


def test_a_text_survives_the_tokenizer():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve("prose"))
    text = "  :mod:`json` – naïve  'quotes' , 中文 \n\n\tend ."
    assert tokenizer.is_fast
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
