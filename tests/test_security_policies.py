"""Where the security policy keeps the user, and the CSRF policy its token."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pyramid.authentication import AuthTktCookieHelper, SessionAuthenticationHelper
from pyramid.csrf import (
    CookieCSRFStoragePolicy,
    SessionCSRFStoragePolicy,
    get_csrf_token,
)
from pyramid.security import forget, remember
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import IntegrityError
from support.apps import Note, configurator, notes, put, rows, serve, show
from support.servers import Backend
from webtest import TestApp

USER = "auth.userid"


class Policy:
    """A security policy with one of Pyramid's helpers."""

    def __init__(self, helper: Any) -> None:
        self.helper = helper
        self.asked = 0

    def authenticated_userid(self, request: Any) -> Any:
        self.asked += 1
        if isinstance(self.helper, SessionAuthenticationHelper):
            return self.helper.authenticated_userid(request)
        identity = self.helper.identify(request)
        return identity and identity["userid"]

    def remember(self, request: Any, userid: Any, **options: Any) -> Any:
        return self.helper.remember(request, userid, **options)

    def forget(self, request: Any, **options: Any) -> Any:
        return self.helper.forget(request, **options)


def enter(request: Any) -> Any:
    request.response.headerlist.extend(remember(request, "alice"))
    request.session["n"] = 1
    return {}


def leave(request: Any) -> Any:
    request.response.headerlist.extend(forget(request))
    return {}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    shown = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    return [text for text in shown if "the security policy keeps the user elsewhere" in text]


def browser(engine: Engine, policy: Any, tm_annotate: str = "true", **settings: str) -> Any:
    values = {f"sqlsession.{name}": value for name, value in settings.items()}
    config = configurator(engine, {"tm.annotate_user": tm_annotate, **values})
    config.set_security_policy(policy)
    return serve(config, enter=enter, leave=leave, show=show, nothing=lambda request: {})


@pytest.mark.parametrize(
    "helper",
    [AuthTktCookieHelper("secret", hashalg="sha512"), SessionAuthenticationHelper("shop.")],
    ids=["auth_tkt", "prefix"],
)
def test_a_policy_that_keeps_the_user_elsewhere_is_a_warning_once(
    sqlite_engine: Engine, helper: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = browser(sqlite_engine, Policy(helper))
    app.get("/show")
    assert warnings(caplog) == []
    app.get("/enter")
    for _ in range(3):
        app.get("/show")
    (warning,) = warnings(caplog)
    assert "session['auth.userid'] is not" in warning
    assert "Set sqlsession.userid_key" in warning


def test_a_policy_of_another_key_is_right_where_the_setting_says_so(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    helper = SessionAuthenticationHelper("shop.")
    app = browser(sqlite_engine, Policy(helper), userid_key="shop.userid")
    for path in ("/enter", "/show"):
        app.get(path)
    assert warnings(caplog) == []
    assert [row["user_id"] for row in rows(sqlite_engine)] == ["alice"]


def test_the_policy_is_asked_by_pyramid_tm_and_by_nobody_else(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(SessionAuthenticationHelper())
    app = browser(sqlite_engine, policy)
    for number, path in enumerate(("/nothing", "/show", "/enter", "/show", "/leave", "/show"), 1):
        app.get(path)
        assert policy.asked == number
    assert warnings(caplog) == []


def test_without_its_answer_nothing_is_known(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(AuthTktCookieHelper("secret", hashalg="sha512"))
    app = browser(sqlite_engine, policy, tm_annotate="false")
    for path in ("/enter", "/show"):
        app.get(path)
    assert policy.asked == 0
    assert warnings(caplog) == []


def test_what_the_policy_would_flush_is_flushed_by_the_application_alone(
    sqlite_engine: Engine,
) -> None:
    class Querying(Policy):
        """One that looks into the database, which writes first what is pending there."""

        def authenticated_userid(self, request: Any) -> Any:
            request.dbsession.query(Note).count()
            return super().authenticated_userid(request)

    def add(request: Any) -> Any:
        request.session["seen"] = 1
        request.dbsession.add(Note(id=1, text="a"))
        return {}

    config = configurator(sqlite_engine)
    config.set_security_policy(Querying(SessionAuthenticationHelper()))
    app = serve(config, add=add, enter=enter, show=show)
    app.get("/enter")
    app.get("/add")
    with pytest.raises(IntegrityError):
        app.get("/add")
    assert notes(sqlite_engine) == ["a"]


# ---- CSRF tokens


def csrf(request: Any) -> Any:
    return get_csrf_token(request)


def sign_in(request: Any) -> Any:
    request.session[USER] = "alice"
    return {}


def regenerate(request: Any) -> Any:
    request.session.regenerate()
    return {}


@pytest.mark.parametrize("change", [sign_in, regenerate])
@pytest.mark.parametrize("key", ["_csrft_", "my_csrf"])
def test_the_csrf_token_is_renewed_under_whatever_key_the_policy_keeps_it(
    engine: Engine, change: Any, key: str
) -> None:
    config = configurator(engine)
    config.set_csrf_storage_policy(SessionCSRFStoragePolicy(key))
    app = serve(config, csrf=csrf, change=change, show=show)
    before = app.get("/csrf").json
    old = app.cookies["session"].strip('"')
    assert app.get("/show").json == {key: before}
    app.get("/change")
    assert key not in app.get("/show").json
    assert app.get("/csrf").json != before
    # a form that was sent twice passes all the same
    app.reset()
    app.set_cookie("session", old)
    assert app.get("/show").json == {key: before}


def test_a_policy_that_keeps_its_token_in_a_cookie_is_none_of_the_sessions(
    sqlite: Backend,
) -> None:
    config = configurator(create_engine(sqlite.url))
    config.set_csrf_storage_policy(CookieCSRFStoragePolicy())
    app = serve(config, csrf=csrf, sign_in=sign_in)
    before = app.get("/csrf").json
    app.get("/sign_in")
    assert app.get("/csrf").json == before


def test_a_token_of_another_key_that_was_made_meanwhile_is_dropped_too(sqlite: Backend) -> None:
    def sign_in_late(request: Any) -> Any:
        len(request.session)
        other.get("/csrf")
        return sign_in(request)

    engine = create_engine(sqlite.url)
    config = configurator(engine)
    config.set_csrf_storage_policy(SessionCSRFStoragePolicy("my_csrf"))
    app = serve(config, csrf=csrf, put=put, sign_in_late=sign_in_late, show=show)
    app.get("/put")
    other = TestApp(app.app)
    other.set_cookie("session", app.cookies["session"].strip('"'))
    app.get("/sign_in_late")
    assert app.get("/show").json == {"cart": [1], USER: "alice"}
