"""What is done with connections, whosever they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, event

from ..driver_errors import MYSQL
from ..exceptions import SessionConflict, SessionDataError


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


def roll_back(connection: Connection) -> None:
    """End what the driver's connection has begun, where SQLAlchemy may not know of it.

    Nothing is raised. Galera answers the first ``ROLLBACK`` of a transaction that it has rolled
    back by itself with a deadlock, and an error while pyramid_tm aborts is one that is not run
    again.
    """
    if connection.dialect.name in MYSQL:
        end(connection)


def end(connection: Connection) -> None:
    """Roll back what the driver's connection has begun, or give the connection up.

    Nothing is raised.
    """
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
        end(connection)
        raise


@contextmanager
def dooming(transaction: Any) -> Iterator[None]:
    """After a failed statement a COMMIT may report success and store nothing."""
    try:
        yield
    except SessionDataError:
        raise
    except Exception:
        if transaction is not None:
            transaction.doom()
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
