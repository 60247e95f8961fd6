"""Loading: what a request's cookie opens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ..cookie import handle_of
from ..driver_errors import reason
from ..events import CookieRejected, SessionEnded, SessionEvent
from ..exceptions import SessionConflict, SessionDataError, SessionTableError
from ..session.state import CSRF, Loaded, Marker
from ..store import Store
from ..table.record import Record
from ..transactions import current_transaction, has_left

log = logging.getLogger("pyramid_sqlsession")

_DATABASE_ERRORS = (SQLAlchemyError, SessionConflict, SessionTableError)


def load(
    store: Store, request: Any, token: str | None, tell: Callable[[SessionEvent], None]
) -> Loaded | Marker | None:
    """The live session of the request's cookie, or its marker; None if there is neither.

    :param token: the cookie's; None if there is none, or it is malformed.
    :param tell: gets an event to be sent later: a subscriber may want to read the session.
    """
    if token is None:
        if store.cookie.is_malformed(request):
            tell(CookieRejected(request, "", "malformed"))
        return None
    handle = handle_of(token)
    try:
        record = _select(store, request, handle)
        found = None if record is None else _found(store, handle, token, record)
    except SessionDataError as error:
        log.warning("session %s cannot be read and is taken for empty: %s", handle.hex(), error)
        tell(CookieRejected(request, handle.hex(), "unreadable"))
        return None
    if isinstance(found, Marker) and has_left(request, handle):
        found = replace(found, is_left=True)
    if record is None:
        tell(CookieRejected(request, handle.hex(), "unknown"))
    elif record.successor is not None:
        tell(CookieRejected(request, handle.hex(), "replaced"))
    elif found is None:
        tell(SessionEnded(request, handle.hex(), "expiry", record.user_id))
    return found


def _found(store: Store, handle: bytes, token: str, record: Record) -> Loaded | Marker | None:
    """What a row is to this request; None if it has expired."""
    record.check()
    lived = (record.created, record.last_seen, record.max_age)
    if store.clock() >= store.lifetime.expires_at(*lived):
        return None
    if record.successor is not None:
        return marker_of(store, token, record)
    decoded = store.codec.from_column(record.data, token)
    return Loaded(handle, record, decoded.serialized, decoded.data, decoded.as_configured)


def marker_of(store: Store, token: str, record: Record) -> Marker:
    """What is left of a session in the row that was replaced; nothing if it cannot be read."""
    try:
        kept = store.codec.from_column(record.data, token).data
    except SessionDataError:
        kept = {}
    visible = {CSRF: kept.pop(CSRF)} if CSRF in kept else {}
    return Marker(visible, kept)


def _select(store: Store, request: Any, handle: bytes) -> Record | None:
    transaction = current_transaction(request)
    try:
        return store.database.load(request, transaction, handle)
    except _DATABASE_ERRORS:
        if getattr(request, "exception", None) is None:
            raise
    # an exception view reads the session after a statement of the view has failed
    try:
        return store.database.load(request, None, handle)
    except _DATABASE_ERRORS as error:
        log.warning("session %s is empty for an exception view: %s", handle.hex(), reason(error))
        return None
