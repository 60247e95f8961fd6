"""Keeps apart what a failed view and its exception view did to the session.

When the exception view runs, the session is what was loaded, and the exception view's changes are
recorded on top of that. Messages of the failed view can be shown, but are not stored.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from ..frames import discreet
from .found import Fate
from .merge import FlashQueue, changed_keys
from .state import State


def keep_apart(state: State) -> None:
    """Remove the failed view's messages from the session."""
    if state.failed is None or state.data is None or state.is_ended:
        return
    data, loaded = state.data, _loaded(state)
    # a queue that the exception view has set or deleted is an ordinary key
    for key in (state.failed.flashes.keys() & data.keys()) - state.assigned:
        messages = loaded.get(key, [])
        _put(data, key, state.flashes.get(key, FlashQueue()).replay(messages, messages))


@discreet
def replay(state: State) -> State:
    """Apply the exception view's changes on top of the failed view's; returns the former alone."""
    keep_apart(state)
    alone, failed = copy(state), state.failed
    if failed is None or state.is_ended:
        return alone
    data = dict(failed.read())
    changed = changed_keys(_loaded(state), alone.read(), state.codec.differ)
    for key in dict.fromkeys([*changed, *alone.assigned, *alone.flashes]):
        if key in alone.flashes:
            messages = data.get(key, [])
            _put(data, key, alone.flashes[key].replay(messages, messages))
        elif key in alone.read():
            data[key] = alone.read()[key]
        else:
            data.pop(key, None)
    state.data, state.fate, state.created = data, failed.fate, failed.created
    state.assigned = failed.assigned | alone.assigned
    state.flashes = {**failed.flashes, **_composed(failed.flashes, alone.flashes)}
    state.regenerated = failed.regenerated or alone.regenerated
    state.may_have_changed = True
    if not alone.max_age_is_assigned:
        state.max_age, state.max_age_is_assigned = failed.max_age, failed.max_age_is_assigned
    return alone


def restore(state: State, alone: State) -> None:
    """Restore the state that :func:`replay` returned."""
    vars(state).update(vars(alone))


def end_again(state: State) -> None:
    """End the session again at save, because its immediate end was rolled back."""
    if state.fate is Fate.REVOKED:
        state.fate = Fate.ENDED


def _loaded(state: State) -> dict[Any, Any]:
    if state.loaded is not None:
        return state.codec.loads(state.loaded.serialized)
    return {} if state.marker is None else state.marker.visible


def _put(data: dict[Any, Any], key: Any, messages: list[Any]) -> None:
    data.pop(key, None)
    if messages:
        data[key] = messages


def _composed(first: dict[str, FlashQueue], second: dict[str, FlashQueue]) -> dict[str, FlashQueue]:
    """The operations of *second* after those of *first*."""
    return {
        key: queue
        if queue.popped or key not in first
        else FlashQueue(first[key].popped, first[key].added + queue.added)
        for key, queue in second.items()
    }
