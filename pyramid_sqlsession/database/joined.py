"""A connection of its own as a resource of the request's transaction."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection
from transaction.interfaces import IDataManager
from zope.interface import implementer

from ..transactions import COMMITTED
from .connections import commit, roll_back

log = logging.getLogger("pyramid_sqlsession")


@implementer(IDataManager)
class JoinedWrite:
    """A write connection as a resource of the request's transaction; it votes last.

    A failure of our own COMMIT after another resource has voted, and so perhaps committed, must
    not fail the request: a retry would do the other's work twice.
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
            # there is no public way to ask who has voted
            if not transaction._voted:
                raise
            self._lost = True
            log.exception("the session was not stored: its COMMIT failed after the application's")
        self.connection.close()

    def tpc_finish(self, transaction: Any) -> None:
        """Nothing to do: the vote has committed."""

    def tpc_abort(self, transaction: Any) -> None:
        """Nothing to do: a one-phase commit cannot be taken back."""

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return f"~~pyramid_sqlsession:{id(self)}"
