"""Methods that would silently be another one: refused with the reason, marked where allowed, right where they run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

import ecco_core as ecco
from ecco_core.plugin.manager import plugins
from ecco_core.rendering import render

DOUBLE = torch.float64


class Rule(torch.autograd.Function):
    """ReLU whose backward is that of guided backpropagation or of deconvolution."""

    @staticmethod
    def forward(ctx, x, guided):
        ctx.save_for_backward(x)
        ctx.guided = guided
        return x.relu()

    @staticmethod
    def backward(ctx, gradient):
        passed = gradient.relu()
        return passed * (ctx.saved_tensors[0] > 0) if ctx.guided else passed, None


def by_hand(model, embeddings, score, guided):
    """Gradient of a score with ReLUs that follow the rule."""
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    for relu in relus:
        relu.forward = lambda x: Rule.apply(x, guided)
    leaf = embeddings.detach().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(score(model(inputs_embeds=leaf).logits), leaf)
    finally:
        for relu in relus:
            del relu.forward
    return gradient[0]


@pytest.fixture(scope="module")
def opt(open_tiny):
    return open_tiny("opt", dtype=DOUBLE).generate("Nora is here.", max_new_tokens=3)


@pytest.mark.parametrize("name", ["guided_backprop", "deconvolution"])
def test_gradients_through_relus_are_those_of_a_relu_with_that_rule(opt, name):
    found = opt.analyze(name, score="logit", aggregation="dot")
    model = opt.lm.model
    plain = opt.analyze("saliency", score="logit", aggregation="dot").values.values
    for row, target in enumerate(found.targets):
        embedded = model.get_input_embeddings()(opt.ids[None, : target.position])
        score = lambda logits, token=target.token_id: logits[0, -1, token]  # noqa: E731
        gradient = by_hand(model, embedded, score, guided=name == "guided_backprop")
        expected = (gradient * embedded[0]).sum(-1).detach().numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found.values.values[row, : target.position], expected, atol=1e-9 * scale)
        assert np.abs(plain[row, : target.position] - expected).max() > 1e-3 * scale


def test_t5_has_relus(open_tiny):
    run = open_tiny("t5", "seq2seq", dtype=DOUBLE).generate("Nora is here.", max_new_tokens=3)
    plain_gradient = run.analyze("saliency").values.values
    for name in ("guided_backprop", "deconvolution"):
        assert np.abs(run.analyze(name).values.values - plain_gradient).max() > 1e-3 * plain_gradient.max()


@pytest.fixture(scope="module")
def run(open_tiny):
    return open_tiny("gpt2", dtype=DOUBLE).generate("Nora is here.", max_new_tokens=3)


@pytest.mark.parametrize(
    ("name", "reason", "instead"),
    [
        ("guided_backprop", "a GPT2LMHeadModel has no ReLU, so GuidedBackprop would be the plain gradient", "saliency"),
        ("deconvolution", "a GPT2LMHeadModel has no ReLU, so Deconvolution would be the plain gradient", "saliency"),
        (
            "guided_grad_cam",
            "a GPT2LMHeadModel has no ReLU, so its guided gradient would be the plain gradient, and a GPT2LMHeadModel "
            "calls no convolution over tokens as a module, so a block's units would be taken for channels",
            "deep_lift or input_x_gradient",
        ),
    ],
)
def test_what_would_be_another_method_is_refused_and_marked_in_every_rendering(run, tmp_path, name, reason, instead):
    with pytest.raises(ecco.OptionError) as raised:
        run.analyze(name)
    assert str(raised.value) == (
        f"{name} is refused: {reason}. Take {instead}, or pass allow_degenerate=True to run it all the same."
    )
    found = run.analyze(name, allow_degenerate=True)
    mark = f"DEGENERATE, as allowed: {reason}"
    assert mark in found.notes
    media = {
        offer.spec.media_type for offer in plugins().offers("ecco_renderers") if "TokenScores" in offer.spec.accepts
    }
    assert {"text/html", "text/x-ansi"} <= media
    for medium in sorted({*media, "text/plain"}):
        assert "DEGENERATE, as allowed" in str(render(found, medium)), medium
    assert mark in found.to_text()
    assert mark in ecco.load(found.save(tmp_path / "found.ecco")).notes
    for suffix in (".txt", ".html", ".ansi"):
        assert "DEGENERATE, as allowed" in found.save(tmp_path / f"found{suffix}").read_text(encoding="utf-8")
    if name != "guided_grad_cam":
        np.testing.assert_allclose(found.values.values, run.analyze("saliency").values.values, rtol=1e-9)


def test_where_it_is_what_it_says_nothing_is_marked(opt):
    for name in ("guided_backprop", "deconvolution"):
        assert not any("DEGENERATE" in note for note in opt.analyze(name, allow_degenerate=True).notes)


def test_lrp_says_which_modules_have_no_rule(run):
    with pytest.raises(ecco.OptionError, match=r"no rule for Conv1D \(8\), LayerNorm \(5\).*Take lrp"):
        run.analyze("captum_lrp")


@pytest.mark.parametrize("layer", [None, 0, -1])
@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_grad_cam_of_a_block_is_the_formula_and_captums(open_tiny, kind, layer):
    """Selvaraju et al. 2017, eq. 1 and 2, by plain forwards on a prefix; Captum's with units moved to the channels."""
    lm = open_tiny(kind, dtype=DOUBLE)
    run, model = lm.generate("Nora is here.", max_new_tokens=3), lm.model
    found = run.analyze("guided_grad_cam", layer=layer, score="logit", allow_degenerate=True)
    guided = run.analyze("guided_backprop", score="logit", allow_degenerate=True).values.values
    block = lm.architecture.place("resid_post", 0 if layer != -1 else 1, "decoder").module

    class Channels(nn.Module):
        """The block's units where Captum looks for channels, and back."""

        def __init__(self):
            super().__init__()
            self.there = nn.Identity()

        def forward(self, x):
            return self.there(x.transpose(1, 2)).transpose(1, 2)

    channels = Channels()

    def hook(_module, _args, output):
        first = output[0] if isinstance(output, tuple) else output
        changed = channels(first)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    for row, target in enumerate(found.targets):
        embedded = model.get_input_embeddings()(run.ids[None, : target.position]).detach().requires_grad_()
        handle = block.register_forward_hook(hook)

        def forward(x, token=target.token_id):
            return model(inputs_embeds=x).logits[:, -1, token]

        cam = LayerGradCam(forward, channels.there).attribute(embedded, relu_attributions=True)[0, 0].detach()
        handle.remove()
        expected = cam.numpy() * guided[row, : target.position]
        np.testing.assert_allclose(found.values.values[row, : target.position], expected, atol=1e-9 * guided.max())
        assert (cam > 0).any()


