"""The analyses on models of each task: patterns, the rows that make targets, notes, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from ecco_attention import flow, flow_of, joined, rollout, rollout_of

import ecco_core as ecco
from ecco_core.proving.tiny_models import tiny_model

SCORES = ("raw_attention", "attention_rollout", "attention_flow", "attention_norms")
CAUSAL = "the cat sat on the mat and the cat"


def switch(model, kernel):
    for part in model.modules():  # transformers before 5.20 leaves T5's stacks out
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation(kernel)


def theirs(run, **options):
    """The model's own report of its patterns under its eager attention, each ``(layer, head, query, key)``."""
    model = run.lm.model
    before = model.config._attn_implementation
    switch(model, "eager")
    rows = run.lm.tensors(run.transcript)
    names = {"encoder": "input_ids", "decoder": "decoder_input_ids" if len(rows) > 1 else "input_ids"}
    with torch.no_grad():
        output = model(**{names[stack]: ids[None] for stack, ids in rows.items()}, output_attentions=True, **options)
    switch(model, before)
    found = {}
    for which, names in {
        "self": ("decoder_attentions", "attentions"),
        "encoder": ("encoder_attentions",),
        "cross": ("cross_attentions",),
    }.items():
        value = next((getattr(output, name) for name in names if getattr(output, name, None)), None)
        if value:
            found[which] = torch.stack(value)[:, 0].double().numpy()
    return found


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox", "mistral"])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_patterns_are_the_models_own_whatever_kernel_it_runs_with(open_tiny, kind, kernel):
    lm = open_tiny(kind)
    lm.model.set_attn_implementation(kernel)
    run = lm(CAUSAL)
    result = run.analyze("attention")
    expected = theirs(run)["self"]
    np.testing.assert_allclose(result.values.values, expected, atol=1e-6)
    assert result.values.dims == ("layer", "head", "query", "key")
    np.testing.assert_array_equal(run.analyze("attention", layers=-1).values.values, result.values.values[-1:])
    assert run.analyze("attention", layers=-1).values.labels("layer") == (1,)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_patterns_and_scores_of_an_encoder_decoder(open_tiny, kind):
    run = open_tiny(kind, "seq2seq").generate("the cat sat on", output=" the mat now")
    own = theirs(run)
    for which, expected in own.items():
        result = run.analyze("attention", which=which)
        np.testing.assert_allclose(result.values.values, expected, atol=1e-6)
        assert result.query_stack == ("encoder" if which == "encoder" else "decoder")
        assert result.key_stack == ("decoder" if which == "self" else "encoder")
    position = 4
    raw = run.analyze("raw_attention", targets=[position])
    stacks = [source.stack for source in raw.sources]
    assert stacks == ["encoder"] * len(run.transcript.tokens["encoder"]) + ["decoder"] * position
    row = position - 1
    parts = [own["cross"][:, :, row].mean((0, 1)), own["self"][:, :, row, :position].mean((0, 1))]
    np.testing.assert_allclose(raw.values.values[0], np.concatenate(parts), atol=1e-6)
    steps, node = joined(own["encoder"], own["self"], own["cross"]), len(parts[0]) + row
    flows = run.analyze("attention_flow", targets=[position]).values.values[0]
    np.testing.assert_allclose(flows, flow_of(steps, node)[: len(flows)], atol=1e-5)
    shares = rollout_of(steps)[node]
    rolled = run.analyze("attention_rollout", targets=[position]).values.values[0]
    np.testing.assert_allclose(rolled, shares[: len(rolled)], atol=1e-6)
    assert rolled.sum() == pytest.approx(1)
    assert any("encoder's states" in note for note in raw.notes)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_row_before_a_token_made_it_and_sees_nothing_later(open_tiny, kind):
    run = open_tiny(kind)(CAUSAL)
    own, n = theirs(run)["self"], len(run)
    targets = [3, n - 1, n]
    found = {name: run.analyze(name, targets=targets) for name in SCORES}
    for i, position in enumerate(targets):
        row = position - 1
        raw = found["raw_attention"].values.values[i]
        np.testing.assert_allclose(raw, own[:, :, row].mean((0, 1)), atol=1e-6)
        np.testing.assert_allclose(found["attention_rollout"].values.values[i], rollout(own)[row], atol=1e-6)
        np.testing.assert_allclose(found["attention_flow"].values.values[i], flow(own, row), atol=1e-5)
        for result in found.values():
            assert not result.values.values[i, position:].any()
            assert (result.values.values[i, :position] > 0).all()
    for name, result in found.items():
        assert not result.signed
        assert result.completeness is None
        assert [t.position for t in result.targets] == targets
        logprob = run.analyze("saliency", targets=targets).targets[0].value
        assert result.targets[0].value == pytest.approx(logprob, rel=1e-4), name


