"""Ctrl-C at a random moment of every kind of work: model, files and settings are as before, and so are the numbers.

Half of the interrupts come at the k-th call of a Python function, for a random k: every call is a place where Python
lets a signal in, and most of what could go wrong, hooks being placed and taken away, is calls. The others come after a
random time. Both are real signals. What ``pytest -m slow -s tests/test_interrupts.py`` prints stands in
docs/reliability.md.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch._dynamo import eval_frame
from torch.nn.modules import module as torch_module
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import ecco_core as ecco
from ecco_core import interrupts as waiting, running
from ecco_core.data.storage import as_data
from ecco_core.models import hooks

TEXT = "The captain is called Nora. The cook is called"
TARGETS = [4, 9]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
EVERYWHERE = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")


class Interrupts:
    """A model in an unusual state, works on it, and what an interrupt must leave as it was."""

    def __init__(self, lm, folder: Path) -> None:
        self.lm, self.model, self.file = lm, lm.model, folder / "why.ecco"
        self.model.train()
        self.layers = lm.architecture.n_layers(lm.stack)
        lm.architecture.place("resid_post", 0, lm.stack).module.eval()
        next(self.model.parameters()).requires_grad_(False)
        self.users = self.model.register_forward_hook(lambda *_: None)  # a hook of the user's stays
        self.small, self.large = (self.run().analyze("saliency", targets=t) for t in ([3], list(range(1, 10))))
        self.works = {
            "generate": lambda: [run.ids.tolist() for run in lm.generate([TEXT, "The cook"], max_new_tokens=4)],
            "capture": lambda: self.run().capture("mlp_post", "pattern", "q", "logits").get("pattern", 0).tolist(),
            "intervene": self.intervened,
            "gradients": lambda: self.analyzed("integrated_gradients", n_steps=3),
            "occlusion": lambda: self.analyzed("occlusion"),
            "deep_lift": lambda: self.analyzed("deep_lift"),
            "layers": lambda: self.analyzed("layer_conductance", layer=1, n_steps=3),
            "lrp": lambda: self.analyzed("lrp", score="logit"),
            "attention": lambda: self.analyzed("attention_norms"),
            "save": self.saved,
        }
        self.sizes, self.seconds, self.expected = {}, {}, {}
        for name, work in self.works.items():
            work()  # imports, proofs, what transformers sets up once
            started = time.perf_counter()
            self.expected[name] = work()
            self.seconds[name] = time.perf_counter() - started
        gc.collect()
        self.state = self.look()
        for name, work in self.works.items():
            self.sizes[name] = calls_of(work)

    def run(self):
        return self.lm(TEXT)

    def analyzed(self, name, **options):
        return as_data(self.run().analyze(name, targets=TARGETS, **options))

    def intervened(self):
        changes = [ecco.scale("mlp_post", 2.0, 0), ecco.ablate("pattern", 1, heads=[0])]
        with self.lm.intervene(*changes):
            run = self.lm.generate(TEXT, max_new_tokens=2)
            return run.ids.tolist(), run.logits().tolist(), run.analyze("saliency").values.values.tolist()

    def saved(self):
        self.large.save(self.file)
        self.small.save(self.file)
        return ecco.load(self.file).values.values.tolist()

    def look(self):
        """What must be the same after an interrupt as before; all of it can be compared with ``==``."""
        parts = [*self.model.parameters(), *self.model.buffers()]
        modules = list(self.model.modules())
        configs = {id(m.config): m.config._attn_implementation for m in modules if hasattr(m, "config")}
        return {
            "hooks": [list(getattr(module, name)) for module in modules for name in HOOKS],
            "hooks everywhere": [list(getattr(torch_module, name)) for name in EVERYWHERE],
            "hooks of parameters": [part._backward_hooks for part in parts],
            "training": [module.training for module in modules],
            "requires_grad": [part.requires_grad for part in parts],
            "gradients": [part.grad for part in self.model.parameters()],
            "parameters": [part.detach().numpy().tobytes() for part in parts],
            "forwards": [vars(module).get("forward") for module in modules],
            "attention": configs,
            "attention functions": [ALL_ATTENTION_FUNCTIONS.get(name) for name in ("sdpa", "eager")],
            "compiling": eval_frame._stance,
            "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
            "interventions": self.lm.active,
            "files": sorted(path.name for path in self.file.parent.iterdir()),
            "SIGINT": signal.getsignal(signal.SIGINT),
        }

    def is_free(self):
        """Whether another thread gets at the model."""
        found = []
        thread = threading.Thread(target=lambda: found.append(self.lm.active))
        thread.start()
        thread.join(5)
        return found == [()]

    def once(self, name, rng, how):
        """Interrupt a work once; return ``interrupted`` or ``finished``, and what was not as before."""
        strike = AtCall if how == "call" else After
        limit = self.sizes[name] if how == "call" else self.seconds[name]
        ended, work = "finished", self.works[name]
        try:
            with strike(rng.uniform(0, limit)):
                work()
            while waiting := [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
                waiting[0].join()  # Ctrl-C came while something was put back
        except KeyboardInterrupt:
            ended = "interrupted"
        except ecco.EccoError as error:
            ended = f"{type(error).__name__}: {error}"
        wrong = [] if ended in ("finished", "interrupted") else [ended]
        wrong += [what for what, now in self.look().items() if now != self.state[what]]
        wrong += [] if self.is_free() else ["lock"]
        if name == "save":
            whole = ecco.load(self.file).values.shape
            wrong += [] if whole in (self.small.values.shape, self.large.values.shape) else ["file"]
        wrong += [] if work() == self.expected[name] else ["numbers"]
        return ended, wrong


class AtCall:
    """Send Ctrl-C at the k-th call of a Python function in the block."""

    def __init__(self, k):
        self.left = k

    def __enter__(self):
        sys.settrace(self.count)
        return self

    def count(self, frame, event, argument):
        self.left -= 1
        if self.left < 0:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)

    def __exit__(self, *error):
        sys.settrace(None)


class After:
    """Send Ctrl-C some seconds after the block began, if it still runs."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, max(self.seconds, 1e-6))

    def __exit__(self, *error):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


