"""What a save has to do, decided from what the request did to its session."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from ..data.codec import Codec
from ..exceptions import SessionDataError
from .found import Loaded, Marker
from .merge import merge
from .state import State
from .who import ends, leaves, signs_in, steps_up


class Intent(Enum):
    """What a save does; :mod:`pyramid_sqlsession.request.save` has the table of what that means."""

    NOTHING = auto()
    DROP = auto()
    """Discard the changes of a late request, whose token was replaced."""
    CREATE = auto()
    """Start a session where none was found."""
    WRITE = auto()
    """Change the session's data."""
    REGENERATE = auto()
    """Give the session a new token."""
    STEP_UP = auto()
    """The same, for a user who is signed in and signs in again."""
    SIGN_IN = auto()
    """Turn the anonymous session into a new one of this user."""
    END = auto()
    """End the session; what the request has set starts a new one."""


def intent_of(state: State, codec: Codec) -> Intent:
    """What the save of a session that was used has to do.

    :raises SessionDataError: if the session holds something that cannot be stored.
    """
    if _is_untouched(state):
        return Intent.NOTHING
    _notice_user_changed_in_place(state)
    if ends(state):
        return Intent.END
    if steps_up(state):
        return Intent.STEP_UP
    if state.marker is not None:
        return _intent_on_marker(state, state.marker)
    if state.loaded is None:
        return Intent.CREATE if state.read() else Intent.NOTHING
    if signs_in(state):
        return Intent.SIGN_IN
    if state.user_is_assigned or state.regenerated:
        return Intent.REGENERATE
    return Intent.WRITE if _is_other(state, state.loaded, codec) else Intent.NOTHING


def _is_untouched(state: State) -> bool:
    """Whether nobody can have changed the session, in this attempt or an earlier one."""
    return not (state.may_have_changed or state.is_ended or state.earlier)


def is_changed(state: State, codec: Codec) -> bool:
    """Whether there is something to store, even if it cannot be stored."""
    try:
        return intent_of(state, codec) is not Intent.NOTHING
    except SessionDataError:
        return True


def _notice_user_changed_in_place(state: State) -> None:
    # for instance a list with another item
    if state.live is not None and not state.user_is_assigned and state.user_now != state.user:
        state.notice_user()


def _intent_on_marker(state: State, marker: Marker) -> Intent:
    if signs_in(state):
        return Intent.SIGN_IN
    before = {} if state.is_ended else marker.visible
    differs = state.read() != before or state.max_age_is_assigned or state.regenerated
    return Intent.DROP if differs else Intent.NOTHING


def contents(state: State) -> dict[Any, Any]:
    """What the row will hold if no other request changed the session."""
    return own_contents(state) if leaves(state) else state.read()


def own_contents(state: State) -> dict[Any, Any]:
    """What this request itself set: all that is kept when a user's session ends."""
    data = state.read()
    if state.is_ended:
        return data
    kept = {key: value for key, value in data.items() if key in state.assigned}
    for key, queue in state.flashes.items():
        if key not in kept and queue.added:
            kept[key] = queue.replay([], [])
    return kept


def on_top_of(state: State, marker: Marker, codec: Codec) -> dict[Any, Any]:
    """The data of a late sign-in that found a marker: what the marker kept, and what it set."""
    if state.is_ended:
        return state.read()
    return merge(marker.visible, state.read(), marker.data, codec.differ, state.flashes).data


def _is_other(state: State, loaded: Loaded, codec: Codec) -> bool:
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
    return not codec.are_same(state.serialized, loaded.serialized)
