"""Visitors of other session stores keep their sessions, as the pages about moving say."""

from __future__ import annotations

import importlib
import json
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from http.cookiejar import Cookie
from pathlib import Path
from time import thread_time
from typing import Any

import pytest
from benchmarks.peers.servers import Redis
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPBadRequest
from pyramid_retry import RetryableException
from sqlalchemy import Engine, create_engine
from support.apps import VETO, Broken, Note, configurator, notes, own_configurator, put, rows, show
from support.apps import serve as serve_views
from support.docs.old_stores import (
    BeakerFiles,
    BeakerRows,
    EncryptedCookies,
    OldStore,
    PickledKeys,
    RedisSessions,
    Rows,
    SignedCookies,
    pyramid_nacl_session,
    pyramid_sqlalchemy_sessions,
)
from support.servers import Backend, serving
from webtest import TestApp

pytestmark = [
    # what the peers' own code does
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TypeDecorator:sqlalchemy.exc.SAWarning"),
]

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
CART = {"cart": ["tea", "milk"]}
ALICE = {**CART, "auth.userid": 7}
NEW = {"sqlsession.cookie_name": "sid"}


def recipe(*names: str) -> Any:
    """The recipe, importable by its modules' names."""
    sys.path.append(str(EXAMPLES))
    try:
        for name in names:
            importlib.import_module(f"moving.from_{name}")
        return importlib.import_module("moving")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module", autouse=True)
def moving() -> Any:
    """The recipe for the packages that the tests' environment has."""
    return recipe("signed_cookies", "redis", "redis_sessions", "beaker", "sqlalchemy_sessions")


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """A Redis server."""
    with serving(Redis) as server:
        yield server


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What runs of pyramid_sqlalchemy_sessions."""
    return pyramid_sqlalchemy_sessions(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def nacl(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """pyramid_nacl_session."""
    return pyramid_nacl_session(tmp_path_factory.mktemp("nacl"))


def _nacl(request: pytest.FixtureRequest) -> OldStore:
    package = request.getfixturevalue("nacl")
    recipe("nacl")
    return EncryptedCookies(package)


def _rows(request: pytest.FixtureRequest, database: str) -> OldStore:
    url = request.getfixturevalue(database).url
    return Rows(request.getfixturevalue("release"), url)


STORES: dict[str, Callable[[pytest.FixtureRequest], OldStore]] = {
    "signed cookies": lambda request: SignedCookies(),
    "encrypted cookies": _nacl,
    "redis": lambda request: RedisSessions(request.getfixturevalue("redis")),
    "redis, pickled keys": lambda request: PickledKeys(request.getfixturevalue("redis")),
    "beaker database": lambda request: BeakerRows(request.getfixturevalue("sqlite").url),
    "beaker files": lambda request: BeakerFiles(request.getfixturevalue("tmp_path") / "beaker"),
    "rows sqlite": lambda request: _rows(request, "sqlite"),
    "rows postgresql": lambda request: _rows(request, "postgresql"),
}
every_store = pytest.mark.parametrize("old", STORES, indirect=True)
# which can store more than JSON
WITH_OBJECTS = [name for name in STORES if name != "signed cookies"]
with_objects = pytest.mark.parametrize("old", WITH_OBJECTS, indirect=True)


@pytest.fixture
def old(request: pytest.FixtureRequest) -> OldStore:
    """A store that visitors come from."""
    return STORES[request.param](request)


@pytest.fixture
def engine(sqlite: Backend) -> Engine:
    """The new application's database."""
    return create_engine(sqlite.url)


def sign_in(request: Any) -> Any:
    request.session["auth.userid"] = int(request.params.get("user", 7))
    return {}


def forget(request: Any) -> Any:
    request.session.pop("auth.userid", None)
    return {}


def sign_out(request: Any) -> Any:
    request.session.invalidate()
    return {}


def say_goodbye(request: Any) -> Any:
    request.session.invalidate()
    request.session.flash("Goodbye")
    return {}


def fail(request: Any) -> Any:
    request.dbsession.add(Note(text="never"))
    put(request)
    raise Broken("no")


def refuse(request: Any) -> Any:
    request.session.clear()
    return HTTPBadRequest()


def rest(request: Any) -> Any:
    """Leave the session alone."""
    return {}


def token(request: Any) -> Any:
    return request.session.get_csrf_token()


VIEWS = (show, put, sign_in, forget, sign_out, say_goodbye, fail, refuse, rest, token)


