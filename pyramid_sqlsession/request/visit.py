"""One request's use of its session."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import cached_property, partial
from typing import Any

from ..cookie import id_of
from ..events import Outcome, SessionConflicted, SessionEvent, send
from ..exceptions import SessionClosed, see
from ..frames import discreet
from ..lifetime import Times
from ..session.found import Found
from ..session.intent import is_changed
from ..session.mapping import SQLSession
from ..session.merge import Merged
from ..session.state import State
from ..session.who import lineage_of
from ..store import Store
from ..table.record import Record
from ..transactions import earlier_attempt, is_lost
from .live import lock_live
from .load import NotReadError, load


class Phase(Enum):
    """What happens to a change of the session."""

    OUTSIDE = auto()
    """It may be stored: the request has not reached the save tween."""
    OPEN = auto()
    """It will be stored when the response leaves the save tween."""
    DETACHED = auto()
    """It stays in memory: the request's transaction is lost."""
    CLOSED = auto()
    """It raises an error: the session has been stored."""


class Visit:
    """A request and its session.

    ``handed_out``
      The session was handed out, and the callbacks are set.
    ``nested``
      The request is inside another one, in the same transaction.
    ``transaction``
      The transaction that the save joined; None if there was none, or a separate one.
    ``saved``
      A function that tells whether the write is durable; None if nothing was written.
    ``cookie``
      What to send then: a token and its Max-Age, or ``(None, None)`` to remove the cookie.
    ``signed_in``
      The ``user_id`` that the request signed in; None for nobody.
    ``counts``
      The request counts as activity.
    ``is_missed``
      The database failed when an exception view read the session. Nothing is stored then, because
      it would replace a session that may be live.
    ``beside``
      The rows of the request's other cookies of the same name.
    ``merged``
      The result of a merge with another request's changes; None if there was no merge.
    ``alone``
      The exception view's changes alone, where they were saved with the failed view's.
    ``has_flushed``
      Whether the application's database session had flushed something by then.
    ``conflict``
      What to do about keys that another request changed too: see ``sqlsession.conflict``.
    """

    def __init__(self, store: Store, request: Any) -> None:
        self.store = store
        self.request = request
        self.phase = Phase.OUTSIDE
        self.handed_out = False
        self.nested = False
        self.counts = True
        self.is_missed = False
        self.transaction: Any = None
        self.saved: Callable[[], bool] | None = None
        self.cookie: tuple[str | None, int | None] | None = None
        self.signed_in: Any = None
        self.beside: tuple[Record, ...] = ()
        self._number = 0
        self.merged: Merged | None = None
        self.alone: State | None = None
        self.has_flushed = False
        self.conflict = store.settings.conflict

    @cached_property
    def state(self) -> State:
        """The state of the session, created on demand: many requests do not use it."""
        store = self.store
        return State(
            self._load,
            self._check_open,
            partial(lock_live, store, self.request),
            store.clock,
            store.lifetime,
            store.codec,
            store.settings.userid_key,
            store.csrf_keys,
            self.request.__dict__,
            lambda: self.counts,
            earlier_attempt(self.request),
        )

    @cached_property
    def session(self) -> SQLSession:
        """The session as views see it."""
        return SQLSession(self.state)

    @property
    def is_used(self) -> bool:
        """Whether the request has read, changed or ended its session."""
        return "state" in vars(self) and self.state.data is not None

    @property
    def is_changed(self) -> bool:
        """Whether there is something to save."""
        return self.is_used and is_changed(self.state, self.store.codec)

    @property
    def is_open(self) -> bool:
        """Whether changes to the session will still be saved."""
        return self.phase in (Phase.OUTSIDE, Phase.OPEN)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the request's cookies; usually there is one."""
        return self.store.cookie.tokens(self.request)

    @property
    def token(self) -> str | None:
        """The token of the request's cookie; of several, the one that counts."""
        if len(self.tokens) > 1 and self.state.data is None:
            # only the database knows
            self.state.read()
        return self.tokens[self._number] if self.tokens else None

    @property
    def id(self) -> bytes | None:
        """The id of this cookie's row, whether or not the row exists."""
        token = self.token
        return None if token is None else id_of(token)

    def end(self, phase: Phase, transaction: Any = None) -> None:
        """Enter a phase; *transaction* is the one that the save joined."""
        self.phase, self.transaction = phase, transaction

    def tell_conflict(self, keys: tuple[Any, ...], outcome: Outcome) -> None:
        """Report a concurrent change."""
        lineage = lineage_of(self.state)
        handle = "" if lineage is None else lineage.hex()
        send(SessionConflicted(self.request, handle, keys, outcome))

    def refresh_cookie(self, before: Times, now: Times) -> None:
        """Send the cookie again if its lifetime has to be updated."""
        lifetime = self.store.lifetime
        if lifetime.is_cookie_due(before, now):
            self.cookie = (self.token, lifetime.cookie_max_age(now))

    @discreet
    def _load(self) -> tuple[Found | None, SessionEvent | None]:
        try:
            found, event, self._number, self.beside = load(self.store, self.request, self.tokens)
        except NotReadError:
            self.is_missed = True
            return None, None
        return found, event

    def _check_open(self) -> None:
        if self.phase is Phase.CLOSED and not self.is_lost:
            raise SessionClosed(
                "the session is already stored and this change would be lost: make it in the view, "
                "in an exception view, or in a tween under pyramid_sqlsession.save_tween_factory "
                f"{see('trouble-closed')}"
            )

    @property
    def is_lost(self) -> bool:
        """Whether the transaction that the save joined was not committed."""
        return self.transaction is not None and is_lost(self.request, self.transaction)
