"""Bad input of attributions, from Python and from the command line: one sentence that names what was found."""

from __future__ import annotations

import re

import numpy as np
import pytest

import ecco_core as ecco

NAN, INF, HUGE = float("nan"), float("inf"), 10**30
TEXTS = {
    "prose": ("The captain is", " called Nora."),
    "seq2seq": ("The captain is called Nora.", "Nora."),
    "masked": ("The captain is [MASK].", None),
    "classifier": ("The acting was wonderful.", None),
}


@pytest.fixture(scope="module")
def runs():
    """A short run of each shipped model; the causal one has 6 tokens, of which 3 are the prompt."""
    found = {}
    for name, (text, output) in TEXTS.items():
        lm = ecco.from_pretrained(f"tiny:{name}")
        found[name] = lm(text) if output is None else lm.generate(text, output=output)
    assert len(found["prose"]) == 6
    return found


def refused(run, method, options, message):
    with pytest.raises(ecco.EccoError, match=message) as raised:
        run.analyze(method, **options)
    said = str(raised.value)
    assert not isinstance(raised.value, ecco.PluginError), said
    assert "\n" not in said
    assert said.endswith((".", "?"))
    assert len(said) < 500


NO_SPAN = "The span '{}' is empty: it goes from its first position up to before its second"
NO_TARGET = "A target is the position of a token, found"
TARGETS = "takes int or str or sequence of int or str or None, found"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        *(("prose", {"targets": t}, NO_SPAN.format(t)) for t in ("2:2", "-1:-3")),
        ("prose", {"targets": "0:2"}, "Target 0 has nothing before it"),
        ("prose", {"targets": "-99:2"}, "Target -99 is not in the run: its 6 tokens have positions 0 to 5"),
        ("prose", {"targets": ["4", "2:99"]}, r"Target 99 is not in the run: .*, and 6 is the token not chosen yet"),
        *(("prose", {"targets": t}, NO_TARGET) for t in ("2:", "1:2:3", "", " ", "3,4", "0x3", "٣", HUGE, -HUGE)),
        *(("prose", {"targets": t}, TARGETS) for t in (True, 2.5, NAN, [[3]], [None], {"a": 1}, b"3", [True])),
        ("prose", {"targets": ()}, "targets is empty"),
        *(("prose", {"contrast": c}, "takes int or str or None, found") for c in (True, 2.5, NAN, [], [5])),
        *(("prose", {"contrast": c}, f"token id {c} is not in the vocabulary of 4096") for c in (-1, 4096, HUGE)),
        ("prose", {"score": "kl", "contrast": 5}, "The score 'kl' is of the whole prediction, which has no contrast"),
        *(("prose", {"score": s}, "takes 'logprob' or .* or 'kl', found") for s in (None, 3, True, ["logit"], "")),
        ("masked", {"targets": "5:2"}, NO_SPAN.format("5:2")),
        ("masked", {"targets": 7}, "Target 7 is not in the run: its 7 tokens have positions 0 to 6"),
        ("masked", {"targets": []}, "targets is empty"),
        ("masked", {"targets": "1:3", "contrast": 5}, "The span 1:3 has no one contrast"),
        ("masked", {"score": "entropy", "contrast": 5}, "which has no contrast; leave it out"),
        ("seq2seq", {"targets": "encoder 1"}, NO_TARGET),
        ("seq2seq", {"targets": "0:2"}, "Target 0 has nothing before it"),
        ("seq2seq", {"targets": "1:3", "score": "prob"}, "has no one probability to explain"),
        *(("classifier", {"targets": t}, f"target: no class '?{t}'?") for t in ("POSITIVE", "0:1", "", 2, -1, HUGE)),
        ("classifier", {"targets": "positive:negative"}, "no class 'positive:negative'"),
        ("classifier", {"targets": []}, "targets is empty"),
        ("classifier", {"contrast": "negatve"}, "contrast: no class 'negatve'. Did you mean 'negative'"),
        ("classifier", {"targets": 1, "contrast": "positive"}, "The contrast is the class 'positive' itself"),
        ("classifier", {"score": "entropy", "contrast": "negative"}, "which has no contrast; leave it out"),
    ],
)
def test_targets(runs, model, options, message):
    refused(runs[model], "saliency", options, message)


