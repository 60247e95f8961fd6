"""Patience: with what no event tells, and with threads that work meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

PATIENCE = 60
"""Seconds."""

T = TypeVar("T")
R = TypeVar("R")


def wait_until(is_so: Callable[[], object]) -> None:
    """Come back when this is true."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)  # other processes and servers tell no event


def at_once(work: Callable[[T], R], arguments: Iterable[T]) -> list[R]:
    """What a function gives for each argument, called at the same moment in threads of their own.

    :raises BaseException: what the function has raised.
    """
    pairs: list[tuple[T, Future[R]]] = [(argument, Future()) for argument in arguments]
    start = threading.Barrier(len(pairs), timeout=PATIENCE)

    def call(argument: T, future: Future[R]) -> None:
        try:
            start.wait()
            future.set_result(work(argument))
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            future.set_exception(error)

    for pair in pairs:
        threading.Thread(target=call, args=pair, daemon=True).start()
    return [future.result(PATIENCE) for _, future in pairs]


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
