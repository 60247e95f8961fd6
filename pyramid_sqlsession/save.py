"""Saving: what a request did to its session becomes one row."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from .cookie import handle_of, new_token
from .exceptions import SessionConflict, SessionDataError
from .merge import merge
from .record import Record
from .retries import has_attempts_left
from .state import Loaded
from .visit import Visit

log = logging.getLogger("pyramid_sqlsession")


def is_changed(visit: Visit) -> bool:
    """Whether there is something to save."""
    try:
        return _ended_token(visit) is not None or _has_new_data(visit)
    except SessionDataError:
        return True


def save(visit: Visit, transaction: Any) -> None:
    """Write the session, if it changed, in the transaction, or in one of its own if that is None.

    :raises SessionDataError: if the session holds something that cannot be stored.
    :raises SessionConflict: if another request was in the way and this one should be run again.
    """
    has_new_data, ended_token = _has_new_data(visit), _ended_token(visit)
    if not has_new_data and ended_token is None:
        return
    state = visit.state
    data = visit.store.codec.to_column(state.read()) if has_new_data else None
    with _writing(visit, transaction) as connection:
        if ended_token is not None:
            _end(visit, connection, ended_token)
        if state.loaded is not None:
            _update(visit, state.loaded, connection, data)
        elif has_new_data:
            _insert(visit, connection, data)


def _ended_token(visit: Visit) -> str | None:
    return visit.token if visit.state.ended else None


def _has_new_data(visit: Visit) -> bool:
    state = visit.state
    if state.loaded is None:
        return bool(state.data)
    return (
        state.max_age != state.loaded.record.max_age
        # a message that is there again, or still, was flashed now nevertheless
        or any(queue.added for queue in state.flashes.values())
        or visit.store.codec.dumps(state.read()) != state.loaded.serialized
    )


@contextmanager
def _writing(visit: Visit, transaction: Any) -> Iterator[Connection]:
    if transaction is None:
        with visit.store.database.beside(visit.request) as connection:
            yield connection
        visit.saved = lambda: True
    else:
        connection, committed = visit.store.database.writing(visit.request, transaction)
        yield connection
        visit.saved = committed


def _end(visit: Visit, connection: Connection, token: str) -> None:
    if visit.store.storage.delete(connection, handle_of(token)):
        visit.cookie = (None, None)


def _values(
    visit: Visit, created: int, last_seen: int, data: Any, purge_after: int = 0
) -> dict[str, Any]:
    max_age = visit.state.max_age
    return {
        "data": data,
        "last_seen": last_seen,
        "max_age": max_age,
        "purge_after": visit.store.lifetime.purge_after(created, last_seen, max_age, purge_after),
    }


def _insert(visit: Visit, connection: Connection, data: Any) -> None:
    # never the token that the browser sent: whoever planted it would know the session
    token, state, now = new_token(), visit.state, visit.store.clock()
    values = _values(visit, state.created, now, data)
    visit.store.storage.insert(connection, handle_of(token), state.created, values)
    lifetime = visit.store.lifetime
    visit.cookie = (token, lifetime.cookie_max_age(state.created, now, state.max_age))


def _update(visit: Visit, loaded: Loaded, connection: Connection, data: Any) -> None:
    if _write(visit, loaded.handle, loaded.record, connection, data):
        return
    newer = visit.store.storage.load(connection, loaded.handle, lock=True)
    if newer is None:
        log.warning(
            "session %s was ended by another request: what this one changed in it is not stored",
            loaded.handle.hex(),
        )
        return
    if visit.state.max_age == loaded.record.max_age:
        visit.state.max_age = newer.max_age
    merged = _merged(visit, loaded, newer)
    if not _write(visit, loaded.handle, newer, connection, merged):
        raise SessionConflict(f"session {loaded.handle.hex()} changed while it was locked")


def _write(visit: Visit, handle: bytes, record: Record, connection: Connection, data: Any) -> bool:
    last_seen = max(visit.store.clock(), record.last_seen)
    values = _values(visit, record.created, last_seen, data, record.purge_after)
    hit = visit.store.storage.update(connection, handle, record.version, values)
    if hit:
        visit.refresh_cookie(record, last_seen, visit.state.max_age)
    return hit


def _merged(visit: Visit, loaded: Loaded, newer: Record) -> Any:
    codec, state = visit.store.codec, visit.state
    try:
        _, theirs = codec.from_column(newer.data)
    except SessionDataError as error:
        raise SessionConflict(
            f"what another request stored in session {loaded.handle.hex()} cannot be read"
        ) from error
    merged = merge(
        base=codec.loads(loaded.serialized),
        mine=state.read(),
        theirs=theirs,
        differ=codec.differ,
        flashes=state.flashes,
    )
    if merged.conflicts:
        _resolve(visit, loaded.handle.hex(), merged.conflicts)
    return codec.to_column(merged.data)


def _resolve(visit: Visit, handle: str, keys: list[Any]) -> None:
    policy = visit.store.settings.conflict
    if policy == "strict" or (policy == "retry" and has_attempts_left(visit.request)):
        raise SessionConflict(f"another request changed {keys!r} in session {handle} too")
    log.warning("another request changed %r in session %s too: the later change wins", keys, handle)
