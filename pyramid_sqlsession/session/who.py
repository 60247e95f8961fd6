"""Who is signed in, and what that means for the session as a whole."""

from __future__ import annotations

from typing import Any

from .found import Fate
from .state import State


def signs_in(state: State) -> bool:
    """Whether the request signs somebody in: at first, again, or in another's place."""
    return state.user_is_assigned and state.user_now is not None


def leaves(state: State) -> bool:
    """Whether the user whom the session was loaded with is signed in no longer."""
    if state.loaded is None:
        return state.earlier is not None and state.earlier.ends
    return state.user is not None and not _is_now(state, state.user)


def steps_up(state: State) -> bool:
    """Whether the user whom the session was loaded with signs in again."""
    user = state.user
    if state.loaded is None and state.earlier is not None:
        user = state.earlier.user
    return signs_in(state) and user is not None and _is_now(state, user)


def ends(state: State) -> bool:
    """Whether the session that was found ends, whatever follows it."""
    is_found = has_opened(state) or state.shut is not None
    return leaves(state) or state.fate is Fate.REVOKED or (state.is_ended and is_found)


def has_opened(state: State) -> bool:
    """Whether the cookie has opened a session, or is a user's old one of a session that lives on.

    Who signs out with that does so deliberately; nobody's old one opens nothing.
    """
    is_somebodys = state.marker is not None and state.marker.record.user_id is not None
    return state.loaded is not None or is_somebodys


def lineage_of(state: State) -> bytes | None:
    """The session that was found, by this attempt or an earlier one."""
    if state.loaded is not None:
        return state.loaded.record.lineage
    if state.earlier is not None:
        return state.earlier.lineage
    found = state.marker or state.shut
    return None if found is None else found.record.lineage


def _is_now(state: State, user: Any) -> bool:
    # as they are stored: a tuple is a list
    now, key = state.user_now, state.userid_key
    return now is not None and (now == user or not state.codec.differ(key, user, now))