def move(engine: Engine, old: OldStore, settings: Any = None, **more: Any) -> Any:
    """The new application."""
    options = {name: more.pop(name) for name in ("retry", "clock") if name in more}
    config = configurator(engine, {**old.settings, **NEW, **VETO, **(settings or {})}, **options)
    config.include(old.module)
    config.add_exception_view(lambda request: HTTPBadRequest(), context=Broken)
    views = {view.__name__: view for view in VIEWS}
    return serve_views(config, **views, **more)


def visitor(app: TestApp, old: OldStore, cookie: str) -> TestApp:
    """A browser that has the old cookie."""
    browser = TestApp(app.app)
    jar_cookie = Cookie(
        *(0, old.cookie_name, cookie, None, False, "localhost.local", False, False, "/", True),
        *(False, None, False, None, None, {}),
    )
    browser.cookiejar.set_cookie(jar_cookie)
    return browser


def of_application(data: dict[str, Any]) -> dict[str, Any]:
    """What an application has put into its session."""
    return {key: value for key, value in data.items() if key in ALICE}


# ---- what lives on


@every_store
def test_a_visitor_keeps_everything_and_gets_a_new_cookie(old: OldStore, engine: Engine) -> None:
    cookie, csrf = old.begin(ALICE, "Welcome")
    browser = visitor(move(engine, old), old, cookie)
    everything = {**ALICE, "_csrft_": csrf, "_f_": ["Welcome"]}
    assert browser.get("/show").json == everything
    assert len(browser.cookies["sid"]) == 43
    assert browser.get("/show").json == everything
    assert set(browser.cookies) == {"sid"}
    assert browser.get("/show").json == everything
    assert browser.get("/token").json == csrf
    assert [row["user_id"] for row in rows(engine)] == ["7"]


@every_store
def test_a_session_that_is_moved_has_a_token_nobody_knew(old: OldStore, engine: Engine) -> None:
    for data in (CART, ALICE):
        cookie, _ = old.begin(data, "Welcome")
        app = move(engine, old)
        tokens = set()
        for _ in range(2):
            browser = visitor(app, old, cookie)
            browser.get("/show")
            tokens.add(browser.cookies["sid"])
        assert len(tokens | {cookie}) == 3


@every_store
def test_the_security_policy_and_the_transaction_see_the_user_in_the_first_request(
    old: OldStore, engine: Engine
) -> None:
    class Policy:
        def identity(self, request: Any) -> Any:
            # once a request, as the cookiecutter's policy does
            if not hasattr(request, "cached"):
                request.cached = request.session.get("auth.userid")
            return request.cached

        authenticated_userid = identity

    cookie, _ = old.begin(ALICE, "Welcome")
    config = configurator(engine, {**old.settings, **NEW})
    config.include(old.module)
    config.set_security_policy(Policy())
    app = serve_views(config, who=lambda request: request.authenticated_userid)
    assert visitor(app, old, cookie).get("/who").json == 7


@with_objects
def test_what_json_cannot_hold_is_converted_or_left_behind(
    old: OldStore, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    data: dict[Any, Any] = {
        **CART,
        "when": [datetime(2030, 1, 2, tzinfo=timezone.utc)],
        "price": Decimal("1.50"),
        "pair": (1, {2}),
        "raw": b"\0",
        "by number": {1: "one"},
        "not a number": float("nan"),
        "nul": "\0",
        "half": "\ud800",
        3: "three",
    }
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    data["deep"] = deep
    cookie, _ = old.begin(data, "Welcome")
    browser = visitor(move(engine, old), old, cookie)
    found = browser.get("/show").json
    del found["_csrft_"], found["_f_"]
    assert found == {
        **CART,
        "when": ["2030-01-02T00:00:00+00:00"],
        "price": "1.50",
        "pair": [1, [2]],
    }
    for key in set(data) - set(found):
        assert f"the key {key!r} of an old session is not moved" in caplog.text


# ---- what does not


@every_store
def test_what_the_old_store_has_expired_stays_expired(old: OldStore, engine: Engine) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    browser = visitor(move(engine, old), old, old.expire(cookie))
    response = browser.get("/show")
    assert response.json == {}
    assert not browser.cookies
    assert response.cache_control.no_store
    assert not rows(engine)


@every_store
def test_a_sign_out_in_the_first_request_ends_the_old_session(
    old: OldStore, engine: Engine
) -> None:
    for path in ("/sign_out", "/forget"):
        cookie, _ = old.begin(ALICE, "Welcome")
        app = move(engine, old)
        browser = visitor(app, old, cookie)
        browser.get(path)
        assert not browser.cookies
        assert browser.get("/show").json == {}
        replayed = visitor(app, old, cookie).get("/show").json
        assert bool(replayed) != old.revokes
        assert bool(of_application(old.read(cookie))) != old.revokes


@every_store
def test_a_sign_out_that_leaves_a_message_ends_the_old_session_at_once(
    old: OldStore, engine: Engine
) -> None:
    for path in ("/say_goodbye", "/sign_in?user=8"):
        cookie, _ = old.begin(ALICE, "Welcome")
        browser = visitor(move(engine, old), old, cookie)
        browser.get(path)
        assert set(browser.cookies) == {"sid"}
        assert bool(of_application(old.read(cookie))) != old.revokes


@every_store
def test_after_a_later_sign_out_the_old_cookie_opens_nothing(old: OldStore, engine: Engine) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old)
    browser = visitor(app, old, cookie)
    browser.get("/show")
    browser.get("/sign_out")
    assert not browser.cookies
    assert browser.get("/show").json == {}
    # a thief who has copied the old cookie
    assert bool(visitor(app, old, cookie).get("/show").json) != old.revokes


