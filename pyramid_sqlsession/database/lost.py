"""Detects a database session that can no longer be committed with the request.

The application caught an error without a savepoint, rolled the session back, closed it, or did not
begin it. The request may go on, for example to tell the visitor what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import SessionTransactionState
from zope.sqlalchemy.datamanager import SessionDataManager

from .guard import has_failed, start_again

LOST = (
    "request.%s was rolled back or closed, or an error in it was caught: its changes are lost, and "
    "the session is stored on a separate connection. Wrap what may fail in "
    "'with request.%s.begin_nested():' %s"
)
WRITTEN = (
    "request.{0} was rolled back or failed after sessions were written in it (by "
    "request.sqlsessions for example): wrap what may fail in 'with request.{0}.begin_nested():'"
)


def is_lost(
    dbsession: Session, transaction: Any, connection_of: Callable[[Session], Connection | None]
) -> bool:
    """Whether it can no longer be committed with the request.

    :param connection_of: gives its connection; None while it is getting one.
    """
    if _is_over(dbsession, transaction):
        return True
    connection = connection_of(dbsession) if dbsession.in_transaction() else None
    return connection is not None and has_failed(connection)


def _is_over(dbsession: Session, transaction: Any) -> bool:
    """Whether its transaction is over, or has not begun and is not begun automatically."""
    if not (dbsession.is_active or is_getting_connection(dbsession)):
        return True
    return _was_ended(dbsession, transaction) or has_not_begun(dbsession)


def is_getting_connection(dbsession: Session) -> bool:
    """Whether it is getting its connection, while listeners cannot use it."""
    begun = dbsession.get_transaction()
    # there is no public way to ask
    return begun is not None and begun._state is SessionTransactionState.PROVISIONING_CONNECTION


def has_not_begun(dbsession: Session) -> bool:
    """Whether the application has not begun it yet, with ``autobegin=False``."""
    return not (dbsession.autobegin or dbsession.in_transaction())


def _was_ended(dbsession: Session, transaction: Any) -> bool:
    """Whether it was rolled back or closed after it joined, unnoticed by zope.sqlalchemy."""
    # there is no public way to ask what has joined
    joined = (it for it in transaction._resources if isinstance(it, SessionDataManager))
    return any(
        it.session is dbsession and it.tx is not dbsession.get_transaction() for it in joined
    )


def let_go(dbsession: Session, connection: Connection) -> None:
    """Release the locks of a failed transaction.

    Not if the database session still has something to write, which would be committed alone.
    """
    if has_failed(connection) and not has_changes(dbsession):
        start_again(connection)


def has_changes(dbsession: Session) -> bool:
    """Whether there is something to flush."""
    return bool(dbsession.new or dbsession.dirty or dbsession.deleted)


def has_written(transaction: Any, owner: object) -> bool:
    """Whether a session was written through the database session in this transaction."""
    try:
        return bool(transaction.data(owner))
    except KeyError:
        return False
