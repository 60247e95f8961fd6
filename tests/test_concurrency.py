"""Requests of one browser that are served at once: real threads on real database connections.

A request stops in its view when it has read its session, and goes on when the test says so: every
interleaving is a list of steps, and nothing depends on who is faster.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.interfaces import ISessionFactory
from support.apps import TABLE, SessionRow, rows
from support.patience import at_once
from support.places import (
    Place,
    everywhere,
    in_places,
    step_by_step,
    where_late_writes_merge,
    where_writes_wait,
)
from support.races import Action, Flight, add, both, drop, put
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionConflict, SessionTableError

# ---- actions


def flash(message: str, *, allow_duplicate: bool = True) -> Action:
    def action(session: Any) -> None:
        session.flash(message, allow_duplicate=allow_duplicate)

    return action


def pop(session: Any) -> Any:
    return session.pop_flash()


def pop_and_flash(message: str) -> Action:
    def action(session: Any) -> Any:
        popped = session.pop_flash()
        session.flash(message)
        return popped

    return action


def nothing(session: Any) -> None:
    """A request that only reads."""


def invalidate(session: Any) -> None:
    session.invalidate()


def remember(session: Any) -> None:
    session.max_age = 3600


def buy(session: Any) -> None:
    session["cart"].append("pear")


DIFFERENT_KEYS: dict[str, tuple[Action, Action, dict[str, Any], dict[str, Any]]] = {
    "two new keys": (put("a", 1), put("b", 2), {}, {"a": 1, "b": 2}),
    "two old keys": (put("a", 1), put("b", 2), {"a": 0, "b": 0}, {"a": 1, "b": 2}),
    "one deleted": (drop("a"), put("b", 2), {"a": 0, "b": 0}, {"b": 2}),
    "two deleted": (drop("a"), drop("b"), {"a": 0, "b": 0, "c": 0}, {"c": 0}),
    "one nested": (
        buy, put("b", 2), {"cart": ["apple"]}, {"cart": ["apple", "pear"], "b": 2},
    ),
}  # fmt: skip


def swapped(order: str, first: Flight, second: Flight) -> tuple[Flight, Flight]:
    return (first, second) if order == "in order" else (second, first)


either_order = pytest.mark.parametrize("order", ["in order", "swapped"])
with_or_without_retry = pytest.mark.parametrize("attempts", [None, 3], ids=["once", "retried"])


# ---- different keys


@step_by_step
@either_order
@with_or_without_retry
def test_two_requests_that_change_different_keys_lose_neither_change(
    place: Place, attempts: int | None, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = place.serve(attempts)
    for name, case in DIFFERENT_KEYS.items():
        one, other, before, after = copy.deepcopy(case)
        token = site.start(kept="yes", **before)
        early, late = swapped(order, *site.load(token, one, other))
        early.finish()
        late.finish()
        assert early.ok, name
        if late.ok:
            assert site.data(token) == {"kept": "yes", **after}, name
            assert not late.cookies
        else:
            assert place.late_fails, name
            assert attempts is None, name
            expected = {"kept": "yes", **before}
            early.action(expected)
            assert site.data(token) == expected, name
    assert not caplog.records


@where_writes_wait
@with_or_without_retry
def test_a_write_that_waited_for_anothers_commit_loses_nothing(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    token = site.start(kept="yes")
    first, second = site.load(token, put("a", 1), put("b", 2))
    first.save()
    second.release()
    place.wait_until_somebody_waits()
    first.finish()
    second.finish()
    assert first.ok
    if second.ok:
        assert site.data(token) == {"kept": "yes", "a": 1, "b": 2}
    else:
        assert place.waiting_fails
        assert attempts is None
        assert site.data(token) == {"kept": "yes", "a": 1}


@where_writes_wait
@with_or_without_retry
def test_a_write_that_waited_for_anothers_rollback_is_stored_alone(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    token = site.start(kept="yes")
    first, second = site.load(token, put("a", 1), put("b", 2))
    transaction: list[Any] = []
    first.action = both(put("a", 1), lambda session: fail_at_commit(transaction))
    first.save()
    second.release()
    place.wait_until_somebody_waits()
    first.finish()
    second.finish()
    assert second.ok, second.error
    assert isinstance(first.error, ArithmeticError)
    assert site.data(token) == {"kept": "yes", "b": 2}


def fail_at_commit(_: Any) -> None:
    """Have the request's transaction fail before it commits, after the gates have been passed."""
    from pyramid.threadlocal import get_current_request

    def fail() -> None:
        raise ArithmeticError

    # another resource that refuses; the hooks of before-commit run earlier
    get_current_request().tm.get().join(Refusal(fail))


