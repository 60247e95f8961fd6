"""Database errors that the application has caught, and database sessions that it has given up.

Pyramid's signed cookie runs beside as the control: where an application works with that, it works
with ours.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.interfaces import ISessionFactory
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine, create_engine, delete, event, insert, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from support.apps import (
    EXPLICIT,
    TABLE,
    Base,
    Note,
    Resource,
    configurator,
    own_configurator,
    rows,
    serve,
    session_cookies,
)
from support.failing import warnings
from support.patience import PATIENCE, wait_until
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionEnded, SessionLost

USER = "auth.userid"

Action = Callable[[Any], None]


def read(request: Any) -> None:
    request.dbsession.execute(select(Note)).all()


def flush_twice(request: Any) -> None:
    """Flush a note whose key is taken, and catch what the database says."""
    request.dbsession.add(Note(id=1, text="again"))
    with contextlib.suppress(IntegrityError):
        request.dbsession.flush()


def insert_twice(request: Any) -> None:
    """The same with Core."""
    with contextlib.suppress(IntegrityError):
        request.dbsession.execute(insert(Note).values(id=1, text="again"))


def insert_twice_below(request: Any) -> None:
    """The same on the database session's connection."""
    with contextlib.suppress(IntegrityError):
        request.dbsession.connection().execute(insert(Note).values(id=1, text="again"))


def insert_twice_in_savepoint(request: Any) -> None:
    try:
        with request.dbsession.begin_nested():
            request.dbsession.add(Note(id=1, text="again"))
    except IntegrityError:
        pass


def roll_back(request: Any) -> None:
    request.dbsession.rollback()


def close(request: Any) -> None:
    request.dbsession.close()


def store(request: Any) -> None:
    request.dbsession.add(Note(id=2, text="new"))
    request.dbsession.flush()


ACTIONS: dict[str, tuple[Action, ...]] = {
    "nothing": (),
    "flush": (flush_twice,),
    "Core": (insert_twice,),
    "Core on the connection": (insert_twice_below,),
    "savepoint": (insert_twice_in_savepoint,),
    "flush, rollback": (flush_twice, roll_back),
    "Core on the connection, rollback": (insert_twice_below, roll_back),
    "flush, close": (flush_twice, close),
    "rollback": (read, roll_back),
    "close": (read, close),
    "close without a use": (close,),
    "flush, rollback, read": (flush_twice, roll_back, read),
    "store, flush": (store, flush_twice),
    "store, Core": (store, insert_twice),
    "store, rollback": (store, roll_back),
    "store, savepoint": (store, insert_twice_in_savepoint),
}


def application(engine: Engine, *, ours: bool, autobegin: bool = True) -> TestApp:
    """One whose views do what the path says, flash a message and redirect."""
    if autobegin:
        config = configurator(engine, include=ours)
    else:
        config = without_autobegin(engine, ours=ours)
    if not ours:
        config.set_session_factory(SignedCookieSessionFactory("secret"))

    def act(request: Any) -> Any:
        if "read before" in request.GET:
            len(list(request.session))
        for action in ACTIONS[request.matchdict["name"]]:
            action(request)
        if "read after" in request.GET:
            request.session.get("cart")
        request.session.flash("This name is taken.")
        return HTTPFound("/shown")

    def shown(request: Any) -> Any:
        return {"messages": request.session.pop_flash(), "cart": request.session.get("cart")}

    def start(request: Any) -> Any:
        request.session["cart"] = ["tea"]
        return {}

    for name, view in (("shown", shown), ("start", start)):
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name, renderer="json")
    config.add_route("act", "/act/{name}")
    config.add_view(act, route_name="act")
    return TestApp(config.make_wsgi_app())


def without_autobegin(engine: Engine, *, ours: bool) -> Configurator:
    Base.metadata.create_all(engine)
    config = Configurator(settings={**EXPLICIT, "sqlsession.cleanup_interval": "false"})
    config.include("pyramid_tm")

    def dbsession(request: Any) -> Session:
        session = Session(engine, autobegin=False)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, reify=True)
    if ours:
        config.add_settings({"sqlsession.model": "support.apps.SessionRow"})
        config.include("pyramid_sqlsession")
    return config


def outcome(browser: TestApp, path: str) -> tuple[Any, ...]:
    """What became of the request: its messages, or the error that left the application."""
    try:
        browser.get(path, status=302)
    except SQLAlchemyError as error:
        return (type(error).__name__,)
    return tuple(browser.get("/shown").json["messages"])


def taken(engine: Engine) -> None:
    """Take the key."""
    with engine.begin() as connection:
        connection.execute(delete(Note))
        connection.execute(insert(Note).values(id=1, text="first"))


def notes(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(Note.text).order_by(Note.id)).scalars())


@pytest.mark.parametrize("started", [False, True], ids=["no session", "a session"])
@pytest.mark.parametrize("reads", ["", "?read before=1", "?read after=1"])
@pytest.mark.parametrize("name", ACTIONS)
def test_what_works_with_a_signed_cookie_works(
    engine: Engine, name: str, reads: str, started: bool
) -> None:
    found = []
    for ours in (False, True):
        browser = application(engine, ours=ours)
        taken(engine)
        if started:
            browser.get("/start")
        found.append((outcome(browser, f"/act/{name}{reads}"), notes(engine)))
        assert browser.get("/shown").json["cart"] == (["tea"] if started else None)
    control, ours_ = found
    assert ours_ == control


