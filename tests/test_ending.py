"""To end a session is to delete every row of it; what has expired is none that could be ended."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from support.apps import Clock, configurator, put, rows, serve
from webtest import TestApp

from pyramid_sqlsession import SessionEnded


def enter(request: Any) -> Any:
    request.session["auth.userid"] = "alice"
    return {}


def end_all(request: Any) -> Any:
    return request.sqlsessions.revoke_user("alice")


def end_one(request: Any) -> Any:
    return request.sqlsessions.revoke(request.params["handle"])


def signed_in(engine: Engine, clock: Clock, ended: list[SessionEnded]) -> TestApp:
    """A browser whose user has signed in from an anonymous session."""
    config = configurator(engine, clock=clock, ttl="1h")
    config.add_subscriber(ended.append, SessionEnded)
    browser = serve(config, put=put, enter=enter, end_all=end_all, end_one=end_one)
    browser.get("/put")
    browser.get("/enter")
    assert len(rows(engine)) == 2
    return browser


def test_a_session_that_has_expired_is_not_counted_among_those_that_were_ended(
    engine: Engine,
) -> None:
    clock, ended = Clock(), list[SessionEnded]()
    browser = signed_in(engine, clock, ended)
    handle = rows(engine)[0]["lineage"].hex()
    clock.advance(3600)
    assert browser.get(f"/end_one?handle={handle}").json is False
    assert rows(engine) == []
    # it has ended by itself
    assert [event.reason for event in ended] == ["expiry"]


def test_the_cookie_of_a_session_that_has_expired_is_not_removed_when_its_rows_are(
    engine: Engine,
) -> None:
    clock, ended = Clock(), list[SessionEnded]()
    browser = signed_in(engine, clock, ended)
    clock.advance(3600)
    # a parallel response may have set a new one just now
    response = browser.get("/end_all")
    assert response.json == 0
    assert "Set-Cookie" not in response.headers
    assert rows(engine) == []
    # it has ended by itself
    assert [event.reason for event in ended] == ["expiry"]
