"""The application's database session: asked for late, and left as the application chose it."""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import transaction as transactions
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPForbidden, HTTPFound, HTTPNotFound
from pyramid.interfaces import ISessionFactory
from pyramid.wsgi import wsgiapp2
from sqlalchemy import Engine, create_engine, event, inspect, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    Session,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.pool import QueuePool, StaticPool
from support.apps import (
    EXPLICIT,
    NO_CLEANING,
    Base,
    Broken,
    Note,
    SessionRow,
    add_views,
    listening,
    notes,
    plain_engine,
    put,
    rows,
    serve,
    session_cookies,
    show,
    statements,
    users_and_sessions,
)
from support.failing import fail as order_and_fail
from support.servers import Backend
from webtest import TestApp
from zope.sqlalchemy.datamanager import STATUS_READONLY

from pyramid_sqlsession import SessionClosed, SessionConflict, SQLSessionFactory
from pyramid_sqlsession.database.application import AppDatabase
from pyramid_sqlsession.database.shown import ShownEngines
from pyramid_sqlsession.driver_errors import _mark
from pyramid_sqlsession.table.model import SQLSessionRow

STALE = {"Cookie": f"session={'x' * 43}"}
CREATE = {"sqlsession.create_table": "true"}

Make = Callable[[Any], Any]


def config_with(
    make: Make, settings: Mapping[str, Any] | None = None, *, explicit: bool = True
) -> Configurator:
    """A configuration whose ``request.dbsession`` is made by this function."""
    manager = EXPLICIT if explicit else {}
    ini = {"sqlsession.model": SessionRow, **NO_CLEANING, **manager, **(settings or {})}
    config = Configurator(settings=ini)
    config.include("pyramid_tm")
    config.add_request_method(make, "dbsession", reify=True)
    config.include("pyramid_sqlsession")
    return config


def registered(bind: Any, **options: Any) -> Make:
    """Makes database sessions that are a part of the request's transaction."""

    def make(request: Any) -> Session:
        session = Session(bind, **options)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    return make


def unregistered(bind: Any) -> Make:
    """Makes database sessions of an application that commits by itself."""
    return lambda request: Session(bind)


def database_of(app: TestApp) -> AppDatabase:
    factory: SQLSessionFactory = app.app.registry.getUtility(ISessionFactory)
    assert factory._store is not None
    assert isinstance(factory._store.database, AppDatabase)
    return factory._store.database


def health(request: Any) -> Any:
    return "ok"


# ---- asked for late


def by_host(engines: Mapping[str, Engine]) -> Make:
    """Raises for a host that is nobody's."""

    def make(request: Any) -> Session:
        if request.host not in engines:
            raise HTTPNotFound(f"no such tenant: {request.host}")
        session: Session = registered(engines[request.host])(request)
        return session

    return make


@pytest.fixture
def tenants(backend: Backend, tmp_path: Any) -> Iterator[dict[str, Engine]]:
    """Two engines, of which the first is each database in turn."""
    engines = {"one.test": create_engine(backend.url), "two.test": other_engine(tmp_path)}
    yield engines
    for engine in engines.values():
        engine.dispose()


def other_engine(tmp_path: Any) -> Engine:
    return create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}")


def test_a_request_that_needs_no_session_does_not_ask_for_the_database_session(
    tenants: dict[str, Engine],
) -> None:
    app = serve(config_with(by_host(tenants), CREATE), health=health, put=put, show=show)
    assert app.get("/health", headers={"Host": "nobody.test"}).json == "ok"
    assert app.get("/health", headers={"Host": "nobody.test", **STALE}).json == "ok"
    # without a cookie there is nothing to look for
    assert app.get("/show", headers={"Host": "nobody.test"}).json == {}


def test_what_the_application_raises_when_it_is_asked_is_its_own(
    tenants: dict[str, Engine],
) -> None:
    app = serve(config_with(by_host(tenants)), put=put, show=show)
    unknown = {"Host": "nobody.test"}
    assert "no such tenant" in app.get("/put", headers=unknown, status=404).text
    assert "no such tenant" in app.get("/show", headers=unknown | STALE, status=404).text


