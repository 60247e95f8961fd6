"""Requests of one browser that meet, in the orders of their steps, on every database.

Two requests in every order; a usual run tries one in four hundred of all combinations at each
place, and ``--scale=400`` tries all. Three requests in the orders that make a difference; a usual
run tries one in four thousand. Which ones these are depends on the seed of the run.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection
from support.apps import TABLE, rows
from support.histories.combinations import ATTEMPTS, STARTS, Combination, share
from support.histories.meetings import CheckedAction, Meeting, Party, state
from support.histories.promises import PROMISES
from support.histories.steps import SteppedFlight, walk
from support.places import Place, everywhere
from support.races import Site
from support.trials import Trials

from pyramid_sqlsession import SessionConflicted, SessionEnded

log = logging.getLogger(__name__)


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
        self._patience = 0.02 if self.place.engine.dialect.name == "sqlite" else 0.003
        site = self.sites[None]
        for start, data in STARTS.items():
            token = site.start(**data)
            row = site.row(token)
            assert row is not None
            self.begun[start] = token, row

    def _waiting(self) -> int:
        # SQLite does not tell who waits: all three who are not done in time
        is_told = self.place.engine.dialect.name != "sqlite"
        return self.place.waiting(self.watch) if is_told else 3

    def _refuses(self, attempts: int | None) -> bool:
        """Whether a request may fail because of the other one."""
        # SQLite refuses at once, and has used up all attempts before the other request goes on
        is_retried = attempts is not None and self.place.engine.dialect.name != "sqlite"
        return not is_retried and (self.place.late_fails or self.place.waiting_fails)

    def broken(self, case: Combination) -> list[str]:
        """The promises that a combination breaks."""
        token, flights = self._ready(case.start, case.attempts, *case.actions)
        flights[-1].ending = case.ending
        walk(case.interleaving, flights, self._waiting, self._patience)
        met = Meeting(
            case.start,
            token,
            self.begun[case.start][1]["lineage"],
            [
                Party(number, action, flight)
                for number, (action, flight) in enumerate(
                    zip(case.actions, flights, strict=True), 1
                )
            ],
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


@everywhere
# all combinations take an hour; every wait in here has a deadline of its own
@pytest.mark.timeout(7200)
def test_requests_that_meet_keep_every_promise_in_every_order_of_their_steps(
    place: Place, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = share(place, trials)
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
        "two or three requests, in one order of their steps",
        "no key lost, no session revived, no cookie without its row, nothing of an aborted request",
        place.title,
        len(chosen),
        lost=lost,
    )
