"""A new token for a session: the marker of the old row, signing in, and stepping up."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from ..cookie import id_of
from ..events import SessionEnded, SessionRegenerated, send
from ..session.found import Loaded, Marker, marker_of
from ..session.intent import own_contents
from ..table.record import Record
from .conflict import merged_with, merged_with_row, must_hit, newer_row
from .writer import Writer


class Regeneration:
    """Replaces the token of the session that was loaded: the old row first, then the new one."""

    def __init__(self, writer: Writer, connection: Connection, loaded: Loaded) -> None:
        self._writer = writer
        self._connection = connection
        self._loaded = loaded
        self._visit = writer.visit
        self._state = writer.state
        self._store = writer.store
        # whose row was loaded
        self._cookies_token = writer.visit.token or writer.token

    def run(self) -> None:
        """Replace it, or do what is left to do where another request was first."""
        loaded, record, data = self._loaded, self._loaded.record, self._writer.data
        if not self._mark(record):
            newer = newer_row(self._visit, self._connection, loaded)
            if newer is None:
                self._on_ended()
                return
            if newer.successor is not None:
                self._on_replaced(newer)
                return
            if not (self._state.is_ended or self._state.leaves):
                data = self._encoded(
                    merged_with_row(self._visit, loaded, newer, self._cookies_token)
                )
            record = newer
            must_hit(loaded, hit=self._mark(record))
        self._insert_successor(record, data)

    def _mark(self, record: Record) -> bool:
        """Make the old row a marker, with what a late request may see or take over."""
        data, store = record.data, self._store
        if self._state.is_ended or self._state.user is not None:
            data = self._writer.encoded(self._marker(record).visible, self._cookies_token)
        times = record.times.seen(store.clock(), store.settings.regenerate_grace)
        values, successor = self._writer.columns.of(data, times), id_of(self._writer.token)
        return store.rows.replace(
            self._connection, self._loaded.id, record.version, values, successor
        )

    def _insert_successor(self, record: Record, data: Any) -> None:
        writer, connection, old = self._writer, self._connection, self._loaded.id
        if self._state.is_ended or self._state.leaves:
            send(SessionEnded(self._visit.request, old.hex(), "logout", record.user_id))
            writer.create(connection, data)
            return
        copied = self._store.rows.own_values(connection, old)
        id, user_id = writer.insert(connection, data, {**copied, **writer.columns.own})
        send(SessionRegenerated(self._visit.request, id.hex(), old.hex(), user_id, record.user_id))
        writer.end_surplus(connection, id, user_id)

    def _on_ended(self) -> None:
        """The session is gone: only a sign-in counts, unless it is the same user's again."""
        state = self._state
        if state.signs_in and state.user_now != state.user:
            self._writer.create(self._connection, self._encoded(own_contents(state)))
        else:
            # a logout beside a step-up wins
            self._writer.drop(self._loaded)

    def _on_replaced(self, record: Record) -> None:
        """The session has another token by now: only signing in, and out, counts."""
        state, writer, connection = self._state, self._writer, self._connection
        if not state.signs_in:
            if state.leaves:
                writer.end_wherever_it_is(connection, self._loaded.id)
            writer.drop(self._loaded)
        elif state.user is None:
            writer.create(connection, writer.data if state.is_ended else self._taken_over(record))
        else:
            is_still_signed_in = self._is_still_signed_in(record)
            if state.leaves and is_still_signed_in:
                writer.end_wherever_it_is(connection, self._loaded.id)
            if state.leaves or is_still_signed_in:
                writer.create(connection, writer.data)
            else:
                writer.drop(self._loaded)

    def _taken_over(self, record: Record) -> Any:
        data, _ = merged_with(self._visit, self._loaded, self._marker(record).data)
        return self._encoded(data)

    def _is_still_signed_in(self, marker: Record) -> bool:
        """Whether the user was not signed out since the session got its other token."""
        if marker.successor is None or marker.user_id is None:
            return False
        live = self._store.sessions.live_row(self._connection, marker.successor)
        return live is not None and bool(live.r_user_id == marker.user_id)

    def _marker(self, record: Record) -> Marker:
        return marker_of(self._store.codec, self._cookies_token, record)

    def _encoded(self, data: dict[Any, Any]) -> Any:
        return self._writer.encoded(data, self._writer.token)
