"""The SQL of one session: five statements, built once for a model.

Statements are SQLAlchemy Core on the model's table: defaults and ``onupdate`` of an application's
own columns work, ORM events do not fire. Who commits is the caller's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, insert, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError

from .dberrors import translated
from .exceptions import SessionDataError
from .record import Record

_WRITTEN = ("data", "last_seen", "max_age", "purge_after")


class Storage:
    """Reads and writes the rows of a model.

    Every method takes an open connection, and the id: the 32 bytes of the primary key. All raise
    :class:`SessionConflict` if the database reports a conflict with another transaction and
    :class:`SessionTableError` if the table does not fit.
    """

    def __init__(self, model: Any) -> None:
        columns = inspect(model).columns
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
        self._touch = (
            update(self.table)
            .where(and_(this, columns["last_seen"] == bindparam("b_before")))
            .values({columns["last_seen"]: bindparam("b_last_seen")})
        )
        self._move_purge = self._touch.values({columns["purge_after"]: bindparam("b_purge_after")})
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
        before: int,
        last_seen: int,
        purge_after: int | None,
    ) -> bool:
        """Record activity, without the data; False if another request has done so already.

        :param before: ``last_seen`` as it was loaded.
        :param purge_after: its new value, or None to leave that indexed column alone.
        """
        parameters = {"b_id": id, "b_before": before, "b_last_seen": last_seen}
        statement = self._touch
        if purge_after is not None:
            statement, parameters["b_purge_after"] = self._move_purge, purge_after
        with translated(self.table.fullname):
            return connection.execute(statement, parameters).rowcount == 1

    def delete(self, connection: Connection, id: bytes) -> bool:
        """Delete the row, whatever its version; False if there is none."""
        with translated(self.table.fullname):
            return connection.execute(self._delete, {"b_id": id}).rowcount == 1


def _prefixed(values: Mapping[str, Any]) -> dict[str, Any]:
    # SQLAlchemy keeps the plain names of the columns for itself
    return {f"b_{name}": value for name, value in values.items()}
