"""How long the light commands take: import, listing, help; wall seconds in fresh processes, over bare Python.

python benchmarks/start_up.py
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ECCO = shutil.which("ecco", path=str(Path(sys.executable).parent)) or "ecco"
COMMANDS = {
    "bare python": [sys.executable, "-c", "pass"],
    "import ecco_core": [sys.executable, "-c", "import ecco_core"],
    "ecco plugins list": [ECCO, "plugins", "list"],
    "ecco run integrated_gradients --help": [ECCO, "run", "integrated_gradients", "--help"],
}


def median(command: list[str], repeats: int = 9) -> float:
    """Median wall seconds of a command, after one run that warms the file cache."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    bare = 0.0
    for name, command in COMMANDS.items():
        taken = median(command)
        bare = bare or taken
        print(f"{name:<40} {taken:.3f} s   over bare Python {taken - bare:+.3f} s")
