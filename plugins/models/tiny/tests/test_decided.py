"""Whether attribution finds what decided, measured again through Ecco on a part of the shipped cases."""

import json

import numpy as np
import pytest
from ecco_tiny.sources import resolve

import ecco_core as ecco

CASES = 50
LEAST_FOUND = {"classifier": 0.8, "masked": 0.8, "seq2seq": 0.8}


@pytest.mark.parametrize("name", sorted(LEAST_FOUND))
def test_integrated_gradients_rank_a_deciding_token_first(name):
    lm = ecco.from_pretrained(f"tiny:{name}")
    cases = json.loads((resolve(name) / "known_answers.json").read_text(encoding="utf-8"))
    found = 0
    for case in cases[:: len(cases) // CASES]:
        result = lm(case["text"]).analyze("integrated_gradients")
        text = [source.stack != "decoder" for source in result.sources]
        found += int(np.argmax(result.values.values[0][text])) in case["deciding_tokens"]
    print(f"\n{name}: a deciding token ranks first on {found} of {CASES}")
    assert found >= LEAST_FOUND[name] * CASES
