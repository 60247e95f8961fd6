"""What happens to sessions, as the log and the subscribers are told: once, and whose."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from support.apps import (
    EPOCH,
    Broken,
    Clock,
    Note,
    SessionRow,
    configurator,
    listening,
    notes,
    own_configurator,
    put,
    rows,
    serve,
    show,
)
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import CookieRejected, SessionEnded, SQLSessionFactory, events
from pyramid_sqlsession.events import Rejections

USER = "auth.userid"


def enter(request: Any) -> Any:
    request.session[USER] = request.GET.get("user", "alice")
    return {}


def leave(request: Any) -> Any:
    request.session.invalidate()
    return {}


def revoke(request: Any) -> Any:
    return request.sqlsessions.revoke_user("alice")


def fail(request: Any) -> Any:
    request.session.get("a")
    raise Broken


VIEWS: dict[str, Callable[[Any], Any]] = {
    "enter": enter, "leave": leave, "revoke": revoke, "fail": fail, "put": put, "show": show,
}  # fmt: skip


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log about sessions and cookies that an operator sees."""
    shown = (it for it in caplog.records if it.levelno >= logging.INFO)
    return [text for it in shown if (text := it.getMessage()).startswith(("session ", "cookies "))]


# ---- lines


def test_a_sign_in_and_every_end_is_a_line_with_the_user_and_the_handle(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    clock = Clock()
    config = configurator(sqlite_engine, clock=clock, ttl="1h", max_sessions_per_user=1)
    app = serve(config, **VIEWS)
    browsers = [TestApp(app.app) for _ in range(2)]
    tokens, handles = [], []
    for browser in browsers:
        browser.get("/enter")
        clock.advance(1)
        tokens.append(browser.cookies["session"].strip('"'))
        (row,) = (row for row in rows(sqlite_engine) if row["replaced"] is None)
        handles.append(row["lineage"].hex())
    browsers[1].get("/leave")
    browsers[1].get("/enter?user=bob%0aeve")
    (row,) = (row for row in rows(sqlite_engine) if row["replaced"] is None)
    assert lines(caplog) == [
        f"session {handles[0]} created, user 'alice'",
        f"session {handles[1]} created, user 'alice'",
        f"session {handles[0]} ended: limit, user 'alice'",
        f"session {handles[1]} ended: logout, user 'alice'",
        f"session {row['lineage'].hex()} created, user 'bob\\neve'",
    ]
    for token in tokens:
        assert token not in caplog.text


def test_a_session_of_nobody_is_no_line_that_an_operator_sees(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    app = serve(configurator(sqlite_engine), **VIEWS)
    app.get("/put")
    assert lines(caplog) == []
    app.get("/enter")
    (line,) = lines(caplog)
    assert re.fullmatch(r"session \w{32} regenerated as session \w{32}, user 'alice'", line)


# ---- an expiry, once


def own(engine: Engine, clock: Clock) -> Any:
    url = engine.url.render_as_string(hide_password=False)
    config = configurator(engine)
    config.set_session_factory(
        SQLSessionFactory(
            sqlalchemy={"url": url}, model=SessionRow, clock=clock, cleanup_interval=None, ttl="1h"
        )
    )
    return config


def shared(engine: Engine, clock: Clock) -> Any:
    return configurator(engine, clock=clock, ttl="1h")


@pytest.mark.parametrize("way", [shared, own])
def test_an_expired_session_is_told_once_however_often_its_cookie_comes(
    engine: Engine, way: Any
) -> None:
    clock, told = Clock(), list[SessionEnded]()
    config = way(engine, clock)
    config.add_subscriber(told.append, SessionEnded)
    app = serve(config, **VIEWS)
    app.get("/enter")
    old = {"Cookie": f"session={app.cookies['session']}"}
    visitor = TestApp(app.app)
    clock.advance(3600)
    for path in ("/show", "/show", "/put", "/show"):
        visitor.reset()
        visitor.get(path, headers=old)
    assert [(event.reason, event.user_id) for event in told] == [("expiry", "alice")]
    expired = min(rows(engine), key=lambda row: int(row["purge_after"]))
    # the purge is next
    assert (expired["purge_after"], expired["last_seen"]) == (0, EPOCH)


def test_the_audit_subscriber_writes_one_row_for_one_expired_cookie(engine: Engine) -> None:
    def audit(event: SessionEnded) -> None:
        event.request.dbsession.add(Note(text=f"{event.user_id} {event.reason}"))

    clock = Clock()
    config = shared(engine, clock)
    config.add_subscriber(audit, SessionEnded)
    app = serve(config, **VIEWS)
    app.get("/enter")
    clock.advance(3600)
    # what it has written is rolled back, and so the end is told again
    with pytest.raises(Broken):
        app.get("/fail")
    assert notes(engine) == []
    for _ in range(3):
        app.get("/show")
    assert notes(engine) == ["alice expiry"]


def test_a_session_that_another_hosts_clock_opens_is_not_lost_when_it_was_told(
    engine: Engine,
) -> None:
    ahead, right = Clock(), Clock()
    browsers = [serve(shared(engine, clock), **VIEWS) for clock in (ahead, right)]
    browsers[1].get("/enter")
    cookie = {"Cookie": f"session={browsers[1].cookies['session']}"}
    right.advance(3000)
    ahead.advance(3600)
    assert browsers[0].get("/show", headers=cookie).json == {}
    assert browsers[1].get("/show").json == {USER: "alice"}
    (row,) = rows(engine)
    assert row["purge_after"] >= EPOCH + 3000 + 3600


def test_an_expiry_that_cannot_be_noted_is_told_again(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    clock, told = Clock(), list[SessionEnded]()
    config = shared(engine, clock)
    config.add_subscriber(told.append, SessionEnded)
    app = serve(config, **VIEWS)
    app.get("/enter")
    clock.advance(3600)

    def refuse(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE"):
            raise OSError("the disk is full")

    with listening(engine, "before_cursor_execute", refuse):
        app.get("/show")
    assert " will be reported again: the disk is full" in caplog.text
    app.get("/show")
    app.get("/show")
    assert [event.reason for event in told] == ["expiry", "expiry"]


# ---- rejected cookies


def test_rejected_cookies_are_summed_up_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    now = [0.0]
    rejections = Rejections(lambda: now[0])
    unknown, malformed = (
        CookieRejected(None, "", "unknown"),
        CookieRejected(None, "", "malformed"),
    )
    for seconds, event in ((0, unknown), (1, unknown), (59, malformed), (60, unknown)):
        now[0] = seconds
        rejections.count(event)
    shown = [it.getMessage() for it in caplog.records]
    assert shown == [
        "cookies rejected since the last such line: 1 unknown",
        "cookies rejected since the last such line: 1 malformed, 2 unknown",
    ]


def test_a_flood_of_wrong_cookies_is_one_line_and_every_one_is_an_event(
    sqlite: Backend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_rejections", Rejections(lambda: 0.0))
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    told: list[CookieRejected] = []
    config = own_configurator(sqlite.url)
    config.add_subscriber(told.append, CookieRejected)
    app = serve(config, **VIEWS)
    for number in range(50):
        app.get("/show", headers={"Cookie": f"session={number:043}"})
    assert len(told) == 50
    assert lines(caplog) == ["cookies rejected since the last such line: 1 unknown"]