@every_store
def test_with_the_new_cookie_the_old_session_is_never_looked_at_again(
    old: OldStore, engine: Engine
) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old)
    browser = visitor(app, old, cookie)
    browser.set_cookie("sid", "A" * 43)
    response = browser.get("/show", extra_environ={"wsgi.url_scheme": "https"})
    assert response.json == {}
    assert response.cache_control.no_store
    (removal,) = response.headers.getall("Set-Cookie")
    assert removal.startswith(f"{old.cookie_name}=; Max-Age=0; Path=/;")
    assert removal.endswith("; secure")
    assert bool(of_application(old.read(cookie))) != old.revokes


@every_store
def test_the_old_name_in_the_value_of_another_cookie_moves_nothing(
    old: OldStore, engine: Engine
) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old)
    evil, _ = old.begin({**ALICE, "auth.userid": 8}, "Welcome")
    own, planted = f"{old.cookie_name}={cookie}", f"a=b {old.cookie_name}={evil}"
    assert app.get("/show", headers={"Cookie": planted}).json == {}
    new = f"a=b sid={'A' * 43}"
    for header in (f"{own}; {planted}", f"{planted}; {own}", f"{own}; {new}", f"{new}; {own}"):
        found = app.get("/show", headers={"Cookie": header}).json
        assert of_application(found) == ALICE


@every_store
def test_no_other_cookie_hides_the_old_one(old: OldStore, engine: Engine) -> None:
    app = move(engine, old)
    for header in ("a=\xff\xfe; {}", "a=\\\x80; {}; b", 'a="; {}; b="'):
        cookie, _ = old.begin(ALICE, "Welcome")
        app.reset()
        own = header.format(f"{old.cookie_name}={cookie}")
        assert of_application(app.get("/show", headers={"Cookie": own}).json) == ALICE


@every_store
def test_a_long_header_costs_a_moving_application_little(old: OldStore, engine: Engine) -> None:
    app = move(engine, old)

    def cost(size: int) -> float:
        start = thread_time()
        for value in ("", f"{old.cookie_name}=", f"{old.cookie_name}=x,"):
            assert app.get("/show", headers={"Cookie": value + "a" * size}).json == {}
        return thread_time() - start

    assert min(cost(64 * 1024) for _ in range(3)) < 5 * min(cost(10) for _ in range(5)) + 0.02


@every_store
def test_an_aborted_request_moves_nothing_and_writes_nothing(old: OldStore, engine: Engine) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old)
    before = old.stored()
    assert bool(before) == old.revokes
    browser = visitor(app, old, cookie)
    for path in ("/fail", "/refuse"):
        browser.get(path, status=400)
        assert set(browser.cookies) == {old.cookie_name}
    assert not rows(engine)
    assert not notes(engine)
    assert old.stored() == before
    assert of_application(browser.get("/show").json) == ALICE


@every_store
def test_moving_does_not_write_the_old_session(old: OldStore, engine: Engine) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old)
    before = old.stored()
    response = visitor(app, old, cookie).get("/put")
    assert old.stored() == before
    assert [it.partition("=")[0] for it in response.headers.getall("Set-Cookie")] == ["sid"]


@every_store
def test_two_requests_at_once_both_find_the_old_session(old: OldStore, engine: Engine) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old)
    found = [of_application(visitor(app, old, cookie).get("/show").json) for _ in range(2)]
    assert found == [ALICE, ALICE]
    assert len(rows(engine)) == 2


# ---- signing in and out in the request that moves


