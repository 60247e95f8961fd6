"""What the store promises, as a table of plain Python: an oracle for random histories.

It is written from the design and knows nothing of how the package does it, so that the two can
disagree. Requests are taken one after the other, or load in one order and save in another.
"""

from __future__ import annotations

from collections import UserDict
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

USER = "auth.userid"
CSRF = "_csrft_"
FLASH = "_f_"

Data = dict[str, Any]


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


@dataclass
class Queue:
    """What a request did to a flash queue: forgot what it found, and flashed these messages."""

    popped: bool = False
    flashed: list[tuple[Any, bool]] = field(default_factory=list)

    def replay(self, loaded: list[Any], theirs: list[Any]) -> list[Any]:
        """Do it again to a queue that others have changed since."""
        result = list(theirs)
        if self.popped:
            for message in loaded:
                if message in result:
                    result.remove(message)
        for message, allow_duplicate in self.flashed:
            if allow_duplicate or message not in result:
                result.append(message)
        return result


class Session(UserDict[str, Any]):
    """A session as a view uses it.

    :ivar id: its handle, None if it is not stored.
    :ivar given: what the browser was given where chance decides: a CSRF token.
    """

    def __init__(
        self, data: Data, now: int, row: Row | None = None, id: str | None = None
    ) -> None:
        super().__init__()
        self._now = now
        self.id = id
        self.new = row is None
        self.created, self.last_seen = (row.created, row.last_seen) if row else (now, now)
        self.given: Any = None
        self.invalidated = False
        self._open(data, row and row.max_age)

    def _open(self, data: Data, max_age: int | None) -> None:
        self.base, self.data = deepcopy(data), deepcopy(data)
        self.assigned: set[str] = set()
        self.queues: dict[str, Queue] = {}
        self.user_assigned = self.regenerated = self.max_age_assigned = False
        self.loaded_max_age = self._max_age = max_age

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.assigned.add(key)
        self._notice(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.assigned.discard(key)
        self._notice(key)

    def _notice(self, key: str) -> None:
        # a queue that is changed directly is an ordinary key
        self.queues.pop(key, None)
        if key == USER:
            self.user_assigned = True
            # whoever planted the session knows its token
            if CSRF not in self.assigned:
                self.data.pop(CSRF, None)

    @property
    def max_age(self) -> int | None:
        """The session's own lifetime."""
        return self._max_age

    @max_age.setter
    def max_age(self, value: int | None) -> None:
        self._max_age, self.max_age_assigned = value, True

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        done = any(
            queue.flashed or (queue.popped and self.base.get(key))
            for key, queue in self.queues.items()
        )
        return bool(self.data != self.base or done or self.max_age != self.loaded_max_age)

    def flash(self, message: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Append a message."""
        key = FLASH + queue
        self.queues.setdefault(key, Queue()).flashed.append((message, allow_duplicate))
        messages = [*self.get(key, [])]
        if allow_duplicate or message not in messages:
            messages.append(message)
        self.data[key] = messages

    def pop_flash(self, queue: str = "") -> list[Any]:
        """All messages, which are gone then."""
        self.queues[FLASH + queue] = Queue(popped=True)
        messages: list[Any] = self.data.pop(FLASH + queue, [])
        return messages

    def peek_flash(self, queue: str = "") -> list[Any]:
        """All messages."""
        messages: list[Any] = self.get(FLASH + queue, [])
        return messages

    def get_csrf_token(self) -> str:
        """The session's token, made when it is asked for."""
        return self[CSRF] if CSRF in self else self.new_csrf_token()

    def new_csrf_token(self) -> str:
        """Another token than before."""
        assert isinstance(self.given, str)
        assert self.given != self.get(CSRF) != ""
        self[CSRF] = self.given
        return self.given

    def regenerate(self) -> None:
        """Ask for a new token."""
        self.regenerated = True

    def invalidate(self) -> None:
        """End it and start with nothing."""
        self._open({}, None)
        self.id, self.new, self.invalidated = None, True, True
        self.created = self.last_seen = self._now

    def set_here(self) -> Data:
        """What this request set: all that a user who leaves it leaves behind."""
        data = {key: self[key] for key in self if key in self.assigned}
        for key, queue in self.queues.items():
            if messages := queue.replay([], []):
                data[key] = messages
        return data

    def merged(self, theirs: Data) -> tuple[Data, set[str]]:
        """My changes on top of what is stored now, and the keys that both changed."""
        result, conflicts = deepcopy(theirs), set()
        missing = object()
        for key in {**self.base, **self.data}:
            if key in self.queues:
                messages = self.queues[key].replay(self.base.get(key, []), theirs.get(key, []))
                result.pop(key, None)
                if messages:
                    result[key] = messages
                continue
            was, mine, is_now = (each.get(key, missing) for each in (self.base, self.data, theirs))
            if mine == was:
                continue
            if is_now != was:
                conflicts.add(key)
            result.pop(key, None)
            if mine is not missing:
                result[key] = mine
        return result, conflicts


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
        row = self.rows.get(handle or "")
        if row is not None and now >= store.expiry(row):
            row = None
        self.found = deepcopy(row)
        self.late = row is not None and row.successor is not None
        self.used = self.written = self.revoked = False
        if row is None:
            self._session = Session({}, now)
        elif self.late:
            visible = {key: row.data[key] for key in row.data if key == CSRF}
            self._session = Session(visible, now)
        else:
            self._session = Session(row.data, now, row, handle)
        self.sqlsessions = Users(self)
        self.given: Any = None

    @property
    def session(self) -> Session:
        """The request's session."""
        # what was ended before it was read is not read any more
        self.used |= not self.revoked
        self._session.given = self.given
        return self._session

    @property
    def loaded(self) -> Row | None:
        """The live row that the request has found."""
        return None if self.late else self.found

    @property
    def _writes(self) -> bool:
        session = self._session
        done = session.changed or session.user_assigned or session.regenerated
        return self.loaded is not None and (done or session.invalidated)

    # ---- the end of the request

    def commit(self, new: str | None, now: int) -> Cookie | None:
        """Save and commit; *new* is the handle for a session that gets a new token."""
        self.now = now
        if self._began_with is not self.store.rows:
            self.rows = deepcopy(self.store.rows)
            if self.store.late_fails and self._writes and self.rows.get(self.handle or "") != self.loaded:
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
        if session.invalidated:
            return self._end(new)
        user, before = session.get(USER), session.base.get(USER)
        signs_in = session.user_assigned and user is not None
        if self.late:
            return self._start(self._taken_over(), new) if signs_in else None
        if self.found is None:
            return self._start(dict(session), new) if session else None
        if not (session.changed or session.user_assigned or session.regenerated):
            return None
        row = self.rows.get(self.handle or "")
        if before is not None and user != before:
            return self._leave(row, new)
        if row is None:
            return self._start(session.set_here(), new) if signs_in and before is None else None
        if row.successor is not None:
            stays = before is None or self._signed_in_at_the_end_of(row) == before
            return self._start(self._taken_over(), new) if signs_in and stays else None
        if session.user_assigned or session.regenerated:
            return self._regenerate(row, signs_in, new)
        return self._update(row)

    def _update(self, row: Row) -> Cookie | None:
        before = self.store.cookie_expiry(row)
        self._merge_into(row)
        self.written = True
        row.version += 1
        row.last_seen = max(row.last_seen, self.now)
        return self._again(row, before)

    def _merge_into(self, row: Row) -> None:
        row.data, conflicts = self._session.merged(row.data)
        if conflicts and self.store.retries:
            raise Conflict(conflicts)
        if self._session.max_age_assigned:
            row.max_age = self._session.max_age

    def _regenerate(self, row: Row, signs_in: bool, new: str) -> Cookie:
        old = deepcopy(row)
        self._merge_into(row)
        if signs_in:
            row.created = self.now
        if self._session.user_assigned and CSRF not in self._session.assigned:
            row.data.pop(CSRF, None)
        moved = replace(row, last_seen=self.now, user_id=row.data.get(USER), version=1)
        self._mark(old, new, keep_all=old.user_id is None)
        self.rows[new] = moved
        return self._sent(moved)

    def _leave(self, row: Row | None, new: str) -> Cookie | None:
        data = self._session.set_here()
        other = data.get(USER) is not None
        if row is None:
            return self._start(data, new) if other else None
        if row.successor is not None:
            ended = self._end_chain(row)
            if other:
                return self._start(data, new)
            return Cookie("removed") if ended else None
        if data:
            self._mark(row, new, keep_all=False)
            return self._start(data, new)
        del self.rows[self.handle or ""]
        return Cookie("removed")

    def _end(self, new: str) -> Cookie | None:
        data = dict(self._session)
        signs_in = data.get(USER) is not None
        row = self.rows.get(self.handle or "")
        expired = self.found is None and row is not None and row.successor is None
        if expired:
            del self.rows[self.handle or ""]
        if expired or self.revoked:
            return self._start(data, new) if data else Cookie("removed")
        if self.late:
            return self._start(data, new) if signs_in else None
        if self.loaded is None or row is None:
            return self._start(data, new) if data else None
        if row.successor is not None:
            ended = self.loaded.user_id is not None and self._end_chain(row)
            if signs_in:
                return self._start(data, new)
            return Cookie("removed") if ended else None
        if data:
            self._mark(row, new, keep_all=False)
            return self._start(data, new)
        del self.rows[self.handle or ""]
        return Cookie("removed")

    def _start(self, data: Data, new: str) -> Cookie:
        session = self._session
        row = Row(deepcopy(data), self.now, self.now, user_id=data.get(USER))
        keeps_max_age = session.max_age_assigned or session.base.get(USER) == row.user_id
        row.max_age = session.max_age if keeps_max_age else None
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
        row = self.rows.get(self.handle or "")
        kept = {} if row is None else row.data
        data = {**self._session.base, **kept}
        data.pop(CSRF, None)
        for key in self._session.queues:
            data.pop(key, None)
        return {**data, **self._session.set_here()}

    def _signed_in_at_the_end_of(self, row: Row) -> str | None:
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
        mine = [handle for handle in rows if rows[handle].user_id == user and handle != keep]
        return self._delete(mine)

    def _delete(self, handles: list[str]) -> int:
        visit = self._visit
        count = sum(visit.rows[handle].successor is None for handle in handles)
        for handle in handles:
            del visit.rows[handle]
        if visit.handle in handles:
            visit.revoked = True
            visit._session.invalidate()
        return count
