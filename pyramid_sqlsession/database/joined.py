"""A separate connection as a resource of the request's transaction."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection
from transaction.interfaces import IDataManagerSavepoint, ISavepointDataManager
from zope.interface import implementer

from ..transactions import COMMITTED
from .connections import commit, roll_back

log = logging.getLogger("pyramid_sqlsession")


@implementer(IDataManagerSavepoint)
class Savepoint:
    """A savepoint on such a connection; it can be rolled back to repeatedly."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._nested = connection.begin_nested()

    def rollback(self) -> None:
        self._nested.rollback()
        self._nested = self._connection.begin_nested()


@implementer(ISavepointDataManager)
class JoinedWrite:
    """A write connection as a resource of the request's transaction; it votes last.

    If our own COMMIT fails after another resource has committed in its vote, the request must not
    fail: a retry would do the other's work twice.
    """

    def __init__(self, connection: Connection, transaction: Any) -> None:
        self.connection = connection
        self.transaction_manager = None
        self._transaction = transaction
        self._lost = False

    def committed(self) -> bool:
        """Whether what was written is durable."""
        return self._transaction.status == COMMITTED and not self._lost

    def abort(self, transaction: Any) -> None:
        roll_back(self.connection)
        self.connection.close()

    def tpc_begin(self, transaction: Any) -> None:
        """Nothing to do: the connection is in a transaction."""

    def commit(self, transaction: Any) -> None:
        """Nothing to do: the statements were executed when the session was saved."""

    def tpc_vote(self, transaction: Any) -> None:
        try:
            commit(self.connection)
        except Exception:
            if not self._is_after_a_commit(transaction):
                raise
            self._lost = True
            log.exception("the session was not stored: its COMMIT failed after the application's")
        self.connection.close()

    def tpc_finish(self, transaction: Any) -> None:
        """Nothing to do: the vote has committed."""

    def tpc_abort(self, transaction: Any) -> None:
        """Nothing to do: a one-phase commit cannot be taken back."""

    def _is_after_a_commit(self, transaction: Any) -> bool:
        # there is no public way to ask who has voted; by convention, resources that commit in their
        # vote sort last, with a tilde
        voted = (it for it in transaction._resources if transaction._voted.get(id(it)))
        return any(it is not self and it.sortKey().startswith("~") for it in voted)

    def savepoint(self) -> Savepoint:
        """What ``request.tm.savepoint()`` asks of every resource."""
        return Savepoint(self.connection)

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return f"~~pyramid_sqlsession:{id(self)}"


def joined_in(transaction: Any, owner: object) -> JoinedWrite | None:
    """The connection of this owner that has joined the transaction; None if there is none."""
    try:
        joined: JoinedWrite = transaction.data(owner)
    except (AttributeError, KeyError):
        return None
    # closed if a savepoint from before it joined was rolled back
    return None if joined.connection.closed else joined


def join(transaction: Any, owner: object, connection: Connection) -> JoinedWrite:
    """Let a connection be committed or rolled back, and closed, with the transaction."""
    joined = JoinedWrite(connection, transaction)
    transaction.join(joined)
    transaction.set_data(owner, joined)
    return joined
