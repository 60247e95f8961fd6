"""Deleting all rows of sessions, also those that other requests add to them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, false, update

from ..driver_errors import MYSQL
from ..exceptions import SessionConflict
from .rows import Rows

_ROUNDS = 100
_CHUNK = 5000
"""Ids or lineages in one statement: SQLite takes 32,766 parameters."""


class Ending:
    """Deletes what a SELECT finds.

    :param row: selects rows; what is read of each has the label ``r_id`` among others.
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
        """Delete the rows that a SELECT finds, until it finds no other one; all of them.

        :param spare: the id of a row that is locked and stays.
        :raises SessionTableError: if the database keeps a row, and reports no error.
        """
        self._begin(connection, wanted, parameters)
        locking = wanted.with_for_update()
        found: dict[bytes, Any] = {}
        left: set[bytes] = set()
        for _ in range(_ROUNDS):
            rows = self._rows.execute(connection, locking, parameters).all()
            # another request may have given a session a new token while this one waited for the
            # old row, be it one that stays: the new one was not seen before
            unknown = [row for row in rows if row.r_id not in found]
            found |= {row.r_id: row for row in unknown}
            self._delete_rows(connection, [row.r_id for row in unknown if row.r_id != spare])
            if not (unknown or self._rows.hides(connection)):
                return list(found.values())
            seen, left = left, self._left(connection, wanted, parameters) - {spare}
            if not left:
                return list(found.values())
            # deleted and still there, or there twice and hidden from the lock in between
            if left & (seen | found.keys()):
                raise self._rows.ignored("DELETE")
        raise SessionConflict("the sessions to end keep getting new tokens")

    def _begin(
        self, connection: Connection, wanted: Select[Any], parameters: dict[str, Any]
    ) -> None:
        if connection.dialect.name == "sqlite":
            # no SELECT locks anything there: what it finds might be changed by now
            self._rows.execute(connection, self._hit_nothing, {})
        if connection.dialect.name in MYSQL:
            # by their keys first: whoever adds a row holds the lock of another one by its key, and
            # waits for the gaps that a lock by another index takes
            rows = self._rows.execute(connection, wanted, parameters).all()
            for some in chunks([row.r_id for row in rows]):
                self._rows.execute(connection, self._these, {**parameters, "b_ids": some}).all()

    def _left(
        self, connection: Connection, wanted: Select[Any], parameters: dict[str, Any]
    ) -> set[bytes]:
        """What there is after a deletion, with the rows that are hidden from a lock."""
        # elsewhere a plain SELECT may look at a snapshot, in which others' rows are not
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
    """Pieces of a list that fit into one statement."""
    for start in range(0, len(all_), _CHUNK):
        yield all_[start : start + _CHUNK]
