"""The recipes among the how-to pages: each is run in an application, and keeps what it promises."""

from __future__ import annotations

import hashlib
import importlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPForbidden, HTTPSeeOther
from pyramid.interfaces import ISessionFactory
from pyramid.paster import bootstrap
from pyramid.security import remember
from pyramid.threadlocal import get_current_request
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session
from support.apps import (
    Clock,
    configurator,
    listening,
    own_configurator,
    put,
    serve,
    session_cookies,
    show,
)
from support.docs.howto import (
    Example,
    Opened,
    another,
    blocks,
    count,
    execute,
    post,
    sign_in,
    statements_of,
    users,
)
from support.docs.pages import execute as run_block
from support.servers import Backend
from transaction.interfaces import NoTransaction
from webtest import TestApp

from pyramid_sqlsession import SessionEnded

MINUTE, DAY = 60, 86400
HTTPS = {"wsgi.url_scheme": "https", "HTTP_HOST": "localhost", "HTTP_REFERER": "https://localhost/"}
HANDLE = "SELECT lineage FROM sqlsession WHERE replaced IS NULL"

Recipe = Callable[..., TestApp]


def ini_of(application: str, *settings: str) -> str:
    """The ini file of one of the examples, with the settings of a page."""
    return "\n".join(
        [
            "[app:main]",
            f"use = call:{application}:main",
            "sqlalchemy.url = ?",
            "tm.manager_hook = pyramid_tm.explicit_manager",
            f"sqlsession.model = {application}.Session",
            "sqlsession.cleanup_interval = false",
            *settings,
        ]
    )


@pytest.fixture
def recipe(accounts: Recipe, example: Example) -> Recipe:
    """Opens the application with accounts, and with what a recipe includes."""

    def recipe(module: str, *settings: str) -> TestApp:
        example(module)
        return accounts(ini_of("accounts", *settings))

    return recipe


@pytest.fixture
def database(sqlite: Backend) -> Iterator[Engine]:
    """The database of the application."""
    engine = create_engine(sqlite.url)
    yield engine
    engine.dispose()


def set_now(browser: TestApp) -> Clock:
    """A clock for the application's sessions that shows the time, and stands still."""
    factory = browser.app.registry.getUtility(ISessionFactory)
    factory.clock = Clock(int(time.time()))
    clock: Clock = factory.clock
    return clock


def stored(engine: Engine, what: str = "data") -> list[Any]:
    """A column of the sessions."""
    return [row[0] for row in execute(engine, f"SELECT {what} FROM sqlsession")]


# ---- who is online


