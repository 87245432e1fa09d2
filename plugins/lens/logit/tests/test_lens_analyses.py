"""Lens, rankings and candidates on trained and random models: positions, tokens, titles, cost, interventions."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ecco_lens import ecco_analyses, reading

import ecco_core as ecco

TEXT = "The captain is called Nora. The cook is called Felix. Everyone thanked the captain called"


@pytest.fixture(scope="module")
def run(prose):
    """20 tokens of a prompt, then ' Nora', '.' and the end."""
    found = prose.generate(TEXT, max_new_tokens=3)
    assert found.output_text == " Nora.<|endoftext|>"
    return found


@pytest.fixture(scope="module")
def masked():
    return ecco.from_pretrained("tiny:masked")


@pytest.fixture(scope="module")
def seq2seq():
    return ecco.from_pretrained("tiny:seq2seq").generate("The captain is called Nora.", output=" captain Nora")


def naive(run, layer, position):
    """Log-probabilities of all tokens in float64 at a layer for a position."""
    model = run.lm.model
    with torch.no_grad():
        states = model(run.ids[None], output_hidden_states=True).hidden_states
        state = states[layer + 1][0, position - 1]
        final = layer == model.config.num_hidden_layers - 1  # transformers norms the last of them itself
        logits = model.lm_head(state if final else model.transformer.ln_f(state))
    return logits.double().log_softmax(-1).numpy()


def test_the_lens_reads_the_state_before_each_token(run):
    lens = run.analyze("logit_lens")
    n, layers = len(run), run.lm.architecture.n_layers("decoder")
    assert lens.values.shape == lens.texts.shape == (layers, n)  # tokens 1 to the one after the last
    assert lens.values.labels("position")[-1] == f"{n} (next)"
    assert lens.values.labels("position")[19] == "20  Nora"
    for layer in range(layers):
        for position in (1, 20, n):
            expected = naive(run, layer, position)
            assert lens.values.values[layer, position - 1] == pytest.approx(np.exp(expected.max()), rel=1e-4)
            assert lens.texts.values[layer, position - 1] == run.label(int(expected.argmax()))
    assert lens.texts.values[-1, 19] == " Nora"
    assert any("is a guess" in note for note in lens.notes)
    alone = run.analyze("logit_lens", positions=-3, layers=-1)
    assert alone.title.endswith("position 20 ' Nora'")
    np.testing.assert_allclose(alone.values.values, lens.values.values[-1:, 19:20], rtol=1e-5)
    assert alone.notes == ()


def test_the_lens_keeps_the_best_of_each_box(run):
    lens = run.analyze("logit_lens", top_k=4, positions=[1, 20], layers=[3, 0])
    assert lens.candidates.dims == lens.candidate_values.dims == ("layer", "position", "rank")
    assert lens.candidates.shape == lens.candidate_values.shape == (2, 2, 4)
    assert lens.candidates.labels("rank") == (1, 2, 3, 4)
    assert lens.candidates.labels("layer") == (3, 0)
    for row, layer in enumerate((3, 0)):
        for column, position in enumerate((1, 20)):
            expected = naive(run, layer, position)
            order = np.argsort(-expected)[:4]
            assert lens.candidates.values[row, column].tolist() == [run.label(int(token)) for token in order]
            np.testing.assert_allclose(lens.candidate_values.values[row, column], np.exp(expected[order]), rtol=1e-4)
    np.testing.assert_array_equal(lens.candidates.values[..., 0], lens.texts.values)
    np.testing.assert_array_equal(lens.candidate_values.values[..., 0], lens.values.values)
    none = run.analyze("logit_lens", top_k=0, positions=[1, 20], layers=[3, 0])
    assert none.candidates is none.candidate_values is None
    np.testing.assert_array_equal(none.texts.values, lens.texts.values)
    assert run.analyze("logit_lens", layers=0, positions=3).candidates.shape == (1, 1, 10)


@pytest.mark.parametrize("k", [-1, 10**6])
def test_the_lens_refuses_candidates_that_there_are_not(run, k):
    with pytest.raises(ecco.OptionError, match=r"top_k is from 0 to the vocabulary's 4,096 entries, found"):
        run.analyze("logit_lens", top_k=k)


def test_candidates_are_for_the_token_at_the_position(run):
    found = run.analyze("candidates", position=20, top_k=3, layers=[3, 0])
    assert found.title == "Candidates of each layer for position 20 ' Nora'"
    assert found.values.dims == ("layer", "rank")
    assert found.values.labels("layer") == (3, 0)
    assert found.texts.values[0, 0] == " Nora"
    for row, layer in enumerate((3, 0)):
        expected = naive(run, layer, 20)
        order = np.argsort(-expected)[:3]
        assert found.ids.values[row].tolist() == order.tolist()
        np.testing.assert_allclose(found.values.values[row], np.exp(expected[order]), rtol=1e-4)
    assert run.analyze("layer_predictions", position=-3).title == found.title
    default = run.analyze("candidates")
    assert default.title == "Candidates of each layer for position 23, not chosen yet"
    assert default.values.shape[1] == 10
    assert default.ids.values[-1, 0] == run.next_token()


@pytest.mark.parametrize("value", ["rank", "probability", "logprob"])
def test_rankings_are_of_the_generated_tokens(run, value):
    found = run.analyze("rankings", value=value)
    assert found.values.labels("position") == ("20  Nora", "21 .", "22 <|endoftext|>")
    expected = np.empty(found.values.shape)
    for layer in range(len(expected)):
        for column, position in enumerate((20, 21, 22)):
            logprobs, token = naive(run, layer, position), int(run.tokens.ids[position])
            rank = 1 + int((logprobs > logprobs[token]).sum())
            expected[layer, column] = {"rank": rank, "probability": np.exp(logprobs[token])}.get(value, logprobs[token])
    np.testing.assert_allclose(found.values.values, expected, rtol=1e-3)
    if value == "rank":
        assert found.values.values.dtype.kind == "i"
        assert found.values.values[-1].tolist() == [1, 1, 1]
        assert "1 is the best" in found.quantity


def test_rankings_of_a_text_that_was_only_read_are_of_all_its_tokens(prose):
    read = prose("The cook is called Felix.")
    assert len(read.analyze("rankings").values.labels("position")) == len(read) - 1
    one = prose("The")
    assert one.analyze("rankings").values.labels("position") == (f"1 {one.label(one.next_token())}",)


def test_watched_tokens_are_ranked_for_the_named_position(run):
    felix, nora = run.token_id(" Felix", ""), run.token_id(" Nora", "")
    found = run.analyze("rankings_watch", watch=[" Felix", nora], position=20)
    assert found.title == "Rank of watched tokens for position 20 ' Nora', layer by layer"
    assert found.values.labels("token") == (" Felix", " Nora")
    for layer in range(4):
        logprobs = naive(run, layer, 20)
        assert found.values.values[layer].tolist() == [1 + (logprobs > logprobs[i]).sum() for i in (felix, nora)]
    following = run.analyze("rankings_watch", watch=" Nora", value="logprob", layers=-1)
    assert following.title == "Log-probability of watched tokens for position 23, not chosen yet, layer by layer"
    assert following.values.values[0, 0] == pytest.approx(run.logits()[-1].log_softmax(-1)[nora].item(), abs=1e-4)


def test_divergence_is_from_the_models_own_prediction(run):
    found = run.analyze("lens_kl", positions=[20, 23])
    for layer in range(4):
        for column, position in enumerate((20, 23)):
            own, theirs = naive(run, 3, position), naive(run, layer, position)
            expected = (np.exp(own) * (own - theirs)).sum()
            assert found.values.values[layer, column] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    some = run.analyze("lens_kl", positions=[20, 23], layers=[2, 0]).values
    np.testing.assert_allclose(some.values, found.values.values[[2, 0]], rtol=1e-5)
    assert some.labels("layer") == (2, 0)


def test_predict_is_the_models_own_prediction(run):
    found = run.analyze("predict", top_k=4)
    best = run.logits()[-1].double().softmax(-1).topk(4)
    assert found.ids.values[0].tolist() == best.indices.tolist()
    np.testing.assert_allclose(found.values.values[0], best.values.numpy(), rtol=1e-9)
    cooler = run.analyze("predict_token", top_k=4, temperature=0.5)
    expected = (run.logits()[-1].double() / 0.5).softmax(-1).topk(4).values
    np.testing.assert_allclose(cooler.values.values[0], expected.numpy(), rtol=1e-9)
    assert "at temperature 0.5" in cooler.title
    coldest = run.analyze("predict", top_k=2, temperature=1e-310).values.values[0]
    assert coldest.tolist() == [1.0, 0.0]
    several = run.analyze("predict", positions=[20, -1], top_k=1)
    assert several.texts.values[:, 0].tolist() == [" Nora", "<|endoftext|>"]
    assert several.values.dims == ("position", "rank")


def test_masked_models_are_read_at_the_masks(masked):
    run = masked("The [MASK] is called [MASK].")
    places = [p for p, token in enumerate(run.tokens.ids) if token == masked.tokenizer.mask_token_id]
    assert len(places) == 2
    best = run.logits().argmax(-1)[places].tolist()
    heads = tuple(f"{p}  [MASK]" for p in places)
    lens = run.analyze("logit_lens")
    assert lens.values.labels("position") == run.analyze("lens_kl").values.labels("position") == heads
    assert lens.texts.values[-1].tolist() == list(map(run.label, best))
    ranks = run.analyze("rankings")
    assert ranks.values.labels("position") == tuple(f"{p} {run.label(b)}" for p, b in zip(places, best))
    assert ranks.values.values[-1].tolist() == [1, 1]
    assert any("the one that the model finds best" in note for note in ranks.notes)
    predicted = run.analyze("predict", top_k=1)
    assert predicted.ids.values[:, 0].tolist() == best
    first = run.analyze("candidates", top_k=2)
    assert first.title == f"Candidates of each layer for masked position {places[0]}"
    assert first.ids.values[-1, 0] == best[0]


def test_masked_models_say_where_the_token_was_to_be_seen(masked):
    run = masked("The captain is called Nora.")
    assert len(run.analyze("logit_lens").values.labels("position")) == len(run)
    found = run.analyze("rankings", positions=2)
    token, logits = int(run.tokens.ids[2]), run.logits()[2]
    assert found.values.values[-1, 0] == 1 + int((logits > logits[token]).sum())
    assert any(note.startswith("not masked at 2: the model sees") for note in found.notes)
    assert "which is not masked" in found.title


def test_decoders_of_two_stacks_are_read_at_the_decoder(seq2seq):
    ranks = seq2seq.analyze("rankings")
    assert [name.split(" ", 1)[1] for name in ranks.values.labels("position")] == list(seq2seq.tokens.labels[1:])
    logits = seq2seq.logits()
    for column in range(len(seq2seq) - 1):
        token = int(seq2seq.tokens.ids[column + 1])
        assert ranks.values.values[-1, column] == 1 + int((logits[column] > logits[column, token]).sum())
    start = seq2seq.lm("The captain is called Nora.")
    assert start.analyze("candidates", top_k=1).ids.values[-1, 0] == start.next_token()


def test_one_forward_serves_all_and_no_head_runs_at_rows_that_nobody_asked_for(run):
    passed, forwards = [], []
    lm = run.lm
    hooks = [
        lm.model.lm_head.register_forward_pre_hook(lambda _, args: passed.append(args[0].shape[:-1].numel())),
        lm.model.base_model.register_forward_pre_hook(lambda *_: forwards.append(1)),
    ]
    try:
        for name, options, rows in (
            ("logit_lens", {}, 4 * len(run)),
            ("logit_lens", {"positions": [3, 5], "layers": 1}, 2),
            ("lens_kl", {"positions": 7, "layers": [0, 1]}, 3),
            ("candidates", {}, 4),
            ("rankings", {}, 12),
            ("rankings_watch", {"watch": [5, 6, 7]}, 4),
        ):
            run.release(), passed.clear(), forwards.clear()
            run.analyze(name, **options)
            assert (sum(passed), len(forwards)) == (rows, 1), name
    finally:
        [hook.remove() for hook in hooks]


def test_pieces_make_no_difference_and_stay_small(run, monkeypatch):
    calls = (("logit_lens", {}), ("rankings", {}), ("lens_kl", {}), ("rankings", {"value": "logprob"}))
    whole = [run.analyze(name, **options).values.values for name, options in calls]
    limit, sizes = 4 * 4096 * 3, []
    monkeypatch.setattr(reading, "AT_ONCE", limit)
    hook = run.lm.model.lm_head.register_forward_hook(lambda _, args, output: sizes.append(output.numel()))
    try:
        pieces = [run.analyze(name, **options).values.values for name, options in calls]
    finally:
        hook.remove()
    assert max(sizes) == limit
    for a, b in zip(whole, pieces):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_interventions_are_seen_from_their_layer_on(run):
    def lens(of):
        return of.analyze("rankings", value="logprob", positions=[20]).values.values[:, 0]

    before = lens(run)
    with run.lm.intervene(ecco.ablate("mlp_out", layer=2)):
        inside = lens(run)
        own = run.logits()[19].log_softmax(-1)[int(run.tokens.ids[20])].item()
        made = run.lm.replay(run.transcript)
        again = run.lm.generate(TEXT, max_new_tokens=1)
        there = run.lm.generate(TEXT, max_new_tokens=1).analyze("logit_lens", positions=20).values.values
    np.testing.assert_array_equal(inside[:2], before[:2])
    assert np.all(np.abs(inside[2:] - before[2:]) > 1e-3)
    assert inside[-1] == pytest.approx(own, abs=1e-4)
    np.testing.assert_array_equal(lens(run), before)
    np.testing.assert_array_equal(lens(made), before)
    np.testing.assert_allclose(again.analyze("logit_lens", positions=20).values.values, there, rtol=1e-6)


def test_the_last_layer_shows_what_changes_its_output(run):
    with run.lm.intervene(ecco.scale("resid_post", 0.0, layer=-1, positions=[19])):
        found = run.analyze("rankings", value="logprob", positions=[20, 21]).values.values
        own = run.logits()[[19, 20]].log_softmax(-1)
    expected = [own[0, int(run.tokens.ids[20])].item(), own[1, int(run.tokens.ids[21])].item()]
    np.testing.assert_allclose(found[-1], expected, atol=1e-4)


def test_a_model_in_training_mode_and_a_callers_inference_mode_make_no_difference(run):
    expected = run.analyze("lens_kl").values.values
    run.release()
    run.lm.model.train()
    try:
        with torch.inference_mode():
            np.testing.assert_allclose(run.analyze("lens_kl").values.values, expected, atol=1e-5)
        assert run.lm.model.training
    finally:
        run.lm.model.eval()


def test_entries_beyond_the_tokenizer_have_a_label(make_lm, tokenizer):
    lm = make_lm("gpt2", vocab_size=len(tokenizer) + 40)
    found = lm("The captain").analyze("candidates", top_k=lm.vocabulary, layers=-1)
    beyond = found.ids.values[0] >= len(tokenizer)
    assert beyond.sum() == 40
    assert all(found.texts.values[0][beyond])


def test_results_are_shown_and_kept(run, tmp_path):
    calls = {"logit_lens": {}, "lens_kl": {}, "candidates": {}, "rankings": {}, "predict": {},
             "rankings_watch": {"watch": " Nora"}}  # fmt: skip
    for name, options in calls.items():
        result = run.analyze(name, **options)
        loaded = ecco.load(result.save(tmp_path / f"{name}.ecco"))
        assert loaded.title == result.title
        np.testing.assert_array_equal(loaded.values.values, result.values.values)
        page = result.to_html()
        assert all(word in page for word in ("<table", "position"))
        assert result.title in str(result)


def test_the_readme_runs_and_shows_what_is_printed(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in (block for language, block in blocks if language):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    shown = [block for language, block in blocks if not language]
    assert len(shown) == 2
    words = [word for block in shown for word in block.split() if not re.fullmatch(r"[\d.]+", word)]
    assert words == [word for word in printed.split() if not re.fullmatch(r"[\d.]+", word)]


def test_every_analysis_and_option_is_in_the_readme():
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for spec in ecco_analyses():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{spec.name}` |"))
        options = inspect.signature(spec.load()).parameters.keys() - {"ctx"}
        assert all(f"`{name}" in row for name in (*spec.aliases, *spec.takes, *options))
