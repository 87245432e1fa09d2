"""Every task through one Run: masked, encoder-decoder, classifiers, bare backbones; batches, chats, given outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import ecco_core as ecco

TEXT = "The captain is called Nora."
OTHERS = ["The cook", "Everyone thanked the captain called Nora.", "Felix."]
DOUBLE = torch.float64


def gradients_by_hand(modules, ids_of_forward, scores_of_logits, model):
    """Naive oracle: one plain forward per target with hooks that make the embeddings leaves; one backward each."""
    found = []
    for feed, score in zip(ids_of_forward, scores_of_logits):
        leaves = []

        def to_leaf(_module, _args, output, leaves=leaves):
            leaves.append(output.detach().clone().requires_grad_())
            return leaves[-1]

        handles = [module.register_forward_hook(to_leaf) for module in modules]
        value = score(model(**feed).logits)
        for handle in handles:
            handle.remove()
        value.backward()
        found.append((float(value.detach()), [leaf.grad[0] for leaf in leaves]))
    return found


def same(run, expected, **options):
    scores = run.scores(**options)
    values, gradients = scores.values_and_gradients(*scores.inputs())
    for i, (value, by_hand) in enumerate(expected):
        assert float(values[0, i]) == pytest.approx(value, rel=1e-9)
        for ours, theirs in zip(gradients, by_hand):
            torch.testing.assert_close(ours[i, 0], theirs[: ours.shape[2]], rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(scores(*scores.inputs())[0], values[0])


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "albert", "electra", "modernbert"])
def test_masked_each_target_is_masked_in_a_variant_of_its_own(open_tiny, kind):
    lm = open_tiny(kind, "masked", dtype=DOUBLE)
    run = lm("The <mask> is called <mask>.")
    mask = lm.tokenizer.mask_token_id
    masks = [p for p, i in enumerate(run.tokens.ids) if i == mask]
    assert [t.position for t in run.scores().targets] == masks
    assert {t.kind for t in run.scores().targets} == {"masked"}
    targets = [0, masks[0], 3, masks[1]]
    feeds, picks = [], []
    for p in targets:
        ids = run.ids.clone()
        ids[p] = mask
        token = int(run.ids[p]) if p not in masks else int(run.logits()[p].argmax())
        feeds.append({"input_ids": ids[None]})
        picks.append(lambda logits, p=p, token=token: logits[0, p].log_softmax(-1)[token])
    expected = gradients_by_hand([lm.model.get_input_embeddings()], feeds, picks, lm.model)
    for p, (_, by_hand) in zip(targets, expected):  # what stands in a masked place has no say
        by_hand[0][[p, *masks]] = 0
    scores = run.scores(targets=targets)
    values, gradients = scores.values_and_gradients(*scores.inputs())
    for i, (value, by_hand) in enumerate(expected):
        assert float(values[0, i]) == pytest.approx(value, rel=1e-9)
        ours = gradients[0][i, 0].clone()
        assert (ours[[targets[i], *masks]] == 0).all()
        torch.testing.assert_close(ours, by_hand[0], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", ["t5", "bart", "pegasus", "m2m_100"])
def test_seq2seq_positions_index_the_decoder_and_sources_are_both_stacks(open_tiny, kind):
    lm = open_tiny(kind, "seq2seq", dtype=DOUBLE)
    run = lm.generate(TEXT, output="The cook is called Felix.")
    encoder, decoder = (run.transcript.tokens[s] for s in ("encoder", "decoder"))
    assert (encoder.text, run.output_text, run.n_input_tokens) == (TEXT, "The cook is called Felix.", 1)
    ids = lm.tensors(run.transcript)
    feed = {"input_ids": ids["encoder"][None], "decoder_input_ids": ids["decoder"][None]}
    modules = [lm.architecture.embedding(stack).module for stack in ("encoder", "decoder")]
    targets = [1, 4, len(run)]
    tokens = [*(int(run.ids[p]) for p in targets[:2]), int(run.logits()[-1].argmax())]
    picks = [lambda y, p=p, t=t: y[0, p - 1].log_softmax(-1)[t] for p, t in zip(targets, tokens)]
    same(run, gradients_by_hand(modules, [feed] * 3, picks, lm.model), targets=targets)
    result = run.analyze("integrated_gradients", targets=[1, 4], n_steps=120)
    assert [s.stack for s in result.sources] == ["encoder"] * len(encoder) + ["decoder"] * 4
    assert (result.values.values[0, len(encoder) + 1 :] == 0).all()
    assert result.relative_error().max() < 0.2
    assert len(decoder) == len(run)


@pytest.mark.parametrize(
    ("kind", "task"),
    [("bert", "sequence_classification"), ("gpt2", "sequence_classification"), ("llama", "sequence_classification"),
     ("distilbert", "token_classification"), ("roberta", "token_classification"), ("gpt2", "token_classification")],
)  # fmt: skip
def test_classifiers_are_explained_by_class_or_by_token(open_tiny, kind, task):
    names = {0: "negative", 1: "neutral", 2: "positive"}
    lm = open_tiny(kind, task, dtype=DOUBLE, id2label=names, label2id={v: k for k, v in names.items()})
    run = lm(TEXT)
    feed = {"input_ids": run.ids[None]}
    logits = lm.model(**feed).logits[0]
    embedding = [lm.model.get_input_embeddings()]
    if task == "sequence_classification":
        best = int(logits.argmax())
        (target,) = run.scores().targets
        assert (target.kind, target.text, target.position) == ("class", names[best], len(run))
        picks = [lambda y, c=c: y[0].log_softmax(-1)[c] for c in (0, 2)]
        same(run, gradients_by_hand(embedding, [feed] * 2, picks, lm.model), targets=["negative", "positive"])
        contrast = run.analyze("input_x_gradient", targets="positive", contrast="negative", score="logit")
        assert contrast.targets[0].value == pytest.approx(float(logits[2] - logits[0]))
        with pytest.raises(ecco.TargetError, match=r"target: no class 'postive'\. Did you mean 'positive'"):
            run.scores(targets="postive")
    else:
        best = [int(row.argmax()) for row in logits]
        assert [t.text for t in run.scores(targets=[1, 3]).targets] == [names[best[1]], names[best[3]]]
        picks = [lambda y, p=p: y[0, p].log_softmax(-1)[best[p]] for p in (1, 3)]
        same(run, gradients_by_hand(embedding, [feed] * 2, picks, lm.model), targets=[1, 3])


@pytest.mark.parametrize("kind", ["bart", "mbart", "t5", "mt5"])
def test_a_classifier_that_reads_its_text_with_both_stacks_sums_over_both(open_tiny, kind):
    lm = open_tiny(kind, "sequence_classification", dtype=DOUBLE, num_labels=3)
    run = lm("Nora is here.</s>")
    modules = [lm.architecture.embedding(stack).module for stack in ("encoder", "decoder")]
    pick = [lambda y: y[0].log_softmax(-1)[2]]
    ((value, (encoder, decoder)),) = gradients_by_hand(modules, [{"input_ids": run.ids[None]}], pick, lm.model)
    assert decoder[1:].abs().max() > 0
    scores = run.scores(targets=2)
    values, (gradients,) = scores.values_and_gradients(*scores.inputs())
    encoder[:-1] += decoder[1:]
    assert float(values) == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(gradients[0, 0], encoder, rtol=1e-9, atol=1e-11)
    assert run.analyze("integrated_gradients", targets=2, n_steps=64).relative_error().max() < 0.05


def test_a_classifier_without_a_padding_token_takes_batches_one_by_one(open_tiny):
    lm = open_tiny("gpt2", "sequence_classification", pad_token_id=None)
    run = lm(TEXT)
    result = run.analyze("integrated_gradients", n_steps=20)
    assert result.relative_error().max() < 0.05


@pytest.mark.parametrize(
    ("kind", "task"),
    [("gpt2", "causal"), ("opt", "causal"), ("bloom", "causal"), ("mamba", "causal"), ("mixtral", "causal"),
     ("bert", "masked"), ("deberta-v2", "masked"), ("roberta", "masked"), ("t5", "seq2seq"), ("bart", "seq2seq"),
     ("bert", "backbone"), ("gpt2", "backbone"), ("bert", "sequence_classification")],
)  # fmt: skip
def test_a_batch_equals_one_by_one_and_carries_no_padding(open_tiny, kind, task):
    lm = open_tiny(kind, task)
    texts = [TEXT, *OTHERS]
    together, alone = lm(texts), [lm(text) for text in texts]
    assert isinstance(together, ecco.Runs)
    for stack in lm.architecture.stacks:
        sites = lm.architecture.sites(stack)
        captures = together.capture(*sites, stack=stack, batch_size=3)
        for capture, run in zip(captures, alone):
            one = run.capture(*sites, stack=stack)
            assert set(one.tensors) == set(capture.tensors)
            for key, tensor in one.tensors.items():
                assert capture.tensors[key].shape == tensor.shape, key
                torch.testing.assert_close(capture.tensors[key], tensor, atol=2e-5, rtol=1e-4)
    together.release()
    assert not any(run._read for run in together)


def test_one_forward_reads_a_whole_batch(open_tiny):
    lm = open_tiny("llama")
    runs, calls = lm([TEXT, *OTHERS]), []
    handle = lm.model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    runs.capture("resid_post", "pattern", layers=[1])
    assert len(calls) == 1
    runs[2].capture("resid_post", "pattern", layers=1)
    handle.remove()
    assert len(calls) == 1


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "bart"])
def test_generation_of_a_batch_equals_one_by_one(open_tiny, kind):
    lm = open_tiny(kind, "seq2seq" if kind in ("t5", "bart") else "causal")
    together = lm.generate([TEXT, *OTHERS], max_new_tokens=6, do_sample=False)
    for run, text in zip(together, [TEXT, *OTHERS]):
        one = lm.generate(text, max_new_tokens=6, do_sample=False)
        assert run.ids.tolist() == one.ids.tolist()
        assert run.n_input_tokens == one.n_input_tokens
        assert run.transcript.tokens.keys() == one.transcript.tokens.keys()


def test_beam_search_keeps_the_winner_and_replays_its_states(open_tiny):
    lm = open_tiny("llama")
    run = lm.generate(TEXT, max_new_tokens=5, num_beams=4, do_sample=False)
    ids = run.ids[: run.n_input_tokens][None]
    best = lm.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, num_beams=4, do_sample=False
    )
    assert run.ids.tolist() == best[0].tolist()
    states = lm.model(best, output_hidden_states=True).hidden_states
    torch.testing.assert_close(run.capture("resid_post").get("resid_post", 0), states[1][0])


def test_a_given_output_is_explained_as_if_it_had_been_generated(open_tiny):
    lm = open_tiny("llama")
    run = lm.generate("The captain is", output=" called Nora.")
    assert (run.text, run.output_text) == ("The captain is called Nora.", " called Nora.")
    assert [t.position for t in run.scores().targets] == list(range(run.n_input_tokens, len(run)))
    with pytest.raises(ecco.OptionError, match="nothing is generated"):
        lm.generate("The captain is", output=" called Nora.", max_new_tokens=3)
    with pytest.raises(ecco.PromptError, match="The output is empty"):
        lm.generate("The captain is", output="")


def test_chats_go_through_the_tokenizers_template(open_tiny):
    from copy import deepcopy

    lm = open_tiny("llama")
    messages = [{"role": "user", "content": "Who is the captain?"}]
    with pytest.raises(ecco.PromptError, match="no chat template"):
        lm.generate(messages)
    lm = ecco.from_pretrained((lm.model, deepcopy(lm.tokenizer)))
    lm.tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>{% endif %}"
    )
    run = lm.generate(messages, max_new_tokens=3)
    assert run.tokens.part(slice(0, run.n_input_tokens)).text == "<s>user: Who is the captain?</s><s>"
    both = lm.generate([messages, messages], max_new_tokens=3)
    assert [r.ids.tolist() for r in both] == [run.ids.tolist()] * 2
    with pytest.raises(ecco.PromptError, match="a list of messages with role and content"):
        lm.generate([])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("kind", "task"), [("llama", "causal"), ("bert", "masked"), ("t5", "seq2seq")])
def test_half_precision_is_read_as_it_is_and_as_asked_for(open_tiny, dtype, kind, task):
    lm = open_tiny(kind, task, dtype=dtype)
    run = lm(TEXT)
    state = run.capture("resid_post").get("resid_post", 0)
    wide = run.capture("resid_post", dtype="float32", device="cpu").get("resid_post", 0)
    assert (state.dtype, wide.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(state.float(), wide)
    targets = [2] if task == "masked" else None
    assert np.isfinite(run.analyze("input_x_gradient", targets=targets).values.values).all()
    with pytest.raises(ecco.OptionError, match="No dtype 'float31'"):
        run.capture("resid_post", dtype="float31")


class Doubled(nn.Module):
    """A stand-in for a quantized linear layer: no ``weight``, the product of two factors."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.factor = nn.Parameter(linear.weight.detach() / 2)
        self.out_features, self.in_features = linear.weight.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.factor * 2)