@pytest.mark.parametrize("name", ["flush", "Core on the connection", "rollback", "close"])
def test_a_caught_error_and_its_message_arrive_and_a_warning_names_the_savepoint(
    engine: Engine, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    browser = application(engine, ours=True)
    browser.get("/start")
    taken(engine)
    caplog.clear()
    assert outcome(browser, f"/act/{name}") == ("This name is taken.",)
    # where the transaction goes on, nothing is lost
    is_lost = name != "Core on the connection" or engine.dialect.name == "postgresql"
    assert ["begin_nested()" in line for line in warnings(caplog)] == [True] * is_lost


def test_a_session_that_its_application_has_not_begun_is_used_beside(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    browser = application(engine, ours=True, autobegin=False)
    browser.get("/start")
    assert outcome(browser, "/act/nothing") == ("This name is taken.",)
    assert browser.get("/shown").json == {"messages": [], "cart": ["tea"]}
    assert warnings(caplog) == []


@pytest.mark.parametrize("change", [flush_twice, roll_back, close])
def test_what_was_revoked_in_a_database_session_that_is_lost_fails_the_request(
    engine: Engine, change: Action
) -> None:
    config = configurator(engine)

    def enter(request: Any) -> Any:
        request.session[USER] = request.GET["user"]
        return {}

    def view(request: Any) -> Any:
        assert request.sqlsessions.revoke_user("bob") == 1
        change(request)
        request.session.flash("Bob is out.")
        return {}

    for name, it in (("enter", enter), ("view", view)):
        config.add_route(name, f"/{name}")
        config.add_view(it, route_name=name, renderer="json")
    app = config.make_wsgi_app()
    TestApp(app).get("/enter?user=bob")
    browser = TestApp(app)
    browser.get("/enter?user=alice")
    taken(engine)
    before = rows(engine)
    with pytest.raises(SessionLost, match="begin_nested"):
        browser.get("/view")
    assert rows(engine) == before


# ---- errors that are swallowed after the session was saved


def swallow(request: Any) -> None:
    with contextlib.suppress(SQLAlchemyError):
        request.dbsession.execute(text("SELECT nonsense FROM nowhere"))


def swallow_in_savepoint(request: Any) -> None:
    try:
        with request.dbsession.begin_nested():
            request.dbsession.execute(text("SELECT nonsense FROM nowhere"))
    except SQLAlchemyError:
        pass


def in_subscriber(config: Configurator, action: Action) -> None:
    config.add_subscriber(lambda event: action(event.request), SessionEnded)


def in_hook(config: Configurator, action: Action) -> None:
    def begin(event: Any) -> None:
        if event.request.path == "/leave":
            event.request.tm.get().addBeforeCommitHook(action, (event.request,))

    config.add_subscriber(begin, "pyramid.events.ContextFound")


def swallowing_tween_factory(handler: Any, registry: Any) -> Any:
    def tween(request: Any) -> Any:
        response = handler(request)
        if request.path == "/leave":
            registry.settings["tests.action"](request)
        return response

    return tween


def in_tween(config: Configurator, action: Action) -> None:
    config.add_settings({"tests.action": action})
    config.add_tween(
        f"{__name__}.swallowing_tween_factory",
        under="pyramid_tm.tm_tween_factory",
        over="pyramid_sqlsession.save_tween_factory",
    )


def leaving(engine: Engine, where: Any, action: Action) -> tuple[TestApp, Any]:
    """Somebody who is signed in, and signs out of an application that swallows errors."""
    config = configurator(engine)

    def enter(request: Any) -> Any:
        request.session[USER] = "alice"
        return {}

    def leave(request: Any) -> Any:
        request.session.invalidate()
        return {}

    for name, it in (("enter", enter), ("leave", leave)):
        config.add_route(name, f"/{name}")
        config.add_view(it, route_name=name, renderer="json")
    where(config, action)
    browser = TestApp(config.make_wsgi_app())
    browser.get("/enter")
    return browser, rows(engine)


@pytest.mark.parametrize("where", [in_subscriber, in_hook, in_tween])
def test_an_error_that_is_swallowed_after_the_save_acknowledges_no_sign_out(
    engine: Engine, where: Any
) -> None:
    browser, before = leaving(engine, where, swallow)
    with pytest.raises(SessionLost, match="begin_nested"):
        browser.get("/leave")
    assert rows(engine) == before
    # its connection has gone back to the pool as it came
    browser.get("/enter")


@pytest.mark.parametrize("where", [in_subscriber, in_hook, in_tween])
def test_an_error_in_a_savepoint_after_the_save_is_nobodys_business(
    engine: Engine, where: Any
) -> None:
    browser, _ = leaving(engine, where, swallow_in_savepoint)
    assert session_cookies(browser.get("/leave"))
    assert rows(engine) == []


def test_a_failed_revocation_dooms_whatever_the_view_catches(engine: Engine) -> None:
    config = configurator(engine)

    def view(request: Any) -> Any:
        request.dbsession.add(Note(id=9, text="half"))
        request.dbsession.flush()
        try:
            request.sqlsessions.revoke_user("bob")
        except Exception:  # noqa: BLE001  # as an application that goes on
            request.response.status_int = 202
        assert request.tm.isDoomed()
        return {}

    config.add_route("view", "/view")
    config.add_view(view, route_name="view", renderer="json")
    browser = TestApp(config.make_wsgi_app())
    TABLE.drop(engine)
    browser.get("/view", status=202)
    assert notes(engine) == []


# ---- an engine of its own


class Mailer(Resource):
    """A resource that has done nothing for good when it has voted."""

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return "mailer"


class Committed(Resource):
    """A resource that commits when it votes, as zope.sqlalchemy's does."""

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return "~another"


@pytest.mark.parametrize(("resource", "fails"), [(Mailer, True), (Committed, False)])
def test_a_commit_of_its_own_that_fails_fails_the_request_unless_another_one_has_committed(
    sqlite: Backend, resource: Any, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = own_configurator(sqlite.url)

    def view(request: Any) -> Any:
        request.session[USER] = "alice"
        request.tm.get().join(resource(lambda: None))
        return {}

    def break_commit(_connection: Any) -> None:
        if broken:
            raise OSError("the disk is full")

    broken: list[bool] = []
    config.add_route("view", "/view")
    config.add_view(view, route_name="view", renderer="json")
    app = config.make_wsgi_app()
    TestApp(app).get("/view")
    factory: Any = app.registry.getUtility(ISessionFactory)
    (engine,) = factory._store.database.engines()
    event.listen(engine, "commit", break_commit)
    broken.append(True)
    browser = TestApp(app)
    if fails:
        with pytest.raises(OSError, match="disk"):
            browser.get("/view")
    else:
        assert not session_cookies(browser.get("/view"))
        assert "its COMMIT failed after" in caplog.text


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_savepoint_after_a_revocation_is_taken_and_rolled_back_to(
    backend: Backend, again: bool
) -> None:
    config = own_configurator(backend.url)

    def enter(request: Any) -> Any:
        request.session[USER] = request.GET["user"]
        return {}

    def view(request: Any) -> Any:
        request.sqlsessions.revoke_user("bob")
        savepoint = request.tm.savepoint()
        request.sqlsessions.revoke_user("carol")
        savepoint.rollback()
        if again:
            request.sqlsessions.revoke_user("carol")
            savepoint.rollback()
        return {}

    for name, it in (("enter", enter), ("view", view)):
        config.add_route(name, f"/{name}")
        config.add_view(it, route_name=name, renderer="json")
    app = config.make_wsgi_app()
    for user in ("bob", "carol"):
        TestApp(app).get(f"/enter?user={user}")
    TestApp(app).get("/view")
    assert [len(_of_user(app, user)) for user in ("bob", "carol")] == [0, 1]


def _of_user(app: Any, user: str) -> list[Any]:
    factory: Any = app.registry.getUtility(ISessionFactory)
    (engine,) = factory._store.database.engines()
    with engine.connect() as connection:
        sessions: list[Any] = factory._store.sessions.of_user(connection, user)
        return sessions


def test_a_deadlock_takes_a_savepoint_along_and_the_request_fails(mariadb: Backend) -> None:
    """MariaDB has rolled back everything, the revocation too, and says so to the savepoint only."""
    engine = create_engine(mariadb.url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        notes = [{"id": number, "text": "n"} for number in range(1, 200)]
        connection.execute(insert(Note), notes)

    def enter(request: Any) -> Any:
        request.session[USER] = "alice"
        return {}

    def show(request: Any) -> Any:
        return dict(request.session)

    def revoke(request: Any) -> Any:
        request.sqlsessions.revoke_user("alice")
        database = request.dbsession
        database.execute(text("UPDATE note SET text = 'a' WHERE id = 1"))
        holds = threading.Event()

        def hold_the_others() -> None:
            with engine.begin() as connection:
                connection.execute(
                    text("UPDATE note FORCE INDEX (PRIMARY) SET text = 'b' WHERE id >= 2")
                )
                holds.set()
                connection.execute(text("UPDATE note SET text = 'b' WHERE id = 1"))

        other = threading.Thread(target=hold_the_others)
        other.start()
        assert holds.wait(PATIENCE)
        with engine.connect() as watch:
            waits = text(
                "SELECT variable_value + 0 FROM information_schema.global_status "
                "WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'"
            )
            wait_until(lambda: watch.scalar(waits))
        with contextlib.suppress(SQLAlchemyError), database.begin_nested():
            database.execute(text("UPDATE note SET text = 'a' WHERE id = 2"))
        other.join(PATIENCE)
        return {}

    app = serve(configurator(engine), enter=enter, revoke=revoke, show=show)
    app.get("/enter")
    with pytest.raises(SessionLost):
        app.get("/revoke")
    assert app.get("/show").json == {USER: "alice"}
    engine.dispose()
