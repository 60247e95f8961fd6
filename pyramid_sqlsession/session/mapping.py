"""The session as views see it."""

from __future__ import annotations

import secrets
from typing import Any

from pyramid.interfaces import ISession
from zope.interface import implementer

from ..frames import discreet
from ..lifetime import Times, checked_max_age
from .found import CSRF
from .lazy_dict import LazyDict
from .merge import FLASH, FlashQueue
from .state import State


@implementer(ISession)
class SQLSession(LazyDict):
    """A session: Pyramid's ``ISession``, and a mapping that behaves like a dict.

    It costs nothing until it is used. Changes are detected by comparing what would be stored, so
    ``session['cart'].append(3)`` does not need :meth:`changed`. It is not a subclass of dict,
    because code written in C would see a session that is not loaded yet as an empty dict. ``==``,
    ``|`` and ``copy()`` work as with a dict and return plain dicts.

    Every change raises :class:`SessionClosed` once the response has left the save tween.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        state = self._state
        if state.data is None:
            return "<SQLSession, not loaded>"
        return f"<SQLSession {self.id or 'new'} with {len(state.data)} keys>"

    # ---- ISession

    @property
    def created(self) -> int:
        """When the session started, in epoch seconds."""
        self._state.read()
        return self._state.created

    @property
    def new(self) -> bool:
        """Whether this request started the session."""
        self._state.read()
        return self._state.live is None

    def changed(self) -> None:
        """Mark the session as changed. Not needed: changes in place are detected.

        :raises SessionClosed: if the change comes too late to be stored.
        """
        self._state.write()

    def invalidate(self) -> None:
        """End the session: delete its row and remove its cookie.

        You can use the session afterwards; it is then a new one, with its own row and cookie.
        """
        self._state.end()

    @discreet
    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Append a message to a flash queue.

        :param allow_duplicate: if false, do not append a message that is already in the queue.
        """
        messages = self._state.write().setdefault(FLASH + queue, [])
        if allow_duplicate or msg not in messages:
            messages.append(msg)
        # also if it is there: another request may be showing that one now
        self._queue(queue).added.append((msg, allow_duplicate))

    def pop_flash(self, queue: str = "") -> list[Any]:
        """Remove all messages from a flash queue and return them."""
        if FLASH + queue not in self:
            return []
        messages: list[Any] = self._state.write().pop(FLASH + queue)
        operations = self._queue(queue)
        operations.popped = True
        operations.added.clear()
        return messages

    def peek_flash(self, queue: str = "") -> list[Any]:
        """Return all messages of a flash queue without removing them."""
        messages: list[Any] = self.get(FLASH + queue, [])
        return messages

    def new_csrf_token(self) -> str:
        """Create a CSRF token, store it and return it."""
        self[CSRF] = secrets.token_hex(20)
        return str(self[CSRF])

    def get_csrf_token(self) -> str:
        """Return the session's CSRF token; create one if there is none."""
        token: str | None = self.get(CSRF)
        return token if token is not None else self.new_csrf_token()

    # ---- beyond ISession

    def regenerate(self) -> None:
        """Give the session a new token when it is saved. The old token becomes useless.

        Signing in and out regenerates the session automatically: see ``sqlsession.userid_key``.
        Call this method for any other change of the visitor's privileges. All data is kept, except
        for the CSRF token.
        """
        self._state.regenerate()

    def require_live(self) -> None:
        """Lock the session, so that it stays live until the request's transaction ends.

        Use it in a view whose work must not be committed once the session was revoked, such as a
        payment. Without it, a request in progress when the user is signed out everywhere stores
        nothing in the session, but its other work is committed.

        :raises SessionNotLive: if the session was ended (by this request too) or regenerated, or
            if there is none.
        :raises NoTransaction: if the request has no transaction.
        :raises SessionConflict: if the database refuses the lock; pyramid_retry runs the request
            again.
        """
        self._state.read()
        self._state.lock_live(self._state.live)

    @property
    def id(self) -> str | None:
        """The session's public handle: 32 hex digits, safe to log.

        It stays the same when the session is regenerated. A sign-in starts a new session with a new
        handle. None for a session that is not stored yet.
        """
        self._state.read()
        live = self._state.live
        return None if live is None else live.record.handle

    @property
    def max_age(self) -> int | None:
        """This session's own lifetime in seconds, or None for the configured one.

        ``session.max_age = 30 * 86400`` is "remember me": the cookie outlives the browser.

        :raises ValueError: if the value is not between 1 second and ten years.
        """
        self._state.read()
        return self._state.max_age

    @max_age.setter
    def max_age(self, seconds: int | None) -> None:
        self._state.set_max_age(checked_max_age(seconds))

    @property
    def last_seen(self) -> int:
        """The last recorded activity before this request, in epoch seconds.

        It is recorded at most once per ``sqlsession.touch_interval``. For a new session, it is the
        time of its creation.
        """
        self._state.read()
        live = self._state.live
        return self._state.created if live is None else live.record.times.last_seen

    @property
    def expires_at(self) -> int:
        """When the session expires if it is not used again, in epoch seconds.

        It is later by up to ``sqlsession.touch_interval`` if this request changes the session.
        """
        state = self._state
        state.read()
        return state.lifetime.expires_at(_times(state))

    def _queue(self, queue: str) -> FlashQueue:
        return self._state.flashes.setdefault(FLASH + queue, FlashQueue())


def _times(state: State) -> Times:
    """The times that the row will have if the request does not change the data."""
    if state.live is None:
        return Times(state.created, state.created, state.max_age, state.user_now is not None)
    stored, now = state.live.record.times, state.clock()
    is_touched = state.is_visit() and state.lifetime.is_touch_due(stored, now)
    is_written = is_touched or state.max_age != stored.max_age
    times = stored.seen(now, state.max_age) if is_written else stored
    if state.user_is_assigned:
        times = times._replace(signed_in=state.user_now is not None)
    return times
