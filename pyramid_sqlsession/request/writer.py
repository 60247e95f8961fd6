"""Writing one request's session: a new row, a changed one, and the end of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from ..cookie import id_of, new_token
from ..events import SessionConflicted, SessionCreated, SessionEnded, send
from ..lifetime import Times
from ..session.found import Loaded
from ..session.intent import Intent, contents
from ..session.state import Fate
from ..table.record import Record
from .columns import Columns
from .conflict import merged_with_row, must_hit, newer_row
from .visit import Visit


class Writer:
    """What a save writes. It encodes first: what cannot be stored is to fail before any statement.

    ``token``
      That of the row that is written.
    ``data``
      What its data column is to hold if no other request is in the way; None for no row.

    :raises SessionDataError: if the session holds something that cannot be stored.
    """

    def __init__(self, visit: Visit, intent: Intent) -> None:
        self.visit = visit
        self.state = visit.state
        self.store = visit.store
        self.columns = Columns(visit)
        is_update = intent is Intent.UPDATE
        # for a new row never the token that the browser sent: whoever planted it would know it
        self.token = (is_update and visit.token) or new_token()
        data = contents(self.state, self.store.codec)
        serialized = self.state.serialized if is_update else None
        nothing_left = intent is Intent.END and not data
        self.data = None if nothing_left else self.encoded(data, self.token, serialized)

    # ---- one row

    def create(self, connection: Connection, data: Any) -> None:
        """Store a new session."""
        id, user_id = self.insert(connection, data, self.columns.own)
        send(SessionCreated(self.visit.request, id.hex(), user_id))
        self.end_surplus(connection, id, user_id)

    def update(self, connection: Connection, loaded: Loaded) -> None:
        """Store what was changed, in the row that was loaded."""
        if self._write(connection, loaded, loaded.record, self.data):
            return
        newer = newer_row(self.visit, connection, loaded)
        if newer is None or newer.successor is not None:
            self.drop(loaded)
            return
        data = self.encoded(merged_with_row(self.visit, loaded, newer, self.token), self.token)
        must_hit(loaded, hit=self._write(connection, loaded, newer, data))

    def _write(self, connection: Connection, loaded: Loaded, record: Record, data: Any) -> bool:
        before = record.times
        times = before.seen(self.store.clock(), self.state.max_age)
        values = self.columns.of(data, times, record.purge_after)
        own = self.columns.own
        hit = self.store.rows.update(connection, loaded.id, record.version, values, own)
        if hit:
            self.visit.refresh_cookie(before, times)
        return hit

    def insert(
        self, connection: Connection, data: Any, own: Mapping[str, Any]
    ) -> tuple[bytes, Any]:
        """Store a new row, and have its cookie sent; its id and its user.

        :param own: the values of the application's own columns.
        """
        state, now = self.state, self.store.clock()
        # a user who is left takes "remember me" along
        max_age = None if state.leaves and not state.max_age_is_assigned else state.max_age
        created = now if state.signs_in or state.leaves else state.created
        id, user_id = id_of(self.token), self.columns.user_id()
        times = Times(created, self._seen(now), max_age, user_id is not None)
        values = self.columns.of(data, times) | {"created": created, "user_id": user_id}
        self.store.rows.insert(connection, id, values, own)
        self.visit.cookie = (self.token, self.store.lifetime.cookie_max_age(times))
        return id, user_id

    def _seen(self, now: int) -> int:
        """When the session was seen, which another host's faster clock may have noted already."""
        live = None if self.state.leaves else self.state.live
        return now if live is None else max(now, live.record.times.last_seen)

    def encoded(self, data: dict[Any, Any], token: str, serialized: bytes | None = None) -> Any:
        """The value of the data column."""
        return self.store.codec.to_column(data, token, serialized)

    def drop(self, loaded: Loaded) -> None:
        """Store nothing, and say so."""
        send(SessionConflicted(self.visit.request, loaded.id.hex(), (), "dropped"))

    # ---- the end

    def end(self, connection: Connection, loaded: Loaded | None) -> None:
        """Delete the session's row."""
        id = self.visit.id
        if id is not None and self.store.rows.end(connection, id):
            self._tell_the_end(id, None if loaded is None else loaded.record.user_id)
        elif self.state.fate is Fate.REVOKED:
            self.visit.cookie = (None, None)
        elif id is not None and self.state.leaves:
            self.end_wherever_it_is(connection, id)
        if self.data is not None:
            self.create(connection, self.data)

    def end_wherever_it_is(self, connection: Connection, id: bytes) -> None:
        """End the session also if it has another token by now."""
        ended = self.store.sessions.end(connection, id)
        if ended is not None:
            self._tell_the_end(ended.id, ended.user_id)

    def _tell_the_end(self, id: bytes, user_id: Any) -> None:
        self.visit.cookie = (None, None)
        send(SessionEnded(self.visit.request, id.hex(), "logout", user_id))

    def end_surplus(self, connection: Connection, id: bytes, user_id: Any) -> None:
        """Keep to ``max_sessions_per_user``; the session that has just begun stays."""
        limit = self.store.settings.max_sessions_per_user
        if limit is None or user_id is None or not self.state.signs_in:
            return
        sessions = self.store.sessions
        theirs = sessions.of_user(connection, user_id)
        others = [other.handle for other in theirs if other.handle != id.hex()]
        surplus = others[limit - 1 :]
        ended = (sessions.end(connection, bytes.fromhex(other)) for other in surplus)
        for it in filter(None, ended):
            send(SessionEnded(self.visit.request, it.id.hex(), "limit", it.user_id))
