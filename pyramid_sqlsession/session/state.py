"""The state of a request's session: what was loaded, and what changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any

from ..data.codec import Codec
from ..events import SessionEvent, send
from ..exceptions import SessionClosed
from ..lifetime import Lifetime
from ..transactions import Attempt
from .found import Fate, Found, Loaded, Marker, Shut
from .merge import FlashQueue


@dataclass(repr=False)
class State:
    """The state of a request's session: what was loaded, and what changed.

    ``load``
      Called when the session is first used; returns what the cookie opens, and the event to send.
    ``check_open``
      Raises :class:`SessionClosed` if it is too late for a change.
    ``lock_live``
      Locks the row of a session, and raises :class:`SessionNotLive` if it is not live.
    ``attributes``
      The request's ``__dict__``, which tells whether an exception view is being called.
    ``is_visit``
      Whether the request is to be recorded as activity.
    ``data``
      None until the session is used.
    ``is_loading``
      The session is being read, and appears empty meanwhile.
    ``loaded``, ``marker``, ``shut``
      What the cookie's row was then: a live session, a marker, one that is not opened, or nothing.
    ``user``
      Who was signed in then; None is nobody.
    ``assigned``
      The keys that this request has set, and the user's key if it was deleted.
    ``may_have_changed``
      A key was set or deleted, or a value was handed out that can be changed in place.
    ``serialized``
      The serialized data, if it was computed.
    ``fate``
      What the request did to the session as a whole.
    ``earlier``
      What an earlier attempt of the request has found and done.
    ``failure``, ``failed``
      The error for which an exception view is called, and the state until it was raised.
    """

    load: Callable[[], tuple[Found | None, SessionEvent | None]]
    check_open: Callable[[], None]
    lock_live: Callable[[Loaded | None], None]
    clock: Callable[[], int]
    lifetime: Lifetime
    codec: Codec
    userid_key: str
    csrf_keys: frozenset[str]
    attributes: Mapping[str, Any]
    is_visit: Callable[[], bool]
    earlier: Attempt | None = None
    loaded: Loaded | None = None
    marker: Marker | None = None
    shut: Shut | None = None
    user: Any = None
    data: dict[Any, Any] | None = None
    is_loading: bool = False
    assigned: set[Any] = field(default_factory=set)
    may_have_changed: bool = False
    serialized: bytes | None = None
    flashes: dict[str, FlashQueue] = field(default_factory=dict)
    max_age: int | None = None
    max_age_is_assigned: bool = False
    created: int = 0
    regenerated: bool = False
    fate: Fate = Fate.LIVE
    failure: Any = None
    failed: State | None = None

    # ---- reading

    def read(self) -> dict[Any, Any]:
        """The data, loaded when it is first needed."""
        if self.is_loading:
            # a listener or a log filter asks for the user while the session is being loaded
            return {}
        self.note_failure()
        if self.data is None:
            event = self._find()
            self._start({} if self.loaded is None else self.loaded.data)
            if event is not None:
                # a subscriber may want to read the session
                send(event)
        return self.data  # type: ignore[return-value]  # a start gives data

    def _find(self) -> SessionEvent | None:
        """Note what the cookie opens, without setting the data; returns the event to send."""
        self.is_loading = True
        try:
            found, event = self.load()
        finally:
            self.is_loading = False
        if isinstance(found, Loaded):
            self.loaded = found
            # it may be a list that is changed in place
            self.user = deepcopy(found.data.get(self.userid_key))
        elif isinstance(found, Shut):
            self.shut = found
        else:
            self.marker = found
        return event

    def note_failure(self) -> None:
        """Reset the session to what was loaded when an exception view starts.

        The view's changes are rolled back with its transaction; its messages can still be shown.
        """
        error = self.attributes.get("exception")
        if error is None or error is self.failure:
            return
        self.failure, self.failed = error, None
        if self.data is None:
            return
        self.failed = copy(self)
        self._start({} if self.loaded is None else self.codec.loads(self.loaded.serialized))
        for key, queue in self.failed.flashes.items():
            messages = self.read().get(key, []) + [message for message, _ in queue.added]
            if messages:
                self.read()[key] = messages

    def hand_out(self) -> dict[Any, Any]:
        """The data, whose values may be changed in place."""
        data = self.read()
        self.may_have_changed = True
        return data

    @property
    def live(self) -> Loaded | None:
        """The live session; None for a new one."""
        return self.loaded if self.fate is Fate.LIVE else None

    @property
    def is_ended(self) -> bool:
        """Whether the session that was found has ended, and ``data`` is that of a new one."""
        return self.fate is not Fate.LIVE

    # ---- who is signed in

    @property
    def user_now(self) -> Any:
        """Who is signed in now; None is nobody."""
        return self.read().get(self.userid_key)

    @property
    def user_is_assigned(self) -> bool:
        """Whether the request has set or deleted who is signed in."""
        return self.userid_key in self.assigned

    def notice_user(self) -> None:
        """Treat the current user as assigned."""
        self.assigned.add(self.userid_key)
        self._forget_csrf()

    # ---- changing

    def write(self) -> dict[Any, Any]:
        """The data, to be changed.

        :raises SessionClosed: if it is too late for that.
        """
        self._check_open()
        return self.hand_out()

    def _check_open(self) -> None:
        self.check_open()
        if self.is_loading:
            raise SessionClosed(
                "the session is being loaded and this change would be lost: make it later. "
                "Listeners and log filters that run meanwhile see an empty session"
            )

    def set(self, key: Any, value: Any) -> None:
        """Set a key."""
        self.write()[key] = value
        self.assigned.add(key)
        self._notice(key)

    def delete(self, key: Any) -> None:
        """Delete a key; a KeyError if it is not there."""
        del self.write()[key]
        self._notice(key)

    def set_max_age(self, seconds: int | None) -> None:
        """Give the session its own lifetime, or remove it with None."""
        self.write()
        self.max_age, self.max_age_is_assigned = seconds, True

    def end(self) -> None:
        """End the session and start a new, empty one."""
        self._check_open()
        # the user of the session decides what happens to the row
        self.read()
        self._restart(Fate.ENDED if self.fate is Fate.LIVE else self.fate)

    def revoked(self) -> None:
        """Start a new, empty session: the row of this one is already deleted."""
        self._check_open()
        self.note_failure()
        self._restart(Fate.REVOKED)

    def regenerate(self) -> None:
        """Have the session stored under a new token."""
        self.write()
        self.regenerated = True
        self._forget_csrf()

    def _start(self, data: dict[Any, Any]) -> None:
        """Start from the session that was found; *data* is that of a live one."""
        self._restart(Fate.LIVE)
        self.data = data
        if self.loaded is not None:
            self.created, _, self.max_age, _ = self.loaded.record.times
        elif self.marker is not None:
            self.data = dict(self.marker.visible)

    def _restart(self, fate: Fate) -> None:
        """Start a new, empty session."""
        self.fate, self.data, self.assigned, self.flashes = fate, {}, set(), {}
        self.max_age, self.max_age_is_assigned = None, False
        self.may_have_changed = self.regenerated = False
        self.created = self.clock()

    def _notice(self, key: Any) -> None:
        # a queue that is set or deleted directly is an ordinary key
        self.flashes.pop(key, None)
        if key == self.userid_key:
            self.notice_user()

    def _forget_csrf(self) -> None:
        for key in self.csrf_keys - self.assigned:
            # whoever planted the session knows the token; later forms get a new one
            self.read().pop(key, None)
