"""What was measured, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from statistics import median, quantiles
from typing import NamedTuple

from . import names
from .contender import Contender, Workload
from .field import Field
from .rounds import Times

Figure = Callable[[Sequence[float]], float]


class Seconds(NamedTuple):
    """What a request takes, or what a session adds to it: by the median and by the fastest."""

    median: float
    fastest: float


Costs = dict[str, dict[Workload, Seconds]]


@dataclass(frozen=True)
class Results:
    """What requests take.

    :ivar requests: those to applications without sessions, on PostgreSQL.
    :ivar noise: what is between the quartiles of these.
    :ivar costs: by database, what sessions add to a request; the driver's is its own time.
    """

    requests: dict[str, Seconds]
    noise: dict[str, float]
    costs: dict[str, Costs]

    @classmethod
    def of(cls, fields: Sequence[Field], times: Times) -> Results:
        """What was measured, PostgreSQL first."""
        without = {one.name: times[one, Workload.UNUSED] for one in fields[0].baselines}
        return cls(
            {name: Seconds(median(taken), fastest(taken)) for name, taken in without.items()},
            {name: spread(taken) for name, taken in without.items()},
            {field.database: costs(field.peers, times) for field in fields},
        )


class Target(NamedTuple):
    """Something to be reached, and how far it is by the median and by the fastest."""

    text: str
    limit: float
    median: float
    fastest: float

    @property
    def reached(self) -> bool:
        """Whether the median is within the limit."""
        return self.median <= self.limit


def fastest(times: Sequence[float]) -> float:
    """What one in twenty stays below: hardly disturbed by whatever else the machine does."""
    return quantiles(times, n=20, method="inclusive")[0]


def costs(peers: Sequence[Contender], times: Times) -> Costs:
    """What sessions add to a request of each kind, by contender."""
    return {
        one.name: {workload: _added(one, workload, times) for workload in one.workloads}
        for one in peers
    }


def _added(one: Contender, workload: Workload, times: Times) -> Seconds:
    def added(figure: Figure) -> float:
        without = figure(times[one.baseline, Workload.UNUSED]) if one.baseline else 0.0
        return figure(times[one, workload]) - without

    return Seconds(added(median), added(fastest))


def spread(times: Sequence[float]) -> float:
    """What is between the quartiles."""
    low, _, high = quantiles(times, method="inclusive")
    return high - low


def targets(results: Results) -> list[Target]:
    """What is to be reached."""
    found = results.costs["PostgreSQL"]

    def ratio(text: str, limit: float, ours: str, workload: Workload, other: str) -> Target:
        mine, theirs = found[ours][workload], found[other][workload]
        return Target(
            text,
            limit,
            _divide(mine.median, theirs.median),
            _divide(mine.fastest, theirs.fastest),
        )

    def unused(text: str, ours: str, baseline: str) -> Target:
        noise, added = results.noise[baseline], found[ours][Workload.UNUSED]
        return Target(text, 1, added.median / noise, added.fastest / noise)

    read, write, new, large = Workload.READ, Workload.WRITE, Workload.NEW, Workload.LARGE
    return [
        ratio("read, own engine ÷ the driver alone", 2.4, names.OWN, read, names.FLOOR),
        ratio("read, own engine ÷ pyramid_session_redis", 0.75, names.OWN, read, names.REDIS),
        ratio("write, own engine ÷ the driver alone", 2.1, names.OWN, write, names.FLOOR),
        ratio("write, own engine ÷ Django", 0.5, names.OWN, write, names.DJANGO),
        ratio("new, own engine ÷ the driver alone", 2.3, names.OWN, new, names.FLOOR),
        ratio("100 KB read, own engine ÷ the driver alone", 1.8, names.OWN, large, names.FLOOR),
        ratio("100 KB read, own engine ÷ Django", 1.0, names.OWN, large, names.DJANGO),
        ratio("read, dbsession ÷ Core statements", 1.5, names.SHARED, read, names.CORE),
        ratio("write, dbsession ÷ Core statements", 1.4, names.SHARED, write, names.CORE),
        unused("unused, own engine ÷ noise", names.OWN, names.TRANSACTIONAL),
        unused("unused, dbsession ÷ noise", names.SHARED, names.ASKING),
    ]


def _divide(one: float, other: float) -> float:
    """A ratio; none, which reaches nothing, where the machine was too busy to tell."""
    return one / other if one > 0 < other else nan