@pytest.fixture
def online(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> tuple[TestApp, Clock]:
    browser = recipe("online", "pyramid.includes = online")
    clock = set_now(browser)
    monkeypatch.setattr("online.time", SimpleNamespace(time=clock))
    return browser, clock


def names(browser: TestApp) -> list[str]:
    """Who is online, as a visitor sees it who has no session."""
    found: list[str] = another(browser).get("/online").json
    return found


def test_who_was_active_in_the_last_five_minutes_is_always_listed(
    online: tuple[TestApp, Clock],
) -> None:
    browser, clock = online
    sign_in(browser, "alice")
    assert users(browser) == ["alice"]
    # not recorded, because something was a moment before
    clock.advance(5 * MINUTE - 1)
    assert users(browser) == ["alice"]
    clock.advance(5 * MINUTE - 1)
    assert names(browser) == ["alice"]
    clock.advance(2)
    assert names(browser) == []


def test_who_was_last_active_ten_minutes_ago_is_never_listed(online: tuple[TestApp, Clock]) -> None:
    browser, clock = online
    sign_in(browser, "alice")
    clock.advance(5 * MINUTE)
    assert users(browser) == ["alice"]
    clock.advance(10 * MINUTE - 1)
    assert names(browser) == ["alice"]
    clock.advance(1)
    assert names(browser) == []


def test_each_user_is_listed_once_and_who_signs_out_not_at_all(
    online: tuple[TestApp, Clock],
) -> None:
    browser, _ = online
    elsewhere, bob = another(browser), another(browser)
    for each, name in ((browser, "alice"), (elsewhere, "alice"), (bob, "bob")):
        sign_in(each, name)
    # the row whose token is replaced is a user's too
    sign_in(bob, "bob")
    assert names(browser) == ["alice", "bob"]
    post(bob, "/sign_out")
    assert names(browser) == ["alice"]
    post(browser, "/log_out_everywhere")
    assert names(browser) == []


def test_a_lower_interval_makes_it_more_exact(recipe: Recipe, database: Engine) -> None:
    browser = recipe("online", blocks("who_is_online")["online-interval"])
    clock = set_now(browser)
    sign_in(browser, "alice")
    clock.advance(MINUTE)
    users(browser)
    assert clock.now in stored(database, "last_seen")


# ---- no rows for bots


def form_page(recipe: Recipe) -> TestApp:
    """A browser, over https, of the application that keeps CSRF tokens in a cookie."""
    app = recipe("csrf_cookie", blocks("no_rows_for_bots")["csrf-cookie"]).app
    return TestApp(app, extra_environ=HTTPS)


def test_showing_a_form_stores_no_session(recipe: Recipe, database: Engine) -> None:
    browser = form_page(recipe)
    page = browser.get("/home")
    assert session_cookies(page) == []
    assert "no-store" not in page.headers.get("Cache-Control", "")
    assert list(browser.cookies) == ["__Host-csrf"]
    post(browser, "/sign_in", 403, name="alice", password="wrong")
    assert count(database) == 0
    sign_in(browser, "alice")
    assert count(database) == 1
    assert users(browser) == ["alice"]


def test_with_the_token_in_the_session_it_stores_one(recipe: Recipe, database: Engine) -> None:
    browser = recipe("csrf_cookie", blocks("no_rows_for_bots")["short-anonymous"])
    clock = set_now(browser)
    assert browser.get("/home").headers["Cache-Control"] == "no-store"
    assert count(database) == 1
    before = browser.get("/home").json["csrf_token"]
    clock.advance(3601)
    assert browser.get("/home").json["csrf_token"] != before


def test_the_token_in_the_cookie_is_checked_and_renewed_by_a_sign_in(recipe: Recipe) -> None:
    browser = form_page(recipe)
    browser.post("/sign_in", {"name": "alice", "password": "demo"}, status=400)
    before = browser.get("/home").json["csrf_token"]
    sign_in(browser, "alice")
    after = browser.get("/home").json["csrf_token"]
    assert before != after
    browser.post("/sign_out", {"csrf_token": before}, status=400)
    browser.post("/sign_out", {"csrf_token": after}, status=303)
    assert users(browser) == [None]


# ---- several domains


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.org", "example.org"),
        ("shop.example.org", "example.org"),
        ("example.com", None),
        ("badexample.org", None),
    ],
)
def test_the_hosts_of_one_domain_share_a_session(
    host: str, domain: str | None, example: Example, sqlite: Backend
) -> None:
    example("domains")
    setting = blocks("several_domains")["domains"].split()[-1]
    app = serve(own_configurator(sqlite.url, cookie_domain=setting), put=put, show=show).app
    (cookie,) = session_cookies(TestApp(app).get("/put", extra_environ={"HTTP_HOST": host}))
    assert re.findall(r"Domain=([^;]+)", cookie) == ([domain] if domain else [])
    # the server opens it wherever the browser sends it
    other = {"HTTP_HOST": "another.example.org"}
    token = {"Cookie": cookie.split(";")[0]}
    opened = TestApp(app).get("/show", headers=token, extra_environ=other)
    assert opened.json == {"cart": [1]}


def test_a_sign_out_removes_the_cookie_of_the_domain(example: Example, sqlite: Backend) -> None:
    example("domains")

    def leave(request: Any) -> None:
        request.session.invalidate()

    config = own_configurator(sqlite.url, cookie_domain="domains.cookie_domain")
    browser = TestApp(
        serve(config, put=put, leave=leave).app, extra_environ={"HTTP_HOST": "example.org"}
    )
    browser.get("/put")
    (cookie,) = session_cookies(browser.get("/leave"))
    assert "Domain=example.org" in cookie
    assert "Max-Age=0" in cookie


