"""Purging, in a process of its own as in another worker, or in a thread as the cleaner does it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from select import select
from subprocess import PIPE, Popen
from time import perf_counter

from sqlalchemy import Engine

from pyramid_sqlsession.store import Store
from pyramid_sqlsession.upkeep.cleanup import Cleaner
from pyramid_sqlsession.upkeep.purge import GENTLE, Purge

from .visitors import Site


@dataclass(frozen=True)
class Purged:
    """What a purge did, and how long each of its batches took, in seconds."""

    rows: int
    seconds: float
    batches: list[float]


class Timed(Purge):
    """A purge that is timed; what it did is ``result`` when ``ended`` is set."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.rows, store.lifetime, store.clock)
        self.began, self.ended = threading.Event(), threading.Event()
        self.result = Purged(0, 0, [])

    def batches(self, engine: Engine, size: int) -> Iterator[int]:
        rows, times = 0, []
        began = last = perf_counter()
        self.began.set()
        try:
            for count in super().batches(engine, size):
                rows += count
                times.append(perf_counter() - last)
                yield count
                # whoever asks for the next batch may have rested
                last = perf_counter()
        finally:
            self.result = Purged(rows, perf_counter() - began, times)
            self.ended.set()


class Purging:
    """A purge that is going on; ``result`` is there when ``busy()`` is false."""

    def __init__(self, busy: Callable[[], bool], result: Callable[[], Purged]) -> None:
        self.busy = busy
        self.result = result


@contextmanager
def in_a_process(site: Site, url: str, batch: int = GENTLE) -> Iterator[Callable[[], Purging]]:
    """A function that begins to purge in another process, which is ready to."""
    with Popen(
        [sys.executable, "-m", __name__, url, str(batch)], stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        output = process.stdout

        def begin() -> Purging:
            assert process.stdin is not None
            process.stdin.close()
            return Purging(
                lambda: not select([output], [], [], 0)[0],
                lambda: Purged(**json.loads(output.readline())),
            )

        try:
            yield begin
        finally:
            process.kill()


@contextmanager
def in_a_thread(site: Site, url: str) -> Iterator[Callable[[], Purging]]:
    """A function that has the cleaner of this process begin, on the visitors' engine."""
    store, purge = site.store, Timed(site.store)
    batch = store.settings.cleanup_batch
    cleaner = Cleaner(store.database, purge, interval=1, batch=batch)

    def begin() -> Purging:
        cleaner.start()
        purge.began.wait()
        return Purging(lambda: not purge.ended.is_set(), finish)

    def finish() -> Purged:
        purge.ended.wait()
        cleaner.stop()
        return purge.result

    try:
        yield begin
    finally:
        cleaner.stop()


def main(url: str, batch: str) -> None:
    """Say that everything is ready, wait for the end of the input, purge, and say what it was."""
    site = Site(url, 1, 500)
    purge = Timed(site.store)
    site.engine.connect().close()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    for _ in purge.batches(site.engine, int(batch)):
        pass
    sys.stdout.write(json.dumps(asdict(purge.result)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
