"""Concurrent changes: the row that another request wrote, the merge, and the policy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from ..events import SessionConflicted, send
from ..exceptions import SessionConflict, SessionDataError, see
from ..session.found import Loaded
from ..session.merge import merge
from ..table.record import Record
from ..transactions import has_attempts_left
from .visit import Visit


def current_row(visit: Visit, connection: Connection) -> Record | None:
    """The cookie's row as it is now, locked; None if it is gone."""
    id, state = visit.id, visit.state
    row = None if id is None else visit.store.rows.load(connection, id, lock=True)
    is_replaced = row is not None and row.replaced is not None
    if not (is_replaced or state.is_ended or state.max_age_is_assigned):
        state.max_age = None if row is None else row.times.max_age
    return row


def merged_with_row(visit: Visit, loaded: Loaded, newer: Record, token: str) -> dict[Any, Any]:
    """The session with the changes of both requests.

    :param token: the token of the row.
    :raises SessionConflict: if they cannot be merged and this request should be run again.
    :raises SessionTableError: if the row was not changed, but cannot be written.
    """
    if newer.version == loaded.record.version:
        raise visit.store.rows.ignored("UPDATE")
    try:
        theirs = visit.store.codec.from_column(newer.data, token).data
    except SessionDataError as error:
        raise SessionConflict(
            f"cannot read what another request stored in session {newer.handle}"
        ) from error
    data, conflicts = merged_with(visit, loaded, theirs)
    if conflicts:
        _resolve(visit, newer.handle, conflicts)
    return data


def merged_with(
    visit: Visit, loaded: Loaded, theirs: dict[Any, Any]
) -> tuple[dict[Any, Any], list[Any]]:
    """This request's changes on top of *theirs*, and the keys that both changed."""
    codec, state = visit.store.codec, visit.state
    base = codec.loads(loaded.serialized)
    if state.user_is_assigned or state.regenerated:
        # also a token that was created after this request loaded the session and dropped it
        dropped = visit.store.csrf_keys - state.assigned
        base, theirs = ({k: it[k] for k in it if k not in dropped} for it in (base, theirs))
    visit.merged = merge(base, state.read(), theirs, codec.differ, state.flashes)
    return visit.merged.data, visit.merged.conflicts


def _resolve(visit: Visit, handle: str, keys: list[Any]) -> None:
    """Apply ``sqlsession.conflict`` to keys that both requests changed."""
    policy = visit.conflict
    may_run_again = visit.transaction is not None and has_attempts_left(visit.request)
    if policy == "strict" or (policy == "retry" and may_run_again):
        raise SessionConflict(
            f"concurrent change of {keys!r} in session {handle} {see('trouble-conflict')}",
            tuple(keys),
        )
    send(SessionConflicted(visit.request, handle, tuple(keys), "won"))
