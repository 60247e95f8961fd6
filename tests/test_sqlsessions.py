"""``request.sqlsessions``: lists of sessions, ending them, limits, and the columns they live by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.scripting import prepare
from pyramid.session import SignedCookieSessionFactory
from pyramid.threadlocal import get_current_request
from sqlalchemy import (
    Engine,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column
from support.apps import (
    EPOCH,
    Broken,
    Clock,
    Note,
    SessionRow,
    add_views,
    configurator,
    listening,
    notes,
    own_configurator,
    plain_engine,
    prefixed,
    rows,
    serve,
    session_cookies,
    show,
    statements,
)
from support.places import Place, step_by_step, where_late_writes_merge, where_writes_wait
from support.races import Flight, drop, put
from support.servers import Backend, Server
from transaction.interfaces import NoTransaction
from webtest import TestApp

from pyramid_sqlsession import SessionConflict, SessionEnded, SessionMixin

USER = "auth.userid"


def enter(request: Any) -> Any:
    """Sign in as ``?user=``."""
    request.session[USER] = request.GET.get("user", "alice")
    return {}


def listed(request: Any) -> Any:
    """The sessions of ``?user=``."""
    return [
        {"handle": it.handle, "current": it.current, "expires_at": it.expires_at.timestamp()}
        for it in request.sqlsessions.of_user(request.GET.get("user", "alice"))
    ]


def revoke(request: Any) -> Any:
    return request.sqlsessions.revoke(request.GET["handle"])


def revoke_user(request: Any) -> Any:
    keep = request.session.id if "keep" in request.GET else None
    return request.sqlsessions.revoke_user(request.GET.get("user", "alice"), keep=keep)


def put_something(request: Any) -> Any:
    request.session["cart"] = [1]
    return {}


def handle(request: Any) -> Any:
    return request.session.id


def row_of(request: Any, model: Any) -> Any:
    """The only row of the request's session, as the application's database session has it."""
    lineage = bytes.fromhex(request.session.id)
    return request.dbsession.scalars(select(model).filter_by(lineage=lineage)).one()


VIEWS: dict[str, Callable[[Any], Any]] = {
    "enter": enter,
    "listed": listed,
    "revoke": revoke,
    "revoke_user": revoke_user,
    "handle": handle,
    "show": show,
}


class Devices:
    """Several browsers of one application."""

    def __init__(self, config: Configurator, **views: Callable[[Any], Any]) -> None:
        self.first = serve(config, **VIEWS, **views)

    def another(self) -> TestApp:
        return TestApp(self.first.app)

    def signed_in(self, user: str = "alice") -> TestApp:
        browser = self.another()
        browser.get(f"/enter?user={user}")
        return browser


def is_signed_in(browser: TestApp) -> bool:
    return USER in browser.get("/show").json


@pytest.fixture
def devices(engine: Engine) -> Devices:
    return Devices(configurator(engine))


# ---- listing


def test_a_user_sees_all_live_sessions_and_which_is_the_current_one(engine: Engine) -> None:
    clock = Clock()
    devices = Devices(configurator(engine, clock=clock, ttl=100))
    browsers, handles = [], []
    for _ in range(3):
        browsers.append(devices.signed_in())
        handles.append(browsers[-1].get("/handle").json)
        clock.advance(20)
    devices.signed_in("bob")
    found = browsers[0].get("/listed").json
    assert [it["current"] for it in found] == [False, False, True]
    assert [it["handle"] for it in reversed(found)] == handles
    assert found[2]["expires_at"] == clock() - 60 + 100
    clock.advance(45)
    assert len(browsers[2].get("/listed").json) == 2


def test_the_times_of_a_list_are_in_utc(engine: Engine) -> None:
    def times(request: Any) -> Any:
        (it,) = request.sqlsessions.of_user("alice")
        return [moment.isoformat() for moment in (it.created, it.last_seen, it.expires_at)]

    clock = Clock()
    browser = Devices(configurator(engine, clock=clock, ttl=3600), times=times).signed_in()
    clock.advance(600)
    browser.get("/show")
    assert browser.get("/times").json == [
        "2027-01-15T08:00:00+00:00", "2027-01-15T08:10:00+00:00", "2027-01-15T09:10:00+00:00"
    ]  # fmt: skip


def test_markers_are_not_listed(devices: Devices) -> None:
    browser = devices.signed_in()
    browser.get("/enter")
    assert len(browser.get("/listed").json) == 1


def test_a_list_shows_the_applications_own_columns(engine: Engine) -> None:
    def columns(request: Any) -> Any:
        (found,) = request.sqlsessions.of_user("alice")
        return dict(found.columns)

    devices = Devices(configurator(engine), columns=columns)
    assert devices.signed_in().get("/columns").json == {"note_id": None}


def test_a_user_that_the_column_cannot_hold_has_no_sessions(devices: Devices) -> None:
    browser = devices.signed_in()
    assert browser.get("/listed?user=" + "x" * 300).json == []
    assert browser.get("/revoke_user?user=" + "x" * 300).json == 0
    assert is_signed_in(browser)


def test_nobody_has_no_sessions(engine: Engine) -> None:
    def ask(request: Any) -> Any:
        users, handle = request.sqlsessions, request.GET["handle"]
        return [users.of_user(None), users.revoke_user(None), users.revoke(handle, None)]

    devices = Devices(configurator(engine), ask=ask)
    # whose text None would be
    browser = devices.signed_in("None")
    handle = browser.get("/handle").json
    assert devices.another().get(f"/ask?handle={handle}").json == [[], 0, False]
    assert is_signed_in(browser)
    assert browser.get("/listed?user=None").json[0]["handle"] == handle


@pytest.mark.parametrize(
    "user",
    [b"alice", True, {"id": 1}, ("alice", 1), Clock(), 1.5],
    ids=lambda it: type(it).__name__,
)
def test_what_names_nobody_is_an_error_where_it_is_asked_for(sqlite: Backend, user: Any) -> None:
    def asked(ask: Callable[[Any], Any]) -> str:
        with pytest.raises(TypeError, match=r"request\.user\.id") as caught:
            ask(user)
        return str(caught.value)

    def ask(request: Any) -> Any:
        users = request.sqlsessions
        return [
            asked(users.of_user),
            asked(users.revoke_user),
            asked(lambda user: users.revoke("0" * 32, user)),
        ]

    app = serve(configurator(create_engine(sqlite.url)), ask=ask)
    assert len(set(app.get("/ask").json)) == 1


@pytest.mark.parametrize("user", [{"id": 1, "realm": "a"}, ["alice", 2], True, 1.5], ids=repr)
def test_a_user_who_is_no_text_is_stored_and_warned_about_once(
    engine: Engine, user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def enter_as(request: Any) -> Any:
        request.session[USER] = user
        return {}

    devices = Devices(configurator(engine), enter_as=enter_as)
    browsers = [devices.another() for _ in range(3)]
    tokens = set()
    for browser in browsers:
        browser.get("/enter_as")
        tokens.add(browser.cookies["session"])
        browser.get("/enter_as")
        tokens.add(browser.cookies["session"])
        assert browser.get("/show").json == {USER: user}
    # the second is a step-up: it is the same one, as it is stored
    assert len(tokens) == 6
    live = [row for row in rows(engine) if row["replaced"] is None]
    assert len(live) == 3
    assert {row["user_id"] for row in rows(engine)} == {None}
    warnings = [it for it in caplog.records if "stored without its user_id" in it.getMessage()]
    assert len(warnings) == 1


def test_a_space_at_the_end_makes_another_user(backend: Backend, engine: Engine) -> None:
    devices = Devices(configurator(engine, max_sessions_per_user=1))
    alice, other = devices.signed_in("alice"), devices.signed_in("alice%20")
    assert len(alice.get("/listed?user=alice").json) == 1
    assert len(alice.get("/listed?user=alice%20").json) == 1
    handle = alice.get("/handle").json
    assert alice.get("/listed?user=alice").json[0]["handle"] == handle

    assert other.get("/revoke_user?user=alice%20%20").json == 0
    assert other.get("/revoke_user?user=alice").json == 1
    assert is_signed_in(other)
    assert not is_signed_in(alice)


def test_a_space_at_the_end_does_not_join_anothers_session(engine: Engine) -> None:
    devices = Devices(configurator(engine), put=put_something)
    browser = devices.another()
    browser.get("/put")
    old = browser.cookies["session"]
    browser.get("/enter?user=alice")
    late = devices.another()
    late.set_cookie("session", old.strip('"'))
    late.get("/enter?user=alice%20")
    handles = [it.get("/handle").json for it in (browser, late)]
    assert handles[0] != handles[1]


LATIN = {
    "postgresql": "client_encoding=latin1",
    "mariadb": "charset=latin1",
    "mysql": "charset=latin1",
}


@pytest.mark.parametrize("backend", LATIN, indirect=True)
def test_a_name_that_the_connection_cannot_send_costs_the_column_and_not_the_sign_in(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    url = make_url(backend.url).update_query_string(LATIN[backend.name])
    engine = create_engine(url)
    devices = Devices(configurator(engine))
    browser = devices.signed_in("%E6%9C%A8")
    assert browser.get("/show").json == {USER: "木"}
    assert [row["user_id"] for row in rows(engine)] == [None]
    assert "stored without its user_id" in caplog.text
    assert "木" not in caplog.text
    assert browser.get("/listed?user=%E6%9C%A8").json == []
    assert browser.get("/revoke_user?user=%E6%9C%A8").json == 0
    # others have theirs
    assert devices.signed_in("Zo%C3%AB").get("/listed?user=Zo%C3%AB").json != []
    engine.dispose()


def test_so_does_one_that_the_database_cannot_store(postgresql_server: Server) -> None:
    name = f"test_{token_hex(8)}"
    postgresql_server.start()
    postgresql_server.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING latin1 LOCALE 'C'"
    )
    engine = create_engine(postgresql_server.url(name))
    try:
        browser = Devices(configurator(engine)).signed_in("%E6%9C%A8")
        assert is_signed_in(browser)
        assert [row["user_id"] for row in rows(engine)] == [None]
    finally:
        engine.dispose()
        postgresql_server.drop(name)


# ---- revoking


def test_revoking_ends_the_session_of_another_browser(devices: Devices) -> None:
    mine, other = devices.signed_in(), devices.signed_in()
    wanted = other.get("/handle").json
    assert mine.get(f"/revoke?handle={wanted}").json is True
    assert not is_signed_in(other)
    assert is_signed_in(mine)
    assert mine.get(f"/revoke?handle={wanted}").json is False


@pytest.mark.parametrize(
    "handle", ["", "x", "0" * 31, "0" * 32, "0" * 64, "G" * 32, "A" * 32, "0" * 32 + "%0A"]
)
def test_what_is_no_handle_of_a_session_revokes_nothing(sqlite: Backend, handle: str) -> None:
    browser = Devices(configurator(create_engine(sqlite.url))).signed_in()
    assert browser.get(f"/revoke?handle={handle}").json is False
    assert is_signed_in(browser)


def test_revoking_the_own_session_is_to_sign_out(devices: Devices) -> None:
    browser = devices.signed_in()
    response = browser.get("/revoke?handle=" + browser.get("/handle").json)
    assert "Max-Age=0" in session_cookies(response)[0]
    assert not is_signed_in(browser)


def test_what_a_request_stores_after_it_revoked_its_own_session_is_a_new_one(
    engine: Engine,
) -> None:
    def leave(request: Any) -> Any:
        request.sqlsessions.revoke(request.session.id)
        request.session.flash("Goodbye.")
        return dict(request.session)

    browser = Devices(configurator(engine), leave=leave).signed_in()
    assert browser.get("/leave").json == {"_f_": ["Goodbye."]}
    assert browser.get("/show").json == {"_f_": ["Goodbye."]}
    assert [row["user_id"] for row in rows(engine)] == [None]


def test_a_handle_from_before_a_step_up_ends_the_session_of_now(devices: Devices) -> None:
    mine, other = devices.signed_in(), devices.signed_in()
    old, token = other.get("/handle").json, other.cookies["session"]
    other.get("/enter")
    assert other.cookies["session"] != token
    assert other.get("/handle").json == old
    assert mine.get(f"/revoke?handle={old}").json is True
    assert not is_signed_in(other)


@pytest.mark.parametrize("held", range(3))
@pytest.mark.parametrize("view", ["revoke", "read_and_revoke"])
def test_the_cookie_goes_with_the_session_whichever_of_its_tokens_it_holds(
    engine: Engine, held: int, view: str
) -> None:
    def read_and_revoke(request: Any) -> Any:
        len(request.session)
        return revoke(request)

    browser = Devices(configurator(engine), read_and_revoke=read_and_revoke).signed_in()
    handles, cookies = [], []
    for _ in range(3):
        browser.get("/enter")
        handles.append(browser.get("/handle").json)
        cookies.append(browser.cookies["session"])
    browser.reset()
    browser.set_cookie("session", cookies[held].strip('"'))
    response = browser.get(f"/{view}?handle={handles[0]}")
    assert "Max-Age=0" in session_cookies(response)[0]


@pytest.mark.parametrize("new", ["kept", "another user's"])
def test_a_late_request_that_ends_other_sessions_leaves_the_cookie_of_the_new_one(
    engine: Engine, new: str
) -> None:
    def end_others(request: Any) -> Any:
        return request.sqlsessions.revoke_user("alice", keep=request.GET.get("keep"))

    devices = Devices(configurator(engine), end_others=end_others)
    browser, other = devices.signed_in(), devices.signed_in()
    old = browser.cookies["session"].strip('"')
    browser.get("/enter" if new == "kept" else "/enter?user=bob")
    cookie, handle = browser.cookies["session"].strip('"'), browser.get("/handle").json
    browser.reset()
    browser.set_cookie("session", old)
    response = browser.get("/end_others" + (f"?keep={handle}" if new == "kept" else ""))
    assert response.json == 1
    assert session_cookies(response) == []
    assert not is_signed_in(other)
    browser.reset()
    browser.set_cookie("session", cookie)
    assert is_signed_in(browser)


def test_logging_out_everywhere_ends_every_session_of_the_user(devices: Devices) -> None:
    browsers, bob = [devices.signed_in() for _ in range(3)], devices.signed_in("bob")
    response = browsers[0].get("/revoke_user")
    assert response.json == 3
    assert "Max-Age=0" in session_cookies(response)[0]
    assert not any(is_signed_in(browser) for browser in browsers)
    assert is_signed_in(bob)


def test_all_but_this_session_can_be_ended(devices: Devices) -> None:
    browsers = [devices.signed_in() for _ in range(3)]
    assert browsers[1].get("/revoke_user?keep=1").json == 2
    assert [is_signed_in(browser) for browser in browsers] == [False, True, False]


def test_a_session_to_keep_must_be_named_by_its_handle(sqlite: Backend) -> None:
    def wrong(request: Any) -> Any:
        request.sqlsessions.revoke_user("alice", keep=request.cookies["session"])

    browser = Devices(configurator(create_engine(sqlite.url)), wrong=wrong).signed_in()
    with pytest.raises(ValueError, match="32 hex digits") as caught:
        browser.get("/wrong")
    assert browser.cookies["session"] not in str(caught.value)


def test_a_password_change_keeps_this_session_under_a_new_token(engine: Engine) -> None:
    def change_password(request: Any) -> Any:
        request.sqlsessions.revoke_user("alice", keep=request.session.id)
        request.session[USER] = "alice"
        return {}

    devices = Devices(configurator(engine), change=change_password)
    mine, other = devices.signed_in(), devices.signed_in()
    before = mine.cookies["session"]
    mine.get("/change")
    assert mine.cookies["session"] != before
    assert is_signed_in(mine)
    assert not is_signed_in(other)


def test_a_revocation_is_undone_with_its_transaction(engine: Engine) -> None:
    def fail(request: Any) -> Any:
        request.sqlsessions.revoke_user("alice")
        raise Broken("no")

    devices = Devices(configurator(engine), fail=fail)
    browsers = [devices.signed_in(), devices.signed_in()]
    with pytest.raises(Broken):
        browsers[0].get("/fail")
    assert all(is_signed_in(browser) for browser in browsers)


def test_outside_of_a_transaction_a_revocation_is_committed_at_once(engine: Engine) -> None:
    devices = Devices(configurator(engine))
    browser = devices.signed_in()
    with prepare(registry=devices.first.app.registry) as environment:
        assert len(environment["request"].sqlsessions.of_user("alice")) == 1
        assert environment["request"].sqlsessions.revoke_user("alice") == 1
        assert rows(engine) == []
    assert not is_signed_in(browser)


def test_an_engine_of_our_own_lists_and_revokes(backend: Backend) -> None:
    devices = Devices(own_configurator(backend.url))
    browsers = [devices.signed_in() for _ in range(3)]
    assert len(browsers[0].get("/listed").json) == 3
    assert browsers[0].get("/revoke_user?keep=1").json == 2
    assert [is_signed_in(browser) for browser in browsers] == [True, False, False]


def test_another_session_factory_has_no_such_list(sqlite: Backend) -> None:
    config = configurator(create_engine(sqlite.url))
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    with pytest.raises(ConfigurationError, match="uses another one"):
        serve(config, listed=listed).get("/listed")


def test_every_ended_session_is_told(engine: Engine) -> None:
    told: list[SessionEnded] = []
    config = configurator(engine)
    config.add_subscriber(told.append, SessionEnded)
    devices = Devices(config)
    browsers = [devices.signed_in(), devices.signed_in()]
    handles = {browser.get("/handle").json for browser in browsers}
    browsers[0].get("/revoke_user")
    assert {(it.handle, it.reason, it.user_id) for it in told if it.reason == "revoked"} == {
        (handle, "revoked", "alice") for handle in handles
    }


# ---- beside other requests


@where_writes_wait
def test_logging_out_everywhere_finds_a_session_that_is_being_regenerated(place: Place) -> None:
    site = place.serve(3)
    browser = _revoker(place)
    token = site.start(**{USER: "alice"})
    renew = site.request(lambda session: session.regenerate(), token).load().save()
    revoking = Flight(browser, None, put("unused", 1)).start()
    place.wait_until_somebody_waits()
    renew.finish()
    revoking.finish()
    if not renew.ok:
        assert not place.sites[0].row(token)
    live = [row for row in rows(place.engine) if row["user_id"] == "alice"]
    assert live == [], revoking.error


def _revoker(place: Place) -> Any:
    """An application that logs alice out everywhere at any address, without a session."""

    def view(request: Any) -> Any:
        return request.sqlsessions.revoke_user("alice")

    config = configurator(place.engine, {"retry.attempts": 3}, retry=True, create=False)
    return add_views(config, **{"": view}).make_wsgi_app()


@step_by_step
def test_a_request_in_flight_brings_no_revoked_session_back(place: Place) -> None:
    site = place.serve()
    token = site.start(**{USER: "alice"})
    (late,) = site.load(token, put("a", 1))
    assert TestApp(_revoker(place)).get("/").json == 1
    late.finish()
    assert rows(place.engine) == []
    assert not late.cookies


@where_late_writes_merge
def test_a_step_up_in_flight_does_not_survive_a_revocation(place: Place) -> None:
    site = place.serve()
    token = site.start(**{USER: "alice"})
    (late,) = site.load(token, put(USER, "alice"))
    assert TestApp(_revoker(place)).get("/").json == 1
    late.finish()
    assert rows(place.engine) == []


def test_a_savepoint_after_a_revocation_can_be_rolled_back(
    postgresql: Backend, mariadb: Backend
) -> None:
    def end(request: Any) -> Any:
        ended = request.sqlsessions.revoke_user("alice")
        savepoint = request.tm.savepoint()
        request.dbsession.add(Note(text="not needed after all"))
        request.dbsession.flush()
        savepoint.rollback()
        return ended

    for backend in (postgresql, mariadb):
        engine = create_engine(backend.url)
        browser = Devices(configurator(engine), end=end).signed_in()
        assert browser.get("/end").json == 1
        assert rows(engine) == []
        assert notes(engine) == []


def test_a_revocation_that_a_savepoint_has_undone_is_not_acknowledged_for_a_session_that_lives(
    backend: Backend,
) -> None:
    def end(request: Any) -> Any:
        try:
            with request.dbsession.begin_nested():
                request.sqlsessions.revoke_user("alice")
                raise Broken
        except Broken:
            return {}

    engine = plain_engine(backend.url)
    browser = Devices(configurator(engine), end=end).signed_in()
    old = browser.cookies["session"].strip('"')
    is_removed = "Max-Age=0" in session_cookies(browser.get("/end"))[0]
    late = TestApp(browser.app)
    late.set_cookie("session", old)
    assert is_signed_in(late) is not is_removed
    engine.dispose()


def test_so_with_a_savepoint_of_the_request_on_an_engine_of_its_own(backend: Backend) -> None:
    def end(request: Any) -> Any:
        savepoint = request.tm.savepoint()
        request.sqlsessions.revoke_user("alice")
        savepoint.rollback()

    browser = Devices(own_configurator(backend.url), end=end).signed_in()
    old = browser.cookies["session"].strip('"')
    is_removed = bool(session_cookies(browser.get("/end")))
    late = TestApp(browser.app)
    late.set_cookie("session", old)
    assert is_signed_in(late) is not is_removed


def test_a_wrong_argument_that_is_caught_leaves_the_applications_work(engine: Engine) -> None:
    def end(request: Any) -> Any:
        users = request.sqlsessions
        request.dbsession.add(Note(text="kept"))
        for call in (users.of_user, users.revoke_user, lambda it: users.revoke("0" * 32, it)):
            with pytest.raises(TypeError):
                call(object())
        return users.revoke(None)

    app = serve(configurator(engine), end=end)
    assert app.get("/end").json is False
    assert notes(engine) == ["kept"]


def test_sessions_that_go_on_getting_new_tokens_are_a_conflict_in_the_end(sqlite: Backend) -> None:
    engine = create_engine(sqlite.url)
    browser = Devices(configurator(engine)).signed_in()
    (row,) = rows(engine)
    ids = iter(range(1000))

    def come_back(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE"):
            added = {**row, "id": next(ids).to_bytes(32, "big")}
            connection.execute(insert(SessionRow).values(added))

    with (
        listening(engine, "after_cursor_execute", come_back),
        pytest.raises(SessionConflict, match="keep getting new tokens"),
    ):
        browser.get("/revoke_user")
    assert rows(engine) == [row]


# ---- limits


def test_a_limit_that_cannot_be_enforced_is_a_warning_and_the_sign_in_stands(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    devices = Devices(configurator(engine, max_sessions_per_user=1))
    devices.signed_in()

    def fail(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "GROUP BY" in statement:
            raise Broken("no")

    with listening(engine, "before_cursor_execute", fail):
        browser = devices.signed_in()
    assert is_signed_in(browser)
    assert "sessions above sqlsession.max_sessions_per_user: no" in caplog.text
    assert len(rows(engine)) == 2
    # the next sign-in does what this one could not
    devices.signed_in()
    assert len(rows(engine)) == 1


def test_a_subscriber_that_fails_lifts_no_limit(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: SessionEnded) -> None:
        raise NoTransaction

    clock = Clock()
    config = configurator(engine, clock=clock, max_sessions_per_user=1)
    config.add_subscriber(fail, SessionEnded)
    devices = Devices(config)
    browsers = []
    for _ in range(3):
        clock.advance(1)
        browsers.append(devices.signed_in())
    assert [is_signed_in(browser) for browser in browsers] == [False, False, True]
    failures = [it for it in caplog.records if "a subscriber failed" in it.getMessage()]
    assert [(it.levelname, it.exc_info is not None) for it in failures] == [("ERROR", True)] * 2


def test_a_sign_in_over_the_limit_ends_the_session_that_began_first(engine: Engine) -> None:
    clock, told = Clock(), []
    config = configurator(engine, clock=clock, max_sessions_per_user=2)
    config.add_subscriber(lambda event: told.append(event.reason), SessionEnded)
    devices = Devices(config)
    bob = devices.signed_in("bob")
    browsers = []
    for _ in range(3):
        clock.advance(600)
        browsers.append(devices.signed_in())
        # however busy it is
        browsers[0].get("/show")
    assert [is_signed_in(browser) for browser in browsers] == [False, True, True]
    assert is_signed_in(bob)
    assert told == ["limit"]
    browsers[1].get("/enter")
    assert [is_signed_in(browser) for browser in browsers[1:]] == [True, True]


def test_a_limit_of_one_leaves_the_newest_session(engine: Engine) -> None:
    clock = Clock()
    devices = Devices(configurator(engine, clock=clock, max_sessions_per_user=1))
    browsers = []
    for _ in range(3):
        clock.advance(1)
        browsers.append(devices.signed_in())
    browsers[2].get("/enter")
    assert [is_signed_in(browser) for browser in browsers] == [False, False, True]


@pytest.fixture
def crowded(backend: Backend) -> Iterator[tuple[Engine, Clock]]:
    """A table with 20,000 sessions of alice, and their time."""
    engine, clock = create_engine(backend.url), Clock()
    row = {"user_id": "alice", "data": b'{"auth.userid":"alice"}', "version": 1}
    times = {"created": clock(), "last_seen": clock(), "purge_after": clock() + 14 * 86_400}
    with engine.begin() as connection:
        SessionRow.metadata.create_all(connection)
        for start in range(0, 20_000, 1000):
            connection.execute(
                insert(SessionRow),
                [
                    {**row, **times, "id": n.to_bytes(32, "big"), "lineage": n.to_bytes(16, "big")}
                    for n in range(start, start + 1000)
                ],
            )
    yield engine, clock
    engine.dispose()


@pytest.mark.parametrize("how", ["revoke_user", "limit"])
def test_twenty_thousand_sessions_of_a_user_end_in_twenty_statements(
    crowded: tuple[Engine, Clock], how: str
) -> None:
    engine, clock = crowded
    limit: dict[str, Any] = {"max_sessions_per_user": 1} if how == "limit" else {}
    devices = Devices(configurator(engine, clock=clock, **limit))
    with statements(engine) as seen:
        if how == "limit":
            clock.advance(1)
            devices.signed_in()
        else:
            assert devices.another().get("/revoke_user").json == 20_000
    assert len(rows(engine)) == (1 if how == "limit" else 0)
    assert len(seen) <= 20, "\n".join(statement[:90] for statement in seen)


# ---- the columns


@dataclass
class Club:
    """An application whose users are rows."""

    engine: Engine
    member: Any
    session: Any

    def config(self, **settings: Any) -> Configurator:
        values = {"model": self.session, **settings}
        return configurator(self.engine, prefixed(values), create=False)

    def rows(self) -> list[dict[str, Any]]:
        return rows(self.engine, self.session.__table__)

    def join(self, request: Any) -> Any:
        """Make a member and sign them in."""
        member = self.member()
        request.dbsession.add(member)
        request.dbsession.flush()
        request.session[USER] = member.id
        return member.id


@pytest.fixture
def club(backend: Backend, base: Any) -> Iterator[Club]:
    class Member(base):  # type: ignore[misc]  # the base is made by a fixture
        __tablename__ = "member"
        id: Mapped[int] = mapped_column(primary_key=True)

    class MemberSession(SessionMixin, base):  # type: ignore[misc]  # likewise
        user_id = mapped_column(
            ForeignKey("member.id", ondelete="CASCADE"), index=True, nullable=True
        )
        address: Mapped[str | None] = mapped_column(String(45))
        agent: Mapped[str | None] = mapped_column(String(40))
        serial: Mapped[int | None] = mapped_column(Integer, unique=True)

    engine = create_engine(backend.url)
    if backend.name == "sqlite":
        event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA foreign_keys = ON"))
    base.metadata.create_all(engine)
    yield Club(engine, Member, MemberSession)
    engine.dispose()


def test_users_may_be_rows_whose_deletion_ends_their_sessions(club: Club) -> None:
    def delete(request: Any) -> Any:
        request.dbsession.delete(request.dbsession.get(club.member, request.session[USER]))
        return {}

    devices = Devices(club.config(), join=club.join, delete=delete)
    browser = devices.another()
    member = browser.get("/join").json
    assert [row["user_id"] for row in club.rows()] == [member]
    assert len(browser.get(f"/listed?user={member}").json) == 1
    assert browser.get("/listed?user=nobody").json == []
    devices.first.get("/join")
    browser.get("/delete")
    assert len(club.rows()) == 1
    assert not is_signed_in(browser)


def test_a_user_that_the_column_cannot_hold_is_signed_in_without_it(
    club: Club, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Devices(club.config()).another()
    browser.get("/enter?user=alice")
    first = browser.cookies["session"]
    browser.get("/enter?user=alice")
    assert browser.cookies["session"] != first
    assert is_signed_in(browser)
    assert {row["user_id"] for row in club.rows()} == {None}
    assert "cannot be listed or revoked" in caplog.records[0].getMessage()


def where_from(request: Any, session: Any) -> dict[str, Any]:
    """Fills columns, as an application would."""
    return {"address": request.client_addr, "agent": (request.user_agent or "")[:40]}


def test_the_application_fills_columns_of_its_own(club: Club) -> None:
    def change(request: Any) -> Any:
        request.session["a"] = request.GET["a"]
        return {}

    config = club.config(extra_columns=where_from)
    browser = Devices(config, join=club.join, change=change).another()
    browser.get("/join", extra_environ={"REMOTE_ADDR": "192.0.2.1"}, headers={"User-Agent": "one"})
    assert [(row["address"], row["agent"]) for row in club.rows()] == [("192.0.2.1", "one")]
    browser.get("/change?a=1", headers={"User-Agent": "x" * 99})
    assert [row["agent"] for row in club.rows()] == ["x" * 40]
    # nothing changed: nothing is written
    browser.get("/change?a=1", headers={"User-Agent": "three"})
    assert [row["agent"] for row in club.rows()] == ["x" * 40]


def test_what_another_row_may_not_hold_too_is_not_copied(club: Club) -> None:
    def mark(request: Any) -> Any:
        row = row_of(request, club.session)
        row.serial, row.agent = 7, "kept"
        return {}

    def again(request: Any) -> Any:
        request.session.regenerate()
        return {}

    browser = Devices(club.config(), join=club.join, mark=mark, again=again).another()
    for path in ("/join", "/mark", "/again"):
        browser.get(path)
    assert sorted(
        (row["replaced"] is None, row["serial"], row["agent"]) for row in club.rows()
    ) == [(False, 7, "kept"), (True, None, "kept")]


@pytest.mark.parametrize("name", ["data", "user_id", "colour"])
def test_columns_that_are_not_the_applications_are_an_error(sqlite: Backend, name: str) -> None:
    config = configurator(
        create_engine(sqlite.url), extra_columns=lambda request, session: {name: 1}
    )
    with pytest.raises(ConfigurationError, match=rf"returned \['{name}'\].*here note_id"):
        Devices(config).signed_in()


def test_a_change_of_the_session_by_what_fills_the_columns_is_an_error(sqlite: Backend) -> None:
    def meddle(request: Any, session: Any) -> dict[str, Any]:
        session["a"] = 1
        return {}

    config = configurator(create_engine(sqlite.url), extra_columns=meddle)
    with pytest.raises(Exception, match="this change would be lost"):
        Devices(config).signed_in()
    assert rows(create_engine(sqlite.url), SessionRow.__table__) == []


def test_what_was_ended_and_why_is_in_the_log(
    sqlite: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pyramid_sqlsession")
    devices = Devices(configurator(create_engine(sqlite.url)))
    browser = devices.signed_in()
    token = browser.cookies["session"]
    browser.get("/enter")
    browser.get("/revoke_user")
    text = caplog.text
    for words in (
        "created, user 'alice'",
        "regenerated, user 'alice'",
        "ended: revoked, user 'alice'",
    ):
        assert words in text
    assert token not in text


# ---- what a review found


def password_change(place: Place, keep: bool) -> Any:
    """An application whose view waits, then ends alice's sessions and signs her in again."""

    def view(request: Any) -> Any:
        flight = request.environ["tests.flight"]

        def action(session: Any) -> Any:
            kept = session.id if keep else None
            request.sqlsessions.revoke_user("alice", keep=kept)
            session[USER] = "alice"

        flight.action = action
        return flight.view(request)

    config = configurator(place.engine, create=False)
    return add_views(config, **{"": view}).make_wsgi_app()


