"""Two requests of one browser, in every order of their steps, on every database.

A usual run tries one in a hundred of all combinations at each place, each time the same ones: every
pair of actions is among them, and every order at every place. ``--scale=100`` tries all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Connection
from support.apps import TABLE, rows
from support.histories.checked_actions import ABOUT_THE_TOKEN, ACTIONS
from support.histories.meetings import ANONYMOUS, SIGNED_IN, CheckedAction, Meeting, Party, state
from support.histories.promises import PROMISES
from support.histories.steps import (
    INTERLEAVINGS,
    Ending,
    Interleaving,
    SteppedFlight,
    spelled,
    walk,
)
from support.places import ALL_PLACES, Place, everywhere
from support.races import Site
from support.trials import Trials

from pyramid_sqlsession import SessionConflicted, SessionEnded

log = logging.getLogger(__name__)

ATTEMPTS = (None, 3)
STARTS = {"anonymous": ANONYMOUS, "signed in": SIGNED_IN}

# Tried at every place each time: rare ways to break a promise, and what has once been broken.
SAVED_AT_ONCE = "load 1, load 2, save 1, save 2, end 1, end 2"
ENDED_MEANWHILE = "load 1, load 2, save 1, end 1, save 2, end 2"
OVERTAKEN = "load 1, load 2, save 2, end 2, save 1, end 1"
ALWAYS = (
    f"anonymous, put the same key / put the same key, with retries: {ENDED_MEANWHILE}",
    f"anonymous, append / append, with retries: {SAVED_AT_ONCE}",
    f"anonymous, sign in / sign in, without retries: {ENDED_MEANWHILE}",
    f"anonymous, sign in / invalidate and sign in, without retries: {ENDED_MEANWHILE}",
    f"anonymous, invalidate and sign in / invalidate and sign in, without retries: {OVERTAKEN}",
    f"signed in, step up / step up, with retries: {SAVED_AT_ONCE}",
    f"signed in, step up / sign out, without retries: {ENDED_MEANWHILE}",
    f"signed in, step up / sign out, without retries: {OVERTAKEN}",
    f"signed in, regenerate / invalidate, without retries: {SAVED_AT_ONCE}",
    f"signed in, step up / sign out, with retries: {ENDED_MEANWHILE}",
    f"signed in, step up / switch users, with retries: {ENDED_MEANWHILE}",
)

# ---- combinations


@dataclass(frozen=True, repr=False)
class Combination:
    """Two requests, and the order of their steps. The second one may have to be aborted."""

    start: str
    first: CheckedAction
    second: CheckedAction
    ending: Ending
    attempts: int | None
    interleaving: Interleaving

    def __repr__(self) -> str:
        ending = "" if self.ending is Ending.COMMIT else f" ({self.ending.value})"
        retried = "with" if self.attempts else "without"
        return (
            f"{self.start}, {self.first.name} / {self.second.name}{ending}, {retried} retries: "
            f"{spelled(self.interleaving)}"
        )


def combinations() -> Iterator[Combination]:
    """All that make a difference."""
    for (n, first), (m, second) in product(enumerate(ACTIONS), repeat=2):
        for start, attempts, aborted in product(starts(first, second), ATTEMPTS, (False, True)):
            if aborted and second.name == "read":
                # there is nothing to abort
                continue
            for number, interleaving in enumerate(INTERLEAVINGS):
                if not aborted and (n > m or (n == m and interleaving[0][0] == 2)):
                    # the same two with their numbers swapped
                    continue
                # one of both: to the other request each is the same, a rollback
                abort = (Ending.VOTE, Ending.DOOM)[(n + m + number) % 2]
                ending = abort if aborted else Ending.COMMIT
                yield Combination(start, first, second, ending, attempts, interleaving)


def starts(first: CheckedAction, second: CheckedAction) -> tuple[str, ...]:
    """The sessions in which two actions can meet, and who is signed in makes a difference."""
    common = tuple(start for start in first.starts if start in second.starts)
    return common if {first, second} & set(ABOUT_THE_TOKEN) else ("anonymous",)


def share(place: Place, scale: int) -> dict[str, Combination]:
    """The combinations to try at a place: as many of a hundred as the scale says."""
    # 99 has no common divisor with the number of interleavings, and so each of them has its turn
    period = 99
    offset = list(ALL_PLACES).index(place.name) * period // len(ALL_PLACES)
    cases = {str(case): case for case in combinations()}
    chosen = {
        name: case
        for number, (name, case) in enumerate(cases.items())
        if (number - offset) % period < scale
    }
    return chosen | {name: cases[name] for name in ALWAYS}


# ---- trying them


@dataclass
class Stage:
    """A place with an application for each number of attempts, and what is known about it."""

    place: Place
    watch: Connection
    sites: dict[int | None, Site] = field(default_factory=dict)
    begun: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    outcomes: dict[Any, tuple[Any, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sites = {attempts: self.place.serve(attempts) for attempts in ATTEMPTS}
        for site in self.sites.values():
            for kind in (SessionConflicted, SessionEnded):
                site.app.registry.registerHandler(note, [kind])
        # SQLite does not tell who waits
        self._patience = 0.02 if self.place.engine.dialect.name == "sqlite" else 0.003
        site = self.sites[None]
        for start, data in STARTS.items():
            token = site.start(**data)
            row = site.row(token)
            assert row is not None
            self.begun[start] = token, row

    def _waiting(self) -> int:
        return self.place.waiting(self.watch)

    def _refuses(self, attempts: int | None) -> bool:
        """Whether a request may fail because of the other one."""
        # SQLite refuses at once, and has used up all attempts before the other request goes on
        is_retried = attempts is not None and self.place.engine.dialect.name != "sqlite"
        return not is_retried and (self.place.late_fails or self.place.waiting_fails)

    def broken(self, case: Combination) -> list[str]:
        """The promises that a combination breaks."""
        actions = (case.first, case.second)
        token, flights = self._ready(case.start, case.attempts, *actions)
        flights[1].ending = case.ending
        walk(case.interleaving, flights, self._waiting, self._patience)
        first, second = (
            Party(number, action, flight)
            for number, action, flight in zip((1, 2), actions, flights, strict=True)
        )
        met = Meeting(
            case.start,
            token,
            (first, second),
            self._refuses(case.attempts),
            case.attempts,
            rows(self.place.engine),
            partial(self._alone, case.start),
        )
        return [promise.__name__ for promise in PROMISES if not promise(met)]

    def _ready(
        self, start: str, attempts: int | None, *actions: CheckedAction, number: int = 1
    ) -> tuple[str, list[SteppedFlight]]:
        """Requests that are about to start, with the token of a session that begins like this."""
        token, row = self.begun[start]
        # as it was stored by a request, only now
        values = {**row, "last_seen": int(time.time())}
        with self.place.engine.begin() as connection:
            connection.execute(TABLE.delete())
            connection.execute(TABLE.insert().values(values))
        site = self.sites[attempts]
        return token, [
            SteppedFlight(site.app, token, doing(action, n))
            for n, action in enumerate(actions, number)
        ]

    def _alone(self, start: str, party: Party | None) -> tuple[Any, Any]:
        """What is committed, and the result, if only one request comes."""
        what = (start, party and (party.action, party.number))
        if what not in self.outcomes:
            actions = [] if party is None else [party.action]
            number = 1 if party is None else party.number
            _, flights = self._ready(start, None, *actions, number=number)
            result = [flight.load().finish().result for flight in flights]
            self.outcomes[what] = state(rows(self.place.engine)), next(iter(result), None)
        return self.outcomes[what]


def doing(action: CheckedAction, number: int) -> Any:
    return lambda session: action.do(session, number)


def note(event: SessionConflicted | SessionEnded) -> None:
    event.request.environ["tests.flight"].told.append(event)


DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}


@everywhere
# all combinations take an hour; every wait in here has a deadline of its own
@pytest.mark.timeout(7200)
def test_two_requests_keep_every_promise_in_every_order_of_their_steps(
    place: Place, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = share(place, trials.scale)
    caplog.set_level(logging.CRITICAL, "pyramid_sqlsession")
    lost = 0
    with place.watching() as watch:
        stage = Stage(place, watch)
        for name, case in chosen.items():
            broken = stage.broken(case)
            if broken:
                lost += 1
                # to repeat it, add the name to those that are always tried
                log.error("%s: %s: not %s", place.name, name, ", ".join(broken))
    trials.record(
        "two requests, in one order of their steps",
        "no key lost, no session revived, no cookie without its row, nothing of an aborted request",
        DATABASES[place.engine.dialect.name],
        len(chosen),
        lost=lost,
    )
