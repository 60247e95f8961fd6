"""Measuring: everybody takes turns, so that whatever else the machine does falls on all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import ceil
from random import Random
from time import perf_counter

from .contender import Contender, Workload

Times = dict[tuple[Contender, Workload], list[float]]

SEED = 4711


def measure(contenders: Sequence[Contender], requests: int, block: int) -> Times:
    """How many seconds each contender's requests took.

    :param requests: of each contender, for each of its workloads.
    :param block: how many of them come one after the other.
    """
    times: Times = defaultdict(list)
    turns = [(contender, workload) for contender in contenders for workload in contender.workloads]
    random = Random(SEED)
    for _ in range(ceil(requests / block)):
        random.shuffle(turns)
        for contender, workload in turns:
            times[contender, workload] += [once(contender, workload) for _ in range(block)]
    return times


def once(contender: Contender, workload: Workload) -> float:
    """Make one request, see that it did what it should, and tell how long it took."""
    request, expected = contender.prepare(workload)
    began = perf_counter()
    result = request()
    seconds = perf_counter() - began
    assert expected in result, f"{workload} of {contender} gave {result[:100]!r}"
    return seconds


def check(contender: Contender) -> None:
    """See that its workloads write when they should, and only then."""
    if contender.stored is None:
        return
    for workload in contender.workloads:
        before = contender.stored()
        once(contender, workload)
        changed = contender.stored() != before
        if not (contender.touches and workload in (Workload.READ, Workload.LARGE)):
            writes = workload in (Workload.WRITE, Workload.NEW)
            assert changed == writes, f"{workload} of {contender}"
