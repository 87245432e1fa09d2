"""Comparisons on real models, against plain loops over their own forwards, and where the truth is known."""

import itertools
import json
import math

import attrs
import numpy as np
import pytest
import torch
from ecco_faithfulness import measures
from ecco_faithfulness.results import CEILING, FLOOR
from ecco_tiny.sources import MODELS

import ecco_core as ecco

FRACTIONS = (0.1, 0.25, 0.5, 0.75)
TEXT = "The captain is called Nora."
MORE = {"metrics": ("deletion", "insertion", "comprehensiveness", "sufficiency", "leave_one_out"), "exact": "on"}


def naive_prob(lm, ids, token, gone, how):
    """Probability of a token after some ids, without those in `gone`, straight from the model."""
    table = lm.model.get_input_embeddings().weight
    embedded, mean = table[torch.tensor(ids)].clone(), table.double().mean(0).float()
    if how == "remove":
        kept = [p for p in range(len(ids)) if p not in gone]
        embedded = embedded[kept] if kept else mean[None]
    for p in gone if how != "remove" else ():
        embedded[p] = {"mean": mean, "zero": torch.zeros_like(mean)}[how]
    with torch.no_grad():
        logits = lm.model(inputs_embeds=embedded[None]).logits[0, -1]
    return float(logits.double().softmax(-1)[token])


def naive(prob, n, scores):
    """All measures of one ranking of n sources by plain loops; prob takes a set of sources that are gone."""
    ranked = sorted(range(n), key=lambda i: -scores[i])
    ks = [0, *(max(1, math.floor(q * n + 0.5)) for q in FRACTIONS), n]
    deletion = [prob(frozenset(ranked[:k])) for k in ks]
    insertion = [prob(frozenset(ranked[k:])) for k in ks]
    points = sorted(set(ks))

    def auc(line):
        at = dict(zip(ks, line))
        return sum((at[a] + at[b]) / 2 * (b - a) / n for a, b in itertools.pairwise(points))

    here = prob(frozenset())
    return {
        "deletion": auc(deletion),
        "insertion": auc(insertion),
        "comprehensiveness": sum(here - v for v in deletion[1:-1]) / len(FRACTIONS),
        "sufficiency": sum(here - v for v in insertion[1:-1]) / len(FRACTIONS),
        "leave_one_out": measures.rank_correlation(np.array(scores), np.array([here - prob({i}) for i in range(n)])),
        "best deletion": auc([min(prob(frozenset(s)) for s in itertools.combinations(range(n), k)) for k in ks]),
        "best insertion": auc([max(prob(frozenset(s)) for s in itertools.combinations(range(n), n - k)) for k in ks]),
    }


