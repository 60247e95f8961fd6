"""What a request knows of its session, and did to it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ..lifetime import Lifetime
from ..table.record import Record
from .merge import FlashQueue

CSRF = "_csrft_"
"""The key of Pyramid's CSRF token in a session."""

# of subclasses nobody knows what they are
_CANNOT_CHANGE = frozenset({str, int, float, bool, bytes, type(None)})


@dataclass(frozen=True)
class Loaded:
    """A live session as it was read.

    ``data`` is what the request then works on; ``serialized`` stays what was loaded.
    ``as_configured`` is false if it has to be encrypted anew.
    """

    handle: bytes
    record: Record
    serialized: bytes
    data: dict[Any, Any]
    as_configured: bool = True


@dataclass(frozen=True)
class Marker:
    """What a late request finds, whose token was regenerated meanwhile.

    ``visible``
      What it sees: the CSRF token, so that a form that was sent twice passes.
    ``kept``
      What a sign-in takes over.
    ``is_left``
      An earlier attempt of the same request has found its session live, and left its user.
    """

    visible: dict[Any, Any]
    kept: dict[Any, Any]
    is_left: bool = False

    @property
    def data(self) -> dict[Any, Any]:
        """All of it."""
        return {**self.kept, **self.visible}


@dataclass
class State:
    """What a request knows of its session and did to it.

    ``load``, ``after_load``
      Called when the session is first used: what the cookie opens, and the telling of it.
    ``check_open``
      Raises :class:`SessionClosed` if it is too late for a change.
    ``data``
      None until the session is used.
    ``loaded``, ``marker``
      What the cookie's row was then: a live session, a marker, or neither.
    ``user``
      Who was signed in then; None is nobody.
    ``assigned``
      The keys that this request has set.
    ``may_have_changed``
      Something was set or deleted, or somebody got a value that can be changed in place.
    ``serialized``
      What the data would be stored as, where that was looked at.
    ``ended``
      The session was ended, and ``data`` is that of a new one.
    ``revoked``
      Its row was deleted at once.
    """

    load: Callable[[], Loaded | Marker | None]
    after_load: Callable[[], None]
    check_open: Callable[[], None]
    clock: Callable[[], int]
    lifetime: Lifetime
    userid_key: str
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
    user_is_assigned: bool = False
    regenerated: bool = False
    ended: bool = False
    revoked: bool = False

    # ---- reading

    def read(self) -> dict[Any, Any]:
        """The data, loaded when it is first needed."""
        if self.data is None:
            found = self.load()
            if isinstance(found, Loaded):
                self.loaded, self.data = found, found.data
                self.created, self.max_age = found.record.created, found.record.max_age
                # it may be a list that is changed in place
                self.user = deepcopy(found.data.get(self.userid_key))
            else:
                self._start()
                if found is not None:
                    self.marker, self.data = found, dict(found.visible)
            self.after_load()
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
        return None if self.ended else self.loaded

    def expires_at(self) -> int:
        """When the session expires if nobody uses it after this request."""
        self.read()
        return self.lifetime.expires_at(self.created, self._last_seen(), self.max_age)

    def _last_seen(self) -> int:
        """What this request leaves in the row, if it does not change the data."""
        if self.live is None:
            return self.created
        record, now = self.live.record, self.clock()
        is_written = self.max_age != record.max_age or self.lifetime.is_touch_due(record, now)
        return max(record.last_seen, now) if is_written else record.last_seen

    # ---- who is signed in

    @property
    def user_now(self) -> Any:
        """Who is signed in now; None is nobody."""
        return self.read().get(self.userid_key)

    @property
    def signs_in(self) -> bool:
        """Whether the request signs somebody in: at first, again, or in another's place."""
        return self.user_is_assigned and self.user_now is not None

    @property
    def leaves(self) -> bool:
        """Whether the user whom the session was loaded with is signed in no longer."""
        if self.marker is not None:
            return self.marker.is_left
        return self.user is not None and self.user_now != self.user

    def notice_user_changed_in_place(self) -> None:
        """Take a user that is, for instance, a list with another item for one that was set."""
        if self.live is not None and not self.user_is_assigned and self.user_now != self.user:
            self.assigned.add(self.userid_key)
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

    def end(self, *, revoked: bool = False) -> None:
        """End the session, and be a new, empty one.

        :param revoked: its row is deleted already.
        """
        self.check_open()
        if not revoked:
            # whose session it is decides what becomes of the row
            self.read()
        self.ended, self.revoked = True, self.revoked or revoked
        self._start()

    def regenerate(self) -> None:
        """Have the session stored under a new token."""
        self.write()
        self.regenerated = True

    def _start(self) -> None:
        self.data, self.assigned, self.flashes = {}, set(), {}
        self.max_age, self.max_age_is_assigned = None, False
        self.user_is_assigned = self.regenerated = False
        self.created = self.clock()

    def _notice(self, key: Any) -> None:
        # a queue that is set or deleted directly is an ordinary key
        self.flashes.pop(key, None)
        if key == self.userid_key:
            self._notice_user()

    def _notice_user(self) -> None:
        self.user_is_assigned = True
        if CSRF not in self.assigned:
            # whoever planted the session knows it; a form that is made from now on gets a new one
            self.read().pop(CSRF, None)
