"""What a person meets: recommendations over texts, bad input, interruptions, files and pages."""

import contextlib
import json
import shutil
import subprocess
import sys

import attrs
import numpy as np
import pytest
from ecco_faithfulness import Faithfulness
from ecco_faithfulness.results import FLOOR

import ecco_core as ecco

TEXT = "The captain is called Nora. The captain is called"


@pytest.fixture(scope="module")
def run(prose):
    return prose.generate(TEXT, max_new_tokens=2)


@pytest.fixture(scope="module")
def reviews():
    lm = ecco.from_pretrained("tiny:classifier")
    texts = [
        "a wonderful film with a great cast",
        "the plot was dull and boring",
        "I loved it",
        "it was a waste of time",
    ]
    return [lm(text) for text in texts]


def compared(runs, **options):
    given = {"methods": ["saliency", "input_x_gradient"], "metrics": ["deletion", "infidelity"], "n_masks": 10}
    return ecco.analyze("faithfulness", runs, **(given | options))


def test_the_result_shows_table_curves_floor_and_recommendation(run):
    result = run.analyze("faithfulness", methods=["saliency", "input_x_gradient"])
    text = result.to_text()
    for part in ("deletion AUC ↓", "insertion AUC ↑", FLOOR, "deletion: mean score without", result.recommendation):
        assert part in text
    assert result.notes[0] == result.recommendation
    assert f"{result.forwards:,} masked inputs" in text
    assert "But 2 targets are few" in result.recommendation
    low, high = result.value("saliency", "deletion")[1:]
    assert low <= result.value("saliency", "deletion")[0] <= high


def test_saved_and_loaded_all_numbers_are_there(run, tmp_path):
    result = compared(run)
    loaded = ecco.load(result.save(tmp_path / "x.ecco"))
    assert isinstance(loaded, Faithfulness)
    assert loaded.rows == result.rows
    np.testing.assert_array_equal(loaded.each.values, result.each.values)
    assert loaded.recommendation == result.recommendation
    assert loaded.forwards == result.forwards
    code = "import sys, ecco_core as e; r = e.load(sys.argv[1]); print(r.kinds()[0], len(r.rows))"
    plain = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.ecco")], capture_output=True, text=True)
    assert plain.stdout.split() == ["Table", str(len(result.rows))]  # where the plugin is not in use


def test_the_page_draws_the_curves_and_loads_nothing(run, tmp_path):
    page = compared(run, metrics=["deletion", "insertion"]).save(tmp_path / "x.html").read_text()
    assert page.count("<polyline") == 6  # two methods and the floor, twice
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "deletes best" in page or "None of these" in page


def test_on_the_command_line_methods_are_compared_over_a_file(tmp_path, capsys):
    from ecco_core.cli.main import main

    (tmp_path / "texts.txt").write_text("a wonderful film\n\nthe plot was dull\n")
    words = ["run", "faithfulness", "-m", "tiny:classifier", "--texts", str(tmp_path / "texts.txt"), "--methods",
             "saliency,input_x_gradient", "--metrics", "deletion", "--resume", str(tmp_path / "progress"), "--save",
             str(tmp_path / "x.html")]  # fmt: skip
    with contextlib.suppress(SystemExit):
        main(words)
    assert "2 methods on 2 targets of 2 texts" in capsys.readouterr().out
    assert len(list((tmp_path / "progress").iterdir())) == 2
    assert (tmp_path / "x.html").is_file()


def test_given_results_equal_named_methods(run):
    named = compared(run)
    given = compared(run, methods=[], scores=[run.analyze("saliency"), run.analyze("input_x_gradient")])
    assert [row[3:] for row in given.rows] == [row[3:] for row in named.rows]


def test_given_results_say_what_is_explained(run):
    own = run.analyze("saliency", targets=[5, 6])
    assert compared(run, methods=[], scores=[own]).each.size("target") == 2
    with pytest.raises(ecco.TargetError, match=r"'saliency' do not explain target 7 .*; they explain 5 "):
        compared(run, methods=[], scores=[own], targets=[7])


def test_rescaled_scores_have_the_same_numbers(run):
    own = run.analyze("input_x_gradient")
    values = ecco.LabelledArray(own.values.values * 7.5e4, own.values.dims, own.values.coords)
    larger = attrs.evolve(own, values=values)
    first, second = (run.analyze("faithfulness", scores=[each]) for each in (own, larger))
    np.testing.assert_allclose(first.each.values, second.each.values, rtol=1e-9)