@pytest.mark.parametrize("how", ["mean", "zero", "remove"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_every_number_is_that_of_plain_loops(make_lm, kind, how):
    lm = make_lm(kind)
    run = lm(TEXT)
    targets = [len(run) - 1, len(run)]
    attributions = run.analyze("saliency", targets=targets)
    result = run.analyze("faithfulness", methods=["saliency"], targets=targets, replacement=how, **MORE)
    ids = run.tokens.ids.tolist()
    for t, (p, target) in enumerate(zip(targets, attributions.targets)):
        assert p <= 12
        found = naive(
            lambda gone, p=p, token=target.token_id: naive_prob(lm, ids[:p], token, gone, how),
            p, attributions.values.values[t, :p].tolist(),
        )  # fmt: skip
        each = result.each.isel(target=t)
        for metric in MORE["metrics"]:
            expected = pytest.approx(found[metric], rel=1e-3, abs=2e-5)
            assert float(each.sel(method="saliency", measure=metric).values) == expected
        for metric in ("deletion", "insertion"):
            expected = pytest.approx(found[f"best {metric}"], rel=1e-4, abs=1e-6)
            assert float(each.sel(method=CEILING, measure=metric).values) == expected


def test_the_floor_is_the_mean_over_all_rankings(make_lm):
    lm = make_lm("gpt2")
    run = lm(TEXT)
    ids, n = run.tokens.ids[:3].tolist(), 3
    run = lm({"input_ids": [[*ids, 7]]})
    result = run.analyze("faithfulness", methods=["saliency"], targets=[3], n_random=400, metrics=["deletion"])
    every = [
        naive(lambda gone: naive_prob(lm, ids, 7, gone, "mean"), n, scores)["deletion"]
        for scores in itertools.permutations(range(n))
    ]
    drawn = np.std(every) / math.sqrt(400)
    assert result.value(FLOOR, "deletion")[0] == pytest.approx(np.mean(every), abs=4 * drawn)
    # the random rankings add at most the 2^3 masks that there are
    assert result.forwards <= 2**n


class TestLinear:
    """A classifier whose logit is a sum over tokens: the scores are known, and no ranking is better."""

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, marked_tokenizer):
        from transformers import PretrainedConfig, PreTrainedModel
        from transformers.modeling_outputs import SequenceClassifierOutput

        class BagConfig(PretrainedConfig):
            model_type = "bag_of_tokens"

        class BagForSequenceClassification(PreTrainedModel):
            config_class = BagConfig

            def __init__(self, config):
                super().__init__(config)
                self.embeddings = torch.nn.Embedding(len(marked_tokenizer), 16)
                self.classifier = torch.nn.Linear(16, 2, bias=False)
                self.post_init()

            def get_input_embeddings(self):
                return self.embeddings

            def forward(self, input_ids=None, **_):
                return SequenceClassifierOutput(logits=self.classifier(self.embeddings(input_ids)).sum(1))

        torch.manual_seed(0)
        model = BagForSequenceClassification(BagConfig(num_labels=2, pad_token_id=0)).eval()
        with torch.no_grad():
            model.embeddings.weight.normal_()
            model.classifier.weight.normal_()
        lm = ecco.LanguageModel(model, marked_tokenizer, task="sequence_classification")
        lm.stack = "encoder"  # no file of the registry says so
        return lm(TEXT)

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, run):
        target = {"targets": ["LABEL_1"], "score": "logit"}
        truth = run.analyze("input_x_gradient", **target)
        rng = np.random.default_rng(0)
        noise = [
            attrs.evolve(
                truth,
                values=ecco.LabelledArray(rng.standard_normal(truth.values.shape), ("target", "source")),
                provenance=attrs.evolve(truth.provenance, analysis=f"noise {i}"),
            )
            for i in range(40)
        ]
        wrong = attrs.evolve(
            truth,
            values=ecco.LabelledArray(-truth.values.values, ("target", "source")),
            provenance=attrs.evolve(truth.provenance, analysis="wrong"),
        )
        return run.analyze(
            "faithfulness", methods=["input_x_gradient"], scores=[*noise, wrong], replacement="zero", exact="on",
            n_random=200, **target,
        )  # fmt: skip

    def test_the_truth_reaches_the_ceiling(self, run, result):
        assert 5 <= len(run) <= 12
        for metric in result.measures():
            best = pytest.approx(result.value(CEILING, metric)[0], abs=1e-5)
            assert result.value("input_x_gradient", metric)[0] == best, metric
        assert result.value("input_x_gradient", "infidelity")[0] == pytest.approx(0, abs=1e-9)
        assert result.value("input_x_gradient", "leave_one_out")[0] == pytest.approx(1)

    def test_random_scores_stay_at_the_floor(self, result):
        for metric in result.measures():
            noise = np.array([result.value(f"noise {i}", metric)[0] for i in range(40)])
            error = noise.std() / math.sqrt(40)
            assert abs(noise.mean() - result.value(FLOOR, metric)[0]) < 4 * error, metric
            truth = result.value("input_x_gradient", metric)[0]
            assert abs(truth - noise.mean()) > 5 * error, metric

    def test_scores_of_the_wrong_sign_are_below_the_floor(self, result):
        for metric in ("deletion", "infidelity", "sufficiency"):
            assert result.value("wrong", metric)[0] > result.value(FLOOR, metric)[0]
        for metric in ("insertion", "comprehensiveness", "leave_one_out"):
            assert result.value("wrong", metric)[0] < result.value(FLOOR, metric)[0]


