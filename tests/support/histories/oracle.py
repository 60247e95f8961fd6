"""What the store promises, as a table of plain Python: an oracle for random histories.

It is written from the design and knows nothing of how the package does it, so that the two can
disagree. Requests are taken one after the other, or load in one order and save in another.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from support.histories.oracle_session import CSRF, USER, Data, Session


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
    version: int = 1
    max_age: int | None = None
    user_id: str | None = None
    successor: str | None = None


@dataclass(frozen=True)
class Cookie:
    """What a browser is told: ``new``, ``again`` or ``removed``."""

    kind: str
    max_age: int | None = None


class Store:
    """The table.

    :ivar rows: by their handles.
    :ivar retries: a request that meets another change of a key is run again; else it wins.
    :ivar late_fails: so is one that writes a row which was written since it began.
    """

    def __init__(self, times: Times, retries: bool = False, late_fails: bool = False) -> None:
        self.times = times
        self.retries, self.late_fails = retries, late_fails
        self.rows: dict[str, Row] = {}

    def expiry(self, row: Row) -> int:
        """When a row is no session any more."""
        lifetime = row.max_age or self.times.ttl
        return min(row.last_seen + lifetime, row.created + self.times.absolute_ttl)

    def cookie_expiry(self, row: Row) -> int | None:
        """When a browser forgets the cookie, None for: when it is closed."""
        return self.expiry(row) if row.max_age else None

    def live(self, row: Row, now: int) -> bool:
        """Whether it is a session that a visitor finds."""
        return row.successor is None and now < self.expiry(row)

    def purge(self, now: int, due: set[str]) -> None:
        """Forget those of the rows that are due which have expired."""
        for handle in due:
            if now >= self.expiry(self.rows[handle]):
                del self.rows[handle]

    def visit(self, handle: str | None, now: int) -> Visit:
        """A request whose cookie has this handle."""
        return Visit(self, handle, now)


class Visit:
    """A request: what it sees, and what it leaves in the table if it is committed."""

    def __init__(self, store: Store, handle: str | None, now: int) -> None:
        self.store, self.handle, self.now = store, handle, now
        self._began_with, self.rows = store.rows, deepcopy(store.rows)
        self._overtaken = False
        self.used = self.written = self.revoked = False
        # an earlier attempt of the same request has left its user
        self.has_left = False
        row = self.rows.get(handle or "")
        self.find(None if row is None or now >= store.expiry(row) else row)
        self.sqlsessions = Users(self)
        self.given: Any = None

    def find(self, row: Row | None) -> None:
        """Begin with what the cookie opens."""
        self.found = deepcopy(row)
        self.late = row is not None and row.successor is not None
        if row is None:
            self._session = Session({}, self.now)
        elif self.late:
            visible = {key: row.data[key] for key in row.data if key == CSRF}
            self._session = Session(visible, self.now)
        else:
            lived = (row.created, row.last_seen, row.max_age)
            self._session = Session(row.data, self.now, self.handle, *lived)

    @property
    def session(self) -> Session:
        """The request's session."""
        # what was ended before it was read is not read any more
        self.used |= not self.revoked
        self._session.given = self.given
        return self._session

    def catch_up(self) -> None:
        """See what others have committed since the session was read."""
        self._overtaken = self._began_with is not self.store.rows
        self.rows = deepcopy(self.store.rows)

    @property
    def loaded(self) -> Row | None:
        """The live row that the request has found."""
        return None if self.late else self.found

    @property
    def _writes(self) -> bool:
        session = self._session
        done = session.changed or session.user_assigned or session.regenerated
        return self.loaded is not None and (done or session.invalidated)

    @property
    def leaves(self) -> bool:
        """Whether the user whom the request has found signed in is so no longer."""
        return self._user is not None and self._session.get(USER) != self._user

    @property
    def _user(self) -> str | None:
        """Who was signed in when the session was read."""
        return None if self.loaded is None else self.loaded.data.get(USER)

    # ---- the end of the request

    def commit(self, new: str | None, now: int) -> Cookie | None:
        """Save and commit; *new* is the handle for a session that gets a new token."""
        self.now = now
        is_another = self._overtaken and self.rows.get(self.handle or "") != self.loaded
        if is_another and self.store.late_fails and self._writes:
            raise Conflict
        cookie = self._save(new or "")
        self.store.rows = self.rows
        return cookie or self.touch()

    def touch(self) -> Cookie | None:
        """Record the visit, whatever became of the transaction."""
        row = self.store.rows.get(self.handle or "")
        if not self.used or self.loaded is None or row is None or self.written:
            return None
        due = row.last_seen + self.store.times.touch_interval <= self.now
        if not due or not self.store.live(row, self.now):
            return None
        before = self.store.cookie_expiry(row)
        row.last_seen = self.now
        return self._again(row, before)

    def _again(self, row: Row, before: int | None) -> Cookie | None:
        after = self.store.cookie_expiry(row)
        return None if after == before else Cookie("again", after and after - self.now)

    # ---- what becomes of the rows

    def _save(self, new: str) -> Cookie | None:
        session = self._session
        if not self.used and not self.revoked:
            return None
        if self.late and self.has_left:
            return self._leave_again(new)
        if session.invalidated:
            return self._end(new)
        signs_in = session.user_assigned and session.get(USER) is not None
        if self.late:
            return self._start(self._taken_over(), new, takes_over=True) if signs_in else None
        if self.found is None:
            return self._start(dict(session), new) if session else None
        if not (session.changed or session.user_assigned or session.regenerated):
            return None
        row = self.rows.get(self.handle or "")
        if self.leaves:
            return self._leave(row, session.set_here(), new)
        if (row is None or row.successor is not None) and not (signs_in and self._may_enter(row)):
            return None
        if row is None:
            return self._start(session.set_here(), new)
        if row.successor is not None:
            return self._start(self._taken_over(), new, takes_over=True)
        if session.user_assigned or session.regenerated:
            return self._regenerate(row, signs_in, new)
        return self._update(row)

    def _update(self, row: Row) -> Cookie | None:
        # a visit that was recorded meanwhile leaves the version, and is not looked for
        known = self.found if self.found and self.found.version == row.version else row
        before = self.store.cookie_expiry(known)
        self._merge_into(row)
        self.written = True
        row.version += 1
        row.last_seen = max(row.last_seen, self.now)
        return self._again(row, before)

    def _merge_into(self, row: Row) -> None:
        mine = deepcopy(dict(self._session))
        nobody_else_wrote = self.found is not None and self.found.version == row.version
        row.data, conflicts = (mine, set()) if nobody_else_wrote else self._session.merged(row.data)
        if conflicts and self.store.retries:
            raise Conflict(conflicts)
        if self._session.max_age_assigned:
            row.max_age = self._session.max_age

    def _regenerate(self, row: Row, signs_in: bool, new: str) -> Cookie:
        old = deepcopy(row)
        self._merge_into(row)
        if signs_in:
            row.created = self.now
        moved = replace(row, last_seen=self.now, user_id=row.data.get(USER), version=1)
        self._mark(old, new, keep_all=old.user_id is None)
        self.rows[new] = moved
        return self._sent(moved)

    def _leave(self, row: Row | None, data: Data, new: str) -> Cookie | None:
        other = data.get(USER) is not None
        if row is None:
            return self._start(data, new) if other else None
        if row.successor is not None and other:
            # who has signed in there meanwhile, or out, is not undone by it
            if self._signed_in_at_the_end_of(row) == self._user:
                self._end_chain(row)
            return self._start(data, new)
        if row.successor is not None:
            return Cookie("removed") if self._end_chain(row) else None
        return self._leave_behind(row, data, new)

    def _leave_again(self, new: str) -> Cookie | None:
        """A sign-out that is run again follows the session to the token that it got meanwhile."""
        session, row = self._session, self.rows.get(self.handle or "")
        ended = row is not None and self._end_chain(row)
        data = dict(session) if session.invalidated else session.set_here()
        if data:
            return self._start(data, new)
        return Cookie("removed") if ended else None

    def _end(self, new: str) -> Cookie | None:
        data = dict(self._session)
        signs_in = data.get(USER) is not None
        row = self.rows.get(self.handle or "")
        expired = self.found is None and row is not None and row.successor is None
        if expired:
            del self.rows[self.handle or ""]
        if self.late and not self.revoked:
            return self._start(data, new) if signs_in else None
        if expired or self.revoked:
            return self._start(data, new) if data else Cookie("removed")
        if self.loaded is None:
            return self._start(data, new) if data else None
        if row is not None and row.successor is None:
            return self._leave_behind(row, data, new)
        if self.leaves:
            return self._leave(row, data, new)
        return self._start(data, new) if signs_in and self._may_enter(row) else None

    def _leave_behind(self, row: Row, data: Data, new: str) -> Cookie:
        """The old session is over; what was set since starts another one."""
        if data:
            self._mark(row, new, keep_all=False)
            return self._start(data, new)
        del self.rows[self.handle or ""]
        return Cookie("removed")

    def _start(self, data: Data, new: str, *, takes_over: bool = False) -> Cookie:
        session = self._session
        row = Row(deepcopy(data), self.now, self.now, user_id=data.get(USER))
        row.max_age = session.max_age if takes_over or session.max_age_assigned else None
        self.rows[new] = row
        return self._sent(row)

    def _sent(self, row: Row) -> Cookie:
        expiry = self.store.cookie_expiry(row)
        return Cookie("new", expiry and expiry - self.now)

    def _mark(self, row: Row, new: str, *, keep_all: bool) -> None:
        self.rows[self.handle or ""] = replace(
            row,
            data={key: row.data[key] for key in row.data if keep_all or key == CSRF},
            version=row.version + 1,
            last_seen=self.now,
            max_age=self.store.times.grace,
            successor=new,
        )

    def _taken_over(self) -> Data:
        """What a sign-in with the old token starts with."""
        if self._user is not None:
            return dict(self._session)
        marker = self.rows.get(self.handle or "", self.found)
        return self._session.merged(marker.data if marker else {})[0]

    def _may_enter(self, row: Row | None) -> bool:
        """Whether a sign-in still counts: a sign-out beside a step-up wins."""
        return self._user is None or self._signed_in_at_the_end_of(row) == self._user

    def _signed_in_at_the_end_of(self, row: Row | None) -> str | None:
        if row is None:
            return None
        *_, last = [row, *(self.rows[handle] for handle in self._successors(row))]
        return last.user_id if self.store.live(last, self.now) else None

    def _successors(self, row: Row) -> list[str]:
        found: list[str] = []
        successor = row.successor
        while successor in self.rows and successor not in found:
            found.append(successor)
            successor = self.rows[successor].successor
        return found

    def _end_chain(self, row: Row) -> bool:
        ended = [self.handle or "", *self._successors(row)]
        alive = any(self.store.live(self.rows[handle], self.now) for handle in ended)
        for handle in ended:
            del self.rows[handle]
        return alive


