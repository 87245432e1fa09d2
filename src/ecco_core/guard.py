"""What a plugin's code may not do to others: what it leaves changed is put back, what it prints goes aside."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ecco_core.data.shown import visible
from ecco_core.errors import EccoError, PluginError, PluginWarning, listed, one_line

Value = TypeVar("Value")
SLOW = 2.0  # seconds that the import of a plugin takes at most, if it is as light as it should be
LONG = 10.0  # seconds after which it is said that the import of something it offers is waited for
#: What all code of a process shares: the library, and its functions that tell and set it.
_SHARED = {
    "torch's gradient mode": ("torch", "is_grad_enabled", "set_grad_enabled"),
    "torch's default dtype": ("torch", "get_default_dtype", "set_default_dtype"),
    "torch's default device": ("torch", "get_default_device", "set_default_device"),
    "torch's number of threads": ("torch", "get_num_threads", "set_num_threads"),
    "numpy's error handling": ("numpy", "geterr", "seterr"),
    "torch's random generator": ("torch", "get_rng_state", "set_rng_state"),
    "numpy's random generator": ("numpy.random", "get_state", "set_state"),
    "Python's random generator": ("random", "getstate", "setstate"),
}
#: What libraries change as they go, umap the one and the import of scikit-learn or rich the other.
_OF_LIBRARIES = ("torch's number of threads", "Python's random generator")
_NONE: dict[int, Any] = {}  # one for all places without a hook: of a large model there are 100,000
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
#: The models that are looked after, each with the lock that its user holds.
_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()
_IMPORTING = threading.RLock()
_AT_WORK: list[tuple[int, list[tuple[_Model, threading.RLock]]]] = []  # thread and what it found, of each block


def lock_of(model: Any) -> threading.RLock:
    """Return the lock of a model, which is looked after from now on."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, threading.RLock())


