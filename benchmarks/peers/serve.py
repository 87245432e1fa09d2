"""Answer requests for work, one JSON object a line: time, processor time, peak memory, and the numbers in a file.

Runs in an environment of its own, with whatever versions of everything that has; needs torch and numpy only.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

TIMED_S = 10.0  # how long a short work is done, so that what disturbs the machine meets all alike
#: Does a work on a text (prompt, prompt and answer, options); returns the token ids that were explained and arrays.
Work = Callable[..., tuple[list[int], Mapping[str, Any]]]


def memory(field: str) -> float:
    """Resident memory of this process in MB: ``VmRSS`` now, ``VmHWM`` the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def forget_peak() -> None:
    """Have the kernel count the most memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def measured(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
    """Do a work once; returns its figures, with its arrays in the file that the request names."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work freed is given back, so that it does not hide what this takes
    forget_peak()
    base = memory("VmRSS")
    times, ids, found = timed(work, request)
    peak = memory("VmHWM")
    if request["again"]:  # for its time: memory that was given back is slow to get anew
        every, until = [], time.perf_counter() + TIMED_S
        while time.perf_counter() < until:
            every.append(timed(work, request)[0])
        times = {clock: sum(each[clock] for each in every) / len(every) for clock in times}
    figures = {
        **times,
        "peak_mb": peak - base,
        "process_mb": peak,
        "ids": ids,
        "said": {name: value for name, value in found.items() if not hasattr(value, "shape")},
    }
    arrays = {name: np.asarray(value) for name, value in found.items() if hasattr(value, "shape")}
    np.savez(request["numbers"], **arrays)
    return figures


def timed(work: Work, request: Mapping[str, Any]) -> tuple[dict[str, float], list[int], Mapping[str, Any]]:
    """How long a work takes, in both kinds of seconds, and what it returns."""
    start, busy = time.perf_counter(), time.process_time()
    ids, found = work(request["prompt"], request["text"], **request["options"])
    return {"wall_s": time.perf_counter() - start, "processor_s": time.process_time() - busy}, ids, found


def serve(works: Mapping[str, Work]) -> None:
    """Answer the requests of standard input until it ends; what libraries print goes to standard error."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = measured(works[request["work"]], request)
            except Exception as error:  # a peer's failure is a finding
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"[:300]}
            out.write(json.dumps(answer) + "\n")
