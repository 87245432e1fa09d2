"""What importing a plugin brings with it, seen in a fresh Python."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import attrs

from ecco_core.errors import EccoError

#: Libraries that take long to import; those in `NUMERIC` may be imported by a target's module, not by the entry point.
NUMERIC = frozenset({"numpy"})
HEAVY = NUMERIC | {"torch", "transformers", "captum", "sklearn", "scipy", "pandas", "matplotlib", "tensorflow", "jax"}
HEAVY |= {"rich", "IPython", "plotly", "numba", "umap", "xarray", "statsmodels", "networkx", "seaborn", "bokeh"}

_PROBE = """
import contextlib, importlib.metadata, io, json, sys
from ecco_core.errors import one_line
from ecco_core.plugin.manager import load_distribution
name, heavy = sys.argv[1], set(json.loads(sys.argv[2]))
def loaded(): return heavy & {module.split(".")[0] for module in sys.modules}
printed, before = io.StringIO(), set(sys.modules)
with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
    record = load_distribution(importlib.metadata.distribution(name))
specs = [spec for found in record.specs.values() for spec in found if hasattr(spec, "target")]
entries = {entry.value.partition(":")[0] for entry in importlib.metadata.distribution(name).entry_points}
modules = {spec.target.partition(":")[0] for spec in specs}
told = {"heavy": sorted(loaded()), "early": sorted((modules & set(sys.modules)) - entries - before),
        "printed": printed.getvalue(), "of_targets": {}, "failed": {}}
for spec in specs:
    have = loaded()
    try:
        spec.load()
    except Exception as error:
        told["failed"][spec.target] = one_line(error)
    told["of_targets"].setdefault(spec.target.partition(":")[0], sorted(loaded() - have))
print(json.dumps(told))
"""


@attrs.frozen
class Imported:
    """What one distribution imports.

    Attributes:
        heavy: heavy libraries, `early` targets' modules that are imported with its entry point.
        printed: what it printed then.
        of_targets: module of a target -> heavy libraries that it imports. `failed`: target -> why it does not load.
    """

    heavy: list[str]
    early: list[str]
    printed: str
    of_targets: dict[str, list[str]]
    failed: dict[str, str]


@functools.cache
def imported(distribution: str) -> Imported:
    """Import a distribution's entry point and then its targets in a fresh process; once for each distribution.

    Raises:
        EccoError: that process failed.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _PROBE, distribution, json.dumps(sorted(HEAVY))],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise EccoError(f"{distribution} cannot be imported by itself: {done.stderr.strip().splitlines()[-1:]}")
    return Imported(**json.loads(done.stdout.splitlines()[-1]))
