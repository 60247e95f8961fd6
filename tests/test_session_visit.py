"""Requests that are no visit, and visits in a transaction that somebody else owns."""

from __future__ import annotations

from typing import Any

import pytest
import transaction
import zope.sqlalchemy
from pyramid.authorization import Deny
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.security import forget
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from support.apps import (
    EPOCH,
    EXPLICIT,
    Base,
    Broken,
    Clock,
    configurator,
    rows,
    serve,
    session_cookies,
)
from webtest import TestApp

from pyramid_sqlsession import SQLSessionFactory

DAY = 86400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    """One database is enough for what no database knows."""
    return sqlite_engine


class Nobody:
    """A security policy that looks into the session and permits nothing."""

    def identity(self, request: Any) -> Any:
        return request.session.get("n")

    authenticated_userid = identity

    def permits(self, request: Any, context: Any, permission: str) -> Any:
        self.identity(request)
        return Deny

    def remember(self, request: Any, userid: Any, **kw: Any) -> Any:
        return []

    forget = staticmethod(forget)


def put(request: Any) -> dict[str, int]:
    request.session["n"] = request.session.get("n", 0) + 1
    return dict(request.session)


def read(request: Any) -> dict[str, int]:
    return dict(request.session)


def fail(request: Any) -> None:
    dict(request.session)
    raise Broken


def site(engine: Engine, clock: Clock, **options: Any) -> TestApp:
    """Views with and without the option; the session is a day old."""
    config = configurator(engine, clock=clock, **options)
    config.set_security_policy(Nobody())
    for name, view, more in (
        ("poll", read, {"session_visit": False}),
        ("poll_and_write", put, {"session_visit": False}),
        ("poll_and_fail", fail, {"session_visit": False}),
        ("poll_in_secret", read, {"session_visit": False, "permission": "any"}),
        ("secret", read, {"permission": "any"}),
        ("fail", fail, {}),
        ("visit", read, {"session_visit": True}),
    ):
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name, renderer="json", **more)
    config.add_forbidden_view(lambda request: read(request), renderer="json")
    config.add_exception_view(lambda request: read(request), Broken, renderer="json")
    config.add_notfound_view(lambda request: read(request), renderer="json", session_visit=False)
    app = serve(config, put=put, read=read)
    app.get("/put")
    clock.advance(DAY)
    return app


def last_seen(engine: Engine) -> int:
    (row,) = rows(engine)
    return int(row["last_seen"])


@pytest.mark.parametrize("path", ["poll", "poll_and_fail", "poll_in_secret", "no_such_page"])
def test_a_request_of_such_a_view_keeps_no_session_alive(
    engine: Engine, clock: Clock, path: str
) -> None:
    app = site(engine, clock, cookie_max_age="10d")
    response = app.get(f"/{path}")
    assert response.json == {"n": 1}
    assert session_cookies(response) == []
    assert last_seen(engine) == EPOCH
    clock.advance(9 * DAY)
    assert app.get(f"/{path}").json == {}


@pytest.mark.parametrize("path", ["read", "visit", "secret", "fail"])
def test_every_other_request_does(engine: Engine, clock: Clock, path: str) -> None:
    app = site(engine, clock)
    assert app.get(f"/{path}").json == {"n": 1}
    assert last_seen(engine) == EPOCH + DAY


def test_what_such_a_view_stores_in_the_session_is_activity(engine: Engine, clock: Clock) -> None:
    app = site(engine, clock)
    assert app.get("/poll_and_write").json == {"n": 2}
    assert last_seen(engine) == EPOCH + DAY


def test_it_may_tell_how_much_time_is_left(engine: Engine, clock: Clock) -> None:
    def expiry(request: Any) -> int:
        return int(request.session.expires_at)

    config = configurator(engine, clock=clock, ttl="10d")
    config.add_route("poll", "/poll")
    config.add_view(expiry, route_name="poll", renderer="json", session_visit=False)
    app = serve(config, put=put, visit=expiry)
    app.get("/put")
    clock.advance(DAY)
    assert app.get("/poll").json == EPOCH + 10 * DAY
    assert app.get("/visit").json == EPOCH + 11 * DAY


def test_the_option_may_stand_beside_another_session_factory(engine: Engine) -> None:
    config = configurator(engine)
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    config.add_route("poll", "/poll")
    config.add_view(read, route_name="poll", renderer="json", session_visit=False)
    assert serve(config).get("/poll").json == {}


@pytest.mark.parametrize("wrong", ["no", 0.5, "False", []])
def test_an_option_that_is_neither_true_nor_false_is_refused(engine: Engine, wrong: Any) -> None:
    config = configurator(engine)
    config.add_view(read, name="poll", session_visit=wrong)
    with pytest.raises(ConfigurationError, match=r"session_visit = .* must be True or False"):
        config.commit()


# ---- somebody else's transaction


def outside() -> tuple[Any, dict[str, Any]]:
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    return manager, {"tm.active": True, "tm.manager": manager}


def test_the_cookie_of_a_visit_in_anothers_transaction_moves_with_it(
    engine: Engine, clock: Clock
) -> None:
    app = site(engine, clock, cookie_max_age="10d")
    for _ in range(30):
        manager, environ = outside()
        assert session_cookies(app.get("/read", extra_environ=environ))
        manager.abort()
        clock.advance(DAY)
    assert app.get("/read").json == {"n": 1}


def bound_to_a_connection(url: str) -> Any:
    return create_engine(url).connect()


def in_one_connection(url: str) -> Any:
    return create_engine(url, poolclass=StaticPool)


@pytest.mark.parametrize("make", [bound_to_a_connection, in_one_connection])
def test_a_visit_is_not_recorded_on_a_connection_whose_transaction_is_anothers(
    make: Any, engine: Engine, clock: Clock
) -> None:
    Base.metadata.create_all(engine)
    bind = make(engine.url)
    config = Configurator(settings=EXPLICIT)

    def dbsession(request: Any) -> Session:
        session = Session(bind)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, reify=True)
    config.include("pyramid_sqlsession")
    config.set_session_factory(SQLSessionFactory(clock=clock, cleanup_interval=0))
    app = serve(config, put=put, read=read)
    app.get("/put")
    if not isinstance(bind, Engine):
        bind.commit()
    clock.advance(DAY)
    manager, environ = outside()
    assert app.get("/read", extra_environ=environ).json == {"n": 1}
    manager.abort()
    assert last_seen(engine) == EPOCH
    app.get("/read")
    if not isinstance(bind, Engine):
        bind.commit()
        bind.close()
    assert last_seen(engine) == EPOCH + DAY