@pytest.mark.parametrize("how", ["revoke", "all", "all but this"])
def test_on_sqlite_a_session_that_moves_while_sessions_are_ended_is_found(
    sqlite: Backend, how: str
) -> None:
    def end(request: Any) -> Any:
        handle = request.GET["handle"]
        if how == "revoke":
            return request.sqlsessions.revoke(handle)
        return request.sqlsessions.revoke_user("alice", handle if how == "all but this" else None)

    engine = create_engine(sqlite.url)
    with engine.connect() as connection:
        # who reads keeps no writer waiting
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    devices = Devices(configurator(engine), end=end)
    browser, admin = devices.signed_in(), devices.another()
    handle = browser.get("/handle").json
    other = TestApp(serve(configurator(create_engine(sqlite.url), create=False), **VIEWS).app)
    other.set_cookie("session", browser.cookies["session"].strip('"'))

    def move(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "r_replaced" in statement and moving:
            moving.pop().get("/enter")

    moving = [other]
    # SQLite locks no row that is read with FOR UPDATE
    event.listen(engine, "after_cursor_execute", move)
    ended = admin.get(f"/end?handle={handle}").json
    assert ended == {"revoke": True, "all": 1, "all but this": 0}[how]
    assert is_signed_in(other) is (how == "all but this")


def end_others(session: Any) -> Any:
    """Log alice out everywhere else."""
    request: Any = get_current_request()
    return request.sqlsessions.revoke_user("alice", keep=session.id)


@where_late_writes_merge
def test_a_sign_out_with_the_old_token_finds_the_session_that_was_kept(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    (leave,) = site.load(old, drop(USER))
    up = site.visit(put(USER, "alice"), old).token
    assert site.visit(end_others, up).result == 0
    assert "Max-Age=0" in leave.finish().cookies[0]
    assert rows(place.engine) == []


@where_late_writes_merge
@pytest.mark.parametrize("keep", [True, False])
def test_a_password_change_beside_a_step_up_logs_nobody_out(place: Place, keep: bool) -> None:
    site = place.serve()
    token = site.start(**{USER: "alice"})
    changing = Flight(password_change(place, keep), token, put("unused", 1)).load()
    up = site.visit(put(USER, "alice"), token).token
    new = changing.finish().token
    assert site.visit(dict, new).result == {USER: "alice"}
    assert bool(site.visit(dict, up).result) is keep


@pytest.mark.parametrize("unique", ["constraint", "index"])
def test_a_column_that_is_unique_in_any_way_is_not_copied(
    engine: Engine, base: Any, unique: str
) -> None:
    class Device(SessionMixin, base):  # type: ignore[misc]  # the base is made by a fixture
        __table_args__ = (
            UniqueConstraint("device")
            if unique == "constraint"
            else Index("u", "device", unique=True),
        )
        device: Mapped[str | None] = mapped_column(String(20))

    def mark(request: Any) -> Any:
        row_of(request, Device).device = "d"
        return {}

    base.metadata.create_all(engine)
    config = configurator(engine, {"sqlsession.model": Device}, create=False)
    browser = Devices(config, mark=mark).signed_in()
    browser.get("/mark")
    browser.get("/enter")
    assert is_signed_in(browser)


def test_a_user_that_the_column_cannot_hold_has_no_session_to_end(club: Club) -> None:
    def end(request: Any) -> Any:
        handle = request.session.id
        return [request.sqlsessions.revoke(handle, user) for user in ("somebody", 2**40)]

    browser = Devices(club.config(), join=club.join, end=end).another()
    browser.get("/join")
    assert browser.get("/end").json == [False, False]
    assert is_signed_in(browser)


def test_a_number_that_the_column_cannot_hold_is_nobody(club: Club) -> None:
    browser = Devices(club.config()).another()
    assert browser.get(f"/listed?user={2**40}").json == []
    browser.get(f"/enter?user={2**40}")
    assert is_signed_in(browser)


def test_markers_without_a_live_row_are_no_session(engine: Engine) -> None:
    devices = Devices(configurator(engine))
    handle = devices.signed_in().get("/handle").json
    devices.signed_in()
    with engine.begin() as connection:
        connection.execute(update(SessionRow).values(replaced=EPOCH))
    third = devices.signed_in()
    assert third.get(f"/revoke?handle={handle}").json is False
    assert third.get("/revoke_user?keep=1").json == 0
