"""Reads on an engine of its own: on the driver's cursor where nobody can tell."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import ClientCursor, Cursor
from psycopg.pq import Format
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Connection, Engine, LargeBinary, Text, TypeDecorator, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support.apps import listening, own_configurator, put, serve, show, statements
from support.servers import Backend, MariaDB, MySQL, PostgreSQL, Server, serving

from pyramid_sqlsession import SessionConflict, SessionMixin, SessionTableError
from pyramid_sqlsession.database.reader import Reader
from pyramid_sqlsession.table.rows import Rows

ID = bytes(range(32))
VALUES = {
    "lineage": bytes(range(16)),
    "created": 2**33,
    "user_id": "alice",
    "data": b'{"n":1}',
    "last_seen": 2**33 + 1,
    "max_age": 60,
    "purge_after": 2**33 + 2,
}
DRIVERS = {
    "psycopg": ("postgresql", "postgresql+psycopg"),
    "pymysql": ("mariadb", "mysql+pymysql"),
    "mysqldb": ("mariadb", "mysql+mysqldb"),
    "pymysql-mysql": ("mysql", "mysql+pymysql"),
    "mysqldb-mysql": ("mysql", "mysql+mysqldb"),
    "sqlite": ("sqlite", "sqlite"),
}


class Marked(TypeDecorator[bytes]):
    """Bytes that are stored with a mark before them."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> bytes:
        return bytes(b"mark" + value)

    def process_result_value(self, value: Any, dialect: Any) -> bytes:
        return bytes(value[4:])


class Stored:
    """A table with one row, on an engine in AUTOCOMMIT."""

    def __init__(self, url: str, model: Any, **connect_args: Any) -> None:
        self.engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args=connect_args)
        self.table = model.__table__
        self.rows = Rows(model)
        self.reader = Reader(self.engine, self.rows)
        self.table.create(self.engine)
        with self.engine.connect() as connection:
            self.rows.insert(connection, ID, VALUES, {})


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database, with each driver."""
    if request.param == "mysqldb":
        pytest.importorskip("MySQLdb")
    kind, driver = DRIVERS[request.param]
    backend: Backend = request.getfixturevalue(kind)
    return backend.with_driver(driver)


@pytest.fixture
def model(base: type[DeclarativeBase]) -> Any:
    class Model(SessionMixin, base):  # type: ignore[valid-type, misc]  # a base made for the test
        pass

    return Model


@contextmanager
def connections(engine: Engine) -> Iterator[list[Connection]]:
    """SQLAlchemy's connections that are opened meanwhile."""
    seen: list[Connection] = []

    def remember(connection: Connection) -> None:
        seen.append(connection)

    with listening(engine, "engine_connect", remember):
        yield seen


def test_a_row_is_the_same_whichever_way_it_is_read(url: str, model: Any) -> None:
    stored = Stored(url, model)
    with connections(stored.engine) as opened:
        quick = stored.reader.load(ID)
        assert stored.reader.load(bytes(32)) is None
    assert opened == []
    with stored.engine.connect() as connection:
        slow = stored.rows.load(connection, ID)
    assert quick == slow
    assert quick is not None
    assert {**vars(quick), **quick.times._asdict()}.items() >= VALUES.items()
    assert isinstance(quick.data, bytes)


@pytest.mark.parametrize(
    ("timeout", "error"), [("lock_timeout", SessionConflict), ("statement_timeout", DBAPIError)]
)
def test_a_read_that_has_waited_in_vain_does_not_wait_again(
    postgresql: Backend, model: Any, timeout: str, error: type[Exception]
) -> None:
    stored = Stored(f"{postgresql.url}?options=-c {timeout}=200", model)
    with create_engine(postgresql.url).begin() as other, connections(stored.engine) as opened:
        other.exec_driver_sql(f"LOCK TABLE {stored.table.name}")
        with pytest.raises(error):
            stored.reader.load(ID)
        assert opened == []
    assert stored.reader.load(ID) is not None


def test_whoever_listens_to_statements_hears_a_read(sqlite: Backend, model: Any) -> None:
    stored = Stored(sqlite.url, model)
    with statements(stored.engine) as seen:
        stored.reader.load(ID)
    assert [statement.partition(" ")[0] for statement in seen] == ["SELECT"]