def test_an_error_page_that_reads_the_session_of_an_unknown_host_finds_it_empty(
    tenants: dict[str, Engine], caplog: pytest.LogCaptureFixture
) -> None:
    config = config_with(by_host(tenants))
    config.add_notfound_view(lambda request: {"flashes": request.session.pop_flash()},
                             renderer="json")  # fmt: skip
    app = serve(config, show=show)
    response = app.get("/show", headers={"Host": "nobody.test", **STALE})
    assert response.json == {"flashes": []}
    assert "for an exception view" in caplog.text


def test_a_database_session_may_be_chosen_by_what_the_route_has_matched(
    tenants: dict[str, Engine],
) -> None:
    for engine in tenants.values():
        Base.metadata.create_all(engine)

    def make(request: Any) -> Any:
        return registered(tenants[request.matchdict["tenant"]])(request)

    config = config_with(make)
    config.add_route("cart", "/{tenant}/cart")
    config.add_view(put, route_name="cart", renderer="json")
    app = serve(config)
    for tenant in tenants:
        app.get(f"/{tenant}/cart")
    assert [len(rows(engine)) for engine in tenants.values()] == [1, 1]


# ---- several engines


def test_a_process_that_ends_cleans_no_other_tenant_any_more(
    tenants: dict[str, Engine],
) -> None:
    settings = {**CREATE, "sqlsession.model": SQLSessionRow, "sqlsession.ttl": "1s"}
    app = serve(config_with(by_host(tenants), settings), put=put)
    for host in tenants:
        TestApp(app.app).get("/put", headers={"Host": host})
    table = SQLSessionRow.__table__
    for engine in tenants.values():
        with engine.begin() as connection:
            connection.execute(update(SQLSessionRow).values(created=0, last_seen=0, purge_after=0))
    stopping = threading.Event()
    factory: Any = app.app.registry.getUtility(ISessionFactory)
    with ExitStack() as stack:
        for engine in tenants.values():
            stack.enter_context(listening(engine, "commit", lambda _: stopping.set()))
        factory._store.cleaner._clean(stopping)
    assert sorted(len(rows(engine, table)) for engine in tenants.values()) == [0, 1]


def test_each_tenant_has_the_table_made_its_conflicts_marked_and_its_sessions_cleaned(
    tenants: dict[str, Engine],
) -> None:
    settings = {**CREATE, "sqlsession.model": SQLSessionRow}
    app = serve(config_with(by_host(tenants), settings), put=put, health=health)
    database = database_of(app)
    app.get("/health")
    assert database.engines() is None
    for host, engine in tenants.items():
        for _ in range(2):
            TestApp(app.app).get("/put", headers={"Host": host})
        assert len(rows(engine, SQLSessionRow.__table__)) == 2
        assert event.contains(engine, "handle_error", _mark)
    found = database.engines()
    assert found is not None
    assert set(found) == set(tenants.values())


def test_a_tenant_that_is_given_up_is_forgotten() -> None:
    shown = ShownEngines()
    shown.show(create_engine("sqlite:///nothing.sqlite"))
    gc.collect()
    assert shown.lasting() == []


def test_binds_lead_to_the_engine_of_the_session_model(engine: Engine, tmp_path: Any) -> None:
    notes_only = other_engine(tmp_path)
    Note.__table__.create(notes_only)  # type: ignore[attr-defined]
    make = registered(None, binds={Note: notes_only, SessionRow: engine})

    def order(request: Any) -> Any:
        request.dbsession.add(Note(text="ordered"))
        return put(request)

    Base.metadata.create_all(engine)
    app = serve(config_with(make), order=order, show=show)
    app.get("/order")
    assert app.get("/show").json == {"cart": [1]}
    assert (len(rows(engine)), notes(notes_only)) == (1, ["ordered"])
    notes_only.dispose()


