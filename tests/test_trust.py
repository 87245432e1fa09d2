"""Wrong models, many threads, odd decoders: refused or survived, never silently wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import transformers

import ecco_core as ecco
from ecco_core.texts.tokenizing import label_of, tokens_of


def small(config_class, model_class, **options):
    torch.manual_seed(0)
    shared = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return model_class(config_class(**{**shared, "intermediate_size": 64, **options})).eval()


def test_a_model_that_sees_later_tokens_is_refused(tokenizer):
    bert = small(transformers.BertConfig, transformers.BertLMHeadModel)  # a decoder's class, but is_decoder is not set
    lm = ecco.from_pretrained((bert, tokenizer))
    for text, target in (("!", 1), ("The captain is", 2)):  # one token alone proves nothing
        with pytest.raises(ecco.ArchitectureError, match="it is not causal"):
            lm(text).analyze("saliency", targets=[target])


def test_a_model_without_a_head_is_read_and_not_explained(tokenizer):
    lm = ecco.from_pretrained((small(transformers.LlamaConfig, transformers.LlamaModel), tokenizer))
    run = lm("The captain is")
    assert (lm.task, run.capture("resid_post").get("resid_post", 0).shape[1]) == ("backbone", 32)
    with pytest.raises(ecco.TargetError, match="A backbone model predicts nothing"):
        run.analyze("saliency")


def test_a_model_without_a_file_is_explained_and_its_layout_is_detected_and_said(tokenizer):
    model = small(transformers.ArceeConfig, transformers.ArceeForCausalLM)
    run = ecco.from_pretrained((model, tokenizer)).generate("The captain is", max_new_tokens=2)
    assert run.analyze("saliency").values.shape[0] == 2
    with pytest.warns(UserWarning, match="No model file covers the architecture 'arcee': its layout was detected"):
        assert run.capture("mlp_post").get("mlp_post", 0).shape[1] == 64


def test_threads_share_a_model(make_lm):
    lm = make_lm("gpt2")
    run = lm("The captain is called Nora.")
    expected = run.analyze("input_x_gradient", targets=[4, 6]).values.values
    spoken = lm.generate("The", max_new_tokens=5).tokens.ids.tolist()
    failed = []

    def work(k):
        try:
            for _ in range(8):
                if k % 3 == 2:
                    assert lm.generate("The", max_new_tokens=5).tokens.ids.tolist() == spoken
                else:
                    got = lm("The captain is called Nora.").analyze("input_x_gradient", targets=[4, 6])
                    np.testing.assert_allclose(got.values.values, expected, rtol=1e-4, atol=1e-7)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_token_outside_the_vocabulary_is_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cook": 2, "far": 9}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    config = transformers.GPT2Config(vocab_size=5, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
    lm = ecco.from_pretrained((transformers.GPT2LMHeadModel(config).eval(), words))
    run = lm("the cook")
    for options in ({"contrast": "elephant"}, {"baseline": "elephant"}):
        with pytest.raises(ecco.TargetError, match="'elephant' is not in the vocabulary"):
            run.analyze("ig", targets=[1], **options)
    with pytest.raises(ecco.TargetError, match="token id 9 is not in the vocabulary of 5"):
        run.analyze("ig", targets=[1], contrast="far")
    with pytest.raises(ecco.PromptError, match="another's tokenizer"):
        lm("the far")


def test_a_contrast_with_itself_is_refused(gpt2):
    run = gpt2("The captain is")
    with pytest.raises(ecco.TargetError, match="nothing to compare"):
        run.analyze("saliency", targets=[2], contrast=int(run.tokens.ids[2]))


def test_what_was_captured_is_read_again_when_it_is_no_longer_true(make_lm):
    lm = make_lm("gpt2")
    run = lm("The captain is")
    first = run.capture("resid_post").get("resid_post", 0).clone()
    run.capture("resid_post").get("resid_post", 0).zero_()
    assert torch.equal(run.capture("resid_post").get("resid_post", 0), first)
    with torch.no_grad():
        lm.model.transformer.wte.weight.mul_(-2)
    assert not torch.equal(run.capture("resid_post").get("resid_post", 0), first)


def llama_like():
    """A tokenizer that decodes as Llama's does: blanks as ▁, unknown characters as bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["<unk>", "▁", "▁Nora", "▁is", "N", "o", "r", "a", *(f"<0x{b:02X}>" for b in range(256))]
    backend = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    strip = decoders.Strip(" ", 1, 0)
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"), len(pieces)