def test_a_read_is_in_the_log_of_statements(
    sqlite: Backend, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stored = Stored(sqlite.url, model)
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        stored.reader.load(ID)
    assert any("SELECT" in message for message in caplog.messages)


def test_a_text_of_a_type_that_the_driver_does_not_know_stays_a_text(
    postgresql: Backend, model: Any
) -> None:
    stored = Stored(postgresql.url, model)
    with stored.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TYPE users AS ENUM ('alice')")
        connection.exec_driver_sql(
            f"ALTER TABLE {stored.table.name} ALTER user_id TYPE users USING user_id::text::users"
        )
    stored.engine.dispose()
    for _ in range(2):
        found = stored.reader.load(ID)
        assert found is not None
        assert (found.user_id, found.data) == (VALUES["user_id"], VALUES["data"])


class LoggingCursor(Cursor[Any]):
    """A cursor whose method takes what the DB-API says, and no more."""

    def execute(self, query: Any, params: Any = None) -> Any:  # type: ignore[override]
        return super().execute(query, params)


@pytest.mark.parametrize("cursor_factory", [ClientCursor, LoggingCursor])
def test_whatever_cursors_are_chosen_reads_keep_their_connection(
    postgresql: Backend, model: Any, cursor_factory: Any
) -> None:
    stored = Stored(postgresql.url, model, cursor_factory=cursor_factory)
    stored.reader.load(ID)
    seen: list[Any] = []
    with listening(stored.engine, "connect", lambda *given: seen.append(given)):
        found = [stored.reader.load(ID) for _ in range(3)]
    assert [each and each.data for each in found] == [VALUES["data"]] * 3
    assert seen == []


def test_an_altered_table_is_read_at_once_and_still_in_binary_form(
    postgresql: Backend, model: Any
) -> None:
    stored = Stored(postgresql.url, model)
    held = []
    for _ in range(3):
        for _ in range(10):
            # psycopg prepares it meanwhile, and the server refuses to change what that returns
            stored.reader.load(ID)
        held.append(stored.engine.raw_connection())
    for connection in held:
        connection.close()
    with create_engine(postgresql.url).begin() as other:
        other.exec_driver_sql(f"ALTER TABLE {stored.table.name} ALTER user_id TYPE text")
    for _ in range(4):
        found = stored.reader.load(ID)
        assert found is not None
        assert found.user_id == VALUES["user_id"]
    formats = {result.fformat(0) for result in results_kept_by_cursors(stored.table.name)}
    assert formats == {Format.BINARY}


@pytest.mark.parametrize(
    "large", [{"data": b"x" * 1_000_000}, {"user_id": "x" * 1_000_000}], ids=["data", "user_id"]
)
def test_no_large_session_stays_with_an_idle_connection(
    postgresql: Backend, base: type[DeclarativeBase], large: dict[str, Any]
) -> None:
    class Model(SessionMixin, base):  # type: ignore[valid-type, misc]  # a base made for the test
        user_id: Mapped[str | None] = mapped_column(Text)

    stored = Stored(postgresql.url, Model)
    other = bytes(range(1, 33))
    with stored.engine.connect() as connection:
        stored.rows.insert(connection, other, {**VALUES, **large}, {})
    kept = []
    for id in (ID, other, ID):
        assert stored.reader.load(id) is not None
        kept.append(len(results_kept_by_cursors(stored.table.name)))
    assert kept == [1, 0, 1]


def results_kept_by_cursors(table: str) -> list[Any]:
    """The results of reads that cursors still hold."""
    gc.collect()
    cursors = [each for each in gc.get_objects() if isinstance(each, Cursor)]
    of_table = [each for each in cursors if each._query and table.encode() in each._query.query]
    return [each.pgresult for each in of_table if each.pgresult and each.pgresult.ntuples]


def test_a_type_of_the_applications_own_reads_its_values(
    sqlite: Backend, base: type[DeclarativeBase]
) -> None:
    class Model(SessionMixin, base):  # type: ignore[valid-type, misc]  # a base made for the test
        data: Mapped[Any] = mapped_column(Marked)

    found = Stored(sqlite.url, Model).reader.load(ID)
    assert found is not None
    assert found.data == VALUES["data"]


def test_a_read_that_fails_is_sqlalchemys_error_and_leaves_nothing_behind(
    url: str, model: Any
) -> None:
    stored = Stored(url, model)
    stored.table.drop(stored.engine)
    with pytest.raises(SessionTableError, match="is missing"):
        stored.reader.load(ID)
    stored.table.create(stored.engine)
    assert stored.reader.load(ID) is None


def test_a_read_leaves_no_connection_open(url: str, model: Any) -> None:
    stored = Stored(url, model)
    stored.reader.load(ID)
    assert stored.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a QueuePool's


@pytest.fixture(
    scope="module", params=[PostgreSQL, MariaDB, MySQL], ids=["postgresql", "mariadb", "mysql"]
)
def mortal(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for tests that kill it."""
    with serving(request.param) as server:
        yield server


@pytest.mark.parametrize("is_listened_to", [False, True])
def test_no_visitor_notices_that_the_database_was_started_again(
    mortal: Server, is_listened_to: bool
) -> None:
    with mortal.database() as url:
        app = serve(own_configurator(url), put=put, show=show)
        app.get("/put")
        engine = engine_of(app)
        for connection in [engine.raw_connection() for _ in range(3)]:
            connection.close()
        mortal.kill()
        mortal.start()
        if is_listened_to:
            with statements(engine):
                assert app.get("/show").json == {"cart": [1]}
        assert app.get("/show").json == {"cart": [1]}


def engine_of(app: Any) -> Engine:
    engine: Engine = app.app.registry.getUtility(ISessionFactory)._store.database.engine(None)
    return engine


def test_a_pool_that_is_used_up_is_waited_for_once(
    sqlite: Backend, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stored(sqlite.url, model)
    engine = create_engine(sqlite.url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    reader = Reader(engine, Rows(model))
    monkeypatch.setattr(engine, "connect", lambda: pytest.fail("it waits once more"))
    held = engine.raw_connection()
    with pytest.raises(PoolTimeout):
        reader.load(ID)
    held.close()
    engine.dispose()


def test_a_schema_that_the_engine_translates_is_read_from(sqlite: Backend, model: Any) -> None:
    stored = Stored(sqlite.url, model)
    options = {"schema_translate_map": {None: "main"}}
    engine = create_engine(sqlite.url, execution_options=options)
    with connections(engine) as opened:
        assert Reader(engine, stored.rows).load(ID) is not None
    assert len(opened) == 1
