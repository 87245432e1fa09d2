"""Lets the tests import what is beside them (pytest's import mode leaves the path alone), and gives them a browser."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from html_browsing import browser, pages, visit

__all__ = ["browser", "pages", "visit"]
