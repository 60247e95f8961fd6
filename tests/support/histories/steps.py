"""Requests at once, in the orders of their steps.

A request takes three steps that another one can notice: it *loads* its session, it *saves* it, when
all statements are executed and nothing is committed, and it *ends*, by a commit or an abort. That
the view changes the session is none: it happens in the memory of one request, between its load and
its save, and no order of it with another request's steps makes a difference to anybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import combinations, product
from typing import Any

from support.apps import Resource, refuse
from support.races import TIMEOUT, Action, Flight


class Step(Enum):
    """What a request does until it stops, or is through."""

    LOAD = "load"
    SAVE = "save"
    END = "end"


class Ending(Enum):
    """How a request's transaction ends, if nothing else goes wrong."""

    COMMIT = "commit"
    VOTE = "a vote against it"
    DOOM = "doomed"


# the steps of requests, which have the numbers from 1, in their order
Interleaving = tuple[tuple[int, Step], ...]


def interleavings() -> Iterator[Interleaving]:
    """Every order in which two requests can take their steps."""
    for places in combinations(range(6), 3):
        steps = {1: iter(Step), 2: iter(Step)}
        numbers = (1 if place in places else 2 for place in range(6))
        yield tuple((number, next(steps[number])) for number in numbers)


INTERLEAVINGS = tuple(interleavings())


def interleavings_of_three() -> Iterator[Interleaving]:
    """The orders of three requests that differ in what one of them finds, or has to wait for.

    They save in the order of their numbers, each before the next one, or all before the first ends.
    """
    for second, third in product(range(2), range(3)):
        if (second, third) != (1, 2):
            yield tuple(_committed_one_by_one({1: 0, 2: second, 3: third}))
    yield tuple((number, step) for step in Step for number in (1, 2, 3))


def _committed_one_by_one(loads_after: dict[int, int]) -> Iterator[tuple[int, Step]]:
    for committed in range(3):
        yield from ((it, Step.LOAD) for it, after in loads_after.items() if after == committed)
        yield from ((committed + 1, step) for step in (Step.SAVE, Step.END))


INTERLEAVINGS_OF_THREE = tuple(interleavings_of_three())


class SteppedFlight(Flight):
    """A request that also stops before its abort, and is not waited for.

    What is left to do where an attempt has failed belongs to the end: the abort, and further
    attempts.

    :ivar found: whether the last attempt has found a live session.
    :ivar came_in_time: whether the first one has.
    :ivar told: the conflicts, and sessions that were ended, of its last attempt, as the application
        was told of them.
    """

    def __init__(self, app: Any, token: str | None, action: Action) -> None:
        super().__init__(app, token, action)
        self.ending = Ending.COMMIT
        self.found = self.came_in_time = False
        self.told: list[Any] = []
        self._steps: list[Step] = []

    def begin(self, step: Step) -> None:
        """Let the request take a step, now or when it has taken the one before."""
        self._steps.append(step)
        if step is Step.LOAD:
            self.start()
        elif step is Step.SAVE:
            self._loaded.open()
        else:
            self.release()

    def is_done(self, seconds: float = 0) -> bool:
        """Whether it has taken its last step, or does within so many seconds."""
        if not self._steps:
            return True
        if self._steps[-1] is Step.LOAD:
            return self._loaded.is_reached(seconds)
        if self._steps[-1] is Step.SAVE:
            return self._saved.is_reached(seconds)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def view(self, request: Any) -> Any:
        self.told = []
        request.tm.get().addBeforeAbortHook(self._abort)
        self.found = not request.session.new
        if self.attempts == 0:
            self.came_in_time = self.found
        result = super().view(request)
        if self.ending is Ending.DOOM:
            request.tm.doom()
        elif self.ending is Ending.VOTE:
            request.tm.get().join(Resource(refuse))
        return result

    def _abort(self) -> None:
        self._loaded.leave()
        self._saved.stop()


def walk(
    interleaving: Interleaving,
    flights: Sequence[SteppedFlight],
    waiting: Callable[[], int],
    patience: float,
) -> None:
    """Let requests take their steps in this order, and come back when all are through.

    A step begins when the one before is done, or waits for a lock that only another request can
    give back: then the order goes on, and the step is done when it can be.

    :param waiting: tells how many transactions wait for a lock.
    :param patience: seconds that a step may take before that is asked.
    """
    try:
        for number, step in interleaving:
            flight = flights[number - 1]
            flight.begin(step)
            others = [other for other in flights if other is not flight]
            deadline = time.monotonic() + TIMEOUT
            # the database has no event for it; one of the others may go on in the meantime
            while not flight.is_done(patience) and waiting() <= _begun(others):
                assert time.monotonic() < deadline, (
                    f"{step.value} {number} of {spelled(interleaving)}: neither done nor waiting"
                )
        for flight in flights:
            flight.finish()
    finally:
        for flight in flights:
            flight.release()


def _begun(flights: Sequence[SteppedFlight]) -> int:
    return sum(not flight.is_done() for flight in flights)


def spelled(interleaving: Interleaving) -> str:
    """``load 1, load 2, save 1, ...``."""
    return ", ".join(f"{step.value} {number}" for number, step in interleaving)
