"""Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018: without what was learned, the maps go."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from ecco_tiny.sources import resolve
from scipy.stats import spearmanr

import ecco_core as ecco

N = 12
RULES = ("attnlrp", "cp")


@pytest.fixture(scope="module")
def reviews():
    """A classifier, some of its texts, and where the deciding words are."""
    cases = json.loads((resolve("classifier") / "known_answers.json").read_text(encoding="utf-8"))[:N]
    return ecco.from_pretrained("tiny:classifier"), cases


def maps(lm, cases, rule, **options):
    return [lm(case["text"]).analyze("lrp", rule=rule, **options).values.values[0] for case in cases]


def found(maps, cases):
    """Share of texts in which a word that decides is first."""
    return np.mean([int(values.argmax()) in case["deciding_tokens"] for values, case in zip(maps, cases)])


def alike(one, other):
    return np.mean([spearmanr(a, b).statistic for a, b in zip(one, other)])


@pytest.mark.parametrize("rule", RULES)
def test_weights_shuffled_from_the_head_down_take_the_map_away(reviews, rule):
    lm, cases = reviews
    trained = maps(lm, cases, rule)
    model, similar, generator = copy.deepcopy(lm.model), [], torch.Generator().manual_seed(0)
    layers = [
        "classifier",
        "bert.pooler",
        *(f"bert.encoder.layer.{n}" for n in reversed(range(len(lm.model.bert.encoder.layer)))),
        "bert.embeddings",
    ]
    with torch.no_grad():
        for layer in layers:
            for parameter in model.get_submodule(layer).parameters():
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
            similar.append(alike(trained, maps(ecco.from_pretrained((model, lm.tokenizer)), cases, rule)))
    untrained = maps(ecco.from_pretrained((model, lm.tokenizer)), cases, rule)
    assert found(trained, cases) >= 0.9
    assert found(untrained, cases) <= 0.5
    assert abs(similar[-1]) < 0.3
    np.testing.assert_array_equal(maps(lm, cases, rule)[0], trained[0])


@pytest.mark.parametrize("rule", RULES)
def test_a_model_of_random_labels_has_other_maps(reviews, rule):
    """The head is fitted to labels that say nothing: what it reads is not what decides."""
    lm, cases = reviews
    labels = np.random.default_rng(0).integers(0, 2, len(cases))
    model = copy.deepcopy(lm.model)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    inputs = [lm.tokenizer(case["text"], return_tensors="pt") for case in cases]
    loss, steps = 1.0, 0
    while loss > 0.1 and steps < 300:  # over all of them at once: one by one, the last undoes what the first taught
        optimizer.zero_grad()
        losses = [
            torch.nn.functional.cross_entropy(model(**each).logits, torch.tensor([int(label)]))
            for each, label in zip(inputs, labels)
        ]
        torch.stack(losses).mean().backward()
        optimizer.step()
        loss, steps = max(losses).item(), steps + 1
    assert loss <= 0.1
    model.eval().requires_grad_(False)
    other = ecco.from_pretrained((model, lm.tokenizer))
    trained, memorised = maps(lm, cases, rule), maps(other, cases, rule)
    assert alike(trained, memorised) < 0.7
    assert found(memorised, cases) < found(trained, cases)
