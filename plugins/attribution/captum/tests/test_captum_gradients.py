"""The gradient methods against Captum's own naive use, one target at a time, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency

import ecco_core as ecco

PROMPT = "The captain is called Nora. The cook"


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt_neox"])
def run(request, make_lm):
    lm = make_lm(request.param)
    lm.model.double()
    return lm.generate(PROMPT, max_new_tokens=12, do_sample=True, seed=3)


def naive_forward(run, score):
    """Embeddings of a prefix -> score of every token at its last row, by the model's own inputs_embeds."""
    function = {"logit": lambda x: x, "logprob": lambda x: x.log_softmax(-1), "prob": lambda x: x.softmax(-1)}[score]

    def forward(embeddings):
        return function(run.lm.model(inputs_embeds=embeddings).logits[:, -1])

    return forward


def naive(run, explain_class, score, contrast=None, baseline=None, **options):
    """One attribute() call per target and a growing prefix, as people use Captum by hand."""
    embed = run.lm.model.get_input_embeddings()
    rows = []
    for position in range(run.n_input_tokens, len(run)):
        forward = naive_forward(run, score)
        if contrast is not None:
            absolute = forward

            def forward(x, absolute=absolute):
                scored = absolute(x)
                return scored - scored[:, contrast : contrast + 1]

        x = embed(run.ids[None, :position]).detach().requires_grad_()
        extra = {} if baseline is None else {"baselines": baseline[:, :position]}
        out = explain_class(forward).attribute(x, target=int(run.tokens.ids[position]), **extra, **options)
        rows.append(out[0].detach())
    return rows


def assert_equal(result, rows, aggregate):
    scale = max(float(aggregate(row.abs()).max()) for row in rows)
    for got, row in zip(result.values.values, rows):
        expected = aggregate(row).numpy()
        assert np.abs(got[: len(expected)] - expected).max() <= 1e-6 * scale
        assert not got[len(expected) :].any()


SUM = lambda row: row.sum(-1)  # noqa: E731
L2 = lambda row: row.norm(dim=-1)  # noqa: E731


@pytest.mark.parametrize("score", ["logit", "logprob", "prob"])
@pytest.mark.parametrize(("aggregation", "aggregate"), [("sum", SUM), ("l2", L2)])
def test_saliency_and_input_x_gradient(run, score, aggregation, aggregate):
    result = run.analyze("saliency", score=score, aggregation=aggregation)
    assert_equal(result, naive(run, Saliency, score, abs=False), aggregate)
    result = run.analyze("input_x_gradient", score=score, aggregation=aggregation)
    assert_equal(result, naive(run, InputXGradient, score), aggregate)


def test_absolute_saliency_is_captums_default(run):
    result = run.analyze("saliency", absolute=True, aggregation="sum")
    assert_equal(result, naive(run, Saliency, "logprob"), SUM)
    assert not result.signed


def embedding_of(run, token):
    ids = torch.full((1, len(run)), token)
    return run.lm.model.get_input_embeddings()(ids).detach()


@pytest.mark.parametrize("score", ["logit", "logprob", "prob"])
@pytest.mark.parametrize("method", ["gausslegendre", "riemann_trapezoid"])
def test_integrated_gradients(run, score, method):
    result = run.analyze("ig", score=score, n_steps=11, method=method)
    baseline = embedding_of(run, run.lm.tokenizer.eos_token_id)
    rows = naive(run, IntegratedGradients, score, baseline=baseline, n_steps=11, method=method)
    assert_equal(result, rows, SUM)
    assert "<|end|>" in result.baseline


def test_a_signed_saliency_that_cancels_says_so(make_lm):
    text = "The captain is called Nora."
    cancelled = make_lm("gpt2")(text).analyze("saliency", targets=[4], aggregation="sum")
    assert any("cancel" in note for note in cancelled.notes)
    assert not make_lm("llama")(text).analyze("saliency", targets=[4], aggregation="sum").notes
    assert not make_lm("gpt2")(text).analyze("saliency", targets=[4]).notes


