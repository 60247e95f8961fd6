"""What is to become of a session's row, decided from what a request did to its session."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from ..data.codec import Codec
from .found import Loaded
from .merge import merge
from .state import Fate, State


class Intent(Enum):
    """What a save does."""

    NOTHING = auto()
    CREATE = auto()
    """Insert a row."""
    UPDATE = auto()
    """Change the row."""
    REPLACE = auto()
    """Insert a row under a new token, and make the old one a marker."""
    END = auto()
    """Delete the row."""
    DROP = auto()
    """Store nothing of what a late request did: its token is no longer the session's."""


def intent_of(state: State, codec: Codec) -> Intent:
    """What a request's session asks for, which has been used.

    :raises SessionDataError: if the session holds something that cannot be stored.
    """
    state.notice_user_changed_in_place()
    if state.marker is not None:
        return _intent_on_marker(state)
    if state.is_ended and (state.loaded is None or state.fate is Fate.REVOKED):
        return Intent.END
    if state.loaded is None:
        return Intent.CREATE if state.read() else Intent.NOTHING
    if state.is_ended or state.leaves:
        return Intent.REPLACE if contents(state, codec) else Intent.END
    if state.user_is_assigned or state.regenerated:
        return Intent.REPLACE
    return Intent.UPDATE if _is_changed(state, state.loaded, codec) else Intent.NOTHING


def contents(state: State, codec: Codec) -> dict[Any, Any]:
    """What a row under a new token holds."""
    if state.leaves:
        return own_contents(state)
    if state.marker is not None and not state.is_ended:
        marker, mine = state.marker, state.read()
        return merge(marker.visible, mine, marker.data, codec.differ, state.flashes).data
    return state.read()


def own_contents(state: State) -> dict[Any, Any]:
    """What the request itself has set: all that is kept where a user's session is left."""
    data = state.read()
    if state.is_ended:
        return data
    kept = {key: value for key, value in data.items() if key in state.assigned}
    for key, queue in state.flashes.items():
        if key not in kept and queue.added:
            kept[key] = queue.replay([], [])
    return kept


def _intent_on_marker(state: State) -> Intent:
    if state.leaves:
        return Intent.END
    if state.signs_in:
        return Intent.CREATE
    if state.fate is Fate.REVOKED:
        return Intent.END
    before = {} if state.is_ended or state.marker is None else state.marker.visible
    is_changed = state.read() != before or state.max_age_is_assigned or state.regenerated
    return Intent.DROP if is_changed else Intent.NOTHING


def _is_changed(state: State, loaded: Loaded, codec: Codec) -> bool:
    # of an earlier save, whose transaction did not commit
    state.serialized = None
    return (
        state.max_age != loaded.record.times.max_age
        # a message that is there again, or still, was flashed now nevertheless
        or any(queue.added for queue in state.flashes.values())
        or (state.may_have_changed and _is_stored_differently(state, loaded, codec))
    )


def _is_stored_differently(state: State, loaded: Loaded, codec: Codec) -> bool:
    state.serialized = codec.dumps(state.read())
    return state.serialized != loaded.serialized