class Refusal:
    """A data manager that sorts first and lets the transaction fail."""

    def __init__(self, fail: Callable[[], None]) -> None:
        self.commit = lambda transaction: fail()

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return ""

    def abort(self, transaction: Any) -> None: ...

    tpc_begin = tpc_vote = tpc_finish = tpc_abort = abort


@step_by_step
@either_order
def test_one_request_changes_the_lifetime_and_another_one_the_data(
    place: Place, order: str
) -> None:
    site = place.serve(3)
    token = site.start(kept="yes")
    early, late = swapped(order, *site.load(token, remember, put("a", 1)))
    assert early.finish().ok
    assert late.finish().ok
    row = site.row(token)
    assert row is not None
    assert row["max_age"] == 3600
    latest = row["last_seen"] + 3600 + 30 * 300
    # what was stored a moment ago is late enough
    assert latest - 60 < row["purge_after"] <= latest
    assert site.data(token) == {"kept": "yes", "a": 1}
    # the last cookie that the browser gets has the lifetime
    assert "Max-Age=3600" in [*early.cookies, *late.cookies][-1]


@step_by_step
def test_a_request_that_only_reads_never_conflicts(place: Place) -> None:
    site = place.serve(conflict="strict")
    token = site.start(a=1)
    reader, writer = site.load(token, nothing, put("a", 2))
    assert writer.finish().ok
    assert reader.finish().ok
    row = site.row(token)
    assert row is not None
    assert row["version"] == 2


@everywhere
def test_three_requests_at_once_all_keep_their_keys(place: Place) -> None:
    site = place.serve(20)
    token = site.start(kept="yes")
    flights = site.load(token, put("a", 1), put("b", 2), put("c", 3))
    for flight in flights:
        flight.release()
    for flight in flights:
        assert flight.finish().ok, flight.error
    assert site.data(token) == {"kept": "yes", "a": 1, "b": 2, "c": 3}


@everywhere
def test_what_was_acknowledged_is_stored_and_what_was_not_is_an_error(place: Place) -> None:
    site = place.serve()
    token = site.start(kept="yes")
    flights = site.load(token, *(put(key, 1) for key in "abcd"))
    for flight in flights:
        flight.release()
    for flight in flights:
        flight.finish()
        assert flight.ok or flight.error, flight.response
    stored = {key for key, flight in zip("abcd", flights, strict=True) if flight.ok}
    assert stored
    assert site.data(token) == {"kept": "yes", **dict.fromkeys(stored, 1)}


# ---- the same key


SAME_KEY: dict[str, tuple[Action, Action, Any]] = {
    "different values": (put("n", 1), put("n", 2), 2),
    "equal values": (put("n", 1), put("n", 1), 1),
    "changed and deleted": (put("n", 1), drop("n"), None),
    "deleted and changed": (drop("n"), put("n", 2), 2),
    "both deleted": (drop("n"), drop("n"), None),
}


@step_by_step
def test_a_conflict_runs_the_later_request_again(place: Place) -> None:
    site = place.serve(3)
    for name, (one, other, expected) in SAME_KEY.items():
        token = site.start(n=0, kept="yes")
        first, second = site.load(token, one, other)
        assert first.finish().ok, name
        assert second.finish().ok, name
        assert (first.attempts, second.attempts) == (1, 2), name
        assert site.data(token).get("n") == expected, name
        assert site.data(token)["kept"] == "yes", name


