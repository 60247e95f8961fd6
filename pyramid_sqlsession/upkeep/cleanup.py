"""The thread that deletes expired sessions regularly."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import uniform
from time import monotonic

from sqlalchemy import Engine

from ..database.base import Database
from ..driver_errors import reason
from .purge import Purge

log = logging.getLogger("pyramid_sqlsession")

_PATIENCE = 2.0
"""Seconds that a process waits at exit for a batch to end."""

_REST = 9
"""The pause after a batch, as a multiple of the time that the batch took."""

_LONGEST_REST = 5.0
"""Seconds: the longest pause, since a batch may have spent its time waiting."""


class Cleaner:
    """Deletes expired sessions every *interval* seconds, in a daemon thread of each process.

    The thread is started by a request, so after any fork; it ends with the process, or when
    :meth:`stop` is called. An error is logged, and the thread tries again later.

    :param interval: None never starts it.
    :param batch: how many rows one transaction deletes at most.
    """

    def __init__(
        self, database: Database, purge: Purge, *, interval: int | None, batch: int
    ) -> None:
        self._database = database
        self._purge = purge
        self._interval = interval
        self._batch = batch
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread unless it runs. It does not survive a fork, so each process has one."""
        if self._interval is None or self._runs():
            return
        # whoever does not get the lock need not wait: another thread is starting it now
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._runs():
                return
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._work,
                args=(self._interval, self._stopping),
                name="pyramid_sqlsession cleanup",
                daemon=True,
            )
            self._thread.start()
            atexit.register(self.stop)
        except RuntimeError as error:
            log.warning("expired sessions are not deleted: cannot start a thread: %s", error)
        finally:
            self._starting.release()

    def stop(self) -> None:
        """Stop the thread; return when it has ended, or after two seconds.

        A batch that still runs is rolled back.
        """
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._stopping.set()
            thread.join(_PATIENCE)
        atexit.unregister(self.stop)

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self, interval: int, stopping: threading.Event) -> None:
        # not after a whole interval: a process may be replaced sooner, each and every time
        pause = uniform(0, interval)  # noqa: S311  # spreads the load, guards nothing
        while not stopping.wait(pause):
            self._clean(stopping)
            pause = uniform(0.5 * interval, 1.5 * interval)  # noqa: S311  # likewise

    def _clean(self, stopping: threading.Event) -> None:
        with _trying_again_later():
            for engine in self._engines():
                if stopping.is_set():
                    break
                # a tenant whose database is down does not keep the others' sessions
                with _trying_again_later():
                    self._clean_in(engine, stopping)

    def _engines(self) -> list[Engine]:
        engines = self._database.engines()
        if engines is None:
            # nobody has used a session yet
            return []
        if not engines:
            log.warning(
                "expired sessions are not deleted: there is no engine with several connections "
                "in %s. Set sqlsession.cleanup_interval = false, and run pyramid_sqlsession "
                "CONFIG_URI purge from cron",
                self._database,
            )
        return engines

    def _clean_in(self, engine: Engine, stopping: threading.Event) -> None:
        began = monotonic()
        deleted = self._delete(engine, stopping)
        log.log(
            logging.INFO if deleted else logging.DEBUG,
            "%d expired sessions deleted in %.1f seconds, pauses included",
            deleted,
            monotonic() - began,
        )

    def _delete(self, engine: Engine, stopping: threading.Event) -> int:
        deleted, began = 0, monotonic()
        for count in self._purge.batches(engine, self._batch):
            deleted += count
            # a batch keeps Python's lock, and a core, from the requests of this process
            if stopping.wait(min(_REST * (monotonic() - began), _LONGEST_REST)):
                break
            began = monotonic()
        return deleted


@contextmanager
def _trying_again_later() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # the thread is to live on
        log.warning("cannot delete expired sessions now, trying again later: %s", reason(error))
