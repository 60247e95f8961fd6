"""What a request knows of its session, and did to it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from ..events import SessionEvent, send
from ..lifetime import Lifetime, Times
from ..transactions import Attempt
from .found import CSRF, Found, Loaded, Marker
from .merge import Differ, FlashQueue

# of subclasses nobody knows what they are
_CANNOT_CHANGE = frozenset({str, int, float, bool, bytes, type(None)})


class Fate(Enum):
    """What a request did to its session as a whole."""

    LIVE = auto()
    ENDED = auto()
    """It has ended it; the row is deleted when it is saved."""
    REVOKED = auto()
    """It has ended it, and the row was deleted at once."""


@dataclass
class State:
    """What a request knows of its session and did to it.

    ``load``
      Called when the session is first used: what the cookie opens, and what is to be told of it.
    ``check_open``
      Raises :class:`SessionClosed` if it is too late for a change.
    ``data``
      None until the session is used.
    ``loaded``, ``marker``
      What the cookie's row was then: a live session, a marker, or neither.
    ``user``
      Who was signed in then; None is nobody.
    ``assigned``
      The keys that this request has set, and that of the user if it has deleted it.
    ``may_have_changed``
      Something was set or deleted, or somebody got a value that can be changed in place.
    ``serialized``
      What the data would be stored as, where that was looked at.
    ``fate``
      What the request did to the session as a whole.
    ``earlier``
      What an earlier attempt of the request has found and done.
    """

    load: Callable[[], tuple[Found | None, SessionEvent | None]]
    check_open: Callable[[], None]
    clock: Callable[[], int]
    lifetime: Lifetime
    differ: Differ
    userid_key: str
    earlier: Attempt | None = None
    loaded: Loaded | None = None
    marker: Marker | None = None
    user: Any = None
    data: dict[Any, Any] | None = None
    assigned: set[Any] = field(default_factory=set)
    may_have_changed: bool = False
    serialized: bytes | None = None
    flashes: dict[str, FlashQueue] = field(default_factory=dict)
    max_age: int | None = None
    max_age_is_assigned: bool = False
    created: int = 0
    regenerated: bool = False
    fate: Fate = Fate.LIVE

    # ---- reading

    def read(self) -> dict[Any, Any]:
        """The data, loaded when it is first needed."""
        if self.data is None:
            found, event = self.load()
            if isinstance(found, Loaded):
                self.loaded, self.data = found, found.data
                self.created, _, self.max_age = found.record.times
                # it may be a list that is changed in place
                self.user = deepcopy(found.data.get(self.userid_key))
            else:
                self._start()
                if found is not None:
                    self.marker, self.data = found, dict(found.visible)
            if event is not None:
                # a subscriber may want to read the session
                send(event)
        return self.data  # type: ignore[return-value]  # a start gives data

    def value(self, key: Any) -> Any:
        """The value of a key, which whoever gets it may change in place.

        :raises KeyError: if it is not there.
        """
        value = self.read()[key]
        if type(value) not in _CANNOT_CHANGE:
            self.may_have_changed = True
        return value

    def hand_out(self) -> dict[Any, Any]:
        """The data, of which any value may be changed in place."""
        self.may_have_changed = True
        return self.read()

    @property
    def live(self) -> Loaded | None:
        """The live session that this one is; None for a new one."""
        return self.loaded if self.fate is Fate.LIVE else None

    @property
    def is_ended(self) -> bool:
        """Whether ``data`` is that of a new session."""
        return self.fate is not Fate.LIVE

    @property
    def times(self) -> Times:
        """What this request leaves in the row, if it does not change the data."""
        if self.live is None:
            return Times(self.created, self.created, self.max_age)
        stored, now = self.live.record.times, self.clock()
        is_written = self.max_age != stored.max_age or self.lifetime.is_touch_due(stored, now)
        return stored.seen(now, self.max_age) if is_written else stored

    def expires_at(self) -> int:
        """When the session expires if nobody uses it after this request."""
        self.read()
        return self.lifetime.expires_at(self.times)

    # ---- who is signed in

    @property
    def user_now(self) -> Any:
        """Who is signed in now; None is nobody."""
        return self.read().get(self.userid_key)

    @property
    def user_is_assigned(self) -> bool:
        """Whether the request has set or deleted who is signed in."""
        return self.userid_key in self.assigned

    @property
    def signs_in(self) -> bool:
        """Whether the request signs somebody in: at first, again, or in another's place."""
        return self.user_is_assigned and self.user_now is not None

    @property
    def leaves(self) -> bool:
        """Whether the user whom the session was loaded with is signed in no longer."""
        if self.loaded is None:
            return self.earlier is not None and self.earlier.ends
        return self.user is not None and not self._is_now(self.user)

    @property
    def steps_up(self) -> bool:
        """Whether the user whom the session was loaded with signs in again."""
        user = self.user
        if self.loaded is None and self.earlier is not None:
            user = self.earlier.user
        return self.signs_in and user is not None and self._is_now(user)

    @property
    def ends(self) -> bool:
        """Whether the session that was found ends, whatever follows it."""
        # a sign-out is a deliberate act, also with the old token of a session that lives on
        is_somebodys = self.marker is not None and self.marker.record.user_id is not None
        is_found = self.loaded is not None or is_somebodys
        return self.leaves or self.fate is Fate.REVOKED or (self.is_ended and is_found)

    @property
    def lineage(self) -> bytes | None:
        """The session that was found, by this attempt or an earlier one."""
        if self.loaded is not None:
            return self.loaded.record.lineage
        if self.earlier is not None:
            return self.earlier.lineage
        return None if self.marker is None else self.marker.record.lineage

    def _is_now(self, user: Any) -> bool:
        # as they are stored: a tuple is a list
        now = self.user_now
        return now is not None and (now == user or not self.differ(self.userid_key, user, now))

    def notice_user_changed_in_place(self) -> None:
        """Take a user that is, for instance, a list with another item for one that was set."""
        if self.live is not None and not self.user_is_assigned and self.user_now != self.user:
            self._notice_user()

    # ---- changing

    def write(self) -> dict[Any, Any]:
        """The data, to be changed.

        :raises SessionClosed: if it is too late for that.
        """
        self.check_open()
        return self.hand_out()

    def set(self, key: Any, value: Any) -> None:
        """Set a key."""
        self.write()[key] = value
        self.assigned.add(key)
        self._notice(key)

    def delete(self, key: Any) -> None:
        """Delete a key.

        :raises KeyError: if it is not there.
        """
        del self.write()[key]
        self._notice(key)

    def set_max_age(self, seconds: int | None) -> None:
        """Give the session a lifetime of its own, or take it back."""
        self.write()
        self.max_age, self.max_age_is_assigned = seconds, True

    def end(self) -> None:
        """End the session, and be a new, empty one."""
        self.check_open()
        # whose session it is decides what becomes of the row
        self.read()
        if self.fate is Fate.LIVE:
            self.fate = Fate.ENDED
        self._start()

    def revoked(self) -> None:
        """Be a new, empty session: the row of this one is deleted already."""
        self.check_open()
        self.fate = Fate.REVOKED
        self._start()

    def regenerate(self) -> None:
        """Have the session stored under a new token."""
        self.write()
        self.regenerated = True
        self._forget_csrf()

    def _start(self) -> None:
        self.data, self.assigned, self.flashes = {}, set(), {}
        self.max_age, self.max_age_is_assigned = None, False
        self.regenerated = False
        self.created = self.clock()

    def _notice(self, key: Any) -> None:
        # a queue that is set or deleted directly is an ordinary key
        self.flashes.pop(key, None)
        if key == self.userid_key:
            self._notice_user()

    def _notice_user(self) -> None:
        self.assigned.add(self.userid_key)
        self._forget_csrf()

    def _forget_csrf(self) -> None:
        if CSRF not in self.assigned:
            # whoever planted the session knows it; a form that is made from now on gets a new one
            self.read().pop(CSRF, None)