def test_contrast(run):
    felix = run.lm.tokenizer(" Felix").input_ids[0]
    result = run.analyze("ig", contrast=" Felix", n_steps=7)
    baseline = embedding_of(run, run.lm.tokenizer.eos_token_id)
    assert_equal(result, naive(run, IntegratedGradients, "logprob", felix, baseline, n_steps=7), SUM)
    assert result.targets[0].quantity.endswith("rather than ' Felix'")


@pytest.mark.parametrize("internal_batch_size", [1, 3, 100])
def test_how_the_steps_are_batched_does_not_matter(run, internal_batch_size):
    expected = run.analyze("ig", targets=[12, 5], n_steps=9)
    result = run.analyze("ig", targets=[12, 5], n_steps=9, internal_batch_size=internal_batch_size)
    np.testing.assert_allclose(result.values.values, expected.values.values, atol=1e-12)


def test_baselines(run):
    embed = run.lm.model.get_input_embeddings().weight.detach()
    shape = (1, len(run), embed.shape[1])
    for name, baseline in (
        ("zero", torch.zeros(shape, dtype=embed.dtype)),
        ("mean", embed.mean(0).expand(shape)),
        (" Felix", embedding_of(run, run.lm.tokenizer(" Felix").input_ids[0])),
    ):
        result = run.analyze("ig", targets=[-1], baseline=name, n_steps=5)
        rows = naive(run, IntegratedGradients, "logprob", baseline=baseline, n_steps=5)
        assert_equal(result, rows[-1:], SUM)


@pytest.mark.parametrize("aggregation", ["sum", "l2"])
def test_completeness_error_is_what_the_sum_misses(run, aggregation):
    result = run.analyze("ig", targets=[-1, 6], n_steps=4, aggregation=aggregation)
    signed = run.analyze("ig", targets=[-1, 6], n_steps=4)
    baseline = embedding_of(run, run.lm.tokenizer.eos_token_id)
    for i, position in enumerate((len(run) - 1, 6)):
        x = run.lm.model.get_input_embeddings()(run.ids[None, :position]).detach()
        forward = naive_forward(run, "logprob")
        token = int(run.tokens.ids[position])
        change = float(forward(x)[0, token] - forward(baseline[:, :position])[0, token])
        assert result.change.values[i] == pytest.approx(change, abs=1e-9)
        missed = change - signed.values.values[i].sum()
        assert result.completeness.values[i] == pytest.approx(missed, abs=1e-9)
        assert result.relative_error()[i] == pytest.approx(abs(missed / change), rel=1e-6)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
def test_the_default_baseline_is_sound_on_rms_norms(make_lm, kind):
    """A zero embedding under an RMS norm makes the path's start infinitely steep; the default must not."""
    run = make_lm(kind).generate(PROMPT, max_new_tokens=8, do_sample=True, seed=0)
    sound = run.analyze("ig").relative_error()
    zero = run.analyze("ig", baseline="zero").relative_error()
    assert np.median(sound) < 0.01
    assert np.median(zero) > 5 * np.median(sound)


def test_a_special_token_without_a_proper_embedding_is_no_baseline(make_lm):
    lm = make_lm("llama")
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[lm.tokenizer.eos_token_id] = 0
    result = lm("The captain is").analyze("ig", targets=[2], n_steps=5)
    assert "<|end|>" not in result.baseline


def test_more_steps_miss_less(run):
    errors = [np.abs(run.analyze("ig", n_steps=n).completeness.values).max() for n in (2, 6, 20)]
    assert errors[0] > errors[1] > errors[2]


def test_copies_that_differ_are_refused():
    from ecco_captum.shared_graph import SharedGraph

    class Two:
        targets = (1, 2)

    with pytest.raises(ecco.EccoError, match="no graph can be shared"):
        SharedGraph(Two())(None, (torch.tensor([[[1.0]], [[2.0]]]),))


def test_results_say_where_they_come_from(run):
    result = run.analyze("ig", targets=[-1], n_steps=5)
    provenance = result.provenance
    assert provenance.analysis == "integrated_gradients"
    assert provenance.plugin.startswith("ecco-captum ")
    assert provenance.options["n_steps"] == 5
    assert provenance.model_type == run.lm.model_type
    assert provenance.precision == "float64"
    assert provenance.versions["torch"]
