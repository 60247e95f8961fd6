"""One request's use of its session, from the first read to the response's headers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pyramid_tm import is_tm_active
from sqlalchemy.exc import SQLAlchemyError
from transaction.interfaces import NoTransaction

from .cleanup import Cleaner
from .codec import Codec
from .cookie import Cookie, handle_of, vary_on_cookie
from .database import COMMIT_FAILED, COMMITTED, Database
from .dberrors import reason
from .exceptions import SessionClosed, SessionConflict, SessionDataError, SessionTableError
from .lifetime import Lifetime
from .purge import Purge
from .record import Record
from .retries import will_be_retried
from .session import SQLSession
from .settings import Settings
from .state import Loaded, State
from .storage import Storage

log = logging.getLogger("pyramid_sqlsession")

_DATABASE_ERRORS = (SQLAlchemyError, SessionConflict, SessionTableError)


@dataclass(frozen=True)
class Store:
    """What all requests of an application share."""

    settings: Settings
    database: Database
    storage: Storage
    codec: Codec
    cookie: Cookie
    lifetime: Lifetime
    purge: Purge
    cleaner: Cleaner
    clock: Callable[[], int]


class Phase(Enum):
    """What becomes of a change to the session."""

    OPEN = auto()
    """It is stored when the response leaves the save tween."""
    DETACHED = auto()
    """It lives in memory only: the request's transaction is lost."""
    CLOSED = auto()
    """It raises: the session has been stored."""


def current_transaction(request: Any) -> Any:
    """The transaction that pyramid_tm, or whoever called us, will end; None if there is none."""
    if not is_tm_active(request):
        return None
    try:
        transaction = request.tm.get()
    except NoTransaction:
        return None
    # nothing can join a transaction whose commit, by the view, has failed
    return None if transaction.status == COMMIT_FAILED else transaction


class Visit:
    """A request and its session.

    ``saved``
      Tells whether what was written is durable; None if nothing was written.
    ``cookie``
      What to send once it is: a token and its Max-Age, or ``(None, None)`` to remove it.
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
        self.state = State(self._load, self._check_open, store.clock, store.lifetime)
        self.session = SQLSession(self.state)

    @property
    def token(self) -> str | None:
        """The token of the request's cookie."""
        return self.store.cookie.token(self.request)

    def end(self, phase: Phase, transaction: Any = None) -> None:
        """Say what becomes of later changes; *transaction* is the one that the save joined."""
        self.phase, self.transaction = phase, transaction

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
            self._touch()
            self._send(response)

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

    # ---- reading

    def _load(self) -> Loaded | None:
        token = self.token
        if token is None:
            return None
        handle = handle_of(token)
        try:
            record = self._select(handle)
            if record is None or self._has_expired(record):
                return None
            serialized, data = self.store.codec.from_column(record.data)
        except SessionDataError as error:
            log.warning("session %s cannot be read and is taken for empty: %s", handle.hex(), error)
            return None
        return Loaded(handle, record, serialized, data)

    def _has_expired(self, record: Record) -> bool:
        record.check()
        lived = (record.created, record.last_seen, record.max_age)
        return self.store.clock() >= self.store.lifetime.expires_at(*lived)

    def _select(self, handle: bytes) -> Record | None:
        database, storage, request = self.store.database, self.store.storage, self.request
        transaction = current_transaction(request)
        try:
            with database.reading(request, transaction) as connection:
                return storage.load(connection, handle)
        except _DATABASE_ERRORS:
            if getattr(request, "exception", None) is None:
                raise
        # an exception view reads the session after a statement of the view has failed
        try:
            with database.reading(request, None) as connection:
                return storage.load(connection, handle)
        except _DATABASE_ERRORS as error:
            log.warning("session %s is empty for an exception view: %s", handle.hex(), error)
            return None

    # ---- writing

    def _check_open(self) -> None:
        if self.phase is Phase.CLOSED and not self._is_lost():
            raise SessionClosed(
                "the session was stored when the response left pyramid_sqlsession's tween, this "
                "change would be lost: make it in the view, in an exception view, or in a tween "
                "under pyramid_sqlsession.save_tween_factory"
            )

    def _is_lost(self) -> bool:
        transaction = self.transaction
        if transaction is None or transaction.status == COMMITTED:
            return False
        try:
            return self.request.tm.get() is not transaction or transaction.status == COMMIT_FAILED
        except NoTransaction:
            return True

    def _touch(self) -> None:
        loaded, store, now = self.state.loaded, self.store, self.store.clock()
        if loaded is None or not store.lifetime.is_touch_due(loaded.record, now):
            return
        record = loaded.record
        purge_after = store.lifetime.purge_after(
            record.created, now, record.max_age, stored=record.purge_after
        )
        try:
            with store.database.touching(self.request) as connection:
                touched = store.storage.touch(connection, loaded.handle, record, now, purge_after)
        except Exception as error:  # noqa: BLE001  # the request has succeeded without
            # on SQLite every writer is in the way of every other
            level = logging.DEBUG if isinstance(error, SessionConflict) else logging.WARNING
            name, why = loaded.handle.hex(), reason(error)
            log.log(level, "activity of session %s was not recorded: %s", name, why)
            return
        if touched:
            self.refresh_cookie(record, now, record.max_age)