def test_binds_without_an_engine_for_the_session_model_say_so_where_it_is_needed(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    Base.metadata.create_all(sqlite_engine)
    make = registered(None, binds={Note: sqlite_engine})

    def order(request: Any) -> Any:
        request.dbsession.add(Note(text="ordered"))
        return {}

    app = serve(config_with(make, CREATE), order=order, put=put)
    app.get("/order")
    assert notes(sqlite_engine) == ["ordered"]
    assert caplog.records == []
    with pytest.raises(
        ConfigurationError, match=r"no engine for the session model support\.apps\.SessionRow"
    ):
        app.get("/put")


def test_a_table_that_is_made_after_a_snapshot_was_taken_can_be_read(backend: Backend) -> None:
    engine = plain_engine(backend.url)
    Note.__table__.create(engine)  # type: ignore[attr-defined]

    def read_first(request: Any) -> Any:
        request.dbsession.query(Note).count()
        return show(request)

    settings = {**CREATE, "sqlsession.model": SQLSessionRow}
    app = serve(config_with(registered(engine), settings), show=read_first)
    assert app.get("/show", headers=STALE).json == {}
    engine.dispose()


# ---- the flush before the save

VETO = {"tm.commit_veto": "pyramid_tm.default_commit_veto"}


def order_later(request: Any) -> None:
    """Add a note, and count it in the session when it is flushed."""

    def count(dbsession: Any, _context: Any, _instances: Any) -> None:
        request.session["orders"] = request.session.get("orders", 0) + len(dbsession.new)

    event.listen(request.dbsession, "before_flush", count)
    request.dbsession.add(Note(text="ordered"))


def order_and_leave(request: Any) -> None:
    """The same in a view that changes the session and raises a redirection."""
    order_later(request)
    request.session["seen"] = 1
    raise HTTPFound("/")


def order_and_store(request: Any) -> None:
    """The same in a view that changes the session."""
    order_later(request)
    request.session["seen"] = 1


@pytest.mark.parametrize("view", [order_later, order_and_store, order_and_leave])
def test_what_a_flush_event_does_to_the_session_is_stored(
    engine: Engine, view: Callable[[Any], None]
) -> None:
    Base.metadata.create_all(engine)
    app = serve(config_with(registered(engine), VETO), view=view, show=show)
    for _ in range(2):
        app.get("/view")
    assert app.get("/show").json["orders"] == 2
    assert notes(engine) == ["ordered", "ordered"]


@pytest.mark.parametrize("first", ["", "used before"])
def test_a_database_session_that_is_asked_for_each_time_is_flushed_too(
    sqlite: Backend, first: str
) -> None:
    engine = create_engine(sqlite.url)
    Base.metadata.create_all(engine)
    scoped = scoped_session(sessionmaker(engine))
    zope.sqlalchemy.register(scoped)
    config = Configurator(settings={"sqlsession.model": SessionRow, **NO_CLEANING})
    config.include("pyramid_tm")
    config.add_request_method(lambda request: scoped, "dbsession", property=True)
    config.include("pyramid_sqlsession")

    def order(request: Any) -> None:
        if first:
            request.session.get("orders")
        request.session["seen"] = 1
        order_later(request)

    app = serve(config, order=order, show=show)
    app.get("/order")
    assert app.get("/show").json == {"seen": 1, "orders": 1}
    scoped.remove()
    engine.dispose()


def test_a_flush_does_not_need_the_database_of_the_sessions(
    sqlite_engine: Engine, tmp_path: Any
) -> None:
    Note.__table__.create(sqlite_engine)  # type: ignore[attr-defined]
    gone = create_engine(f"sqlite:///{tmp_path / 'nowhere' / 'sessions.sqlite'}")
    make = registered(None, binds={Note: sqlite_engine, SessionRow: gone})

    def order(request: Any) -> None:
        request.dbsession.add(Note(text="ordered"))

    serve(config_with(make), order=order).get("/order")
    assert notes(sqlite_engine) == ["ordered"]


def with_a_cart(engine: Engine, view: Callable[[Any], Any]) -> TestApp:
    """An application whose responses may veto the COMMIT; its visitor has a cart."""
    Base.metadata.create_all(engine)
    app = serve(config_with(registered(engine), VETO), view=view, put=put, show=show)
    app.get("/put")
    return app


def wrong(request: Any) -> None:
    """Add a note that cannot be stored."""
    request.dbsession.add(Note(text=None))


def form_again(request: Any) -> str:
    """Add one, and show the form again."""
    wrong(request)
    request.response.status_int = 422
    return "again"


def read_and_form_again(request: Any) -> str:
    """The same, for a visitor whose session is read."""
    request.session.get("seen")
    return form_again(request)


def flash_and_form_again(request: Any) -> str:
    """The same, with a message in the session."""
    request.session.flash("wrong")
    return form_again(request)


def preview(request: Any) -> str:
    """Add one, and store nothing."""
    wrong(request)
    request.tm.doom()
    return "again"


def flash_and_preview(request: Any) -> str:
    """The same, with a message in the session."""
    request.session.flash("a preview")
    return preview(request)


@pytest.mark.parametrize(
    "view",
    [form_again, read_and_form_again, flash_and_form_again, preview, flash_and_preview],
)
def test_work_that_is_not_committed_need_not_be_right(
    engine: Engine, view: Callable[[Any], str]
) -> None:
    app = with_a_cart(engine, view)
    assert app.get("/view", status="*").json == "again"
    assert (app.get("/show").json, notes(engine)) == ({"cart": [1]}, [])


def read(request: Any) -> None:
    """Add one, and only read the session."""
    wrong(request)
    request.session.get("seen")


def read_and_leave(request: Any) -> None:
    """The same in a view that raises a redirection."""
    read(request)
    raise HTTPFound("/")


def store_and_leave(request: Any) -> None:
    """The same in a view that has changed the session."""
    request.session["seen"] = 1
    read_and_leave(request)


@pytest.mark.parametrize("view", [wrong, read, read_and_leave, store_and_leave])
def test_what_cannot_be_flushed_is_an_error_of_the_commit(
    engine: Engine, view: Callable[[Any], None]
) -> None:
    app = with_a_cart(engine, view)
    with pytest.raises(IntegrityError):
        app.get("/view")
    assert (app.get("/show").json, notes(engine)) == ({"cart": [1]}, [])


def test_a_refusal_after_what_cannot_be_flushed_is_still_shown_and_keeps_its_csrf_token(
    engine: Engine,
) -> None:
    def forbidden(request: Any) -> Any:
        request.session["mine"] = 1
        wrong(request)
        raise HTTPForbidden

    def login_form(request: Any) -> str:
        request.response.status_int = 403
        return request.session.get_csrf_token()  # type: ignore[no-any-return]  # a text

    Base.metadata.create_all(engine)
    config = config_with(registered(engine), VETO)
    config.add_forbidden_view(login_form, renderer="json")
    app = serve(config, forbidden=forbidden, show=show)
    token = app.get("/forbidden", status=403).json
    assert (app.get("/show").json, notes(engine)) == ({"_csrft_": token}, [])


def test_what_cannot_be_flushed_is_an_error_of_the_save_if_the_session_is_to_be_committed(
    engine: Engine,
) -> None:
    def wrong_and_store(request: Any) -> None:
        wrong(request)
        request.session["seen"] = 1

    def sorry(_error: Any, request: Any) -> str:
        request.response.status_int = 409
        return "sorry"

    Base.metadata.create_all(engine)
    config = config_with(registered(engine))
    config.add_exception_view(sorry, context=IntegrityError, renderer="json")
    app = serve(config, wrong_and_store=wrong_and_store, show=show)
    response = app.get("/wrong_and_store", status=409)
    assert (response.json, session_cookies(response)) == ("sorry", [])
    assert (app.get("/show").json, notes(engine), rows(engine)) == ({}, [], [])


# ---- a database session that is bound to a connection


@contextmanager
def in_test_suite(engine: Engine) -> Iterator[Any]:
    """SQLAlchemy's recipe for test suites: all is in one transaction, which is rolled back."""
    with engine.connect() as connection:
        outer = connection.begin()
        yield connection
        outer.rollback()


def order(request: Any) -> Any:
    request.dbsession.add(Note(text="ordered"))
    request.dbsession.flush()
    return put(request)


def show_notes(request: Any) -> Any:
    found = request.dbsession.query(Note).order_by(Note.id)
    return [[note.text for note in found], dict(request.session)]


@pytest.mark.parametrize("make", [registered, unregistered])
def test_the_recipe_for_test_suites_keeps_what_the_first_request_wrote(
    backend: Backend, make: Callable[..., Make]
) -> None:
    engine = plain_engine(backend.url)
    if backend.name == "sqlite":
        say_begin(engine)
    Note.__table__.create(engine)  # type: ignore[attr-defined]

    def committing(request: Any) -> Any:
        result = order(request)
        if make is unregistered:
            request.dbsession.commit()
        return result

    settings = {**CREATE, "sqlsession.model": SQLSessionRow}
    with in_test_suite(engine) as connection:
        bind = Session(connection, join_transaction_mode="create_savepoint")
        bind.add(Note(text="fixture"))
        bind.flush()
        bind.commit()
        made = (
            make(connection)
            if make is unregistered
            else registered(connection, join_transaction_mode="create_savepoint")
        )
        app = serve(config_with(made, settings), committing=committing, show=show_notes)
        app.get("/committing")
        assert app.get("/show").json == [["fixture", "ordered"], {"cart": [1]}]
        app.get("/committing")
        assert app.get("/show").json == [["fixture", "ordered", "ordered"], {"cart": [1, 1]}]
    assert notes(engine) == []
    engine.dispose()


def say_begin(engine: Engine) -> None:
    """SQLAlchemy's recipe for SQLite: transactions begin where they should."""
    event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))