def test_modules_that_replace_linear_layers_are_read_and_changed_alike(open_tiny):
    plain, other = open_tiny("llama"), open_tiny("llama")
    for parent in list(other.model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, Doubled(child))
    one, two = plain(TEXT), other(TEXT)
    for site in ("mlp_post", "z", "pattern", "logits"):
        torch.testing.assert_close(one.capture(site).tensors, two.capture(site).tensors)
    with plain.intervene(ecco.ablate("mlp_post", 0, [1])), other.intervene(ecco.ablate("mlp_post", 0, [1])):
        torch.testing.assert_close(one.logits(), two.logits())
    a, b = (run.analyze("integrated_gradients", targets=[3]).values.values for run in (one, two))
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert other.vocabulary == plain.vocabulary


def test_a_model_dispatched_by_device_map_is_read(open_tiny, tmp_path):
    pytest.importorskip("accelerate", reason="in CI accelerate is installed with the requirements")
    lm = open_tiny("llama")
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    offloaded = ecco.from_pretrained(
        str(tmp_path),
        device_map={"model.embed_tokens": "cpu", "model.layers": "disk", "model.norm": "cpu", "lm_head": "cpu",
                    "model.rotary_emb": "cpu"},
        offload_folder=str(tmp_path / "offload"),
    )  # fmt: skip
    assert any(p.is_meta for p in offloaded.model.parameters())
    torch.testing.assert_close(
        offloaded(TEXT).capture("mlp_post", "pattern").tensors, lm(TEXT).capture("mlp_post", "pattern").tensors
    )
    a, b = (m(TEXT).analyze("input_x_gradient", targets=[3]).values.values for m in (offloaded, lm))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_folder_is_opened_for_the_task_of_its_class_or_for_another_that_it_serves(open_tiny, tmp_path):
    for kind, task in [("bert", "masked"), ("bert", "backbone"), ("t5", "seq2seq"), ("bert", "token_classification"),
                       ("gpt2", "sequence_classification"), ("gpt2", "causal"), ("bart", "seq2seq")]:  # fmt: skip
        lm = open_tiny(kind, task)
        folder = tmp_path / f"{kind}-{task}"
        lm.model.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
        again = ecco.from_pretrained(str(folder))
        assert (again.task, type(again.model)) == (task, type(lm.model))
    as_backbone = ecco.from_pretrained(str(tmp_path / "bert-masked"), task="backbone")
    assert as_backbone.task == "backbone"
    with pytest.warns(UserWarning, match=r"lacks weights that a BertForSequenceClassification has \(bert.pooler"):
        ecco.from_pretrained(str(tmp_path / "bert-masked"), task="sequence_classification")
    with pytest.raises(ecco.OptionError, match=r"No task 'mask'\. Did you mean 'masked'"):
        ecco.from_pretrained(str(tmp_path / "bert-masked"), task="mask")
    with pytest.raises(ecco.ArchitectureError, match="cannot be opened for the task 'seq2seq'"):
        ecco.from_pretrained(str(tmp_path / "bert-masked"), task="seq2seq")
    with pytest.raises(ecco.ArchitectureError, match="is a masked model; it cannot be opened for 'causal'"):
        ecco.from_pretrained((open_tiny("bert", "masked").model, lm.tokenizer), task="causal")


