"""What the model was made for, measured again through Ecco: it copies, and attribution finds what it copied."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ecco_tiny.sources import resolve


@pytest.fixture(scope="module")
def prompts():
    return json.loads((resolve("prose") / "copy_prompts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_held_out_copies_and_integrated_gradients(prose, prompts, every):
    right = found = 0
    assert len(prompts) == 200
    for prompt in prompts[::every]:
        run = prose(prompt["text"])
        (answer,) = prose.tokenizer(prompt["answer"], add_special_tokens=False).input_ids[:1]
        earlier = np.flatnonzero(run.tokens.ids == answer)
        assert len(earlier), "the next token must repeat an earlier one"
        if run.next_token() == answer:
            right += 1
            scores = run.analyze("integrated_gradients").values.values[0]
            found += int(scores.argmax() in earlier)
    tried = len(prompts[::every])
    print(f"\n{right} of {tried} copied; the earlier occurrence ranks first on {found} of {right}")
    assert right >= 0.8 * tried
    assert found >= 0.7 * right