def test_a_session_bound_to_a_connection_commits_what_the_first_request_wrote(
    engine: Engine,
) -> None:
    Note.__table__.create(engine)  # type: ignore[attr-defined]
    settings = {**CREATE, "sqlsession.model": SQLSessionRow}

    def make(request: Any) -> Session:
        connection = engine.connect()
        request.add_finished_callback(lambda request: connection.close())
        session: Session = registered(connection)(request)
        return session

    app = serve(config_with(make, settings), order=order, show=show_notes)
    app.get("/order")
    assert app.get("/show").json == [["ordered"], {"cart": [1]}]
    assert notes(engine) == ["ordered"]


def test_a_session_bound_to_the_only_connection_commits_what_the_first_request_wrote() -> None:
    engine = plain_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Note.__table__.create(engine)  # type: ignore[attr-defined]
    connection = engine.connect()
    settings = {**CREATE, "sqlsession.model": SQLSessionRow}
    app = serve(config_with(registered(connection), settings), order=order, list=list_of_alice)
    assert app.get("/list").json == []
    assert not connection.in_transaction()
    app.get("/order")
    connection.rollback()
    assert connection.scalars(text("SELECT text FROM note")).all() == ["ordered"]
    connection.close()
    engine.dispose()


def list_of_alice(request: Any) -> Any:
    return request.sqlsessions.of_user("alice")


