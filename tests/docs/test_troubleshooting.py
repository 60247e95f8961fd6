"""The page about troubleshooting quotes what is really said, and its cures work."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from email.message import Message
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.csrf import get_csrf_token
from pyramid.httpexceptions import HTTPFound
from pyramid.request import Request, apply_request_extensions
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine, create_engine, text, update
from sqlalchemy.exc import OperationalError
from support.apps import (
    TABLE,
    VETO,
    Clock,
    Note,
    SessionRow,
    configurator,
    order,
    put,
    serve,
    show,
)
from support.docs.pages import DOCS, ROOT
from transaction.interfaces import NoTransaction
from webtest import TestApp

from pyramid_sqlsession import SessionMixin, SQLSessionFactory, events, exceptions
from pyramid_sqlsession.table import model

PAGE = (DOCS / "troubleshooting.rst").read_text()
TERMS = re.findall(r"^(``.+)\n  \S", PAGE, re.MULTILINE)
"""What is to be seen, before what to do about it."""

OF_SERVERS = "database conflict`` with error 1213 or 1020, or ``could not serialize"
"""The term whose messages no SQLite can give."""

HTTPS = {"wsgi.url_scheme": "https"}

Scene = Callable[[Engine], None]
SCENES: dict[str, Scene] = {}


def shows(*terms: str) -> Callable[[Scene], Scene]:
    """Say which terms of the page a scene is about."""

    def register(scene: Scene) -> Scene:
        SCENES.update(dict.fromkeys(terms, scene))
        return scene

    return register


def enter(request: Any) -> None:
    request.session["auth.userid"] = "alice"


def form(request: Any) -> str:
    return str(get_csrf_token(request))


def post(request: Any) -> Any:
    return {}


def with_csrf(engine: Engine, settings: Any = None, **options: Any) -> Configurator:
    config = configurator(engine, settings, **options)
    config.set_default_csrf_options(require_csrf=True)
    return config


def fill_in(browser: TestApp, url: str = "/form", **options: Any) -> Any:
    token = browser.get(url, expect_errors=True).json
    return browser.post("/post", {"csrf_token": token}, **options)


# ---- the session is always empty


@shows("``the cookie __Host-id is Secure but was set over http``")
def secure_over_http(engine: Engine) -> None:
    config = configurator(engine, {"sqlsession.cookie_name": "__Host-id"})
    browser = serve(config, put=put, show=show)
    browser.get("/put")
    assert browser.get("/show").json == {}
    browser = TestApp(browser.app, extra_environ=HTTPS)
    browser.get("/put")
    assert browser.get("/show").json == {"cart": [1]}


@shows("``the session factory is overridden by``")
def another_factory(engine: Engine) -> None:
    config = configurator(engine)
    config.set_session_factory(SignedCookieSessionFactory("x" * 32))
    serve(config)


@shows("``cookies rejected since the last such line: 1 unknown``")
def two_applications(engine: Engine) -> None:
    other = create_engine(str(engine.url).replace("database.sqlite", "wiki.sqlite"))
    shop, wiki = (serve(configurator(one), put=put, show=show) for one in (engine, other))
    wiki.cookiejar = shop.cookiejar
    shop.get("/put")
    wiki.get("/put")
    assert shop.get("/show").json == {}
    renamed = configurator(other, {"sqlsession.cookie_name": "wiki"})
    wiki = serve(renamed, put=put)
    wiki.cookiejar = shop.cookiejar
    shop.get("/put")
    wiki.get("/put")
    assert shop.get("/show").json == {"cart": [1]}
    other.dispose()


@pytest.mark.parametrize("option", ["cookie_domain", "cookie_path"])
def test_a_cookie_for_another_place_is_never_sent_back(sqlite_engine: Engine, option: str) -> None:
    value = {"cookie_domain": "example.org", "cookie_path": "/shop"}[option]
    config = configurator(sqlite_engine, {f"sqlsession.{option}": value})
    browser = serve(config, put=put, show=show)
    browser.get("/put")
    assert browser.get("/show").json == {}


# ---- a flash message or a change is lost


@shows("``session changes are not stored: the view raised HTTPFound``")
def raised_redirect(engine: Engine) -> None:
    def save(request: Any) -> None:
        request.session.flash("Saved.")
        raise HTTPFound("/show")

    assert serve(configurator(engine), save=save, show=show).get("/save").follow().json == {}


@shows("``the request is nested in another one``")
def subrequest(engine: Engine) -> None:
    def outer(request: Any) -> None:
        inner = Request.blank("/put")
        inner.environ.update({"tm.active": True, "tm.manager": request.tm})
        request.invoke_subrequest(inner, use_tweens=True)

    serve(configurator(engine), outer=outer, put=put).get("/outer")


@shows("``the request did not pass pyramid_sqlsession's tween``")
def script(engine: Engine) -> None:
    request = Request.blank("/")
    request.registry = serve(configurator(engine)).app.registry
    apply_request_extensions(request)
    request.session["a"] = 1
    request._process_finished_callbacks()


@shows("``session H was ended or regenerated by another request``")
def in_flight(engine: Engine) -> None:
    browser = serve(configurator(engine), put=put, enter=enter)
    browser.get("/put")
    old = TestApp(browser.app)
    old.set_cookie("session", browser.cookies["session"])
    browser.get("/enter")
    old.get("/put")


@shows(
    "``request.dbsession was rolled back or closed, or an error in it was caught``, "
    "``This transaction is closed``"
)
def rolled_back(engine: Engine) -> None:
    def view(request: Any) -> None:
        request.dbsession.add(Note(text="lost"))
        request.dbsession.flush()
        request.dbsession.rollback()
        put(request)

    serve(configurator(engine), view=view).get("/view")


@shows("``its session is treated as empty``")
def another_serializer(engine: Engine) -> None:
    browser = serve(configurator(engine), put=put, show=show)
    browser.get("/put")
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(data=b"\x80\x04}."))
    assert browser.get("/show").json == {}


@pytest.mark.parametrize(
    ("settings", "headers", "kept"),
    [({}, {}, True), (VETO, {}, False), (VETO, {"X-Tm": "commit"}, True)],
)
def test_a_veto_loses_what_a_page_with_errors_has_flashed(
    sqlite_engine: Engine, settings: Any, headers: Any, kept: bool
) -> None:
    def save(request: Any) -> None:
        request.session.flash("Look at the fields in red.")
        request.response.status = 422
        request.response.headers.update(headers)

    browser = serve(configurator(sqlite_engine, settings), save=save, show=show)
    browser.get("/save", status=422)
    assert bool(browser.get("/show").json) is kept


# ---- signed out


@shows("``session H ended: expiry``")
def expired(engine: Engine) -> None:
    clock = Clock()
    browser = serve(configurator(engine, clock=clock, ttl=60), enter=enter, show=show, post=post)
    browser.get("/enter")
    for _ in range(6):
        clock.advance(10)
        browser.get("/post")
    browser.get("/show")


@shows("``session H ended: limit``, ``session H ended: revoked``")
def limited(engine: Engine) -> None:
    def revoke(request: Any) -> None:
        request.sqlsessions.revoke_user("alice")

    config = configurator(engine, {"sqlsession.max_sessions_per_user": "1"})
    browser = serve(config, enter=enter, revoke=revoke)
    browser.get("/enter")
    TestApp(browser.app).get("/enter")
    browser.get("/revoke")


@shows("``request.authenticated_userid is set, but session['auth.userid'] is not``")
def user_elsewhere(engine: Engine) -> None:
    class Policy:
        def authenticated_userid(self, request: Any) -> str:
            return "alice"

    config = configurator(engine)
    config.set_security_policy(Policy())
    serve(config, put=put).get("/put")


# ---- 400 at the first form


@shows("``Bad CSRF token`` for everybody")
def form_without_session(engine: Engine) -> None:
    config = with_csrf(engine, {"sqlsession.cookie_secure": "true"})
    fill_in(serve(config, form=form, post=post))


@shows("``Bad CSRF token`` after a form with errors")
def form_with_errors(engine: Engine) -> None:
    def invalid(request: Any) -> str:
        request.response.status = 422
        return form(request)

    def kept(request: Any) -> str:
        request.response.headers["X-Tm"] = "commit"
        return invalid(request)

    browser = serve(with_csrf(engine, VETO), form=form, invalid=invalid, kept=kept, post=post)
    fill_in(TestApp(browser.app), "/kept", status=200)
    fill_in(browser, "/invalid")


@shows("``Bad CSRF token`` after signing in")
def form_after_sign_in(engine: Engine) -> None:
    def sign_in(request: Any) -> str:
        token = form(request)
        enter(request)
        return token

    browser = serve(with_csrf(engine), form=form, sign_in=sign_in, post=post)
    browser.get("/form")
    fill_in(browser, "/sign_in")


@shows("``Bad CSRF token`` after a while")
def form_after_a_while(engine: Engine) -> None:
    clock = Clock()
    browser = serve(with_csrf(engine, clock=clock, anonymous_ttl=60), form=form, post=post)
    token = browser.get("/form").json
    clock.advance(60)
    browser.post("/post", {"csrf_token": token})


@shows("``Bad CSRF Origin``")
def form_behind_a_proxy(engine: Engine) -> None:
    browser = serve(with_csrf(engine), form=form, post=post)
    browser.extra_environ.update(HTTPS)
    fill_in(browser, headers={"Origin": "https://shop.example.com"})


# ---- the table, the model, the start


@shows("``the session table 'sqlsession' is missing or does not match its model``")
def no_table(engine: Engine) -> None:
    serve(configurator(engine, create=False), put=put).get("/put")


@shows("``no model of yours uses SessionMixin, or its module is not imported``")
def no_model(engine: Engine) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_mapped", lambda cls: iter(()))
        serve(configurator(engine, {"sqlsession.model": None}))


@shows("``changed nothing, and the database reported no error``")
def kept_row(engine: Engine) -> None:
    browser = serve(configurator(engine), put=put)
    browser.get("/put")
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TRIGGER keep BEFORE UPDATE ON sqlsession BEGIN SELECT RAISE(IGNORE); END")
        )
    browser.get("/put")


def made(**settings: Any) -> None:
    """An application without a database session, as far as that can be made."""
    config = Configurator(settings=settings)
    config.include("pyramid_sqlsession")
    config.make_wsgi_app()


@shows("``pyramid_sqlsession has no database to store sessions in``")
def no_database(engine: Engine) -> None:
    made(**{"sqlsession.model": SessionRow})


@shows("``several models use SessionMixin``")
def several_models(engine: Engine) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_mapped", lambda cls: iter((SessionRow, SessionMixin)))
        made(**{"sqlsession.fallback_memory": "true"})


@shows("``SQLSessionFactory is the session factory, but nothing saves its sessions``")
def not_included(engine: Engine) -> None:
    config = configurator(engine, include=False)
    config.set_session_factory(SQLSessionFactory(model=SessionRow))
    serve(config, put=put).get("/put")


@shows("``the pyramid.tweens setting must list pyramid_sqlsession's tween``")
def tween_left_out(engine: Engine) -> None:
    made(**{
        "sqlsession.fallback_memory": "true", "pyramid.tweens": "pyramid_tm.tm_tween_factory"
    })  # fmt: skip


# ---- conflicts


def put_while_locked(engine: Engine, settings: Any = None) -> None:
    impatient = create_engine(engine.url, connect_args={"timeout": 0.05})
    browser = serve(configurator(impatient, settings), put=put)
    other = sqlite3.connect(str(engine.url.database), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        browser.get("/put")
    finally:
        other.close()
        impatient.dispose()


@shows("``database conflict: database is locked``")
def locked(engine: Engine) -> None:
    put_while_locked(engine)


@shows("``sqlsession.sqlalchemy.url bypasses request.dbsession``")
def two_engines_on_one_file(engine: Engine) -> None:
    impatient = create_engine(engine.url, connect_args={"timeout": 0.05})
    url = str(engine.url)
    browser = serve(configurator(impatient, {"sqlsession.sqlalchemy.url": url}), order=order)
    with pytest.raises(OperationalError, match="database is locked"):
        browser.get("/order")
    impatient.dispose()


@shows("``this request has no transaction and is not retried``")
def locked_without_transaction(engine: Engine) -> None:
    put_while_locked(engine, {"tm.activate_hook": "support.apps.no_transaction"})


@shows("``concurrent change of ['cart'] in session H``")
def both_changed(engine: Engine) -> None:
    def slow(request: Any) -> None:
        cart = request.session["cart"]
        other = TestApp(browser.app)
        other.set_cookie("session", browser.cookies["session"])
        other.get("/put")
        request.session["cart"] = [*cart, 2]

    browser = serve(configurator(engine), put=put, slow=slow)
    browser.get("/put")
    browser.get("/slow")


# ---- too late, too large, too early


@shows("``the session is already stored and this change would be lost``")
def too_late(engine: Engine) -> None:
    def view(request: Any) -> None:
        request.add_response_callback(lambda request, response: get_csrf_token(request))

    serve(configurator(engine), view=view).get("/view")


@shows("``the serialized session has 2008 bytes, sqlsession.max_size allows 1024``")
def too_large(engine: Engine) -> None:
    def view(request: Any) -> None:
        request.session["a"] = "x" * 2000

    serve(configurator(engine, {"sqlsession.max_size": "1 KiB"}), view=view).get("/view")


@shows("``session['cart'][0] is of type date, which JSON cannot hold``")
def not_json(engine: Engine) -> None:
    def view(request: Any) -> None:
        request.session["cart"] = [date(2030, 1, 2)]

    serve(configurator(engine), view=view).get("/view")


@shows("``request.dbsession was rolled back or failed after sessions were written in it``")
def revoked_and_rolled_back(engine: Engine) -> None:
    def view(request: Any) -> None:
        request.sqlsessions.revoke_user("alice")
        request.dbsession.rollback()
        put(request)

    browser = serve(configurator(engine), enter=enter, view=view)
    browser.get("/enter")
    browser.get("/view")


@shows("``the session was ended or regenerated since it was read``")
def not_live(engine: Engine) -> None:
    serve(configurator(engine), live=require_live).get("/live")


def require_live(request: Any) -> None:
    request.session.require_live()


@shows("``session.require_live() needs a transaction``")
def live_without_transaction(engine: Engine) -> None:
    settings = {"tm.activate_hook": "support.apps.no_transaction"}
    browser = serve(configurator(engine, settings), put=put, live=require_live)
    browser.get("/put")
    browser.get("/live")


@shows("``the view ended the request's transaction and began no other``")
def ended_transaction(engine: Engine) -> None:
    def view(request: Any) -> None:
        put(request)
        request.tm.commit()

    serve(configurator(engine), view=view).get("/view")


def test_a_callback_that_uses_the_database_session_has_no_transaction(
    sqlite_engine: Engine,
) -> None:
    def read(request: Any, response: Any) -> None:
        with closing(request.dbsession):
            request.dbsession.get(Note, 1)

    def view(request: Any) -> None:
        request.add_response_callback(read)

    browser = serve(configurator(sqlite_engine), view=view)
    with pytest.raises(NoTransaction):
        browser.get("/view")


def test_a_view_that_ends_the_explicit_transaction_has_none(sqlite_engine: Engine) -> None:
    with pytest.raises(NoTransaction):
        ended_transaction(sqlite_engine)


# ---- the page


@pytest.mark.parametrize("term", [term for term in TERMS if OF_SERVERS not in term])
def test_a_message_is_quoted_as_it_is_told(
    term: str,
    sqlite_engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a line that is told once a minute
    monkeypatch.setattr(events, "_rejections", events.Rejections(time.monotonic))
    caplog.set_level("INFO", "pyramid_sqlsession")
    told = []
    try:
        SCENES[term](sqlite_engine)
    except Exception as error:  # noqa: BLE001  # whatever it is
        told.append(str(error))
    told += [record.getMessage() for record in caplog.records]
    for message in re.findall("``(.+?)``", term):
        pattern = re.escape(message).replace(r"session\ H", "session [0-9a-f]{32}")
        assert any(re.search(pattern, line) for line in told), (message, told)


def test_every_scene_is_on_the_page() -> None:
    assert set(SCENES) <= set(TERMS)
    assert len(SCENES) > 30


def test_every_section_has_an_anchor() -> None:
    titles = re.findall(r"^(.+)\n-{5,}$", PAGE, re.MULTILINE)
    assert len(re.findall(r"^\.\. _trouble-[a-z-]+:$", PAGE, re.MULTILINE)) == len(titles) > 10


# ---- links from the messages


@pytest.fixture
def installed_as(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Have the package know these metadata of its own."""

    def pretend(metadata: Callable[[str], Message]) -> None:
        monkeypatch.setattr(exceptions, "metadata", metadata)
        exceptions._documentation.cache_clear()

    yield pretend
    monkeypatch.undo()
    exceptions._documentation.cache_clear()