def test_a_host_only_name_goes_with_no_domain(example: Example, sqlite: Backend) -> None:
    example("domains")
    config = own_configurator(
        sqlite.url, cookie_domain="domains.cookie_domain", cookie_name="__Host-session"
    )
    with pytest.raises(ConfigurationError, match="cookie_domain"):
        config.make_wsgi_app()


# ---- polling


@pytest.fixture
def polling(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> tuple[TestApp, Clock]:
    browser = recipe("polling", "pyramid.includes = polling", blocks("polling")["polling-bound"])
    clock = set_now(browser)
    monkeypatch.setattr("polling.time", SimpleNamespace(time=clock))
    return browser, clock


def test_a_page_that_polls_is_signed_out_and_sees_it(polling: tuple[TestApp, Clock]) -> None:
    browser, clock = polling
    busy = another(browser)
    for each in (browser, busy):
        sign_in(each, "alice")
    for minute in range(59):
        clock.advance(MINUTE)
        assert browser.get("/news").json["user"] == "alice"
        assert browser.get("/seconds_left").json == (59 - minute) * MINUTE
        assert users(busy) == ["alice"]
    clock.advance(MINUTE)
    assert browser.get("/news").json["user"] is None
    assert users(busy) == ["alice"]


def test_an_ordinary_view_is_the_button_that_stays_signed_in(
    polling: tuple[TestApp, Clock],
) -> None:
    browser, clock = polling
    sign_in(browser, "alice")
    clock.advance(50 * MINUTE)
    assert browser.get("/seconds_left").json == 10 * MINUTE
    browser.get("/home")
    assert browser.get("/seconds_left").json == 60 * MINUTE


def test_the_absolute_timeout_ends_what_is_polled(polling: tuple[TestApp, Clock]) -> None:
    browser, clock = polling
    sign_in(browser, "alice")
    for _ in range(12):
        assert users(browser) == ["alice"]
        clock.advance(60 * MINUTE - 1)
    assert users(browser) == ["alice"]
    clock.advance(12)
    assert users(browser) == [None]


# ---- sessions and API clients


@pytest.fixture
def api(example: Example, opened: Opened, sqlite: Backend, database: Engine) -> TestApp:
    module = example("api_tokens")
    browser = opened(ini_of("api_tokens"), sqlalchemy__url=sqlite.url)
    token = {"hash": hashlib.sha256(b"secret").digest(), "user": "robot"}
    with database.begin() as connection:
        connection.execute(module.Token.__table__.insert(), token)
    (block,) = (blocks("api_clients")["csrf-options"],)
    assert block.strip() in Path(module.__file__).read_text()
    return browser


def enter(browser: TestApp) -> str:
    """Sign alice in; the CSRF token of her session."""
    for _ in range(2):
        token: str = browser.get("/form").json["csrf_token"]
        browser.post("/sign_in", {"name": "alice", "csrf_token": token})
    return str(browser.get("/form").json["csrf_token"])


def session_statements(work: Callable[[], Any]) -> list[str]:
    """The statements about sessions, on any engine, during some work."""
    seen: list[str] = []
    with listening(Engine, "before_cursor_execute", lambda *given: seen.append(given[2])):
        work()
    return [statement for statement in seen if "sqlsession" in statement]


@pytest.mark.parametrize("is_signed_in", [False, True])
@pytest.mark.parametrize(
    ("header", "status", "user"),
    [("Bearer secret", 200, "robot"), ("Bearer wrong", 403, None), ("Basic YTpi", 403, None)],
)
def test_a_request_with_the_header_uses_no_session(
    header: str, status: int, user: str | None, is_signed_in: bool, api: TestApp
) -> None:
    if is_signed_in:
        enter(api)

    def order() -> None:
        response = api.post("/order", headers={"Authorization": header}, status=status)
        assert "Set-Cookie" not in response.headers
        assert "Vary" not in response.headers
        if user:
            assert response.json == {"ordered by": user}

    assert session_statements(order) == []


def test_a_page_needs_its_csrf_token_and_reads_the_session(api: TestApp) -> None:
    token = enter(api)
    api.post("/order", status=400)
    response = api.post("/order", {"csrf_token": token})
    assert response.json == {"ordered by": "alice"}
    assert response.headers["Vary"] == "Cookie"


def test_the_test_on_the_page_notices_a_session(api: TestApp) -> None:
    test = blocks("api_clients")["no-cookie"]
    run_block(test, testapp=api)
    with pytest.raises(AssertionError):
        run_block(test.replace('post("/order"', 'get("/form"'), testapp=api)


def test_what_makes_a_row_and_what_does_not(sqlite_engine: Engine) -> None:
    def read(request: Any) -> None:
        session = request.session
        session.get("a"), session.pop("a", None), session.pop_flash(), dict(session)

    def age(request: Any) -> None:
        request.session.max_age = 60

    views: dict[str, Callable[[Any], Any]] = {
        "key": put,
        "flash": lambda request: request.session.flash("hello"),
        "form": lambda request: request.session.get_csrf_token(),
    }
    browser = serve(configurator(sqlite_engine), read=read, age=age, **views)
    for name in ("read", "age"):
        browser.get(f"/{name}")
    assert count(sqlite_engine) == 0
    for number, name in enumerate(views, 1):
        another(browser).get(f"/{name}")
        assert count(sqlite_engine) == number


# ---- an audit trail


def trail(engine: Engine) -> list[tuple[str, str]]:
    """Who did what."""
    found = execute(engine, 'SELECT "user", what FROM audit ORDER BY id')
    return [(user, what) for user, what in found]


AUDIT = blocks("audit_trail")["audit"]


def test_each_sign_in_and_each_end_is_a_row(recipe: Recipe, database: Engine) -> None:
    browser = recipe("audit", AUDIT, "sqlsession.ttl = 1h")
    clock = set_now(browser)
    sign_in(browser, "alice")
    (handle,) = (lineage.hex() for (lineage,) in execute(database, HANDLE))
    sign_in(browser, "alice")
    post(browser, "/sign_out")
    entry = execute(database, "SELECT session, address FROM audit WHERE id = 1")
    assert entry == [(handle, None)]
    sign_in(browser, "bob")
    clock.advance(3601)
    users(browser)
    assert trail(database) == [
        ("alice", "sign-in"), ("alice", "renewed"), ("alice", "logout"), ("bob", "sign-in"),
        ("bob", "expiry"),
    ]  # fmt: skip


def test_a_sign_in_that_is_rolled_back_is_no_row(recipe: Recipe, database: Engine) -> None:
    browser = recipe("audit", AUDIT)
    home = browser.get("/home").json
    form = {"name": "alice", "password": "demo", "csrf_token": home["csrf_token"]}

    def refuse(*_: Any) -> None:
        raise RuntimeError("no COMMIT")

    with listening(Session, "before_commit", refuse), pytest.raises(RuntimeError):
        browser.post("/sign_in", form)
    assert trail(database) == []
    assert users(browser) == [None]


def test_who_cannot_be_recorded_is_not_signed_in(recipe: Recipe, database: Engine) -> None:
    browser = recipe("audit", AUDIT)
    home = browser.get("/home").json
    execute(database, "DROP TABLE audit")
    form = {"name": "alice", "password": "demo", "csrf_token": home["csrf_token"]}
    with pytest.raises(Exception, match="audit"):
        browser.post("/sign_in", form)
    assert users(browser) == [None]


LIMIT = "sqlsession.max_sessions_per_user = 1"


def test_a_session_that_the_limit_ends_is_a_row(recipe: Recipe, database: Engine) -> None:
    browser = recipe("audit", AUDIT, LIMIT)
    clock = set_now(browser)
    sign_in(browser, "alice")
    clock.advance(1)
    sign_in(another(browser), "alice")
    assert users(browser) == [None]
    assert trail(database) == [("alice", "sign-in")] * 2 + [("alice", "limit")]


def test_a_subscriber_that_uses_the_database_session_there_raises_and_lifts_no_limit(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = recipe("audit", AUDIT, LIMIT)
    raised: list[BaseException] = []

    def use(event: Any) -> None:
        try:
            event.request.dbsession.connection()
        except NoTransaction as error:
            raised.append(error)
            event.request.dbsession.close()
            raise

    # subscribers that are added now are told too
    browser.app.registry.registerHandler(use, (SessionEnded,))
    clock = set_now(browser)
    sign_in(browser, "alice")
    clock.advance(1)
    sign_in(another(browser), "alice")
    assert len(raised) == 1
    assert users(browser) == [None]


def test_what_a_script_revokes_is_a_row(recipe: Recipe, database: Engine, tmp_path: Path) -> None:
    sign_in(recipe("audit", AUDIT), "alice")
    with bootstrap(str(tmp_path / "production.ini")) as env:
        assert env["request"].sqlsessions.revoke_user("alice") == 1
    assert trail(database) == [("alice", "sign-in"), ("alice", "revoked")]


def test_a_sign_in_by_an_exception_view_is_a_row(
    recipe: Recipe, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit: Any = importlib.import_module
    recipe("audit", AUDIT)
    module = audit("audit")
    includeme = module.includeme

    def with_exception_view(config: Any) -> None:
        def page(error: Any, request: Any) -> Any:
            request.response.headers.extend(remember(request, "alice"))
            return {}

        includeme(config)
        config.add_exception_view(page, context=HTTPForbidden, renderer="json")
        config.add_route("closed", "/closed")
        config.add_view(lambda request: refused(), route_name="closed")

    def refused() -> None:
        raise HTTPForbidden

    monkeypatch.setattr(module, "includeme", with_exception_view)
    execute(database, "DELETE FROM users")
    browser = recipe("audit", AUDIT)
    browser.get("/closed")
    assert users(browser) == ["alice"]
    assert trail(database) == [("alice", "sign-in")]


# ---- anonymous carts


@pytest.fixture
def carts(example: Example, opened: Opened, sqlite: Backend) -> TestApp:
    example("carts")
    ini = ini_of("carts", blocks("anonymous_carts")["carts"])
    return opened(ini, sqlalchemy__url=sqlite.url)


def add(browser: TestApp, *products: str) -> None:
    for product in products:
        browser.post("/add", {"product": product})


def enter_shop(browser: TestApp) -> None:
    browser.post("/sign_in", {"name": "alice"})


def in_cart(browser: TestApp) -> dict[str, int]:
    found: dict[str, int] = browser.get("/cart").json
    return found


def test_a_cart_waits_longer_than_a_user(carts: TestApp) -> None:
    clock = set_now(carts)
    add(carts, "tea")
    clock.advance(29 * DAY)
    assert in_cart(carts) == {"tea": 1}
    enter_shop(carts)
    clock.advance(2 * 3600)
    assert in_cart(carts) == {}


def test_a_sign_in_adds_the_cart_to_the_users(carts: TestApp, database: Engine) -> None:
    add(carts, "tea", "tea")
    before = carts.cookies["session"]
    enter_shop(carts)
    assert carts.cookies["session"] != before
    other = another(carts)
    add(other, "tea", "milk")
    enter_shop(other)
    assert in_cart(carts) == in_cart(other) == {"milk": 1, "tea": 3}
    other.post("/sign_out")
    assert in_cart(other) == {}
    assert in_cart(carts) == {"milk": 1, "tea": 3}


def test_a_cart_stays_where_it_was_if_the_sign_in_fails(carts: TestApp, database: Engine) -> None:
    add(carts, "tea")

    def refuse(*_: Any) -> None:
        raise RuntimeError("no COMMIT")

    with listening(Session, "before_commit", refuse), pytest.raises(RuntimeError):
        enter_shop(carts)
    assert in_cart(carts) == {"tea": 1}
    assert count(database, "items") == 0


@pytest.mark.parametrize(("is_deleted", "quantity"), [(False, 1), (True, 2)])
def test_a_cart_that_is_deleted_comes_back_with_a_form_that_is_sent_twice(
    is_deleted: bool,
    quantity: int,
    example: Example,
    opened: Opened,
    sqlite: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = example("carts")

    def sign_in(request: Any) -> Any:
        headers = remember(request, request.POST["name"])
        for product, number in request.session.pop("cart", {}).items():
            module.put(request, request.POST["name"], product, number)
        return HTTPSeeOther("/cart", headers=headers)

    if is_deleted:
        monkeypatch.setattr(module, "sign_in", sign_in)
    carts = opened(ini_of("carts"), sqlalchemy__url=sqlite.url)
    add(carts, "tea")
    twice = another(carts)
    twice.set_cookie("session", carts.cookies["session"])
    for browser in (carts, twice):
        enter_shop(browser)
    assert in_cart(twice) == {"tea": 1}
    enter_shop(twice)
    assert in_cart(twice) == {"tea": quantity}


def test_a_sign_in_keeps_the_lifetime_of_the_session_unless_it_is_set_back(
    sqlite_engine: Engine,
) -> None:
    def keep(request: Any) -> None:
        request.session["cart"] = 1
        request.session.max_age = 30 * DAY

    def enter(request: Any) -> None:
        request.session["auth.userid"] = "alice"

    def back(request: Any) -> None:
        request.session["auth.userid"] = "alice"
        request.session.max_age = None

    live = "max_age"
    browser = serve(configurator(sqlite_engine), keep=keep, enter=enter, back=back)
    assert f"Max-Age={30 * DAY}" in browser.get("/keep").headers["Set-Cookie"]
    browser.get("/enter")
    rows = f"SELECT {live} FROM sqlsession WHERE replaced IS NULL"
    assert execute(sqlite_engine, rows) == [(30 * DAY,)]
    assert "Max-Age" not in browser.get("/back").headers["Set-Cookie"]
    assert execute(sqlite_engine, rows) == [(None,)]


# ---- row-level security


@pytest.fixture
def secured(example: Example, opened: Opened, postgresql: Backend) -> Iterator[TestApp]:
    """The application on a table with the page's policy, under a role that is subject to it."""
    module = example("row_security")
    owner = create_engine(postgresql.url)
    module.Base.metadata.create_all(owner)
    execute(
        owner,
        *statements_of(blocks("row_level_security")["policy"]),
        "CREATE ROLE shop_rows LOGIN PASSWORD 'secret'",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON notes, sqlsession TO shop_rows",
        "GRANT USAGE ON SEQUENCE notes_id_seq TO shop_rows",
    )
    url = make_url(postgresql.url).set(username="shop_rows", password="secret")
    text = url.render_as_string(hide_password=False)
    browser = opened(ini_of("row_security"), sqlalchemy__url=text)
    yield browser
    browser.app.registry["dbsession_factory"].kw["bind"].dispose()
    execute(owner, "DROP OWNED BY shop_rows", "DROP ROLE shop_rows")
    owner.dispose()


@pytest.fixture
def writers(secured: TestApp) -> tuple[TestApp, TestApp]:
    """Two browsers, of alice and of bob, who have a note each."""
    alice, bob = secured, another(secured)
    for browser, name in ((alice, "alice"), (bob, "bob")):
        browser.post("/sign_in", {"name": name})
        browser.post("/add", {"owner": name, "text": f"{name}'s"})
    return alice, bob


def test_users_see_only_their_own_rows(writers: tuple[TestApp, TestApp]) -> None:
    alice, bob = writers
    # one after the other, on the same connection of the pool
    for _ in range(2):
        assert alice.get("/notes").json == ["alice's"]
        assert bob.get("/notes").json == ["bob's"]
        assert another(alice).get("/notes").json == []
    with pytest.raises(ProgrammingError, match="row-level security"):
        alice.post("/add", {"owner": "bob", "text": "forged"})
    assert bob.get("/notes").json == ["bob's"]


def test_a_touch_needs_no_user(writers: tuple[TestApp, TestApp], postgresql: Backend) -> None:
    clock = set_now(writers[0])
    clock.advance(400)
    writers[0].get("/notes")
    engine = create_engine(postgresql.url)
    assert clock.now in stored(engine, "last_seen")
    engine.dispose()


def test_a_listener_sets_what_does_not_depend_on_the_user(writers: tuple[TestApp, TestApp]) -> None:
    seen: list[str] = []
    with listening(Engine, "before_cursor_execute", lambda *given: seen.append(given[2])):
        writers[0].get("/notes")
    kinds = [sql for sql in seen if "statement_timeout" in sql or "set_config" in sql]
    assert len(kinds) == 2
    assert seen[0].startswith("SET LOCAL statement_timeout")


def test_a_listener_finds_nobody_while_the_session_is_read(
    writers: tuple[TestApp, TestApp],
) -> None:
    asked: list[Any] = []
    browser = writers[0]

    def ask(*_: Any) -> None:
        asked.append(get_current_request().authenticated_userid)

    factory = browser.app.registry["dbsession_factory"]
    event.listen(factory, "after_begin", ask)
    assert browser.get("/notes").json == ["alice's"]
    assert asked == [None]


def test_a_search_path_that_a_listener_sets_is_not_that_of_touches(
    writers: tuple[TestApp, TestApp], postgresql: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    owner = create_engine(postgresql.url)
    execute(
        owner,
        "CREATE SCHEMA tenant",
        "ALTER TABLE sqlsession SET SCHEMA tenant",
        "GRANT USAGE ON SCHEMA tenant TO shop_rows",
    )
    browser = writers[0]

    def choose(dbsession: Any, transaction: Any, connection: Any) -> None:
        connection.exec_driver_sql("SET LOCAL search_path = tenant, public")

    event.listen(browser.app.registry["dbsession_factory"], "after_begin", choose)
    set_now(browser).advance(400)
    assert browser.get("/notes").json == ["alice's"]
    assert "was not recorded" in caplog.text
    owner.dispose()


# ---- two applications on one host


def two(sqlite: Backend, shop: dict[str, Any], wiki: dict[str, Any]) -> TestApp:
    """A browser of a host that serves two applications, at /shop and /wiki."""

    def leave(request: Any) -> None:
        request.session.invalidate()

    apps = {}
    for name, settings in (("shop", shop), ("wiki", wiki)):
        config = own_configurator(sqlite.url, **settings)
        if "table" in settings:
            del config.registry.settings["sqlsession.model"]
        apps[name] = serve(config, put=put, show=show, leave=leave).app

    def host(environ: Any, start_response: Any) -> Any:
        _, name, rest = environ["PATH_INFO"].split("/", 2)
        environ |= {"SCRIPT_NAME": f"/{name}", "PATH_INFO": f"/{rest}"}
        return apps[name](environ, start_response)

    return TestApp(host)


def settings_of(name: str) -> dict[str, str]:
    """The settings of an application on the page."""
    lines = (line.partition(" = ") for line in blocks("two_applications")[name].splitlines())
    return {key.removeprefix("sqlsession."): value for key, _, value in lines}


def test_two_applications_have_sessions_of_their_own(sqlite: Backend, database: Engine) -> None:
    browser = two(sqlite, settings_of("shop"), settings_of("wiki"))
    browser.get("/shop/put")
    assert browser.get("/wiki/show").json == {}
    browser.get("/wiki/put")
    browser.get("/wiki/put")
    assert browser.get("/shop/show").json == {"cart": [1]}
    assert browser.get("/wiki/show").json == {"cart": [1, 1]}
    browser.get("/wiki/leave")
    assert browser.get("/shop/show").json == {"cart": [1]}
    assert count(database, "shop_session") == 1
    assert count(database, "wiki_session") == 0


def test_with_one_cookie_each_overwrites_the_others(sqlite: Backend) -> None:
    browser = two(sqlite, {"table": "shop_session"}, {"table": "wiki_session"})
    browser.get("/shop/put")
    assert browser.get("/wiki/show").json == {}
    assert browser.get("/shop/show").json == {"cart": [1]}
    browser.get("/wiki/put")
    assert browser.get("/shop/show").json == {}


def test_with_one_table_a_token_of_one_opens_a_session_in_the_other(sqlite: Backend) -> None:
    browser = two(sqlite, {"cookie_name": "shop"}, {"cookie_name": "wiki"})
    browser.get("/shop/put")
    assert browser.get("/wiki/show").json == {}
    browser.set_cookie("wiki", browser.cookies["shop"])
    assert browser.get("/wiki/show").json == {"cart": [1]}


def test_with_one_cookie_and_one_table_they_share_the_session(sqlite: Backend) -> None:
    browser = two(sqlite, {}, {})
    browser.get("/shop/put")
    browser.get("/wiki/put")
    assert browser.get("/shop/show").json == {"cart": [1, 1]}
    browser.get("/wiki/leave")
    assert browser.get("/shop/show").json == {}
