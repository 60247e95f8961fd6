"""One request's use of its session, from the first read to the response's headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import cached_property
from typing import Any

from pyramid_tm import is_tm_active
from sqlalchemy import Connection

from ..cookie import handle_of, vary_on_cookie
from ..events import SessionEvent, send
from ..exceptions import SessionClosed
from ..session.mapping import SQLSession
from ..session.merge import Merged
from ..session.state import State
from ..store import Store
from ..table.record import Record
from ..transactions import is_lost, will_be_retried
from .load import load
from .respond import encrypt_anew, touch


class Phase(Enum):
    """What becomes of a change to the session."""

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
    ``entered``
      The request has reached the save tween.
    ``nested``
      It is inside another one, in the same transaction.
    ``transaction``
      The one that the save joined; None if it had one of its own, or there was none.
    ``saved``
      Tells whether what was written is durable; None if nothing was written.
    ``cookie``
      What to send once it is: a token and its Max-Age, or ``(None, None)`` to remove it.
    ``merged``
      What was merged with another request's changes; None if there were none.
    """

    def __init__(self, store: Store, request: Any) -> None:
        self.store = store
        self.request = request
        self.phase = Phase.OPEN
        self.handed_out = False
        self.entered = False
        self.nested = False
        self.transaction: Any = None
        self.saved: Callable[[], bool] | None = None
        self.cookie: tuple[str | None, int | None] | None = None
        self.merged: Merged | None = None
        self._untold: list[SessionEvent] = []

    @cached_property
    def state(self) -> State:
        """What the request knows of its session and did to it; many do not ask for one."""
        store = self.store
        return State(
            lambda: load(store, self.request, self.token, self._untold.append),
            self._tell,
            self._check_open,
            store.clock,
            store.lifetime,
            store.settings.userid_key,
        )

    @cached_property
    def session(self) -> SQLSession:
        """The session as views see it."""
        return SQLSession(self.state)

    @property
    def is_used(self) -> bool:
        """Whether the request has asked for anything in its session, or has ended it."""
        return "state" in vars(self) and self.state.data is not None

    @cached_property
    def token(self) -> str | None:
        """The token of the request's cookie."""
        return self.store.cookie.token(self.request)

    @property
    def handle(self) -> bytes | None:
        """The id of the row that the request's cookie names, whether there is one or not."""
        token = self.token
        return None if token is None else handle_of(token)

    def end(self, phase: Phase, transaction: Any = None) -> None:
        """Say what becomes of later changes; *transaction* is the one that the save joined."""
        self.phase, self.transaction = phase, transaction

    @contextmanager
    def writing(self, transaction: Any) -> Iterator[tuple[Connection, Callable[[], bool]]]:
        """A connection in the transaction, or in one of its own if that is None.

        With it comes a function that tells, later, whether what was written is durable.
        """
        database = self.store.database
        if transaction is None:
            with database.beside(self.request) as connection:
                # it is durable for whoever has left this block without an error
                yield connection, lambda: True
        else:
            yield database.writing(self.request, transaction)

    def respond(self, request: Any, response: Any) -> None:
        """Response callback: everything is committed or aborted now."""
        if self.state.data is None:
            return
        vary_on_cookie(response)
        outsider = is_tm_active(request)
        if self.saved is not None and (self.saved() or outsider):
            self._send(response)
        elif self.entered and not outsider and not will_be_retried(request, request.exception):
            self.cookie = None
            self._finish()
            self._send(response)

    def _finish(self) -> None:
        """Do what is left to do for a session that this request has not written."""
        loaded, token, now = self.state.loaded, self.token, self.store.clock()
        if loaded is None or token is None:
            return
        if touch(self.store, self.request, loaded, now):
            self.refresh_cookie(loaded.record, now, loaded.record.max_age)
        encrypt_anew(self.store, self.request, loaded, token)

    def _send(self, response: Any) -> None:
        if self.cookie is not None:
            self.store.cookie.set(self.request, response, *self.cookie)

    def refresh_cookie(self, record: Record, last_seen: int, max_age: int | None) -> None:
        """Have the cookie sent again if its lifetime moved away from the *record*'s."""
        age_of = self.store.lifetime.cookie_max_age
        old = age_of(record.created, record.last_seen, record.max_age)
        new = age_of(record.created, last_seen, max_age)
        if old is None or new is None:
            has_moved = old != new
        else:
            has_moved = record.last_seen + old != last_seen + new
        if has_moved:
            self.cookie = (self.token, new)

    def _tell(self) -> None:
        while self._untold:
            send(self._untold.pop())

    def _check_open(self) -> None:
        if self.phase is Phase.CLOSED and not self._is_lost():
            raise SessionClosed(
                "the session was stored when the response left pyramid_sqlsession's tween, this "
                "change would be lost: make it in the view, in an exception view, or in a tween "
                "under pyramid_sqlsession.save_tween_factory"
            )

    def _is_lost(self) -> bool:
        return self.transaction is not None and is_lost(self.request, self.transaction)
