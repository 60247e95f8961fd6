"""``request.sqlsessions``: the sessions of a user, for pages such as "your devices"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Connection

from .events import SessionEnded, send
from .factory import SQLSessionFactory
from .request.alone import undone_with
from .session.who import has_opened
from .table.told import Ended, UserSession
from .transactions import current_transaction

ANYBODY = object()
"""A user whom :meth:`SQLSessions.revoke` does not look at."""

_HANDLE = re.compile("[0-9a-f]{32}", re.ASCII)


class SQLSessions:
    """Finds and ends sessions by their user or their handle, in the request's transaction.

    Where the request has no transaction, what is ended is ended at once. Users are what
    ``sqlsession.userid_key`` holds.
    """

    def __init__(self, request: Any) -> None:
        factory = request.registry.queryUtility(ISessionFactory)
        if not isinstance(factory, SQLSessionFactory):
            raise ConfigurationError(
                "request.sqlsessions needs pyramid_sqlsession's session factory, the application "
                f"has set another one: {factory!r}"
            )
        self._request = request
        # the cookie of a session that is revoked here has to be removed
        factory(request)
        self._visit = factory.visit(request)
        self._store = self._visit.store

    def of_user(self, user_id: Any) -> list[UserSession]:
        """The live sessions of a user, the one that was used last first; None has none.

        :raises TypeError: if it is nothing that names a user: an object, bytes, a flag.
        """
        if user_id is None:
            return []
        self._store.sessions.check(user_id)
        transaction, own = current_transaction(self._request), self._visit.id
        reading = self._store.database.reading(self._request, transaction)
        with undone_with(transaction), reading as connection:
            known = self._known(connection, user_id)
            return [] if known is None else self._store.sessions.of_user(connection, known, own)

    def revoke(self, handle: str | None, user_id: Any = ANYBODY) -> bool:
        """End a session, however old its handle is; False if there is none, or no handle.

        :param user_id: end it only if it is this user's; None is nobody and has no sessions.
        :raises TypeError: if it is nothing that names a user: an object, bytes, a flag.
        """
        if user_id is None or handle is None or _HANDLE.fullmatch(handle) is None:
            return False
        if user_id is not ANYBODY:
            self._store.sessions.check(user_id)
        sessions, lineages = self._store.sessions, [bytes.fromhex(handle)]

        def end(connection: Connection) -> list[Ended]:
            known = None if user_id is ANYBODY else self._known(connection, user_id)
            if known is None and user_id is not ANYBODY:
                return []
            return sessions.end(connection, lineages, user_id=known)

        return bool(self._ended(end))

    def revoke_user(self, user_id: Any, keep: str | None = None) -> int:
        """End all sessions of a user; return how many there were. None has none.

        :param keep: the handle of a session that stays, for instance ``request.session.id``.
        :raises TypeError: if it is nothing that names a user: an object, bytes, a flag.
        :raises ValueError: if *keep* is no handle.
        """
        if keep is not None and _HANDLE.fullmatch(keep) is None:
            # it is not shown: it may be a token
            raise ValueError("keep must be the handle of a session, 32 hexadecimal digits")
        if user_id is None:
            return 0
        self._store.sessions.check(user_id)
        sessions, kept = self._store.sessions, bytes.fromhex(keep or "")

        def end(connection: Connection) -> list[Ended]:
            known = self._known(connection, user_id)
            return [] if known is None else sessions.end_user(connection, known, kept)

        return len(self._ended(end))

    def _known(self, connection: Connection, user_id: Any) -> Any:
        """A user as the column holds them; None if nobody's sessions are stored under that."""
        try:
            return self._store.sessions.converted(connection, user_id)
        except ValueError:
            return None

    def _ended(self, end: Callable[[Connection], list[Ended]]) -> list[Ended]:
        """What a function ends, which the request's own session and the subscribers are told."""
        request, visit = self._request, self._visit
        # which of several cookies counts is known only as long as their rows are there
        transaction, own = current_transaction(request), visit.id
        writing = self._store.database.writing(request, transaction)
        if visit.is_open:
            # afterwards nobody could tell whose it was
            visit.state.read()
        with undone_with(transaction), writing as (connection, _):
            ended = end(connection)
        is_own = any(own in session.ids for session in ended)
        if visit.is_open and is_own and has_opened(visit.state):
            visit.state.revoked()
        for session in ended:
            handle = session.lineage.hex()
            send(SessionEnded(request, handle, "revoked", session.user_id))
        return ended