@pytest.mark.parametrize(
    ("kind", "task", "call", "message"),
    [
        ("bert", "masked", lambda lm: lm.generate(TEXT), "A masked model does not generate; lm"),
        ("bert", "masked", lambda lm: lm(TEXT).scores(), "holds no <mask>; name positions"),
        ("bert", "backbone", lambda lm: lm(TEXT).scores(), "A backbone model predicts nothing"),
        ("bert", "backbone", lambda lm: lm(TEXT).capture("logits"), "No site 'logits'"),
        ("bert", "masked", lambda lm: lm(TEXT).scores(targets=["Nora"]), "position of a token, found 'Nora'"),
        ("t5", "seq2seq", lambda lm: lm(TEXT).capture("cross_pattern", stack="encoder"), "name stack='decoder'"),
        ("t5", "seq2seq", lambda lm: lm(TEXT).capture("pattern", stack="midcoder"), "No stack 'midcoder'"),
        ("mamba", "causal", lambda lm: lm(TEXT).capture("pattern"), "No site 'pattern'"),
        ("mixtral", "causal", lambda lm: lm(TEXT).capture("mlp_post"), "experts are fused in one module"),
    ],
)  # fmt: skip
def test_what_a_task_does_not_have_is_one_sentence(open_tiny, kind, task, call, message):
    with pytest.raises(ecco.EccoError, match=message):
        call(open_tiny(kind, task))