def test_the_table_is_made_where_a_fixture_has_flushed_before_the_first_request(
    backend: Backend,
) -> None:
    # a second would be 5 of them: what waits for the request's own lock waits for ever
    options = {"connect_args": {"timeout": 1}} if backend.name == "sqlite" else {}
    engine = plain_engine(backend.url, **options)
    Note.__table__.create(engine)  # type: ignore[attr-defined]
    manager = transactions.TransactionManager(explicit=True)
    manager.begin()
    manager.doom()
    dbsession = Session(engine)
    zope.sqlalchemy.register(dbsession, transaction_manager=manager)
    dbsession.add(Note(text="fixture"))
    dbsession.flush()
    settings = {**CREATE, "sqlsession.model": SQLSessionRow}
    environ = {"tm.active": True, "tm.manager": manager}
    config = config_with(lambda request: dbsession, settings)
    app = TestApp(add_views(config, put=put, show=show).make_wsgi_app(), extra_environ=environ)
    app.get("/put")
    app.get("/put")
    assert app.get("/show").json == {"cart": [1, 1]}
    manager.abort()
    assert notes(engine) == []
    engine.dispose()


def test_a_table_that_went_with_its_transaction_is_made_again(sqlite: Backend) -> None:
    engine = plain_engine(sqlite.url, connect_args={"timeout": 1})
    Note.__table__.create(engine)  # type: ignore[attr-defined]

    def fail(request: Any) -> Any:
        request.dbsession.add(Note(text="lost"))
        request.dbsession.flush()
        assert request.sqlsessions.of_user("alice") == []
        raise Broken("the table goes with it")

    app = serve(config_with(registered(engine), {**CREATE, "sqlsession.model": SQLSessionRow}),
                fail=fail, order=order, show=show_notes)  # fmt: skip
    with pytest.raises(Broken):
        app.get("/fail")
    assert inspect(engine).get_table_names() == ["note"]
    app.get("/order")
    assert app.get("/show").json == [["ordered"], {"cart": [1]}]
    engine.dispose()


