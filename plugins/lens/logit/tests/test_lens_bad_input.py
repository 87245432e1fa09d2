"""Bad input of the lens: one sentence that names what was found."""

from __future__ import annotations

import pytest
import torch

import ecco_core as ecco

NAN, HUGE = float("nan"), 10**30
TEXTS = {
    "prose": ("The captain is", " called Nora."),
    "seq2seq": ("The captain is called Nora.", " captain"),
    "masked": ("The captain is called Nora.", None),
    "classifier": ("The acting was wonderful.", None),
}
ALL = ("logit_lens", "lens_kl", "candidates", "rankings", "predict", "rankings_watch")


@pytest.fixture(scope="module")
def runs():
    """A short run of each shipped model; the causal one has 6 tokens."""
    found = {}
    for name, (text, output) in TEXTS.items():
        lm = ecco.from_pretrained(f"tiny:{name}")
        found[name] = lm(text) if output is None else lm.generate(text, output=output)
    assert len(found["prose"]) == 6
    return found


def options_of(name, **options):
    return ({"watch": [5]} if name == "rankings_watch" else {}) | options


def refused(run, name, options, message):
    with pytest.raises(ecco.EccoError, match=message) as raised:
        run.analyze(name, **options)
    said = str(raised.value)
    assert not isinstance(raised.value, ecco.PluginError), said
    assert "\n" not in said
    assert said.endswith((".", "?"))
    assert len(said) < 500


NO_POSITION = "No position {} in this run: its 6 tokens have positions 0 to 5 .*, and 6 is the token not chosen yet"
FIRST = "Position 0 has nothing before it: the model did not predict the first token"
WATCH = "'watch' of the analysis 'rankings_watch' takes int or str or sequence of int or str, found"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("given", [7, -7, HUGE, -HUGE, 0, -6])
def test_positions_that_are_not_predicted(runs, name, given):
    option = "position" if name in ("candidates", "rankings_watch") else "positions"
    message = FIRST if given in (0, -6) else NO_POSITION.format(given)
    refused(runs["prose"], name, options_of(name, **{option: given}), message)


@pytest.mark.parametrize("name", ALL)
def test_classifiers_predict_no_tokens(runs, name):
    refused(runs["classifier"], name, options_of(name), "is a sequence_classification model: no head of its turns")


@pytest.mark.parametrize(
    ("model", "name", "options", "message"),
    [
        *(("prose", n, {"top_k": k}, f"top_k is from 1 to the vocabulary's 4,096 entries, found {k}")
          for n in ("candidates", "predict") for k in (0, -1, 4097, HUGE)),
        *(("prose", "candidates", {"top_k": k}, "takes int, found") for k in (True, 2.5, NAN, "3", None)),
        *(("prose", "predict", {"temperature": t}, "temperature is a number above 0, found")
          for t in (0, -1, NAN, float("inf"))),
        *(("prose", n, {"positions": []}, "No position was named") for n in ("logit_lens", "rankings", "predict")),
        ("prose", "logit_lens", {"positions": ["3"]}, "positions' of the analysis 'logit_lens' takes"),
        ("prose", "logit_lens", {"positions": [3, 9]}, "No position 9 in this run"),
        ("prose", "logit_lens", {"layers": 4}, "No layer 4; there are 4, from 0 to 3"),
        ("prose", "logit_lens", {"layers": []}, "No layer was named"),
        ("prose", "candidates", {"positions": [3]}, "has no option 'positions'. Did you mean 'position'"),
        ("prose", "rankings", {"value": "ranks"}, "takes 'rank' or 'probability' or 'logprob', found 'ranks'"),
        ("prose", "rankings_watch", {}, "needs the option 'watch'"),
        ("prose", "rankings_watch", {"watch": []}, "watch is empty; name at least one token"),
        *(("prose", "rankings_watch", {"watch": w}, WATCH) for w in (None, 2.5, [None], [[5]], True)),
        *(("prose", "rankings_watch", {"watch": w}, f"watch: token id {w} is not in the vocabulary of 4096 entries")
          for w in (-1, 4096, HUGE)),
        ("prose", "rankings_watch", {"watch": [" Nora", "no token"]}, "watch: 'no token' is 3 .* not one"),
        ("prose", "rankings_watch", {"watch": ""}, "watch: an empty text is no token"),
        ("masked", "predict", {}, r"The text holds no \[MASK\] to fill in; name a position, from 0 to"),
        ("masked", "candidates", {}, r"The text holds no \[MASK\] to fill in"),
        ("masked", "logit_lens", {"positions": 99}, r"No position 99 in this run: its \d+ tokens have"),
        ("seq2seq", "logit_lens", {"positions": 0}, "Position 0 has nothing before it"),
    ],
)  # fmt: skip
def test_options(runs, model, name, options, message):
    refused(runs[model], name, options, message)


