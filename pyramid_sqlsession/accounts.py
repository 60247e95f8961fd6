"""The sessions of a user, and ending sessions from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, not_, select

from .codec import underlying
from .connections import maintaining
from .dberrors import translated
from .lifetime import Lifetime
from .purge import Purge
from .storage import Storage


@dataclass(frozen=True)
class Entry:
    """A live session in a list. Times are epoch seconds; the handle is hexadecimal."""

    handle: str
    created: int
    last_seen: int
    expires_at: int


class Accounts:
    """Finds and ends the sessions of users.

    All methods raise :class:`SessionTableError` if the table does not fit, and what the database
    raises. A ``user_id`` has the Python type of its column: see :meth:`converted`.
    """

    def __init__(
        self, storage: Storage, lifetime: Lifetime, purge: Purge, clock: Callable[[], int]
    ) -> None:
        columns = storage.columns
        self._storage = storage
        self._lifetime = lifetime
        self._clock = clock
        self._type = columns["user_id"].type
        theirs = columns["user_id"] == bindparam("b_user", type_=self._type)
        self._select = (
            select(*(columns[name] for name in ("id", "created", "last_seen", "max_age")))
            .where(theirs, not_(purge.expired))
            .order_by(columns["last_seen"].desc(), columns["id"])
        )
        self._delete = delete(storage.table).where(theirs)

    def converted(self, text: str) -> Any:
        """A user's id from text, as the column's Python type.

        :raises ValueError: if the text is none, for instance a name where ids are integers.
        """
        # an argument that is not UTF-8 would fail in the driver
        text.encode()
        try:
            user_id = underlying(self._type).python_type(text)
        except (TypeError, NotImplementedError) as error:
            raise ValueError(f"no {self._type!r} can be made from text") from error
        if isinstance(user_id, int) and user_id.bit_length() > 63:
            raise ValueError("no database has such integers")
        return user_id

    def of_user(self, connection: Connection, user_id: Any) -> list[Entry]:
        """The live sessions of a user, the one that was used last first."""
        parameters = {"b_user": user_id, "b_now": self._clock()}
        with translated(self._storage.table.fullname):
            found = connection.execute(self._select, parameters).all()
        return [
            Entry(
                handle=handle.hex(),
                created=created,
                last_seen=last_seen,
                expires_at=self._lifetime.expires_at(created, last_seen, max_age),
            )
            for handle, created, last_seen, max_age in found
        ]

    def revoke(self, connection: Connection, handle: bytes) -> bool:
        """End a session; False if there is none. Who commits is the caller's business."""
        return self._storage.delete(connection, handle)

    def revoke_user(self, engine: Engine, user_id: Any) -> int:
        """End all sessions of a user, each time in a short transaction, until there are none.

        One time is not enough: a request in flight may be moving a session to a new row.

        :return: how many rows were deleted.
        """
        total = 0
        while deleted := self._delete_all(engine, user_id):
            total += deleted
        return total

    def _delete_all(self, engine: Engine, user_id: Any) -> int:
        with maintaining(engine) as connection, translated(self._storage.table.fullname):
            deleted = connection.execute(self._delete, {"b_user": user_id}).rowcount
            connection.commit()
        return deleted
