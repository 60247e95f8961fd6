"""Saving: what a request did to its session becomes rows."""

from __future__ import annotations

from typing import Any

from ..cookie import new_token
from ..database.connections import giving_up
from ..events import SessionConflicted, send
from ..exceptions import SessionConflict, SessionDataError
from ..session.intent import Intent, contents, intent_of
from ..transactions import remember_left
from .visit import Phase, Visit
from .writer import Plan, Writer


def is_changed(visit: Visit) -> bool:
    """Whether there is something to save."""
    try:
        return visit.is_used and intent_of(visit.state, visit.store.codec) is not Intent.NOTHING
    except SessionDataError:
        return True


def save(visit: Visit, transaction: Any) -> None:
    """Write the session, if it changed, in the transaction, or in one of its own if that is None.

    :raises SessionDataError: if the session holds something that cannot be stored.
    :raises SessionConflict: if another request was in the way and this one should be run again.
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
        remember_left(visit.request, visit.state.loaded.handle)
    plan = _plan(visit, intent)
    # a subscriber of the events below would change what is written already
    visit.end(Phase.CLOSED, transaction)
    try:
        with visit.writing(transaction) as (connection, committed), giving_up(connection):
            Writer(visit, connection, plan).write(intent)
    except SessionConflict as conflict:
        send(SessionConflicted(visit.request, _handle(visit), conflict.keys, "raised"))
        raise
    visit.saved = committed


def _plan(visit: Visit, intent: Intent) -> Plan:
    """Encode first: a session that cannot be stored is to fail before any statement."""
    codec = visit.store.codec
    data = contents(visit.state, codec)
    known = visit.token if intent is Intent.UPDATE else None
    # for a new row never the token that the browser sent: whoever planted it would know the session
    token = known or new_token()
    if intent is Intent.END and not data:
        return Plan(token, None)
    serialized = visit.state.serialized if intent is Intent.UPDATE else None
    return Plan(token, codec.to_column(data, token, serialized))


def _handle(visit: Visit) -> str:
    return "" if visit.handle is None else visit.handle.hex()
