"""A session keeps its handle from its start to its end, and with its end every row of it goes."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.interfaces import ISessionFactory
from pyramid.threadlocal import get_current_request
from sqlalchemy import create_engine
from support.apps import EPOCH, Clock, configurator, listening, rows, serve, show
from support.places import Place, in_places, where_late_writes_merge
from support.races import Action, both, drop, put
from support.servers import Backend

from pyramid_sqlsession import SessionEnded, SessionEvent

USER = "auth.userid"
HOUR = 3600


def regenerate(session: Any) -> None:
    session.regenerate()


def invalidate(session: Any) -> None:
    session.invalidate()


def handle(session: Any) -> Any:
    return session.id


def revoke(session: Any) -> Any:
    """End every session of alice."""
    request: Any = get_current_request()
    return request.sqlsessions.revoke_user("alice")


def revoke_one(name: str) -> Action:
    def action(_session: Any) -> Any:
        request: Any = get_current_request()
        return request.sqlsessions.revoke(name)

    return action


def csrf(session: Any) -> Any:
    return session.get_csrf_token()


@where_late_writes_merge
@pytest.mark.parametrize(
    ("before", "action", "is_same"),
    [
        ({"a": 1}, put("a", 2), True),
        ({"a": 1}, regenerate, True),
        ({USER: "alice"}, regenerate, True),
        ({USER: "alice"}, put(USER, "alice"), True),
        ({"a": 1}, put(USER, "alice"), False),
        ({USER: "alice"}, put(USER, "bob"), False),
        ({USER: "alice"}, both(drop(USER), put("a", 1)), False),
        ({"a": 1}, both(invalidate, put("a", 1)), False),
        ({USER: "alice"}, both(invalidate, put(USER, "alice")), False),
    ],
    ids=[
        "write", "regenerate anonymously", "regenerate", "step up", "sign in", "change users",
        "sign out and go on", "end and go on", "end and sign in",
    ],
)  # fmt: skip
def test_the_handle_changes_where_another_session_begins(
    place: Place, before: dict[str, Any], action: Action, is_same: bool
) -> None:
    site = place.serve()
    old = site.start(**before)
    first = site.visit(handle, old).result
    changed = site.visit(action, old)
    new = changed.token if changed.cookies else old
    assert len(first) == 32
    assert site.visit(handle, new).result == site.handle(new)
    assert (site.handle(new) == first) is is_same
    # the row of the old token is in the session that goes on or follows, or was it
    assert {row["lineage"].hex() for row in rows(site.engine)} == {site.handle(new)}


@where_late_writes_merge
def test_a_marker_has_no_handle(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    site.visit(regenerate, old)
    assert site.visit(handle, old).result is None


@where_late_writes_merge
@pytest.mark.parametrize(
    "end", [drop(USER), invalidate, revoke], ids=["sign out", "invalidate", "revoke"]
)
def test_with_its_end_every_row_of_a_session_goes(place: Place, end: Action) -> None:
    site = place.serve()
    first = site.start(cart=["tea"])
    token = site.visit(put(USER, "alice"), first).token
    for _ in range(3):
        token = site.visit(regenerate, token).token
    # a form that was sent twice
    assert site.visit(put(USER, "alice"), first).token != token
    assert len(rows(site.engine)) == 6
    site.visit(end, token)
    assert rows(site.engine) == []


@where_late_writes_merge
def test_a_slow_sign_out_does_not_end_the_session_of_a_later_sign_in(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    (slow,) = site.load(old, drop(USER))
    bye = site.visit(both(drop(USER), put("a", 1)), old).token
    again = site.visit(put(USER, "alice"), bye).token
    assert not slow.finish().cookies
    assert site.visit(dict, again).result == {"a": 1, USER: "alice"}


@where_late_writes_merge
def test_a_sign_out_does_not_end_the_session_of_another_user_who_came_meanwhile(
    place: Place,
) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    (leave,) = site.load(old, drop(USER))
    bob = site.visit(put(USER, "bob"), old).token
    assert not leave.finish().cookies
    assert site.visit(dict, bob).result == {USER: "bob"}


@where_late_writes_merge
def test_ending_a_session_with_an_old_token_ends_it(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    new = site.visit(regenerate, old).token
    assert "Max-Age=0" in site.visit(invalidate, old).cookies[0]
    assert site.visit(dict, new).result == {}


@where_late_writes_merge
def test_a_slow_sign_out_leaves_the_csrf_token_that_was_made_meanwhile(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    (slow,) = site.load(old, both(drop(USER), put("a", 1)))
    csrf_token = site.visit(csrf, old).result
    new = slow.finish().token
    # the form that was shown meanwhile is sent with either
    assert site.visit(dict, old).result == {"_csrft_": csrf_token}
    assert site.visit(dict, new).result == {"a": 1}


@where_late_writes_merge
@pytest.mark.parametrize("way", ["user", "handle"])
def test_who_ends_a_users_sessions_with_the_token_from_before_the_sign_in_keeps_the_cookie(
    place: Place, way: str
) -> None:
    site = place.serve()
    old = site.start(cart=["tea"])
    name = site.handle(site.visit(put(USER, "alice"), old).token)
    late = site.visit(revoke if way == "user" else revoke_one(name), old)
    assert late.result
    # it has not opened what was ended; the browser may hold another one by now
    assert not late.cookies
    assert rows(site.engine) == []


@where_late_writes_merge
def test_a_late_step_up_finds_the_session_that_gets_another_token_at_that_moment(
    place: Place,
) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    (slow,) = site.load(old, put(USER, "alice"))
    new = site.visit(regenerate, old).token
    other = site.load(new, regenerate)[0].save()
    slow.release()
    if not place.waiting_fails:
        place.wait_until_somebody_waits()
    newest = other.finish().token
    if place.waiting_fails:
        slow.finish()
        return
    assert site.visit(dict, slow.finish().token).result == {USER: "alice"}
    assert site.handle(slow.token) == site.handle(newest)


@where_late_writes_merge
def test_whoever_revokes_an_anonymous_session_with_its_old_token_keeps_the_cookie(
    place: Place,
) -> None:
    site = place.serve()
    old = site.start(cart=["tea"])
    name = site.handle(site.visit(regenerate, old).token)
    late = site.visit(revoke_one(name), old)
    assert late.result
    assert not late.cookies
    assert rows(site.engine) == []


@in_places(["sqlite-wal"])
def test_a_second_sign_in_joins_a_session_that_another_request_writes_at_that_moment(
    place: Place,
) -> None:
    site = place.serve()
    old = site.start(cart=["tea"])
    new = site.visit(put(USER, "alice"), old).token
    (slow,) = site.load(old, put(USER, "alice"))
    writing = [new]

    def write(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        # SQLite locks no row that is read with FOR UPDATE
        if "FROM sqlsession" in statement and "r_version" in statement and writing:
            site.visit(put("a", 1), writing.pop())

    with listening(place.engine, "after_cursor_execute", write):
        slow.finish()
    assert not writing
    assert site.visit(dict, slow.token).result == {USER: "alice", "cart": ["tea"]}
    assert site.handle(slow.token) == site.handle(new)


def test_a_marker_opens_nothing_after_the_grace_and_goes_an_hour_later(sqlite: Backend) -> None:
    clock = Clock()
    told: list[str] = []

    def renew(request: Any) -> Any:
        request.session.get_csrf_token()
        request.session.regenerate()

    def fill(request: Any) -> Any:
        return request.session.get_csrf_token()

    engine = create_engine(sqlite.url)
    config = configurator(engine, clock=clock, regenerate_grace=30)
    config.add_subscriber(lambda event: told.append(str(event)), SessionEvent)
    browser = serve(config, fill=fill, renew=renew, show=show)
    csrf_token = browser.get("/fill").json
    old = browser.cookies["session"]
    browser.get("/renew")
    (marker,) = (row for row in rows(engine) if row["replaced"] is not None)
    assert (marker["replaced"], marker["max_age"]) == (EPOCH, 30 + HOUR)
    late = {"Cookie": f"session={old}"}
    assert browser.get("/show", headers=late).json == {"_csrft_": csrf_token}
    clock.advance(30)
    assert browser.get("/show", headers=late).json == {}
    assert told[-1] == f"cookie of session {marker['lineage'].hex()} rejected: replaced"
    purge = browser.app.registry.getUtility(ISessionFactory)._store.purge
    clock.advance(HOUR - 1)
    assert sum(purge.batches(engine, 10)) == 0
    clock.advance(1)
    assert sum(purge.batches(engine, 10)) == 1
    assert [row["replaced"] for row in rows(engine)] == [None]


def test_a_session_of_another_user_is_not_revoked_by_its_handle(sqlite: Backend) -> None:
    def enter(request: Any) -> Any:
        request.session[USER] = request.GET["user"]

    def end(request: Any) -> Any:
        return request.sqlsessions.revoke(request.GET["handle"], user_id=request.GET["user"])

    told: list[SessionEnded] = []
    engine = create_engine(sqlite.url)
    config = configurator(engine)
    config.add_subscriber(told.append, SessionEnded)
    browser = serve(config, enter=enter, end=end)
    browser.get("/enter?user=alice")
    (row,) = rows(engine)
    name = row["lineage"].hex()
    assert browser.get(f"/end?handle={name}&user=bob").json is False
    assert rows(engine) == [row]
    assert browser.get(f"/end?handle={name}&user=alice").json is True
    assert [(event.handle, event.user_id) for event in told] == [(name, "alice")]
    assert rows(engine) == []
