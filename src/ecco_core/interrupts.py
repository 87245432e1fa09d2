"""Ctrl-C while a model is hooked: a block that begins or ends is let finish first."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_WHOLE = ("__enter__", "__exit__", "enter_context")  # functions that are not left half done
_LONGEST, _AGAIN = 1.0, 0.002  # seconds that Ctrl-C waits for them at most, and until it is tried again
_ASKED: list[float] = []  # when the user asked, while it waits


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Have Ctrl-C wait, in the block, while hooks and switches are being set or taken back, as `with` blocks do it.

    Python may interrupt between any two calls, also those that clean up; what one of them leaves stays for good.
    Another's handler of the signal is left in charge.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _ASKED.clear()  # the one before may have ended while it waited
    signal.signal(signal.SIGINT, _interrupted)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupted(number: int, frame: FrameType | None) -> None:
    _ASKED.append(time.monotonic())
    while frame is not None and frame.f_code.co_name not in _WHOLE:
        frame = frame.f_back
    if frame is None or _ASKED[-1] - _ASKED[0] > _LONGEST:
        _ASKED.clear()
        raise KeyboardInterrupt
    wake = getattr(signal, "pthread_kill", lambda _, number: signal.raise_signal(number))  # Windows has none
    threading.Timer(_AGAIN, wake, (threading.main_thread().ident, number)).start()