def calls_of(work):
    """Number of calls of Python functions."""
    with AtCall(10**9) as counted:
        work()
    return 10**9 - counted.left


def interrupts(place, count, seed=0):
    """Interrupt the kinds of work in turn; return how each ended, and after which what was not as before."""
    rng, ends, faults = random.Random(seed), collections.defaultdict(collections.Counter), []
    for n in range(count):
        name = list(place.works)[n % len(place.works)]
        how = ("call", "time")[n // len(place.works) % 2]
        ended, wrong = place.once(name, rng, how)
        ends[name][ended] += 1
        if wrong:
            faults.append((n, name, how, *wrong))
            place.state = place.look()  # each fault counts once
    return ends, faults


def table(ends, faults):
    """The figures of docs/reliability.md."""
    yield "| work | runs | interrupted | through before it came | not as before |"
    yield "| --- | --- | --- | --- | --- |"
    for name, of in ends.items():
        wrong = sum(name == fault[1] for fault in faults)
        yield f"| {name} | {of.total()} | {of['interrupted']} | {of['finished']} | {wrong} |"
    total = sum(ends.values(), collections.Counter())
    yield f"| all | {total.total()} | {total['interrupted']} | {total['finished']} | {len(faults)} |"


@pytest.fixture(scope="module", autouse=True)
def as_in_a_terminal():
    """Ctrl-C raises KeyboardInterrupt, as it does where pytest does not run tests in processes of its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def place(make_lm, tmp_path_factory):
    return Interrupts(make_lm("gpt2"), tmp_path_factory.mktemp("saved"))


ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where Python passes over it


@ignored
def test_forty_interrupts_leave_everything_as_it_was(place):
    ends, faults = interrupts(place, 40)
    assert not faults
    assert sum(of["interrupted"] for of in ends.values()) > 15  # by calls; a quick machine may outrun the others


@ignored
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_thousand_interrupts_leave_everything_as_it_was(make_lm, tmp_path, kind):
    ends, faults = interrupts(Interrupts(make_lm(kind), tmp_path), 1000, seed=1)
    print(f"\n{kind}\n" + "\n".join(table(ends, faults)))
    assert not faults
    assert sum(of["interrupted"] for of in ends.values()) > 500


@ignored
@pytest.mark.slow
def test_interrupts_that_do_not_wait_are_found_out(make_lm, tmp_path, monkeypatch):
    for module in (hooks, running):
        monkeypatch.setattr(module, "patient", contextlib.nullcontext)
    place = Interrupts(make_lm("gpt2"), tmp_path)
    faults = []
    for n in range(1500):
        try:
            faults += place.once("capture", random.Random(n), "call")[1]
        except ecco.ArchitectureError:  # what was left of an earlier one reads the same site
            faults.append("hooks")
        if "hooks" in faults and "attention" in faults:
            return
    pytest.fail(f"of 1,500 interrupts at any call, none left hooks behind, or none another attention: {set(faults)}")


class Long:
    """A block that takes long to begin."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        self.began = time.monotonic()
        while time.monotonic() < self.began + self.seconds:
            time.sleep(0.001)

    def __exit__(self, *error):
        pass


def test_what_takes_too_long_to_begin_is_interrupted_all_the_same(monkeypatch):
    monkeypatch.setattr(waiting, "_LONGEST", 0.05)
    long, started = Long(5), time.monotonic()
    with pytest.raises(KeyboardInterrupt), waiting.patient(), After(0.02), long:
        pytest.fail("it was not interrupted")
    assert 0.05 < time.monotonic() - started < 2
    long = Long(0.04)
    with contextlib.suppress(KeyboardInterrupt), waiting.patient(), After(0.01), long:
        time.sleep(1)
    assert 0.04 < time.monotonic() - long.began < 0.5  # it was let finish, and no longer


def test_anothers_handler_of_the_signal_stays_in_charge():
    heard = []
    ours = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with waiting.patient():
            signal.raise_signal(signal.SIGINT)
        assert heard == [1]
    finally:
        theirs = signal.signal(signal.SIGINT, ours)
    with waiting.patient():
        signal.signal(signal.SIGINT, theirs)  # set in the block: the user's
    assert signal.signal(signal.SIGINT, ours) is theirs


def test_another_thread_has_no_signals_to_wait_with():
    found = []

    def work():
        with waiting.patient():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_an_interrupt_that_ended_while_it_waited_does_not_count_for_the_next(monkeypatch):
    monkeypatch.setattr(waiting, "_AGAIN", 0.05)
    monkeypatch.setattr(waiting, "_LONGEST", 0.1)
    with pytest.raises(KeyboardInterrupt), contextlib.ExitStack() as scope:  # noqa: PT012
        scope.callback(time.sleep, 1)  # the block is through by the time that it is asked again
        with waiting.patient(), After(0.01), Long(0.03):
            pass
    time.sleep(0.11)
    long = Long(0.05)
    with pytest.raises(KeyboardInterrupt), waiting.patient(), After(0.01), long:
        time.sleep(1)
    assert time.monotonic() - long.began >= 0.05


def test_where_threads_cannot_be_signalled_as_on_windows_it_waits_and_comes_too(monkeypatch):
    monkeypatch.delattr(signal, "pthread_kill")
    long = Long(0.03)
    threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt), waiting.patient(), long:  # noqa: PT012
        for _ in range(500):
            time.sleep(0.001)  # such a signal wakes nobody
    assert 0.03 <= time.monotonic() - long.began < 0.5
