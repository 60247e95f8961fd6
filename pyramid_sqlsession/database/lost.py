"""A database session that is lost: nothing in it can be committed with the request any more.

Its application has caught an error without a savepoint, has rolled it back or closed it, or has not
begun it. The request may go on all the same, and wants to tell its visitor what went wrong.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import SessionTransactionState
from zope.sqlalchemy.datamanager import SessionDataManager

from .guard import has_failed, start_again

LOST = (
    "request.%s was rolled back or closed, or an error in it was caught: its changes are lost, and "
    "the session is stored on a separate connection. Wrap what may fail in "
    "'with request.%s.begin_nested():'"
)
WRITTEN = (
    "request.{0} was rolled back or failed after sessions were written in it (by "
    "request.sqlsessions for example): wrap what may fail in 'with request.{0}.begin_nested():'"
)


def is_over(dbsession: Session, transaction: Any) -> bool:
    """Whether its own transaction is over, or has not begun and does not begin by itself."""
    if not (dbsession.is_active or is_getting_connection(dbsession)):
        return True
    return _was_ended(dbsession, transaction) or has_not_begun(dbsession)


def is_getting_connection(dbsession: Session) -> bool:
    """Whether a listener of its own is being called, which can do nothing through it."""
    begun = dbsession.get_transaction()
    # there is no public way to ask
    return begun is not None and begun._state is SessionTransactionState.PROVISIONING_CONNECTION


def has_not_begun(dbsession: Session) -> bool:
    """Whether its application has yet to begin it, with ``autobegin=False``."""
    return not (dbsession.autobegin or dbsession.in_transaction())


def _was_ended(dbsession: Session, transaction: Any) -> bool:
    """Whether it was rolled back or closed since it has joined: zope.sqlalchemy does not notice."""
    # there is no public way to ask what has joined
    joined = (it for it in transaction._resources if isinstance(it, SessionDataManager))
    return any(
        it.session is dbsession and it.tx is not dbsession.get_transaction() for it in joined
    )


def let_go(dbsession: Session, connection: Connection) -> None:
    """Give back the locks of a transaction that has failed.

    Not if the database session has something left to write, which would be committed alone then.
    """
    is_clean = not (dbsession.new or dbsession.dirty or dbsession.deleted)
    if is_clean and has_failed(connection):
        start_again(connection)


def has_written(transaction: Any, owner: object) -> bool:
    """Whether a session was written through the application's, in this transaction."""
    try:
        return bool(transaction.data(owner))
    except KeyError:
        return False
