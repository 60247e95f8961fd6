"""The SQL of one session: five statements, built once for a model.

Statements are SQLAlchemy Core on the model's table: defaults and ``onupdate`` of an application's
own columns work, ORM events do not fire. Who commits is the caller's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, insert, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError

from .dberrors import MYSQL, translated
from .exceptions import SessionDataError
from .record import Record

_WRITTEN = ("data", "last_seen", "max_age", "purge_after")
_TOUCHED = ("last_seen", "purge_after")


class Storage:
    """Reads and writes the rows of a model.

    Every method takes an open connection, and the id: the 32 bytes of the primary key. All raise
    :class:`SessionConflict` if the database reports a conflict with another transaction and
    :class:`SessionTableError` if the table does not fit.
    """

    def __init__(self, model: Any) -> None:
        columns = self.columns = inspect(model).columns
        self.table: Table = columns["id"].table
        self.data_type = columns["data"].type
        this = columns["id"] == bindparam("b_id")
        self._select = select(*(columns[name] for name in Record.__annotations__)).where(this)
        self._locking_select = self._select.with_for_update()
        self._insert = insert(self.table).values(
            {columns[name]: bindparam(f"b_{name}") for name in ("id", "version", "created")}
            | {columns[name]: bindparam(f"b_{name}") for name in _WRITTEN}
        )
        self._update = (
            update(self.table)
            .where(and_(this, columns["version"] == bindparam("b_version")))
            .values(
                {columns[name]: bindparam(f"b_{name}") for name in _WRITTEN}
                | {columns["version"]: bindparam("b_version") + 1}
            )
        )
        untouched = and_(
            this,
            columns["version"] == bindparam("b_version"),
            columns["last_seen"] == bindparam("b_before"),
        )
        self._lock_untouched = (
            select(columns["id"]).where(untouched).with_for_update(skip_locked=True)
        )
        self._touch_locked = (
            update(self.table)
            .where(untouched)
            .values({columns[name]: bindparam(f"b_{name}") for name in _TOUCHED})
        )
        # both are the same table, and not the same row source
        free = self._lock_untouched.correlate(None).scalar_subquery()
        self._touch = self._touch_locked.where(columns["id"] == free)
        self._delete = delete(self.table).where(this)

    def load(self, connection: Connection, id: bytes, *, lock: bool = False) -> Record | None:
        """The row, or None.

        :raises SessionDataError: if the type of a column cannot read what the row holds.

        :param lock: lock it, and see what other transactions committed since this one began.
        """
        statement = self._locking_select if lock else self._select
        with translated(self.table.fullname):
            result = connection.execute(statement, {"b_id": id})
            try:
                row = result.first()
            except SQLAlchemyError:
                raise
            except Exception as error:
                raise SessionDataError(f"a column's type cannot read it: {error}") from error
        return None if row is None else Record(*row)

    def insert(
        self, connection: Connection, id: bytes, created: int, values: Mapping[str, Any]
    ) -> None:
        """Store a new row.

        :param values: ``data``, ``last_seen``, ``max_age`` and ``purge_after``.
        """
        parameters = {"b_id": id, "b_version": 1, "b_created": created, **_prefixed(values)}
        with translated(self.table.fullname):
            connection.execute(self._insert, parameters)

    def update(
        self, connection: Connection, id: bytes, version: int, values: Mapping[str, Any]
    ) -> bool:
        """Store a row that has this version, and raise it; False if there is no such row.

        Never an upsert: that would bring back a session that was ended meanwhile.
        """
        parameters = {"b_id": id, "b_version": version, **_prefixed(values)}
        with translated(self.table.fullname):
            return connection.execute(self._update, parameters).rowcount == 1

    def touch(
        self,
        connection: Connection,
        id: bytes,
        record: Record,
        last_seen: int,
        purge_after: int,
    ) -> bool:
        """Record activity, without the data and without waiting for a lock.

        False if another request has the row, or has written or touched it since the *record* was
        read, or has ended the session.
        """
        loaded = {"b_id": id, "b_version": record.version, "b_before": record.last_seen}
        touched = {"b_last_seen": last_seen, "b_purge_after": purge_after}
        with translated(self.table.fullname):
            if connection.dialect.name not in MYSQL:
                return connection.execute(self._touch, loaded | touched).rowcount == 1
            # SKIP LOCKED counts for nothing within an UPDATE there
            if connection.execute(self._lock_untouched, loaded).first() is None:
                return False
            return connection.execute(self._touch_locked, loaded | touched).rowcount == 1

    def delete(self, connection: Connection, id: bytes) -> bool:
        """Delete the row, whatever its version; False if there is none."""
        with translated(self.table.fullname):
            return connection.execute(self._delete, {"b_id": id}).rowcount == 1


def _prefixed(values: Mapping[str, Any]) -> dict[str, Any]:
    # SQLAlchemy keeps the plain names of the columns for itself
    return {f"b_{name}": value for name, value in values.items()}
