"""Regenerating, starting and ending sessions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..events import SessionCreated, SessionEnded, SessionRegenerated, send
from ..session.found import Fate, marker_of
from ..session.intent import on_top_of, own_contents
from ..session.who import lineage_of
from ..table.record import Record
from .conflict import merged_with
from .visit import Visit
from .writer import Writer


def _new_lineage() -> bytes:
    return secrets.token_bytes(16)


# ---- the row is as it was loaded, or merged: False if another request changed it meanwhile


def regenerate(writer: Writer, record: Record, data: Any) -> bool:
    """Give the session a new token."""
    return _replace(writer, record, data, record.lineage)


def sign_in(writer: Writer, record: Record, data: Any) -> bool:
    """The same, with a new handle, unknown to whoever may have planted the session."""
    return _replace(writer, record, data, _new_lineage())


def _replace(writer: Writer, record: Record, data: Any, lineage: bytes) -> bool:
    kept = record.data if writer.state.user is None else _visible(writer, record)
    # the old row first: of two requests that regenerate at once, one waits and finds it changed
    if not writer.mark(record, lineage, kept, record.user_id):
        return False
    copied = writer.store.rows.own_values(writer.connection, writer.cookies_id)
    _insert(writer, lineage, data, record, copied)
    return True


def _visible(writer: Writer, record: Record) -> Any:
    """The data that a late request may see in the old row, as a value of its column."""
    codec, token = writer.store.codec, writer.cookies_token
    marker = marker_of(codec, writer.store.csrf_keys, token, record)
    return codec.to_column(marker.visible, token)


def _insert(
    writer: Writer, lineage: bytes, data: Any, old: Record, copied: Mapping[str, Any] | None = None
) -> None:
    user_id = writer.insert(lineage, data, copied)
    send(SessionRegenerated(writer.visit.request, lineage.hex(), old.handle, user_id, old.user_id))


# ---- the session was regenerated meanwhile


def step_up_late(writer: Writer, row: Record) -> None:
    """Add a row to the session if it is still live."""
    lineage, sessions = lineage_of(writer.state), writer.store.sessions
    if lineage is not None and sessions.join(writer.connection, lineage, writer.user_id):
        _insert(writer, lineage, writer.data, row)
    else:
        drop(writer)


def sign_in_late(writer: Writer, row: Record) -> None:
    """Join the session of the same user if there is one, else start one.

    It takes over what the marker kept: a login form that is sent twice is one sign-in.
    """
    visit, state, sessions = writer.visit, writer.state, writer.store.sessions
    store = writer.store
    marker = marker_of(store.codec, store.csrf_keys, writer.cookies_token, row)
    if state.loaded is None:
        data = on_top_of(state, marker, writer.store.codec)
    else:
        data, _ = merged_with(visit, state.loaded, marker.data)
    encoded, user_id = writer.encoded(data), writer.user_id
    if user_id is not None and sessions.join(writer.connection, row.lineage, user_id):
        _insert(writer, row.lineage, encoded, row)
    else:
        _begin(writer, encoded)


# ---- the session is gone


def begin(writer: Writer) -> None:
    """Start a session with what the request has set."""
    found = writer.state.loaded or writer.state.marker
    data = writer.data if found is None else writer.encoded(own_contents(writer.state))
    _begin(writer, data)


def _begin(writer: Writer, data: Any) -> None:
    lineage = _new_lineage()
    user_id = writer.insert(lineage, data)
    send(SessionCreated(writer.visit.request, lineage.hex(), user_id))


def drop(writer: Writer, _row: Record | None = None) -> None:
    """Store nothing, and report it."""
    writer.visit.tell_conflict((), "dropped")


# ---- in any case


def end(writer: Writer) -> None:
    """End the session; what the request has set starts another one."""
    visit, state, lineage = writer.visit, writer.state, lineage_of(writer.state)
    has_ended = state.fate is Fate.REVOKED
    found = state.loaded or state.marker
    spare = None if writer.data is None or found is None else writer.cookies_id
    # an earlier end may have been rolled back, with a savepoint for example
    lineages = [] if lineage is None else [lineage]
    lineages += _opened_next(visit)
    for ended in writer.store.sessions.end(writer.connection, lineages, spare):
        has_ended = True
        send(SessionEnded(visit.request, ended.lineage.hex(), "logout", ended.user_id))
    if writer.data is None:
        if has_ended:
            visit.cookie = (None, None)
        return
    follower = _new_lineage()
    # another request may have created a CSRF token since this one read the session
    row = None if spare is None else writer.store.rows.load(writer.connection, spare, lock=True)
    if row is not None and row.lineage == lineage:
        _leave_marker(writer, row, follower)
    user_id = writer.insert(follower, writer.data)
    send(SessionCreated(visit.request, follower.hex(), user_id))


def _leave_marker(writer: Writer, row: Record, follower: bytes) -> None:
    """Turn a locked row into the marker of the session that follows."""
    if not writer.mark(row, follower, _visible(writer, row), None):
        raise writer.store.rows.unwritten(writer.connection, writer.cookies_id, row.version)


def _opened_next(visit: Visit) -> list[bytes]:
    """The user's sessions of other cookies, which would keep the browser signed in."""
    found = visit.state.loaded or visit.state.marker or visit.state.shut
    if found is None or found.record.user_id is None:
        return []
    return [it.lineage for it in visit.beside if it.user_id == found.record.user_id]