def test_logits_that_are_no_numbers_and_weights_without_numbers_are_one_sentence(open_tiny):
    from transformers import AutoModelForCausalLM

    lm = open_tiny("llama")
    with torch.no_grad():
        lm.model.base_model.norm.weight.fill_(torch.nan)
    for call in (lambda: lm.generate(TEXT), lambda: lm.generate(TEXT, do_sample=True), lambda: lm(TEXT).scores(),
                 lambda: lm(TEXT).next_token()):  # fmt: skip
        with pytest.raises(ecco.ArchitectureError, match=r"no numbers \(NaN\): its weights are broken\.$"):
            call()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(lm.model.config)
    with pytest.raises(ecco.ArchitectureError, match="LlamaForCausalLM is on the meta device"):
        ecco.from_pretrained((model, lm.tokenizer))


def test_a_tokenizer_without_a_fast_version_is_refused_at_once_in_one_sentence(open_tiny):
    slow = transformers.ByT5Tokenizer()
    with pytest.raises(ecco.PromptError, match="ByT5Tokenizer has no fast version, which Ecco needs") as raised:
        ecco.from_pretrained((open_tiny("t5", "seq2seq").model, slow))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_capture_keeps_as_much_memory_as_was_asked_for_times_one(open_tiny, dtype):
    run = open_tiny("llama")("Nora is here.")
    capture = run.capture("mlp_post", "pattern", layers=1, dtype=dtype)
    for site in ("mlp_post", "pattern"):
        tensor = capture.get(site, 1)
        assert tensor.untyped_storage().nbytes() == tensor.numel() * (2 if dtype else 4)


