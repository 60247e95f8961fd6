"""What the store promises, as a table of plain Python: an oracle for random histories.

It is written from the design and knows nothing of how the package does it, so that the two can
disagree. Requests are taken one after the other, or load in one order and save in another.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from support.histories.oracle_session import CSRF, USER, Data, Session

SLOWEST_REQUEST = 3600
"""Seconds for which a marker still says what became of its session."""


class Conflict(Exception):
    """Both sides changed a key, and the policy says that the request is run again."""


@dataclass(frozen=True)
class Times:
    """The durations that are configured, in seconds."""

    ttl: int
    absolute_ttl: int
    touch_interval: int
    grace: int


@dataclass
class Row:
    """A session, or the marker of one that has another token."""

    data: Data
    created: int
    last_seen: int
    lineage: str
    version: int = 1
    max_age: int | None = None
    user_id: str | None = None
    replaced: int | None = None
    # the application knows that it has expired
    told: bool = False


@dataclass(frozen=True)
class Cookie:
    """What a browser is told: ``new``, ``again`` or ``removed``."""

    kind: str
    max_age: int | None = None


@dataclass(frozen=True)
class Attempt:
    """What a request that is run again has to know of its earlier attempt."""

    lineage: str
    user: str | None
    ends: bool


class Store:
    """The table.

    :ivar rows: by the ids of their tokens.
    :ivar lineages: all that there ever were.
    :ivar retries: a request that meets another change of a key is run again; else it wins.
    :ivar limit: how many sessions a user may have.
    :ivar snapshots: a request that only looks sees what there was when it began.
    """

    def __init__(
        self,
        times: Times,
        retries: bool = False,
        limit: int | None = None,
        *,
        snapshots: bool = False,
    ) -> None:
        self.times = times
        self.retries = retries
        self.limit = limit
        self.snapshots = snapshots
        self.rows: dict[str, Row] = {}
        self.lineages: set[str] = set()

    def expiry(self, row: Row) -> int:
        """When a row may be deleted."""
        lifetime = row.max_age or self.times.ttl
        return min(row.last_seen + lifetime, row.created + self.times.absolute_ttl)

    def cookie_expiry(self, row: Row) -> int | None:
        """When a browser forgets the cookie, None for: when it is closed."""
        return self.expiry(row) if row.max_age else None

    def live(self, row: Row, now: int) -> bool:
        """Whether it is a session that a visitor finds."""
        return row.replaced is None and now < self.expiry(row)

    def opens(self, id: str | None, now: int) -> Row | None:
        """What a token opens: a session, or the marker of one."""
        row = self.rows.get(id or "")
        if row is None or now >= self.expiry(row):
            return None
        is_over = row.replaced is not None and now >= row.replaced + self.times.grace
        return None if is_over else row

    def purge(self, now: int, due: set[str]) -> None:
        """Forget those of the rows that are due which have expired."""
        for id in due:
            if now >= self.expiry(self.rows[id]):
                del self.rows[id]

    def end(self, lineage: str) -> None:
        """Delete every row of a lineage."""
        self.rows = {id: row for id, row in self.rows.items() if row.lineage != lineage}

    def keep_to_limit(self, user: str, now: int) -> None:
        """End the sessions of a user beyond the limit; the newest stay, in one order for all."""
        newest: dict[str, int] = {}
        for row in self.rows.values():
            if row.user_id == user and self.live(row, now):
                newest[row.lineage] = max(row.created, newest.get(row.lineage, 0))
        order = sorted(newest, key=lambda lineage: (newest[lineage], lineage), reverse=True)
        for lineage in order[self.limit :] if self.limit else ():
            self.end(lineage)

    def visit(self, id: str | None, now: int, earlier: Attempt | None = None) -> Visit:
        """A request whose cookie has this token."""
        return Visit(self, id, now, earlier)


class Visit:
    """A request: what it sees, and what it leaves in the table if it is committed."""

    def __init__(self, store: Store, id: str | None, now: int, earlier: Attempt | None) -> None:
        self.store, self.id, self.now = store, id or "", now
        self.rows, self._began_with = deepcopy(store.rows), deepcopy(store.rows)
        self._earlier = earlier
        self.used = self.written = self.revoked = False
        self.find(store.opens(id, now))
        named = store.rows.get(id or "")
        is_shut = named is not None and named.replaced is None and self.found is None
        # another host, with another clock, may open it: a sign-out ends it all the same
        self.shut = named if is_shut else None
        self.sqlsessions = Users(self)
        self.given: Any = None

    def find(self, row: Row | None) -> None:
        """Begin with what the cookie opens."""
        self.found = deepcopy(row)
        if row is None:
            self._session = Session({}, self.now)
        elif row.replaced is not None:
            visible = {key: row.data[key] for key in row.data if key == CSRF}
            self._session = Session(visible, self.now)
        else:
            lived = (row.created, row.last_seen, row.max_age)
            self._session = Session(row.data, self.now, row.lineage, *lived)

    @property
    def session(self) -> Session:
        """The request's session."""
        # what was ended before it was read is not read any more
        self.used |= not self.revoked
        self._session.given = self.given
        return self._session

    def catch_up(self, now: int) -> None:
        """See what others have committed since the session was read, and what time it is."""
        self.rows, self.now, self._session.now = deepcopy(self.store.rows), now, now

    @property
    def known(self) -> list[Row]:
        """The rows by which it decides whose a session is."""
        return list({**(self._began_with if self.store.snapshots else {}), **self.rows}.values())

    @property
    def is_overtaken(self) -> bool:
        """Whether others have committed something since the session was read."""
        return self.store.rows != self._began_with

    @property
    def loaded(self) -> Row | None:
        """The live row that the request has found."""
        return self.found if self.found is not None and self.found.replaced is None else None

    @property
    def attempt(self) -> Attempt | None:
        """The session that this attempt has found, or an earlier one, and what is done to it."""
        if self.loaded is None:
            return self._earlier
        return Attempt(self.loaded.lineage, self.loaded.data.get(USER), self._leaves)

    @property
    def _user(self) -> str | None:
        """Who was signed in when the session was read."""
        return None if self.attempt is None else self.attempt.user

    @property
    def _leaves(self) -> bool:
        """Whether the session that was found is over, or its user leaves it."""
        user = None if self.loaded is None else self.loaded.data.get(USER)
        return self._session.invalidated or (user is not None and self._session.get(USER) != user)

    # ---- the end of the request

    def save(self, new: str | None, lineage: str, now: int) -> Cookie | None:
        """Save; *new* is the id of a new token, *lineage* that of its row: chance decides them.

        :raises Conflict: if the request is to be run again.
        """
        self.now, self._new, self._lineage = now, new or "", lineage
        return self._kind()() if self.used or self.revoked else None

    def commit(self) -> Cookie | None:
        """Commit what was saved."""
        self.store.rows = self.rows
        self.store.lineages |= {row.lineage for row in self.rows.values()}
        new = self.rows.get(self._new)
        if new is not None and new.user_id is not None:
            self.store.keep_to_limit(new.user_id, self.now)
        self._tell()
        return self.touch()

    def _tell(self) -> None:
        """Tell the application that the session has expired."""
        shut, row = self.shut, self.store.rows.get(self.id)
        if self.used and shut is not None and row is not None and row.version == shut.version:
            row.told = True

    def touch(self) -> Cookie | None:
        """Record the visit, whatever became of the transaction."""
        row, loaded = self.store.rows.get(self.id), self.loaded
        if not self.used or loaded is None or row is None or self.written:
            return None
        # who comes in time and is slow is not late, though the session has expired meanwhile
        is_due = loaded.last_seen + self.store.times.touch_interval <= self.now
        # another request that came in between has recorded the visit of both
        if not is_due or (row.version, row.last_seen) != (loaded.version, loaded.last_seen):
            return None
        row.last_seen, row.told = self.now, False
        return self._again(row, loaded)

    def _again(self, row: Row, before: Row) -> Cookie | None:
        """Tell of an expiry that has moved, once in each interval since the session's start."""
        after, interval = self.store.cookie_expiry(row), self.store.times.touch_interval
        told, now = ((it.last_seen - row.created) // interval for it in (before, row))
        is_due = row.max_age != before.max_age or told != now
        has_moved = after != self.store.cookie_expiry(before)
        return self._told("again", row) if is_due and has_moved else None

    def _told(self, kind: str, row: Row) -> Cookie:
        """What a browser is told of a session, which may have expired while it was under way."""
        expiry = self.store.cookie_expiry(row)
        if expiry is not None and expiry <= self.now:
            return Cookie("removed")
        return Cookie(kind, expiry and expiry - self.now)

    # ---- what a save does, and what becomes of the rows

    def _kind(self) -> Callable[[], Cookie | None]:
        session = self._session
        signs_in = session.user_assigned and session.get(USER) is not None
        if self._ends:
            return self._end
        if signs_in and self._user is not None:
            return self._step_up
        if self.found is None:
            return self._begin
        if signs_in:
            return self._sign_in
        if self.loaded is None:
            return self._nothing
        if session.user_assigned or session.regenerated:
            return self._regenerate
        return self._write if session.changed else self._nothing

    @property
    def _ends(self) -> bool:
        # who signs out is believed; with the old token of nobody's session nothing can be ended
        has_left = self.attempt is not None and self.attempt.ends
        is_somebodys = self.found is not None and self.found.user_id is not None
        is_found = is_somebodys or self.shut is not None
        return self.revoked or has_left or (self._session.invalidated and is_found)

    def _nothing(self) -> None:
        return None

    def _begin(self) -> Cookie | None:
        session = self._session
        created = self.now if session.get(USER) is not None else session.created
        return self._insert_what_was_set(created) if session else None

    def _write(self) -> Cookie | None:
        row = self._live_row()
        if row is None:
            return None
        # a visit that was recorded meanwhile leaves the version, and is not looked for
        known = self.found if self.found and self.found.version == row.version else row
        before = deepcopy(known)
        self._merge_into(row)
        self.written = True
        row.version += 1
        row.last_seen = max(row.last_seen, self.now)
        return self._again(row, before)

    def _regenerate(self) -> Cookie | None:
        row = self._live_row()
        return None if row is None else self._replace(row, row.lineage, row.created)

    def _step_up(self) -> Cookie | None:
        row = self._live_row()
        if row is not None:
            return self._replace(row, row.lineage, self.now)
        if self.id not in self.rows:
            return None
        assert self.attempt is not None
        return self._join(self.attempt.lineage, dict(self._session))

    def _sign_in(self) -> Cookie | None:
        row = self.rows.get(self.id)
        if row is None:
            return self._insert_what_was_set()
        if row.replaced is None:
            return self._replace(row, self._another_lineage(), self.now)
        data = dict(self._session) if self._session.invalidated else self._merged_with(row)
        return self._join(row.lineage, data) or self._insert(
            data, self._another_lineage(), self._session.max_age
        )

    def _end(self) -> Cookie | None:
        old = self.rows.get(self.id)
        found = self.attempt or self.found or self.shut
        lineage = "" if found is None else found.lineage
        ended = self.end(lineage)
        if not self._session.set_here():
            return Cookie("removed") if ended or self.revoked else None
        cookie = self._insert_what_was_set()
        if old is not None and old.lineage == lineage and self.found is not None:
            self._mark(replace(old, user_id=None), self._lineage, keep_all=False)
        return cookie

    # ---- rows

    def _live_row(self) -> Row | None:
        row = self.rows.get(self.id)
        return None if row is None or row.replaced is not None else row

    def _replace(self, row: Row, lineage: str, created: int) -> Cookie:
        """The session goes on with another token."""
        old = deepcopy(row)
        self._merge_into(row)
        self._mark(old, lineage, keep_all=old.user_id is None)
        return self._insert(row.data, lineage, row.max_age, created)

    def _mark(self, row: Row, lineage: str, *, keep_all: bool) -> None:
        self.rows[self.id] = replace(
            row,
            data={key: row.data[key] for key in row.data if keep_all or key == CSRF},
            lineage=lineage,
            version=row.version + 1,
            last_seen=self.now,
            max_age=self.store.times.grace + SLOWEST_REQUEST,
            replaced=self.now,
        )

    def _join(self, lineage: str, data: Data) -> Cookie | None:
        """A row of its own beside others of a session, if the user is still signed in there."""
        user = data.get(USER)
        for _, row in sorted(self.rows.items()):
            if row.lineage == lineage and row.user_id == user and self.store.live(row, self.now):
                row.version += 1
                return self._insert(data, lineage, self._session.max_age)
        return None

    def _insert_what_was_set(self, created: int | None = None) -> Cookie:
        session = self._session
        max_age = session.max_age if session.max_age_assigned else None
        return self._insert(session.set_here(), self._another_lineage(), max_age, created)

    def _insert(
        self, data: Data, lineage: str, max_age: int | None, created: int | None = None
    ) -> Cookie:
        created = self.now if created is None else created
        row = Row(deepcopy(data), created, self.now, lineage, 1, max_age, data.get(USER))
        self.rows[self._new] = row
        return self._told("new", row)

    def _another_lineage(self) -> str:
        assert self._lineage not in self.store.lineages
        return self._lineage

    def end(self, lineage: str) -> bool:
        """Delete every row of a lineage; whether one of them was a live session."""
        ids = [id for id, row in self.rows.items() if row.lineage == lineage]
        ended = [self.rows.pop(id) for id in ids]
        return any(self.store.live(row, self.now) for row in ended)

    # ---- data

    def _merge_into(self, row: Row) -> None:
        nobody_else_wrote = self.found is not None and self.found.version == row.version
        mine = deepcopy(dict(self._session))
        row.data = mine if nobody_else_wrote else self._merged_with(row)
        if self._session.max_age_assigned:
            row.max_age = self._session.max_age

    def _merged_with(self, row: Row) -> Data:
        data, conflicts = self._session.merged(row.data)
        # what a marker has kept was not shown to who found only that
        if conflicts and self.store.retries and self.loaded is not None:
            raise Conflict(conflicts)
        return data


@dataclass(frozen=True)
class UserSession:
    """A session in the list of a user's."""

    handle: str
    created: datetime
    last_seen: datetime
    current: bool


class Users:
    """``request.sqlsessions``."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def of_user(self, user: str) -> list[UserSession]:
        """The live sessions of a user."""
        visit = self._visit
        rows = [row for row in visit.rows.values() if row.user_id == user]
        live = [row for row in rows if visit.store.live(row, visit.now)]
        own = next((row.lineage for row in live if row is visit.rows.get(visit.id)), None)
        return [
            UserSession(
                lineage,
                _moment(min(row.created for row in live if row.lineage == lineage)),
                _moment(max(row.last_seen for row in live if row.lineage == lineage)),
                lineage == own,
            )
            for lineage in {row.lineage for row in live}
        ]

    def revoke(self, handle: str, user_id: str | None = None) -> bool:
        """End a session, however old its handle is."""
        # who ends sessions has to know whose the own one is
        self._visit.used = True
        known = self._visit.known
        is_theirs = any(row.user_id == user_id for row in known if row.lineage == handle)
        return (user_id is None or is_theirs) and self._end(handle)

    def revoke_user(self, user: str, keep: str | None = None) -> int:
        """End all sessions of a user but one; how many there were."""
        self._visit.used = True
        theirs = {row.lineage for row in self._visit.rows.values() if row.user_id == user}
        return sum(self._end(lineage) for lineage in sorted(theirs) if lineage != keep)

    def _end(self, lineage: str) -> bool:
        visit, found = self._visit, self._visit.found
        ended = visit.end(lineage)
        if not ended or found is None or found.lineage != lineage:
            return ended
        # nobody's marker opens nothing of the session that took its place
        if found.replaced is None or found.user_id is not None:
            visit.revoked = True
            visit._session.invalidate()
        return ended


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