def test_seeds_repeat_and_orders_of_texts_do_not_matter(reviews):
    assert compared(reviews).rows == compared(reviews).rows
    backwards = compared(reviews[::-1])
    for row in compared(reviews).rows:
        if row[0] != FLOOR:
            assert backwards.value(row[0], row[1])[0] == pytest.approx(row[3]) or row[2] is not None
    assert compared(reviews, seed=1).value(FLOOR, "deletion") != compared(reviews).value(FLOOR, "deletion")


def test_an_interrupted_comparison_goes_on_with_the_same_numbers(reviews, tmp_path, monkeypatch):
    from ecco_faithfulness import texts

    whole = compared(reviews)
    counted = []
    inner = texts.Replaced

    class Counted(inner):
        def __init__(self, *args):
            counted.append(args[0].text)
            if len(counted) == 3:
                raise KeyboardInterrupt
            super().__init__(*args)

    monkeypatch.setattr(texts, "Replaced", Counted)
    with pytest.raises(KeyboardInterrupt):
        compared(reviews, resume=tmp_path / "a" / "b")
    assert len(list((tmp_path / "a" / "b").glob("*.json"))) == 2
    resumed = compared(reviews, resume=tmp_path / "a" / "b")
    assert len(counted) == 5  # two, the interrupted one, and the two that were left
    assert resumed.rows == whole.rows
    assert resumed.forwards == whole.forwards
    assert compared(reviews, resume=tmp_path / "a" / "b").rows == whole.rows
    assert len(counted) == 5


def test_what_was_kept_for_something_else_is_not_used(reviews, tmp_path):
    import torch

    compared(reviews[:1], resume=tmp_path)
    ways = [{"seed": 1}, {"replacement": "zero"}, {"n_masks": 11}, {"score": "logit"}, {"features": "words"},
            {"targets": ["negative"]}, {"methods": ["saliency"]}]  # fmt: skip
    for n, options in enumerate(ways):
        compared(reviews[:1], resume=tmp_path, **options)
        assert len(list(tmp_path.iterdir())) == 2 + n, options
    weight = next(reviews[0].lm.model.parameters())
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[5, 3] += 1e-3
        compared(reviews[:1], resume=tmp_path)
        assert len(list(tmp_path.iterdir())) == 2 + len(ways)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 1, "key": "x", "text": {}}'])
def test_a_damaged_file_is_named(reviews, tmp_path, damage):
    compared(reviews[:1], resume=tmp_path)
    file = next(tmp_path.iterdir())
    assert json.loads(file.read_text())["text"]["forwards"] > 0
    file.write_text(damage)
    with pytest.raises(ecco.StorageError, match=r"resume: .*json' is damaged; delete it"):
        compared(reviews[:1], resume=tmp_path)


def test_a_folder_that_cannot_be_written_is_said_first(reviews, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ecco.StorageError, match=r"resume: the folder .* cannot be written"):
        compared(reviews, resume=tmp_path / "file" / "inside")


def test_a_method_that_fails_is_left_out_and_said(run):
    result = compared(run, methods=["saliency", "guided_backprop"])
    assert "guided_backprop" not in {row[0] for row in result.rows}
    assert any(note.startswith("guided_backprop was left out: ") for note in result.notes)
    with pytest.raises(ecco.OptionError, match="No method is left to compare; guided_backprop failed"):
        compared(run, methods=["guided_backprop"])


