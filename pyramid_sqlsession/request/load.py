"""Loads the session that a request's cookie opens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..cookie import id_of
from ..driver_errors import reason
from ..events import CookieRejected, SessionEnded, SessionEvent
from ..exceptions import SessionDataError
from ..session.found import Found, Loaded, Marker, Shut, marker_of
from ..store import Store
from ..table.record import Record
from ..transactions import current_transaction
from .alone import undone_with

log = logging.getLogger("pyramid_sqlsession")

_Opening = tuple[Found | None, SessionEvent | None]


class NotReadError(Exception):
    """The database cannot be read for an exception view."""


class Opened(NamedTuple):
    """What the request's cookies have opened.

    ``found``, ``event``
      The session (live or shut), a marker or nothing, and the event to send.
    ``number``
      Which of the cookies opened it.
    ``beside``
      The rows of the other cookies.
    """

    found: Found | None = None
    event: SessionEvent | None = None
    number: int = 0
    beside: tuple[Record, ...] = ()


_FIRST = (Loaded, Marker, Shut, type(None))
"""Which of several cookies counts: one that opens a session, else one that has a row."""


def load(store: Store, request: Any, tokens: Sequence[str]) -> Opened:
    """Load the session of the first cookie that opens one; usually there is only one cookie.

    :param tokens: the cookies' tokens; empty if there is no cookie, or all are malformed.
    :raises NotReadError: if it cannot be read for an exception view, which then works without it.
    """
    if not tokens:
        malformed = store.cookie.is_malformed(request)
        return Opened(None, CookieRejected(request, "", "malformed") if malformed else None)
    ids = [id_of(token) for token in tokens]
    try:
        records = _select(store, request, ids)
    except SessionDataError as error:
        return Opened(None, _unreadable(request, ids, error))
    opened = [_opening(store, request, *each) for each in zip(ids, tokens, records, strict=True)]
    return Opened(*opened[0]) if len(opened) == 1 else _chosen(opened)


def _chosen(opened: list[_Opening]) -> Opened:
    number = min(range(len(opened)), key=lambda it: _FIRST.index(type(opened[it][0])))
    found, event = opened.pop(number)
    beside = tuple(other.record for other, _ in opened if other is not None)
    return Opened(found, event, number, beside)


def _opening(store: Store, request: Any, id: bytes, token: str, record: Record | None) -> _Opening:
    if record is None:
        return None, CookieRejected(request, "", "unknown")
    try:
        record.check()
    except SessionDataError as error:
        return None, _unreadable(request, [id], error)
    try:
        return _found(store, request, id, token, record)
    except SessionDataError as error:
        # the data may be large, and would stay in memory until garbage collection
        return Shut(replace(record, data=None)), _unreadable(request, [id], error)


def _unreadable(request: Any, ids: list[bytes], error: SessionDataError) -> CookieRejected:
    # the error's frames hold the data, and a log handler may keep the error
    why = str(error)
    log.warning("cannot read row %s, its session is treated as empty: %s", _names(ids), why)
    return CookieRejected(request, "", "unreadable")


def _names(ids: list[bytes]) -> str:
    return " or ".join(id.hex() for id in ids)


def _found(store: Store, request: Any, id: bytes, token: str, record: Record) -> _Opening:
    now = store.clock()
    if record.replaced is not None:
        is_late = now >= record.replaced + store.settings.regenerate_grace
        marker = None if is_late else marker_of(store.codec, store.csrf_keys, token, record)
        return marker, CookieRejected(request, record.handle, "replaced")
    if now >= store.lifetime.expires_at(record.times):
        ended = SessionEnded(request, record.handle, "expiry", record.user_id)
        return Shut(record, has_expired=True), None if record.is_told else ended
    decoded = store.codec.from_column(record.data, token)
    loaded = Loaded(id, record, decoded.serialized, decoded.data, decoded.as_configured)
    return loaded, None


def _select(store: Store, request: Any, ids: list[bytes]) -> Sequence[Record | None]:
    transaction = current_transaction(request)
    try:
        with undone_with(transaction):
            return _read(store, request, transaction, ids)
    except SessionDataError:
        raise
    except Exception:
        if getattr(request, "exception", None) is None:
            raise
    # in an exception view: the view's transaction may have failed, or the application's database
    # session may have raised
    try:
        return _read(store, request, None, ids)
    except SessionDataError:
        raise
    except Exception as error:
        # an error page is better than none
        log.warning("cannot read row %s for an exception view: %s", _names(ids), reason(error))
        raise NotReadError from error


def _read(
    store: Store, request: Any, transaction: Any, ids: list[bytes]
) -> Sequence[Record | None]:
    if len(ids) == 1:
        return [store.database.load(request, transaction, ids[0])]
    with store.database.reading(request, transaction) as connection:
        return store.rows.load_several(connection, ids)
