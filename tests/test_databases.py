"""The three ways to a database, and the fallback."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory
from pyramid.request import Request
from sqlalchemy import (
    JSON,
    BigInteger,
    Engine,
    Integer,
    String,
    Text,
    create_engine,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import (
    Mapped,
    Session,
    declarative_base,
    mapped_column,
    registry,
    scoped_session,
    sessionmaker,
)
from support.apps import (
    Base,
    Clock,
    SessionRow,
    configurator,
    own_configurator,
    rows,
    serve,
    session_cookies,
    statements,
)
from support.patience import at_once
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import (
    SessionConflict,
    SessionMixin,
    SessionTableError,
    SQLSessionFactory,
    save_tween_factory,
)
from pyramid_sqlsession.database.connections import (
    commit,
    connect,
    giving_up,
    roll_back,
)
from pyramid_sqlsession.table.model import DATA, ID, SQLSessionRow, resolve_model
from pyramid_sqlsession.table.storage import create_table

DEFAULT: Any = SQLSessionRow.__table__


def count(request: Any) -> Any:
    request.session["n"] = request.session.get("n", 0) + 1
    return request.session["n"]


def read(request: Any) -> Any:
    return dict(request.session)


def own(url: str, **settings: Any) -> TestApp:
    """A browser for an application without a database session."""
    return serve(own_configurator(url, **settings), count=count, read=read)


# ---- an engine of its own


def test_an_engine_a_model_and_the_table_are_made_from_a_url(
    backend: Backend, engine: Engine
) -> None:
    app = own(backend.url)
    assert [app.get("/count").json for _ in range(3)] == [1, 2, 3]
    (row,) = rows(engine, DEFAULT)
    assert (row["version"], row["data"]) == (3, b'{"n":3}')


def test_nothing_is_connected_before_the_first_session_is_used(sqlite: Backend) -> None:
    own("postgresql+psycopg://nobody@127.0.0.1:1/none")
    app = own(sqlite.url)
    app.get("/read")
    app.get("/read", headers={"Cookie": "session=nonsense"})
    engine = create_engine(sqlite.url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_read_is_one_round_trip(postgresql: Backend) -> None:
    app = own(postgresql.url)
    app.get("/count")
    app.get("/read")
    engine = create_engine(postgresql.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        pid, query, state = connection.execute(
            text(
                "SELECT pid, query, state FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).one()
    engine.dispose()
    assert query.startswith("SELECT sqlsession.version")
    assert (bool(pid), state) == (True, "idle")


def test_a_read_is_one_round_trip_on_mariadb_too(mariadb: Backend) -> None:
    app = own(mariadb.url)
    app.get("/count")
    app.get("/read")
    engine = create_engine(mariadb.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:

        def questions() -> int:
            row = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Questions'")).one()
            return int(row[1])

        before = questions()
        app.get("/read")
        assert questions() - before == 2  # the read, and the second question about it
    engine.dispose()


def test_a_connection_that_wrote_reads_in_autocommit_again(postgresql: Backend) -> None:
    app = own(postgresql.url, **{"sqlalchemy.pool_size": "1", "sqlalchemy.max_overflow": "0"})
    engine = create_engine(postgresql.url, isolation_level="AUTOCOMMIT")
    for _ in range(3):
        app.get("/count")
        app.get("/read")
        with engine.connect() as connection:
            (last,) = connection.execute(
                text(
                    "SELECT query FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ).one()
        assert last.startswith("SELECT sqlsession.version")
    engine.dispose()


def test_one_connection_is_enough_for_reading_and_writing(backend: Backend) -> None:
    pool = {} if backend.name == "sqlite" else {"sqlalchemy.max_overflow": "0"}
    app = own(backend.url, **{"sqlalchemy.pool_size": "1", "sqlalchemy.pool_timeout": "1"}, **pool)
    assert [app.get("/count").json for _ in range(5)] == [1, 2, 3, 4, 5]


def test_sqlite_is_tuned_for_several_writers(sqlite: Backend) -> None:
    app = own(sqlite.url)
    app.get("/count")
    engine = create_engine(sqlite.url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_the_password_is_neither_logged_nor_in_an_error(
    sqlite: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own("postgresql+psycopg://me:hunter2@127.0.0.1:1/none")
    with pytest.raises(ConfigurationError) as caught:
        own("nonsense+psycopg://me:hunter2@127.0.0.1:1/none")
    assert "cannot create an engine from sqlsession.sqlalchemy.*" in str(caught.value)
    assert "sqlsession, through an engine of its own, postgresql+psycopg://me:***@" in caplog.text
    assert "hunter2" not in caplog.text + str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "no url"},
        {"url": "sqlite:///file", "sqlalchemy.nonsense": "1"},
        {"url": "sqlite://"},
        {"url": "sqlite:///:memory:"},
    ],
)
def test_an_engine_that_cannot_be_made_is_a_configuration_error(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="cannot create an engine"):
        own(options.pop("url"), **options)


def test_session_data_is_not_in_the_errors_of_the_own_engine(sqlite: Backend) -> None:
    app = own(sqlite.url, create_table="false")
    with pytest.raises(SessionTableError) as caught:
        app.get("/count")
    assert "[SQL parameters hidden due to hide_parameters=True]" in str(caught.value.__context__)


def _count_in_a_child(app: TestApp, cookie: str, answers: Any) -> None:
    app.set_cookie("session", cookie)
    answers.put([app.get("/count").json for _ in range(3)])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_an_engine_that_was_used_before_a_fork_works_after_it(backend: Backend) -> None:
    app = own(backend.url)
    assert app.get("/count").json == 1
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_count_in_a_child, args=(app, app.cookies["session"], answers))
    child.start()
    assert answers.get(timeout=30) == [2, 3, 4]
    child.join(30)
    assert child.exitcode == 0
    assert app.get("/count").json == 5


def test_several_threads_create_the_table_once(backend: Backend) -> None:
    app = own(backend.url)
    browsers = [TestApp(app.app) for _ in range(4)]
    assert at_once(lambda browser: browser.get("/count").json, browsers) == [1, 1, 1, 1]


def test_two_processes_may_create_the_table_at_once(backend: Backend) -> None:
    applications = [own(backend.url) for _ in range(2)]
    assert at_once(lambda app: app.get("/count").json, applications) == [1, 1]


def test_an_isolation_level_in_the_settings_is_for_the_writes(mariadb: Backend) -> None:
    app = own(mariadb.url, **{"sqlalchemy.isolation_level": "REPEATABLE READ"})
    assert [app.get("/count").json for _ in range(3)] == [1, 2, 3]


def test_a_visit_is_recorded_by_the_own_engine(backend: Backend, engine: Engine) -> None:
    clock = Clock()
    config = Configurator()
    config.include("pyramid_sqlsession")
    config.set_session_factory(
        SQLSessionFactory(clock=clock, sqlalchemy={"url": backend.url}, model=SQLSessionRow)
    )
    app = serve(config, count=count, read=read)
    app.get("/count")
    clock.advance(3600)
    app.get("/read")
    (row,) = rows(engine, DEFAULT)
    assert (row["last_seen"], row["version"]) == (clock.now, 1)


def test_the_own_engine_stores_without_a_transaction(backend: Backend) -> None:
    config = Configurator(
        settings={
            "sqlsession.sqlalchemy.url": backend.url,
            "sqlsession.model": SQLSessionRow,
            "tm.activate_hook": "support.apps.no_transaction",
        }
    )
    config.include("pyramid_sqlsession")
    app = serve(config, count=count)
    assert [app.get("/count").json for _ in range(3)] == [1, 2, 3]


def test_a_write_that_sqlite_has_no_room_for_is_a_conflict_and_leaks_nothing(
    sqlite: Backend,
) -> None:
    config = Configurator()
    config.include("pyramid_sqlsession")
    options = {"url": sqlite.url, "connect_args": {"timeout": 0.01}, "pool_size": 1}
    config.set_session_factory(
        SQLSessionFactory(sqlalchemy={**options, "max_overflow": 0}, model=SQLSessionRow)
    )
    app = serve(config, count=count)
    app.get("/count")
    engine = create_engine(sqlite.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(SessionConflict, match="database is locked"):
                app.get("/count")
        connection.exec_driver_sql("ROLLBACK")
    engine.dispose()
    assert app.get("/count").json == 2


def test_a_new_process_id_means_new_connections(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = own(backend.url)
    app.get("/count")
    engine = app.app.registry.getUtility(ISessionFactory)._store.database._engine
    before = engine.pool
    monkeypatch.setattr("pyramid_sqlsession.database.own.os.getpid", lambda: -1)
    assert app.get("/count").json == 2
    assert engine.pool is not before
    before.dispose()


# ---- memory


def memory() -> TestApp:
    """A browser for an application whose sessions are kept in memory."""
    config = Configurator(
        settings={
            "sqlsession.fallback_memory": "true",
            "sqlsession.model": SQLSessionRow,
        }
    )
    config.include("pyramid_sqlsession")
    return serve(config, count=count, read=read)


def test_sessions_can_be_kept_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = memory()
    assert [app.get("/count").json for _ in range(3)] == [1, 2, 3]
    assert "all sessions are lost when this process ends" in caplog.text
    assert "through a database in the memory of this process" in caplog.text


def test_making_the_tween_again_keeps_what_is_in_memory() -> None:
    app = memory()
    app.get("/count")
    save_tween_factory(lambda request: None, app.app.registry)
    assert app.get("/count").json == 2


def test_threads_share_the_memory_and_applications_do_not() -> None:
    app = memory()
    app.get("/count")
    assert at_once(lambda path: app.get(path).json, ["/count"]) == [2]
    other = memory()
    other.set_cookie("session", app.cookies["session"])
    assert other.get("/read").json == {}


# ---- the application's database session


def cookiecutter(engine: Engine, **options: Any) -> TestApp:
    return serve(configurator(engine, **options), count=count, read=read)


def test_a_dbsession_of_the_requests_is_found_by_itself(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = cookiecutter(engine)
    assert [app.get("/count").json for _ in range(3)] == [1, 2, 3]
    assert "through the application's database session, request.dbsession" in caplog.text


def with_attribute(engine: Engine, make: Callable[[Any], Any], settings: Any) -> Configurator:
    config = Configurator(settings={"sqlsession.model": SessionRow, **settings})
    Base.metadata.create_all(engine)
    config.include("pyramid_sqlsession")
    return config


def joined_session(engine: Engine) -> Callable[[Any], Session]:
    def make(request: Any) -> Session:
        session = Session(engine)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    return make


def test_a_dbsession_of_another_name_is_used_where_it_is_named(engine: Engine) -> None:
    make = joined_session(engine)
    config = with_attribute(engine, make, {"sqlsession.dbsession": "db"})
    config.add_request_method(make, "db", reify=True)
    assert [serve(config, count=count).get("/count").json for _ in range(2)] == [1, 1]


def test_a_dbsession_of_the_request_factorys_class_is_found(engine: Engine) -> None:
    make = joined_session(engine)

    class AppRequest(Request):  # type: ignore[misc]  # pyramid has no types
        @property
        def dbsession(self) -> Any:
            if "_db" not in self.__dict__:
                self._db = make(self)
            return self._db

    config = with_attribute(engine, make, {})
    config.set_request_factory(AppRequest)
    app = serve(config, count=count)
    assert [app.get("/count").json for _ in range(2)] == [1, 2]


def test_a_dbsession_that_is_set_by_a_subscriber_has_to_be_named(engine: Engine) -> None:
    make = joined_session(engine)
    config = with_attribute(engine, make, {"sqlsession.dbsession": "dbsession"})

    def subscriber(event: Any) -> None:
        event.request.dbsession = make(event.request)

    config.add_subscriber(subscriber, "pyramid.interfaces.INewRequest")
    app = serve(config, count=count)
    assert [app.get("/count").json for _ in range(2)] == [1, 2]


def test_a_scoped_session_is_unwrapped(engine: Engine) -> None:
    scoped = scoped_session(sessionmaker(engine))
    zope.sqlalchemy.register(scoped)
    config = with_attribute(engine, lambda request: scoped, {})
    config.add_request_method(lambda request: scoped, "dbsession", property=True)
    app = serve(config, count=count)
    assert [app.get("/count").json for _ in range(3)] == [1, 2, 3]
    scoped.remove()


def test_an_attribute_that_is_no_database_session_is_an_error_that_names_it(
    sqlite: Backend,
) -> None:
    config = Configurator(settings={"sqlsession.dbsession": "db"})
    config.add_request_method(lambda request: "nonsense", "db", property=True)
    config.include("pyramid_sqlsession")
    with pytest.raises(
        ConfigurationError, match=r"request\.db is missing or not a synchronous SQLAlchemy Session"
    ):
        serve(config, count=count).get("/count")


def test_a_missing_table_is_an_error_that_says_how_to_create_it(engine: Engine) -> None:
    app = cookiecutter(engine, create=False)
    with pytest.raises(SessionTableError) as caught:
        app.get("/count")
    for words in ("'sqlsession' is missing", "Alembic", "sqlsession.create_table = true"):
        assert words in str(caught.value)


def test_a_missing_table_does_not_matter_to_visitors_without_a_session(engine: Engine) -> None:
    assert cookiecutter(engine, create=False).get("/read").json == {}


def test_a_missing_column_is_the_same_error(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE sqlsession DROP COLUMN max_age")
    with pytest.raises(SessionTableError, match="does not match its model"):
        cookiecutter(engine, create=False).get("/count")


def test_the_table_is_created_at_the_first_request_if_that_was_asked_for(engine: Engine) -> None:
    config = configurator(
        engine, {"sqlsession.create_table": "true", "sqlsession.model": SQLSessionRow}, create=False
    )
    app = serve(config, count=count)
    assert [app.get("/count").json for _ in range(2)] == [1, 2]
    assert inspect(engine).get_table_names() == ["sqlsession"]
    indexed = [index["column_names"] for index in inspect(engine).get_indexes("sqlsession")]
    assert sorted(indexed, key=str) == [["lineage"], ["purge_after"], ["user_id"]]


def test_a_table_that_exists_is_left_alone(engine: Engine) -> None:
    app = cookiecutter(engine)
    app.get("/count")
    again = serve(configurator(engine, {"sqlsession.create_table": "true"}), count=count)
    again.set_cookie("session", app.cookies["session"])
    assert again.get("/count").json == 2


@pytest.mark.parametrize("faster", [True, False])
def test_only_another_process_that_was_faster_may_keep_the_table_from_being_created(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    if faster:
        Base.metadata.create_all(engine)
    table: Any = SessionRow.__table__
    monkeypatch.setattr(table, "create", lambda bind, checkfirst: fail_to_create(bind))
    with nullcontext() if faster else pytest.raises(DBAPIError):
        create_table(table, engine)


def fail_to_create(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE broken (")


def test_a_table_that_cannot_be_created_costs_only_requests_that_need_it(tmp_path: Any) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder.sqlite")
    config = configurator(engine, {"sqlsession.create_table": "true"}, create=False)
    app = serve(config, read=read, count=count)
    assert app.get("/read").json == {}
    with pytest.raises(OperationalError):
        app.get("/count")
    (tmp_path / "no" / "such").mkdir(parents=True)
    Base.metadata.tables["note"].create(engine)
    assert app.get("/count").json == 1
    assert "sqlsession" in inspect(engine).get_table_names()
    engine.dispose()


# ---- which one


def test_without_any_database_the_error_lists_the_four_ways() -> None:
    config = Configurator(settings={"sqlsession.model": SQLSessionRow})
    config.include("pyramid_sqlsession")
    with pytest.raises(ConfigurationError) as caught:
        config.make_wsgi_app()
    for way in ("request.dbsession", "dbsession = NAME", "sqlalchemy.url = URL", "fallback_memory"):
        assert way in str(caught.value)
    assert "%(sqlalchemy.url)s" not in str(caught.value)


def test_the_applications_own_url_is_not_taken_but_shown_in_the_error() -> None:
    config = Configurator(
        settings={"sqlalchemy.url": "sqlite://", "sqlsession.model": SQLSessionRow}
    )
    config.include("pyramid_sqlsession")
    with pytest.raises(ConfigurationError, match=r"sqlsession.sqlalchemy.url = %.sqlalchemy.url.s"):
        config.make_wsgi_app()


def test_an_explicit_url_wins_over_a_dbsession_that_is_there(
    backend: Backend, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = cookiecutter(engine, settings={"sqlsession.sqlalchemy.url": backend.url})
    assert app.get("/count").json == 1
    assert "through an engine of its own" in caplog.text


def test_a_dbsession_wins_over_the_fallback(sqlite: Backend) -> None:
    engine = create_engine(sqlite.url)
    cookiecutter(engine, settings={"sqlsession.fallback_memory": "true"}).get("/count")
    assert len(rows(engine)) == 1
    engine.dispose()


def test_every_option_is_a_keyword_too(sqlite: Backend) -> None:
    config = Configurator()
    config.include("pyramid_sqlsession")
    config.set_session_factory(
        SQLSessionFactory(
            clock=Clock(), sqlalchemy={"url": sqlite.url}, model=SQLSessionRow,
            ttl="1h", cookie_name="sid",
        )
    )  # fmt: skip
    assert "sid=" in serve(config, count=count).get("/count").headers["Set-Cookie"]


def test_the_factory_gives_a_request_the_same_session_however_often_it_is_asked(
    sqlite: Backend,
) -> None:
    def ask(request: Any) -> bool:
        factory = request.registry.getUtility(ISessionFactory)
        return factory(request) is request.session is factory(request)

    engine = create_engine(sqlite.url)
    assert serve(configurator(engine), ask=ask).get("/ask").json is True


# ---- your own model


def round_trip(engine: Engine, model: Any) -> dict[str, Any]:
    """The row of a session that was used, changed and read through a model."""
    model.metadata.create_all(engine)
    app = serve(configurator(engine, {"sqlsession.model": model}, create=False), count=count)
    assert [app.get("/count").json for _ in range(3)] == [1, 2, 3]
    (row,) = rows(engine, model.__table__)
    return row


def test_a_model_with_another_table_name_and_columns_of_its_own(engine: Engine, base: Any) -> None:
    class Visit(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        __tablename__ = "visit"
        id: Mapped[bytes] = mapped_column("handle", ID, primary_key=True)
        data: Mapped[bytes] = mapped_column("payload", DATA)
        version: Mapped[int] = mapped_column("v", BigInteger)
        user_id: Mapped[int | None] = mapped_column(Integer)
        color: Mapped[str] = mapped_column(String(10), default="blue")
        writes: Mapped[str] = mapped_column(String(10), default="none", onupdate="some")

    row = round_trip(engine, Visit)
    assert (row["payload"], row["v"]) == (b'{"n":3}', 3)
    assert (row["color"], row["writes"]) == ("blue", "some")


def test_a_model_in_a_schema(postgresql: Backend, base: Any) -> None:
    class InSchema(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        __table_args__ = ({"schema": "web"},)

    engine = create_engine(postgresql.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA web")
    assert round_trip(engine, InSchema)["version"] == 3
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE web.sqlsession")
    with pytest.raises(SessionTableError, match=r"'web.sqlsession' is missing"):
        serve(configurator(engine, {"sqlsession.model": InSchema}, create=False), count=count).get(
            "/count"
        )
    engine.dispose()


def test_a_model_with_text_data(engine: Engine, base: Any) -> None:
    class TextRow(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        data: Mapped[str] = mapped_column(Text)

    assert round_trip(engine, TextRow)["data"] == '{"n":3}'


def test_a_model_with_json_data_can_be_queried(engine: Engine, base: Any) -> None:
    class JSONRow(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        data: Mapped[Any] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))

    assert round_trip(engine, JSONRow)["data"] == {"n": 3}
    with Session(engine) as session:
        query = select(JSONRow).where(JSONRow.data["n"].as_integer() == 3)
        assert session.scalars(query).one().version == 3


def test_a_model_on_a_base_made_the_old_way(sqlite: Backend) -> None:
    engine, old_base = create_engine(sqlite.url), declarative_base()

    class Old(SessionMixin, old_base):  # type: ignore[misc, valid-type]  # a base of the test
        pass

    assert round_trip(engine, Old)["version"] == 3
    old_base.registry.dispose()
    engine.dispose()


def test_the_only_model_of_the_process_is_found_by_itself(
    monkeypatch: pytest.MonkeyPatch, base: Any
) -> None:
    monkeypatch.setattr("pyramid_sqlsession.table.model._mapped", lambda cls: iter([]))
    assert resolve_model(None) is SQLSessionRow
    monkeypatch.undo()
    assert resolve_model(None) is SessionRow

    class Second(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        pass

    class Third(Second):
        pass

    with pytest.raises(ConfigurationError) as caught:
        resolve_model(None)
    message = str(caught.value)
    assert "several models use SessionMixin" in message
    assert "support.apps.SessionRow" in message
    assert "Second" in message
    assert "sqlsession.model" in message
    assert resolve_model(Second) is Second


def test_a_class_that_is_no_session_model_is_an_error() -> None:
    class NotMapped(SessionMixin):
        pass

    mappers = registry()

    @mappers.mapped
    class NotOurs:
        __tablename__ = "not_ours"
        id: Mapped[int] = mapped_column(primary_key=True)

    for wrong in (NotMapped, NotOurs, "support.apps.Clock", 5):
        with pytest.raises(ConfigurationError, match="a mapped class based on"):
            resolve_model(wrong)
    mappers.dispose()


def test_a_model_is_named_in_the_ini_file(sqlite: Backend) -> None:
    engine = create_engine(sqlite.url)
    app = cookiecutter(engine, settings={"sqlsession.model": "support.apps.SessionRow"})
    assert app.get("/count").json == 1
    engine.dispose()


# ---- how much


def test_a_visitor_without_a_cookie_costs_no_query(engine: Engine) -> None:
    app = cookiecutter(engine)
    with statements(engine) as seen:
        response = app.get("/read")
    assert seen == []
    assert session_cookies(response) == []


def test_a_read_costs_one_select_and_a_change_one_select_and_one_update(engine: Engine) -> None:
    app = cookiecutter(engine)
    with statements(engine) as seen:
        app.get("/count")
    assert [statement.split()[0] for statement in seen] == ["INSERT"]
    with statements(engine) as seen:
        app.get("/read")
    assert [statement.split()[0] for statement in seen] == ["SELECT"]
    with statements(engine) as seen:
        app.get("/count")
    assert [statement.split()[0] for statement in seen] == ["SELECT", "UPDATE"]


@pytest.mark.parametrize("name", ["pool_pre_ping", "hide_parameters"])
def test_the_text_false_is_false_for_an_engine_too(sqlite: Backend, name: str) -> None:
    """SQLAlchemy takes it for true: it knows the types of a few of its options only."""
    app = own(sqlite.url, **{f"sqlalchemy.{name}": "false"})
    factory: Any = app.app.registry.getUtility(ISessionFactory)
    engine = factory._store.database.engine(None)
    assert not (engine.pool._pre_ping if name == "pool_pre_ping" else engine.hide_parameters)


def test_an_option_of_the_engine_that_is_neither_true_nor_false_is_an_error() -> None:
    with pytest.raises(
        ConfigurationError, match=r"pool_pre_ping = 'maybe' is not valid: expected true or"
    ):
        own_configurator(
            "sqlite:///x", {"sqlsession.sqlalchemy.pool_pre_ping": "maybe"}
        ).make_wsgi_app()


def test_a_commit_that_fails_leaves_no_lock_behind(sqlite: Backend) -> None:
    """SQLAlchemy takes the transaction for ended; SQLite keeps it, and its lock."""
    engine = create_engine(sqlite.url, isolation_level="AUTOCOMMIT", connect_args={"timeout": 0})
    listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE p (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE k (p INTEGER REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)"
        )
    with connect(engine, "SERIALIZABLE") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("INSERT INTO k VALUES (5)")
        with pytest.raises(IntegrityError):
            commit(connection)
    for other in (engine, create_engine(sqlite.url, connect_args={"timeout": 0})):
        with other.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.rollback()


def test_a_connection_that_takes_no_level_does_not_stay_open(sqlite: Backend) -> None:
    engine = create_engine(sqlite.url)
    with pytest.raises(ArgumentError):
        connect(engine, "NO SUCH LEVEL")
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a QueuePool's


def test_a_connection_that_cannot_roll_back_is_not_used_again(mariadb: Backend) -> None:
    with create_engine(mariadb.url).connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.close()
        roll_back(connection)
        assert connection.invalidated
        roll_back(connection)


def test_sessions_are_listed_as_the_transaction_left_them(backend: Backend) -> None:
    def sign_in(request: Any) -> None:
        request.session["auth.userid"] = "alice"

    def leave(request: Any) -> Any:
        ended = request.sqlsessions.revoke_user("alice")
        return [ended, len(request.sqlsessions.of_user("alice"))]

    app = serve(own_configurator(backend.url), sign_in=sign_in, leave=leave)
    app.get("/sign_in")
    assert app.get("/leave").json == [1, 0]


def test_a_conflict_does_not_end_a_transaction_around_the_requests(mariadb: Backend) -> None:
    with create_engine(mariadb.url).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE outside (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO outside VALUES (1)")
        with pytest.raises(SessionConflict), connection.begin_nested(), giving_up(connection):
            raise SessionConflict("another request was faster")
        assert connection.exec_driver_sql("SELECT n FROM outside").scalar() == 1


@pytest.mark.parametrize("way", ["dbsession", "own"])
@pytest.mark.parametrize("first", ["count", "read", "write"])
def test_a_table_that_was_dropped_is_made_again_at_the_next_request(
    engine: Engine, backend: Backend, way: str, first: str
) -> None:
    def write(request: Any) -> None:
        # without a cookie nothing is read before
        request.session["n"] = 5

    views: Any = {"count": count, "read": read, "write": write}
    if way == "own":
        app = serve(own_configurator(backend.url), **views)
    else:
        settings = {"sqlsession.create_table": "true", "sqlsession.model": SQLSessionRow}
        app = serve(configurator(engine, settings, create=False), **views)
    assert app.get("/count").json == 1
    SQLSessionRow.__table__.drop(engine)  # type: ignore[attr-defined]
    if first == "write":
        app.reset()
    with pytest.raises(SessionTableError, match="'sqlsession' is missing"):
        app.get(f"/{first}")
    assert [app.get("/count").json for _ in range(2)] == [1, 2]
    # SQLite's PRAGMAs tell an old connection what was there before
    engine.dispose()
    assert len(inspect(engine).get_indexes("sqlsession")) == 3


@pytest.mark.parametrize("way", ["dbsession", "own"])
def test_it_is_not_made_again_where_nobody_has_asked_for_it(
    sqlite_engine: Engine, sqlite: Backend, way: str
) -> None:
    engine = sqlite_engine
    SQLSessionRow.__table__.create(engine)  # type: ignore[attr-defined]
    if way == "own":
        app = serve(own_configurator(sqlite.url, create_table="false"), count=count)
    else:
        given = {"sqlsession.model": SQLSessionRow}
        app = serve(configurator(engine, given, create=False), count=count)
    assert app.get("/count").json == 1
    SQLSessionRow.__table__.drop(engine)  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(SessionTableError, match="'sqlsession' is missing"):
            app.get("/count")
    assert inspect(engine).get_table_names() == []


# ---- snapshot isolation, the default from MariaDB 11.6 on


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({"way": "dbsession"}, "conflict"),
        ({"way": "dbsession", "retry": True}, 2),
        ({"way": "dbsession", "level": "READ COMMITTED"}, 1),
        ({"way": "own"}, 1),
    ],
    ids=["repeatable-read", "retry", "read-committed", "own"],
)
@pytest.mark.parametrize(
    "meanwhile",
    ["last_seen = last_seen + 1", """version = version + 1, data = '{"b":1}'"""],
    ids=["touch", "write"],
)
def test_under_snapshot_isolation_a_request_is_run_again_or_merged(
    mariadb: Backend, options: dict[str, Any], outcome: Any, meanwhile: str
) -> None:
    isolated = {"init_command": "SET innodb_snapshot_isolation = ON"}
    url = make_url(mariadb.url).update_query_dict(isolated).render_as_string(hide_password=False)
    other, runs = create_engine(mariadb.url), []

    def change(request: Any) -> None:
        request.session.get("b")
        runs.append(1)
        if len(runs) == 1:
            with other.begin() as connection:
                connection.exec_driver_sql(f"UPDATE sqlsession SET {meanwhile}")
        request.session["a"] = 1

    Base.metadata.create_all(other)
    retry = options.get("retry", False)
    if options["way"] == "own":
        config = own_configurator(url, model=SessionRow, retry=retry)
    else:
        level = options.get("level", "REPEATABLE READ")
        config = configurator(create_engine(url, isolation_level=level), retry=retry)
    app = serve(config, count=count, change=change)
    app.get("/count")
    if outcome == "conflict":
        with pytest.raises(SessionConflict, match="1020"):
            app.get("/change")
        return
    app.get("/change")
    assert len(runs) == outcome
    (row,) = rows(other)
    kept = {"n": 1} if meanwhile.startswith("last_seen") else {"b": 1}
    assert json.loads(row["data"]) == {"a": 1, **kept}
