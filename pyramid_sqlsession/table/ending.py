"""Deletes all rows of sessions, including rows that other requests add meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, false, update

from ..driver_errors import MYSQL
from ..exceptions import SessionConflict
from .rows import Rows

_ROUNDS = 100
_CHUNK = 10_000
"""Ids or lineages in one statement: SQLite takes 32,766 parameters."""


class Ending:
    """Deletes what a SELECT finds.

    :param row: selects rows, with a column that is labelled ``r_id``.
    """

    def __init__(self, rows: Rows, row: Select[Any]) -> None:
        id, version = rows.columns["id"], rows.columns["version"]
        self._rows = rows
        these = id.in_(bindparam("b_ids", expanding=True))
        self._these = row.where(these).with_for_update()
        for name in MYSQL:
            # a list of ids becomes a scan of a small table, which waits for every lock in it
            self._these = self._these.with_hint(rows.table, "FORCE INDEX (PRIMARY)", name)
        self._delete = delete(rows.table).where(these)
        self._hit_nothing = update(rows.table).where(false()).values({version: version})
        self._delete_one = delete(rows.table).where(id == bindparam("b_id"))

    def delete_all(
        self,
        connection: Connection,
        wanted: Select[Any],
        parameters: dict[str, Any],
        spare: bytes | None = None,
    ) -> list[Any]:
        """Delete the rows that a SELECT finds, until it finds no more; returns them.

        :param spare: the id of a row to lock and keep.
        :raises SessionTableError: if the database keeps a row without reporting an error.
        """
        self._begin(connection, wanted, parameters)
        locking = wanted.with_for_update()
        found: dict[bytes, Any] = {}
        left: set[bytes] = set()
        for _ in range(_ROUNDS):
            rows = self._rows.execute(connection, locking, parameters).all()
            # another request may have regenerated a session while this one waited for the lock of
            # the old row: the new row was not seen before
            unknown = [row for row in rows if row.r_id not in found]
            found |= {row.r_id: row for row in unknown}
            self._delete_rows(connection, [row.r_id for row in unknown if row.r_id != spare])
            if not (unknown or self._rows.hides(connection)):
                return list(found.values())
            seen, left = left, self._left(connection, wanted, parameters) - {spare}
            if not left:
                return list(found.values())
            # deleted and still there, or seen twice and hidden from the lock
            if left & (seen | found.keys()):
                raise self._rows.ignored("DELETE")
        raise SessionConflict("the sessions to end keep getting new tokens")

    def _begin(
        self, connection: Connection, wanted: Select[Any], parameters: dict[str, Any]
    ) -> None:
        if connection.dialect.name == "sqlite":
            # SELECT does not lock there: what it finds might change
            self._rows.execute(connection, self._hit_nothing, {})
        if connection.dialect.name in MYSQL:
            # by primary key first: a request that adds a row locks another one by its key, and then
            # waits for the gaps that a lock through another index takes
            rows = self._rows.execute(connection, wanted, parameters).all()
            for some in chunks([row.r_id for row in rows]):
                self._rows.execute(connection, self._these, {**parameters, "b_ids": some}).all()

    def _left(
        self, connection: Connection, wanted: Select[Any], parameters: dict[str, Any]
    ) -> set[bytes]:
        """The rows after a deletion, including those that are hidden from a lock."""
        # elsewhere a plain SELECT may read a snapshot without others' rows
        statement = wanted if self._rows.hides(connection) else wanted.with_for_update()
        return {row.r_id for row in self._rows.execute(connection, statement, parameters)}

    def _delete_rows(self, connection: Connection, ids: list[bytes]) -> None:
        if connection.dialect.name in MYSQL and 0 < len(ids) < 100:
            # a list of ids becomes a scan of a small table, which waits for every lock in it
            one_by_one = [{"b_id": one} for one in ids]
            self._rows.execute(connection, self._delete_one, one_by_one)
            return
        for some in chunks(ids):
            self._rows.execute(connection, self._delete, {"b_ids": some})


def chunks(all_: list[bytes]) -> Iterator[list[bytes]]:
    """Parts of a list, each short enough for one statement."""
    for start in range(0, len(all_), _CHUNK):
        yield all_[start : start + _CHUNK]