def test_a_copy_counts_where_sessions_are_limited(engine: Engine) -> None:
    old = SignedCookies()
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old, {"sqlsession.max_sessions_per_user": 1})
    browsers = [visitor(app, old, cookie) for _ in range(2)]
    for browser in browsers:
        browser.get("/show")
    found = [of_application(browser.get("/show").json) for browser in browsers]
    # whichever it is, if they are copied within a second
    assert found in ([{}, ALICE], [ALICE, {}])


@every_store
def test_a_sign_in_drops_the_csrf_token_that_was_known_before(
    old: OldStore, engine: Engine
) -> None:
    cookie, csrf = old.begin(CART, "Welcome")
    browser = visitor(move(engine, old), old, cookie)
    browser.get("/sign_in")
    assert of_application(browser.get("/show").json) == ALICE
    assert browser.get("/token").json != csrf


@every_store
def test_another_user_gets_nothing_of_an_old_users_session(old: OldStore, engine: Engine) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    browser = visitor(move(engine, old), old, cookie)
    browser.get("/sign_in?user=8")
    assert browser.get("/show").json == {"auth.userid": 8}
    assert [row["user_id"] for row in rows(engine)] == ["8"]


class Dates:
    """A serializer that stores dates, too."""

    def dumps(self, data: dict[str, Any]) -> bytes:
        return json.dumps(data, default=lambda value: {"date": value.isoformat()}).encode()

    def loads(self, stored: bytes) -> Any:
        return json.loads(stored, object_hook=self._restore)

    def _restore(self, value: dict[str, Any]) -> Any:
        return date.fromisoformat(value["date"]) if set(value) == {"date"} else value


