"""``session.require_live()``: work that must not be committed once the session was revoked."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.threadlocal import get_current_request
from sqlalchemy import Engine, create_engine
from support.apps import Broken, Note, configurator, no_transaction, notes, rows, serve
from support.docs.pages import DOCS, code_block, execute
from support.places import Place, in_places, where_writes_wait
from support.races import Action, both, drop, put
from support.servers import Backend
from transaction.interfaces import NoTransaction

from pyramid_sqlsession import SessionConflict, SessionNotLive

USER = "auth.userid"

with_dbsession = in_places(
    [
        "sqlite-wal",
        "postgresql-read-committed",
        "postgresql-repeatable-read",
        "postgresql-serializable",
        "mariadb-read-committed",
        "mariadb-repeatable-read",
        "mysql-repeatable-read",
    ]
)


def pay(session: Any) -> None:
    """Work of the application's, on condition that the session lives."""
    session.require_live()
    request: Any = get_current_request()
    request.dbsession.add(Note(text="paid"))


def require(session: Any) -> None:
    session.require_live()


def revoke(session: Any) -> Any:
    request: Any = get_current_request()
    return request.sqlsessions.revoke_user("alice")


def regenerate(session: Any) -> None:
    session.regenerate()


def read(session: Any) -> Any:
    return dict(session)


every_end = pytest.mark.parametrize(
    "end", [revoke, drop(USER), regenerate], ids=["revoked", "signed out", "regenerated"]
)


@where_writes_wait
def test_a_live_session_stays_as_it_is(place: Place) -> None:
    site = place.serve()
    token = site.start(**{USER: "alice"})
    before = site.row(token)
    assert not site.visit(require, token).cookies
    assert site.row(token) == before
    site.visit(both(require, put("a", 1)), token)
    assert site.data(token) == {USER: "alice", "a": 1}


@with_dbsession
@every_end
@pytest.mark.parametrize("attempts", [None, 3], ids=["once", "retried"])
def test_once_the_session_has_ended_nothing_of_the_request_is_committed(
    place: Place, end: Action, attempts: int | None
) -> None:
    site = place.serve(attempts)
    token = site.start(**{USER: "alice"})
    (slow,) = site.load(token, pay)
    site.visit(end, token)
    slow.finish()
    # where the database refuses the lock and nobody runs the request again
    assert isinstance(slow.error, (SessionNotLive, SessionConflict))
    assert isinstance(slow.error, SessionNotLive) or (place.late_fails and attempts is None)
    assert notes(place.engine) == []


@with_dbsession
@every_end
def test_whoever_ends_the_session_waits_for_the_request_that_needs_it(
    place: Place, end: Action
) -> None:
    site = place.serve(3)
    token = site.start(**{USER: "alice"})
    slow = site.load(token, pay)[0].save()
    (other,) = site.load(token, end)
    other.release()
    if place.engine.dialect.name != "sqlite":
        place.wait_until_somebody_waits()
    slow.finish()
    assert slow.ok, slow.error
    assert other.finish().ok, other.error
    assert notes(place.engine) == ["paid"]
    assert site.visit(read, token).result == {}


@where_writes_wait
@pytest.mark.parametrize("end", [revoke, lambda it: it.invalidate()], ids=["revoke", "invalidate"])
def test_a_session_that_the_request_itself_has_ended_is_not_live(place: Place, end: Action) -> None:
    site = place.serve()
    token = site.start(**{USER: "alice"})
    assert isinstance(site.load(token, both(end, require))[0].finish().error, SessionNotLive)
    # nothing of it was committed
    assert site.visit(read, token).result == {USER: "alice"}


@where_writes_wait
def test_without_a_session_there_is_none_that_lives(place: Place) -> None:
    site = place.serve()
    for token in (None, "x" * 43):
        assert isinstance(site.load(token, require)[0].finish().error, SessionNotLive)
    assert isinstance(site.load(None, both(put("a", 1), require))[0].finish().error, SessionNotLive)
    assert rows(place.engine) == []


def test_with_an_old_token_the_session_is_not_live(engine: Engine) -> None:
    def enter(request: Any) -> Any:
        request.session[USER] = "alice"

    def live(request: Any) -> Any:
        request.session.require_live()

    app = serve(configurator(engine), enter=enter, live=live)
    app.get("/enter")
    old = app.cookies["session"].strip('"')
    app.get("/enter")
    app.get("/live")
    app.reset()
    app.set_cookie("session", old)
    with pytest.raises(SessionNotLive, match="ended or regenerated"):
        app.get("/live")


def test_where_no_transaction_holds_the_lock_it_is_an_error(backend: Backend) -> None:
    engine = create_engine(backend.url)

    def live(request: Any) -> Any:
        request.session["a"] = 1
        request.session.require_live()

    config = configurator(engine, {"tm.activate_hook": no_transaction})
    with pytest.raises(NoTransaction, match="require_live"):
        serve(config, live=live).get("/live")
    engine.dispose()


def test_the_view_on_the_page_pays_as_long_as_the_session_lives(sqlite_engine: Engine) -> None:
    def payment(amount: str) -> Note:
        return Note(text=amount)

    block = code_block(DOCS / "signing_in.rst", "python", "def pay(")
    pay = execute(block, Payment=payment, HTTPSeeOther=HTTPSeeOther)["pay"]

    def enter(request: Any) -> Any:
        request.session[USER] = "alice"

    config = configurator(sqlite_engine)
    config.add_route("paid", "/paid")
    app = serve(config, enter=enter, pay=pay)
    with pytest.raises(SessionNotLive):
        app.post("/pay", {"amount": "5"})
    app.get("/enter")
    assert app.post("/pay", {"amount": "7"}, status=303).location.endswith("/paid")
    assert notes(sqlite_engine) == ["7"]


def test_a_request_that_fails_gives_the_lock_back(engine: Engine) -> None:
    def enter(request: Any) -> Any:
        request.session[USER] = "alice"

    def fail(request: Any) -> Any:
        request.session.require_live()
        raise Broken

    app = serve(configurator(engine), enter=enter, fail=fail)
    app.get("/enter")
    (row,) = rows(engine)
    with pytest.raises(Broken):
        app.get("/fail")
    app.get("/enter")
    assert row not in rows(engine)
