"""SIGTERM: ends a command where that leaves nothing half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def terminable() -> Iterator[Callable[[], bool]]:
    """Put off SIGTERM; yields a function that tells whether it came.

    A second one ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        # only the main thread may handle signals
        yield lambda: False
        return
    came = False

    def note(_number: int, _frame: Any) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)