@with_objects
def test_what_a_serializer_of_the_applications_own_stores_can_be_moved(
    old: OldStore, engine: Engine, moving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(value: Any) -> Any:
        """As one would change it there."""
        return value

    monkeypatch.setattr(moving, "plain", plain)
    cookie, _ = old.begin({**CART, "when": [date(2030, 1, 2)]}, "Welcome")
    config = configurator(engine, {**old.settings, **NEW, "sqlsession.serializer": Dates()})
    config.include(old.module)
    app = serve_views(config, when=lambda request: repr(request.session["when"]))
    browser = visitor(app, old, cookie)
    for _ in range(2):
        assert browser.get("/when").json == "[datetime.date(2030, 1, 2)]"


@every_store
def test_a_sign_out_leaves_its_own_message_and_none_of_the_old_user(
    old: OldStore, engine: Engine
) -> None:
    def leave(request: Any) -> Any:
        forget(request)
        request.session.flash("Goodbye")
        request.session.flash("Come again", "more")
        return {}

    cookie, _ = old.begin(ALICE, "Welcome")
    config = configurator(engine, {**old.settings, **NEW})
    config.include(old.module)
    app = serve_views(config, leave=leave, show=show)
    browser = visitor(app, old, cookie)
    browser.get("/leave")
    assert browser.get("/show").json == {"_f_": ["Goodbye"], "_f_more": ["Come again"]}


# ---- other applications


def test_an_application_without_a_database_session_can_move(
    engine: Engine, sqlite: Backend
) -> None:
    old = SignedCookies()
    config = own_configurator(sqlite.url, cookie_name="sid")
    config.add_settings(old.settings)
    config.include(old.module)
    app = serve_views(config, show=show, sign_out=sign_out)
    browser = visitor(app, old, old.begin(ALICE, "Welcome")[0])
    for _ in range(2):
        assert of_application(browser.get("/show").json) == ALICE
    assert set(browser.cookies) == {"sid"}


def test_a_request_without_a_transaction_can_move(engine: Engine) -> None:
    old = SignedCookies()
    app = move(engine, old, {"tm.activate_hook": "support.apps.no_transaction"})
    browser = visitor(app, old, old.begin(ALICE, "Welcome")[0])
    assert of_application(browser.get("/show").json) == ALICE
    assert len(rows(engine)) == 1
    browser = visitor(app, old, old.begin(ALICE, "Welcome")[0])
    browser.get("/sign_out")
    assert not browser.cookies


# ---- what goes wrong


@every_store
def test_an_old_session_that_cannot_be_read_is_an_empty_one(old: OldStore, engine: Engine) -> None:
    cookie, _ = old.begin(ALICE, "Welcome")
    browser = visitor(move(engine, old), old, old.spoil(cookie))
    assert browser.get("/show").json == {}
    browser.get("/put")
    assert "sid" in browser.cookies
    assert browser.get("/show").json == {"cart": [1]}
    assert set(browser.cookies) == {"sid"}


@every_store
@pytest.mark.parametrize("value", ["", "x", "é", "AAAA" * 20, '"\udcff"'])
def test_a_cookie_that_is_nonsense_is_no_error(old: OldStore, engine: Engine, value: str) -> None:
    app = move(engine, old)
    raw = f"{old.cookie_name}={value}".encode("utf-8", "surrogateescape").decode("latin-1")
    assert app.get("/show", extra_environ={"HTTP_COOKIE": raw}).json == {}


@every_store
def test_an_old_session_that_is_too_large_is_left_behind(
    old: OldStore, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    cookie, _ = old.begin({**ALICE, "long": "x" * 1024}, "Welcome")
    browser = visitor(move(engine, old, {"sqlsession.max_size": "1024"}), old, cookie)
    assert browser.get("/show").json == {}
    assert "longer than sqlsession.max_size" in caplog.text


def test_a_server_that_is_down_is_a_line_in_the_log(
    redis: Redis, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    old = RedisSessions(redis)
    cookie, _ = old.begin(ALICE, "Welcome")
    app = move(engine, old)
    moved = visitor(app, old, old.begin(ALICE, "Welcome")[0])
    moved.get("/show")
    browser = visitor(app, old, cookie)
    redis.stop()
    try:
        assert browser.get("/show").json == {}
        assert "an old session cannot be read" in caplog.text
        assert set(browser.cookies) == {"session"}
        assert of_application(moved.get("/show").json) == ALICE
        assert "an old session cannot be ended" in caplog.text
        caplog.clear()
        # the new cookie alone never asks the server
        assert of_application(moved.get("/show").json) == ALICE
        assert not caplog.messages
    finally:
        redis.start()
    assert of_application(browser.get("/show").json) == ALICE
    assert "sid" in browser.cookies


def test_a_request_that_is_run_again_moves_the_session_once(engine: Engine) -> None:
    old = SignedCookies()
    attempts = []

    def conflict(request: Any) -> Any:
        attempts.append(of_application(dict(request.session)))
        if len(attempts) == 1:
            raise RetryableException
        return {}

    browser = visitor(
        move(engine, old, retry=True, conflict=conflict), old, old.begin(ALICE, "")[0]
    )
    browser.get("/conflict")
    assert attempts == [ALICE, ALICE]
    assert len(rows(engine)) == 1


def test_what_pyramid_redis_sessions_itself_has_stored_can_be_moved(
    redis: Redis, engine: Engine
) -> None:
    # version 1.0.1 made both with Pyramid 1.10.8 and redis 3.5.3
    cookie = (
        "21438042114fe91e031089136010ad8d98f10de1gAWVRAAAAAAAAACMQGFjYjJhMGNlMmFiZDY5NmM5MWYzYTRlZD"
        "E0ODM1NDVmYjMwOGRhYjE3N2E1Yzk5OGExM2Q4NzVlOTJlNjlhZTmULg=="
    )
    value = (
        "gASVqAAAAAAAAAB9lCiMDG1hbmFnZWRfZGljdJR9lCiMBGNhcnSUXZQojAN0ZWGUjARtaWxrlGWMC2F1dGgudXNlcm"
        "lklEsHjANfZl+UXZSMB1dlbGNvbWWUYYwHX2NzcmZ0X5SMKGJiMGQxZmJhMDQzMDVjZjJhZDA2M2I1NzdjMDJmOWRh"
        "YzNlYmM1ZDKUdYwHY3JlYXRlZJRHQdrC9zbCodOMB3RpbWVvdXSUTbAEdS4="
    )
    old = PickledKeys(redis)
    old.put(old.key(cookie), b64decode(value))
    found = visitor(move(engine, old), old, cookie).get("/show").json
    assert of_application(found) == ALICE
    assert found["_f_"] == ["Welcome"]


def test_a_key_that_was_not_signed_with_the_secret_is_refused(redis: Redis, engine: Engine) -> None:
    old = PickledKeys(redis)
    cookie, _ = old.begin(ALICE, "Welcome")
    forged = ("0" if cookie[0] != "0" else "1") + cookie[1:]
    assert visitor(move(engine, old), old, forged).get("/show").json == {}


def test_a_renewed_cookie_of_rows_is_refused(release: Any, sqlite: Backend, engine: Engine) -> None:
    old = Rows(release, sqlite.url)
    cookie, _ = old.begin(ALICE, "Welcome")
    assert visitor(move(engine, old), old, old.renew(cookie)).get("/show").json == {}


def test_the_old_name_for_the_new_cookie_is_a_configuration_error(engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlsession\.cookie_name = sid"):
        move(engine, SignedCookies(), {"sqlsession.cookie_name": "session"})
