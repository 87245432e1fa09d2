"""Discovery: a broken plugin is a record with a reason and a remedy, and takes nothing else down."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecco_core import AnalysisNotFoundError, AnalysisSpec, PluginError, hookimpl
from ecco_core.plugin.catalogue import install_for
from ecco_core.plugin.manager import PluginManager, plugins

FOLDERS = Path(__file__).parent / "data" / "plugins"
ALL = sorted(folder.name for folder in FOLDERS.iterdir() if folder.is_dir())
# folder -> status, words of the reason, words of the remedy
EXPECTED = {
    "good": ("loaded", "", ""),
    "name_clash_a": ("loaded", "", ""),
    "name_clash_b": ("loaded", "", ""),
    "name_clash_core": ("loaded", "", ""),
    "import_error": ("broken", "No module named 'a_library_that_does_not_exist'", "pip install a_library_that"),
    "raising_hook": ("broken", "ValueError: no second spec", "pip uninstall fake-raising-hook"),
    "wrong_type": ("broken", "ecco_analyses must return AnalysisSpec objects, found dict", "tell its authors"),
    "too_new_core": ("incompatible", "requires ecco-core>=99, this is 0.1", "pip uninstall fake-too-new-core"),
    "system_exit": ("broken", "SystemExit: 3", "pip uninstall fake-system-exit"),
    "unknown_hook": ("broken", "no hook is called 'ecco_analysis'. Did you mean 'ecco_analyses'?", "tell its authors"),
    "wrapper": ("broken", "ecco_analyses is a wrapper", "tell its authors"),
    "not_a_plugin_object": ("broken", "has no attribute 'missing'", "tell its authors"),
}


def name_of(folder):
    return "fake-" + folder.replace("_", "-")


@pytest.fixture
def discover(monkeypatch):
    """Return a function: folders -> the manager of the plugins in them, and of no others."""
    monkeypatch.delenv("ECCO_BLOCK_PLUGINS", raising=False)

    def manager(*folders):
        paths = [str(FOLDERS / folder) for folder in folders]
        for path in paths:
            monkeypatch.syspath_prepend(path)
        return PluginManager(distributions=importlib.metadata.distributions(path=paths))

    yield manager
    for module in [m for m in sys.modules if m.startswith("fake_")]:
        del sys.modules[module]


def test_every_folder_has_an_expectation():
    assert set(ALL) == set(EXPECTED)


@pytest.mark.parametrize("folder", ALL)
def test_status_reason_and_remedy(discover, folder):
    status, reason, remedy = EXPECTED[folder]
    (record,) = discover(folder).records
    assert (record.distribution, record.version, record.status) == (name_of(folder), "1.0", status)
    assert reason in record.reason
    assert remedy in record.remedy
    assert "\n" not in record.reason
    assert bool(record.reason) == bool(record.remedy) == (status != "loaded")
    assert bool(record.specs) == (status == "loaded")
    assert record.traceback.startswith("Traceback") == (status == "broken")


def test_none_stops_the_others(discover):
    manager = discover(*ALL)
    assert {r.distribution: r.status for r in manager.records} == {name_of(f): EXPECTED[f][0] for f in ALL}
    assert [r.distribution for r in manager.records] == sorted(name_of(f) for f in ALL)
    offered = sorted(offer.spec.name for offer in manager.offers("ecco_analyses"))
    assert offered == ["good_analysis", "integrated_gradients", "norms_clash", "norms_clash"]
    good = manager.analysis("good_analysis")
    assert (good.distribution, good.version, good.load()(None)) == ("fake-good", "1.0", "fake_good")


def test_a_hook_that_raises_half_way_adds_nothing(discover):
    with pytest.raises(AnalysisNotFoundError):
        discover("raising_hook", "good").analysis("half_way")


def test_code_of_an_incompatible_plugin_never_runs(discover):
    discover("too_new_core")
    assert "fake_too_new_core" not in sys.modules


def test_listing_imports_no_heavy_library():
    script = (
        "import sys; from ecco_core.plugin.manager import plugins; plugins();"
        "print(sorted({'torch', 'transformers', 'captum', 'rich', 'numpy'} & set(sys.modules)))"
    )
    assert in_a_fresh_process(script, "good").strip() == "[]"


def test_two_plugins_may_claim_a_name(discover):
    manager = discover("name_clash_a", "name_clash_b", "good")
    with pytest.raises(PluginError) as error:
        manager.analysis("norms_clash")
    assert "'fake-name-clash-a:norms_clash' or 'fake-name-clash-b:norms_clash'" in str(error.value)
    for letter in "ab":
        offer = manager.analysis(f"fake-name-clash-{letter}:norms_clash")
        assert offer.load()(None) == f"fake_name_clash_{letter}"
    with pytest.raises(AnalysisNotFoundError):
        manager.analysis("fake-good:norms_clash")


class Ours:
    """Stands for a distribution of ours that offers integrated_gradients under two names."""

    metadata, version, requires = {"Name": "ecco-captum", "Version": "0.1.0"}, "0.1.0", ["ecco-core>=0.1,<0.2"]

    class Entry:
        group, value = "ecco", "ecco_captum"

        def load(self):
            class Plugin:
                @hookimpl
                def ecco_analyses(self):
                    target = "ecco_captum.gradients:integrated_gradients"
                    return [AnalysisSpec(name="integrated_gradients", aliases=("ig",), summary="IG", target=target)]

            return Plugin()

    entry_points = (Entry(),)

    def read_text(self, name):
        return "[ecco]"


def test_claiming_a_name_of_ours_does_not_take_it_away(discover):
    theirs = list(importlib.metadata.distributions(path=[str(FOLDERS / "name_clash_core")]))
    discover("name_clash_core")
    manager = PluginManager(distributions=[*theirs, Ours()])
    with pytest.raises(PluginError) as error:
        manager.analysis("integrated_gradients")
    assert "'ecco-captum:integrated_gradients'" in str(error.value)
    assert "'fake-name-clash-core:integrated_gradients'" in str(error.value)
    assert manager.analysis("ecco-captum:integrated_gradients").distribution == "ecco-captum"
    assert manager.analysis("fake-name-clash-core:integrated_gradients").load()(None) == "fake_name_clash_core"
    assert manager.analysis("ig").distribution == "ecco-captum", "an alias that nobody else claims still works"


def test_unknown_names_are_answered_with_the_nearest(discover):
    with pytest.raises(AnalysisNotFoundError, match=r"Did you mean 'good_analysis'\?.*Installed: good_analysis"):
        discover("good", "wrapper").analysis("god_analysis")


def test_missing_plugins_of_ours_are_answered_with_their_install(discover):
    with pytest.raises(AnalysisNotFoundError, match="pip install ecco-captum"):
        discover("good").analysis("saliency")


@pytest.mark.parametrize("blocked", ["fake-good", " FAKE-Good , fake-wrapper", "fake-good,", ",fake-good"])
def test_blocked_plugins_are_not_imported(discover, monkeypatch, blocked):
    monkeypatch.setenv("ECCO_BLOCK_PLUGINS", blocked)
    record = next(r for r in discover("good", "wrapper", "name_clash_a").records if r.distribution == "fake-good")
    assert (record.status, bool(record.reason), record.specs) == ("blocked", True, {})
    assert "ECCO_BLOCK_PLUGINS" in record.reason
    assert "fake_good" not in sys.modules
    assert "fake_name_clash_a" in sys.modules


def test_the_names_that_pip_takes_for_the_same_block_too(discover, monkeypatch):
    monkeypatch.setenv("ECCO_BLOCK_PLUGINS", "fake_good")
    assert discover("good").records[0].status == "blocked"


def test_a_distribution_found_twice_counts_once(discover):
    found = [str(FOLDERS / "good"), str(FOLDERS / "good")]
    discover("good")
    assert len(PluginManager(distributions=importlib.metadata.distributions(path=found)).records) == 1


def in_a_fresh_process(script, *folders, **environment):
    env = {k: v for k, v in os.environ.items() if k != "ECCO_BLOCK_PLUGINS"} | environment
    env["PYTHONPATH"] = os.pathsep.join(str(FOLDERS / folder) for folder in folders)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


LIST = (
    "import json; from ecco_core.plugin.manager import plugins;"
    "print(json.dumps({r.distribution: [r.status, r.reason] for r in plugins().records}))"
)


def test_all_of_them_in_a_fresh_process():
    records = json.loads(in_a_fresh_process(LIST, *ALL))
    for folder in ALL:
        status, reason, _ = EXPECTED[folder]
        assert records[name_of(folder)][0] == status
        assert reason in records[name_of(folder)][1]
    others = {name: status for name, (status, _) in records.items() if not name.startswith("fake-")}
    assert set(others.values()) <= {"loaded"}, "plugins of this environment are not harmed"


def test_blocking_in_a_fresh_process():
    blocked = "fake-good,fake-system-exit"
    records = json.loads(in_a_fresh_process(LIST, "good", "system_exit", ECCO_BLOCK_PLUGINS=blocked))
    assert records["fake-good"][0] == records["fake-system-exit"][0] == "blocked"


def test_each_name_of_ours_is_answered_with_its_install():
    ours = [offer for offer in plugins().offers("ecco_analyses") if offer.distribution.startswith("ecco-")]
    assert {"ecco-captum", "ecco-lens", "ecco-probing"} <= {offer.distribution for offer in ours}
    for offer in ours:
        for name in (offer.spec.name, *offer.spec.aliases):
            assert install_for(name) == f"pip install {offer.distribution}" or offer.distribution == "ecco-norms"
