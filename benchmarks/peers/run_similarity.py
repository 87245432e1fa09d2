"""Time a library's similarity measures. python run_similarity.py ecco|ours ARRAYS.npz ROUNDS

Prints one JSON object: measure -> processor seconds of each round, and the value. The arrays `x` and `y` are
``(token, unit)``, float32; Ecco 0.1.2 takes ``(unit, token)``.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import numpy as np


def main(library: str, file: str, rounds: str) -> None:
    """Time each measure on the two arrays."""
    warnings.filterwarnings("ignore")
    x, y = (np.load(file)[name] for name in ("x", "y"))
    module: Any
    if library == "ecco":
        from ecco import analysis as module

        x, y = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
        svcca: dict[str, Any] = {"dims": 20}
    else:
        import ecco_similarity as module

        svcca = {"n_components": 20}
    works = {"cca": {}, "svcca": svcca, "pwcca": {}, "cka": {}}
    found = {}
    for name, options in works.items():
        seconds, value = [], 0.0
        for n in range(int(rounds) + 1):  # the first warms up
            start = time.process_time()
            value = float(getattr(module, name)(x, y, **options))
            seconds += [time.process_time() - start] if n else []
        found[name] = {"seconds": seconds, "value": value}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
