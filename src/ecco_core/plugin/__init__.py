"""How others join: value objects that register, and the manager that finds them. Strings only, no tensors."""

from ecco_core.plugin.hookspecs import EccoSpecs, hookimpl
from ecco_core.plugin.specs import AnalysisSpec, CaptureSpec, CommandSpec, ModelSource, RendererSpec

__all__ = ["AnalysisSpec", "CaptureSpec", "CommandSpec", "EccoSpecs", "ModelSource", "RendererSpec", "hookimpl"]