def test_runs_of_a_batch_keep_no_padding_in_memory(open_tiny):
    lm = open_tiny("llama")
    for capture in lm(["Nora", "Nora is in the house, and the house is here."]).capture("resid_post"):
        for layer in range(lm.architecture.n_layers("decoder")):
            tensor = capture.get("resid_post", layer)
            assert tensor.untyped_storage().nbytes() == tensor.numel() * 4


def test_labels_that_are_independent_have_probabilities_of_their_own(open_tiny):
    lm = open_tiny("bert", "sequence_classification", num_labels=3, problem_type="multi_label_classification")
    run = lm(TEXT)
    target = run.analyze("saliency", targets=2, score="prob").targets[0]
    assert target.value == pytest.approx(float(run.logits()[2].sigmoid()), rel=1e-5)
    with pytest.raises(ecco.TargetError, match="independent of each other"):
        run.scores(score="entropy")


def test_a_span_is_the_sum_of_its_tokens_and_a_prediction_has_entropy_and_divergence(open_tiny):
    lm = open_tiny("llama", dtype=DOUBLE)
    run = lm.generate(TEXT, max_new_tokens=4)
    n = run.n_input_tokens
    span, single = run.scores(targets=f"{n}:{n + 3}"), run.scores(targets=[n, n + 1, n + 2])
    (value, (gradient,)), (values, (gradients,)) = (s.values_and_gradients(*s.inputs()) for s in (span, single))
    torch.testing.assert_close(value, values.sum(1, keepdim=True))
    torch.testing.assert_close(gradient[0], gradients.sum(0)[:, : gradient.shape[2]])
    assert run.scores(targets=[n, f"{n + 1}:{n + 3}"]).targets[1].text == run.tokens.part(slice(n + 1, n + 3)).text
    rows = run.logits()[[n - 1, n]].log_softmax(-1)
    entropy = run.scores(targets=[n, n + 1], score="entropy")
    torch.testing.assert_close(entropy(*entropy.inputs())[0], -(rows.exp() * rows).sum(-1))
    kl = run.scores(targets=[n, n + 1], score="kl")
    other = torch.randn_like(kl.inputs()[0])
    torch.testing.assert_close(kl(*kl.inputs())[0], torch.zeros(2, dtype=DOUBLE), atol=1e-12, rtol=0)
    logits = lm.model(inputs_embeds=other).logits[0, [n - 1, n]].log_softmax(-1)
    torch.testing.assert_close(kl(other)[0], -(rows.exp() * (rows - logits)).sum(-1))
    ig = run.analyze("integrated_gradients", targets=[n, n + 1], score="kl", n_steps=200)
    assert ig.relative_error().max() < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "5:2"}, "The span '5:2' is empty"),
        ({"targets": "2:99"}, "Target 99 is not in the run"),
        ({"targets": "2:4", "score": "prob"}, "has no one probability to explain"),
        ({"targets": "2:4", "contrast": 5}, "has no one contrast"),
        ({"targets": 3, "score": "entropy", "contrast": 5}, "which has no contrast"),
        ({"targets": "²"}, "is the position of a token"),
        ({"targets": "--3"}, "is the position of a token"),
    ],
)
def test_bad_spans_are_one_sentence(open_tiny, options, message):
    with pytest.raises(ecco.TargetError, match=message):
        open_tiny("llama")(TEXT).scores(**options)