def test_messages_link_the_address_that_the_package_was_released_with(
    installed_as: Callable[[Any], None],
) -> None:
    released = Message()
    released["Project-URL"] = "Source, https://code.pylons.test/sqlsession"
    released["Project-URL"] = "Documentation, https://docs.pylons.test/"
    installed_as(lambda name: released)
    expected = "(see https://docs.pylons.test/troubleshooting.html#trouble-lost)"
    assert exceptions.see("trouble-lost") == expected


def test_messages_name_the_page_where_no_address_is_known(
    installed_as: Callable[[Any], None],
) -> None:
    def none(name: str) -> Message:
        raise PackageNotFoundError(name)

    installed_as(lambda name: Message())
    assert exceptions.see("trouble-lost") == "(see troubleshooting.html#trouble-lost)"
    installed_as(none)
    assert exceptions.see("trouble-lost") == "(see troubleshooting.html#trouble-lost)"


def test_every_link_in_a_message_leads_to_a_section() -> None:
    code = "".join(path.read_text() for path in (ROOT / "pyramid_sqlsession").rglob("*.py"))
    anchors = set(re.findall(r"""see\(["']([\w-]+)["']\)""", code))
    sections = set(re.findall(r"^\.\. _(trouble-[\w-]+):$", PAGE, re.MULTILINE))
    assert len(anchors) > 8
    assert anchors <= sections
