"""One request's use of its session: what it has found, what it did, and what is to be sent."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import cached_property, partial
from typing import Any

from ..cookie import id_of
from ..events import Outcome, SessionConflicted, SessionEvent, send
from ..exceptions import SessionClosed
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
    """What becomes of a change to the session."""

    OUTSIDE = auto()
    """Perhaps it is stored: the request has not reached the save tween."""
    OPEN = auto()
    """It is stored when the response leaves the save tween."""
    DETACHED = auto()
    """It lives in memory only: the request's transaction is lost."""
    CLOSED = auto()
    """It raises: the session has been stored."""


class Visit:
    """A request and its session.

    ``handed_out``
      Somebody has got the session, and the callbacks are set.
    ``nested``
      It is inside another one, in the same transaction.
    ``transaction``
      The one that the save joined; None if it had one of its own, or there was none.
    ``saved``
      Tells whether what was written is durable; None if nothing was written.
    ``cookie``
      What to send once it is: a token and its Max-Age, or ``(None, None)`` to remove it.
    ``signed_in``
      The ``user_id`` of whom the request has signed in; None if that is nobody.
    ``counts``
      It is activity of its visitor, which is to be recorded.
    ``is_missed``
      The database has failed when an exception view read the session. Nothing is stored then: it
      would take the place of a session that may be live.
    ``beside``
      The rows that the request's other cookies of the same name have named.
    ``merged``
      What was merged with another request's changes; None if there were none.
    ``alone``
      What an exception view did, where what the failed view did was saved with it.
    ``has_flushed``
      Whether the application's database session had flushed something by then.
    ``conflict``
      What to do about keys that another request has changed too: see ``sqlsession.conflict``.
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
        """What the request knows of its session and did to it; many do not ask for one."""
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
        """Whether the request has asked for anything in its session, or has ended it."""
        return "state" in vars(self) and self.state.data is not None

    @property
    def is_changed(self) -> bool:
        """Whether there is something to save."""
        return self.is_used and is_changed(self.state, self.store.codec)

    @property
    def is_open(self) -> bool:
        """Whether what is done to the session is still to be saved."""
        return self.phase in (Phase.OUTSIDE, Phase.OPEN)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the request's cookies: as a rule there is one."""
        return self.store.cookie.tokens(self.request)

    @property
    def token(self) -> str | None:
        """The token of the request's cookie; of several, that of the one that counts."""
        if len(self.tokens) > 1 and self.state.data is None:
            # only the database knows
            self.state.read()
        return self.tokens[self._number] if self.tokens else None

    @property
    def id(self) -> bytes | None:
        """The id of the row that this cookie names, whether there is one or not."""
        token = self.token
        return None if token is None else id_of(token)

    def end(self, phase: Phase, transaction: Any = None) -> None:
        """Say what becomes of later changes; *transaction* is the one that the save joined."""
        self.phase, self.transaction = phase, transaction

    def tell_conflict(self, keys: tuple[Any, ...], outcome: Outcome) -> None:
        """Say that another request changed the session at the same time."""
        lineage = lineage_of(self.state)
        handle = "" if lineage is None else lineage.hex()
        send(SessionConflicted(self.request, handle, keys, outcome))

    def refresh_cookie(self, before: Times, now: Times) -> None:
        """Have the cookie sent again if browsers are to be told of its lifetime."""
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
                "the session was stored when the response left pyramid_sqlsession's tween, this "
                "change would be lost: make it in the view, in an exception view, or in a tween "
                "under pyramid_sqlsession.save_tween_factory"
            )

    @property
    def is_lost(self) -> bool:
        """Whether the transaction that the save joined was not committed."""
        return self.transaction is not None and is_lost(self.request, self.transaction)