def test_what_was_read_is_read_again_after_any_edit(open_tiny):
    lm = open_tiny("gpt2")
    run = lm(TEXT)
    before, logits = run.capture("resid_post").get("resid_post", 0).clone(), run.logits().clone()
    lm.model.transformer.h[0].mlp.c_proj.weight.data.add_(0.5)
    assert not torch.equal(run.capture("resid_post").get("resid_post", 0), before)
    assert not torch.equal(run.logits(), logits)
    run.logits().zero_()
    assert run.logits().abs().sum() > 0
    run.capture("resid_post").numpy("resid_post", 0)[:] = 0
    assert run.capture("resid_post").get("resid_post", 0).abs().sum() > 0
    assert run.capture("resid_post").get("resid_post", 0).dtype == torch.float32
    lm.model.double()
    assert run.capture("resid_post").get("resid_post", 0).dtype == torch.float64


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_everything_works_where_the_caller_wants_no_gradients(open_tiny, mode):
    lm = open_tiny("llama")
    with mode():
        run = lm.generate(TEXT, max_new_tokens=2)
        run.capture("resid_post")
        run.capture("pattern")
        inside = run.analyze("integrated_gradients").values.values
    assert np.array_equal(inside, run.analyze("integrated_gradients").values.values)


def test_a_model_in_training_mode_generates_as_its_replay_reads(open_tiny):
    lm = open_tiny("gpt2", resid_pdrop=0.5)
    lm.model.train()
    assert len({tuple(lm.generate("Nora", 8, do_sample=False).ids.tolist()) for _ in range(3)}) == 1
    assert lm.model.training


