"""Statements that are compiled once: they do what SQLAlchemy would do with them each time."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    Enum,
    Integer,
    TypeDecorator,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateSchema
from support.apps import TABLE, SessionRow, listening
from support.places import BY_DRIVER, Place, in_places
from support.servers import Backend

from pyramid_sqlsession import SessionMixin
from pyramid_sqlsession.table.compiled import compiled
from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.rows import Rows

ID, OTHER = bytes(range(32)), bytes(range(1, 33))
TEXT = b'{"text":"%s %% ? :x \\u0000"}'
VALUES = {
    "lineage": bytes(range(16)),
    "created": 2**33,
    "user_id": "al%ice",
    "data": TEXT,
    "last_seen": 2**33 + 1,
    "max_age": None,
    "purge_after": 2**33 + 2,
}
WRITTEN = {**VALUES, "data": TEXT * 2, "max_age": 60, "last_seen": 2**33 + 5}
UPDATED = {name: WRITTEN[name] for name in ("data", "last_seen", "max_age", "purge_after")}
MARKED = {**UPDATED, "lineage": bytes(16), "user_id": None, "replaced": 2**33 + 6}


def write_in_every_way(connection: Connection, rows: Rows) -> list[bool]:
    """Execute everything that changes one row; returns what each told."""
    for id in (ID, OTHER):
        rows.insert(connection, id, VALUES, {})
    told = [rows.update(connection, ID, 1, UPDATED, {}) for _ in range(2)]
    record = rows.load(connection, ID)
    assert record is not None
    told += [rows.touch(connection, ID, record, 2**33 + 9, 2**33 + 99) for _ in range(2)]
    rows.rewrite(connection, ID, 2, TEXT)
    told.append(rows.mark(connection, OTHER, 1, MARKED))
    told.append(rows.bump(connection, OTHER, 2))
    rows.note_told(connection, OTHER, 3)
    told.append(rows.is_live(connection, ID))
    return told


@in_places(BY_DRIVER)
def test_a_row_becomes_the_same_whether_or_not_somebody_listens(place: Place) -> None:
    rows, seen = Rows(SessionRow), []
    for is_observed in (False, True):
        with ExitStack() as stack:
            if is_observed:
                stack.enter_context(listening(place.engine, "after_cursor_execute", print))
            connection = stack.enter_context(place.engine.begin())
            told = write_in_every_way(connection, rows)
            found = connection.execute(select(TABLE).order_by(TABLE.c.version)).mappings().all()
            seen.append((told, [dict(row) for row in found]))
            connection.execute(TABLE.delete())
    assert seen[0] == seen[1]
    assert seen[0][0] == [True, False, True, False, True, True, True]


@pytest.fixture
def connection(sqlite: Backend) -> Iterator[Connection]:
    """An open connection to SQLite, with the table."""
    engine = create_engine(sqlite.url)
    TABLE.create(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def sent(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that reach the driver as they were compiled."""
    seen: list[str] = []
    send = Connection.exec_driver_sql

    def note(self: Connection, statement: str, *given: Any) -> Any:
        seen.append(statement)
        return send(self, statement, *given)

    monkeypatch.setattr(Connection, "exec_driver_sql", note)
    return seen


def change(connection: Connection) -> None:
    """Execute an UPDATE, and a SELECT because nothing is there."""
    Rows(SessionRow).bump(connection, ID, 1)


def test_a_statement_that_nobody_observes_is_not_compiled_again(
    connection: Connection, sent: list[str]
) -> None:
    change(connection)
    assert [statement.partition(" ")[0] for statement in sent] == ["UPDATE"]


@pytest.mark.parametrize("on", ["engine", "every engine", "connection", "every connection"])
@pytest.mark.parametrize(
    "name", ["before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute"]
)
def test_whoever_listens_sees_the_statement_itself(
    connection: Connection, sent: list[str], name: str, on: str
) -> None:
    seen: list[Any] = []

    def listen(_connection: Any, *given: Any) -> None:
        statement = given[0] if len(given) < 5 or name == "after_execute" else given[3].compiled
        seen.append(getattr(statement, "statement", statement))

    target = {
        "engine": connection.engine,
        "every engine": Engine,
        "connection": connection,
        "every connection": Connection,
    }[on]
    with listening(target, name, listen), connection.engine.connect() as other:
        change(connection if on == "connection" else other)
    assert (seen[0].is_dml, sent) == (True, [])


def test_whoever_executes_statements_himself_is_given_sqlalchemys_own(
    connection: Connection, sent: list[str]
) -> None:
    contexts: list[Any] = []
    with listening(connection.engine, "do_execute", lambda *given: contexts.append(given[3])):
        change(connection)
    assert (contexts[0].isupdate, sent) == (True, [])