@dataclass(frozen=True)
class UserSession:
    """A session in the list of a user's."""

    handle: str
    created: int
    last_seen: int
    current: bool


class Users:
    """``request.sqlsessions``."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    def of_user(self, user: str) -> list[UserSession]:
        """The live sessions of a user."""
        visit = self._visit
        return [
            UserSession(handle, row.created, row.last_seen, handle == visit.handle)
            for handle, row in visit.rows.items()
            if row.user_id == user and visit.store.live(row, visit.now)
        ]

    def revoke(self, handle: str) -> bool:
        """End a session, and those that came after it."""
        row = self._visit.rows.get(handle)
        if row is None:
            return False
        return self._delete([handle, *self._visit._successors(row)]) > 0

    def revoke_user(self, user: str, keep: str | None = None) -> int:
        """End all sessions of a user but one."""
        rows = self._visit.rows
        mine = {handle for handle in rows if rows[handle].user_id == user}
        kept = set() if keep is None else {keep}
        # those that it has replaced, and that have replaced it
        for _ in rows:
            kept |= {rows[handle].successor or handle for handle in kept & rows.keys()}
            kept |= {handle for handle in mine if rows[handle].successor in kept}
        return self._delete(sorted(mine - kept))

    def _delete(self, handles: list[str]) -> int:
        """Delete rows; how many were sessions, and no markers of those that have ended."""
        visit, own = self._visit, self._visit.handle or ""
        chain = [own, *visit._successors(visit.rows[own])] if own in handles else []
        deleted = {handle: visit.rows.pop(handle) for handle in handles}
        if chain and not visit.used:
            visit.find(None)
        if chain and deleted.keys() >= {*chain} and deleted[chain[-1]].successor is None:
            visit.revoked = True
            visit._session.invalidate()
        return sum(row.successor is None for row in deleted.values())
