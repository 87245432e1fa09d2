"""The zoo of hostile plugins: each is named with version, reason and remedy, and takes nothing else down."""

from __future__ import annotations

import collections
import functools
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import unicodedata
import warnings
import weakref
from pathlib import Path

import pytest
import torch
import transformers

from ecco_core import analyze, guard, plugins
from ecco_core.errors import PluginWarning

sys.path.insert(0, str(Path(__file__).parent))
import zoo

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
ROWS = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| `([^|]+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
ROWS = [row for row in ROWS if row[0] in zoo.ANIMALS]
#: Those whose code does no harm until it works; `ecco plugins check` cannot tell.
AT_WORK = tuple(
    name for name in zoo.ANIMALS if re.search("run$|^leaves|^returns-(text|no)|^capt|^rend|model$|globally", name)
)


@pytest.fixture(scope="session")
def seen(tmp_path_factory):
    """What the keeper saw of each animal alone, and of all of them."""
    folder = tmp_path_factory.mktemp("zoo")
    env = {k: v for k, v in os.environ.items() if k != "ECCO_BLOCK_PLUGINS"}
    command = [sys.executable, zoo.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("\n") == 1, "nothing but the keeper prints to standard output"
    return json.loads(done.stdout)


def test_the_page_tells_of_every_animal():
    assert [row[0] for row in ROWS] == sorted(zoo.ANIMALS, key=[row[0] for row in ROWS].index)


@pytest.mark.parametrize(("name", "said"), [(name, said) for name, _, said in ROWS])
def test_an_animal_is_named_and_the_rest_works(seen, name, said):
    alone = seen[name]
    faults = [fault for fault in alone["check_json"] if f"zoo-{name}" in fault["plugin"]]
    told = [f"{f['plugin']} {f['version']}: {f['reason']}\n{f['remedy']}" for f in faults]
    told += [alone["discovery"], alone["used"][name]]
    assert said.encode().decode("unicode_escape") in "\n".join(told) or said in "\n".join(told), told
    assert bool(faults) == (name not in AT_WORK)
    assert all(fault["version"].endswith("1.0") and fault["reason"] and fault["remedy"] for fault in faults)
    if name in AT_WORK:
        assert f"zoo-{name} 1.0" in alone["used"][name]
    assert alone["changed"] == []
    assert [what for what, works in alone["neighbours"].items() if not works] == []
    (record,) = (record for record in alone["list_json"] if record["plugin"] == f"zoo-{name}")
    assert record["seconds"] < 60
    assert (record["seconds"] > 0.5) >= (name == "imports-slowly")


def test_all_of_them_at_once(seen):
    everything = seen["all"]
    assert everything["changed"] == []
    assert [what for what, works in everything["neighbours"].items() if not works] == []
    for command, code in (("list", 0), ("check", 1)):
        out, err, found = everything[command]
        assert found == code
        assert "Traceback" not in out + err
        assert not [c for c in out if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"]
        for name in zoo.ANIMALS:
            lines = out.split(f"zoo-{name} 1.0")[1:] or [out.partition(f"zoo-{name} ")[2]]
            if name not in AT_WORK:
                assert any("to mend it: " in text for text in lines) or command == "list", name
    records = {record["plugin"]: record for record in everything["list_json"]}
    assert {records[f"zoo-{name}"]["status"] for name in AT_WORK} == {"loaded"}
    assert records["zoo-good"]["status"] == records["ecco-captum"]["status"] == "loaded"


def test_ctrl_c_stops_an_import_and_nothing_is_kept_of_it(tmp_path):
    interrupt = "lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)"
    code = f"import signal, threading, time\nthreading.Timer(0.4, {interrupt}).start()\ntime.sleep(60)"
    place = zoo.install("never-ends", code, tmp_path)
    script = (
        "from ecco_core import guard; guard.SLOW = 0.1; from ecco_core.cli.main import main; main(['plugins', 'list'])"
    )
    env = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[0].startswith("Waiting for zoo-never-ends 1.0 to be imported. Ctrl-C stops that")
    assert done.stderr.splitlines()[-1] == "Interrupted."


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=15, n_embd=8, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config).eval()
    guard.lock_of(model)
    return model


def test_looking_after_a_model_is_cheap(model, monkeypatch):
    """A few calls for each module, once: what a step of a model is measured against (0.8 ms, docs/reliability.md)."""
    monkeypatch.setattr(guard, "_LOCKS", weakref.WeakKeyDictionary())
    guard.lock_of(model)
    events = collections.Counter()
    sys.setprofile(lambda frame, event, value: events.update([event]))
    try:
        with guard.undoing():
            pass
    finally:
        sys.setprofile(None)
    assert 2 < (events["call"] + events["c_call"]) / len(list(model.modules())) < 40


def test_hooks_that_are_taken_away_come_back(model):
    mine = model.register_forward_hook(lambda *_: None)
    with guard.undoing() as left:
        mine.remove()
        hers = model.register_forward_pre_hook(lambda *_: None)
    assert left == ["left hooks on the model (2)"]
    assert mine.id in model._forward_hooks
    assert not model._forward_pre_hooks
    mine.remove()
    hers.remove()
    with guard.undoing() as left:
        pass
    assert left == []


def test_hooks_of_transformers_stay(make_lm):
    lm = make_lm("llama", attn_implementation="eager")
    guard.lock_of(lm.model)
    ids = torch.tensor([[1, 2]])
    with guard.undoing() as left:
        first = lm.model(ids, output_attentions=True).attentions
    again = lm.model(ids, output_attentions=True).attentions
    assert (left, len(first), len(again)) == ([], 2, 2)


def test_another_threads_work_is_not_undone(model):
    """A block that begins and ends while another thread has hooks, or a block, leaves these alone."""
    inside, done = threading.Event(), threading.Event()

    def work():
        with guard.undoing():
            handle = model.register_forward_hook(lambda *_: None)
            inside.set()
            done.wait(10)
            handle.remove()

    thread = threading.Thread(target=work)
    with guard.undoing() as left:
        thread.start()
        inside.wait(10)
    assert (left, len(model._forward_hooks)) == ([], 1)
    done.set()
    thread.join()
    assert not model._forward_hooks


def test_random_numbers_of_a_program_with_threads_go_on(model):
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), done.wait(10)))
    thread.start()
    ready.wait(10)
    before = torch.get_rng_state()
    with guard.undoing() as left:
        torch.rand(1)
    done.set()
    thread.join()
    assert left == []
    assert not torch.equal(torch.get_rng_state(), before)


def test_no_analysis_of_ours_is_warned_of(prose):
    run = prose.generate("The captain is called", max_new_tokens=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        for name in ("saliency", "lrp", "attention_flow", "logit_lens", "kernel_shap", "pca"):
            options = {"n_components": 2} if name == "pca" else {}
            assert not [note for note in run.analyze(name, **options).notes if "put it right" in note]


def test_the_warning_is_about_the_users_line_and_hooks_of_parameters_come_back(prose, monkeypatch):
    run, weight, told = prose("The captain"), next(prose.model.parameters()), []
    module, _, name = plugins().analysis("saliency").spec.target.partition(":")
    ours = getattr(importlib.import_module(module), name)

    @functools.wraps(ours)
    def beast(ctx, **options):
        weight._backward_hooks.clear()
        return ours(ctx, **options)

    monkeypatch.setattr(f"{module}.{name}", beast)
    handle = weight.register_hook(lambda gradient: gradient)
    for call in (run.analyze, lambda name: analyze(name, run)):
        with pytest.warns(PluginWarning, match=r"hooks on the model \(1\)") as caught:
            call("saliency")
        told.append(caught[0].filename)
        assert len(weight._backward_hooks) == 1
    handle.remove()
    assert told == [__file__, __file__]


def test_a_note_names_the_plugin(seen):
    used = seen["leaves-hooks"]["used"]["leaves-hooks"].splitlines()
    assert used[0] == "zoo-leaves-hooks 1.0 left hooks on the model (4); Ecco put it right."
