"""What if another request was first: its row, the merge with it, and the policy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from ..events import SessionConflicted, send
from ..exceptions import SessionConflict, SessionDataError
from ..session.found import CSRF, Loaded
from ..session.merge import merge
from ..table.record import Record
from ..transactions import has_attempts_left
from .visit import Visit


def newer_row(visit: Visit, connection: Connection, loaded: Loaded) -> Record | None:
    """The row as others have left it, locked; None if it is gone."""
    newer, state = visit.store.rows.load(connection, loaded.id, lock=True), visit.state
    is_replaced = newer is not None and newer.successor is not None
    if not (is_replaced or state.is_ended or state.max_age_is_assigned):
        state.max_age = None if newer is None else newer.times.max_age
    return newer


def merged_with_row(visit: Visit, loaded: Loaded, newer: Record, token: str) -> dict[Any, Any]:
    """What both requests have made of the session.

    :param token: the token of the row.
    :raises SessionConflict: if that cannot be decided, and this request should be run again.
    """
    try:
        theirs = visit.store.codec.from_column(newer.data, token).data
    except SessionDataError as error:
        raise SessionConflict(
            f"what another request stored in session {loaded.id.hex()} cannot be read"
        ) from error
    data, conflicts = merged_with(visit, loaded, theirs)
    if conflicts:
        _resolve(visit, loaded, conflicts)
    return data


def merged_with(
    visit: Visit, loaded: Loaded, theirs: dict[Any, Any]
) -> tuple[dict[Any, Any], list[Any]]:
    """What this request changed since it was loaded, on top of *theirs*, and what both changed."""
    codec, state = visit.store.codec, visit.state
    base = codec.loads(loaded.serialized)
    if state.user_is_assigned and CSRF not in state.assigned:
        # also one that was made since this request has loaded the session and dropped it
        base, theirs = ({k: v for k, v in it.items() if k != CSRF} for it in (base, theirs))
    visit.merged = merge(base, state.read(), theirs, codec.differ, state.flashes)
    return visit.merged.data, visit.merged.conflicts


def must_hit(loaded: Loaded, *, hit: bool) -> None:
    """A write of a row that is locked.

    :raises SessionConflict: if it has found no such row.
    """
    if not hit:
        raise SessionConflict(f"session {loaded.id.hex()} changed while it was locked")


def _resolve(visit: Visit, loaded: Loaded, keys: list[Any]) -> None:
    """Do what ``sqlsession.conflict`` says about keys that both requests have changed."""
    policy, handle = visit.store.settings.conflict, loaded.id.hex()
    may_run_again = visit.transaction is not None and has_attempts_left(visit.request)
    if policy == "strict" or (policy == "retry" and may_run_again):
        raise SessionConflict(
            f"another request changed {keys!r} in session {handle} too", tuple(keys)
        )
    send(SessionConflicted(visit.request, handle, tuple(keys), "won"))
