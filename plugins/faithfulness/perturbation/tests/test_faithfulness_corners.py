"""Where shared work, names, kept files and conclusions could go wrong without anybody seeing it."""

import json
import os
import signal
import subprocess
import sys
import time

import attrs
import numpy as np
import pytest
import torch
from ecco_faithfulness import interval, means, measures, recommendation, resampled
from ecco_faithfulness.masking import Replaced
from ecco_faithfulness.results import CEILING, FLOOR

import ecco_core as ecco

TEXT = "The captain is called Nora. The cook is called Felix."


def shared_and_own(run, targets, how="mean", score="logprob"):
    """Scores of all targets for random masks: as shared, and one target, one input, no cache at a time."""
    rng, module = np.random.default_rng(0), run.scores(targets, score=score)
    replaced = Replaced(run, module, how, 1, np.random.default_rng(1))
    masks = rng.random((12, module.n_sources)) < rng.random((12, 1))
    replaced.share(masks[:6])
    lengths = np.cumsum([len(module.ids[stack]) for stack in module.stacks])[:-1]
    mean = [
        module.embed(torch.arange(len(module.embeddings[s].weight)), s).double().mean(0).float() for s in module.stacks
    ]
    for t, target in enumerate(module.targets):
        alone, expected = module.only([target]), []
        for mask in masks & replaced.replaceable[t]:
            inputs = [tensor.clone() for tensor in module.inputs()]
            for tensor, gone, filler in zip(inputs, np.split(mask, lengths), mean):
                tensor[0, torch.from_numpy(gone)] = filler
            with torch.no_grad():
                expected.append(float(alone(*inputs)[0, 0]))
        yield replaced.of_target(t, masks), np.array(expected)


