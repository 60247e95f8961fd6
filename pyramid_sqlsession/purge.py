"""Deleting expired sessions, in small transactions.

Nothing depends on it but space: an expired session is none at every read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    or_,
    select,
)

from .database import connect
from .dberrors import MYSQL, translated
from .lifetime import Lifetime
from .storage import Storage

_FIRST = (-(2**63), b"")


@contextmanager
def maintaining(engine: Engine) -> Iterator[Connection]:
    """A connection for work outside of requests, at an isolation level that disturbs them least."""
    if engine.dialect.name == "sqlite":
        opened = engine.connect()
    else:
        # above it MariaDB locks the gaps between rows, and PostgreSQL lets bystanders fail
        opened = connect(engine, "READ COMMITTED")
    with opened as connection:
        yield connection


class Purge:
    """Deletes the rows of sessions that have expired.

    All methods raise :class:`SessionTableError` if the table does not fit, and what the database
    raises.

    :ivar expired: the SQL expression that is true of them, with the parameter ``b_now``.
    """

    def __init__(self, storage: Storage, lifetime: Lifetime, clock: Callable[[], int]) -> None:
        columns = self._columns = storage.columns
        self._table = storage.table
        self._clock = clock
        now: ColumnElement[int] = bindparam("b_now", type_=BigInteger)
        idle = func.coalesce(columns["max_age"], lifetime.default)
        # nothing is added to what a row holds: it may be any number, and overflow
        self.expired: ColumnElement[bool] = columns["last_seen"] <= now - idle
        if lifetime.absolute is not None:
            self.expired = or_(self.expired, columns["created"] <= now - lifetime.absolute)
        due = and_(columns["purge_after"] <= now, self.expired)
        self._count = select(func.count()).select_from(self._table).where(due)
        self._candidates = self._after_the_last(due).with_for_update(skip_locked=True)
        these = columns["id"].in_(bindparam("b_ids", expanding=True))
        self._delete = delete(self._table).where(and_(these, self.expired))
        this = columns["id"] == bindparam("b_id")
        self._delete_one = delete(self._table).where(and_(this, self.expired))

    def _after_the_last(self, due: ColumnElement[bool]) -> Any:
        """The next rows in the order of the index, so that live ones are passed only once."""
        key = (self._columns["purge_after"], self._columns["id"])
        last: ColumnElement[int] = bindparam("b_last", type_=BigInteger)
        beyond = or_(key[0] > last, key[1] > bindparam("b_last_id", type_=key[1].type))
        return (
            select(*key)
            .where(and_(key[0] >= last, beyond, due))
            .order_by(*key)
            .limit(bindparam("b_limit"))
        )

    def count(self, connection: Connection) -> int:
        """How many rows there are to delete."""
        with translated(self._table.fullname):
            return int(connection.execute(self._count, {"b_now": self._clock()}).scalar_one())

    def batches(self, engine: Engine, size: int) -> Iterator[int]:
        """Delete what has expired by now, *size* rows in a transaction; yield how many it were.

        Rows that another transaction has locked are left for the next time.
        """
        now, last = self._clock(), _FIRST
        while True:
            with maintaining(engine) as connection, translated(self._table.fullname):
                found = self._find(connection, now, last, size)
                if found:
                    deleted = self._delete_these(connection, now, found)
            if found:
                last = found[-1]
                yield deleted
            if len(found) < size:
                return

    def _find(
        self, connection: Connection, now: int, last: tuple[int, bytes], size: int
    ) -> Sequence[Any]:
        parameters = {"b_now": now, "b_last": last[0], "b_last_id": last[1], "b_limit": size}
        found = connection.execute(self._candidates, parameters).all()
        if connection.dialect.name == "sqlite":
            # a transaction that has read cannot wait for its turn to write
            connection.commit()
        return found

    def _delete_these(self, connection: Connection, now: int, found: Sequence[Any]) -> int:
        handles = [row[1] for row in found]
        if connection.dialect.name in MYSQL:
            # a list of many ids becomes a scan of a small table, which waits for every lock in it
            deleted = connection.execute(
                self._delete_one, [{"b_now": now, "b_id": handle} for handle in handles]
            ).rowcount
        else:
            deleted = connection.execute(self._delete, {"b_now": now, "b_ids": handles}).rowcount
        connection.commit()
        return deleted
