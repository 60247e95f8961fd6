"""What was measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from .population import Lookup, Space
from .purging import Purged
from .visitors import Latency, Taken
from .wal import Updates


@dataclass
class Growth:
    """Of one number of sessions: requests, and purges that nobody disturbed."""

    lookup: Lookup
    filled: Space
    reads: list[Taken] = field(default_factory=list)
    writes: list[Taken] = field(default_factory=list)
    purges: list[Purged] = field(default_factory=list)


@dataclass
class Beside:
    """Reads in each phase, and what was purged during one of them."""

    before: list[Taken] = field(default_factory=list)
    during: list[Taken] = field(default_factory=list)
    after: list[Taken] = field(default_factory=list)
    purges: list[Purged] = field(default_factory=list)

    def phases(self) -> dict[str, list[Taken]]:
        """The reads of each phase."""
        return {"before": self.before, "during": self.during, "after": self.after}


def latency(requests: list[Taken]) -> Latency:
    """The percentiles of requests, as their visitors see them."""
    return Latency.of(request.seconds for request in requests)


def latency_on_free_cores(requests: list[Taken]) -> Latency:
    """The percentiles of requests, less their waits for a core."""
    return Latency.of(request.seconds - request.waited for request in requests)


@dataclass
class Results:
    """Everything.

    :ivar growth: by the number of sessions.
    :ivar beside: by where the purge ran, such as ``process`` or ``thread``.
    :ivar space: of the largest table, by what was done to it last.
    """

    machine: dict[str, str]
    arguments: str
    growth: dict[int, Growth]
    beside: dict[str, Beside]
    space: dict[str, Space]
    updates: list[Updates]


def rate(purges: list[Purged]) -> float:
    """Rows per second."""
    return sum(purged.rows for purged in purges) / sum(purged.seconds for purged in purges)
