"""The last layer is the model, and a layer is a model that ends there: on every architecture of the registry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ecco_core as ecco
from ecco_core.proving.verify import covered_tasks
from ecco_core.registry import lookup

TEXT = "The captain is called Nora."
TYPES = sorted({model_type for entry in lookup.entries() for model_type in entry.structure.model_types})
CASES = [(kind, task) for kind in TYPES for task in covered_tasks(kind) if task in ("causal", "masked", "seq2seq")]


def run_of(lm):
    return lm.generate(TEXT, output="Nora, Nora.") if lm.task == "seq2seq" else lm(TEXT)


def changes(kind, task, size):
    """What these configs need, besides small sizes: to be a decoder, positions after the padding's number."""
    changed = {"max_position_embeddings": 512} if kind in ("camembert", "xlm-roberta") else {}
    changed |= {"decoder_vocab_size": size} if kind == "marian" else {}
    return changed | (
        {"is_decoder": True} if lookup.require(kind).structure.heads.get("masked") and task == "causal" else {}
    )


def all_logprobs(run, position, layer=-1):
    """Log-probabilities of the whole vocabulary, by the lens."""
    watch = range(run.lm.vocabulary)
    return run.analyze("rankings_watch", watch=watch, position=position, layers=layer, value="logprob").values.values[0]


def test_every_family_is_there():
    assert len(CASES) >= 56
    assert {task for _, task in CASES} == {"causal", "masked", "seq2seq"}


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_the_last_layer_is_the_models_own_prediction_at_all_positions(open_tiny, marked_tokenizer, kind, task):
    run = run_of(open_tiny(kind, task, **changes(kind, task, len(marked_tokenizer))))
    logits = run.logits().double()
    expected = logits.log_softmax(-1).numpy()
    first = int(task != "masked")
    position = len(run) - 2
    np.testing.assert_allclose(all_logprobs(run, position), expected[position - first], atol=2e-4)
    lens = run.analyze("logit_lens", positions=range(first, len(run) + first))
    np.testing.assert_allclose(lens.values.values[-1], np.exp(expected.max(-1)), rtol=1e-3)
    assert lens.texts.values[-1].tolist() == [run.label(int(token)) for token in logits.argmax(-1)]
    kl = run.analyze("lens_kl").values.values
    assert np.all(kl[-1] == 0)
    assert np.all(kl[:-1] > 0)


CUT = [("gpt2", "causal"), ("llama", "causal"), ("gemma2", "causal"), ("cohere", "causal"), ("granite", "causal"),
       ("opt", "causal"), ("bloom", "causal"), ("gpt_neox", "causal"), ("mamba", "causal"), ("bert", "masked"),
       ("roberta", "masked"), ("electra", "masked"), ("distilbert", "masked"), ("t5", "seq2seq"), ("bart", "seq2seq"),
       ("pegasus", "seq2seq"), ("m2m_100", "seq2seq")]  # fmt: skip


@pytest.mark.parametrize(("kind", "task"), CUT)
def test_a_layer_says_what_a_model_that_ends_there_says(open_tiny, kind, task):
    lm = open_tiny(kind, task)
    run = run_of(lm)
    position = len(run) - 2
    found = all_logprobs(run, position, layer=0)
    stack = run.transcript.stack
    del lm.model.base_model.get_submodule(lm.architecture.structure.stacks[stack].blocks)[1:]
    lm.model.config.num_hidden_layers = 1
    cut = run_of(ecco.from_pretrained((lm.model, lm.tokenizer)))
    expected = cut.logits()[position - (task != "masked")].double().log_softmax(-1)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-4)


@pytest.mark.parametrize(("kind", "task"), [("gpt2", "causal"), ("llama", "causal"), ("mamba", "causal"),
                                            ("bert", "masked"), ("t5", "seq2seq")])  # fmt: skip
def test_half_precision_reads_as_the_model_computes(open_tiny, kind, task):
    run = run_of(open_tiny(kind, task, dtype=torch.bfloat16))
    position = len(run) - 2
    assert run.lm.precision == "bfloat16"
    expected = run.logits()[position - (task != "masked")].double().log_softmax(-1).numpy()
    np.testing.assert_allclose(all_logprobs(run, position), expected, atol=0.05)
    assert np.all(run.analyze("lens_kl").values.values[-1] == 0)
