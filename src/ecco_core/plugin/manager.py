"""Find the installed plugins, load each inside a guard, and look their specs up by name."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import attrs
import pluggy
from packaging.utils import canonicalize_name

from ecco_core import guard
from ecco_core.errors import AnalysisNotFoundError, PluginError, did_you_mean, listed, one_line
from ecco_core.plugin.hookspecs import PROJECT, EccoSpecs
from ecco_core.plugin.specs import AnalysisSpec

GROUP = "ecco"
#: Hook -> class of what it returns.
HOOKS = {name: get_args(get_type_hints(hook)["return"])[0] for name, hook in vars(EccoSpecs).items() if name[0] != "_"}
Spec = TypeVar("Spec")


@attrs.frozen
class Offer(Generic[Spec]):
    """A spec and the distribution that registered it."""

    spec: Spec
    distribution: str
    version: str

    def load(self) -> Any:
        """Return the spec's target, imported now.

        Raises:
            PluginError: importing it failed.
        """
        spec: Any = self.spec
        imported, by = spec.target.partition(":")[0] in sys.modules, (self.distribution, self.version)
        block = contextlib.nullcontext([]) if imported else guard.importing(*by, guard.LONG)
        with self.at_work(repr(spec.name), f"does not load: {spec.target}", block):
            return spec.load()

    def at_work(self, what: str, failed: str = "failed", block: Any = None) -> Any:
        """Return the block in which its code may work; see `guard.at_work`."""
        who = f"{what} of {self.distribution} {self.version}"
        return guard.at_work(who, self.distribution, failed, block or guard.undoing())


@attrs.define
class Record:
    """What became of one plugin distribution.

    Attributes:
        status: ``loaded``, ``blocked``, ``incompatible`` or ``broken``.
        reason: one line, empty when loaded. `remedy`: what to do about it. `traceback`: of what it raised.
        specs: what it offers, by hook. `seconds`: how long its import took. `faults`: what that did to others.
    """

    distribution: str
    version: str
    status: str = "loaded"
    reason: str = ""
    remedy: str = ""
    traceback: str = ""
    specs: dict[str, tuple[Any, ...]] = attrs.field(factory=dict)
    seconds: float = 0.0
    faults: list[str] = attrs.field(factory=list)

    def fail(self, status: str, reason: str, remedy: str, error: BaseException | None = None) -> Record:
        """Note why it cannot be used, forget its specs, and return itself."""
        self.status, self.reason, self.remedy, self.specs = status, reason, remedy, {}
        if error is not None:
            lines = traceback.format_tb(error.__traceback__)
            self.traceback = "".join(["Traceback (most recent call last):\n", *lines, one_line(error)])
        return self


class PluginManager:
    """All plugins of this environment; broken ones are records, not exceptions."""

    def __init__(self, distributions: Iterable[importlib.metadata.Distribution] | None = None) -> None:
        blocked = {canonicalize_name(n.strip()) for n in os.environ.get("ECCO_BLOCK_PLUGINS", "").split(",")}
        found = importlib.metadata.distributions() if distributions is None else distributions
        # the first of a name on sys.path is the one that gets imported
        named = {name: dist for dist in reversed(list(found)) if (name := _plugin_name(dist))}
        self.records = [load_distribution(dist, blocked) for dist in named.values()]
        self.records.sort(key=lambda record: record.distribution)

    def offers(self, hook: str) -> Iterator[Offer[Any]]:
        """Everything registered through `hook`, in order of distribution."""
        for record in self.records:
            for spec in record.specs.get(hook, ()):
                yield Offer(spec, record.distribution, record.version)

    def find(self, hook: str, name: str) -> Offer[Any] | None:
        """Return the offer called `name`, or ``dist:name``; None if there is none.

        Raises:
            PluginError: several distributions claim that bare name, as a name or an alias.
        """
        distribution, _, bare = name.rpartition(":")
        offers = [offer for offer in self.offers(hook) if distribution in ("", offer.distribution)]
        found = [offer for offer in offers if bare in (offer.spec.name, *getattr(offer.spec, "aliases", ()))]
        if len(owners := sorted({offer.distribution for offer in found})) > 1:
            names = " or ".join(repr(f"{owner}:{bare}") for owner in owners)
            raise PluginError(f"{bare!r} is offered by {listed(owners)}; say {names}.")
        return min(found, key=lambda offer: bool(offer.spec.name != bare), default=None)

    def analysis(self, name: str) -> Offer[AnalysisSpec]:
        """Return the analysis called `name`.

        Raises:
            AnalysisNotFoundError: none is; the message has the nearest name or the install that brings it.
            PluginError: several distributions claim the name.
        """
        from ecco_core.plugin.catalogue import install_for

        offer = self.find("ecco_analyses", name)
        if offer is not None:
            return offer
        install = install_for(name)
        if install:
            raise AnalysisNotFoundError(f"The analysis {name!r} is not installed: {install}{self._why_not(install)}")
        specs = [offer.spec for offer in self.offers("ecco_analyses")]
        near = did_you_mean(name, [known for spec in specs for known in (spec.name, *spec.aliases)])
        installed = listed(spec.name for spec in specs)
        raise AnalysisNotFoundError(f"No analysis is called {name!r}.{near} Installed: {installed}.")

    def _why_not(self, install: str) -> str:
        """Say so if the plugin that `install` would bring is there but not usable."""
        unusable = (r for r in self.records if r.status != "loaded" and install.endswith(f" {r.distribution}"))
        return next((f" (it is here, but {r.status}: {r.reason})" for r in unusable), "")


@functools.cache
def plugins() -> PluginManager:
    """Return the manager of this process's plugins; discovered once, at the first call."""
    return PluginManager()