def test_a_convolution_over_tokens_is_taken_where_there_is_one(open_tiny):
    lm = open_tiny("recurrent_gemma", dtype=DOUBLE)
    run, model = lm.generate("Nora is here.", max_new_tokens=3), lm.model
    with pytest.raises(ecco.OptionError, match=r"its guided gradient would be the plain gradient\. Take"):
        run.analyze("guided_grad_cam")
    found = run.analyze("guided_grad_cam", score="logit", allow_degenerate=True)
    assert not any("no convolution" in note for note in found.notes)
    guided = run.analyze("saliency", score="logit").values.values
    convolution, kept = [m for m in model.modules() if isinstance(m, nn.Conv1d)][-1], []
    handle = convolution.register_forward_hook(lambda _m, _a, output: kept.append(output))
    for row, target in enumerate(found.targets):
        embedded = model.get_input_embeddings()(run.ids[None, : target.position]).detach().requires_grad_()
        score = model(inputs_embeds=embedded, use_cache=False).logits[0, -1, target.token_id]
        active = kept[-1]
        (gradient,) = torch.autograd.grad(score, active)
        cam = (gradient.sum(-1, keepdim=True) * active).sum(1)[0, : target.position].relu().detach().numpy()
        expected = cam * guided[row, : target.position]
        ours = found.values.values[row, : target.position]
        assert expected.sum() > 0
        np.testing.assert_allclose(ours / ours.sum(), expected / expected.sum(), atol=1e-6)  # a recurrence in float32
    handle.remove()
    with pytest.raises(ecco.OptionError, match=r"layer is one of \d convolutions from 0, -1 the last; found 9\."):
        run.analyze("guided_grad_cam", layer=9, allow_degenerate=True)


def test_a_convolution_that_is_not_called_is_none(open_tiny):
    """As those whose weights are handed to a function: transformers' newer Mamba."""
    lm = open_tiny("gpt2")
    lm.model.unused = nn.Conv1d(4, 4, 3)
    with pytest.raises(ecco.OptionError, match="calls no convolution over tokens as a module"):
        lm.generate("Nora is here.", max_new_tokens=2).analyze("guided_grad_cam")


def test_masked_places_and_classes_have_a_grad_cam_each(open_tiny):
    lm = open_tiny("bert", "masked", dtype=DOUBLE)
    found = lm("The <mask> is <mask>.").analyze("guided_grad_cam", allow_degenerate=True)
    each = [
        lm("The <mask> is <mask>.").analyze("guided_grad_cam", targets=t.position, allow_degenerate=True)
        for t in found.targets
    ]
    assert len(each) == 2
    np.testing.assert_allclose(found.values.values, np.concatenate([f.values.values for f in each]), atol=1e-12)
    classified = open_tiny("bert", "sequence_classification", dtype=DOUBLE)("Nora is here.")
    assert classified.analyze("guided_grad_cam", allow_degenerate=True).values.values.max() > 0


def test_an_encoder_and_a_decoder_have_no_grad_cam_in_common(open_tiny):
    run = open_tiny("t5", "seq2seq", dtype=DOUBLE).generate("Nora is here.", max_new_tokens=3)
    with pytest.raises(ecco.OptionError, match=r"weights the places of one stack; .* has encoder and decoder\. Take"):
        run.analyze("guided_grad_cam", allow_degenerate=True)


def test_guided_gradients_of_a_span_are_refused(open_tiny):
    """They are not linear in what comes back, so those of a sum are not the sum of those."""
    run = open_tiny("opt")("The captain is called Nora. The cook is called Felix.")
    for name in ("guided_backprop", "deconvolution"):
        with pytest.raises(ecco.OptionError, match="explain the span 5:9 token by token"):
            run.analyze(name, targets=["5:9"])


def test_noise_reaches_the_weights_of_grad_cam(open_tiny):
    run = open_tiny("gpt2")("The captain is called Nora. The cook is called Felix.")
    options = {"targets": [8], "allow_degenerate": True}
    still = run.analyze("guided_grad_cam", **options).values.values
    noisy = [
        run.analyze(
            "noise_tunnel", method="guided_grad_cam", n_samples=1, noise=1.0, seed=seed, **options
        ).values.values
        for seed in (1, 2)
    ]
    quiet = run.analyze("noise_tunnel", method="guided_grad_cam", n_samples=1, noise=0.0, **options).values.values
    assert abs(quiet - still).max() < 1e-6
    zeros = [set((each[0] == 0).nonzero()[0]) for each in (still, *noisy)]
    assert len({frozenset(z) for z in zeros}) > 1, "which tokens the weights leave out changes with the noise"
