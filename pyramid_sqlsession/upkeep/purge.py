"""Deletes expired sessions, in small transactions.

Expired rows are never treated as sessions; the purge only reclaims space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, and_, bindparam, func, select
from sqlalchemy.exc import DBAPIError

from ..database.aside import maintaining
from ..driver_errors import is_timeout
from ..lifetime import Lifetime
from ..table.rows import Rows
from ..table.storage import look_at_storage
from .deletion import Deletion, OnExpired

GENTLE = 100
"""Rows a transaction: more make a purge without pauses faster, and other requests slower."""

_EARLIEST = -(2**63)

_MANY = 10_000


class Purge:
    """Deletes the rows of sessions that have expired.

    All methods raise :class:`SessionTableError` if the table does not fit, and what the database
    raises.
    """

    def __init__(
        self,
        rows: Rows,
        lifetime: Lifetime,
        clock: Callable[[], int],
        on_expired: OnExpired | None = None,
    ) -> None:
        columns = rows.columns
        self._rows = rows
        self._clock = clock
        self._deletion = Deletion(rows, lifetime, on_expired)
        now: ColumnElement[int] = bindparam("b_now", type_=BigInteger)
        due = and_(columns["purge_after"] <= now, lifetime.expired(columns))
        self._count = select(func.count()).select_from(rows.table).where(due)
        # where the last batch ended, so that what it has left or deleted is not walked again
        begin = columns["purge_after"] >= bindparam("b_begin", type_=BigInteger)
        passed = columns["id"].not_in(bindparam("b_passed", expanding=True))
        # nothing is locked here: MariaDB would lock what it looks at, live rows too
        self._candidates = (
            select(columns["id"], columns["purge_after"])
            .where(and_(begin, due, passed))
            .order_by(columns["purge_after"])
            .limit(bindparam("b_limit"))
        )

    def count(self, connection: Connection) -> int:
        """How many rows there are to delete."""
        counted = self._rows.execute(connection, self._count, {"b_now": self._clock()})
        return int(counted.scalar_one())

    def batches(self, engine: Engine, size: int) -> Iterator[int]:
        """Delete what has expired by now, *size* rows per transaction; yield the number of each.

        Rows that another transaction has locked are left for the next time. Rows that cannot be
        deleted are logged and skipped. If the database cancels statements that take too long, the
        transactions become smaller.
        """
        now, begin = self._clock(), _EARLIEST
        passed: list[bytes] = []
        while True:
            try:
                found = self._find(engine, now, begin, passed, size)
            except DBAPIError as error:
                if size == 1 or not is_timeout(error):
                    raise
                size //= 2
                continue
            is_last, ids = len(found) < size, [row[0] for row in found]
            deleted: set[bytes] = set()
            if ids:
                deleted, size = self._deletion.run(engine, now, ids, size)
                yield len(deleted)
            if is_last:
                return
            last = found[-1][1]
            left = [id for id, purge_after in found if purge_after == last and id not in deleted]
            passed = [*passed, *left] if last == begin else left
            # a list that grew for ever would be read for each batch
            begin, passed = (last, passed) if len(passed) < _MANY else (last + 1, [])

    def _find(
        self, engine: Engine, now: int, begin: int, passed: list[bytes], size: int
    ) -> Sequence[Any]:
        parameters = {"b_now": now, "b_begin": begin, "b_passed": passed, "b_limit": size}
        with maintaining(engine) as connection:
            # no request is to wait for that
            look_at_storage(self._rows.table, connection)
            found: Sequence[Any] = self._rows.execute(
                connection, self._candidates, parameters
            ).all()
        return found