def test_a_span_is_the_mean_of_its_tokens(gpt2):
    run = gpt2(CAUSAL)
    for name in SCORES:
        single = run.analyze(name, targets=[3, 4, 5]).values.values
        whole = run.analyze(name, targets=["3:6"]).values.values
        np.testing.assert_allclose(whole[0], single.mean(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_a_masked_place_is_read_where_it_is_masked(open_tiny, name):
    lm = open_tiny("bert", "masked")
    run = lm("the cat sat on the mat")
    both = run.analyze(name, targets=[1, 3])
    for i, position in enumerate((1, 3)):
        ids = run.ids.tolist()
        ids[position] = lm.tokenizer.mask_token_id
        by_hand = lm(lm.tokenizer.decode(ids))
        assert by_hand.ids.tolist() == ids
        np.testing.assert_allclose(both.values.values[i], by_hand.analyze(name).values.values[0], atol=1e-6)
    if name == "raw_attention":
        np.testing.assert_allclose(both.values.values[1], theirs(by_hand)["self"][:, :, 3].mean((0, 1)), atol=1e-6)


def test_a_masked_place_is_read_under_what_the_run_was_made_under(open_tiny):
    lm = open_tiny("bert", "masked")
    with lm.intervene(ecco.ablate("pattern", layer=0, heads=[1])):
        run = lm("the cat sat on the mat")
        inside = run.analyze("raw_attention", targets=[3])
    outside = run.analyze("raw_attention", targets=[3])
    np.testing.assert_array_equal(outside.values.values, inside.values.values)
    assert outside.values.values.sum() == pytest.approx(7 / 8)


@pytest.mark.parametrize(("kind", "row"), [("bert", 0), ("distilbert", 0), ("gpt2", -1), ("llama", -1)])
def test_a_classifiers_row_is_the_one_that_it_reads(open_tiny, kind, row):
    run = open_tiny(kind, "sequence_classification")("the cat sat on the mat")
    own = theirs(run)["self"]
    raw = run.analyze("raw_attention")
    np.testing.assert_allclose(raw.values.values[0], own[:, :, row].mean((0, 1)), atol=1e-6)
    shares = run.analyze("attention_rollout").values.values[0]
    np.testing.assert_allclose(shares, rollout(own)[row], atol=1e-6)


def test_a_classifier_that_reads_the_mean_gets_the_mean(open_tiny):
    run = open_tiny("modernbert", "sequence_classification", classifier_pooling="mean")("the cat sat on the mat")
    raw = run.analyze("raw_attention")
    np.testing.assert_allclose(raw.values.values[0], theirs(run)["self"].mean((0, 1, 2)), atol=1e-6)
    assert any(f"reads {len(run)} positions" in note for note in raw.notes)


def test_a_classifier_that_reads_nothing_is_refused(open_tiny):
    lm = open_tiny("distilbert", "sequence_classification")
    with torch.no_grad():
        lm.model.pre_classifier.bias.fill_(-1e6)  # no unit of its ReLU passes anything on
    message = "No state in the last layer of this distilbert classifier changes its class"
    refused(lm("the cat sat on the mat"), "raw_attention", {}, message)


def test_a_classifier_of_tokens_reads_each_at_its_place(open_tiny):
    run = open_tiny("bert", "token_classification")("the cat sat on the mat")
    raw = run.analyze("raw_attention", targets=[2]).values.values[0]
    np.testing.assert_allclose(raw, theirs(run)["self"][:, :, 2].mean((0, 1)), atol=1e-6)


def test_sinks_are_told_and_rollout_still_sums_to_one(open_tiny):
    run = open_tiny("gpt_oss")(CAUSAL)
    for name in (*SCORES, "attention"):
        result = run.analyze(name)
        assert any("sum to less than 1" in note for note in result.notes), name
    assert run.analyze("raw_attention").values.values.sum() < 0.99
    np.testing.assert_allclose(run.analyze("attention_rollout").values.values.sum(1), 1)


def test_heads_that_are_switched_off_leave_the_residual(prose):
    run = prose("The captain is called Nora.")
    with prose.intervene(ecco.ablate("pattern")):
        shares = run.analyze("attention_rollout", targets=[3])
        np.testing.assert_array_equal(shares.values.values, [[0, 0, 1]])
        assert not run.analyze("attention_norms", targets=[3]).values.values.any()
    assert any("down to 0:" in note for note in shares.notes)


def test_half_precision_is_read_as_well(make_lm):
    full, half = make_lm("llama"), make_lm("llama")
    half.model.to(torch.bfloat16)
    for name in (*SCORES, "attention"):
        a, b = (lm(CAUSAL).analyze(name).values.values for lm in (full, half))
        np.testing.assert_allclose(a, b, atol=0.05 * np.abs(a).max(), err_msg=name)


def test_the_word_that_is_copied_carries_most(prose):
    """Of the first 20 copy prompts that are answered right, the copied word comes first in nearly all."""
    prompts = json.loads(files("ecco_tiny").joinpath("models/prose/copy_prompts.json").read_text())[:20]
    runs = [prose.generate(prompt["text"], max_new_tokens=1) for prompt in prompts]
    right = [run for run, prompt in zip(runs, prompts) if run.output_text == prompt["answer"]]
    first = [run.analyze("attention_norms") for run in right]
    found = [r.sources[r.values.values[0].argmax()].text == run.output_text for r, run in zip(first, right)]
    assert len(right) >= 15
    assert sum(found) >= 0.9 * len(right)


def test_layers_are_averaged(gpt2):
    run = gpt2(CAUSAL)
    for name in ("raw_attention", "attention_norms"):
        each = [run.analyze(name, targets=[4], layers=[layer]).values.values for layer in (0, 1)]
        np.testing.assert_allclose(run.analyze(name, targets=[4]).values.values, np.mean(each, axis=0))


@pytest.mark.parametrize("name", [*SCORES, "attention", "head_scores"])
def test_results_are_kept_and_shown(prose, tmp_path, name):
    run = prose.generate("The captain is called Nora. The captain", max_new_tokens=2)
    result = run.analyze(name)
    again = ecco.load(result.save(tmp_path / "result.ecco"))
    assert again.to_text() == result.to_text()
    np.testing.assert_array_equal(again.values.values, result.values.values)
    assert result.title in result.to_html()
    run.release()
    np.testing.assert_array_equal(run.analyze(name).values.values, result.values.values)


def no_attention(name):
    return rf"No attention can be read in the decoder of this {name} model"


@pytest.mark.parametrize("name", [*SCORES, "attention", "head_scores"])
@pytest.mark.parametrize("kind", ["mamba", "rwkv"])
def test_models_without_attention_are_refused(open_tiny, kind, name):
    refused(open_tiny(kind)(CAUSAL), name, {}, no_attention(kind))


def refused(run, name, options, message):
    with pytest.raises(ecco.EccoError, match=message) as raised:
        run.analyze(name, **options)
    said = str(raised.value)
    assert not isinstance(raised.value, ecco.PluginError), said
    assert "\n" not in said
    assert said.endswith((".", "?"))
    assert len(said) < 400


def test_a_hybrid_has_patterns_but_no_path_through_all_layers(open_tiny):
    run = open_tiny("qwen3_next")(CAUSAL)
    with pytest.warns(UserWarning, match="its layout was detected"):
        patterns = run.analyze("attention")
    for name in ("attention_rollout", "attention_flow"):
        refused(run, name, {}, "followed through all layers of this qwen3_next model: its decoder has none .* layer 0;")
    assert patterns.values.labels("layer") == (1,)
    assert any("layers without attention: 1 of 2" in note for note in patterns.notes)
    np.testing.assert_allclose(run.analyze("raw_attention").values.values.sum(1), 1, rtol=1e-5)
    refused(run, "raw_attention", {"layers": [0]}, "Layer 0 of the decoder has no pattern; the layers that have it: 1")


@pytest.mark.parametrize("kind", ["bloom", "gpt_neo"])
def test_norms_need_values_that_can_be_read(open_tiny, kind):
    run = open_tiny(kind)(CAUSAL)
    refused(run, "attention_norms", {}, f"The decoder of this {kind} model shows no v, only patterns")
    np.testing.assert_allclose(run.analyze("attention_rollout").values.values.sum(1), 1)


def test_norms_need_a_plain_projection_of_the_weighted_values(open_tiny):
    lm = open_tiny("llama")
    run = lm(CAUSAL)
    block = lm.model.model.layers[1].self_attn
    plain = block.o_proj
    block.o_proj = torch.nn.Sequential(plain)
    refused(run, "attention_norms", {}, "The output projection of layer 1 is a Sequential, whose matrix cannot be read")
    block.o_proj = plain
    run.release()
    hook = plain.register_forward_pre_hook(lambda module, args: (args[0].tanh(),), prepend=True)
    refused(run, "attention_norms", {}, "In layer 1 of this llama model, weights times values are not what enters")
    hook.remove()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *((name, {"contrast": 5}, "Attention is the same whatever a target is compared with") for name in SCORES),
        *((name, {"targets": [0]}, "Target 0 has nothing before it") for name in SCORES),
        *((name, {"targets": [99]}, "Target 99 is not in the run") for name in SCORES),
        *((name, {"layers": [4]}, "No layer 4; there are 4") for name in ("raw_attention", "attention_norms")),
        ("attention_rollout", {"layers": [0]}, "layers"),
        ("attention", {"layers": [-5]}, "No layer -5; there are 4"),
        (
            "attention",
            {"which": "cross"},
            "This run of a gpt2 model has tokens of its decoder only: which='self' is all of its",
        ),
        ("attention", {"which": "encoder"}, "has tokens of its decoder only"),
        ("attention", {"which": "both"}, "option 'which' of .* takes 'self' or 'encoder' or 'cross', found"),
        ("head_scores", {"measure": "copying"}, "option 'measure' of .* takes 'induction' or"),
        ("head_scores", {}, "No token after a token that occurs again is in this run of 5 tokens"),
        ("head_scores", {"measure": "duplicate_token"}, "No token that occurred before is in this run of 5 tokens"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(prose, name, options, message):
    refused(prose("The captain is called N"), name, options, message)


def test_other_bad_input(prose, open_tiny):
    refused(prose("The"), "head_scores", {"measure": "entropy"}, "the decoder of this run has one token only")
    refused(open_tiny("bert", "masked")("the cat"), "attention", {"which": "cross"}, "has tokens of its encoder only")
    lm = open_tiny("bart", "sequence_classification", eos_token_id=5)
    run = lm(lm.tokenizer.decode([7, 8, 9, 5]))
    for name in SCORES:
        refused(run, name, {}, "This bart classifier reads its text with an encoder and again with a decoder")
    assert run.analyze("attention").values.shape[-1] == len(run)


def test_attention_to_a_window_is_refused(marked_tokenizer):
    """Longformer reports (head, query, place in the window); its attention is named by hand here."""
    sizes = {"vocab_size": len(marked_tokenizer), "pad_token_id": marked_tokenizer.pad_token_id, "attention_window": 4}
    model = tiny_model("longformer", "masked", {**sizes, "max_position_embeddings": 512})
    stack = {"blocks": "encoder.layer", "attention": "attention.self"}
    layout = {"schema": 1, "model_types": ["longformer"], "stacks": {"encoder": stack}}
    run = ecco.from_pretrained((model, marked_tokenizer), model_config=layout)("the cat <mask> on")
    for name in ("attention", "raw_attention", "attention_rollout"):
        refused(run, name, {}, r"The attention of layer 0 has the shape .* this longformer model attends to something")


def test_attention_of_no_numbers_is_refused(make_lm):
    lm = make_lm("gpt2")
    run = lm(CAUSAL)
    with torch.no_grad():
        lm.model.transformer.h[1].attn.c_attn.weight[0, 0] = float("nan")
    refused(run, "attention", {}, "The attention of layer 1 holds NaN or infinite numbers")


@pytest.mark.parametrize("site", ["z", "attn_out"])
def test_what_weights_do_not_show_is_said(prose, site):
    run = prose("The captain is called Nora.")
    with prose.intervene(ecco.ablate(site, layer=3)):
        refused(
            run, "attention_norms", {}, rf"An intervention changes what attention puts out .*\(ablate {site}, layers 3"
        )
        for name in ("raw_attention", "attention_rollout", "attention_flow"):
            notes = run.analyze(name, targets=[3]).notes
            assert any(f"(ablate {site}, layers 3), which weights do not show" in note for note in notes), name
    assert not any("intervention" in note for note in run.analyze("raw_attention", targets=[3]).notes)


def test_changed_values_are_in_the_norms(prose):
    run = prose("The captain is called Nora.")
    plain = run.analyze("attention_norms", targets=[3], layers=[3]).values.values
    with prose.intervene(ecco.scale("v", 2.0, layer=3)):
        np.testing.assert_allclose(run.analyze("attention_norms", targets=[3], layers=[3]).values.values, 2 * plain)


@pytest.mark.parametrize(("kind", "follows"), [("gemma2", True), ("olmo2", True), ("granite", True), ("llama", False)])
def test_what_follows_the_projection_is_said(open_tiny, kind, follows):
    changes = {"residual_multiplier": 0.5} if kind == "granite" else {}
    result = open_tiny(kind, **changes)(CAUSAL).analyze("attention_norms", targets=[3])
    assert any("in layers 0, 1 a norm or a factor follows" in note for note in result.notes) == follows


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_without_head_has_nothing_to_explain(open_tiny, marked_tokenizer, kind):
    import transformers

    body = open_tiny(kind, "seq2seq").model
    model = {"t5": transformers.T5Model, "bart": transformers.BartModel}[kind](body.config).eval()
    run = ecco.from_pretrained((model, marked_tokenizer))("the cat sat")
    refused(run, "raw_attention", {}, "A backbone model predicts nothing")


def test_the_readme_runs_and_shows_what_is_printed(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names = {}
    for block in (block for language, block in blocks if language == "python"):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    for shown in (block for language, block in blocks if language == "text"):
        missing = [line for line in shown.splitlines() if line not in (*printed, "…")]
        assert not missing


HELP = "from ecco_core.cli.main import main\ntry: main(['run', 'attention_flow', '--help'])\nexcept SystemExit: pass"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import ecco_attention", {"numpy", "scipy", "torch", "transformers"}),
        ("from ecco_attention import flow, value_norms, looked_at", {"torch", "transformers"}),
        (HELP, {"scipy", "torch", "transformers"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code, heavy):
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & {*done.stdout.split("\n")[-2].split()}


def test_pure_functions_are_public():
    import ecco_attention

    names = [name for names in ecco_attention._FUNCTIONS.values() for name in names]
    assert all(callable(getattr(ecco_attention, name)) for name in names)
    assert {*names} <= {*dir(ecco_attention)}
    with pytest.raises(AttributeError, match="no attribute 'rolls'"):
        ecco_attention.rolls  # noqa: B018
