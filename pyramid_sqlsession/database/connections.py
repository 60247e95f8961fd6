"""What is done with connections, whosever they are."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Table, event, inspect
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from ..driver_errors import MYSQL
from ..exceptions import SessionConflict

_HARDLY = 50
"""Milliseconds."""

_POLL = "pyramid_sqlsession poll"


def create_table(table: Table, bind: Engine | Connection) -> None:
    """Create the table and its indexes unless they exist."""
    try:
        table.create(bind, checkfirst=True)
    except DBAPIError:
        # another process may have been faster
        if not inspect(bind).has_table(table.name, schema=table.schema):
            raise


def notice_closed_ones(engine: Engine) -> None:
    """Let the engine's pool replace connections that the server has closed, without asking it.

    An idle connection has nothing to say, but that it was closed: the server was started again, or
    an administrator has ended it. It costs one system call and no round trip, and whoever says
    something else is merely replaced too.
    """

    def notice(dbapi_connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        # emptied when the pool connects anew: a new connection is not looked at
        poll = record.info.get(_POLL)
        if poll is None:
            record.info[_POLL] = _poll_of(dbapi_connection)
        elif poll.poll(0):
            raise InvalidatePoolError("the server has closed an idle connection")

    if hasattr(select, "poll"):
        event.listen(engine, "checkout", notice)


def _poll_of(dbapi_connection: Any) -> Any:
    """What tells whether there is something to read; no word if the driver hides its socket."""
    poll = select.poll()
    # PyMySQL has it in an attribute that is not public, and there is no other way
    fileno = getattr(getattr(dbapi_connection, "_sock", dbapi_connection), "fileno", None)
    if fileno is not None:
        poll.register(fileno(), select.POLLIN)
    return poll


def connect(engine: Engine, isolation_level: str) -> Connection:
    """A connection of the engine's pool, whose transactions are at this isolation level."""
    connection = engine.connect()
    if engine.dialect.name in MYSQL:
        # SQLAlchemy would ask the server to switch there and back, in four round trips, and does
        # not look into errors of that: a connection that died would never leave the pool
        event.listen(connection, "begin", partial(_begin, isolation_level))
        event.listen(connection, "rollback", roll_back)
        return connection
    try:
        return connection.execution_options(isolation_level=isolation_level)
    except BaseException:
        # SQLAlchemy does not look into errors of this: a dead connection would stay in the pool
        connection.invalidate()
        connection.close()
        raise


def _begin(isolation_level: str, connection: Connection) -> None:
    connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {isolation_level}")
    connection.exec_driver_sql("START TRANSACTION")


@contextmanager
def hardly_waiting(connection: Connection) -> Iterator[None]:
    """Let SQLite give up at once, nearly, where another connection is writing."""
    if connection.dialect.name != "sqlite":
        yield
        return
    # below SQLAlchemy, which would begin a transaction
    raw: Any = connection.connection.dbapi_connection
    (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
    raw.execute(f"PRAGMA busy_timeout = {min(patience, _HARDLY)}")
    try:
        yield
    finally:
        raw.execute(f"PRAGMA busy_timeout = {patience}")


@contextmanager
def maintaining(engine: Engine) -> Iterator[Connection]:
    """A connection for work outside of requests, at an isolation level that disturbs them least."""
    if engine.dialect.name == "sqlite":
        opened = engine.connect()
    else:
        # above it MariaDB locks the gaps between rows, and PostgreSQL lets bystanders fail
        opened = connect(engine, "READ COMMITTED")
    with opened as connection:
        yield connection


def roll_back(connection: Connection) -> None:
    """End what the driver's connection has begun, where SQLAlchemy may not know of it.

    Nothing is raised. Galera answers the first ``ROLLBACK`` of a transaction that it has rolled
    back by itself with a deadlock, and an error while pyramid_tm aborts is one that is not run
    again.
    """
    if connection.dialect.name in MYSQL:
        _end(connection)


def _end(connection: Connection) -> None:
    if connection.closed or connection.invalidated:
        return
    try:
        connection.connection.rollback()
    except Exception as error:  # noqa: BLE001  # the server rolls back when a connection ends
        connection.invalidate(error)


def commit(connection: Connection) -> None:
    """Commit; where that fails, leave nothing that the connection's next user would commit."""
    try:
        connection.commit()
    except BaseException:
        # SQLAlchemy takes the transaction for ended, which SQLite does not
        _end(connection)
        raise


@contextmanager
def giving_up(connection: Connection) -> Iterator[None]:
    """Let go of every lock at a conflict, which is the end of the transaction anyway."""
    try:
        yield
    except SessionConflict:
        # around a savepoint there is a transaction that is not the request's, in tests for instance
        if not connection.in_nested_transaction():
            roll_back(connection)
        raise


def is_open(connection: Connection) -> bool:
    """Whether somebody has begun a transaction on the driver's connection."""
    # the driver's word: SQLAlchemy knows of the transactions of this Connection object only
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


def in_transaction(connection: Connection) -> AbstractContextManager[Any]:
    """A transaction, unless there is one."""
    # a transaction that is open belongs to whoever bound the session to this connection
    return nullcontext() if connection.in_transaction() else connection.begin()