def test_a_table_with_a_foreign_key_is_made_beside_what_the_request_has_written(
    backend: Backend, base: Any
) -> None:
    """On MySQL it waits for the request that has written to the other table, and gives up."""
    user_model, session_model = users_and_sessions(base)
    engine = plain_engine(backend.url)
    user_model.__table__.create(engine)

    def sign_up(request: Any) -> Any:
        user = user_model(id=7)
        request.dbsession.add(user)
        request.dbsession.flush()
        request.session["auth.userid"] = user.id
        return {}

    settings = {**CREATE, "sqlsession.model": session_model}
    app = serve(config_with(registered(engine), settings), sign_up=sign_up, put=put, show=show)
    if backend.name == "mysql":
        with pytest.raises(SessionConflict, match="1205"):
            app.get("/sign_up")
        # whoever has written nothing there makes it
        app.get("/put")
    app.get("/sign_up")
    assert app.get("/show").json["auth.userid"] == 7
    engine.dispose()


def test_a_pool_of_one_connection_keeps_what_the_first_request_wrote() -> None:
    engine = plain_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Note.__table__.create(engine)  # type: ignore[attr-defined]
    settings = {**CREATE, "sqlsession.model": SQLSessionRow}
    app = serve(config_with(registered(engine), settings), order=order, show=show_notes)
    app.get("/order")
    assert app.get("/show").json == [["ordered"], {"cart": [1]}]
    engine.dispose()


def test_tenants_with_one_connection_each_keep_what_they_have_begun() -> None:
    options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    engines = {f"{name}.test": plain_engine("sqlite://", **options) for name in ("a", "b")}
    for engine in engines.values():
        Base.metadata.create_all(engine)
    app = serve(config_with(by_host(engines), {"tm.activate_hook": "support.apps.no_transaction"}),
                put=put, show=show)  # fmt: skip
    browsers = {host: TestApp(app.app) for host in engines}
    for host, browser in browsers.items():
        browser.get("/put", headers={"Host": host})
    with engines["a.test"].connect() as connection:
        connection.execute(text("INSERT INTO note (text) VALUES ('begun')"))
        for host, browser in browsers.items():
            assert browser.get("/show", headers={"Host": host}).json == {"cart": [1]}
        connection.commit()
    assert notes(engines["a.test"]) == ["begun"]
    for engine in engines.values():
        engine.dispose()


# ---- one that zope.sqlalchemy does not know


