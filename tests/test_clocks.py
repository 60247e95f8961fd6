"""Clocks: of several hosts, frozen ones, and cookies that keep up with the session."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Engine, create_engine
from support.apps import EPOCH, Clock, configurator, rows, serve, session_cookies, show
from webtest import TestApp

from pyramid_sqlsession import SQLSessionFactory

MINUTE = 60
HOUR = 3600
DAY = 86400


def put(request: Any) -> None:
    request.session["n"] = request.session.get("n", 0) + 1


def regenerate(request: Any) -> None:
    request.session.regenerate()


def step_up(request: Any) -> None:
    request.session["auth.userid"] = "alice"


def sibling(app: TestApp, other: TestApp) -> TestApp:
    """Another host's application, with the same cookie."""
    other.set_cookie("session", app.cookies["session"])
    return other


# ---- two hosts


@pytest.mark.parametrize("path", ["put", "show", "regenerate", "step_up"])
def test_a_host_whose_clock_is_slow_moves_no_session_back(engine: Engine, path: str) -> None:
    ahead, behind = Clock(EPOCH + HOUR), Clock(EPOCH)
    views = {"put": put, "show": show, "regenerate": regenerate, "step_up": step_up}
    fast = serve(configurator(engine, clock=ahead), **views)
    fast.get("/step_up")
    slow = sibling(fast, serve(configurator(create_engine(engine.url), clock=behind), **views))
    slow.get(f"/{path}")
    live = [row for row in rows(engine) if row["replaced"] is None]
    assert [row["last_seen"] for row in live] == [EPOCH + HOUR]


@pytest.mark.parametrize("path", ["put", "regenerate"])
def test_a_write_takes_back_no_visit_that_a_fast_host_has_recorded_meanwhile(
    engine: Engine, path: str
) -> None:
    ahead, behind = Clock(EPOCH), Clock(EPOCH)
    views = {"show": show}
    fast = serve(configurator(create_engine(engine.url), clock=ahead, ttl="1h"), **views)

    def slow_put(request: Any) -> None:
        put(request)
        ahead.advance(50 * MINUTE)
        # a touch: it does not raise the version
        fast.get("/show")

    slow = serve(configurator(engine, clock=behind, ttl="1h"), put=put, slow_put=slow_put, **views)
    slow.get("/put")
    sibling(slow, fast)
    behind.advance(1)
    slow.get("/slow_put")
    (row,) = rows(engine)
    assert row["version"] == 2
    assert row["last_seen"] == EPOCH + 50 * MINUTE
    assert row["purge_after"] >= EPOCH + 50 * MINUTE + HOUR
    behind.now = EPOCH + 100 * MINUTE
    assert slow.get("/show").json == {"n": 2}


def test_a_write_may_shorten_what_no_other_host_has_moved(engine: Engine) -> None:
    def forget(request: Any) -> None:
        request.session.max_age = 60

    app = serve(configurator(engine, clock=Clock()), put=put, forget=forget)
    app.get("/put")
    before = rows(engine)[0]["purge_after"]
    app.get("/forget")
    assert rows(engine)[0]["purge_after"] < before


# ---- frozen ones


def test_a_clock_that_is_frozen_after_the_start_is_the_sessions_clock(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = serve(configurator(sqlite_engine, {"sqlsession.ttl": "1h"}), put=put, show=show)
    # as freezegun does
    monkeypatch.setattr(time, "time", lambda: float(EPOCH))
    app.get("/put")
    assert rows(sqlite_engine)[0]["created"] == EPOCH
    monkeypatch.setattr(time, "time", lambda: EPOCH + HOUR - 1.0)
    assert app.get("/show").json == {"n": 1}
    monkeypatch.setattr(time, "time", lambda: EPOCH + 3.0 * HOUR)
    assert app.get("/show").json == {}


def test_a_clock_of_its_own_is_the_factorys_attribute(sqlite_engine: Engine) -> None:
    clock = Clock()
    config = configurator(sqlite_engine, clock=clock)
    app = serve(config, put=put)
    factory: Any = config.registry.getUtility(ISessionFactory)
    assert factory.clock is clock
    factory.clock = lambda: EPOCH + 5
    app.get("/put")
    assert rows(sqlite_engine)[0]["created"] == EPOCH + 5
    assert abs(SQLSessionFactory().clock() - time.time()) < HOUR


# ---- the cookie keeps up


@pytest.mark.parametrize("path", ["put", "show"])
@pytest.mark.parametrize("step", [MINUTE, 7 * MINUTE, DAY])
def test_a_busy_visitor_keeps_the_cookie_and_gets_it_once_an_interval(
    sqlite_engine: Engine, path: str, step: int
) -> None:
    clock = Clock()
    config = configurator(sqlite_engine, clock=clock, cookie_max_age="2d", touch_interval="5m")
    app = serve(config, put=put, show=show)
    app.get("/put")
    ends, sent = clock.now + 2 * DAY, 0
    times = 4 * DAY // step if step >= DAY else 60
    for _ in range(times):
        clock.advance(step)
        assert clock.now < ends
        cookies = session_cookies(app.get(f"/{path}"))
        if cookies:
            sent += 1
            ends = clock.now + 2 * DAY
        # the browser forgets it at most an interval before the row expires
        assert ends >= rows(sqlite_engine)[0]["last_seen"] + 2 * DAY - 5 * MINUTE
    assert sent == min(times, times * step // (5 * MINUTE))


def test_what_a_write_says_about_its_lifetime_is_sent_at_once(sqlite_engine: Engine) -> None:
    clock = Clock()

    def remember(request: Any) -> None:
        request.session.max_age = 30 * DAY

    app = serve(configurator(sqlite_engine, clock=clock, cookie_max_age="2d"), put=put, it=remember)
    app.get("/put")
    clock.advance(1)
    assert session_cookies(app.get("/put")) == []
    (cookie,) = session_cookies(app.get("/it"))
    assert f"Max-Age={30 * DAY};" in cookie