BAD = {
    "nothing": ({"methods": []}, "Nothing to compare: name methods"),
    "unknown method": ({"methods": ["salience"]}, "No analysis is called 'salience'"),
    "no attribution": ({"methods": ["logit_lens"]}, "'logit_lens' scores no tokens: it returns"),
    "no mask token": ({"replacement": "mask"}, "has no mask token .* there are pad, mean, zero"),
    "unknown replacement": ({"replacement": "means"}, "Did you mean 'mean'"),
    "fraction": ({"fractions": [0.0, 0.5]}, "fractions are between 0 and 1"),
    "no metric": ({"metrics": []}, "metrics is empty"),
    "stable only": ({"metrics": ["max_sensitivity"]}, "how stable a method is, not how faithful"),
    "unknown metric": ({"metrics": ["deletions"]}, "metrics"),
    "no random": ({"n_random": 0}, "n_random is a number from 1, found 0"),
    "no moves": ({"n_moves": 0}, "n_moves is a number from 1, found 0"),
    "radius": ({"radius": 0.0}, "radius is above 0"),
    "exact": ({"exact": "on", "targets": [-1], "fractions": [0.5]}, "needs 2\\^13 forwards; up to 12"),
    "one source": ({"targets": [1]}, "sees 1 source that may be replaced .* needs two"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_one_sentence(prose, case):
    options, message = BAD[case]
    long = prose("The captain is called Nora. The captain is called Nora. A cook")
    with pytest.raises(ecco.EccoError, match=message) as caught:
        compared(long, **({"targets": [4, 5]} | options))
    assert "\n" not in str(caught.value)


def test_results_that_do_not_belong_to_the_run_are_refused(prose, run):
    other = prose("Something else entirely.").analyze("saliency", targets=[-1])
    with pytest.raises(ecco.OptionError, match="'saliency' are of other tokens"):
        compared(run, scores=[other])
    own = run.analyze("saliency")
    elsewhere = attrs.evolve(own, provenance=attrs.evolve(own.provenance, model="gpt2-xl"))
    with pytest.raises(ecco.OptionError, match="of the model 'gpt2-xl', the run is of 'tiny:prose'"):
        compared(run, scores=[elsewhere])
    with pytest.raises(ecco.OptionError, match="takes results that score tokens"):
        compared(run, scores=[run.analyze("logit_lens", positions=[2])])
    words = run.analyze("saliency", features=["0:3", "3:6", "6:9", "9:12"] if len(run) == 12 else "sentences")
    with pytest.raises(ecco.OptionError, match=r"have no source .* set with features="):
        compared(run, scores=[words])
    values = own.values.values.copy()
    values[0, 0] = np.nan
    broken = attrs.evolve(own, values=ecco.LabelledArray(values, own.values.dims))
    with pytest.raises(ecco.OptionError, match="hold NaN"):
        compared(run, scores=[broken])


def test_every_run_needs_every_given_method(reviews):
    first = reviews[0].analyze("saliency")
    with pytest.raises(ecco.OptionError, match="'saliency' are missing for run 1"):
        compared(reviews[:2], scores=[first])


def test_max_sensitivity_is_of_named_methods(run):
    own = attrs.evolve(run.analyze("saliency"), title="mine")
    result = compared(run, metrics=["deletion", "max_sensitivity"], scores=[own], n_moves=3)
    small = compared(run, metrics=["deletion", "max_sensitivity"], n_moves=3, radius=1e-4)
    assert 0 < small.value("saliency", "max_sensitivity")[0] < result.value("saliency", "max_sensitivity")[0] < 3
    assert result.value("saliency (given)", "max_sensitivity")[0] is None
    assert result.value(FLOOR, "max_sensitivity")[0] is None
    assert any("given results cannot be run again" in note for note in result.notes)


def test_the_effect_of_the_replacement_is_shown(run):
    options = {"methods": ["saliency", "input_x_gradient", "feature_ablation"], "n_draws": 2}
    result = run.analyze("replacement_effect", replacements=["auto", "sample", "remove"], **options)
    assert [row[0] for row in result.rows[::4]] == ["mean", "sample", "remove"]
    alone = run.analyze("faithfulness", replacement="remove", metrics=["deletion"], **options)
    found = {row[1]: row[2:] for row in result.rows if row[0] == "remove"}
    assert found["saliency"] == pytest.approx(alone.value("saliency", "deletion"))
    assert result.agreement.values.shape == (3, 3)
    assert np.diag(result.agreement.values) == pytest.approx(1)
    assert "order of the methods, best first" in result.to_text()
    with pytest.raises(ecco.OptionError, match="two or more ways to compare, found mean"):
        run.analyze("replacement_effect", replacements=["auto", "mean"], **options)


def test_a_copy_of_the_progress_works_elsewhere(reviews, tmp_path):
    whole = compared(reviews[:2], resume=tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert compared(reviews[:2], resume=tmp_path / "b").rows == whole.rows


def test_contrasts_and_interventions_are_carried(prose):
    with prose.intervene(ecco.ablate("mlp_post", layer=0, units=[1, 2])):
        changed = prose.generate(TEXT, max_new_tokens=1)
    result = changed.analyze("faithfulness", methods=["saliency"], contrast=" Felix", metrics=["deletion"])
    plain = prose(changed.text).analyze("faithfulness", methods=["saliency"], targets=[len(changed) - 1],
                                        metrics=["deletion"])  # fmt: skip
    assert result.value("saliency", "deletion")[0] != plain.value("saliency", "deletion")[0]
    with pytest.raises(ecco.OptionError, match="interventions name positions"):
        changed.analyze("faithfulness", methods=["saliency"], replacement="remove")
