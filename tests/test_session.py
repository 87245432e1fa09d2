"""Loading, generating, capturing: what a user meets, on real models of this machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import ecco_core as ecco
from ecco_core.texts.tokenizing import tokens_of


def test_generation_is_the_models_own(lm):
    text = "The captain is called"
    run = lm.generate(text, max_new_tokens=6)
    ids = lm.tokenizer(text, return_tensors="pt").input_ids
    expected = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, pad_token_id=0)
    assert run.tokens.ids.tolist() == expected[0].tolist()
    assert run.n_input_tokens == ids.shape[1]
    assert run.text == lm.tokenizer.decode(expected[0], clean_up_tokenization_spaces=False)
    assert run.text.startswith(text)
    assert run.text.endswith(run.output_text)


def test_sampling_repeats_with_a_seed(gpt2):
    first, second = (gpt2.generate("The", generate=20, do_sample=True, seed=7) for _ in range(2))
    assert first.tokens.ids.tolist() == second.tokens.ids.tolist()
    third = gpt2.generate("The", generate=20, do_sample=True, seed=8)
    assert first.tokens.ids.tolist() != third.tokens.ids.tolist()


def test_a_capture_is_one_forward_and_is_not_read_twice(lm):
    run = lm.generate("The captain is called", max_new_tokens=3)
    forwards = []
    handle = lm.model.base_model.register_forward_hook(lambda *_: forwards.append("body"))
    head = lm.model.get_output_embeddings().register_forward_hook(lambda *_: forwards.append("head"))
    try:
        capture = run.capture("resid_post", "mlp_post", "attn_out")
        assert forwards == ["body"]
        run.capture("mlp_post", layers=[1])
        run.capture(site="resid_post")
        assert forwards == ["body"]
        run.release()
        run.capture("mlp_post", layers=1)
        assert forwards == ["body"] * 2
        assert capture.layers("mlp_post") == (0, 1)
    finally:
        handle.remove()
        head.remove()


def test_captured_arrays_have_the_shapes_they_promise(lm):
    run = lm("The captain is called Nora.")
    capture = run.capture("embedding", "resid_post", "logits", layers=-1)
    n = lm.architecture.n_layers("decoder")
    assert capture.layers("resid_post") == (n - 1,)
    assert capture.get("embedding").shape == (len(run), 32)
    assert capture.get("logits").shape == (len(run), lm.vocabulary)
    assert capture.numpy("resid_post", n - 1).shape == (len(run), 32)
    assert run.capture("mlp_post").stacked("mlp_post").shape[:2] == (n, len(run))
    with pytest.raises(ecco.OptionError, match="was not captured"):
        capture.get("mlp_post", 0)


@pytest.mark.parametrize(
    ("sites", "layers", "message"),
    [
        (("mlp_pots",), None, r"No site 'mlp_pots' in the decoder of this gpt2 model\. Did you mean 'mlp_post'\?"),
        (("mlp_post",), 2, "No layer 2; there are 2, from 0 to 1"),
        (("mlp_post",), [], "No layer was named"),
        ((), None, "Name at least one site"),
    ],
)
def test_bad_captures_are_one_sentence(gpt2, sites, layers, message):
    with pytest.raises(ecco.OptionError, match=message):
        gpt2("The cook").capture(*sites, layers=layers)


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.integers(0, 319), min_size=1, max_size=40))
def test_token_texts_join_to_the_decoded_string(tokenizer, ids):
    ids = [i % len(tokenizer) for i in ids]
    tokens = tokens_of(tokenizer, ids)
    assert tokens.text == tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
    assert tokens.ids.tolist() == ids
    assert all(tokens.labels)


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_text_survives_encoding_and_display(gpt2, text):
    tokens = tokens_of(gpt2.tokenizer, gpt2.tokenizer(text).input_ids)
    assert tokens.text == text


def test_a_split_character_sits_on_its_last_part_and_the_others_show_their_bytes(tokenizer):
    tokens = tokens_of(tokenizer, tokenizer("é€").input_ids)
    assert tokens.texts == ("", "é", "", "", "€")
    assert tokens.labels == ("<C3>", "é", "<E2>", "<82>", "€")


def test_word_starts_and_special_tokens(tokenizer):
    ids = [tokenizer.eos_token_id, *tokenizer("The captain\nNora").input_ids]
    tokens = tokens_of(tokenizer, ids)
    starts = [t for t, start in zip(tokens.texts, tokens.starts_word) if start]
    assert tokens.special[0]
    assert not any(tokens.special[1:])
    assert starts[1] == "The"
    assert any(t.startswith(" c") for t in starts)
    assert "\n" in starts


@pytest.mark.parametrize(
    ("prompt", "options", "error", "message"),
    [
        ("", {}, ecco.PromptError, "The prompt is empty"),
        (7, {}, ecco.PromptError, "A prompt is a string, or a list of messages with role and content, found 7"),
        ("\ud800", {}, ecco.PromptError, r"lone surrogate \(U\+D800 at character 0\)"),
        ("a" * 100, {}, ecco.PromptError, "context holds 64; shorten"),
        ("The cook", {"max_new_tokens": 64}, ecco.PromptError, "or generate at most"),
        ("The cook", {"max_new_tokens": -1}, ecco.OptionError, "found -1"),
        ("The cook", {"max_new_tokens": True}, ecco.OptionError, "found True"),
        ("The cook", {"max_new_tokens": 3, "generate": 3}, ecco.OptionError, "give one of them"),
        ("The cook", {"temprature": 3}, ecco.OptionError, "temprature"),
    ],
)
def test_bad_prompts_are_one_sentence(gpt2, prompt, options, error, message):
    with pytest.raises(error, match=message):
        gpt2.generate(prompt, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": [99]}, "Target 99 is not in the run: its 5 tokens have positions 0 to 4"),
        ({"targets": -6}, "Target -6 is not in the run"),
        ({"targets": 0}, "nothing before it"),
        ({"targets": []}, "targets is empty"),
        ({"targets": "Nora"}, "A target is the position of a token, found 'Nora'"),
        ({"targets": [1.5]}, r"found \[1.5\]"),
        ({"contrast": "Nora Felix"}, r"'Nora Felix' is \d+ tokens"),
        ({"contrast": "Felix"}, "Did you mean ' Felix', with a blank before it"),
        ({"contrast": 10_000}, "token id 10000 is not in the vocabulary of"),
        ({"contrast": ""}, "an empty text is no token"),
        ({"score": "logits"}, "takes 'logprob' or 'logit' or 'prob' or .*, found 'logits'. Did you mean 'logit'"),
        ({"n_stepps": 3}, r"has no option 'n_stepps'\. Did you mean 'n_steps'\?"),
        ({"n_steps": 1}, "n_steps is at least 2"),
        ({"n_steps": "20"}, "takes int, found '20'"),
        ({"internal_batch_size": 0}, "at least 1"),
        ({"baseline": "the captain"}, r"baseline \(auto, mean, zero, sample, one token, .*\): 'the captain' is"),
    ],
)
def test_bad_options_of_an_attribution_are_one_sentence(gpt2, options, message):
    run = gpt2("The captain is")
    run = gpt2.generate("The captain is", max_new_tokens=5 - len(run)) if len(run) < 5 else run
    assert len(run) == 5
    with pytest.raises(ecco.OptionError, match=message):
        run.analyze("integrated_gradients", **options)


def test_an_unknown_method_names_the_nearest(gpt2):
    with pytest.raises(ecco.AnalysisNotFoundError, match="Did you mean 'integrated_gradients'"):
        gpt2("The").analyze("integrated_gradient")


def test_the_token_not_chosen_yet_can_be_explained(gpt2):
    run = gpt2("The captain is called")
    result = run.analyze("saliency")
    (target,) = result.targets
    logits = gpt2.model(run.ids[None]).logits[0, -1]
    assert target.position == len(run)
    assert target.token_id == int(logits.argmax())
    assert target.probability == pytest.approx(float(logits.softmax(-1).max()), rel=1e-5)
    assert result.values.shape == (1, len(run))


def test_negative_targets_count_from_the_end(gpt2):
    run = gpt2("The captain is called Nora")
    a = run.analyze("saliency", targets=-1)
    b = run.analyze("saliency", targets=[len(run) - 1])
    assert a.targets == b.targets
    np.testing.assert_array_equal(a.values.values, b.values.values)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("no-such/model", ecco.ModelNotFoundError, "No model 'no-such/model'"),
        ("tiny:poetry", ecco.ModelNotFoundError, "poetry"),
        ("tinny:prose", ecco.ModelNotFoundError, r"No model source 'tinny'.* Did you mean 'tiny'"),
        ((1, 2), ecco.OptionError, r"\(model, tokenizer\), found \(int, int\)"),
    ],
)
def test_unknown_models_are_one_sentence(what, error, message):
    with pytest.raises(error, match=message):
        ecco.from_pretrained(what)


def test_a_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ecco.ModelNotFoundError, match=r"no config\.json \(it has: notes\.txt\)"):
        ecco.from_pretrained(str(tmp_path))


def test_a_local_folder_is_loaded(gpt2, tmp_path):
    gpt2.model.save_pretrained(tmp_path)
    gpt2.tokenizer.save_pretrained(tmp_path)
    again = ecco.from_pretrained(str(tmp_path), activations=True)
    run = again.generate("The", max_new_tokens=5)
    assert run.text == gpt2.generate("The", max_new_tokens=5).text
    scores = run.analyze("saliency")  # to pass on, without where the user's folders are
    assert scores.provenance.model == tmp_path.name
    assert str(tmp_path.parent) not in scores.save(tmp_path / "it.json").read_text(encoding="utf-8")


def test_the_originals_calls(gpt2):
    output = gpt2.generate("The captain is called", generate=5, do_sample=True)
    scores = output.saliency()
    assert isinstance(scores, ecco.TokenScores)
    assert (scores.aggregation, scores.targets[0].score, scores.signed) == ("l2", "prob", False)
    assert len(scores.targets) == 5
    detailed = output.primary_attributions(attr_method="ig", style="detailed", ignore_tokens=[0])
    assert not detailed.values.values[:, 0].any()
    assert any("set to zero" in note for note in detailed.notes)
    with pytest.raises(ecco.OptionError, match=r"No attr_method 'igg'\. Did you mean 'ig'"):
        output.primary_attributions(attr_method="igg")


def test_a_run_shows_itself(gpt2):
    run = gpt2.generate("<b>", max_new_tokens=2)
    bundle = run._repr_mimebundle_()
    assert "&lt;b&gt;" in bundle["text/html"]
    assert "<b>│" in bundle["text/plain"]
