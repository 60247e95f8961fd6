"""After the transaction: the cookie, and writes that may fail without failing the request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyramid_tm import is_tm_active

from ..cookie import vary_on_cookie
from ..driver_errors import is_busy_sqlite, reason
from ..events import SessionEnded, send
from ..exceptions import see
from ..frames import discreet
from ..session.found import Loaded
from ..transactions import COMMITTED, current_transaction, will_be_retried
from .failure import keep
from .visit import Phase, Visit

log = logging.getLogger("pyramid_sqlsession")


@discreet
def respond(visit: Visit, request: Any, response: Any) -> None:
    """Response callback, after commit or abort: send the cookie and record activity."""
    if visit.state.data is None:
        return
    vary_on_cookie(response)
    if not _is_stored(visit):
        visit.cookie = None
        if visit.phase is Phase.OUTSIDE or visit.nested or _runs_again(request):
            return
        if visit.state.failure is not None:
            keep(visit)
    if _is_stored(visit):
        _keep_to_limit(visit)
    else:
        _finish(visit)
    _note_expiry(visit)
    _send(visit, response)


def _is_stored(visit: Visit) -> bool:
    """Whether what was written is committed, or is up to an outer transaction."""
    return visit.saved is not None and (visit.saved() or is_tm_active(visit.request))


def _runs_again(request: Any) -> bool:
    return will_be_retried(request, request.exception)


def warn_if_unsaved(visit: Visit, _request: Any) -> None:
    """Finished callback: warn if no tween saved the changes."""
    if visit.phase is Phase.OUTSIDE and visit.is_changed:
        log.warning(
            "session changes are not stored: the request did not pass "
            "pyramid_sqlsession's tween (a script, pshell, or a subrequest without tweens) %s",
            see("trouble-lost"),
        )


def _send(visit: Visit, response: Any) -> None:
    if visit.cookie is not None:
        visit.store.cookie.set(visit.request, response, *visit.cookie)


def _keep_to_limit(visit: Visit) -> None:
    """End the oldest sessions of a user who has too many.

    It looks at committed sessions, in the same order in every request: when several requests sign
    in at once, the last one sees all, and none ends a session that another one keeps.
    """
    store, request, user_id = visit.store, visit.request, visit.signed_in
    limit = store.settings.max_sessions_per_user
    if limit is None or user_id is None:
        return
    try:
        with store.database.writing(request, current_transaction(request)) as (connection, _):
            surplus = store.sessions.beyond(connection, user_id, limit)
            ended = store.sessions.end(connection, surplus)
    except Exception as error:  # noqa: BLE001  # the request has succeeded without
        log.warning(
            "cannot end a user's sessions above sqlsession.max_sessions_per_user: %s", reason(error)
        )
        return
    # only now: a subscriber that fails must not bring them back
    for one in ended:
        handle = one.lineage.hex()
        try:
            send(SessionEnded(request, handle, "limit", one.user_id))
        except Exception:
            log.exception("a subscriber failed to handle the end of session %s", handle)


def _finish(visit: Visit) -> None:
    """Record activity and re-encrypt, for a session that this request has not written."""
    loaded, token = visit.state.loaded, visit.token
    if loaded is not None and token is not None:
        if visit.counts:
            _touch(visit, loaded)
        _encrypt_anew(visit, loaded, token)


def _touch(visit: Visit, loaded: Loaded) -> None:
    """Record activity if it is due."""
    store, record, now = visit.store, loaded.record, visit.store.clock()
    before = record.times
    if not store.lifetime.is_touch_due(before, now):
        return
    times = before.seen(now, before.max_age)
    purge_after = store.lifetime.purge_after(times, record.purge_after)
    is_recorded = False
    with _unnoticed("activity of session %s was not recorded: %s", record.handle):
        if _is_anothers(visit):
            return
        with store.database.touching(visit.request) as connection:
            is_recorded = store.rows.touch(connection, loaded.id, record, now, purge_after)
    if is_recorded:
        visit.refresh_cookie(before, times)


def _encrypt_anew(visit: Visit, loaded: Loaded, token: str) -> None:
    """Encrypt the data again as configured now: the settings or the newest key have changed."""
    if loaded.as_configured:
        return
    store = visit.store
    try:
        if _is_anothers(visit):
            return
        data = store.codec.to_column(store.codec.loads(loaded.serialized), token)
        with store.database.touching(visit.request) as connection:
            store.rows.rewrite(connection, loaded.id, loaded.record.version, data)
    except Exception as error:  # noqa: BLE001  # the request has succeeded without
        name, why = loaded.record.handle, reason(error)
        log.warning("the data of session %s was not re-encrypted: %s", name, why)


def _note_expiry(visit: Visit) -> None:
    """Make sure that the expiry is reported to the application only once."""
    shut, store = visit.state.shut, visit.store
    if shut is None or not shut.has_expired or shut.record.is_told or visit.id is None:
        return
    if visit.transaction is not None and visit.transaction.status != COMMITTED:
        # what a subscriber wrote about it was rolled back
        return
    with _unnoticed("the expiry of session %s will be reported again: %s", shut.record.handle):
        if _is_anothers(visit):
            return
        with store.database.touching(visit.request) as connection:
            store.rows.note_told(connection, visit.id, shut.record.version)


@contextmanager
def _unnoticed(line: str, handle: str) -> Iterator[None]:
    """Log an error in this block: the request has succeeded without it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # as the docstring says
        # on SQLite writers block each other
        level = logging.DEBUG if is_busy_sqlite(error) else logging.WARNING
        log.log(level, line, handle, reason(error))


def _is_anothers(visit: Visit) -> bool:
    """Whether a write now would be part of somebody else's transaction."""
    return is_tm_active(visit.request) and visit.store.database.is_shared(visit.request)
