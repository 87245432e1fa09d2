"""What looks inside, on every architecture of the registry: a result of numbers, or one sentence why not."""

from __future__ import annotations

import numpy as np
import pytest

import ecco_core as ecco
from ecco_core.proving.verify import covered_tasks
from ecco_core.registry import lookup

TYPES = sorted({model_type for entry in lookup.entries() for model_type in entry.structure.model_types})
#: Of the tasks of a type, the one that has a head over the vocabulary, if there is one.
CASES = [
    (kind, next((t for t in ("masked", "causal", "seq2seq") if t in covered_tasks(kind)), covered_tasks(kind)[0]))
    for kind in TYPES
]
TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain."
ANALYSES = {
    "candidates": {"position": 3},
    "head_scores": {},
    "attention_norms": {"targets": [3]},
    "attention_rollout": {"targets": [3]},
    "nmf": {"n_components": 2},
    "cka": {"bootstrap": 0, "permutations": 2},
    "probe": {"splits": 2, "unseen_words": False},
}
RECURRENT = ("mamba", "rwkv")
UNREADABLE = ("bloom", "deberta-v2", "falcon", "gpt_neo", "gptj", "mpnet", "mpt")  # no values inside of the attention
REFUSED = {
    "head_scores": RECURRENT,
    "attention_rollout": RECURRENT,
    "attention_norms": (*RECURRENT, *UNREADABLE),
    "nmf": ("mamba", "mixtral", "gpt_oss"),  # no neurons of a layer, or inside of fused experts
}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def run(request, open_tiny, marked_tokenizer):
    kind, task = request.param
    changes = {"max_position_embeddings": 512} if kind in ("camembert", "xlm-roberta") else {}
    changes |= {"decoder_vocab_size": len(marked_tokenizer)} if kind == "marian" else {}
    lm = open_tiny(kind, task, **changes)
    return lm.generate(TEXT, output=TEXT) if task == "seq2seq" else lm(TEXT)


@pytest.mark.parametrize("name", ANALYSES)
def test_every_architecture(run, name):
    kind, options = run.lm.model_type, dict(ANALYSES[name])
    if name == "probe":
        options["labels"] = [("odd", "even")[p % 2] for p in range(len(run))]
    if kind in REFUSED.get(name, ()):
        with pytest.raises((ecco.ArchitectureError, ecco.OptionError)) as error:
            run.analyze(name, **options)
        assert "\n" not in str(error.value)
    else:
        found = run.analyze(name, **options)
        for array in found.arrays().values():
            if array.values.dtype.kind == "f":
                assert np.isfinite(array.values).all(), (kind, name)
        assert found.to_text()
