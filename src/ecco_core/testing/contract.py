"""What all contracts share: which of a plugin's things are checked, and that a check is not silently switched off."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import pytest
from packaging.utils import canonicalize_name

from ecco_core.errors import EccoError, listed
from ecco_core.plugin.manager import Offer, plugins
from ecco_core.testing.fresh import NUMERIC, imported


def broken(who: str, found: str, mend: str) -> NoReturn:
    """Fail the check in one line: who broke the promise, what was found, and how to mend it."""
    raise pytest.fail.Exception(f"{who}: {found.rstrip('.')}. {mend}", pytrace=False) from None


class Contract:
    """The promises that every plugin gives, whatever it brings.

    Attributes:
        name: the one thing to check, as users call it; or
        distribution: all things of one kind that this distribution brings.
    """

    name: ClassVar[str] = ""
    distribution: ClassVar[str] = ""
    hook: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        for base in cls.__mro__[1:]:
            for check in vars(base):
                if check.startswith("test_") and check in vars(cls) and base.__module__.startswith(__package__ or ""):
                    _require_reason(cls, base, check)

    @classmethod
    def offers(cls, check: str = "") -> list[Offer[Any]]:
        """What is checked, by the check of that name.

        Raises:
            CollectError: nothing of that name, or of that distribution, is installed.
        """
        if bool(cls.name) == bool(cls.distribution):
            raise pytest.Collector.CollectError(
                f'{cls.__name__}: set name = "..." for one, or distribution = "..." for all of its.'
            )
        if cls.name:
            found = plugins().find(cls.hook, cls.name)
            offers = [found] if found else []
        else:
            wanted = canonicalize_name(cls.distribution)
            offers = [offer for offer in plugins().offers(cls.hook) if canonicalize_name(offer.distribution) == wanted]
        if not offers:
            raise pytest.Collector.CollectError(
                f"{cls.__name__}: {cls.name or cls.distribution!r} is not offered by {cls.hook}{_why(cls)}"
            )
        return offers

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One pytest id for each thing that is checked."""
        offers = self.offers(metafunc.function.__name__)
        if "offer" in metafunc.fixturenames:
            metafunc.parametrize("offer", offers, ids=[label_of(offer) for offer in offers])
        if "plugin" in metafunc.fixturenames:
            names = sorted({offer.distribution for offer in offers})
            metafunc.parametrize("plugin", names, ids=names)

    def test_import_is_light(self, plugin: str) -> None:
        """Importing the plugin and calling its hooks imports no heavy library and prints nothing."""
        found = imported(plugin)
        if found.heavy:
            broken(plugin, f"importing it imports {listed(found.heavy)}", "Import them inside of the functions.")
        if found.printed:
            broken(plugin, f"importing it prints {found.printed[:60]!r}", "Take the print out.")


class TargetContract(Contract):
    """The promises about a target, which a spec names as a string."""

    def target(self, offer: Offer[Any]) -> Any:
        """The target, imported; another check says why if it cannot be."""
        try:
            return offer.load()
        except EccoError:
            return pytest.skip("its target does not load; test_target_is_lazy says why")

    def test_target_is_lazy(self, offer: Offer[Any]) -> None:
        """The target is imported when it is used and not before; it is there, and imports no heavy library itself."""
        found = imported(offer.distribution)
        module = offer.spec.target.partition(":")[0]
        if reason := found.failed.get(offer.spec.target):
            broken(offer.spec.name, f"{offer.spec.target} does not load: {reason}", "Name what is there.")
        if module in found.early:
            broken(
                offer.spec.name,
                f"{module} is imported together with the entry point",
                "Leave the import to the spec's target, a string.",
            )
        heavy = set(found.of_targets.get(module, ())) - NUMERIC
        if heavy:
            broken(offer.spec.name, f"importing {module} imports {listed(sorted(heavy))}", "Import them in functions.")


def label_of(offer: Offer[Any]) -> str:
    """The name of a thing in pytest's ids."""
    return str(getattr(offer.spec, "name", getattr(offer.spec, "stem", offer.spec)))


def _why(cls: type[Contract]) -> str:
    records = plugins().records
    unusable = [r for r in records if r.status != "loaded" and cls.distribution in ("", r.distribution)]
    told = [f"{r.distribution} is {r.status}: {r.reason}" for r in unusable]
    return f"; {listed(told, 3)}." if told else f". Installed plugins: {listed(r.distribution for r in records)}."


def _require_reason(cls: type, base: type, check: str) -> None:
    """Refuse a check that is overridden, or set to None, without a reason that a reader can see."""
    marks = getattr(vars(cls)[check], "pytestmark", ())
    if not any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks):
        raise pytest.Collector.CollectError(
            f"{cls.__name__} overrides {check} of {base.__name__}. A promise that is not kept says why: mark the "
            'method with @pytest.mark.xfail(reason="...").'
        )
