"""Short transactions beside those of the requests.

They set the isolation level on the driver's own connection, below SQLAlchemy, for one transaction
each. SQLAlchemy would reset a level that the application's ``connect`` listener has chosen, and
would call a ``begin`` listener first, when it is too late to choose a level. This way a connection
returns to its pool unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from .connections import commit, end

_HARDLY = 50
"""Milliseconds."""

_TIMEOUTS = ("lock_wait_timeout", "innodb_lock_wait_timeout")


def touching(engine: Engine) -> AbstractContextManager[Connection]:
    """A connection in a transaction that waits for no lock of a row or table; committed at the end.

    :raises DBAPIError: if something is locked, or if the database cannot be reached.
    """
    return _connected(engine, waits=False)


def maintaining(engine: Engine) -> AbstractContextManager[Connection]:
    """A connection in a transaction for work outside of requests, which is committed at the end.

    :raises DBAPIError: if the database cannot be reached.
    """
    return _connected(engine, waits=True)


@contextmanager
def _connected(engine: Engine, *, waits: bool) -> Iterator[Connection]:
    begun = _BEGUN.get(engine.dialect.name)
    if begun is None:
        # an unknown database: begin as SQLAlchemy does
        with engine.begin() as connection:
            yield connection
        return
    with engine.connect() as connection, begun(connection, waits=waits):
        yield connection


@contextmanager
def _on_postgresql(connection: Connection, *, waits: bool) -> Iterator[None]:
    # above READ COMMITTED two touches of a row make each other fail, and others too
    level = "ISOLATION LEVEL READ COMMITTED"
    commits_by_itself = bool(_driver(connection).autocommit)
    _tell(connection, f"BEGIN {level}" if commits_by_itself else f"SET TRANSACTION {level}")
    if not waits:
        _tell(connection, f"SET LOCAL lock_timeout = {_HARDLY}")
    if not commits_by_itself:
        yield
        commit(connection)
        return
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            _tell(connection, "ROLLBACK")
        raise
    _tell(connection, "COMMIT")


@contextmanager
def _on_mysql(connection: Connection, *, waits: bool) -> Iterator[None]:
    # above READ COMMITTED the gaps between rows are locked too
    if waits:
        with _begun_on_mysql(connection):
            yield
        return
    found = _tell(connection, f"SELECT {', '.join(f'@@{name}' for name in _TIMEOUTS)}")
    # MySQL takes nothing below a second; without one for rows MariaDB forgets SKIP LOCKED
    shortest = 0 if getattr(connection.dialect, "is_mariadb", False) else 1
    _tell(connection, _set_timeouts(shortest, 1))
    try:
        with _begun_on_mysql(connection):
            yield
    finally:
        if not connection.invalidated:
            _tell(connection, _set_timeouts(*found))


@contextmanager
def _begun_on_mysql(connection: Connection) -> Iterator[None]:
    _tell(connection, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    _tell(connection, "START TRANSACTION")
    try:
        yield
    except BaseException:
        end(connection)
        raise
    commit(connection)


def _set_timeouts(*seconds: int) -> str:
    values = (f"{name} = {value}" for name, value in zip(_TIMEOUTS, seconds, strict=True))
    return f"SET SESSION {', '.join(values)}"


@contextmanager
def _on_sqlite(connection: Connection, *, waits: bool) -> Iterator[None]:
    driver = _driver(connection)
    (patience,) = driver.execute("PRAGMA busy_timeout").fetchone()
    if not waits:
        driver.execute(f"PRAGMA busy_timeout = {min(patience, _HARDLY)}")
    try:
        # here an application's listener may execute BEGIN
        connection.begin()
        if driver.isolation_level is None and not driver.in_transaction:
            driver.execute("BEGIN")
        yield
        commit(connection)
    except BaseException:
        end(connection)
        raise
    finally:
        if not connection.invalidated:
            driver.execute(f"PRAGMA busy_timeout = {patience}")


_BEGUN = {
    "postgresql": _on_postgresql,
    "mysql": _on_mysql,
    "mariadb": _on_mysql,
    "sqlite": _on_sqlite,
}


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _tell(connection: Connection, statement: str) -> Any:
    """Execute a statement on the driver's connection; the first row of a SELECT.

    :raises DBAPIError: if that fails; the connection is removed from its pool.
    """
    try:
        with closing(_driver(connection).cursor()) as cursor:
            cursor.execute(statement)
            return cursor.fetchall()[0] if statement.startswith("SELECT") else None
    except Exception as error:
        connection.invalidate(error)
        raise DBAPIError(statement, None, error, connection_invalidated=True) from error