FAMILIES = {
    "gpt2": {}, "mistral": {"sliding_window": 3}, "gemma2": {"sliding_window": 3}, "mamba": {}, "qwen2": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_is_shared_is_what_each_target_says_by_itself(open_tiny, kind):
    run = open_tiny(kind, **FAMILIES[kind])(TEXT)
    n = len(run)
    for found, expected in shared_and_own(run, [f"{n // 2}:{n // 2 + 3}", n - 3, n - 1, n]):
        np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize(("kind", "task"), [("t5", "seq2seq"), ("bert", "masked"), ("bert", "token_classification"),
                                            ("llama", "sequence_classification")])  # fmt: skip
def test_other_tasks_share_the_same_numbers(open_tiny, kind, task):
    lm = open_tiny(kind, task)
    run = lm.generate(TEXT, output=" The cook is") if task == "seq2seq" else lm(TEXT)
    targets = ["1:3", 2, 3] if task == "seq2seq" else [0, 1] if task == "sequence_classification" else [2, 5]
    for found, expected in shared_and_own(run, targets):
        np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_what_nothing_changes_is_no_drop(open_tiny):
    run = open_tiny("mistral", sliding_window=3)(TEXT)  # two layers: the prediction sees five tokens
    n = len(run)
    values = np.zeros((2, n))
    values[:, n - 5 :] = 1 + np.arange(5)
    own = run.analyze("saliency", targets=[n - 1, n])
    given = attrs.evolve(own, values=ecco.LabelledArray(values, own.values.dims))
    result = run.analyze("faithfulness", scores=[given], metrics=["leave_one_out"], n_random=2, replacement="mean")
    module = run.scores([n])
    alone = module.inputs()[0].repeat(n, 1, 1)
    alone[range(n), range(n)] = module.embeddings[module.stacks[0]].weight.mean(0)
    with torch.no_grad():
        drops = (module(*module.inputs()).exp() - module(alone).exp())[:, 0].numpy()
    assert (np.abs(drops[: n - 5]) < 1e-6).all()
    drops[: n - 5] = 0
    expected = measures.rank_correlation(values[1], drops)
    assert result.each.sel(method="saliency").values[0, 1] == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def run(prose):
    return prose.generate("The captain is called Nora. The captain is called", 2)


def compared(run, **options):
    return run.analyze("faithfulness", **({"methods": ["saliency"], "metrics": ["deletion"]} | options))


def titled(run, title):
    own = run.analyze("saliency")
    return attrs.evolve(own, title=title, provenance=attrs.evolve(own.provenance, analysis=""))


@pytest.mark.parametrize("title", [FLOOR, f"{FLOOR} 0", CEILING])
def test_a_result_may_be_called_as_the_floor_is(run, title):
    result = compared(run, methods=[], scores=[titled(run, title), run.analyze("saliency")])
    assert result.value(f"{title} (given)", "deletion") == result.value("saliency", "deletion")
    assert result.value(FLOOR, "deletion") == compared(run).value(FLOOR, "deletion")


def test_one_method_under_two_names_is_compared_once(run):
    names = ["ig", "saliency", "integrated_gradients", "ecco-captum:saliency"]
    assert compared(run, methods=names)._methods() == ["ig", "saliency", FLOOR]


def test_methods_take_options_of_their_own(run):
    result = compared(run, methods=["ig", "ig[n_steps=3]", "noise_tunnel[n_samples=2;noise=0.5]"])
    few = compared(run, methods=[], scores=[run.analyze("ig", n_steps=3)])
    assert result.value("ig[n_steps=3]", "deletion") == few.value("integrated_gradients", "deletion")
    for label, message in {
        "ig[steps=3]": "integrated_gradients|ig has no option 'steps' of its own.* It takes: .*n_steps",
        "ig[targets=3]": "has no option 'targets' of its own",
        "ig[n_steps]": r"written as ig\[option=value;other=value\], found 'ig\[n_steps\]'",
        "ig[n_steps=3": "is written as",
        "faithfulness": "'faithfulness' scores no tokens: it returns Table",
    }.items():
        with pytest.raises(ecco.OptionError, match=message):
            compared(run, methods=["saliency", label])


def test_what_cannot_be_told_is_refused_or_counted(prose, run):
    with pytest.raises(ecco.OptionError, match=r"'remove' is not for score='kl': .* take mean, zero or sample"):
        compared(run, score="kl", replacement="remove")
    with prose.intervene(ecco.ablate("mlp_post", layer=0, units=[1, 2])):
        changed = prose.generate("The cook is called", 2)
    with pytest.raises(ecco.OptionError, match="interventions name positions"):
        ecco.analyze("faithfulness", [run, changed], methods=["saliency"], replacement="remove")
    masked = ecco.from_pretrained("tiny:masked")("Nora is the captain of the ship.")
    options = {"metrics": ["leave_one_out"], "score": "logprob", "exact": "off"}
    span = compared(masked, targets=["2:4"], **options)
    ordinary = sum(not s for s in masked.tokens.special) - 2
    assert span.forwards == 2 * (1 + ordinary)  # each of its two tokens is masked by itself
    one = compared(masked, targets=[2], metrics=["leave_one_out"], exact="on")
    assert one.forwards == 1 + ordinary + 1  # the best of a correlation needs no subsets


def test_the_effect_takes_all_ways_that_fit(open_tiny, run):
    labels = open_tiny("bert", "token_classification")("The captain")
    told = labels.analyze("replacement_effect", methods=["saliency", "input_x_gradient"], n_random=2)
    assert list(dict.fromkeys(row[0] for row in told.rows)) == ["mask", "mean", "zero", "sample"]
    told = run.analyze("replacement_effect", methods=["saliency"], n_random=2)
    assert list(dict.fromkeys(row[0] for row in told.rows)) == ["pad", "mean", "zero", "sample", "remove"]


def test_five_methods_in_one_order_are_said_to_agree(run):
    own = run.analyze("feature_ablation")
    rng = np.random.default_rng(0)
    given = [
        attrs.evolve(titled(run, f"noise {size}"), values=ecco.LabelledArray(
            own.values.values + size * np.abs(own.values.values).max() * rng.standard_normal(own.values.values.shape),
            own.values.dims))
        for size in (0.0, 0.3, 1.0, 3.0, 10.0)
    ]  # fmt: skip
    told = run.analyze("replacement_effect", scores=given, replacements=["mean", "pad"], n_random=2)
    ranks = [np.argsort([row[2] for row in told.rows if row[0] == way][:5]).tolist() for way in ("mean", "pad")]
    same = ranks[0] == ranks[1]
    assert any("in the same order under each" in note for note in told.notes) == same


def test_tokens_are_drawn_that_the_tokenizer_has(make_lm, tokenizer):
    from ecco_faithfulness.replacements import filled

    lm = make_lm("gpt2", vocab_size=len(tokenizer) + 3000)
    module = lm(TEXT).scores([5])
    weight = module.embeddings[module.stacks[0]].weight
    draws = filled("sample", lm(TEXT), module, 20, np.random.default_rng(0))
    rows = [int((weight == row).all(1).nonzero()[0, 0]) for draw in draws for row in draw[0][0]]
    assert max(rows) < len(tokenizer)


def test_the_recommendation_never_contradicts_the_numbers():
    weights = resampled(np.zeros(40), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    floor = rng.random(40)

    def told(names, values, weights=weights, floor=floor):
        return recommendation(names, np.array(values), floor, weights, lower_is_better=True, does="deletes",
                              measure="deletion AUC", over="40 targets")  # fmt: skip

    wild = floor - 0.5 + 6 * rng.standard_normal(40) * np.tile([1, -1], 20)
    wild -= wild.mean() - (floor.mean() - 0.5)
    unsure = told(["wild", "steady"], [wild, floor - 0.1])
    assert unsure.startswith("No method is shown to be the best: the best by its deletion AUC, wild, is lower than")
    assert "; steady in 95 or more, but less so on average." in unsure
    near = [floor - 0.5, *(floor - 0.499 + 0.1 * np.tile(signs, 10) for signs in ([1, -1, 1, -1], [1, 1, -1, -1]))]
    assert told(["a", "b", "c"], near).endswith("a cannot be told from b or c on this (fewer than 95 of 100).")
    tie = told(["a", "b"], [floor - 0.5, floor - 0.5])
    assert "than b in 0" in tie
    assert tie.endswith("a cannot be told from b on this (fewer than 95 of 100).")
    one = {"weights": np.ones((9, 1)), "floor": np.array([0.3])}
    assert told(["a", "b"], [[0.4], [0.5]], **one).startswith(
        "No method has a lower deletion AUC than a random ranking (a comes nearest), on one target"
    )
    assert told(["a", "b", "c"], [[0.1], [0.5], [0.1]], **one).startswith("a and c are even: best by deletion AUC, on")


def test_intervals_cover_what_they_should():
    rng, hits = np.random.default_rng(0), []
    for _ in range(300):  # 20 texts of 3 targets each, whose scores share the text's part
        values = (rng.standard_normal((20, 1)) + 0.3 * rng.standard_normal((20, 3))).ravel()
        low, high = interval(means(values, resampled(np.repeat(np.arange(20), 3), rng, 300)))
        hits.append(low <= 0 <= high)
    assert 0.89 <= np.mean(hits) <= 0.97  # a percentile bootstrap of 20 is a little narrow


def test_the_first_metric_without_numbers_does_not_hide_the_others(open_tiny):
    lm = open_tiny("bert", "sequence_classification")
    with torch.no_grad():
        lm.model.classifier.weight.zero_()  # nothing changes its answer
    result = compared(lm("The captain is"), metrics=["leave_one_out", "deletion"])
    assert result.recommendation.startswith("No method has a leave-one-out rank correlation on these targets")
    assert result.value("saliency", "deletion")[0] == pytest.approx(lm("The captain is").logits().softmax(-1).max())


CHILD = """
import sys, ecco_core as ecco
lm = ecco.from_pretrained("tiny:classifier")
runs = [lm(f"film number {i} was a wonderful and dull thing") for i in range(8)]
ecco.analyze("faithfulness", runs, methods=["saliency", "lrp"], metrics=["deletion"], resume=sys.argv[1])
"""


def test_a_killed_process_leaves_whole_files(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], env=environment)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    assert 2 <= len(kept) < 8
    lm = ecco.from_pretrained("tiny:classifier")
    runs = [lm(f"film number {i} was a wonderful and dull thing") for i in range(8)]
    options = {"methods": ["saliency", "lrp"], "metrics": ["deletion"]}
    resumed = ecco.analyze("faithfulness", runs, **options, resume=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 8  # the kept ones were found, by another process
    assert all((tmp_path / name).read_bytes() == content for name, content in kept.items())
    assert resumed.rows == ecco.analyze("faithfulness", runs, **options).rows


def test_kept_numbers_depend_on_versions_options_and_what_is_given(run, tmp_path, monkeypatch):
    def files():
        return len(list(tmp_path.glob("*.json")))

    own = run.analyze("saliency")
    turned = attrs.evolve(own, targets=own.targets[::-1])
    compared(run, resume=tmp_path)
    compared(run, resume=tmp_path, methods=["saliency", "ig[n_steps=2]"])
    compared(run, resume=tmp_path, methods=["saliency", "ig[n_steps=3]"])
    compared(run, resume=tmp_path, methods=[], scores=[own])
    compared(run, resume=tmp_path, methods=[], scores=[turned], targets=[10, 11])
    assert files() == 5
    for distribution in ("ecco-faithfulness", "ecco-captum"):
        record = next(r for r in ecco.plugins().records if r.distribution == distribution)
        monkeypatch.setattr(record, "version", "9.9")
        compared(run, resume=tmp_path)
    assert files() == 7
    weight = run.lm.model.get_input_embeddings().weight
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[[3, 17]] = weight[[17, 3]]
        compared(run, resume=tmp_path)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert files() == 8


def test_a_method_that_failed_is_tried_again(run, tmp_path):
    options = {"methods": ["saliency", "lrp"], "resume": tmp_path}
    whole = compared(run, **options)
    (file,) = tmp_path.glob("*.json")
    kept = json.loads(file.read_text())
    for kind in ("values", "curves"):
        del kept["text"][kind]["lrp"]
    kept["text"]["failed"] = {"lrp": "it was not installed"}
    file.write_text(json.dumps(kept))
    assert compared(run, **options).rows == whole.rows


def test_a_method_of_other_targets_is_left_out_and_the_others_go_on(run):
    result = compared(run, methods=["saliency", "attention_rollout"], features="words", exact="off")
    assert result._methods() == ["saliency", FLOOR]
    assert "attention_rollout was left out: it scores tokens, not words." in result.notes
