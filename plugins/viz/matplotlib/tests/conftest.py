"""Lets the tests import what stands beside them (pytest's import mode leaves the path alone)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