@pytest.mark.parametrize("name", [name for name in ALL if name != "predict"])
def test_states_that_are_no_numbers(make_lm, name):
    lm = make_lm("gpt2")
    run = lm("The captain is called Nora.")
    run.analyze("logit_lens")  # proves it causal; broken weights are told there already
    with lm.intervene(ecco.replace("resid_post", NAN, layer=0, positions=[len(run) - 2, len(run) - 1])):
        message = rf"The head makes no numbers \(NaN or infinite\) of layer \d at position {len(run) - 1}"
        at_last = {"position": len(run) - 1} if name in ("candidates", "rankings_watch") else {}
        refused(run, name, options_of(name, **at_last), message)


def test_predictions_that_are_no_numbers(make_lm):
    lm = make_lm("gpt2")
    run = lm("The captain")
    with lm.intervene(ecco.replace("resid_post", NAN, layer=0)):
        refused(run, "predict", {}, "returns logits that are no numbers")


def test_overflow_of_half_precision_names_the_layer(make_lm):
    lm = make_lm("gpt2")
    with torch.no_grad():
        lm.model.transformer.ln_f.weight.fill_(3e4)
        lm.model.lm_head.weight.fill_(3e4)
    lm.model.half()
    refused(lm("The captain"), "logit_lens", {}, "of layer 0 at position 1 .*, or torch.float16 overflows")


def test_changed_logits_are_no_layers(runs):
    run = runs["prose"]
    with run.lm.intervene(ecco.ablate("logits", units=[5])):
        refused(run, "logit_lens", {}, r"An intervention changes the logits themselves \(ablate logits, units 5\)")
        assert run.analyze("predict", positions=[4], top_k=1).texts.values[0, 0] == run.label(
            int(run.logits()[3].argmax())
        )


def test_a_head_that_is_not_known_is_no_lens(open_tiny):
    run = open_tiny("deberta-v2", "masked", legacy=False)("The captain")
    refused(run, "logit_lens", {}, "The head of .* is not known for masked, so no layer can be read by it")
    assert run.analyze("predict", positions=[1], top_k=1).ids.values[0, 0] == int(run.logits()[1].argmax())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["bert", "bert-generation"])  # the second has no file in the registry
def test_a_model_that_sees_later_tokens_is_not_read_as_causal(open_tiny, kind, name):
    refused(open_tiny(kind, "causal")("The captain is called Nora."), name, options_of(name), "it is not causal")


def test_a_token_that_the_head_excludes_is_infinitely_unlikely_and_said_to_be(open_tiny):
    run = open_tiny("bart", "seq2seq").generate("The captain is called Nora.", output="Nora.")
    run.lm.model.final_logits_bias[0, 9] = -torch.inf
    found = run.analyze("rankings_watch", watch=[9, 8], value="logprob")
    assert found.values.values[0, 0] == -float("inf") < found.values.values[0, 1]
    assert any("infinite where a logit is minus infinity" in note for note in found.notes)
    assert run.analyze("rankings_watch", watch=9).values.values.tolist() == [[run.lm.vocabulary]] * 2
    divergence = run.analyze("lens_kl").values.values
    assert ((divergence >= 0) & (divergence < 100)).all()