class cached_property(functools.cached_property[Value]):  # noqa: N801 - as functools calls it
    """Without the lock of Python 3.11, one for all objects of a class: who holds it may wait for a model's."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        super().__init__(function)
        self.lock: Any = contextlib.nullcontext()


@contextlib.contextmanager
def at_work(
    who: str, owner: str, failed: str, block: contextlib.AbstractContextManager[list[str]]
) -> Iterator[list[str]]:
    """Let code of the distribution `owner` work in a block; warn of what that leaves behind, named in the list.

    Raises:
        PluginError: it raised something: ``who failed: …``.
    """
    left = list[str]()
    try:
        with block as left:
            yield left
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, EccoError) and (not isinstance(error, PluginError) or owner in str(error)):
            raise
        raise PluginError(f"{who} {failed}: {one_line(error)}") from error
    finally:
        if told := [one for one in left if "random" not in one]:  # libraries draw numbers, such as rich for links
            frame, level = sys._getframe(), 1  # those of Ecco itself are no place that a user looks at
            while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("ecco_core", "contextlib"):
                frame, level = frame.f_back, level + 1
            warnings.warn(f"{who} {listed(told)}; Ecco put it right.", PluginWarning, stacklevel=level)


@contextlib.contextmanager
def undoing() -> Iterator[list[str]]:
    """Put back, when the block ends, what it changed of what is not its own, and name that in the list it is given.

    Where several threads have such blocks, models are put back by the one that ends last. A model that another thread
    is using when the block begins or ends is left alone, and so are random generators in a program of several threads.
    """
    me, left = threading.get_ident(), list[str]()
    others = [kept for thread, kept in list(_AT_WORK) if thread != me]
    shared, mine = _shared(), (me, others[0] if others else _known_models())
    _AT_WORK.append(mine)
    try:
        yield left
    finally:
        _AT_WORK.remove(mine)
        left += _put_back(shared)
        for kept, lock in [] if any(thread != me for thread, _ in _AT_WORK) else mine[1]:
            with _if_free(lock) as free:
                left += kept.put_back() if free else []


def _known_models() -> list[tuple[_Model, threading.RLock]]:
    with _LOCKS_LOCK:
        known = list(_LOCKS.items())
    found = list[tuple[_Model, threading.RLock]]()
    for model, lock in known:
        with _if_free(lock) as free:
            found += [(_Model(model), lock)] if free else []
    return found


@contextlib.contextmanager
def importing(distribution: str, version: str, patience: float) -> Iterator[list[str]]:
    """As `undoing`, for an import: its prints go to standard error, and after `patience` seconds it is named there."""
    notice = f"Waiting for {distribution} {version} to be imported. Ctrl-C stops that; with "
    notice += f"ECCO_BLOCK_PLUGINS={distribution} it is left out."
    timer = threading.Timer(patience, lambda: print(visible(notice), file=sys.stderr, flush=True))
    timer.daemon = True
    aside = _Aside()
    timer.start()
    try:
        with _IMPORTING, contextlib.redirect_stdout(aside), undoing() as left:
            yield left
    finally:
        timer.cancel()
        left += ["printed, which went to standard error"] * aside.written


class _Aside:
    """Standard error, which knows whether something was written to it."""

    written = False

    def write(self, text: str) -> int:
        self.written = True
        return sys.stderr.write(text) if sys.stderr else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextlib.contextmanager
def _if_free(lock: threading.RLock) -> Iterator[bool]:
    """Hold a lock for the block, if no other thread does."""
    free = lock.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            lock.release()


def _shared() -> dict[str, Any]:
    """What is shared, of the libraries that are there."""
    threads = [t for t in threading.enumerate() if not t.daemon and t is not threading.current_thread()]
    found = {}
    for what, (library, tell, _) in _SHARED.items():
        read = getattr(sys.modules.get(library), tell, None)
        if read is not None and not (threads and what.endswith("generator")):
            found[what] = read()
    return found


def _put_back(before: dict[str, Any]) -> list[str]:
    """Set what differs from before, and name it."""
    now = _shared()
    if "torch's default dtype" in now.keys() - before.keys():  # torch came in the block
        before |= {"torch's gradient mode": True, "torch's default dtype": sys.modules["torch"].float32}
    differ = [what for what in before.keys() & now.keys() if _plain(before[what]) != _plain(now[what])]
    for what in differ:
        library, _, write = _SHARED[what]
        function = getattr(sys.modules[library], write)
        function(**before[what]) if isinstance(before[what], dict) else function(before[what])
    return [f"changed {what}" for what in sorted(differ) if what not in _OF_LIBRARIES]


def _plain(state: Any) -> Any:
    """A state as values that can be compared."""
    parts = state if isinstance(state, tuple) else (state,)
    arrays = [part.numpy() if hasattr(part, "numpy") else part for part in parts]
    return [array.tobytes() if hasattr(array, "tobytes") else array for array in arrays]


class _Model:
    """The hooks, modes and flags of a model at one moment."""

    def __init__(self, model: Any) -> None:
        modules = list(model.modules())
        everywhere = vars(sys.modules["torch.nn.modules.module"])
        self.modules = [(m.__dict__, m.training, m.__dict__.get("forward")) for m in modules]
        weights = [p for m in modules for p in m._parameters.values() if p is not None]
        self.parameters = [(p, p.requires_grad, p.grad is None) for p in weights]
        self.places = [state[name] for state, *_ in self.modules for name in _HOOKS]
        self.places += [everywhere[f"_global{name}"] for name in _HOOKS]
        self.hooks = [dict(hooks) if hooks else _NONE for hooks in (*self.places, *self._of_parameters())]

    def _of_parameters(self) -> Iterator[dict[int, Any]]:
        """Their hooks; torch makes the places for them when the first comes."""
        for parameter, *_ in self.parameters:
            for hooks in (parameter._backward_hooks, parameter._post_accumulate_grad_hooks):
                yield {} if hooks is None else hooks

    def put_back(self) -> list[str]:
        """Take away what came and put back what is gone, and tell what that was."""
        hooked, switched, replaced, flagged, filled = 0, 0, 0, 0, 0
        for hooks, before in zip((*self.places, *self._of_parameters()), self.hooks):
            if (hooks or before) and hooks.keys() != before.keys():
                stay = before | {key: hook for key, hook in hooks.items() if _of_transformers(hook)}
                hooked += len(hooks.keys() ^ stay.keys())
                hooks.clear()
                hooks.update(stay)
        for module, training, forward in self.modules:
            if module["training"] != training:
                module["training"], switched = training, switched + 1
            if module.get("forward") is not forward:
                replaced += 1
                module.pop("forward") if forward is None else module.update(forward=forward)
        for parameter, flag, empty in self.parameters:
            if parameter.requires_grad != flag:
                parameter.requires_grad, flagged = flag, flagged + 1
            if empty and parameter.grad is not None:
                parameter.grad, filled = None, filled + 1
        found = {"left hooks on the model": hooked, "changed modules' training mode": switched}
        found |= {"replaced modules' forward": replaced, "changed parameters' requires_grad": flagged}
        found |= {"left gradients in parameters": filled}
        return [f"{what} ({n})" for what, n in found.items() if n]


def _of_transformers(hook: Any) -> bool:
    """Whether transformers placed it for good, as it does where attentions are reported for the first time."""
    return str(getattr(hook, "__module__", "")).startswith("transformers.")