def test_a_model_that_reads_masked_tokens_generates_one_by_one(open_tiny):
    lm = open_tiny("rwkv")
    together = lm.generate(OTHERS, max_new_tokens=5, do_sample=False)
    alone = [lm.generate(text, max_new_tokens=5, do_sample=False) for text in OTHERS]
    assert [run.ids.tolist() for run in together] == [run.ids.tolist() for run in alone]


def test_batches_that_end_in_other_ways_carry_no_padding(open_tiny):
    lm = open_tiny("llama")
    for options in (
        {"stop_strings": ["a", "e"], "tokenizer": lm.tokenizer},
        {"generation_config": transformers.GenerationConfig(eos_token_id=list(range(40)))},
        {"eos_token_id": torch.tensor(list(range(40)))},
    ):
        together = lm.generate(OTHERS, max_new_tokens=12, do_sample=False, **options)
        alone = [lm.generate(text, max_new_tokens=12, do_sample=False, **options) for text in OTHERS]
        assert [run.ids.tolist() for run in together] == [run.ids.tolist() for run in alone]
    with pytest.raises(ecco.OptionError, match="A run is one sequence"):
        lm.generate(OTHERS, generation_config=transformers.GenerationConfig(num_return_sequences=2, num_beams=2))


def test_positions_that_begin_after_the_padding_token_shorten_the_context(open_tiny):
    lm = open_tiny("mpnet", "masked", max_position_embeddings=64)
    assert len(lm("a" * 62)) == 62
    with pytest.raises(ecco.PromptError, match="context holds 62"):
        lm("a" * 63)
    with pytest.raises(ecco.PromptError, match="The output has 21 tokens, but this model's context holds 16"):
        open_tiny("bart", "seq2seq", max_position_embeddings=16).generate("Nora", output="a" * 20)


def test_a_device_that_is_not_here_is_one_sentence(open_tiny):
    with pytest.raises(ecco.OptionError, match="No device 'cud' here"):
        open_tiny("gpt2")("Nora").capture("resid_post", device="cud")


def test_the_encoder_of_a_bare_t5_is_read_without_an_answer(open_tiny):
    from transformers import T5Model

    whole = open_tiny("t5", "seq2seq")
    bare = ecco.from_pretrained((T5Model(whole.model.config).eval(), whole.tokenizer))
    run = bare("Nora is here.")
    capture = run.capture("resid_post", "pattern")
    last = bare.model.encoder(input_ids=run.ids[None]).last_hidden_state[0]
    normed = bare.architecture.normed(capture.get("resid_post", capture.layers("resid_post")[-1]), "encoder")
    torch.testing.assert_close(normed, last.detach())


def test_max_length_counts_the_prompt_as_in_the_models_own_generate():
    lm = ecco.from_pretrained("tiny:prose")
    prompt = "Once upon a time"
    n = len(lm(prompt))
    own = lm.model.generate(**lm.tokenizer(prompt, return_tensors="pt"), max_length=n + 3, do_sample=False)
    run = lm.generate(prompt, max_length=n + 3, do_sample=False)
    assert run.tokens.ids.tolist() == own[0].tolist()
    both = lm.generate([prompt, "A dog"], max_length=n + 3)
    assert max(map(len, both)) == n + 3
    answer = ecco.from_pretrained("tiny:seq2seq").generate(
        "context: The cup is red. question: what colour?", max_length=4
    )
    assert len(answer) <= 4
    config = transformers.GenerationConfig(max_new_tokens=2, do_sample=False)
    assert len(lm.generate(prompt, generation_config=config)) == n + 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_length": 3}, "max_length=3 leaves nothing to generate: it counts the prompt's .* tokens"),
        ({"max_length": 30, "max_new_tokens": 2}, "max_new_tokens and max_length say the same"),
        ({"max_length": "30"}, "max_length takes int"),
    ],
)
def test_a_wrong_max_length_is_said(options, told):
    with pytest.raises(ecco.OptionError, match=told):
        ecco.from_pretrained("tiny:prose").generate("Once upon a time there was a dog called", **options)
