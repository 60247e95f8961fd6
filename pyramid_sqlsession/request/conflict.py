"""Merging what a request changed into what another one has stored meanwhile."""

from __future__ import annotations

from typing import Any

from ..events import SessionConflicted, send
from ..exceptions import SessionConflict
from ..session.merge import Merged, merge
from ..session.state import CSRF, Loaded
from ..transactions import has_attempts_left
from .visit import Visit


def merge_with(visit: Visit, loaded: Loaded, theirs: dict[Any, Any]) -> Merged:
    """What this request changed since it was loaded, on top of *theirs*."""
    codec, state = visit.store.codec, visit.state
    base = codec.loads(loaded.serialized)
    if state.user_is_assigned and CSRF not in state.assigned:
        # also one that was made since this request has loaded the session and dropped it
        base, theirs = ({k: v for k, v in it.items() if k != CSRF} for it in (base, theirs))
    visit.merged = merge(
        base=base,
        mine=state.read(),
        theirs=theirs,
        differ=codec.differ,
        flashes=state.flashes,
    )
    return visit.merged


def resolve(visit: Visit, loaded: Loaded, keys: list[Any]) -> None:
    """Do what ``sqlsession.conflict`` says about keys that both requests have changed.

    :raises SessionConflict: unless this request's values win.
    """
    policy, handle = visit.store.settings.conflict, loaded.handle.hex()
    if policy == "strict" or (policy == "retry" and has_attempts_left(visit.request)):
        raise SessionConflict(
            f"another request changed {keys!r} in session {handle} too", tuple(keys)
        )
    send(SessionConflicted(visit.request, handle, tuple(keys), "won"))