def test_a_database_session_that_commits_by_itself_is_neither_committed_nor_closed(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    engine = plain_engine(backend.url)
    Base.metadata.create_all(engine)
    seen: list[Session] = []

    def half_done(request: Any) -> Any:
        put(request)
        request.dbsession.add(Note(text="committed"))
        request.dbsession.commit()
        request.dbsession.add(Note(text="never"))
        seen.append(request.dbsession)
        return {}

    app = serve(config_with(unregistered(engine)), half_done=half_done, show=show)
    for _ in range(2):
        app.get("/half_done")
    assert app.get("/show").json == {"cart": [1, 1]}
    assert notes(engine) == ["committed"] * 2
    for dbsession in seen:
        # still there, and the application's to commit
        assert [note.text for note in dbsession.new] == ["never"]
        dbsession.close()
    (record,) = [it for it in caplog.records if it.levelno >= logging.WARNING]
    assert "request.dbsession is not part of the request's transaction" in record.message
    engine.dispose()


def test_its_sessions_go_with_the_requests_transaction(backend: Backend) -> None:
    engine = plain_engine(backend.url)
    Base.metadata.create_all(engine)

    def fail(request: Any) -> Any:
        put(request)
        request.tm.doom()
        return {}

    def revoke_and_list(request: Any) -> Any:
        listed = [len(request.sqlsessions.of_user("alice"))]
        request.sqlsessions.revoke_user("alice")
        listed.append(len(request.sqlsessions.of_user("alice")))
        request.tm.doom()
        return listed

    def sign_in(request: Any) -> Any:
        request.session["auth.userid"] = "alice"
        return {}

    app = serve(config_with(unregistered(engine)),
                fail=fail, sign_in=sign_in, revoke_and_list=revoke_and_list)  # fmt: skip
    assert session_cookies(app.get("/fail")) == []
    assert rows(engine) == []
    app.get("/sign_in")
    # what the transaction has done it sees, and it is undone
    assert app.get("/revoke_and_list").json == [1, 0]
    assert len(rows(engine)) == 1
    engine.dispose()


@pytest.mark.parametrize("by", ["session", "factory", "scoped", "joined by hand"])
def test_however_it_was_registered_it_is_known(
    engine: Engine, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    Base.metadata.create_all(engine)
    make_session: Any = sessionmaker(engine)
    if by == "scoped":
        make_session = scoped_session(make_session)
    if by in ("factory", "scoped"):
        zope.sqlalchemy.register(make_session)

    def make(request: Any) -> Any:
        session = make_session if by == "scoped" else make_session()
        if by == "session":
            zope.sqlalchemy.register(session)
        elif by == "joined by hand":
            zope.sqlalchemy.mark_changed(session)
        return session

    config = config_with(make, explicit=False)
    app = serve(config, order=order, show=show)
    app.get("/order")
    assert app.get("/show").json == {"cart": [1]}
    assert (notes(engine), len(rows(engine))) == (["ordered"], 1)
    assert "is not part of" not in caplog.text
    if by == "scoped":
        make_session.remove()


def test_one_that_ends_with_another_transaction_is_not_taken_for_the_requests(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    Base.metadata.create_all(engine)
    elsewhere = transactions.TransactionManager(explicit=True)

    def make(request: Any) -> Session:
        session = Session(engine)
        zope.sqlalchemy.register(session, transaction_manager=elsewhere)
        return session

    app = serve(config_with(make), put=put, show=show)
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}
    assert "is not part of the request's transaction" in caplog.text


# ---- left as the application chose it


def test_a_session_that_is_kept_after_the_commit_stays_open(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    kept = Session(engine)
    manager = transactions.manager
    note = Note(text="kept")
    kept.add(note)
    kept.commit()
    zope.sqlalchemy.register(kept, transaction_manager=manager, keep_session=True)
    # it has begun already: whoever joins it now is the first
    kept.connection()
    app = serve(config_with(lambda request: kept, explicit=False), put=put)
    app.get("/put")
    assert note in kept
    assert len(rows(engine)) == 1
    kept.close()


def test_what_is_joined_read_only_stays_so_and_sessions_are_stored_all_the_same(
    engine: Engine,
) -> None:
    Base.metadata.create_all(engine)

    def make(request: Any) -> Session:
        session = Session(engine)
        zope.sqlalchemy.register(
            session, initial_state=STATUS_READONLY, transaction_manager=request.tm
        )
        return session

    app = serve(config_with(make), put=put, show=show_notes)
    for _ in range(2):
        app.get("/put")
    assert app.get("/show").json == [[], {"cart": [1, 1]}]


# ---- whoever asks while the session is being loaded


def user_of(request: Any) -> Any:
    return request.session.get("auth.userid")


def test_a_listener_that_asks_for_the_user_meanwhile_finds_nobody_and_no_database(
    engine: Engine,
) -> None:
    Base.metadata.create_all(engine)
    asked: list[Any] = []

    def make(request: Any) -> Session:
        session: Session = registered(engine)(request)

        @event.listens_for(session, "after_begin")
        def after_begin(*_: Any) -> None:
            asked.append((user_of(request), request.session.new, dict(request.session)))

        return session

    def sign_in(request: Any) -> Any:
        request.session["auth.userid"] = "alice"
        return {}

    app = serve(config_with(make), sign_in=sign_in, user=user_of)
    app.get("/sign_in")
    asked.clear()
    with statements(engine) as seen:
        assert app.get("/user").json == "alice"
    assert asked == [(None, True, {})]
    assert len([sql for sql in seen if "sqlsession" in sql]) == 1


def test_a_cursor_listener_and_a_log_filter_may_ask_too(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    current: list[Any] = []
    asked: list[Any] = []

    def ask(*_: Any) -> bool:
        asked.extend(user_of(request) for request in current)
        return True

    def sign_in(request: Any) -> Any:
        request.session["auth.userid"] = "alice"
        return {}

    def user(request: Any) -> Any:
        current.append(request)
        try:
            return user_of(request)
        finally:
            current.clear()

    app = serve(config_with(registered(engine)), sign_in=sign_in, user=user)
    app.get("/sign_in")
    logger = logging.getLogger("sqlalchemy.engine.Engine")
    logger.addFilter(ask)
    engine.echo = True
    try:
        with listening(engine, "before_cursor_execute", ask):
            assert app.get("/user").json == "alice"
    finally:
        engine.echo = False
        logger.removeFilter(ask)
    assert asked
    assert set(asked) == {None}


def test_a_listener_of_the_applications_own_query_finds_the_user(backend: Backend) -> None:
    engine = plain_engine(backend.url)
    Base.metadata.create_all(engine)
    asked: list[Any] = []

    def make(request: Any) -> Session:
        session: Session = registered(engine)(request)
        event.listen(session, "after_begin", lambda *_: asked.append(user_of(request)))
        return session

    def sign_in(request: Any) -> Any:
        request.session["auth.userid"] = "alice"
        return {}

    def query(request: Any) -> Any:
        return [request.dbsession.query(Note).count(), user_of(request)]

    app = serve(config_with(make), sign_in=sign_in, query=query)
    app.get("/sign_in")
    asked.clear()
    assert app.get("/query").json == [0, "alice"]
    assert asked == ["alice"]
    engine.dispose()


def test_a_listener_of_the_applications_hides_none_of_zope_sqlalchemys(engine: Engine) -> None:
    Base.metadata.create_all(engine)

    def make(request: Any) -> Session:
        session = Session(engine)
        event.listen(session, "after_begin", lambda *_: None)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    app = serve(config_with(make), put=put, fail=order_and_fail)
    app.get("/put")
    with pytest.raises(Broken):
        app.get("/fail")
    assert notes(engine) == []
    assert json.loads(rows(engine)[0]["data"]) == {"cart": [1]}


def test_an_error_page_whose_query_has_such_a_listener_is_committed_where_a_veto_wants_it(
    backend: Backend,
) -> None:
    engine = plain_engine(backend.url)
    Base.metadata.create_all(engine)

    def make(request: Any) -> Session:
        session: Session = registered(engine)(request)
        event.listen(session, "after_begin", lambda *_: user_of(request))
        return session

    def fail(request: Any) -> Any:
        raise HTTPNotFound

    def page(error: Any, request: Any) -> Any:
        request.dbsession.add(Note(text="not found"))
        request.dbsession.flush()
        return {}

    def sign_in(request: Any) -> Any:
        request.session["auth.userid"] = "alice"
        return {}

    config = config_with(make, {"tm.commit_veto": lambda request, response: False})
    config.add_exception_view(page, context=HTTPNotFound, renderer="json")
    app = serve(config, sign_in=sign_in, fail=fail)
    app.get("/sign_in")
    app.get("/fail")
    assert notes(engine) == ["not found"]
    engine.dispose()


def test_a_change_while_the_session_is_being_loaded_is_an_error_and_not_lost(
    engine: Engine,
) -> None:
    Base.metadata.create_all(engine)

    def make(request: Any) -> Session:
        request.session["tenant"] = 1
        session: Session = registered(engine)(request)
        return session

    app = serve(config_with(make), show=show)
    with pytest.raises(SessionClosed, match="is being loaded"):
        app.get("/show", headers=STALE)


# ---- a mounted application


@pytest.mark.parametrize("make", [registered, unregistered])
def test_a_mounted_application_stores_its_sessions_in_the_outer_transaction(
    backend: Backend, make: Callable[..., Make]
) -> None:
    engine = plain_engine(backend.url)
    Base.metadata.create_all(engine)
    inner = add_views(config_with(make(engine)), put=put, show=show).make_wsgi_app()

    outer = Configurator(settings=EXPLICIT)
    outer.include("pyramid_tm")
    outer.add_route("inner", "/inner/*subpath")
    outer.add_view(wsgiapp2(inner), route_name="inner")
    app = serve(outer)
    app.get("/inner/put")
    app.get("/inner/put")
    assert app.get("/inner/show").json == {"cart": [1, 1]}
    engine.dispose()


def test_a_fork_of_the_pool_class_is_a_pool_like_any_other(sqlite: Backend) -> None:
    class OwnPool(QueuePool):
        pass

    engine = plain_engine(sqlite.url, poolclass=OwnPool)
    Base.metadata.create_all(engine)
    app = serve(config_with(registered(engine)), put=put)
    app.get("/put")
    assert database_of(app).engines() == [engine]
    engine.dispose()