def test_a_log_of_statements_shows_them_as_sqlalchemy_does(
    connection: Connection, sent: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "sqlalchemy.engine"),
        connection.engine.connect() as observed,
    ):
        change(observed)
    assert any("UPDATE" in message for message in caplog.messages)
    assert sent == []


def test_each_of_many_engines_compiles_a_statement_once(tmp_path: Any) -> None:
    rows = Rows(SessionRow)
    dialects = [create_engine(f"sqlite:///{tmp_path}/{number}").dialect for number in range(300)]
    first, again = ([compiled(rows.select, it) for it in dialects] for _ in range(2))
    assert all(one is other for one, other in zip(first, again, strict=True))


def test_an_engine_that_is_gone_is_not_kept() -> None:
    dialect = create_engine("sqlite://").dialect
    for statement in (Rows(SessionRow).select, Rows(SessionRow)._update(())):
        assert compiled(statement, dialect) is not None
    kept = weakref.ref(dialect)
    del dialect
    gc.collect()
    assert kept() is None


def test_rows_are_written_to_the_schema_that_the_connection_translates_to(
    postgresql: Backend,
) -> None:
    engine = create_engine(postgresql.url)
    options: dict[str, Any] = {"schema_translate_map": {None: "web"}}
    translated: Engine = engine.execution_options(**options)
    with translated.begin() as connection:
        connection.execute(CreateSchema("web"))
        SQLSessionRow.__table__.create(connection)  # type: ignore[attr-defined]  # a Table
        Rows(SQLSessionRow).insert(connection, ID, VALUES, {})
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM web.sqlsession").scalar() == 1
    engine.dispose()


class Own(TypeDecorator[int]):
    """A type that may do anything with a value."""

    impl = Integer
    cache_ok = True


def values() -> int:
    return 7


@pytest.fixture
def table(base: type[DeclarativeBase]) -> Any:
    """A table whose columns have defaults of every kind."""

    class Model(SessionMixin, base):  # type: ignore[valid-type, misc]  # a base made for the test
        computed: Mapped[int] = mapped_column(Integer, default=values)
        constant: Mapped[int] = mapped_column(Integer, default=7)
        by_server: Mapped[int] = mapped_column(Integer, server_default="7")
        in_sql: Mapped[int] = mapped_column(Integer, default=func.abs(-7))
        changed: Mapped[int] = mapped_column(Integer, default=0, onupdate=values)

    return Model.__table__


MADE: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "a default in Python": (lambda table: insert(table).values(id=ID), False),
    "defaults in SQL": (
        lambda table: insert(table).values(id=ID, computed=1, constant=2, changed=3),
        True,
    ),
    "a change in Python": (lambda table: update(table).values(computed=1), False),
    "a change that is given": (lambda table: update(table).values(changed=1), True),
    "a function": (
        lambda table: update(table).values(changed=bindparam(None, callable_=values)),
        False,
    ),
    "a type of the application's own": (
        lambda table: update(table).values(changed=bindparam("b_it", type_=Own())),
        False,
    ),
    "rows that come back": (
        lambda table: update(table).values(changed=1).returning(table.c.id),
        False,
    ),
    "a list of unknown length": (lambda table: select(table).where(table.c.id.in_([ID])), False),
    "one row": (lambda table: select(table).where(table.c.id == ID), True),
}


@pytest.mark.parametrize("what", MADE)
def test_a_statement_that_sqlalchemy_computes_something_for_is_not_compiled_once(
    connection: Connection, table: Any, what: str
) -> None:
    make, is_compiled = MADE[what]
    assert (compiled(make(table), connection.dialect) is not None) == is_compiled


@pytest.mark.parametrize("is_observed", [False, True])
def test_a_type_that_refuses_a_value_raises_sqlalchemys_error_without_the_data(
    connection: Connection, base: type[DeclarativeBase], is_observed: bool
) -> None:
    class Model(SessionMixin, base):  # type: ignore[valid-type, misc]  # a base made for the test
        user_id: Mapped[Any] = mapped_column(Enum("alice", validate_strings=True))

    if is_observed:
        event.listen(connection.engine, "before_execute", lambda *_given: None)
    with pytest.raises(StatementError, match=r"LookupError.* not among the defined") as error:
        Rows(Model).insert(connection, ID, VALUES, {})
    assert "text" not in str(error.value)


def test_a_value_that_is_missing_is_an_error_and_not_null(connection: Connection) -> None:
    statement = compiled(Rows(SessionRow).select, connection.dialect)
    assert statement is not None
    with pytest.raises(KeyError):
        statement.bound({})
