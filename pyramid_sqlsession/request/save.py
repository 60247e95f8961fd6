"""Saving: what a request did to its session becomes rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection

from ..events import SessionConflicted, send
from ..exceptions import SessionBusy, SessionConflict
from ..session.intent import Intent, intent_of
from ..transactions import remember_left
from .alone import repeated
from .regenerate import Regeneration
from .visit import Phase, Visit
from .writer import Writer


def save(visit: Visit, transaction: Any) -> None:
    """Write the session, if it changed, in the transaction, or in one of its own if that is None.

    :raises SessionDataError: if the session holds something that cannot be stored.
    :raises SessionConflict: if another request was in the way and this one should be run again.
    :raises SessionBusy: if another request was in the way and this one has no transaction.
    """
    if not visit.is_used:
        return
    intent = intent_of(visit.state, visit.store.codec)
    if intent is Intent.NOTHING:
        return
    if intent is Intent.DROP:
        send(SessionConflicted(visit.request, _handle(visit), (), "dropped"))
        return
    if visit.state.loaded is not None and visit.state.leaves:
        remember_left(visit.request, visit.state.loaded.id)
    write = partial(_write_in, transaction, visit, intent)
    try:
        visit.saved = repeated(write) if transaction is None else write()
    except (SessionConflict, SessionBusy) as conflict:
        send(SessionConflicted(visit.request, _handle(visit), conflict.keys, "raised"))
        raise


def _write_in(transaction: Any, visit: Visit, intent: Intent) -> Callable[[], bool]:
    """Write the session; what tells whether that is durable."""
    writer, visit.cookie = Writer(visit, intent), None
    # a subscriber of the events below would change what is written already
    visit.end(Phase.CLOSED, transaction)
    with visit.store.database.writing(visit.request, transaction) as (connection, committed):
        _write(intent, writer, connection)
    return committed


def _write(intent: Intent, writer: Writer, connection: Connection) -> None:
    loaded = writer.state.loaded
    if intent is Intent.END:
        writer.end(connection, loaded)
    elif loaded is None or intent is Intent.CREATE:
        writer.create(connection, writer.data)
    elif intent is Intent.UPDATE:
        writer.update(connection, loaded)
    else:
        Regeneration(writer, connection, loaded).run()


def _handle(visit: Visit) -> str:
    return "" if visit.id is None else visit.id.hex()
