"""The public names and where they live; read by type checkers, and at run time by lazy_loader."""

from . import analysis as analysis, lm_plots as lm_plots
from .data.capture import Capture as Capture
from .data.labelled import LabelledArray as LabelledArray
from .data.results import (
    Components as Components,
    Curves as Curves,
    Fitted as Fitted,
    Grid as Grid,
    Heat as Heat,
    Patterns as Patterns,
    Points as Points,
    Predictions as Predictions,
    Provenance as Provenance,
    Report as Report,
    Result as Result,
    Rows as Rows,
    Source as Source,
    Table as Table,
    Target as Target,
    TokenGrid as TokenGrid,
    TokenScores as TokenScores,
    report as report,
)
from .data.shown import visible as visible
from .data.storage import load as load
from .data.tokens import Tokens as Tokens
from .data.transcript import Transcript as Transcript
from .errors import (
    AnalysisNotFoundError as AnalysisNotFoundError,
    ArchitectureError as ArchitectureError,
    EccoError as EccoError,
    MissingDependencyError as MissingDependencyError,
    ModelNotFoundError as ModelNotFoundError,
    OptionError as OptionError,
    PluginError as PluginError,
    PromptError as PromptError,
    RegistryError as RegistryError,
    RenderError as RenderError,
    StorageError as StorageError,
    TargetError as TargetError,
    did_you_mean as did_you_mean,
    halving as halving,
)
from .models.interventions import (
    Intervention as Intervention,
    ablate as ablate,
    add as add,
    replace as replace,
    scale as scale,
)
from .models.scores import ScoreModule as ScoreModule
from .plugin.hookspecs import hookimpl as hookimpl
from .plugin.manager import plugins as plugins
from .plugin.specs import (
    AnalysisSpec as AnalysisSpec,
    CaptureSpec as CaptureSpec,
    CommandSpec as CommandSpec,
    ModelSource as ModelSource,
    RendererSpec as RendererSpec,
)
from .running import Context as Context, analyze as analyze, options_for as options_for
from .session.language_model import LanguageModel as LanguageModel
from .session.opening import LM as LM, from_pretrained as from_pretrained
from .session.run import Run as Run, Runs as Runs

__version__: str
