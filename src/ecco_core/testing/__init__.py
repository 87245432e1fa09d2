"""The contract of a plugin as tests: subclass one class per kind of thing that the plugin brings.

A subclass needs one line, and pytest runs one check per promise of ``docs/contract.md``::

    from ecco_core.testing import AnalysisContract

    class TestNorms(AnalysisContract):
        name = "norms"

Needs pytest and hypothesis: ``pip install 'ecco-core[testing]'``.
"""

from importlib.util import find_spec

from ecco_core.errors import MissingDependencyError

for _library in ("pytest", "hypothesis"):
    if find_spec(_library) is None:
        raise MissingDependencyError(f"ecco_core.testing needs {_library}: pip install 'ecco-core[testing]'")

from ecco_core.testing import invariances, strategies  # noqa: E402
from ecco_core.testing.analyses import AnalysisContract  # noqa: E402
from ecco_core.testing.captures import CaptureContract  # noqa: E402
from ecco_core.testing.commands import CommandContract  # noqa: E402
from ecco_core.testing.contract import Contract  # noqa: E402
from ecco_core.testing.model_configs import ModelConfigContract  # noqa: E402
from ecco_core.testing.model_sources import ModelSourceContract  # noqa: E402
from ecco_core.testing.renderers import RendererContract  # noqa: E402

__all__ = [
    "AnalysisContract",
    "CaptureContract",
    "CommandContract",
    "Contract",
    "ModelConfigContract",
    "ModelSourceContract",
    "RendererContract",
    "invariances",
    "strategies",
]
