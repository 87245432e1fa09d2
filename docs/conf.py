"""How Sphinx builds the site: `make docs` (see docs/site.md)."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

# Kernels of the tutorials inherit these: offline, quiet, one thread.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # bars of notebooks need ipywidgets; none is drawn here
    "TRANSFORMERS_VERBOSITY": "error",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}

ROOT = Path(__file__).parent.parent
project = "Ecco"
author = copyright = "The Ecco-core developers"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

# The source is the whole repository, so that links between its pages are the same here and on GitHub.
root_doc = "docs/index"
include_patterns = [
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**", "plugins/*/*/README.md",
    "examples/*/README.md", "plugins/models/tiny/src/ecco_tiny/models/*/README.md",
]  # fmt: skip
exclude_patterns = [
    ".*", "**/.*", "build", "dist", "site", "src", "tests", "benchmarks", "model_registry", "**/tests", "**/training",
    "docs/_*",
]  # fmt: skip

extensions = ["myst_nb"]
myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_output_stderr = "remove-warn"  # an unexpected warning in a tutorial is an error of the build
suppress_warnings = ["myst.header"]  # pages for GitHub may begin with a table of shields or skip a level

html_theme = "furo"
html_title = "Ecco"
html_static_path = ["_static"]
html_css_files = ["ecco.css"]
html_extra_path = ["_extra"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "friendly", "monokai"
