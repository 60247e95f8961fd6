"""The page about security: its recipes work, and the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from paste.deploy.config import (  # type: ignore[import-untyped]  # it has no types
    PrefixMiddleware,
)
from pyramid.config import Configurator
from sqlalchemy import create_engine
from support.apps import Clock, configurator, own_configurator, serve, session_cookies, show
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import CookieRejected, SessionEnded

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.rst").read_text()
USER = "auth.userid"
HTTPS = {"wsgi.url_scheme": "https"}


def recipes() -> list[dict[str, str]]:
    """The ini settings of the page, a dict for each level."""
    blocks = re.findall(r"AAL\d:\n\n.. code-block:: ini\n\n((?:   .+\n)+)", PAGE)
    return [dict(re.findall(r"   (\S+) = (.+)\n", block)) for block in blocks]


def enter(request: Any) -> Any:
    request.session[USER] = "alice"
    return {}


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"``(test_\w+)``", PAGE))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert named - set(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE)) == set()


@pytest.mark.parametrize(
    ("level", "silence", "total"),
    [(1, 14 * 86400, 30 * 86400), (2, 3600, 86400), (3, 900, 12 * 3600)],
)
def test_the_recipes_for_the_assurance_levels_work(
    sqlite: Backend, level: int, silence: int, total: int
) -> None:
    clock, settings = Clock(), recipes()[level - 1]
    options: dict[str, Any] = {
        key.removeprefix("sqlsession."): value for key, value in settings.items()
    }
    browser = serve(
        configurator(create_engine(sqlite.url), clock=clock, **options), enter=enter, show=show
    )
    browser.extra_environ.update(HTTPS)
    (cookie,) = browser.get("/enter").headers.getall("Set-Cookie")
    assert cookie.startswith("__Host-id=")
    assert {"secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
    assert "SameSite=" in cookie
    assert not {"Max-Age", "Domain"} & {part.partition("=")[0] for part in cookie.split("; ")}
    clock.advance(silence - 1)
    assert USER in browser.get("/show").json
    clock.advance(silence)
    assert browser.get("/show").json == {}
    browser.get("/enter")
    for _ in range(total // (silence - 60)):
        clock.advance(silence - 60)
        assert USER in browser.get("/show").json
    clock.advance(silence - 60)
    assert browser.get("/show").json == {}


@pytest.mark.parametrize(("scheme", "is_secure"), [("https", True), ("http", False)])
def test_behind_a_proxy_the_cookie_is_secure_as_the_proxy_says(
    sqlite: Backend, scheme: str, is_secure: bool
) -> None:
    app = serve(configurator(create_engine(sqlite.url)), enter=enter).app
    behind = TestApp(PrefixMiddleware(app))
    response = behind.get("/enter", headers={"X-Forwarded-Proto": scheme})
    assert ("secure" in session_cookies(response)[0].split("; ")) is is_secure


def rejections(config: Configurator) -> list[CookieRejected]:
    told: list[CookieRejected] = []
    config.add_subscriber(told.append, CookieRejected)
    return told


@pytest.mark.parametrize(
    ("cookie", "reason"), [("x" * 43, "unknown"), ("guess", "malformed"), ("\xff", "malformed")]
)
def test_a_rejected_cookie_is_told_without_its_value(
    sqlite: Backend, caplog: pytest.LogCaptureFixture, cookie: str, reason: str
) -> None:
    caplog.set_level("INFO", "pyramid_sqlsession")
    config = own_configurator(sqlite.url)
    told = rejections(config)
    browser = serve(config, show=show)
    assert browser.get("/show", headers={"Cookie": f"session={cookie}"}).json == {}
    (event,) = told
    assert event.reason == reason
    # no session is known
    assert event.handle == ""
    assert cookie not in f"{event} {event!r} {caplog.text}"
    assert "cookie" in caplog.text


def test_an_old_cookie_is_told_as_one_that_was_replaced(sqlite: Backend) -> None:
    config = own_configurator(sqlite.url)
    told = rejections(config)
    browser = serve(config, enter=enter, show=show)
    browser.get("/enter")
    old = browser.cookies["session"]
    browser.get("/enter")
    browser.get("/show", headers={"Cookie": f"session={old}"})
    assert [event.reason for event in told] == ["replaced"]


def test_an_expired_session_is_told_when_its_visitor_comes_back(sqlite: Backend) -> None:
    clock = Clock()
    told: list[SessionEnded] = []
    config = configurator(create_engine(sqlite.url), clock=clock, ttl=60)
    config.add_subscriber(told.append, SessionEnded)
    browser = serve(config, enter=enter, show=show)
    browser.get("/enter")
    clock.advance(60)
    browser.get("/show")
    assert [(event.reason, event.user_id) for event in told] == [("expiry", "alice")]


def test_a_logout_ends_a_session_that_cannot_be_read_now(sqlite: Backend) -> None:
    clock = Clock()

    def leave(request: Any) -> Any:
        request.session.invalidate()
        return {}

    config = configurator(create_engine(sqlite.url), clock=clock, ttl=60)
    browser = serve(config, enter=enter, leave=leave, show=show)
    browser.get("/enter")
    clock.advance(60)
    browser.get("/leave")
    clock.advance(-30)
    assert browser.get("/show").json == {}
