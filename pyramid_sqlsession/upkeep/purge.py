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
    not_,
    or_,
    select,
)
from sqlalchemy.exc import IntegrityError

from ..database.connections import commit, maintaining
from ..driver_errors import MYSQL, reason, translated
from ..lifetime import Lifetime
from ..table.rows import Storage

log = logging.getLogger("pyramid_sqlsession")

_EARLIEST = -(2**63)


class Purge:
    """Deletes the rows of sessions that have expired.

    All methods raise :class:`SessionTableError` if the table does not fit, and what the database
    raises.

    ``expired``
      The SQL expression that is true of them, with the parameter ``b_now``.
    ``live``
      Likewise, of rows that are sessions: neither expired nor markers.
    """

    def __init__(self, storage: Storage, lifetime: Lifetime, clock: Callable[[], int]) -> None:
        columns = storage.columns
        self._table = storage.table
        self._clock = clock
        now: ColumnElement[int] = bindparam("b_now", type_=BigInteger)
        idle = func.coalesce(columns["max_age"], lifetime.default)
        # nothing is added to what a row holds: it may be any number, and overflow
        self.expired: ColumnElement[bool] = columns["last_seen"] <= now - idle
        if lifetime.absolute is not None:
            self.expired = or_(self.expired, columns["created"] <= now - lifetime.absolute)
        self.live: ColumnElement[bool] = and_(not_(self.expired), columns["successor"].is_(None))
        due = and_(columns["purge_after"] <= now, self.expired)
        self._count = select(func.count()).select_from(self._table).where(due)
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
        self._delete = delete(self._table).where(and_(these, self.expired))
        this = columns["id"] == bindparam("b_id")
        self._delete_one = delete(self._table).where(and_(this, self.expired))

    def count(self, connection: Connection) -> int:
        """How many rows there are to delete."""
        with translated(self._table.fullname):
            return int(connection.execute(self._count, {"b_now": self._clock()}).scalar_one())

    def batches(self, engine: Engine, size: int) -> Iterator[int]:
        """Delete what has expired by now, *size* rows in a transaction; yield how many it were.

        Rows that another transaction has locked are left for the next time. So are rows that other
        rows refer to, with a line in the log.
        """
        now, begin = self._clock(), _EARLIEST
        while True:
            with maintaining(engine) as connection, translated(self._table.fullname):
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
        found = connection.execute(self._candidates, parameters).all()
        if connection.dialect.name == "sqlite":
            # a transaction that has read cannot wait for its turn to write
            connection.commit()
        return found

    def _delete_found(self, connection: Connection, now: int, found: Sequence[Any]) -> int:
        handles = [row[0] for row in found]
        try:
            return self._delete_these(connection, now, handles)
        except IntegrityError:
            connection.rollback()
        reasons = [self._reason_to_keep(connection, now, handle) for handle in handles]
        kept = [why for why in reasons if why is not None]
        log.warning(
            "%d expired sessions cannot be deleted because other rows refer to them, give that "
            "foreign key ON DELETE CASCADE or SET NULL: %s",
            len(kept),
            kept[-1] if kept else "not any more",
        )
        return len(handles) - len(kept)

    def _reason_to_keep(self, connection: Connection, now: int, handle: bytes) -> str | None:
        try:
            self._delete_these(connection, now, [handle])
        except IntegrityError as error:
            connection.rollback()
            return reason(error)
        return None

    def _delete_these(self, connection: Connection, now: int, handles: list[bytes]) -> int:
        if connection.dialect.name in MYSQL:
            # a list of many ids becomes a scan of a small table, which waits for every lock in it
            deleted = connection.execute(
                self._delete_one, [{"b_now": now, "b_id": handle} for handle in handles]
            ).rowcount
        else:
            deleted = connection.execute(self._delete, {"b_now": now, "b_ids": handles}).rowcount
        commit(connection)
        return deleted
