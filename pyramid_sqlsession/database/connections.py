"""Beginning, committing and rolling back on any connection."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, event

from ..driver_errors import MYSQL
from ..exceptions import SessionConflict, SessionDataError
from ..watch import Watch


def connect(engine: Engine, isolation_level: str) -> Connection:
    """A connection of the engine's pool, whose transactions are at this isolation level."""
    connection = engine.connect()
    if engine.dialect.name in MYSQL:
        # SQLAlchemy would switch the level there and back in four round trips, and does not handle
        # their errors: a dead connection would never leave the pool
        event.listen(connection, "begin", partial(_begin, isolation_level))
        event.listen(connection, "rollback", roll_back)
        return connection
    try:
        return connection.execution_options(isolation_level=isolation_level)
    except BaseException:
        # SQLAlchemy does not handle errors here: a dead connection would stay in the pool
        connection.invalidate()
        connection.close()
        raise


def _begin(isolation_level: str, connection: Connection) -> None:
    connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {isolation_level}")
    connection.exec_driver_sql("START TRANSACTION")


def roll_back(connection: Connection) -> None:
    """Roll back on the driver's connection where SQLAlchemy may not know of the transaction.

    Raises nothing. If Galera has rolled a transaction back, it answers the first ``ROLLBACK`` with
    a deadlock error, and an error while pyramid_tm aborts would prevent a retry.
    """
    if connection.dialect.name in MYSQL:
        end(connection)


def end(connection: Connection) -> None:
    """Roll back on the driver's connection, or invalidate it if that fails. Raises nothing."""
    if connection.closed or connection.invalidated:
        return
    try:
        connection.connection.rollback()
    except Exception as error:  # noqa: BLE001  # the server rolls back when a connection ends
        connection.invalidate(error)


def commit(connection: Connection) -> None:
    """Commit. If that fails, leave nothing that the next user of the connection would commit."""
    try:
        connection.commit()
    except BaseException:
        # SQLAlchemy considers the transaction ended, SQLite does not
        end(connection)
        raise


def dooming(transaction: Any) -> Watch:
    """Doom the transaction on an error: a later COMMIT might report success and store nothing."""
    return Watch(_doom, transaction)


def _doom(error: BaseException, transaction: Any) -> None:
    is_fatal = isinstance(error, Exception) and not isinstance(error, SessionDataError)
    if is_fatal and transaction is not None:
        transaction.doom()


def giving_up(connection: Connection) -> Watch:
    """Release all locks on a conflict, which ends the transaction anyway."""
    return Watch(_give_up, connection)


def _give_up(error: BaseException, connection: Connection) -> None:
    # the transaction around a savepoint may not be the request's, in tests for example
    if isinstance(error, SessionConflict) and not connection.in_nested_transaction():
        roll_back(connection)
