"""Locks the session for a request whose work must not be committed after its end."""

from __future__ import annotations

from typing import Any

from transaction.interfaces import NoTransaction

from ..exceptions import SessionNotLive, see
from ..session.found import Loaded
from ..store import Store
from ..transactions import current_transaction
from .alone import undone_with


def lock_live(store: Store, request: Any, loaded: Loaded | None) -> None:
    """Lock the row of a session until the request's transaction ends.

    A request that ends or regenerates the session waits until then, or the database lets one of the
    two fail.

    :param loaded: the session as it was read; None if there is none, or the request has ended it.
    :raises NoTransaction: if the request has none to hold the lock.
    :raises SessionNotLive: if the session was ended or regenerated.
    """
    transaction = current_transaction(request)
    if transaction is None:
        raise NoTransaction(
            "session.require_live() needs a transaction to hold its lock "
            f"{see('trouble-no-transaction')}"
        )
    if loaded is not None:
        writing = store.database.writing(request, transaction)
        with undone_with(transaction), writing as (connection, _):
            if store.rows.is_live(connection, loaded.id):
                return
    raise SessionNotLive(
        f"the session was ended or regenerated since it was read {see('trouble-revoked')}"
    )