@step_by_step
@pytest.mark.parametrize(
    ("conflict", "attempts"),
    [("retry", None), ("retry", 1), ("merge", None)],
    ids=["without pyramid_retry", "last attempt", "merge"],
)
def test_where_no_attempt_is_left_mine_wins_with_a_warning(
    place: Place, conflict: str, attempts: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    site = place.serve(attempts, conflict=conflict)
    for name, (one, other, expected) in SAME_KEY.items():
        caplog.clear()
        token = site.start(n=0, kept="yes")
        first, second = site.load(token, one, other)
        assert first.finish().ok, name
        second.finish()
        if place.late_fails:
            assert isinstance(second.error, SessionConflict), name
            stored = {"n": 0, "kept": "yes"}
            one(stored)
            assert site.data(token) == stored, name
        else:
            assert second.ok, (name, second.error)
            assert site.data(token).get("n") == expected, name
            assert site.data(token)["kept"] == "yes", name
            assert "'n'" in caplog.text, name
            assert [record.levelname for record in caplog.records] == ["WARNING"], name


@step_by_step
def test_the_second_conflict_in_a_row_is_the_last_of_two_attempts(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    site = place.serve(2)
    token = site.start(n=0)

    def action(session: Any) -> None:
        session["n"] += 1
        site.visit(add("n", 10), token)

    late = site.request(action, token).load().finish()
    assert late.attempts == 2
    if place.late_fails:
        assert isinstance(late.error, SessionConflict)
        assert site.data(token) == {"n": 20}
    else:
        assert late.ok
        assert site.data(token) == {"n": 11}
        assert "'n'" in caplog.text


@step_by_step
def test_merge_never_runs_a_request_again_for_a_key(place: Place) -> None:
    site = place.serve(3, conflict="merge")
    for name, (one, other, expected) in SAME_KEY.items():
        token = site.start(n=0)
        first, second = site.load(token, one, other)
        assert first.finish().ok, name
        assert second.finish().ok, name
        # a conflict that the database reports is no question of policy
        assert second.attempts == (2 if place.late_fails else 1), name
        assert site.data(token).get("n") == expected, name


@step_by_step
@pytest.mark.parametrize("attempts", [None, 1], ids=["without pyramid_retry", "last attempt"])
def test_strict_always_raises(place: Place, attempts: int | None) -> None:
    site = place.serve(attempts, conflict="strict")
    for name, (one, other, _) in SAME_KEY.items():
        token = site.start(n=0, kept="yes")
        first, second = site.load(token, one, both(other, put("more", 1)))
        assert first.finish().ok, name
        assert isinstance(second.finish().error, SessionConflict), name
        expected = {"kept": "yes", "n": 0}
        one(expected)
        assert site.data(token) == expected, name


@step_by_step
def test_strict_is_an_error_that_pyramid_retry_runs_again(place: Place) -> None:
    site = place.serve(3, conflict="strict")
    token = site.start(n=0)
    first, second = site.load(token, add("n"), add("n"))
    assert first.finish().ok
    assert second.finish().result == 2
    assert site.data(token) == {"n": 2}


@step_by_step
def test_strict_lets_different_keys_be(place: Place) -> None:
    site = place.serve(3, conflict="strict")
    token = site.start(n=0)
    first, second = site.load(token, add("n"), put("m", 1))
    assert first.finish().ok
    assert second.finish().ok
    assert site.data(token) == {"n": 1, "m": 1}


@everywhere
def test_a_counter_that_many_threads_raise_loses_no_increment(place: Place) -> None:
    threads, each = 4, 8
    site = place.serve(500)
    token = site.start(n=0)

    def count(_: int) -> None:
        for _ in range(each):
            flight = site.request(add("n"), token)
            flight.release()
            assert flight.load().finish().ok, flight.error

    at_once(count, range(threads))
    assert site.data(token) == {"n": threads * each}


# ---- ended stays ended


@step_by_step
@with_or_without_retry
def test_a_write_after_anothers_logout_brings_nothing_back(
    place: Place, attempts: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    site = place.serve(attempts)
    token = site.start(secret="old")
    logout, write = site.load(token, invalidate, put("a", 1))
    assert "Max-Age=0" in logout.finish().cookies[0]
    write.finish()
    assert site.row(token) is None
    if not place.late_fails:
        assert write.ok
        assert not write.cookies
        assert rows(site.engine) == []
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "ended or regenerated by another request" in record.getMessage()
    elif attempts is None:
        assert isinstance(write.error, SessionConflict)
        assert rows(site.engine) == []
    else:
        # run again it finds no session, and starts one of its own
        assert site.data(write.token) == {"a": 1}


@step_by_step
@with_or_without_retry
def test_a_logout_after_anothers_write_ends_the_session(place: Place, attempts: int | None) -> None:
    site = place.serve(attempts)
    token = site.start(secret="old")
    logout, write = site.load(token, invalidate, put("a", 1))
    assert write.finish().ok
    logout.finish()
    if place.late_fails and attempts is None:
        assert isinstance(logout.error, SessionConflict)
        assert site.data(token) == {"secret": "old", "a": 1}
    else:
        assert "Max-Age=0" in logout.cookies[0]
        assert rows(site.engine) == []


@where_writes_wait
@with_or_without_retry
def test_a_write_that_waited_for_anothers_logout_brings_nothing_back(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    token = site.start(secret="old")
    logout, write = site.load(token, invalidate, put("a", 1))
    logout.save()
    write.release()
    place.wait_until_somebody_waits()
    assert logout.finish().ok
    write.finish()
    assert site.row(token) is None
    if not place.waiting_fails:
        assert write.ok
        assert not write.cookies
    for row in rows(site.engine):
        assert json.loads(row["data"]) == {"a": 1}


@where_writes_wait
@with_or_without_retry
def test_a_logout_that_waited_for_anothers_write_ends_the_session(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    token = site.start(secret="old")
    logout, write = site.load(token, invalidate, put("a", 1))
    write.save()
    logout.release()
    place.wait_until_somebody_waits()
    assert write.finish().ok
    logout.finish()
    if logout.ok:
        assert "Max-Age=0" in logout.cookies[0]
        assert rows(site.engine) == []
    else:
        assert place.waiting_fails
        assert attempts is None
        assert site.data(token) == {"secret": "old", "a": 1}


@step_by_step
def test_a_session_that_goes_on_after_its_logout_is_another_one(place: Place) -> None:
    site = place.serve(3)
    token = site.start(secret="old", _csrft_="in a form")
    logout, write = site.load(token, both(invalidate, put("new", 1)), put("a", 1))
    assert logout.finish().ok
    assert write.finish().ok
    assert not write.cookies
    assert logout.token != token
    new = site.row(logout.token)
    assert new is not None
    assert json.loads(new["data"]) == {"new": 1}
    # a marker is left, with nothing but what a form that was sent twice needs
    marker = site.row(token)
    assert marker is not None
    assert marker["replaced"] is not None
    assert marker["lineage"] == new["lineage"]
    assert json.loads(marker["data"]) == {"_csrft_": "in a form"}
    assert len(rows(site.engine)) == 2


@step_by_step
@with_or_without_retry
def test_of_two_logouts_one_finds_nothing_to_do(place: Place, attempts: int | None) -> None:
    site = place.serve(attempts)
    token = site.start(secret="old")
    first, second = site.load(token, invalidate, invalidate)
    assert "Max-Age=0" in first.finish().cookies[0]
    second.finish()
    assert rows(site.engine) == []
    if place.late_fails and attempts is None:
        assert isinstance(second.error, SessionConflict)
    else:
        assert second.ok, second.error
        assert not second.cookies


@everywhere
def test_a_logout_and_writes_at_once_leave_no_session(place: Place) -> None:
    site = place.serve(20)
    token = site.start(secret="old")
    flights = site.load(token, put("a", 1), invalidate, put("b", 2), invalidate)
    for flight in flights:
        flight.release()
    for flight in flights:
        assert flight.finish().ok, flight.error
    assert site.row(token) is None
    assert not [row for row in rows(site.engine) if b"old" in bytes(row["data"])]


@step_by_step
def test_a_session_that_expired_and_was_purged_meanwhile_is_not_brought_back(
    place: Place,
) -> None:
    site = place.serve()
    token = site.start(secret="old")
    (write,) = site.load(token, put("a", 1))
    with site.engine.begin() as connection:
        connection.execute(TABLE.delete())
    write.finish()
    assert not write.cookies
    assert rows(site.engine) == []


# ---- new sessions


@step_by_step
@either_order
@pytest.mark.parametrize("known", [False, True], ids=["no cookie", "an unknown cookie"])
def test_two_requests_that_each_start_a_session_get_one_each(
    place: Place, order: str, known: bool
) -> None:
    site = place.serve(3)
    chosen = secrets.token_urlsafe(32) if known else None
    early, late = swapped(order, *site.load(chosen, put("a", 1), put("b", 2)))
    assert early.finish().ok
    assert late.finish().ok
    assert len({early.token, late.token, chosen}) == 3
    assert len(rows(site.engine)) == 2
    stored = [site.data(flight.token) for flight in (early, late)]
    assert sorted(key for data in stored for key in data) == ["a", "b"]
    if chosen is not None:
        assert site.row(chosen) is None


@step_by_step
def test_two_new_sessions_can_be_inserted_at_the_same_time(place: Place) -> None:
    # a SQLite database has one writer at a time, and the other one may have to try often
    site = place.serve(1000)
    unknown = secrets.token_urlsafe(32)
    first, second = site.load(unknown, put("a", 1), put("b", 2))
    first.save()
    if site.engine.dialect.name == "sqlite":
        first.release()
    else:
        # neither waits for the other: looking for a row that is not there has locked nothing
        second.save()
    assert second.finish().ok
    assert first.finish().ok
    assert {site.data(flight.token).popitem()[0] for flight in (first, second)} == {"a", "b"}


# ---- flash messages

FLASHES: dict[str, tuple[list[str], Action, Action, list[str]]] = {
    "two flashes": ([], flash("one"), flash("two"), ["one", "two"]),
    "two flashes after an old one": (["old"], flash("one"), flash("two"), ["old", "one", "two"]),
    "the same text twice": ([], flash("one"), flash("one"), ["one", "one"]),
    "flash, then pop": (["old"], flash("new"), pop, ["new"]),
    "pop, then flash": (["old"], pop, flash("new"), ["new"]),
    "both pop": (["old"], pop, pop, []),
    "pop and flash of the same text, then pop of nothing": (
        [], pop_and_flash("saved"), pop, ["saved"],
    ),
    "pop, then pop and flash of the same text": (
        ["saved"], pop, pop_and_flash("saved"), ["saved"],
    ),
    "both pop and flash of the same text": (
        ["saved"], pop_and_flash("saved"), pop_and_flash("other"), ["other"],
    ),
    "no duplicate of what is there": (
        [], flash("one"), flash("one", allow_duplicate=False), ["one"],
    ),
    "no duplicate, but another one": (
        [], flash("one"), flash("two", allow_duplicate=False), ["one", "two"],
    ),
}  # fmt: skip


@where_late_writes_merge
def test_flash_messages_are_merged_by_what_was_done(place: Place) -> None:
    site = place.serve(conflict="strict")
    for name, (before, one, other, expected) in FLASHES.items():
        token = site.start(kept="yes", **({"_f_": before} if before else {}))
        first, second = site.load(token, one, other)
        assert first.finish().ok, name
        assert second.finish().ok, (name, second.error)
        assert site.data(token).get("_f_", []) == expected, name
        assert site.data(token)["kept"] == "yes", name


@step_by_step
@either_order
def test_every_flash_message_is_shown_once_or_still_waits(place: Place, order: str) -> None:
    site = place.serve(3)
    for one, other in [
        (flash("new"), pop),
        (flash("one"), flash("two")),
        (pop_and_flash("old"), flash("new")),
        (pop_and_flash("one"), flash("old")),
    ]:
        token = site.visit(flash("old")).token
        early, late = swapped(order, *site.load(token, one, other))
        assert early.finish().ok, early.error
        assert late.finish().ok, late.error
        shown = [*(early.result or []), *(late.result or [])]
        waiting = site.data(token).get("_f_", [])
        record = Recorder()
        one(record)
        other(record)
        assert sorted(shown + waiting) == sorted(["old", *record.flashed])


class Recorder:
    """A session that only writes down what is flashed."""

    def __init__(self) -> None:
        self.flashed: list[str] = []

    def flash(self, message: str, queue: str = "", allow_duplicate: bool = True) -> None:
        self.flashed.append(message)

    def pop_flash(self, queue: str = "") -> list[str]:
        return []


@step_by_step
def test_a_message_that_was_no_duplicate_any_more_is_flashed(place: Place) -> None:
    site = place.serve(3)
    token = site.visit(flash("saved")).token
    shows, saves = site.load(token, pop, both(put("a", 1), flash("saved", allow_duplicate=False)))
    assert shows.finish().result == ["saved"]
    assert saves.finish().ok
    # the browser has shown the first one; that it was saved again is still to be said
    assert site.data(token) == {"a": 1, "_f_": ["saved"]}


@step_by_step
def test_queues_are_merged_each_on_its_own(place: Place) -> None:
    site = place.serve(3)
    token = site.visit(lambda session: session.flash("old", "errors")).token
    first, second = site.load(
        token,
        lambda session: session.pop_flash("errors"),
        lambda session: session.flash("new", "infos"),
    )
    assert first.finish().result == ["old"]
    assert second.finish().ok
    assert site.data(token) == {"_f_infos": ["new"]}


@step_by_step
@pytest.mark.parametrize(
    "assign",
    [
        lambda session: session.update({"_f_": ["mine"]}),
        lambda session: session["_f_"].insert(0, "mine"),
        lambda session: session.pop("_f_"),
        lambda session: session.clear(),
    ],
    ids=["assigned", "edited", "deleted", "cleared"],
)
def test_a_flash_queue_that_is_changed_directly_is_an_ordinary_key(
    place: Place, assign: Action
) -> None:
    site = place.serve(3)
    token = site.visit(flash("old")).token
    first, second = site.load(token, flash("new"), assign)
    assert first.finish().ok
    assert second.finish().ok
    # it was run again on what the first one stored
    assert second.attempts == 2
    expected: dict[str, Any] = {"_f_": ["old", "new"]}
    assign(expected)
    assert site.data(token) == expected


@everywhere
@with_or_without_retry
def test_many_requests_that_flash_lose_no_message(place: Place, attempts: int | None) -> None:
    site = place.serve(attempts)
    token = site.visit(flash("old")).token
    flights = site.load(token, *(flash(f"message {n}") for n in range(4)))
    for flight in flights:
        flight.release()
    sent = [f"message {n}" for n, flight in enumerate(flights) if flight.finish().ok]
    assert len(sent) == 4 or place.waiting_fails
    assert sent
    assert sorted(site.data(token)["_f_"]) == [*sent, "old"]


# ---- many threads in one process


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_sqlite_engine_of_our_own_stores_every_write_of_many_threads(
    sqlite: Backend, kind: str
) -> None:
    threads, each = 8, 150
    settings: dict[str, Any] = {"sqlsession.model": SessionRow}
    if kind == "memory":
        settings["sqlsession.fallback_memory"] = "true"
    else:
        settings["sqlsession.sqlalchemy.url"] = sqlite.url
    config = Configurator(settings=settings)
    # without pyramid_retry: each writer waits for its turn
    config.include("pyramid_sqlsession")
    config.add_route("view", "/")
    config.add_view(count_visits, route_name="view", renderer="json")
    app = config.make_wsgi_app()
    factory: Any = config.registry.getUtility(ISessionFactory)
    browsers = [TestApp(app) for _ in range(threads)]
    results = at_once(lambda browser: [browser.get("/").json for _ in range(each)][-1], browsers)
    # there is no other way to what is kept in memory
    stored = [json.loads(row["data"]) for row in rows(factory._store.database._engine)]
    factory.close()
    assert results == [each] * threads
    assert stored == [{"n": each}] * threads


def count_visits(request: Any) -> Any:
    return add("n")(request.session)


@in_places(["sqlite-wal"])
def test_a_database_that_ignores_the_write_of_a_row_that_has_changed_is_no_conflict(
    place: Place,
) -> None:
    site = place.serve()
    token = site.start(a=1)
    (slow,) = site.load(token, put("b", 2))
    site.visit(put("c", 3), token)
    with place.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER keep BEFORE UPDATE ON sqlsession BEGIN SELECT RAISE(IGNORE); END"
        )
    slow.finish()
    with place.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER keep")
    assert isinstance(slow.error, SessionTableError)
    assert "a trigger or rule on the table" in str(slow.error)
    assert site.data(token) == {"a": 1, "c": 3}
