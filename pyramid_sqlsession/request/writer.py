"""Writing one request's row: changing it, adding another one, leaving a marker."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import Connection

from ..cookie import id_of, new_token
from ..lifetime import Times
from ..session.intent import Intent, contents
from ..session.who import leaves, signs_in
from ..table.record import Record
from .columns import Columns
from .visit import Visit

_HOUR = 3600
"""Seconds for which a marker stays after the grace: what slow requests may take."""


class Writer:
    """What a save writes. It encodes first: what cannot be stored is to fail before any statement.

    ``token``
      That of the row that is written.
    ``data``
      What its data column is to hold if no other request is in the way; None for no row.

    :raises SessionDataError: if the session holds something that cannot be stored.
    """

    connection: Connection

    def __init__(self, visit: Visit, intent: Intent) -> None:
        self.visit = visit
        self.state = visit.state
        self.store = visit.store
        self.columns = Columns(visit)
        is_write = intent is Intent.WRITE
        # for a new row never the token that the browser sent: whoever planted it would know it
        self.token = (is_write and visit.token) or new_token()
        data = contents(self.state)
        serialized = self.state.serialized if is_write else None
        nothing_left = intent is Intent.END and not data
        self.data = None if nothing_left else self.encoded(data, serialized)

    @property
    def cookies_token(self) -> str:
        """The token of the row that was loaded."""
        return self.visit.token or self.token

    @property
    def cookies_id(self) -> bytes:
        """Its id."""
        return id_of(self.cookies_token)

    @cached_property
    def user_id(self) -> Any:
        """Who is signed in now, as the column takes it; None for nobody."""
        return self.columns.user_id(self.connection)

    def encoded(self, data: dict[Any, Any], serialized: bytes | None = None) -> Any:
        """The value of the data column in a row of this token."""
        return self.store.codec.to_column(data, self.token, serialized)

    def update(self, record: Record, data: Any) -> bool:
        """Change the row that was loaded; False if it is another one by now."""
        before = record.times
        times = before.seen(self.store.clock(), self.state.max_age)
        values, own = self.columns.of(data, times, record.purge_after), self.columns.own
        hit = self.store.rows.update(self.connection, self.cookies_id, record.version, values, own)
        if hit:
            self.visit.refresh_cookie(before, times)
        return hit

    def insert(self, lineage: bytes, data: Any, copied: Mapping[str, Any] | None = None) -> Any:
        """Add a row to a session, or begin one, and have its cookie sent; its user.

        :param copied: values of the application's own columns, which it may have changed.
        """
        state, now = self.state, self.store.clock()
        # a user who is left takes "remember me" along
        max_age = None if leaves(state) and not state.max_age_is_assigned else state.max_age
        created = now if signs_in(state) or leaves(state) else state.created
        user_id = self.user_id
        times = Times(created, self._seen(now), max_age, user_id is not None)
        values = self.columns.of(data, times)
        values |= {"created": created, "user_id": user_id, "lineage": lineage}
        own = {**(copied or {}), **self.columns.own}
        self.store.rows.insert(self.connection, id_of(self.token), values, own)
        self.visit.cookie = (self.token, self.store.lifetime.cookie_max_age(times))
        self.visit.signed_in = user_id if signs_in(state) else None
        return user_id

    def _seen(self, now: int) -> int:
        """When the session was seen, which another host's faster clock may have noted already."""
        live = None if leaves(self.state) else self.state.live
        return now if live is None else max(now, live.record.times.last_seen)

    def mark(self, record: Record, lineage: bytes, data: Any, user_id: Any) -> bool:
        """Make the cookie's row a marker; False if it is another one by now."""
        now = self.store.clock()
        times = record.times.seen(now, self.store.settings.regenerate_grace + _HOUR)
        values = self.columns.of(data, times)
        values |= {"lineage": lineage, "user_id": user_id, "replaced": now}
        return self.store.rows.mark(self.connection, self.cookies_id, record.version, values)
