"""Deleting expired sessions, in small transactions.

Nothing depends on it but space: an expired session is none at every read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    and_,
    bindparam,
    delete,
    func,
    select,
)
from sqlalchemy.exc import IntegrityError

from ..database.connections import commit, maintaining
from ..driver_errors import MYSQL, reason
from ..lifetime import Lifetime
from ..table.rows import Rows

log = logging.getLogger("pyramid_sqlsession")

_EARLIEST = -(2**63)


class Purge:
    """Deletes the rows of sessions that have expired.

    All methods raise :class:`SessionTableError` if the table does not fit, and what the database
    raises.
    """

    def __init__(self, rows: Rows, lifetime: Lifetime, clock: Callable[[], int]) -> None:
        columns = rows.columns
        self._rows = rows
        self._clock = clock
        now: ColumnElement[int] = bindparam("b_now", type_=BigInteger)
        expired = lifetime.expired(columns)
        due = and_(columns["purge_after"] <= now, expired)
        self._count = select(func.count()).select_from(rows.table).where(due)
        # where the last batch ended, so that what it has left or deleted is not walked again
        begin = columns["purge_after"] >= bindparam("b_begin", type_=BigInteger)
        self._candidates = (
            select(columns["id"], columns["purge_after"])
            .where(and_(begin, due))
            .order_by(columns["purge_after"])
            .limit(bindparam("b_limit"))
            .with_for_update(skip_locked=True)
        )
        these = columns["id"].in_(bindparam("b_ids", expanding=True))
        self._delete = delete(rows.table).where(and_(these, expired))
        this = columns["id"] == bindparam("b_id")
        self._delete_one = delete(rows.table).where(and_(this, expired))

    def count(self, connection: Connection) -> int:
        """How many rows there are to delete."""
        counted = self._rows.execute(connection, self._count, {"b_now": self._clock()})
        return int(counted.scalar_one())

    def batches(self, engine: Engine, size: int) -> Iterator[int]:
        """Delete what has expired by now, *size* rows in a transaction; yield how many it were.

        Rows that another transaction has locked are left for the next time. So are rows that other
        rows refer to, with a line in the log.
        """
        now, begin = self._clock(), _EARLIEST
        while True:
            with maintaining(engine) as connection:
                found = self._find(connection, now, begin, size)
                deleted = self._delete_found(connection, now, found) if found else 0
            if found:
                yield deleted
            if len(found) < size:
                return
            # past what cannot be deleted, which would be found again for ever
            begin = found[-1][1] + (not deleted)

    def _find(self, connection: Connection, now: int, begin: int, size: int) -> Sequence[Any]:
        parameters = {"b_now": now, "b_begin": begin, "b_limit": size}
        found: Sequence[Any] = self._rows.execute(connection, self._candidates, parameters).all()
        if connection.dialect.name == "sqlite":
            # a transaction that has read cannot wait for its turn to write
            connection.commit()
        return found

    def _delete_found(self, connection: Connection, now: int, found: Sequence[Any]) -> int:
        ids = [row[0] for row in found]
        try:
            return self._delete_these(connection, now, ids)
        except IntegrityError:
            connection.rollback()
        reasons = [self._reason_to_keep(connection, now, one) for one in ids]
        kept = [why for why in reasons if why is not None]
        log.warning(
            "%d expired sessions cannot be deleted because other rows refer to them, give that "
            "foreign key ON DELETE CASCADE or SET NULL: %s",
            len(kept),
            kept[-1] if kept else "not any more",
        )
        return len(ids) - len(kept)

    def _reason_to_keep(self, connection: Connection, now: int, id: bytes) -> str | None:
        try:
            self._delete_these(connection, now, [id])
        except IntegrityError as error:
            connection.rollback()
            return reason(error)
        return None

    def _delete_these(self, connection: Connection, now: int, ids: list[bytes]) -> int:
        if connection.dialect.name in MYSQL:
            # a list of many ids becomes a scan of a small table, which waits for every lock in it
            one_by_one = [{"b_now": now, "b_id": one} for one in ids]
            deleted: int = self._rows.execute(connection, self._delete_one, one_by_one).rowcount
        else:
            these = {"b_now": now, "b_ids": ids}
            deleted = self._rows.execute(connection, self._delete, these).rowcount
        commit(connection)
        return deleted
