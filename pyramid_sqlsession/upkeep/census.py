"""Statistics about all sessions, counted in one pass over the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    not_,
    select,
    true,
)

from ..lifetime import Lifetime
from ..table.model import underlying
from ..table.rows import Rows

AGES: dict[str, int | None] = {
    "hour": 3600,
    "day": 86400,
    "week": 7 * 86400,
    "month": 30 * 86400,
    "older": None,
}
"""The classes of the last visit: each up to so many seconds ago, and more than the one before."""

SIZES: dict[str, int | None] = {
    "1 KiB": 1024,
    "10 KiB": 10 * 1024,
    "100 KiB": 100 * 1024,
    "1 MiB": 1024**2,
    "more": None,
}
"""The classes of the data's size: each up to so many bytes, and more than the one before."""


@dataclass(frozen=True)
class Figures:
    """What was counted.

    ``live``, ``expired``
      Rows of live sessions, and expired rows.
    ``replaced``
      Rows of sessions that got a new token, kept for requests that come late with the old one.
    ``signed_in``, ``anonymous``
      Live ones with and without a user.
    ``purgeable``
      Rows that a purge would delete now.
    ``ages``
      Live ones by their last visit, in the classes of :data:`AGES`.
    ``sizes``
      All rows by the size of their data, in the classes of :data:`SIZES`.
    ``bytes``
      The data of all rows together, before the database compresses it.
    """

    live: int
    expired: int
    replaced: int
    signed_in: int
    anonymous: int
    purgeable: int
    ages: dict[str, int]
    sizes: dict[str, int]
    bytes: int

    @property
    def mean(self) -> int:
        """The mean size of the data, in bytes."""
        rows = sum(self.sizes.values())
        return round(self.bytes / rows) if rows else 0


class Census:
    """Counts the sessions of a table."""

    def __init__(self, rows: Rows, lifetime: Lifetime, clock: Callable[[], int]) -> None:
        self._rows = rows
        self._columns = rows.columns
        self._data_type = underlying(rows.data_type)
        self._expired = lifetime.expired(rows.columns)
        self._live = lifetime.live(rows.columns)
        self._clock = clock

    def take(self, connection: Connection) -> Figures:
        """Count now.

        :raises SessionTableError: if the table does not fit.
        """
        statement = self.statement(connection.dialect)
        row = self._rows.execute(connection, statement, {"b_now": self._clock()}).one()
        # sums over no row are NULL, and MariaDB's are decimals
        counted = iter([int(value or 0) for value in row])
        return Figures(
            live=next(counted),
            expired=next(counted),
            replaced=next(counted),
            signed_in=next(counted),
            anonymous=next(counted),
            purgeable=next(counted),
            ages={name: next(counted) for name in AGES},
            sizes={name: next(counted) for name in SIZES},
            bytes=next(counted),
        )

    def statement(self, dialect: Dialect) -> Select[Any]:
        """One pass over the table, which leaves the data itself alone where that is possible."""
        columns, expired, live = self._columns, self._expired, self._live
        now: ColumnElement[int] = bindparam("b_now", type_=BigInteger)
        size = self._size(dialect)
        conditions = [
            live,
            expired,
            and_(not_(expired), columns["replaced"].is_not(None)),
            and_(live, columns["user_id"].is_not(None)),
            and_(live, columns["user_id"].is_(None)),
            and_(expired, columns["purge_after"] <= now),
            # nothing is subtracted from what a row holds: it may be any number, and overflow
            *(and_(live, it) for it in _bands(AGES, lambda age: columns["last_seen"] >= now - age)),
            *_bands(SIZES, lambda limit: size <= limit),
        ]
        counts = (func.sum(case((condition, 1), else_=0)) for condition in conditions)
        return select(*counts, func.sum(size)).select_from(self._rows.table)

    def _size(self, dialect: Dialect) -> ColumnElement[int]:
        data: Any = self._columns["data"]
        if dialect.name == "sqlite":
            # octet_length() is newer than many an installed library; length() counts a text's
            # characters, and a blob's bytes without reading them
            is_binary = self._data_type.python_type is bytes
            return func.length(data if is_binary else cast(data, LargeBinary), type_=BigInteger)
        if dialect.name == "postgresql" and isinstance(self._data_type, JSON):
            data = cast(data, Text)
        return func.octet_length(data, type_=BigInteger)


def _bands(
    limits: dict[str, int | None], is_within: Callable[[int], ColumnElement[bool]]
) -> Iterator[ColumnElement[bool]]:
    """For each limit, the condition that a row is within it and not within the one before."""
    beyond: ColumnElement[bool] = true()
    for limit in limits.values():
        if limit is None:
            yield beyond
        else:
            yield and_(beyond, is_within(limit))
            beyond = not_(is_within(limit))
