"""What the errors of database drivers mean."""

from __future__ import annotations

import re
from traceback import clear_frames
from typing import Any

from pyramid_tm import mark_error_retryable  # does nothing where pyramid_retry is not installed
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, StatementError

from .exceptions import SessionConflict, SessionTableError, see
from .watch import Watch

# the names of SQLAlchemy's dialects
MYSQL = ("mysql", "mariadb")

_NOWAIT = re.compile(r"\bNOWAIT\b", re.IGNORECASE)

# What the servers call their errors: PostgreSQL has a text, MySQL and MariaDB have a number.

# a lock that was not free in time (lock_timeout, innodb_lock_wait_timeout), or at once (NOWAIT)
_LOCKED = ("55P03", 1205)
# serialization failure, deadlock; record changed since last read, deadlock, table changed since the
# transaction began, certification by Group Replication (Galera's is a 1213)
_CONFLICTS = ("40001", "40P01", 1020, 1213, 1412, 3101, *_LOCKED)
# a COMMIT that failed: with InnoDB's error 149, a deadlock, it is a conflict too (Group
# Replication); a Galera node has lost its quorum else
_COMMIT_FAILED = 1180
_DEADLOCK = re.compile(r"\b149\b")
# a Galera node without its quorum: it refuses every statement, and ROLLBACK too, so that the
# connection would keep its locks; mariadb's of a connection that was reset, reading and writing
_UNUSABLE = (1047, _COMMIT_FAILED, 5013, 5014)
# mysql-connector's of a connection that it knows to be closed: SQLAlchemy waits for a full stop
_CLOSED = re.compile(r".*MySQL Connection not available$")

# query canceled; a SELECT that took too long, on MySQL, and a statement, on MariaDB
_TIMEOUTS = ("57014", 3024, 1969)
# a member of a group that was to wait until it knows what the others have committed
_WAITED_FOR_OTHERS = 3797
# what a prepared statement returns has changed, since the table was altered
_ALTERED = "0A000"
# read-only transaction; read_only, a read-only transaction, innodb_read_only
_READ_ONLY = ("25006", 1290, 1792, 1836)
# undefined table, undefined column; no such table, unknown column
_NO_TABLE = ("42P01", "42703", 1146, 1054)


def code(error: Any) -> str | int | None:
    """The server's code of a driver's error: the SQLSTATE on PostgreSQL, the number on MySQL.

    None on other databases, and for an error that did not come from the server.
    """
    first = next(iter(getattr(error, "args", ())), None)
    if isinstance(first, dict):
        # pg8000 hands on the fields of the server's message
        return first.get("C")
    # mariadb and mysql-connector say errno; with PyMySQL and mysqlclient it comes first
    number = getattr(error, "errno", first)
    if isinstance(number, int):
        return number
    # psycopg and asyncpg say sqlstate, psycopg2 says pgcode
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def _sqlite_says(error: Any, pattern: str) -> bool:
    return type(error).__module__ == "sqlite3" and re.match(pattern, str(error)) is not None


def is_conflict(error: BaseException | None) -> bool:
    """Whether a driver's error means that the transaction may succeed if it is run again."""
    return (
        code(error) in _CONFLICTS
        or (code(error) == _COMMIT_FAILED and _DEADLOCK.search(str(error)) is not None)
        or _sqlite_says(error, "database( table| schema)? is locked")
    )


def is_busy_sqlite(error: BaseException) -> bool:
    """Whether an error of SQLite, or its :class:`SessionConflict`, means that it is locked."""
    return any(
        _sqlite_says(getattr(one, "orig", one), "database( table| schema)? is locked")
        for one in (error, error.__cause__)
    )


def is_timeout(error: BaseException) -> bool:
    """Whether the server cancelled a statement because it took too long."""
    return code(getattr(error, "orig", None)) in _TIMEOUTS


def has_waited(error: BaseException) -> bool:
    """Whether a driver's own error means that something took too long."""
    return code(error) in (*_LOCKED, *_TIMEOUTS, _WAITED_FOR_OTHERS)