NAMED = "features are tokens, words, sentences or spans such as '0:4'"
NO_PLACE = "is no span of the run's {} tokens, which have positions 0 to"


@pytest.mark.parametrize("method", ["input_x_gradient", "occlusion"])
@pytest.mark.parametrize(
    ("model", "features", "message"),
    [
        ("prose", [], "leave out position 0 of the decoder; each token belongs to exactly one"),
        ("prose", ["1:6"], "leave out position 0"),
        ("prose", "0:2,2:4", "leave out position 4"),
        ("prose", ["0:6", "0:6"], "overlap at position 0"),
        *(("prose", [span, "0:6"], NO_PLACE.format(6)) for span in ("4:2", "0:0", "0:" + "9" * 30)),
        *(("prose", f, NAMED) for f in ("", " ", ["-2:6", "0:4"], ["a:b"], "0:3;3:6", ["0:6", ""], "0-6")),
        *(("prose", f, "takes str or sequence of str, found") for f in (None, 3, True, [0, 1], [["0:6"]])),
        ("prose", ["encoder 0:6"], "'encoder 0:6' names no stack of this run; begin it with decoder"),
        ("seq2seq", ["0:5"], "'0:5' names no stack of this run; begin it with encoder, decoder"),
        ("seq2seq", ["encoder 0:5", "decoder 0:5"], "leave out position 5 of the encoder"),
        ("seq2seq", ["encoder 0:99"], NO_PLACE.format(10)),
    ],
)
def test_features_that_do_not_partition(runs, method, model, features, message):
    refused(runs[model], method, {"features": features, "targets": -1}, message)


@pytest.mark.parametrize("method", ["integrated_gradients", "deep_lift", "gradient_shap", "kernel_shap"])
@pytest.mark.parametrize(
    ("model", "baseline", "message"),
    [
        *(("prose", b, "takes str, found") for b in (None, True, 3, NAN, [], ["zero"])),
        ("prose", "", "an empty text is no token"),
        ("prose", "zeros", r"The baseline 'zeros' is not one token\. Did you mean 'zero'\?"),
        ("prose", "Mean", r"'Mean' is not one token\. Did you mean 'mean'\?"),
        ("prose", "The cook is", r"baseline \(auto, .*, or a text of 5 tokens\): 'The cook is' is 3 tokens"),
        ("seq2seq", "Nora", r"or a text of 10 tokens\): 'Nora' is \d+ tokens"),
        ("classifier", "wonderfully bad acting", r"or a text of 7 tokens\): .* is \d+ tokens"),
        ("prose", "\ud800", r"lone surrogate \(U\+D800 at character 0\)"),
    ],
)
def test_baselines(runs, method, model, baseline, message):
    refused(runs[model], method, {"baseline": baseline, **({"targets": -1} if model == "prose" else {})}, message)


NUMBERS = {  # method -> options that take a whole number, and the least and the most of each
    "integrated_gradients": {"n_steps": (2, 5_000), "internal_batch_size": (1, None)},
    "gradient_shap": {"n_samples": (1, 100_000)},
    "noise_tunnel": {"n_samples": (1, 100_000)},
    "feature_permutation": {"n_samples": (1, 100_000), "internal_batch_size": (1, None)},
    "shapley_value_sampling": {"n_samples": (1, 100_000), "internal_batch_size": (1, None)},
    "kernel_shap": {"n_samples": (5, 100_000), "internal_batch_size": (1, None)},
    "lime": {"n_samples": (5, 100_000), "internal_batch_size": (1, None)},
    "feature_ablation": {"internal_batch_size": (1, None)},
    "shapley_values": {"internal_batch_size": (1, None)},
    "occlusion": {"window": (1, 5), "stride": (1, 1), "internal_batch_size": (1, None)},
}
COUNTED = [(method, option, *ends) for method, options in NUMBERS.items() for option, ends in options.items()]


