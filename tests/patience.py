"""Waiting for what no event tells: what other processes do, and threads that work meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

PATIENCE = 60
"""Seconds."""


def wait_until(is_so: Callable[[], object]) -> None:
    """Come back when this is true."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)  # other processes and servers tell no event


@contextmanager
def working(threads: Sequence[threading.Thread], over: threading.Event) -> Iterator[None]:
    """Let threads work until the block ends; *over* tells them."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
