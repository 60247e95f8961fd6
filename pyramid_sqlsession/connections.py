"""What is done with connections, whosever they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, Table, inspect
from sqlalchemy.exc import DBAPIError

_HARDLY = 50
"""Milliseconds."""


def create_table(table: Table, bind: Engine | Connection) -> None:
    """Create the table and its indexes unless they exist."""
    try:
        table.create(bind, checkfirst=True)
    except DBAPIError:
        # another process may have been faster
        if not inspect(bind).has_table(table.name, schema=table.schema):
            raise


def connect(engine: Engine, isolation_level: str) -> Connection:
    """A connection of the engine's pool, at this isolation level."""
    connection = engine.connect()
    try:
        return connection.execution_options(isolation_level=isolation_level)
    except BaseException:
        # SQLAlchemy does not look into errors of this: a dead connection would stay in the pool
        connection.invalidate()
        connection.close()
        raise


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


def is_open(connection: Connection) -> bool:
    """Whether somebody has begun a transaction on the driver's connection."""
    # the driver's word: SQLAlchemy knows of the transactions of this Connection object only
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


def in_transaction(connection: Connection) -> AbstractContextManager[Any]:
    """A transaction, unless there is one."""
    # a transaction that is open belongs to whoever bound the session to this connection
    return nullcontext() if connection.in_transaction() else connection.begin()
