"""Random histories of several browsers, beside an oracle that says what each of them has to see.

The histories are made by Hypothesis, which looks for the shortest one that goes wrong. After every
step the whole table is compared with the oracle's. Each run has other ones; the seed that it prints
repeats them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pyramid.httpexceptions import HTTPFound
from pyramid.interfaces import ISessionFactory
from support.apps import EPOCH, TABLE, Broken, Clock, SessionRow, rows
from support.histories import oracle
from support.histories.random_actions import (
    ACTIONS,
    ADMINISTRATION,
    CHANGES,
    USER_CHANGES,
    USERS,
    Put,
    RandomAction,
    Revoke,
    RevokeUser,
)
from support.places import Place, in_places
from support.races import Flight
from support.trials import Trials
from webtest import TestApp

from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

TIMES = oracle.Times(ttl=1000, absolute_ttl=5000, touch_interval=60, grace=30)


def id_of(token: str | None) -> str | None:
    return None if token is None else hashlib.sha256(token.encode()).hexdigest()


class Outcome(Enum):
    """How a request ends."""

    COMMIT = "commit"
    RAISE = "raise"
    DOOM = "doom"
    REDIRECT = "redirect"


class Request:
    """A request that does some actions and then ends in some way."""

    def __init__(self, actions: Sequence[RandomAction], outcome: Outcome) -> None:
        self.actions = actions
        self.outcome = outcome
        # by each attempt
        self.seen: list[list[Any]] = []

    def view(self, request: Any) -> Any:
        if self.outcome is Outcome.DOOM:
            request.tm.doom()
        self.seen.append([deepcopy(action(request)) for action in self.actions])
        if self.outcome is Outcome.RAISE:
            raise Broken
        if self.outcome is Outcome.REDIRECT:
            raise HTTPFound("/")
        return {}


class InFlight(Flight):
    """A request that waits when it has read its session."""

    def view(self, request: Any) -> Any:
        self.attempts += 1
        len(request.session)
        self._loaded.stop()
        return self.action(request)


class World:
    """An application, its database and its clock."""

    def __init__(self, place: Place, attempts: int | None, limit: int | None) -> None:
        durations = {
            "ttl": TIMES.ttl,
            "absolute_ttl": TIMES.absolute_ttl,
            "touch_interval": TIMES.touch_interval,
            "regenerate_grace": TIMES.grace,
        }
        self.limit = limit
        limits = {} if limit is None else {"max_sessions_per_user": limit}
        self.site = place.serve(attempts, cleanup_interval="false", **durations, **limits)
        self.snapshots = place.name in ("mariadb-repeatable-read", "mysql-repeatable-read")
        self.retries, self.late_fails = attempts is not None, place.late_fails
        # PostgreSQL may take any two transactions for a conflict at this level
        self.may_refuse = "serializable" in place.name
        self.engine = place.engine
        self.clock = Clock()
        self.app = self.site.app
        self.app.registry.getUtility(ISessionFactory).clock = self.clock
        lifetime = Lifetime(Settings.from_options(durations))
        self._purge = Purge(Rows(SessionRow), lifetime, self.clock)
        self.steps = 0

    def start_again(self) -> None:
        self.clock.now = EPOCH
        with self.engine.begin() as connection:
            connection.execute(TABLE.delete())

    def send(self, token: str | None, request: Request) -> list[str] | None:
        """The session cookies of the response, None if the request raised."""
        headers = {} if token is None else {"Cookie": f"session={token}"}
        browser = TestApp(self.app, extra_environ={"tests.flight": request})
        try:
            response = browser.get("/", headers=headers)
        except Broken:
            return None
        return [value for value in response.headers.getall("Set-Cookie") if "session=" in value]

    def table(self) -> dict[str, dict[str, Any]]:
        return {row["id"].hex(): row for row in rows(self.engine)}

    def purge(self) -> None:
        for _ in self._purge.batches(self.engine, 3):
            pass


BROWSERS = st.integers(0, 2)
AGES = st.integers(0, 5)
# the browser's own token, or one that it or another one has had
TOKENS = st.one_of(st.none(), st.none(), AGES)
PAUSES = st.sampled_from([0, 0, 0, 0, 1, 20, 29, 30, 60, 61, 100, 300])
SOME = st.lists(ACTIONS, max_size=3)
FLYING = st.tuples(TOKENS, st.lists(ACTIONS, max_size=2))
TWO = st.lists(FLYING, min_size=2, max_size=2)
THREE = st.lists(FLYING, min_size=3, max_size=3)
ORDERS = st.permutations(range(3))
# while requests are under way: a grace is over, a marker
DELAYED = st.lists(st.sampled_from([0] * 9 + [31, 4000]), min_size=3, max_size=3)
# whose session is to be revoked
OF = st.one_of(st.none(), USERS)
OUTCOMES = st.sampled_from([Outcome.COMMIT] * 6 + list(Outcome)[1:])


# elsewhere the view fails where it ends what another request has changed
merges_late = precondition(lambda browsers: not browsers.world.late_fails)


class Browsers(RuleBasedStateMachine):
    """Browsers of one application; the tokens that they hold."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.start_again()
        world = self.world
        self.store = oracle.Store(TIMES, world.retries, world.limit, snapshots=world.snapshots)
        self.tokens: dict[int, str | None] = {}
        self.newest: str | None = None
        # every token that was sent, and every handle that there was, the youngest first
        self.given: list[str] = []
        self.handles: list[str] = []

    @initialize(first=CHANGES, second=CHANGES)
    def start(self, first: RandomAction, second: RandomAction) -> None:
        for browser, action in enumerate((first, second)):
            self.step(browser, [action, Put("a", [])], Outcome.COMMIT)

    @rule(browser=BROWSERS, pause=PAUSES, actions=SOME, outcome=OUTCOMES)
    def visit(
        self, browser: int, pause: int, actions: list[RandomAction], outcome: Outcome
    ) -> None:
        self.wait(pause)
        self.step(browser, actions, outcome)

    @rule(browser=BROWSERS, pause=PAUSES, action=CHANGES)
    def change(self, browser: int, pause: int, action: RandomAction) -> None:
        self.wait(pause)
        self.step(browser, [action], Outcome.COMMIT)

    @rule(browser=BROWSERS, before=SOME, user=USER_CHANGES, after=SOME, outcome=OUTCOMES)
    def change_the_user(
        self,
        browser: int,
        before: list[RandomAction],
        user: RandomAction,
        after: list[RandomAction],
        outcome: Outcome,
    ) -> None:
        self.step(browser, [*before, user, *after], outcome)

    @rule(browser=BROWSERS, which=AGES, actions=SOME, outcome=OUTCOMES)
    def visit_with_an_old_cookie(
        self, browser: int, which: int, actions: list[RandomAction], outcome: Outcome
    ) -> None:
        self.tokens[browser] = self.given[which % len(self.given)]
        self.step(browser, actions, outcome)

    @rule(browser=BROWSERS, action=ADMINISTRATION, rest=SOME, outcome=OUTCOMES)
    def manage(
        self, browser: int, action: RandomAction, rest: list[RandomAction], outcome: Outcome
    ) -> None:
        self.step(browser, [action, *rest], outcome)

    @rule(browser=BROWSERS, which=AGES, user=OF, rest=SOME, outcome=OUTCOMES)
    def revoke(
        self,
        browser: int,
        which: int,
        user: str | None,
        rest: list[RandomAction],
        outcome: Outcome,
    ) -> None:
        self.step(browser, [self.revoking(which, user), *rest], outcome)

    def revoking(self, which: int, user: str | None) -> Revoke:
        return Revoke(self.handles[which % len(self.handles)], user)

    @rule(seconds=st.sampled_from([300, 700, 999, 1000, 3000]))
    def wait(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @rule(what=st.sampled_from(["purge", "delete", "forget", "junk"]), which=AGES)
    def disturb(self, what: str, which: int) -> None:
        """A purge, an operator who deletes a row, a browser that has another cookie than ours."""
        if what == "purge":
            self.purge()
        elif what == "delete":
            self.delete(which)
        else:
            self.tokens[which % 3] = {"forget": None, "junk": "junk"}[what]

    def purge(self) -> None:
        now = self.world.clock.now
        due = {id for id, row in self.world.table().items() if row["purge_after"] <= now}
        self.world.purge()
        self.store.purge(now, due)

    def delete(self, which: int) -> None:
        id = id_of(self.given[which % len(self.given)]) or ""
        with self.world.engine.begin() as connection:
            connection.execute(TABLE.delete().where(TABLE.c.id == bytes.fromhex(id)))
        self.store.rows.pop(id, None)

    @rule(browser=BROWSERS, requests=THREE, order=ORDERS, delays=DELAYED)
    def visit_three_times_at_once(
        self,
        browser: int,
        requests: list[tuple[int | None, list[RandomAction]]],
        order: list[int],
        delays: list[int],
    ) -> None:
        self.fly(browser, requests, order, delays)

    @merges_late
    @rule(
        browser=BROWSERS, requests=TWO, user=USERS, keep=st.booleans(), order=ORDERS, delays=DELAYED
    )
    def end_sessions_of_a_user_meanwhile(
        self,
        browser: int,
        requests: list[tuple[int | None, list[RandomAction]]],
        user: str,
        keep: bool,
        order: list[int],
        delays: list[int],
    ) -> None:
        self.fly(browser, [*requests, (None, [RevokeUser(user, keep)])], order, delays)

    @merges_late
    @rule(browser=BROWSERS, requests=TWO, which=AGES, user=OF, order=ORDERS, delays=DELAYED)
    def end_a_session_meanwhile(
        self,
        browser: int,
        requests: list[tuple[int | None, list[RandomAction]]],
        which: int,
        user: str | None,
        order: list[int],
        delays: list[int],
    ) -> None:
        self.fly(browser, [*requests, (None, [self.revoking(which, user)])], order, delays)

    def fly(
        self,
        browser: int,
        requests: list[tuple[int | None, list[RandomAction]]],
        order: list[int],
        delays: list[int],
    ) -> None:
        """Three requests at once: all have loaded before the first of them is committed."""
        flying = [
            self.taking_off(browser, which, Request(actions, Outcome.COMMIT))
            for which, actions in requests
        ]
        for number, delay in zip(order, delays, strict=True):
            self.pass_by(delay)
            token, request, flight, visit = flying[number]
            cookies = flight.finish().cookies
            assert flight.ok, flight.error
            given = self.receive(browser, token, cookies)
            visit.catch_up(self.world.clock.now)
            assert given == self.expected(browser, token, visit, request)

    def taking_off(
        self, browser: int, which: int | None, request: Request
    ) -> tuple[str | None, Request, Flight, oracle.Visit]:
        """A request that has read its session, and the oracle's."""
        token = self.tokens.get(browser) if which is None else self.given[which % len(self.given)]
        flight = self.world.site.request(request.view, token, InFlight).load()
        visit = self.store.visit(id_of(token), self.world.clock.now)
        assert len(visit.session) >= 0
        return token, request, flight, visit

    def pass_by(self, seconds: int) -> None:
        self.world.clock.advance(seconds)
        if seconds > oracle.SLOWEST_REQUEST:
            self.purge()

    def step(self, browser: int, actions: list[RandomAction], outcome: Outcome) -> None:
        token = self.tokens.get(browser)
        request = Request(actions, outcome)
        given = self.receive(browser, token, self.world.send(token, request))
        visit = self.store.visit(id_of(token), self.world.clock.now)
        assert given == self.expected(browser, token, visit, request)

    def expected(
        self, browser: int, token: str | None, visit: oracle.Visit, request: Request
    ) -> oracle.Cookie | None:
        """The cookie that the browser has to get; and what each attempt has to see."""
        new, now = id_of(self.newest), self.world.clock.now
        lineage = self.lineage_of(new)
        for attempt, seen in enumerate(request.seen, 1):
            note(f"    {id_of(token)} saw {seen}")
            for action, value in zip(request.actions, seen, strict=True):
                visit.given = value
                assert action(visit) == value
            if request.outcome is Outcome.RAISE:
                return None
            if request.outcome is not Outcome.COMMIT:
                return visit.touch()
            is_last = attempt == len(request.seen)
            try:
                cookie = visit.save(new, lineage, now)
            except oracle.Conflict:
                assert not is_last, "nothing was tried again"
            else:
                if is_last:
                    return visit.commit() or cookie
                assert self.world.may_refuse or (self.world.late_fails and visit.is_overtaken)
            visit = self.store.visit(id_of(token), now, visit.attempt)
        raise AssertionError("no attempt succeeded")

    def lineage_of(self, id: str | None) -> str:
        """Chance decides it; of a sign-in that was one too many it is not known: the last one."""
        row = self.world.table().get(id or "")
        return f" of {id}" if row is None else row["lineage"].hex()

    def receive(
        self, browser: int, sent: str | None, cookies: list[str] | None
    ) -> oracle.Cookie | None:
        """Do as browsers do, and say what it was."""
        self.newest = self.tokens.get(browser)
        if not cookies:
            return None
        (cookie,) = cookies
        token = cookie.removeprefix("session=").partition(";")[0]
        found = re.search(r"Max-Age=(\d+)", cookie)
        max_age = int(found[1]) if found else None
        # that of a session that has expired under way may not be kept
        self.newest = token or self.newest
        if max_age == 0:
            self.tokens[browser] = None
            return oracle.Cookie("removed")
        self.tokens[browser] = token
        if token == sent:
            return oracle.Cookie("again", max_age)
        self.given.insert(0, token)
        return oracle.Cookie("new", max_age)

    @invariant()
    def the_table_is_the_oracles(self) -> None:
        self.world.steps += 1
        table = self.world.table()
        lineages = {row["lineage"].hex() for row in table.values()}
        self.handles[:0] = sorted(lineages.difference(self.handles))
        stored = {
            id: {
                "data": json.loads(row["data"]),
                "created": row["created"],
                "last_seen": row["last_seen"],
                "version": row["version"],
                "max_age": row["max_age"],
                "user_id": row["user_id"],
                "lineage": row["lineage"].hex(),
                "replaced": row["replaced"],
                "told": row["purge_after"] == 0,
            }
            for id, row in table.items()
        }
        assert stored == {id: asdict(row) for id, row in self.store.rows.items()}
        for id, row in self.store.rows.items():
            due = table[id]["purge_after"]
            if due == 0:
                # its visitor came back when it had expired
                assert self.store.expiry(row) <= self.world.clock.now
                continue
            lifetime = row.max_age or TIMES.ttl
            slack = max(lifetime // 10, 30 * TIMES.touch_interval)
            assert self.store.expiry(row) <= due <= row.last_seen + lifetime + slack


# the attempts of pyramid_retry, or none without it; how many sessions a user may have
WORLDS = {
    "sqlite-wal": (None, None),
    "sqlite-begin-wal": (3, None),
    "own-sqlite": (3, 2),
    "postgresql-read-committed": (3, None),
    "postgresql-repeatable-read": (3, None),
    "postgresql-serializable": (3, 2),
    "own-postgresql": (None, 2),
    "own-postgresql-serializable": (3, None),
    "mariadb-read-committed": (3, 2),
    "mariadb-repeatable-read": (None, None),
    "mariadb-snapshot": (3, None),
    "own-mariadb": (3, None),
    "mysql-read-committed": (3, None),
    "mysql-repeatable-read": (3, 2),
    "own-mysql": (None, None),
}


# to find the shortest history takes minutes
@pytest.mark.timeout(1800)
@in_places(WORLDS)
def test_every_browser_sees_what_a_plain_model_predicts(
    place: Place, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    # thousands of warnings would hide the history that went wrong
    caplog.set_level("CRITICAL", "pyramid_sqlsession")
    world = World(place, *WORLDS[place.name])
    machine = type("Machine", (Browsers,), {"world": world})
    run_state_machine_as_test(
        # other histories at each place
        seed(f"{trials.seed} {place.name}")(machine),
        settings=settings(
            max_examples=len(trials.times(8)),
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    trials.record(
        "a step in a random history of several browsers",
        "what a plain model predicts",
        place.title,
        world.steps,
    )
