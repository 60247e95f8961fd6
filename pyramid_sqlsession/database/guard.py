"""Detects transactions that can no longer be committed, although COMMIT reports no error.

PostgreSQL answers the COMMIT of a transaction in which a statement failed with ROLLBACK and no
error, and MariaDB rolls back on a deadlock. Code that catches such an error and goes on would be
told that everything was stored. So errors are noted once a session is written, and the request's
transaction is then not committed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from ..driver_errors import MYSQL, code
from ..exceptions import SessionLost
from ..transactions import Bystander

_FAILED = "pyramid_sqlsession failed"

# what psycopg and psycopg2 say, libpq's PQTRANS_INERROR; what pg8000 has from the server
_IN_ERROR = (3, b"E")


# MySQL's and MariaDB's deadlock, and the ROLLBACK TO that finds its savepoint gone with it
_TAKES_SAVEPOINTS_ALONG = (1213, 1305)


def note_errors(engine: Engine) -> None:
    """Note from now on in which transactions of this engine a statement fails."""
    event.listen(engine, "handle_error", _note_error)


def _note_error(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not (connection.closed or connection.invalidated):
        all_of_it = connection.get_transaction()
        if connection.info.get(_FAILED) is not all_of_it:
            nested = None if _takes_all(context) else connection.get_nested_transaction()
            connection.info[_FAILED] = nested or all_of_it


def _takes_all(context: ExceptionContext) -> bool:
    is_mysql = context.dialect.name in MYSQL
    return is_mysql and code(context.original_exception) in _TAKES_SAVEPOINTS_ALONG


def has_failed(connection: Connection) -> bool:
    """Whether a statement has failed, and with it the whole transaction, as on PostgreSQL."""
    if connection.dialect.name != "postgresql":
        return False
    driver: Any = connection.connection.dbapi_connection
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    return (getattr(driver, "_transaction_status", None) if status is None else status) in _IN_ERROR


def start_again(connection: Connection) -> None:
    """Roll back a failed transaction, unnoticed by the application."""
    connection.connection.rollback()


def guard(transaction: Any, connection: Connection) -> None:
    """Let the transaction fail if a statement on this connection fails from now on.

    A failure in a savepoint that is rolled back does not count.
    """
    try:
        guarded = transaction.data(Guard)
    except KeyError:
        guarded = []
        transaction.set_data(Guard, guarded)
        transaction.join(Guard(guarded))
    if connection not in guarded:
        # an earlier failure did not end the transaction, else has_failed() would be true
        connection.info.pop(_FAILED, None)
        guarded.append(connection)


class Guard(Bystander):
    """A resource of the request's transaction that vetoes a COMMIT that would lose sessions.

    An error is noted with the savepoint that it was in, which is rolled back without it.
    """

    def __init__(self, guarded: list[Connection]) -> None:
        self._guarded = guarded

    def tpc_vote(self, transaction: Any) -> None:
        if any(_fails_to_commit(connection) for connection in self._guarded):
            raise SessionLost(
                "a database error was caught after the session was written, so the transaction may "
                "store nothing: let the error propagate, or wrap what may fail in "
                "'with dbsession.begin_nested():'"
            )

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        # before those that commit when they vote, which begin with a tilde by convention
        return "}pyramid_sqlsession"


def _fails_to_commit(connection: Connection) -> bool:
    failed = None if connection.closed else connection.info.get(_FAILED)
    # a savepoint that was rolled back is active no longer, nor is another transaction
    return failed is not None and bool(failed.is_active)