class TestSanity:
    """Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, measured."""

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        lm, random = ecco.from_pretrained("tiny:classifier"), ecco.from_pretrained("tiny:classifier")
        torch.manual_seed(0)
        for weight in random.model.parameters():
            with torch.no_grad():
                weight.copy_(torch.randn_like(weight) * weight.std() if weight.ndim > 1 else weight)
        answers = json.loads((MODELS / "classifier" / "known_answers.json").read_text())
        texts = [entry["text"] for entry in (answers if isinstance(answers, list) else answers["examples"])][:24]
        runs = [lm(text) for text in texts]
        given = []
        for run, text in zip(runs, texts):
            number = int(run.logits().argmax())
            own = run.analyze("ig", targets=[number], n_steps=12)
            other = run.analyze("ig", targets=[1 - number], n_steps=12)
            elsewhere = random(text).analyze("ig", targets=[number], n_steps=12)
            for name, each in (("trained", own), ("other label", other), ("random weights", elsewhere)):
                told = attrs.evolve(each.provenance, analysis=name)
                given.append(attrs.evolve(each, targets=own.targets, provenance=told))
        return ecco.analyze("faithfulness", runs, scores=given, metrics=["deletion", "insertion"], exact="off")

    def differences(self, result, name, metric):
        """Mean difference from the floor, and its standard error, over texts."""
        each = result.each.sel(measure=metric)
        apart = each.sel(method=name).values - each.sel(method=FLOOR).values
        return apart.mean(), apart.std() / math.sqrt(len(apart))

    @pytest.mark.parametrize(("metric", "sign"), [("deletion", -1), ("insertion", 1)])
    def test_the_trained_models_scores_are_above_the_floor(self, result, metric, sign):
        mean, error = self.differences(result, "trained", metric)
        assert sign * mean > 4 * error

    @pytest.mark.parametrize("metric", ["deletion", "insertion"])
    def test_with_random_weights_they_fall_to_the_floor(self, result, metric):
        mean, error = self.differences(result, "random weights", metric)
        trained, _ = self.differences(result, "trained", metric)
        assert abs(mean) < 3 * error
        assert abs(mean) < 0.5 * abs(trained)

    @pytest.mark.parametrize(("metric", "sign"), [("deletion", -1), ("insertion", 1)])
    def test_those_of_another_label_are_below_the_floor(self, result, metric, sign):
        mean, error = self.differences(result, "other label", metric)
        assert sign * mean < -4 * error

    def test_the_recommendation_is_the_trained_models(self, result):
        assert result.recommendation.startswith("trained deletes best: lower deletion AUC than random weights in 100")
        assert result.recommendation.endswith("of 100 bootstrap samples of 24 texts.")


@pytest.mark.parametrize("how", ["auto", "zero", "sample", "remove"])
@pytest.mark.parametrize("kind", ["masked", "seq2seq"])
def test_other_tasks_are_compared_as_well(kind, how):
    lm = ecco.from_pretrained(f"tiny:{kind}")
    if kind == "masked":
        run, targets = lm("Nora is the captain of the ship."), [2, 5]
    else:
        run, targets = lm.generate("The captain is called Nora. question: who?", output="Nora"), None
    result = run.analyze("faithfulness", methods=["saliency"], targets=targets, replacement=how, exact="off")
    here = [float(x) for x in np.exp([t.value for t in run.analyze("saliency", targets=targets).targets])]
    curves = list(result.curves())
    assert curves[0].values.values[:, 0] == pytest.approx(np.full(2, np.mean(here)), rel=1e-4)
    assert curves[1].values.values[:, -1] == pytest.approx(np.full(2, np.mean(here)), rel=1e-4)
    assert curves[0].values.values[:, -1] == pytest.approx(curves[1].values.values[:, 0])
    assert np.isfinite(result.each.sel(measure="deletion").values).all()


