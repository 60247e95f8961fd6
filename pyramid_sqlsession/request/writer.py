"""Writing one request's session: new rows, changed rows, rows that are replaced or ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from ..cookie import handle_of
from ..events import SessionConflicted, SessionCreated, SessionEnded, SessionRegenerated, send
from ..exceptions import SessionConflict, SessionDataError
from ..session.intent import Intent, own_contents
from ..session.state import Loaded, Marker
from ..table.record import Record
from .columns import Values
from .conflict import merge_with, resolve
from .load import marker_of
from .visit import Visit


@dataclass(frozen=True)
class Plan:
    """What a save would write if no other request is in the way.

    ``data`` is what the column is to hold; None if nothing is left to store.
    """

    token: str
    data: Any


class Writer:
    """Does what an :class:`Intent` says, on one connection."""

    def __init__(self, visit: Visit, connection: Connection, plan: Plan) -> None:
        self.visit = visit
        self.state = visit.state
        self.store = visit.store
        self.connection = connection
        self.plan = plan
        self.values = Values(visit)
        # whose row was loaded
        self._cookies_token = visit.token or plan.token

    def write(self, intent: Intent) -> None:
        """Write what is to become of the session.

        :raises SessionConflict: if another request was in the way and this one should be run again.
        """
        loaded = self.state.loaded
        if intent is Intent.END:
            self._end(loaded)
        elif loaded is None or intent is Intent.CREATE:
            self._create(self.plan.data)
        elif intent is Intent.UPDATE:
            self._update(loaded)
        else:
            self._replace(loaded)

    # ---- one row

    def _create(self, data: Any) -> None:
        handle, user_id = self._insert(data, self.values.own)
        send(SessionCreated(self.visit.request, handle.hex(), user_id))
        self._end_surplus(handle, user_id)

    def _update(self, loaded: Loaded) -> None:
        if self._write(loaded, loaded.record, self.plan.data):
            return
        newer = self._newer(loaded)
        if newer is None or newer.successor is not None:
            self._drop(loaded)
        else:
            _expect(loaded, hit=self._write(loaded, newer, self._merged(loaded, newer)))

    def _write(self, loaded: Loaded, record: Record, data: Any) -> bool:
        last_seen, max_age = max(self.store.clock(), record.last_seen), self.state.max_age
        values = self.values.of(data, record.created, last_seen, max_age, record.purge_after)
        hit = self.store.storage.update(
            self.connection, loaded.handle, record.version, values, self.values.own
        )
        if hit:
            self.visit.refresh_cookie(record, last_seen, max_age)
        return hit

    # ---- a new token

    def _replace(self, loaded: Loaded) -> None:
        record, data = loaded.record, self.plan.data
        if not self._mark(loaded, record):
            newer = self._newer(loaded)
            if newer is None:
                self._replace_ended(loaded)
                return
            if newer.successor is not None:
                self._replace_replaced(loaded, newer)
                return
            if not (self.state.ended or self.state.leaves):
                data = self._merged(loaded, newer)
            record = newer
            _expect(loaded, hit=self._mark(loaded, record))
        self._insert_successor(loaded, record, data)

    def _mark(self, loaded: Loaded, record: Record) -> bool:
        """Make the old row a marker, with what a late request may see or take over."""
        data = record.data
        if self.state.ended or self.state.user is not None:
            data = self._encoded(self._marker(record).visible, self._cookies_token)
        last_seen = max(self.store.clock(), record.last_seen)
        grace = self.store.settings.regenerate_grace
        values = self.values.of(data, record.created, last_seen, grace)
        return self.store.storage.replace(
            self.connection, loaded.handle, record.version, values, handle_of(self.plan.token)
        )

    def _insert_successor(self, loaded: Loaded, record: Record, data: Any) -> None:
        request, old = self.visit.request, loaded.handle.hex()
        if self.state.ended or self.state.leaves:
            send(SessionEnded(request, old, "logout", record.user_id))
            self._create(data)
            return
        copied = self.store.storage.own_values(self.connection, loaded.handle)
        handle, user_id = self._insert(data, {**copied, **self.values.own})
        send(SessionRegenerated(request, handle.hex(), old, user_id, record.user_id))
        self._end_surplus(handle, user_id)

    def _replace_ended(self, loaded: Loaded) -> None:
        """The session is gone: only a sign-in counts, unless it is the same user's again."""
        state = self.state
        if state.signs_in and state.user_now != state.user:
            self._create(self._encoded(own_contents(state), self.plan.token))
        else:
            # a logout beside a step-up wins
            self._drop(loaded)

    def _replace_replaced(self, loaded: Loaded, record: Record) -> None:
        """The session has another token by now: only signing in, and out, counts."""
        state = self.state
        if not state.signs_in:
            if state.leaves:
                self._end_wherever_it_is(loaded.handle)
            self._drop(loaded)
        elif state.user is None:
            self._create(self.plan.data if state.ended else self._taken_over(loaded, record))
        else:
            is_still_signed_in = self._is_still_signed_in(record)
            if state.leaves and is_still_signed_in:
                self._end_wherever_it_is(loaded.handle)
            if state.leaves or is_still_signed_in:
                self._create(self.plan.data)
            else:
                self._drop(loaded)

    def _taken_over(self, loaded: Loaded, record: Record) -> Any:
        merged = merge_with(self.visit, loaded, self._marker(record).data)
        return self._encoded(merged.data, self.plan.token)

    def _is_still_signed_in(self, marker: Record) -> bool:
        """Whether the user was not signed out since the session got its other token."""
        if marker.successor is None or marker.user_id is None:
            return False
        live = self.store.accounts.live_row(self.connection, marker.successor)
        return live is not None and bool(live.r_user_id == marker.user_id)

    # ---- the end

    def _end(self, loaded: Loaded | None) -> None:
        handle = self.visit.handle
        if handle is not None and self.store.storage.end(self.connection, handle):
            self._tell_the_end(handle, None if loaded is None else loaded.record.user_id)
        elif self.state.revoked:
            self.visit.cookie = (None, None)
        elif handle is not None and self.state.leaves:
            self._end_wherever_it_is(handle)
        if self.plan.data is not None:
            self._create(self.plan.data)

    def _end_wherever_it_is(self, handle: bytes) -> None:
        ended = self.store.accounts.end(self.connection, handle)
        if ended is not None:
            self._tell_the_end(ended.handle, ended.user_id)

    def _tell_the_end(self, handle: bytes, user_id: Any) -> None:
        self.visit.cookie = (None, None)
        send(SessionEnded(self.visit.request, handle.hex(), "logout", user_id))

    def _end_surplus(self, handle: bytes, user_id: Any) -> None:
        """Keep to ``max_sessions_per_user``; the session that has just begun stays."""
        limit = self.store.settings.max_sessions_per_user
        if limit is None or user_id is None or not self.state.signs_in:
            return
        accounts = self.store.accounts
        theirs = accounts.of_user(self.connection, user_id)
        others = [other.handle for other in theirs if other.handle != handle.hex()]
        surplus = others[limit - 1 :]
        ended = (accounts.end(self.connection, bytes.fromhex(other)) for other in surplus)
        for it in filter(None, ended):
            send(SessionEnded(self.visit.request, it.handle.hex(), "limit", it.user_id))

    # ---- what is written

    def _insert(self, data: Any, own: Mapping[str, Any]) -> tuple[bytes, Any]:
        state, lifetime, now = self.state, self.store.lifetime, self.store.clock()
        created = now if state.signs_in or state.leaves else state.created
        # a user who is left takes "remember me" along
        max_age = None if state.leaves and not state.max_age_is_assigned else state.max_age
        handle, user_id = handle_of(self.plan.token), self.values.user_id()
        values = self.values.of(data, created, now, max_age)
        values |= {"created": created, "user_id": user_id}
        self.store.storage.insert(self.connection, handle, values, own)
        self.visit.cookie = (self.plan.token, lifetime.cookie_max_age(created, now, max_age))
        return handle, user_id

    # ---- other requests

    def _newer(self, loaded: Loaded) -> Record | None:
        """The row as others have left it, locked."""
        newer = self.store.storage.load(self.connection, loaded.handle, lock=True)
        is_replaced = newer is not None and newer.successor is not None
        if not (is_replaced or self.state.ended or self.state.max_age_is_assigned):
            self.state.max_age = None if newer is None else newer.max_age
        return newer

    def _merged(self, loaded: Loaded, newer: Record) -> Any:
        try:
            theirs = self.store.codec.from_column(newer.data, self._cookies_token).data
        except SessionDataError as error:
            raise SessionConflict(
                f"what another request stored in session {loaded.handle.hex()} cannot be read"
            ) from error
        merged = merge_with(self.visit, loaded, theirs)
        if merged.conflicts:
            resolve(self.visit, loaded, merged.conflicts)
        return self._encoded(merged.data, self.plan.token)

    def _marker(self, record: Record) -> Marker:
        return marker_of(self.store, self._cookies_token, record)

    def _encoded(self, data: dict[Any, Any], token: str) -> Any:
        return self.store.codec.to_column(data, token)

    def _drop(self, loaded: Loaded) -> None:
        send(SessionConflicted(self.visit.request, loaded.handle.hex(), (), "dropped"))


def _expect(loaded: Loaded, *, hit: bool) -> None:
    if not hit:
        raise SessionConflict(f"session {loaded.handle.hex()} changed while it was locked")
