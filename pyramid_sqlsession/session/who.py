"""Who is signed in, and what a change of the user means for the session."""

from __future__ import annotations

from typing import Any

from .found import Fate
from .state import State


def signs_in(state: State) -> bool:
    """Whether the request signs somebody in: for the first time, again, or as another user."""
    return state.user_is_assigned and state.user_now is not None


def leaves(state: State) -> bool:
    """Whether the user with whom the session was loaded is no longer signed in."""
    if state.loaded is None:
        return state.earlier is not None and state.earlier.ends
    return state.user is not None and not _is_now(state, state.user)


def steps_up(state: State) -> bool:
    """Whether the user with whom the session was loaded signs in again."""
    user = state.user
    if state.loaded is None and state.earlier is not None:
        user = state.earlier.user
    return signs_in(state) and user is not None and _is_now(state, user)


def ends(state: State) -> bool:
    """Whether the session that was found ends, whether or not another one follows."""
    is_found = has_opened(state) or state.shut is not None
    return leaves(state) or state.fate is Fate.REVOKED or (state.is_ended and is_found)


def has_opened(state: State) -> bool:
    """Whether the cookie opened a session, or is the old one of a signed-in user.

    A sign-out with an old cookie is deliberate. The old cookie of an anonymous session opens
    nothing.
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
