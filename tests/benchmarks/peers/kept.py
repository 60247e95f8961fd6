"""Memory: what an application keeps, after how many requests.

``python -m benchmarks.peers.kept WAY URL REQUESTS`` prints it, a line of JSON for each measurement.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import NamedTuple

from . import names
from .contender import WITHOUT, Site, Workload
from .rounds import once
from .served import make

PAIRS = {names.OWN: names.TRANSACTIONAL, names.SHARED: names.ASKING}
"""Applications with sessions, and the same without."""

PARTS = (0.01, 0.1, 0.5, 1)
"""Of all requests, after which it is measured."""

FEWER = 20
"""Requests take several times as long while memory is traced."""

WRITES = 5
"""One request of so many writes, the others read."""


class Kept(NamedTuple):
    """What is left after so many requests, when the garbage is collected.

    :ivar traced: bytes that Python has allocated; 0 where they were not traced.
    :ivar blocks: pieces of memory that Python has allocated.
    :ivar objects: those that the garbage collector knows.
    """

    requests: int
    traced: int
    blocks: int
    objects: int


class Memory(NamedTuple):
    """What applications keep.

    :ivar long: those with sessions, in a long run.
    :ivar traced: they and those without, in a shorter run, in bytes.
    """

    long: dict[str, list[Kept]]
    traced: dict[str, list[Kept]]


def measure(requests: int) -> Memory:
    """What applications keep, each in a process of its own.

    :param requests: in the long run.
    """
    return Memory(
        _in_processes(PAIRS, requests),
        _in_processes([*PAIRS, *PAIRS.values()], requests // FEWER, "-X", "tracemalloc"),
    )


def _in_processes(ways: Iterable[str], requests: int, *options: str) -> dict[str, list[Kept]]:
    with TemporaryDirectory() as folder:
        processes = {
            way: Popen(
                [
                    *(sys.executable, *options, "-m", __name__),
                    *(way, f"sqlite:///{Path(folder) / str(number)}", str(requests)),
                ],
                stdout=PIPE,
                text=True,
            )
            for number, way in enumerate(ways)
        }
        try:
            return {way: _read(way, process) for way, process in processes.items()}
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def _read(way: str, process: Popen[str]) -> list[Kept]:
    output, _ = process.communicate()
    assert process.returncode == 0, f"{way} ended with {process.returncode}"
    return [Kept(*json.loads(line)) for line in output.splitlines()]


def main(way: str, url: str, requests: int) -> None:
    """Measure in this process."""
    keeps = way in PAIRS
    workloads = (Workload.READ, Workload.WRITE, Workload.NEW) if keeps else WITHOUT
    site = Site(way, make(way, url), workloads=workloads)
    site.welcome()
    done = 0
    for part in PARTS:
        while done < requests * part:
            done += 1
            once(site, _choose(done) if keeps else Workload.UNUSED)
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
        kept = Kept(done, traced, sys.getallocatedblocks(), len(gc.get_objects()))
        sys.stdout.write(json.dumps(kept) + "\n")


def _choose(number: int) -> Workload:
    return Workload.READ if number % WRITES else Workload.WRITE


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