@pytest.mark.parametrize(("method", "option", "least", "most"), COUNTED)
def test_whole_numbers(runs, method, option, least, most):
    run = runs["prose"]
    for given in (True, 2.5, NAN, INF, -INF, "5", b"5", [5], {}, np.array([5, 6]), np.float64(2.5)):
        refused(run, method, {option: given, "targets": -1}, f"option '{option}' of .* takes int( or None)?, found")
    for given in (least - 1, 0, -1, -HUGE):
        refused(run, method, {option: given, "targets": -1}, rf"\b{option} is (at least|from) .*{given}")
    if most is None:
        run.analyze(method, **{option: HUGE, "targets": -1})
    for given in () if most is None else (most + 1, 10**12, HUGE):
        refused(run, method, {option: given, "targets": -1}, rf"\b{option} is (at most|from) .*{given}")


@pytest.mark.parametrize(
    ("method", "option", "most"),
    [("gradient_shap", "noise", 100), ("noise_tunnel", "noise", 100), ("lime", "alpha", 1), ("lime", "width", 100)],
)
def test_fractions(runs, method, option, most):
    run = runs["prose"]
    for given in (True, "0.5", None, [0.5]):
        refused(run, method, {option: given, "targets": -1}, f"option '{option}' of .* takes float, found")
    for given in (-1e-9, -INF, NAN):
        refused(run, method, {option: given, "targets": -1}, rf"\b{option} (is )?at least .*{given}")
    for given in (most * 1.01, 1e300, INF, HUGE):
        refused(run, method, {option: given, "targets": -1}, rf"\b{option} is at most {most}, found")


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "noise_tunnel", "deep_lift", "guided_backprop"])
@pytest.mark.parametrize("given", ["mean", "L2", "", "norm", None, 2, True, ["sum"]])
def test_aggregation(runs, method, given):
    refused(runs["prose"], method, {"aggregation": given}, r"takes 'sum' or 'l2' or 'dot' or 'max'.*, found")


COMMON = "targets, contrast, score, features, seed"


@pytest.mark.parametrize(
    ("method", "option", "message"),
    [
        ("saliency", "n_steps", f"It takes: {COMMON}, aggregation, absolute"),
        ("saliency", "aggregaton", r"Did you mean 'aggregation'\? It takes"),
        ("saliency", "target", r"Did you mean 'targets'\?"),
        ("saliency", "allow_degenerate", "It takes"),
        ("ig", "steps", r"the analysis 'integrated_gradients' has no option 'steps'\. Did you mean 'n_steps'\?"),
        ("ig", "baselines", r"Did you mean 'baseline'\?"),
        ("occlusion", "windows", r"Did you mean 'window'\?"),
        ("occlusion", "aggregation", f"It takes: {COMMON}, window, stride, baseline, internal_batch_size"),
        ("shapley_values", "n_samples", f"It takes: {COMMON}, baseline, internal_batch_size"),
        ("captum_lrp", "rule", f"It takes: {COMMON}"),
        ("dl", "n_steps", "the analysis 'deep_lift' has no option 'n_steps'"),
    ],
)
def test_options_of_another_method(runs, method, option, message):
    refused(runs["prose"], method, {option: 5}, f"has no option '{option}'.*")
    refused(runs["prose"], method, {option: 5}, message)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("guided_backprop", {"allow_degenerate": 1}, "takes bool, found 1"),
        ("guided_backprop", {"allow_degenerate": "yes"}, "takes bool, found 'yes'"),
        ("saliency", {"absolute": "no"}, "takes bool, found 'no'"),
        ("ig", {"method": "riemann"}, r"takes 'gausslegendre' or .* found 'riemann'\. Did you mean 'riemann_left'\?"),
        ("noise_tunnel", {"kind": "smooth"}, r"found 'smooth'\. Did you mean 'smoothgrad'\?"),
        ("saliency", {"seed": 1.5}, "takes int, found 1.5"),
        ("saliency", {"seed": None}, "takes int, found None"),
    ],
)
def test_other_options(runs, method, options, message):
    refused(runs["prose"], method, options, message)


