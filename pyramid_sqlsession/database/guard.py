"""Transactions that cannot be committed any more, although nobody is told so.

PostgreSQL answers the COMMIT of a transaction in which a statement has failed with ROLLBACK and no
error, and MariaDB rolls back by itself at a deadlock. Whoever catches such an error and goes on is
told that everything was stored. So errors are noted, and a COMMIT that would lose a session raises.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from ..exceptions import SessionLost

_FAILED = "pyramid_sqlsession failed"
_WRITTEN = "pyramid_sqlsession written"

# libpq's PQTRANS_INERROR, as psycopg and psycopg2 say it
_IN_ERROR = 3


def guard(engine: Engine) -> None:
    """Note the errors of this engine's statements from now on, and look at its COMMITs."""
    event.listen(engine, "handle_error", _note_error)
    event.listen(engine, "rollback_savepoint", _forget_error)
    event.listen(engine, "commit", _refuse_to_lose)


def note_written(connection: Connection) -> None:
    """A session is written on this connection, in the transaction that it has begun."""
    # what has failed before has not ended the transaction: see has_failed()
    connection.info.pop(_FAILED, None)
    connection.info[_WRITTEN] = connection.get_transaction()


def has_failed(connection: Connection) -> bool:
    """Whether a statement has failed, and with it the transaction, as it does on PostgreSQL."""
    if connection.dialect.name != "postgresql":
        return False
    info = getattr(connection.connection.dbapi_connection, "info", None)
    return _is_noted(connection, _FAILED) or (
        getattr(info, "transaction_status", None) == _IN_ERROR
    )


def start_again(connection: Connection) -> None:
    """Roll back a transaction that has failed, without the application's knowledge."""
    connection.connection.rollback()
    connection.info.pop(_FAILED, None)


def _note_error(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not connection.invalidated and not connection.closed:
        connection.info[_FAILED] = connection.get_transaction()


def _forget_error(connection: Connection, _name: str, _context: Any) -> None:
    connection.info.pop(_FAILED, None)


def _refuse_to_lose(connection: Connection) -> None:
    if _is_noted(connection, _WRITTEN) and _is_noted(connection, _FAILED):
        # in a failed transaction it must not go back to the pool
        start_again(connection)
        raise SessionLost(
            "a database error was caught after the session was written, and its transaction may "
            "store nothing any more: let the error out, or put what may fail between "
            "'with dbsession.begin_nested():'"
        )


def _is_noted(connection: Connection, what: str) -> bool:
    noted = connection.info.get(what)
    return noted is not None and noted is connection.get_transaction()
