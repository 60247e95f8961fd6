"""Requests that have no transaction: nobody can undo them, so nobody runs them again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest
from pyramid.response import Response
from pyramid_retry import is_error_retryable
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError
from support.apps import (
    Base,
    SessionRow,
    configurator,
    listening,
    no_transaction,
    own_configurator,
    prefixed,
    rows,
    serve,
)
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionBusy, SessionConflict, SessionConflicted

KEY = "n"


@pytest.fixture(params=["dbsession", "own engine"])
def make(request: pytest.FixtureRequest, backend: Backend) -> Callable[..., Any]:
    """A configuration without transactions, with pyramid_retry."""
    engine = create_engine(backend.url)
    Base.metadata.create_all(engine)

    def configuration(**settings: Any) -> Any:
        ini = {"tm.activate_hook": no_transaction, **prefixed(settings)}
        if request.param == "dbsession":
            return configurator(create_engine(backend.url), ini, retry=True)
        return own_configurator(backend.url, ini, retry=True, model=SessionRow)

    return configuration


def count(request: Any) -> None:
    request.session[KEY] = request.session.get(KEY, 0) + 1


class Beside:
    """A view that changes the session while another request changes the same key."""

    def __init__(self) -> None:
        self.runs = 0
        self.other: Any = None

    def __call__(self, request: Any) -> Any:
        self.runs += 1
        count(request)
        self.other.get("/count")
        return {"runs": self.runs}


def site(config: Any) -> tuple[TestApp, Beside]:
    view = Beside()
    app = serve(config, count=count, beside=view)
    app.get("/count")
    view.other = TestApp(app.app)
    view.other.set_cookie("session", app.cookies["session"])
    return app, view


@pytest.mark.parametrize("policy", ["retry", "merge"])
def test_of_two_changes_of_one_key_the_later_one_wins_with_a_warning(
    make: Callable[..., Any], policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = site(make(conflict=policy))
    assert app.get("/beside").json == {"runs": 1}
    assert "the later request wins" in caplog.text


def test_a_conflict_that_is_always_raised_is_raised_once_and_for_all(
    make: Callable[..., Any],
) -> None:
    config = make(conflict="strict")
    seen: list[Any] = []

    def failed(error: Any, request: Any) -> Any:
        seen.append((error, is_error_retryable(request, error)))
        return Response("busy", status=503)

    config.add_exception_view(failed, context=SessionBusy)
    app, view = site(config)
    assert app.get("/beside", status=503).text == "busy"
    assert view.runs == 1
    ((error, is_retryable),) = seen
    assert (error.keys, is_retryable) == ((KEY,), False)
    assert isinstance(error.__cause__, SessionConflict)


class Refusal:
    """The database's refusal of a write, so many times."""

    def __init__(self, times: int, verb: str) -> None:
        self.times = times
        self.verb = verb
        self.seen = 0

    def __call__(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(self.verb) and "sqlsession" in statement:
            self.seen += 1
            if self.seen <= self.times:
                # as SQLAlchemy would: 2.0 does not wrap what a listener raises
                raise OperationalError(statement, None, refusal(connection.dialect.name))


def refusal(name: str) -> Exception:
    """What the driver says about another transaction that was in the way."""
    errors: dict[str, Exception] = {
        "sqlite": sqlite3.OperationalError("database is locked"),
        "postgresql": psycopg.errors.SerializationFailure("could not serialize access"),
        "mysql": pymysql.err.OperationalError(1213, "Deadlock found"),
    }
    return errors[name]


@pytest.mark.parametrize("verb", ["UPDATE", "INSERT"])
def test_a_write_that_the_database_refuses_is_repeated_without_the_view(
    make: Callable[..., Any], verb: str, engine: Engine
) -> None:
    runs = []

    def view(request: Any) -> None:
        runs.append(request)
        count(request)

    config = make()
    refused = Refusal(2, verb)
    app = serve(config, view=view)
    with listening(Engine, "before_cursor_execute", refused):
        app.get("/view")
        app.get("/view")
    assert len(runs) == 2
    assert refused.seen >= 3
    assert [row["version"] for row in rows(engine)] == [2]


def test_in_the_end_it_raises_what_nobody_retries(make: Callable[..., Any]) -> None:
    runs: list[Any] = []
    told: list[Any] = []

    def view(request: Any) -> None:
        runs.append(request)
        count(request)

    config = make()
    config.add_subscriber(told.append, SessionConflicted)
    refused = Refusal(100, "INSERT")
    app = serve(config, view=view)
    refusing = listening(Engine, "before_cursor_execute", refused)
    with refusing, pytest.raises(SessionBusy, match="has no transaction and is not retried"):
        app.get("/view")
    assert len(runs) == 1
    assert 1 < refused.seen < 10
    assert [event.outcome for event in told] == ["raised"]


def test_a_refused_commit_is_repeated_too(make: Callable[..., Any], engine: Engine) -> None:
    runs, commits = [], []

    def view(request: Any) -> None:
        runs.append(request)
        count(request)

    def refuse(connection: Any) -> None:
        commits.append(connection)
        if len(commits) == 1:
            original = refusal(connection.dialect.name)
            raise OperationalError("COMMIT", None, original)

    app = serve(make(), view=view)
    with listening(Engine, "commit", refuse):
        app.get("/view")
    assert len(runs) == 1
    assert len(commits) == 2
    assert len(rows(engine)) == 1


def test_ending_sessions_raises_what_nobody_retries(make: Callable[..., Any]) -> None:
    runs = []

    def sign_in(request: Any) -> None:
        request.session["auth.userid"] = "alice"

    def revoke(request: Any) -> None:
        runs.append(request)
        request.sqlsessions.revoke_user("alice")

    app = serve(make(), sign_in=sign_in, revoke=revoke)
    app.get("/sign_in")
    refused = Refusal(100, "DELETE")
    refusing = listening(Engine, "before_cursor_execute", refused)
    with refusing, pytest.raises(SessionBusy):
        app.get("/revoke")
    assert len(runs) == 1


def test_another_error_is_itself(make: Callable[..., Any]) -> None:
    class Wrong(Exception):
        pass

    def refuse(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT"):
            raise Wrong

    app = serve(make(), count=count)
    with listening(Engine, "before_cursor_execute", refuse), pytest.raises(Wrong):
        app.get("/count")


def test_a_request_with_a_transaction_is_run_again_as_ever(backend: Backend) -> None:
    config = configurator(create_engine(backend.url), retry=True)
    app, view = site(config)
    once = iter([view.other.get, *[lambda path: None] * 9])

    class Once:
        def get(self, path: str) -> None:
            next(once)(path)

    view.other = Once()
    assert app.get("/beside").json == {"runs": 2}
