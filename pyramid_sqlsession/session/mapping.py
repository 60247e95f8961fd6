"""The session as views see it: a mapping that knows what changed."""

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
    """A session: Pyramid's ``ISession``, and a mapping that behaves as a dict does.

    It costs nothing until it is used. Changes are noticed by comparing what would be stored, so
    ``session['cart'].append(3)`` needs no :meth:`changed`. It is not a subclass of dict: code
    written in C would take a session that is not loaded yet for an empty dict. ``==``, ``|`` and
    ``copy()`` work as with a dict and give plain dicts.

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
        """Say that a value was changed in place. Not needed: that is noticed without.

        :raises SessionClosed: if the change comes too late to be stored.
        """
        self._state.write()

    def invalidate(self) -> None:
        """End the session: its row is deleted and its cookie expired.

        The session can be used afterwards; it is then a new one, with a row and a cookie of its
        own.
        """
        self._state.end()

    @discreet
    def flash(self, msg: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Append a message to a flash queue.

        :param allow_duplicate: if false, a message that is in the queue already is left out.
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
        """The messages of a flash queue, which stay there."""
        messages: list[Any] = self.get(FLASH + queue, [])
        return messages

    def new_csrf_token(self) -> str:
        """Make a new CSRF token, store it and return it."""
        self[CSRF] = secrets.token_hex(20)
        return str(self[CSRF])

    def get_csrf_token(self) -> str:
        """The session's CSRF token, made when it is first asked for."""
        token: str | None = self.get(CSRF)
        return token if token is not None else self.new_csrf_token()

    # ---- beyond ISession

    def regenerate(self) -> None:
        """Give the session a new token when it is saved, which makes the old one useless.

        Signing in and out does that by itself: see ``sqlsession.userid_key``. Call it for any other
        change of what the visitor may do. Everything that the session holds is kept, less the CSRF
        token of before.
        """
        self._state.regenerate()

    def require_live(self) -> None:
        """Make sure that the session lives until the request's transaction ends, by a lock.

        For a view whose work must not be committed once the session was revoked: a payment. Without
        it, a request that was under way when somebody signed the user out everywhere stores nothing
        in the session, and its other work stands.

        :raises SessionNotLive: if the session was ended, by this request too, or its token
            replaced, or if there was none.
        :raises NoTransaction: if the request has no transaction.
        :raises SessionConflict: if the database refuses the lock; pyramid_retry runs the request
            again.
        """
        self._state.read()
        self._state.lock_live(self._state.live)

    @property
    def id(self) -> str | None:
        """The session's public handle, 32 hex digits, safe to log.

        It is the same from the session's start to its end, whatever token it has. A sign-in starts
        another one. None for a session that is not stored yet.
        """
        self._state.read()
        live = self._state.live
        return None if live is None else live.record.handle

    @property
    def max_age(self) -> int | None:
        """This session's own lifetime in seconds, or None for the configured one.

        ``session.max_age = 30 * 86400`` is "remember me": the cookie outlives the browser.

        :raises ValueError: if what is assigned is not 1 second to ten years.
        """
        self._state.read()
        return self._state.max_age

    @max_age.setter
    def max_age(self, seconds: int | None) -> None:
        self._state.set_max_age(checked_max_age(seconds))

    @property
    def last_seen(self) -> int:
        """The last recorded activity before this request, in epoch seconds.

        It is recorded at most once per ``sqlsession.touch_interval``. A new session was last
        seen when it was created.
        """
        self._state.read()
        live = self._state.live
        return self._state.created if live is None else live.record.times.last_seen

    @property
    def expires_at(self) -> int:
        """When the session expires, in epoch seconds, if this is its last request.

        Later by up to ``sqlsession.touch_interval`` if this request changes the session.
        """
        state = self._state
        state.read()
        return state.lifetime.expires_at(_times(state))

    def _queue(self, queue: str) -> FlashQueue:
        return self._state.flashes.setdefault(FLASH + queue, FlashQueue())


def _times(state: State) -> Times:
    """What the request leaves in the row, if it does not change the data."""
    if state.live is None:
        return Times(state.created, state.created, state.max_age, state.user_now is not None)
    stored, now = state.live.record.times, state.clock()
    is_touched = state.is_visit() and state.lifetime.is_touch_due(stored, now)
    is_written = is_touched or state.max_age != stored.max_age
    times = stored.seen(now, state.max_age) if is_written else stored
    if state.user_is_assigned:
        times = times._replace(signed_in=state.user_now is not None)
    return times