def is_outdated(error: BaseException) -> bool:
    """Whether a driver's own error means that a connection has prepared what is there no more."""
    return code(error) == _ALTERED


def refuses_writes(error: BaseException) -> bool:
    """Whether the database is read-only."""
    original = getattr(error, "orig", None)
    return code(original) in _READ_ONLY or _sqlite_says(
        original, "attempt to write a readonly database"
    )


def is_undecodable(error: BaseException) -> bool:
    """Whether SQLite read a text that is not UTF-8: it stores any bytes as text."""
    return _sqlite_says(getattr(error, "orig", None), "Could not decode to UTF-8")


def reason(error: BaseException) -> str:
    """The driver's message in one line, without the statement, its parameters and the row.

    The error's type if it has none.
    """
    original = getattr(error, "orig", None) or error
    first = next(iter(getattr(original, "args", ())), None)
    # pg8000 hands on the fields of the server's message, the row in its detail too
    said = first.get("M") if isinstance(first, dict) else original
    return str(said).partition("\n")[0] or type(original).__name__


def _is_missing_table(error: Any) -> bool:
    return code(error) in _NO_TABLE or _sqlite_says(
        error, "no such (table|column)|table .* has no column"
    )


def translated(table: str, remark: str = "") -> Watch:
    """Translate the errors of statements on the session table.

    :param remark: another possible reason why the table does not match.
    :raises SessionConflict: if the database reports a conflict with another transaction.
    :raises SessionTableError: if the table or one of its columns is missing.
    """
    return Watch(_translate, table, remark)


def _translate(error: BaseException, table: str, remark: str) -> None:
    # the parameters are a session's data, in the error's text and in SQLAlchemy's variables
    clear_frames(error.__traceback__)
    if isinstance(error, StatementError):
        error.hide_parameters = True
    if not isinstance(error, DBAPIError):
        return
    if is_conflict(error.orig):
        raise SessionConflict(f"database conflict: {reason(error)}") from error
    if _is_missing_table(error.orig):
        why = "; ".join(filter(None, (reason(error), remark)))
        raise SessionTableError(
            f"the session table {table!r} is missing or does not match its model ({why}). Create "
            "or change it with your migrations (Alembic); without migrations, set "
            "sqlsession.create_table = true or run: pyramid_sqlsession CONFIG_URI create-table "
            f"{see('trouble-table')}"
        ) from error


def _is_answer_to_nowait(context: ExceptionContext) -> bool:
    """Whether the application's own NOWAIT found a lock: it handles that itself."""
    is_locked = code(context.original_exception) in _LOCKED
    return is_locked and _NOWAIT.search(context.statement or "") is not None


def _is_unusable(error: BaseException) -> bool:
    """Whether the connection is unusable, although SQLAlchemy does not treat it as lost."""
    return code(error) in _UNUSABLE or _CLOSED.match(str(error)) is not None


def _mark(context: ExceptionContext) -> None:
    if context.sqlalchemy_exception is None:
        return
    error = context.original_exception
    if not is_conflict(error):
        if context.dialect.name in MYSQL and _is_unusable(error):
            context.is_disconnect = True
        return
    if _is_answer_to_nowait(context):
        return
    mark_error_retryable(context.sqlalchemy_exception)
    is_commit = context.statement is None
    if is_commit and context.dialect.name == "sqlite" and context.connection is not None:
        # a busy one leaves the transaction open, and SQLAlchemy returns the connection to its
        # pool like that: the next request would commit what this one has not stored
        context.connection.connection.rollback()


def mark_conflicts_retryable(engine: Engine) -> None:
    """Let pyramid_retry run a request again after any conflict that this engine reports.

    The error is marked when it is raised, at COMMIT too: pyramid_tm asks too late there, and
    zope.sqlalchemy knows only some drivers.
    """
    event.listen(engine, "handle_error", _mark)