def test_sources_of_both_stacks_are_taken_away():
    lm = ecco.from_pretrained("tiny:seq2seq")
    run = lm.generate("The captain is called Nora. question: who?", output="the captain")
    result = run.analyze("faithfulness", methods=["saliency"], targets=[2], metrics=["leave_one_out"], n_random=2)
    ordinary = sum(not special for special in run.transcript.tokens["encoder"].special)
    assert result.forwards == 1 + ordinary + 1  # the run itself, each token of the text, and the answer's first


def test_a_token_classifier_is_compared(open_tiny):
    run = open_tiny("bert", "token_classification")("The captain is called Nora")
    result = run.analyze("faithfulness", methods=["saliency", "input_x_gradient"], n_masks=10)
    assert result.each.size("target") == sum(not s for s in run.tokens.special)
    with pytest.raises(ecco.OptionError, match="would itself be removed"):
        run.analyze("faithfulness", methods=["saliency"], replacement="remove")


def test_removal_in_a_masked_model_is_the_shorter_text():
    lm = ecco.from_pretrained("tiny:masked")
    run = lm("Nora is the captain of the ship.")
    p, gone = 4, 2
    scores = run.analyze("saliency", targets=[p])
    values = np.zeros(scores.values.shape)
    values[0, gone] = 1.0
    first = attrs.evolve(scores, values=ecco.LabelledArray(values, ("target", "source")))
    result = run.analyze(
        "faithfulness", scores=[first], replacement="remove", fractions=[0.01], metrics=["comprehensiveness"]
    )
    ids = run.tokens.ids.tolist()
    mask, token = lm.tokenizer.mask_token_id, ids[p]
    probs = []
    for row, at in (
        ([*ids[:p], mask, *ids[p + 1 :]], p),
        ([*ids[:gone], *ids[gone + 1 : p], mask, *ids[p + 1 :]], p - 1),
    ):
        with torch.no_grad():
            probs.append(float(lm.model(input_ids=torch.tensor([row])).logits[0, at].softmax(-1)[token]))
    assert result.value("saliency", "comprehensiveness")[0] == pytest.approx(probs[0] - probs[1], rel=1e-4, abs=1e-7)


def test_one_forward_serves_what_can_share_it(prose):
    run = prose.generate("The captain is called Nora. The cook is called Felix. The captain is", max_new_tokens=3)
    n_targets, n = len(run) - run.n_input_tokens, len(run) - 1
    alone = run.analyze("faithfulness", methods=["saliency"], metrics=["leave_one_out"], n_random=2)
    assert alone.forwards == n_targets + n  # each single token is taken away once for all targets
    shared = run.analyze("faithfulness", methods=["saliency"], metrics=["leave_one_out", "infidelity"], n_masks=30)
    assert n_targets + n < shared.forwards <= n_targets + n + 30
    once = run.analyze("faithfulness", methods=["saliency"], n_random=2)
    own = run.analyze("saliency")
    twice = run.analyze("faithfulness", methods=["saliency"], scores=[own], n_random=2)
    assert twice.forwards == once.forwards  # the same ranking again costs nothing
    both = run.analyze("faithfulness", methods=["saliency"], n_random=2, metrics=["deletion", "comprehensiveness"])
    assert both.forwards == run.analyze("faithfulness", methods=["saliency"], n_random=2, metrics=["deletion"]).forwards
    np.testing.assert_array_equal(twice.each.sel(method="saliency").values, once.each.sel(method="saliency").values)


def test_words_are_taken_away_whole(prose):
    run = prose("The captain is called Nora.")
    result = run.analyze(
        "faithfulness", methods=["feature_ablation"], targets=["4:6"], score="logprob", features="words",
        metrics=["leave_one_out"], n_random=2, exact="off",
    )  # fmt: skip
    assert result.forwards == 1 + 4  # as many words stand before the span
    assert not math.isnan(result.value("feature_ablation", "leave_one_out")[0])
