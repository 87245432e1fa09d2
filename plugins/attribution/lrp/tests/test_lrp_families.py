"""Every architecture of the registry: no operation without a rule, the same values, and each unit accounted for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from ecco_lrp.ledger import Ledger, ledger
from ecco_lrp.rules import Rules

import ecco_core as ecco
from ecco_core.proving.verify import covered_tasks
from ecco_core.registry import lookup

TYPES = sorted({model_type for entry in lookup.entries() for model_type in entry.structure.model_types})
#: Of the tasks of a type, the one that has a head over the vocabulary, if there is one.
CASES = [
    (kind, next((t for t in ("masked", "causal", "seq2seq") if t in covered_tasks(kind)), covered_tasks(kind)[0]))
    for kind in TYPES
]
CASES += [(kind, "sequence_classification") for kind in ("bert", "gpt2", "llama", "deberta-v2", "electra")]
CASES += [(kind, "token_classification") for kind in ("roberta", "t5", "mixtral")]
CASES += [(kind, "seq2seq") for kind in ("bart", "mbart", "marian", "pegasus")]
TEXT = "The captain is called Nora. The cook is called Felix."
README = Path(__file__).parent.parent / "README.md"
LEFT = 2e-5  # of the score: norms that compute in float32 leave as much
CONSERVED = 1e-5


def opened(kind, task, open_tiny, marked_tokenizer):
    """A run of a random model in float64, with its targets."""
    changes = {"max_position_embeddings": 512} if kind in ("camembert", "xlm-roberta") else {}
    changes |= {"decoder_vocab_size": len(marked_tokenizer)} if kind == "marian" else {}
    lm = open_tiny(kind, task, dtype=torch.float64, **changes)
    getattr(lm.model, "set_experts_implementation", lambda _: None)("eager")  # the other has no float64
    run = lm.generate(TEXT, output=TEXT) if task == "seq2seq" else lm(TEXT)
    return run, None if task == "sequence_classification" else [5, 8]


def accounted(run, targets, rule):
    """What took how much, and what is left, relative to the largest part."""
    scores = run.scores(targets=targets, score="logit")
    taken, left = ledger(scores, lambda: Ledger(run.lm.model, rule))
    with torch.no_grad():
        value = float(scores(*scores.inputs()).sum())
    return taken, abs(left) / max(abs(value), *map(abs, taken.values()))


def without_biases(model):
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith("bias") and "relative" not in name:
                tensor.zero_()


def measured(kind, task, open_tiny, marked_tokenizer):
    """Largest part of a score that is unaccounted for, by either rule; and CP-LRP's error where nothing is added."""
    run, targets = opened(kind, task, open_tiny, marked_tokenizer)
    left = max(accounted(run, targets, rule)[1] for rule in ("attnlrp", "cp"))
    without_biases(run.lm.model)
    taken, _ = accounted(run, targets, "cp")
    if any(taken.values()):
        return left, None
    return left, float(run.analyze("lrp", rule="cp", targets=targets).relative_error().max())


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_nothing_is_lost_unaccounted_for(kind, task, open_tiny, marked_tokenizer):
    left, error = measured(kind, task, open_tiny, marked_tokenizer)
    assert left < LEFT
    assert error is None or error < CONSERVED
    if (kind, task) in CASES[: len(TYPES)]:
        row = next(line for line in README.read_text().splitlines() if line.startswith(f"| {kind} |"))
        stated = [cell.strip() for cell in row.split("|")[3:5]]
        assert left <= float(stated[0])
        assert (error is None) == (stated[1] == "-")
        assert error is None or error <= float(stated[1])


def test_the_table_names_no_other_family():
    named = re.findall(r"^\| ([a-z0-9_-]+) \| (?:causal|masked|seq2seq) ", README.read_text(), re.M)
    assert sorted(named) == TYPES


@pytest.mark.parametrize("rule", ["attnlrp", "cp"])
@pytest.mark.parametrize(("kind", "task"), CASES)
def test_values_are_the_models_own_bit_by_bit(kind, task, rule, open_tiny, marked_tokenizer):
    run, targets = opened(kind, task, open_tiny, marked_tokenizer)
    run.lm.model.float()
    scores = run.scores(targets=targets, score="logit")
    inputs = [tensor.requires_grad_() for tensor in scores.inputs()]
    places = scores.parts(inputs)[-1]
    own = scores.run_part(inputs, places, split=False).scores
    with Rules(run.lm.model, rule):
        ruled = scores.run_part(inputs, places, split=False).scores
    assert torch.equal(own, ruled)
    before, after = (torch.autograd.grad(s.sum(), inputs, allow_unused=True)[-1] for s in (own, ruled))
    assert not torch.allclose(before, after)
    assert not any("forward" in vars(module) for module in run.lm.model.modules())


def test_experts_have_the_same_relevance_however_they_are_computed(open_tiny):
    lm = open_tiny("mixtral")
    run = lm(TEXT)
    assert isinstance(run, ecco.Run)
    found = []
    for how in ("eager", "grouped_mm", "batched_mm"):
        lm.model.set_experts_implementation(how)
        found.append(torch.tensor(run.analyze("lrp", targets=[8]).values.values.tolist()))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-4)