def _plugin_name(dist: importlib.metadata.Distribution) -> str:
    """The distribution's canonical name if it has an entry point of ours; nothing if its metadata cannot be read."""
    try:
        is_plugin = dist.read_text("entry_points.txt") and any(e.group == GROUP for e in dist.entry_points)
        return canonicalize_name(dist.metadata["Name"]) if is_plugin else ""
    except Exception:
        return ""


def load_distribution(dist: importlib.metadata.Distribution, blocked: Iterable[str] = ()) -> Record:
    """Gate, load and collect one distribution; whatever goes wrong ends in the record."""
    record = Record(dist.metadata["Name"], dist.version if "Version" in dist.metadata else "(no version)")
    if canonicalize_name(record.distribution) in blocked:
        return record.fail("blocked", "named in ECCO_BLOCK_PLUGINS", "take its name out of that variable")
    uninstall, where, start = f"pip uninstall {record.distribution}", "its metadata", time.perf_counter()
    try:
        if mismatch := _core_mismatch(dist):
            return record.fail("incompatible", mismatch, f"install versions that fit, or {uninstall}")
        with guard.importing(record.distribution, record.version, guard.SLOW) as record.faults:
            for entry in dist.entry_points:
                if entry.group == GROUP:
                    where = f"entry point {entry.value!r}"
                    _collect(entry.load(), record)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        remedy = f"tell its authors, or {uninstall}"
        if isinstance(error, ModuleNotFoundError) and error.name and not where.startswith(f"entry point '{error.name}"):
            remedy = f"pip install {error.name.split('.')[0]}"
        record.fail("broken", f"{where}: {one_line(error)}", remedy, error)
    record.seconds = time.perf_counter() - start
    if record.seconds > guard.SLOW:
        record.faults.append(f"took {record.seconds:.1f} s to be imported; heavy libraries belong inside of functions")
    return record


def _core_mismatch(dist: importlib.metadata.Distribution) -> str:
    """Read the distribution's own requirement on us before any of its code runs."""
    from packaging.requirements import Requirement

    from ecco_core import __version__

    for requirement in map(Requirement, dist.requires or ()):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ours = applies and canonicalize_name(requirement.name) == "ecco-core"
        if ours and not requirement.specifier.contains(__version__, prereleases=True):
            return f"requires ecco-core{requirement.specifier}, this is {__version__}"
    return ""


def _collect(plugin: object, record: Record) -> None:
    """Call the plugin's hooks and keep what they return: all of it, or none if one of them is wrong."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(EccoSpecs)
    manager.register(plugin)
    specs: dict[str, tuple[Any, ...]] = {}
    for caller in manager.get_hookcallers(plugin) or ():
        if caller.name not in HOOKS:
            raise PluginError(f"no hook is called {caller.name!r}.{did_you_mean(caller.name, HOOKS)}")
        for implementation in caller.get_hookimpls():
            if implementation.hookwrapper or implementation.wrapper:
                raise PluginError(f"{caller.name} is a wrapper; hooks of Ecco only register")
            specs[caller.name] = tuple(_checked(caller.name, implementation.function()))
    if not specs:
        raise PluginError(f"none of its functions is a hook of Ecco; mark {listed(HOOKS)} with @hookimpl")
    record.specs.update({hook: record.specs.get(hook, ()) + found for hook, found in specs.items()})


def _checked(hook: str, returned: Any) -> Iterator[Any]:
    wanted = HOOKS[hook]
    if isinstance(returned, (str, bytes)) or not isinstance(returned, Iterable):
        raise PluginError(f"{hook} must return specs ({wanted.__name__}), found {type(returned).__name__}")
    for count, spec in enumerate(returned):
        if count >= 10_000:
            raise PluginError(f"{hook} returns no end of specs")
        if type(spec) is not wanted and not (wanted is Path and isinstance(spec, Path)):
            raise PluginError(f"{hook} must return {wanted.__name__} objects, found {type(spec).__name__}")
        yield spec
