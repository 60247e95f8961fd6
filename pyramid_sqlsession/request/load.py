"""Loading: what a request's cookie opens."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ..cookie import id_of
from ..driver_errors import reason
from ..events import CookieRejected, SessionEnded, SessionEvent
from ..exceptions import SessionDataError
from ..session.found import Found, Loaded, Shut, marker_of
from ..store import Store
from ..table.record import Record
from ..transactions import current_transaction
from .alone import undone_with

log = logging.getLogger("pyramid_sqlsession")


class NotReadError(Exception):
    """An exception view has asked for a session that the database does not give."""


def load(store: Store, request: Any, token: str | None) -> tuple[Found | None, SessionEvent | None]:
    """The session of the request's cookie, live or shut, or its marker; None if there is neither.

    With it comes what is to be told of it.

    :param token: the cookie's; None if there is none, or it is malformed.
    :raises NotReadError: if it cannot be read for an exception view, which is to work without it.
    """
    if token is None:
        malformed = store.cookie.is_malformed(request)
        return None, CookieRejected(request, "", "malformed") if malformed else None
    id = id_of(token)
    try:
        record = _select(store, request, id)
        if record is None:
            return None, CookieRejected(request, "", "unknown")
        record.check()
    except SessionDataError as error:
        return None, _unreadable(request, id, error)
    try:
        return _found(store, request, id, token, record)
    except SessionDataError as error:
        # what cannot be read may be long, and would stay until Python collects its garbage
        return Shut(replace(record, data=None)), _unreadable(request, id, error)


def _unreadable(request: Any, id: bytes, error: SessionDataError) -> CookieRejected:
    # the error itself has frames that hold the data, and a handler of the log may keep it
    why = str(error)
    log.warning("row %s cannot be read, its session is taken for empty: %s", id.hex(), why)
    return CookieRejected(request, "", "unreadable")


def _found(
    store: Store, request: Any, id: bytes, token: str, record: Record
) -> tuple[Found | None, SessionEvent | None]:
    now, handle = store.clock(), record.handle
    if record.replaced is not None:
        is_late = now >= record.replaced + store.settings.regenerate_grace
        marker = None if is_late else marker_of(store.codec, token, record)
        return marker, CookieRejected(request, handle, "replaced")
    if now >= store.lifetime.expires_at(record.times):
        return Shut(record), SessionEnded(request, handle, "expiry", record.user_id)
    decoded = store.codec.from_column(record.data, token)
    loaded = Loaded(id, record, decoded.serialized, decoded.data, decoded.as_configured)
    return loaded, None


def _select(store: Store, request: Any, id: bytes) -> Record | None:
    transaction = current_transaction(request)
    try:
        with undone_with(transaction):
            return store.database.load(request, transaction, id)
    except SessionDataError:
        raise
    except Exception:
        if getattr(request, "exception", None) is None:
            raise
    # an exception view reads the session after a statement of the view has failed, or after the
    # application's database session was asked for and has raised
    try:
        return store.database.load(request, None, id)
    except SessionDataError:
        raise
    except Exception as error:
        # an error page is better than none
        log.warning("row %s is not read for an exception view: %s", id.hex(), reason(error))
        raise NotReadError from error
