"""Sessions in applications with the debug toolbar."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pyramid.httpexceptions import HTTPFound
from pyramid.response import Response
from sqlalchemy import Engine
from support.apps import configurator, rows, serve, session_cookies

pytestmark = pytest.mark.usefixtures("with_toolbar")

panel_states = pytest.mark.parametrize("active", [False, True], ids=["inactive", "active"])


def page(request: Any) -> Any:
    return Response(f"<html><body>{json.dumps(dict(request.session))}</body></html>")


def put(request: Any) -> Any:
    request.session["cart"] = [*request.session.get("cart", []), 1]
    return page(request)


def idle(request: Any) -> Any:
    return Response("<html><body>idle</body></html>")


def leave(request: Any) -> Any:
    request.session.invalidate()
    return idle(request)


def flash_and_raise(request: Any) -> Any:
    request.session.flash("saved")
    raise HTTPFound("/page")


def break_down(request: Any) -> Any:
    put(request)
    raise LookupError("the view is broken")


def toolbar_app(engine: Engine, active: bool, **options: Any) -> Any:
    """An application with the toolbar really on, its session panel switched on or off."""
    settings = {"tm.commit_veto": "pyramid_tm.default_commit_veto", **options.pop("settings", {})}
    config = configurator(engine, settings, **options)
    config.include("pyramid_debugtoolbar")
    app = serve(
        config, put=put, page=page, idle=idle, leave=leave, flash=flash_and_raise, broken=break_down
    )
    app.extra_environ["REMOTE_ADDR"] = "127.0.0.1"
    if active:
        app.set_cookie("pdtb_active", "session")
    return app


def shown(response: Any) -> Any:
    """The session as the page shows it."""
    return json.loads(re.search(r"<body>(\{.*?\})", response.text)[1])  # type: ignore[index]


def stored(engine: Engine) -> list[Any]:
    """The data of the committed sessions."""
    return [json.loads(row["data"]) for row in rows(engine)]


@panel_states
@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "thread-local"])
def test_sessions_are_stored_with_the_debug_toolbar_switched_on(
    engine: Engine, active: bool, explicit: bool
) -> None:
    app = toolbar_app(engine, active, explicit=explicit)
    first = app.get("/put")
    assert "pDebug" in first.text
    assert len(session_cookies(first)) == 1
    second = app.get("/put")
    assert shown(second) == {"cart": [1, 1]}
    assert session_cookies(second) == []
    assert shown(app.get("/page")) == {"cart": [1, 1]}
    assert stored(engine) == [{"cart": [1, 1]}]
    app.get("/flash", status=302)
    assert stored(engine) == [{"cart": [1, 1], "_f_": ["saved"]}]
    assert "Max-Age=0" in session_cookies(app.get("/leave"))[0]
    assert rows(engine) == []


@panel_states
def test_the_debug_toolbar_stores_nothing_of_its_own(engine: Engine, active: bool) -> None:
    app = toolbar_app(engine, active)
    assert session_cookies(app.get("/idle")) == []
    assert rows(engine) == []
    app.get("/put")
    before = rows(engine)
    assert session_cookies(app.get("/idle")) == []
    assert rows(engine) == before


@panel_states
def test_a_broken_view_stores_nothing_with_the_debug_toolbar_switched_on(
    engine: Engine, active: bool
) -> None:
    app = toolbar_app(engine, active)
    assert session_cookies(app.get("/broken", status=500)) == []
    assert rows(engine) == []
    app.get("/put")
    assert session_cookies(app.get("/broken", status=500)) == []
    assert stored(engine) == [{"cart": [1]}]


@panel_states
def test_the_session_panel_of_the_debug_toolbar_shows_the_session(
    engine: Engine, active: bool
) -> None:
    app = toolbar_app(engine, active)
    app.get("/put")
    panel = app.get(re.search(r"/_debug_toolbar/[0-9a-f]{8,}", app.get("/page").text)[0])  # type: ignore[index]
    assert "cart" in panel.text
    assert "SQLSessionFactory" in panel.text


@panel_states
def test_a_redirect_that_the_debug_toolbar_intercepts_stores_the_session(
    engine: Engine, active: bool
) -> None:
    app = toolbar_app(engine, active, settings={"debugtoolbar.intercept_redirects": "true"})
    response = app.get("/flash", status=200)
    assert "Redirect" in response.text
    assert len(session_cookies(response)) == 1
    assert shown(app.get("/page")) == {"_f_": ["saved"]}
