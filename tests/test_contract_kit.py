"""The contract kit finds each planted fault by the check that names it, and nothing else."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ecco_core import testing
from ecco_core.plugin.manager import plugins
from ecco_core.testing import media, models

ROOT = Path(__file__).parent.parent
_SPEC = importlib.util.spec_from_file_location("planted_faults", Path(__file__).with_name("planted_faults.py"))
planted = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(planted)

KINDS = ("Analysis", "Renderer", "Capture", "ModelConfig", "ModelSource", "Command")
MORE = {
    "Analysis": 'invariances = {"rotated units": testing.invariances.rotated}\n    media = ("text/html;profile=n",)',
    "Capture": 'architectures = ("gpt2", "llama")',
    "ModelConfig": "",
}


class Recorder:
    """What pytest said of each check, and of what it could not collect."""

    def __init__(self):
        self.said, self.collected = defaultdict(dict), []

    def pytest_runtest_logreport(self, report):
        _, subject, check = report.nodeid.split("::")
        name = check.split("[")[0]
        if report.outcome != "passed":
            self.said[subject][name] = (report.outcome, str(report.longrepr))
        elif report.when == "call":
            self.said[subject].setdefault(name, ("passed", ""))

    def pytest_collectreport(self, report):
        if report.failed:
            self.collected.append(str(report.longrepr))


def run(path, text):
    """Run the checks of a test file in this process."""
    path.write_text("import pytest\nfrom ecco_core import testing\n\n" + text, encoding="utf-8")
    recorder = Recorder()
    options = ["-p", "no:cacheprovider", "-p", "no:terminal", "--import-mode=importlib", "-W", "ignore"]
    pytest.main(["-c", str(path.with_name("none.ini")), *options, str(path)], plugins=[recorder])
    return recorder


def subject(folder, name, kind):
    """A class that checks one thing of a planted plugin."""
    which = f'name = "planted_{name}"'
    if kind == "Command":
        which = f'name = "{"run" if name == "shadows" else f"planted-{name}".replace("_", "-")}"'
    if kind == "ModelConfig":
        which = f'path = "{folder}/planted_{name}/gpt2.yaml"'
    return f"class Test{kind}_{name}(testing.{kind}Contract):\n    {which}\n    {MORE.get(kind, '')}\n\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the kit says of the good plugin, and of each faulty one: class -> check -> outcome and message."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "none.ini").write_text("[pytest]\n", encoding="utf-8")
    faulty = {f"planted_{name}": changes for name, (_, _, *changes) in planted.FAULTS.items()}
    for name in planted.OF_IMPORTS:
        planted.write(folder, name, {f"planted_{name}": faulty.pop(f"planted_{name}")})
    planted.write(folder, "planted", {"planted_good": (), "planted_data": planted.DATA, **faulty})
    sys.path.insert(0, str(folder))
    plugins.cache_clear()
    classes = [subject(folder, "data", "Renderer"), *(subject(folder, "good", kind) for kind in KINDS)]
    classes += [subject(folder, name, kind) for name, (kind, *_) in planted.FAULTS.items()]
    yield run(folder / "test_planted.py", "".join(classes))
    sys.path.remove(str(folder))
    plugins.cache_clear()


def test_what_a_fault_left_in_a_model_spoils_no_later_check(found):
    model = models.language_model("gpt2", "causal").model
    assert not model.training
    assert not model.generation_config.do_sample
    assert not any(module._forward_hooks for module in model.modules())
    assert model.transformer.wpe.weight.abs().max() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_plugin_keeps_every_promise(found, kind):
    assert not found.collected
    said = found.said[f"Test{kind}_good"]
    contract = getattr(testing, f"{kind}Contract")
    assert set(said) == {name for name in dir(contract) if name.startswith("test_")}
    assert {name: told for name, (outcome, told) in said.items() if outcome != "passed"} == {}


def test_a_table_of_data_needs_no_title(found):
    said = found.said["TestRenderer_data"]
    assert said["test_text_can_be_read"] == said["test_hostile_texts_are_inert"] == ("passed", "")
    assert {name: told for name, (outcome, told) in said.items() if outcome != "passed"} == {}


@pytest.mark.parametrize("fault", planted.FAULTS)
def test_a_planted_fault_is_found_by_the_check_that_names_it(found, fault):
    kind, check, *_ = planted.FAULTS[fault]
    said = found.said[f"Test{kind}_{fault}"]
    failed = {name: told for name, (outcome, told) in said.items() if outcome == "failed"}
    assert failed.keys() == {check}, failed
    told = said[check][1]
    assert "\n" not in told, "one line"
    assert len(told) < 400


OVERRIDES = {
    "silent": ("test_short_input = None\n", "overrides test_short_input of AnalysisContract"),
    "passing": ("def test_short_input(self, offer): pass\n", 'mark the method with @pytest.mark.xfail(reason="...")'),
    "no_reason": ("@pytest.mark.xfail\n    def test_short_input(self, offer): pass\n", "says why"),
    "inherited": ("test_import_is_light = None\n", "overrides test_import_is_light of Contract"),
    "reasoned": ('@pytest.mark.xfail(reason="why")\n    def test_short_input(self, offer): assert 0\n', ""),
    "unknown": ("name = 'integrated_gradents'", "is not offered by ecco_analyses"),
    "unset": ("", "set name = "),
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_a_check_is_not_switched_off_without_a_reason(tmp_path, case):
    (tmp_path / "none.ini").write_text("[pytest]\n", encoding="utf-8")
    body, told = OVERRIDES[case]
    which = "" if case in ("unset", "unknown") else "name = 'norms'\n    "
    ran = run(tmp_path / f"test_{case}.py", f"class TestOne(testing.AnalysisContract):\n    {which}{body or 'pass'}\n")
    if case == "reasoned":
        assert "is not offered" in ran.collected[0], "only the missing plugin is wrong"
    else:
        assert told in ran.collected[0]
        assert ran.collected[0].count("\n") == 0, "one sentence, no traceback"


@pytest.mark.parametrize("library", ["pytest", "hypothesis"])
def test_what_is_missing_is_said_with_its_install(library):
    code = f"import sys\nsys.modules[{library!r}] = None\nimport ecco_core.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith(f"ecco_core.testing needs {library}: pip install 'ecco-core[testing]'")


def test_the_page_lists_every_check():
    rows = []
    for kind in KINDS:
        contract = getattr(testing, f"{kind}Contract")
        for check in sorted(name for name in dir(contract) if name.startswith("test_")):
            rows.append(f"| `{kind}Contract` | `{check}` | {getattr(contract, check).__doc__.splitlines()[0]} |")
    page = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `\w+Contract` \| .*$", page, re.MULTILINE) == rows, "\n".join(rows)


@pytest.mark.parametrize(
    "folder", [path.parent for path in ROOT.glob("plugins/*/*/pyproject.toml")], ids=lambda path: path.name
)
def test_every_plugin_of_ours_is_held_to_the_contract_of_all_it_brings(folder):
    hooks = {getattr(testing, f"{kind}Contract").hook: f"{kind}Contract" for kind in KINDS}
    name = re.search(r'^name = "(.+)"$', (folder / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    (record,) = (record for record in plugins().records if record.distribution == name)
    written = "".join(path.read_text(encoding="utf-8") for path in folder.glob("tests/test_*_contract.py"))
    assert "xfail" not in written
    missing = [hook for hook, specs in record.specs.items() if specs and f"({hooks[hook]})" not in written]
    assert record.specs
    assert not missing


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_drawn_results_of_every_kind_are_shown_as_plain_text(data):
    result = data.draw(testing.strategies.results())
    assert media.acting(result.to_text()) == ""


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_drawn_runs_and_captures_are_whole(data):
    lm = models.language_model("gpt2")
    run_, capture = data.draw(testing.strategies.runs(lm)), data.draw(testing.strategies.captures())
    assert 1 <= run_.n_input_tokens <= len(run_)
    assert run_.logits().shape[0] == len(run_)
    assert capture.stacked("resid_post").shape == (2, len(capture.tokens["decoder"]), 8)


@pytest.mark.parametrize(
    ("change", "kept"),
    [("rotated", "norms"), ("rotated", "centre's norm"), ("scaled", "angles"), ("shifted", "differences"),
     ("units_permuted", "sorted")],
)  # fmt: skip
def test_what_the_changes_of_activations_keep(change, kept):
    values = np.random.default_rng(0).standard_normal((5, 4))
    measures = {
        "norms": lambda x: np.linalg.norm(x, axis=1),
        "centre's norm": lambda x: np.linalg.norm(x.mean(0)),
        "angles": lambda x: x @ x.T / np.outer(*[np.linalg.norm(x, axis=1)] * 2),
        "differences": lambda x: x - x[0],
        "sorted": lambda x: np.sort(x, axis=1),
    }
    changed = getattr(testing.invariances, change)(values, np.random.default_rng(2))
    assert not np.allclose(changed, values)
    np.testing.assert_allclose(measures[kept](changed), measures[kept](values), atol=1e-12)