def ask(capsys, *arguments):
    """Exit code, output and errors of the program, in this process."""
    from ecco_core.cli.main import main

    with pytest.raises(SystemExit) as done:
        main(["run", *arguments])
    out, err = capsys.readouterr()
    return done.value.code, out, [line for line in err.splitlines() if "Loading weights" not in line]


PROSE = ("-m", "tiny:prose", "-t", "The captain is", "--output", " called Nora.")
CLASSES = ("-m", "tiny:classifier", "-t", "The acting was wonderful.")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("saliency --targets=", "A target is the position of a token, found ''"),
        ("saliency --targets 3,4,", "found ''"),
        ("saliency --targets 1.5", "found '1.5'"),
        ("saliency --targets 5:2", "The span '5:2' is empty"),
        ("saliency --targets 2:99", "Target 99 is not in the run"),
        (f"saliency --targets {HUGE}", "A target is the position of a token"),
        ("saliency --targets 2:4 --score prob", "has no one probability to explain"),
        ("saliency --targets 2:4 --contrast 5", "has no one contrast"),
        ("saliency --score entropy --contrast 5", "which has no contrast"),
        (f"saliency --contrast {HUGE}", "is not in the vocabulary of 4096"),
        ("saliency --features wrods", "Did you mean 'words'?"),
        ("saliency --features 0:2,3:6", "leave out position 2"),
        ("saliency --features 0:4,3:6", "overlap at position 3"),
        ("saliency --features 4:2", "is no span of the run's 6 tokens"),
        ("saliency --seed=-1", "seed is a number from 0"),
        ("saliency --seed 1.5", "'1.5' is not a valid integer"),
        ("saliency --n-steps 5", "No such option '--n-steps'"),
        ("saliency --aggregaton sum", "Did you mean '--aggregation'?"),
        ("saliency --aggregation mean", "'mean' is not one of 'sum', 'l2', 'dot', 'max'"),
        ("ig --n-steps 0", "n_steps is at least 2, found 0"),
        ("ig --n-steps nan", "'nan' is not a valid integer"),
        (f"ig --n-steps {HUGE}", "n_steps is at most 5,000"),
        ("ig --internal-batch-size 0", "internal_batch_size is at least 1, found 0"),
        ("ig --baseline zeros", "Did you mean 'zero'?"),
        ("ig --baseline=", "an empty text is no token"),
        ("ig --method gauss", "'gauss' is not one of 'gausslegendre'"),
        ("occlusion --window 99", "window is from 1 to the number of features, 5, found 99"),
        ("occlusion --stride 2", "stride is from 1 to the window"),
        ("lime --width nan", "width is at least"),
        ("lime --alpha inf", "alpha is at most 1"),
        ("kernel_shap --n-samples 1", "n_samples is at least the number of features, 5"),
        ("gradient_shap --noise 1e30", "noise is at most 100"),
        ("guided_backprop", "has no ReLU, so GuidedBackprop would be the plain gradient"),
        ("guided_grad_cam", "Take deep_lift"),
        ("captum_lrp", "Captum's LRP has no rule for"),
    ],
)
def test_the_command_line(capsys, command, message):
    method, *options = command.split(" ")
    code, out, err = ask(capsys, method, *PROSE, *options)
    assert (code, out, len(err)) == (2, "", 1), err
    assert message in err[0]
    assert not re.search("Traceback|failed:", err[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--targets postive", "no class 'postive'. Did you mean 'positive'?"),
        ("--targets=-1", "no class '-1'"),
        ("--contrast neutral", "contrast: no class 'neutral'"),
        ("--targets positive --contrast positive", "there is nothing to compare"),
        ("--score kl --contrast negative", "which has no contrast"),
    ],
)
def test_the_command_line_about_classes(capsys, options, message):
    code, out, err = ask(capsys, "saliency", *CLASSES, *options.split(" "))
    assert (code, out, len(err)) == (2, "", 1), err
    assert message in err[0]
