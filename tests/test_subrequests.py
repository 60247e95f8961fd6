"""Requests inside requests: one of them stores the session."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from pyramid.config import Configurator
from pyramid.request import Request
from sqlalchemy import Engine
from support.apps import (
    both_managers,
    configurator,
    notes,
    put,
    rows,
    serve,
    session_cookies,
    show,
    statements,
)

both_ways = pytest.mark.parametrize("tweens", [True, False], ids=["tweens", "no tweens"])


@pytest.fixture(autouse=True)
def _no_transaction() -> Iterator[None]:
    """End the transaction that a thread-local manager may have begun."""
    yield
    transaction.abort()


def inner(request: Any) -> Any:
    """Change the session in the request inside."""
    request.session["inner"] = True
    return {}


def stored(engine: Engine) -> list[Any]:
    """The data of the committed sessions."""
    return [json.loads(row["data"]) for row in rows(engine)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "pyramid_sqlsession" and record.levelno >= logging.WARNING
    ]


def subrequest(request: Any, path: str, *, same_transaction: bool) -> Any:
    """A request with the cookies of another one."""
    made = Request.blank(path, headers={"Cookie": request.headers.get("Cookie", "")})
    if same_transaction:
        made.environ["tm.active"] = request.environ["tm.active"]
        made.environ["tm.manager"] = request.tm
    return made


class Calls:
    """A view that changes its session and calls another one of the same application.

    :param share: give the session to the request inside.
    """

    def __init__(self, path: str, tweens: bool, same: bool = True, share: bool = False) -> None:
        self.path, self.tweens, self.same, self.share = path, tweens, same, share
        self.responses: list[Any] = []

    def __call__(self, request: Any) -> Any:
        request.session["outer"] = True
        made = subrequest(request, self.path, same_transaction=self.same)
        if self.share:
            made.session = request.session
        response = request.invoke_subrequest(made, use_tweens=self.tweens)
        self.responses.append(response)
        return {"inside": response.json, "outside": dict(request.session)}


def app_for(config: Configurator, calls: Calls) -> Any:
    return serve(config, put=put, show=show, inner=inner, outer=calls)


@both_managers
@both_ways
def test_a_request_inside_another_one_saves_nothing_and_a_change_warns(
    engine: Engine, explicit: bool, tweens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls("/inner", tweens)
    app = app_for(configurator(engine, explicit=explicit), calls)
    for visit in (1, 2):
        assert len(session_cookies(app.get("/outer"))) == (visit == 1)
        assert stored(engine) == [{"outer": True}]
        assert session_cookies(calls.responses.pop()) == []
        assert len(warnings(caplog)) == visit
    if tweens:
        assert "subrequest.session = request.session" in warnings(caplog)[0]


@both_managers
@both_ways
def test_a_request_inside_another_one_that_only_reads_warns_of_nothing(
    engine: Engine, explicit: bool, tweens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_for(configurator(engine, explicit=explicit), Calls("/show", tweens))
    app.get("/put")
    response = app.get("/outer")
    assert response.json == {"inside": {"cart": [1]}, "outside": {"cart": [1], "outer": True}}
    assert stored(engine) == [{"cart": [1], "outer": True}]
    assert warnings(caplog) == []


@both_managers
@both_ways
def test_a_session_that_both_requests_share_is_stored_once_with_both_changes(
    engine: Engine, explicit: bool, tweens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls("/inner", tweens, share=True)
    app = app_for(configurator(engine, explicit=explicit), calls)
    for visit in (1, 2):
        with statements(engine) as seen:
            response = app.get("/outer")
        assert response.json["outside"] == {"outer": True, "inner": True}
        assert len(session_cookies(response)) == (visit == 1)
        assert session_cookies(calls.responses.pop()) == []
        assert [words.split()[0] for words in seen] == ["INSERT" if visit == 1 else "SELECT"]
        assert stored(engine) == [{"outer": True, "inner": True}]
    assert warnings(caplog) == []


@both_ways
def test_a_session_that_both_requests_share_stays_open_for_the_outer_one(
    engine: Engine, tweens: bool
) -> None:
    def outer(request: Any) -> Any:
        made = subrequest(request, "/inner", same_transaction=True)
        made.session = request.session
        request.invoke_subrequest(made, use_tweens=tweens)
        request.session["after"] = True
        return {}

    app = serve(configurator(engine), inner=inner, outer=outer)
    assert len(session_cookies(app.get("/outer"))) == 1
    assert stored(engine) == [{"inner": True, "after": True}]


def test_a_request_inside_another_one_with_a_transaction_of_its_own_is_a_request_like_others(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Explicit managers only: a thread-local one would abort the outer request's work."""
    calls = Calls("/inner", tweens=True, same=False)
    app = app_for(configurator(engine), calls)
    app.get("/put")
    app.get("/outer")
    assert stored(engine) == [{"cart": [1], "inner": True, "outer": True}]
    assert session_cookies(calls.responses.pop()) == []
    assert warnings(caplog) == []


def test_a_request_inside_another_one_may_invalidate_the_session_that_they_share(
    engine: Engine,
) -> None:
    def logout(request: Any) -> Any:
        request.session.invalidate()
        return {}

    def outer(request: Any) -> Any:
        made = subrequest(request, "/logout", same_transaction=True)
        made.session = request.session
        return request.invoke_subrequest(made, use_tweens=True)

    app = serve(configurator(engine), put=put, logout=logout, outer=outer)
    app.get("/put")
    assert "Max-Age=0" in session_cookies(app.get("/outer"))[0]
    assert rows(engine) == []


@both_ways
def test_a_request_inside_another_one_cannot_end_the_session(
    engine: Engine, tweens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def logout(request: Any) -> Any:
        request.session.invalidate()
        return {}

    calls = Calls("/logout", tweens)
    app = serve(configurator(engine), put=put, show=show, logout=logout, outer=calls)
    app.get("/put")
    assert session_cookies(app.get("/outer")) == []
    assert app.get("/show").json == {"cart": [1], "outer": True}
    assert len(warnings(caplog)) == 1


def test_requests_one_after_the_other_in_a_transaction_are_not_inside_each_other(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """As in the fixtures of an application's tests, which own the transaction."""
    manager = transaction.TransactionManager(explicit=True)
    app = serve(configurator(engine), put=put, show=show)
    with manager:
        app.extra_environ.update({"tm.active": True, "tm.manager": manager})
        assert len(session_cookies(app.get("/put"))) == 1
    assert stored(engine) == [{"cart": [1]}]
    with manager:
        app.get("/put")
    assert stored(engine) == [{"cart": [1, 1]}]
    assert warnings(caplog) == []
    assert notes(engine) == []