def test_texts_of_a_llama_like_decoder_join_whatever_the_ids():
    tokenizer, size = llama_like()
    rng = np.random.default_rng(0)
    for _ in range(500):
        ids = rng.integers(0, size, rng.integers(1, 25)).tolist()
        tokens = tokens_of(tokenizer, ids)
        assert tokens.text == tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
        assert all(tokens.labels)
    assert label_of(tokenizer, 2) == " Nora"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lm: ecco.from_pretrained(5), "found int"),
        (lambda lm: ecco.from_pretrained(lm.model), "found GPT2LMHeadModel"),
        (lambda lm: ecco.from_pretrained("x" * 4000), "at most 300 characters"),
        (lambda lm: ecco.from_pretrained((lm.model, lm.tokenizer), nonsense=3), "no further options, found nonsense"),
        (lambda lm: ecco.from_pretrained((lm.model, lm.tokenizer), device="cudaa"), "cannot be put on the device"),
        (lambda lm: lm.generate("a", num_return_sequences=2, do_sample=True), "A run is one sequence"),
        (lambda lm: lm.generate("a", seed="x"), "seed takes int or None, found 'x'"),
        (lambda lm: lm.generate("a", generation_config=3), "generate stopped"),
        (lambda lm: lm("a").analyze(None), "takes str, found None"),
        (lambda lm: lm("a").analyze("saliency", seed=-1), "seed is a number from 0"),
        (lambda lm: lm("ab").capture("mlp_post", layers=[1.5]), "takes int or sequence of int"),
        (lambda lm: lm("ab").capture(5), "by its name"),
        (lambda lm: lm("ab").scores([1.5]), "targets takes int or str"),
        (lambda lm: lm("ab").scores(score="bad"), "'logprob' or 'logit' or 'prob' or"),
        (lambda lm: lm("The cook").analyze("saliency").save("x.ecco", nonsense=1), "takes no options, found nonsense"),
        (lambda lm: lm("The cook").analyze("saliency").save("x" * 400 + ".ecco"), "File name too long"),
        (
            lambda lm: lm.generate("The cook", max_new_tokens=1).primary_attributions(ignore_tokens=[99]),
            "No position 99",
        ),
        (lambda lm: ecco.load(None), "takes a path"),
        (lambda lm: ecco.load("x" * 5000), "not a result"),
        (lambda lm: ecco.Fitted(parameters={}).to_dataframe(), "no array of its own"),
    ],
)
def test_more_mistakes_are_one_sentence(gpt2, call, message):
    with pytest.raises(ecco.EccoError) as caught:
        call(gpt2)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numpy_numbers_are_numbers(gpt2):
    run = gpt2.generate("The cook", max_new_tokens=np.int64(2))
    assert run.capture("mlp_post", layers=np.array([0, 1])).layers("mlp_post") == (0, 1)
    assert run.analyze("saliency", targets=np.int64(2)).targets[0].position == 2


def test_results_of_the_wrong_shape_are_refused(gpt2):
    import attrs

    result = gpt2("The cook").analyze("saliency")
    wrong = ecco.LabelledArray(np.zeros((1, 99)), ("target", "source"))
    with pytest.raises(ValueError, match="targets and sources make it"):
        attrs.evolve(result, values=wrong)
    with pytest.raises(ValueError, match="each row has 2 cells"):
        ecco.Table(columns=["a", "b"], rows=[[1]])
    with pytest.raises(TypeError):
        ecco.Grid(values="x")


def test_a_result_does_not_change_with_the_array_it_was_made_from():
    values = np.zeros((1, 2))
    grid = ecco.Grid(values=ecco.LabelledArray(values, ("a", "b")))
    values[:] = 9
    assert not grid.values.values.any()
