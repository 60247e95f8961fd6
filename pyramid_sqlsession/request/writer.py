"""Writes the row of one request: updates it, inserts another one, or leaves a marker."""

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
"""Seconds that a marker is kept after the grace period, for slow requests."""


class Writer:
    """Writes for a save. It encodes first, so that data that cannot be stored fails early.

    ``token``
      The token of the row that is written.
    ``data``
      The value of its data column if no other request changed the session; None for no row.

    :raises SessionDataError: if the session holds something that cannot be stored.
    """

    connection: Connection

    def __init__(self, visit: Visit, intent: Intent) -> None:
        self.visit = visit
        self.state = visit.state
        self.store = visit.store
        self.columns = Columns(visit)
        is_write = intent is Intent.WRITE
        # a new row never gets the browser's token, which may have been planted
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
        """Who is signed in now, as a value of the column; None for nobody."""
        return self.columns.user_id(self.connection)

    def encoded(self, data: dict[Any, Any], serialized: bytes | None = None) -> Any:
        """The value of the data column in a row of this token."""
        return self.store.codec.to_column(data, self.token, serialized)

    def update(self, record: Record, data: Any) -> bool:
        """Update the row that was loaded; False if it has changed meanwhile."""
        before = record.times
        times = before.seen(self.store.clock(), self.state.max_age)
        values, own = self.columns.of(data, times, record.purge_after), self.columns.own
        hit = self.store.rows.update(self.connection, self.cookies_id, record.version, values, own)
        if hit:
            self.visit.refresh_cookie(before, times)
        return hit

    def insert(self, lineage: bytes, data: Any, copied: Mapping[str, Any] | None = None) -> Any:
        """Insert a row, for an old or a new session, and send its cookie; returns the user.

        :param copied: values of the application's own columns, to be copied from the old row.
        """
        state, now = self.state, self.store.clock()
        # "remember me" ends with the user's session
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
        """When the session was last seen; another host's clock may be ahead."""
        live = None if leaves(self.state) else self.state.live
        return now if live is None else max(now, live.record.times.last_seen)

    def mark(self, record: Record, lineage: bytes, data: Any, user_id: Any) -> bool:
        """Turn the cookie's row into a marker; False if it has changed meanwhile."""
        now = self.store.clock()
        times = record.times.seen(now, self.store.settings.regenerate_grace + _HOUR)
        # nothing touches a marker, so that it may go as soon as it has expired
        values = self.columns.of(data, times, self.store.lifetime.expires_at(times))
        values |= {"lineage": lineage, "user_id": user_id, "replaced": now}
        return self.store.rows.mark(self.connection, self.cookies_id, record.version, values)
