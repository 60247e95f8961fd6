"""Finds, joins and ends the sessions of users.

A session is its lineage: all rows that have it, whatever tokens they had. Ending a session deletes
all of them. Adding a row to it first increments the version of a live one, in the same transaction.
So the two wait for each other, or the database reports a conflict, and no row is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, String, and_, bindparam, func, select, true

from ..lifetime import Lifetime, Times
from .ending import Ending, chunks
from .model import underlying
from .rows import Rows
from .told import Ended, UserSession, live_ones, moment
from .user_id import AsLong, check_charset, check_kind, to_user_id

_LISTED = ("id", "lineage", "created", "last_seen", "max_age")
_LOCKED = ("id", "lineage", "user_id", "version")


class Sessions:
    """Finds and ends the sessions of users. The caller commits.

    All methods raise :class:`SessionTableError` if the table does not match the model, and errors
    of the database. A ``user_id`` is a value of its column: see :meth:`converted`.
    """

    def __init__(self, rows: Rows, lifetime: Lifetime, clock: Callable[[], int]) -> None:
        columns = rows.columns
        id, lineage, user_id = columns["id"], columns["lineage"], columns["user_id"]
        self._rows = rows
        self._lifetime = lifetime
        self._clock = clock
        self._type = user_id.type
        user = bindparam("b_user", type_=self._type)
        is_text = isinstance(underlying(self._type), String)
        as_long = AsLong(user_id, user) if is_text else true()
        is_user = and_(user_id == user, as_long)
        live = lifetime.live(columns)
        listed = select(*(columns[name] for name in (*_LISTED, *rows.own_columns)))
        self._of_user = listed.where(is_user, live).order_by(
            columns["last_seen"].desc(), columns["created"].desc(), id
        )
        self._newest = (
            select(lineage)
            .where(is_user, live)
            .group_by(lineage)
            .order_by(func.max(columns["created"]).desc(), lineage.desc())
        )
        # the application may have given the columns other names
        # what SQLAlchemy 2.0 and 2.1 call its type is not the same
        row: Any = select(
            *(columns[name].label(f"r_{name}") for name in _LOCKED), live.label("r_live")
        ).order_by(id)
        in_lineages = lineage.in_(bindparam("b_lineages", expanding=True))
        self._in_lineages = row.where(in_lineages)
        self._theirs = select(lineage).where(in_lineages, is_user).distinct()
        self._of_user_but = row.where(is_user, lineage != bindparam("b_keep"))
        self._ending = Ending(rows, row)
        self._live_in = row.where(
            lineage == bindparam("b_lineage"), user_id.is_not_distinct_from(user), as_long, live
        ).with_for_update()

    def check(self, user: Any) -> None:
        """Check that a value can be a user ID.

        :raises TypeError: if not.
        """
        check_kind(user, underlying(self._type))

    def converted(self, connection: Connection, user: Any) -> Any:
        """The value of the column ``user_id`` for a user.

        :raises TypeError: if it cannot be a user ID.
        :raises ValueError: if it does not fit the column, such as a name where IDs are integers.
        """
        user_id = to_user_id(user, self._type)
        check_charset(user_id, connection)
        return user_id

    # ---- finding

    def of_user(
        self, connection: Connection, user_id: Any, own: bytes | None = None
    ) -> list[UserSession]:
        """The live sessions of a user, the most recently used first.

        :param own: the id of the row whose session is the current one.
        """
        found: dict[bytes, UserSession] = {}
        parameters = {"b_user": user_id, "b_now": self._clock()}
        rows = self._rows.execute(connection, self._of_user, parameters).all()
        current = next((lineage for id, lineage, *_ in rows if id == own), None)
        for _, lineage, created, last_seen, max_age, *values in rows:
            expires_at = self._lifetime.expires_at(Times(created, last_seen, max_age, True))
            entry = UserSession(
                handle=lineage.hex(),
                created=moment(created),
                last_seen=moment(last_seen),
                expires_at=moment(expires_at),
                columns=dict(zip(self._rows.own_columns, values, strict=True)),
                current=lineage == current,
            )
            # of several rows, the most recently used one counts
            found.setdefault(lineage, entry)
        return list(found.values())

    def beyond(self, connection: Connection, user_id: Any, limit: int) -> list[bytes]:
        """The lineages of a user's live sessions beyond the newest *limit*, in a total order."""
        parameters = {"b_user": user_id, "b_now": self._clock()}
        found = self._rows.execute(connection, self._newest, parameters).scalars().all()
        return list(found[limit:])

    # ---- joining

    def join(self, connection: Connection, lineage: bytes, user_id: Any) -> bool:
        """Lock a session of this user so that a row can be added; False if it has ended."""
        parameters = {"b_lineage": lineage, "b_user": user_id, "b_now": self._clock()}
        # the only live row may be replaced while this waits for it: then there is a new one
        for _ in range(2):
            for row in self._rows.execute(connection, self._live_in, parameters).all():
                if self._rows.bump(connection, row.r_id, row.r_version):
                    return True
        return False

    # ---- ending

    def end(
        self,
        connection: Connection,
        lineages: Iterable[bytes],
        spare: bytes | None = None,
        user_id: Any = None,
    ) -> list[Ended]:
        """End sessions; returns those that existed.

        :param spare: the id of a row to keep, for the caller to change.
        :param user_id: end only sessions of this user; None for any user.
        """
        if user_id is not None:
            wanted = {"b_lineages": list(lineages), "b_user": user_id}
            lineages = self._rows.execute(connection, self._theirs, wanted).scalars().all()
        ended: list[Ended] = []
        for some in chunks(list(lineages)):
            wanted = {"b_lineages": some, "b_now": self._clock()}
            found = self._ending.delete_all(connection, self._in_lineages, wanted, spare)
            ended += live_ones(found)
        return ended

    def end_user(self, connection: Connection, user_id: Any, keep: bytes = b"") -> list[Ended]:
        """End all sessions of a user except the one whose lineage is *keep*."""
        wanted = {"b_user": user_id, "b_keep": keep, "b_now": self._clock()}
        found = self._ending.delete_all(connection, self._of_user_but, wanted)
        # what is left has no user: the marker of a sign-in
        self.end(connection, {row.r_lineage for row in found})
        return live_ones(found)
