"""The sessions of a user, and ending sessions from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, bindparam, select

from ..lifetime import Lifetime, Times
from .rows import Rows
from .user_id import to_user_id

_LISTED = ("id", "created", "last_seen", "max_age")


@dataclass(frozen=True)
class UserSession:
    """A live session in a list. Times are epoch seconds; the handle is hexadecimal.

    ``columns``
      What the columns hold that the application's model has added.
    ``current``
      Whether it is the session of the request that asks.
    """

    handle: str
    created: int
    last_seen: int
    expires_at: int
    columns: Mapping[str, Any]
    current: bool = False


@dataclass(frozen=True)
class Ended:
    """A session that was ended: its id and its user.

    ``markers``
      The ids of the rows that it had replaced, and that were deleted with it.
    """

    id: bytes
    user_id: Any
    markers: tuple[bytes, ...]


class Sessions:
    """Finds and ends the sessions of users. Who commits is the caller's business.

    All methods raise :class:`SessionTableError` if the table does not fit, and what the database
    raises. A ``user_id`` is a value of its column: see :meth:`converted`.
    """

    def __init__(self, rows: Rows, lifetime: Lifetime, clock: Callable[[], int]) -> None:
        columns = rows.columns
        self._rows = rows
        self._lifetime = lifetime
        self._clock = clock
        self._type = columns["user_id"].type
        theirs = columns["user_id"] == bindparam("b_user", type_=self._type)
        self._select = (
            select(*(columns[name] for name in (*_LISTED, *rows.own_columns)))
            .where(theirs, lifetime.live(columns))
            .order_by(columns["last_seen"].desc(), columns["created"].desc(), columns["id"])
        )
        # the application may have given the columns other names
        names = ("id", "user_id", "version", "successor")
        row = select(*(columns[name].label(f"r_{name}") for name in names)).with_for_update()
        self._lock = row.where(columns["id"] == bindparam("b_id"))
        self._lock_theirs = row.where(theirs).order_by(columns["id"])

    def converted(self, user: Any) -> Any:
        """What the column ``user_id`` holds for a user.

        :raises ValueError: if there is no such value, for a name where ids are integers.
        """
        return to_user_id(user, self._type)

    def of_user(self, connection: Connection, user_id: Any) -> list[UserSession]:
        """The live sessions of a user, the one that was used last first."""
        parameters = {"b_user": user_id, "b_now": self._clock()}
        found = self._rows.execute(connection, self._select, parameters).all()
        own = self._rows.own_columns
        return [
            UserSession(
                handle=id.hex(),
                created=created,
                last_seen=last_seen,
                expires_at=self._lifetime.expires_at(Times(created, last_seen, max_age, True)),
                columns=dict(zip(own, values, strict=True)),
            )
            for id, created, last_seen, max_age, *values in found
        ]

    def live_row(self, connection: Connection, id: bytes) -> Any:
        """The row, or the one that has replaced it since, locked; None if the session is gone."""
        return _live(self._chain(connection, id))

    def end(self, connection: Connection, id: bytes) -> Ended | None:
        """End a session, also if it has another token by now; None if there is none.

        Each row is locked before it is deleted, so that a token that is being regenerated is known.
        SQLite locks nothing yet: a row that was changed meanwhile is looked at again.
        """
        deleted: list[Any] = []
        while True:
            # the markers lead to a session that gets another token meanwhile: they go last
            chain = self._chain(connection, id)[::-1]
            gone = list(takewhile(lambda row: self._delete(connection, row), chain))
            deleted += gone
            if len(gone) == len(chain):
                return next(iter(_ended(deleted)), None)

    def end_user(
        self, connection: Connection, user_id: Any, keep: bytes | None = None
    ) -> list[Ended]:
        """End all sessions of a user but the one to *keep*, also if it has another token by now.

        It looks again until it finds none: a request in flight may have moved a session to a new
        row, for which the lock on its old row has waited.
        """
        deleted: list[Any] = []
        kept = set() if keep is None else {row.r_id for row in self._chain(connection, keep)}
        while True:
            theirs = self._rows.execute(connection, self._lock_theirs, {"b_user": user_id}).all()
            kept = _linked(kept, theirs)
            found = [row for row in theirs if row.r_id not in kept]
            if not found:
                return _ended(deleted)
            deleted += [row for row in found if self._delete(connection, row)]

    def _delete(self, connection: Connection, row: Any) -> bool:
        """Delete a row as it was seen; False if it is another one by now."""
        return self._rows.delete(connection, row.r_id, row.r_version)

    def _chain(self, connection: Connection, id: bytes) -> list[Any]:
        """The row and those that have replaced it since, locked."""
        chain: dict[bytes | None, Any] = {}
        wanted: bytes | None = id
        # somebody else may have written a ring
        while wanted not in chain and (row := self._locked(connection, wanted)) is not None:
            chain[wanted] = row
            wanted = row.r_successor
        return list(chain.values())

    def _locked(self, connection: Connection, id: bytes | None) -> Any:
        if id is None:
            return None
        return self._rows.execute(connection, self._lock, {"b_id": id}).first()


def _live(chain: list[Any]) -> Any:
    """The session at the end of a chain of markers; None if it is gone."""
    return chain[-1] if chain and chain[-1].r_successor is None else None


def _linked(kept: set[bytes], rows: Sequence[Any]) -> set[bytes]:
    """Those to keep, what has replaced them, and the markers by which others find them."""
    linked = set(kept)
    pairs = [(row.r_id, row.r_successor) for row in rows if row.r_successor is not None]
    while more := {one for pair in pairs if not linked.isdisjoint(pair) for one in pair} - linked:
        linked |= more
    return linked


def _ended(deleted: list[Any]) -> list[Ended]:
    """The sessions among rows that were deleted; markers are none."""
    replaced = {row.r_successor: row.r_id for row in deleted}
    ended = []
    for live in (row for row in deleted if row.r_successor is None):
        markers, marker = [], replaced.get(live.r_id)
        while marker is not None:
            markers.append(marker)
            marker = replaced.get(marker)
        ended.append(Ended(live.r_id, live.r_user_id, tuple(markers)))
    return ended
