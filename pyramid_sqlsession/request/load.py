"""Loading: what a request's cookie opens."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ..cookie import id_of
from ..driver_errors import reason
from ..events import CookieRejected, SessionEnded, SessionEvent
from ..exceptions import SessionBusy, SessionConflict, SessionDataError, SessionTableError
from ..session.found import Found, Loaded, Marker, marker_of
from ..store import Store
from ..table.record import Record
from ..transactions import current_transaction, has_left
from .alone import undone_with

log = logging.getLogger("pyramid_sqlsession")

_DATABASE_ERRORS = (SQLAlchemyError, SessionBusy, SessionConflict, SessionTableError)


def load(store: Store, request: Any, token: str | None) -> tuple[Found | None, SessionEvent | None]:
    """The live session of the request's cookie, or its marker; None if there is neither.

    With it comes what is to be told of it.

    :param token: the cookie's; None if there is none, or it is malformed.
    """
    if token is None:
        malformed = store.cookie.is_malformed(request)
        return None, CookieRejected(request, "", "malformed") if malformed else None
    id = id_of(token)
    try:
        record = _select(store, request, id)
        if record is None:
            return None, CookieRejected(request, id.hex(), "unknown")
        found = _found(store, id, token, record)
    except SessionDataError as error:
        log.warning("session %s cannot be read and is taken for empty: %s", id.hex(), error)
        return None, CookieRejected(request, id.hex(), "unreadable")
    if isinstance(found, Marker) and has_left(request, id):
        found = replace(found, is_left=True)
    if record.successor is not None:
        return found, CookieRejected(request, id.hex(), "replaced")
    if found is None:
        return None, SessionEnded(request, id.hex(), "expiry", record.user_id)
    return found, None


def _found(store: Store, id: bytes, token: str, record: Record) -> Found | None:
    """What a row is to this request; None if it has expired."""
    record.check()
    if store.clock() >= store.lifetime.expires_at(record.times):
        return None
    if record.successor is not None:
        return marker_of(store.codec, token, record)
    decoded = store.codec.from_column(record.data, token)
    return Loaded(id, record, decoded.serialized, decoded.data, decoded.as_configured)


def _select(store: Store, request: Any, id: bytes) -> Record | None:
    transaction = current_transaction(request)
    try:
        with undone_with(transaction):
            return store.database.load(request, transaction, id)
    except _DATABASE_ERRORS:
        if getattr(request, "exception", None) is None:
            raise
    # an exception view reads the session after a statement of the view has failed
    try:
        return store.database.load(request, None, id)
    except _DATABASE_ERRORS as error:
        log.warning("session %s is empty for an exception view: %s", id.hex(), reason(error))
        return None
