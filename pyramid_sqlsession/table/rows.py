"""The SQL of one session: its statements, built once for a model.

Statements are SQLAlchemy Core on the model's table: defaults and ``onupdate`` of an application's
own columns work, ORM events do not fire. The caller commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Insert, Update, and_, bindparam, case, insert, select, update

from ..driver_errors import MYSQL
from ..exceptions import SessionConflict, SessionTableError
from .compiled import execute
from .json_text import written_as_text
from .reads import Reads
from .record import Record

_NEW = ("id", "lineage", "user_id", "version", "created")
_WRITTEN = ("data", "last_seen", "max_age", "purge_after")
_TOUCHED = ("last_seen", "purge_after")


class Rows(Reads):
    """Reads and writes the rows of a model."""

    def __init__(self, model: Any, remark: str = "") -> None:
        super().__init__(model, remark)
        self._this = self.columns["id"] == bindparam("b_id")
        same_version = self.columns["version"] == bindparam("b_version")
        self._same_version = and_(self._this, same_version)
        self._build_writes()
        self._build_touches()

    def _build_writes(self) -> None:
        columns, same_version = self.columns, self._same_version
        next_version: dict[Any, Any] = {columns["version"]: bindparam("b_version") + 1}

        @lru_cache(maxsize=64)
        def insert_with(own: tuple[str, ...]) -> Insert:
            new = insert(self.table).values(self._set(*_NEW, *_WRITTEN, *own))
            # INSERT reports no row count without it
            return new.execution_options(preserve_rowcount=True)

        @lru_cache(maxsize=64)
        def update_with(own: tuple[str, ...]) -> Update:
            changes = self._written(*own) | next_version
            return update(self.table).where(same_version).values(changes)

        self._insert, self._update = insert_with, update_with
        marked = self._written("lineage", "user_id", "replaced") | next_version
        self._mark = update(self.table).where(same_version).values(marked)
        held: dict[Any, Any] = {columns["version"]: columns["version"]}
        self._hold = update(self.table).where(self._this).values(held)
        self._raise = update(self.table).where(same_version).values(next_version)
        told: dict[Any, Any] = {columns["purge_after"]: 0}
        self._note_told = update(self.table).where(same_version).values(told)
        self._rewrite = update(self.table).where(same_version).values(self._set("data"))

    def _build_touches(self) -> None:
        columns = self.columns
        untouched = and_(self._same_version, columns["last_seen"] == bindparam("b_before"))
        self._lock_untouched = (
            select(columns["id"]).where(untouched).with_for_update(skip_locked=True)
        )
        self._touch_locked = update(self.table).where(untouched).values(self._set(*_TOUCHED))
        # the same table twice in one statement
        free = self._lock_untouched.correlate(None).scalar_subquery()
        self._touch = self._touch_locked.where(columns["id"] == free)

    def _set(self, *names: str) -> dict[Any, Any]:
        set_: dict[Any, Any] = {self.columns[name]: bindparam(f"b_{name}") for name in names}
        data = self.columns["data"]
        if data in set_:
            set_[data] = written_as_text(data, "b_data")
        return set_

    def _written(self, *names: str) -> dict[Any, Any]:
        """What a data write sets, with these columns."""
        seen, purge_after = self.columns["last_seen"], self.columns["purge_after"]
        set_ = self._set(*_WRITTEN, *names)
        # another host, whose clock is ahead, may have touched the row since it was read; MySQL
        # compares with values that it has already set, which makes no difference here
        is_ahead = seen > bindparam("b_last_seen", type_=seen.type)
        later = and_(is_ahead, purge_after > bindparam("b_purge_after", type_=purge_after.type))
        set_[seen] = case((is_ahead, seen), else_=set_[seen])
        set_[purge_after] = case((later, purge_after), else_=set_[purge_after])
        return set_

    def _change(self, connection: Connection, statement: Any, parameters: dict[str, Any]) -> int:
        """How many rows a statement changed."""
        with self.translated():
            return int(execute(connection, statement, parameters).rowcount)

    def _hits(self, connection: Connection, statement: Any, parameters: dict[str, Any]) -> bool:
        """Whether a statement changed its one row."""
        return self._change(connection, statement, parameters) == 1

    def is_live(self, connection: Connection, id: bytes) -> bool:
        """Whether the row is that of a session that has not ended; locks it."""
        if connection.dialect.name == "sqlite":
            # SELECT does not lock there
            self._change(connection, self._hold, {"b_id": id})
        record = self.load(connection, id, lock=True)
        return record is not None and record.replaced is None

    def insert(
        self,
        connection: Connection,
        id: bytes,
        values: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        """Store a new row.

        :param values: ``lineage``, ``created``, ``user_id``, ``data``, ``last_seen``, ``max_age``
            and ``purge_after``.
        :param own: values of :attr:`own_columns`; the others get their defaults.
        :raises SessionTableError: if the row is not there afterwards.
        """
        parameters = {"b_id": id, "b_version": 1, **_prefixed(values), **_prefixed(own)}
        inserted = self._change(connection, self._insert(tuple(sorted(own))), parameters)
        # no error if a trigger has put it into another table, such as a partition
        if inserted == 0 and self.load(connection, id) is None:
            raise self.ignored("INSERT")

    def update(
        self,
        connection: Connection,
        id: bytes,
        version: int,
        values: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> bool:
        """Update a row that has this version, and increment it; False if there is no such row.

        Never an upsert: that would bring back a session that was ended meanwhile.
        """
        parameters = {"b_id": id, "b_version": version, **_prefixed(values), **_prefixed(own)}
        return self._hits(connection, self._update(tuple(sorted(own))), parameters)

    def mark(
        self, connection: Connection, id: bytes, version: int, values: Mapping[str, Any]
    ) -> bool:
        """Turn a row that has this version into a marker; False if there is no such row.

        :param values: as for :meth:`update`, and ``lineage``, ``user_id`` and ``replaced``.
        """
        parameters = {"b_id": id, "b_version": version, **_prefixed(values)}
        return self._hits(connection, self._mark, parameters)

    def bump(self, connection: Connection, id: bytes, version: int) -> bool:
        """Increment the version of a row that has this one; False if there is no such row.

        :raises SessionTableError: if the row exists and stays unchanged.
        """
        if self._hits(connection, self._raise, {"b_id": id, "b_version": version}):
            return True
        why = self.unwritten(connection, id, version)
        if isinstance(why, SessionTableError):
            raise why
        return False

    def unwritten(
        self, connection: Connection, id: bytes, version: int
    ) -> SessionConflict | SessionTableError:
        """The error for a statement on a row with this version that changed nothing."""
        row = self.load(connection, id, lock=True)
        if row is not None and row.version == version:
            return self.ignored("UPDATE")
        # a lock does not last in AUTOCOMMIT, nor in a storage engine without transactions
        return SessionConflict("concurrent change in the session")

    def note_told(self, connection: Connection, id: bytes, version: int) -> None:
        """Note that the expiry was reported. The next purge looks at the row.

        A host with another clock may still open the session: its touch resets this.
        """
        self._change(connection, self._note_told, {"b_id": id, "b_version": version})

    def rewrite(self, connection: Connection, id: bytes, version: int, data: Any) -> None:
        """Store the same data encoded differently; the row must have this version, and keeps it."""
        parameters = {"b_id": id, "b_version": version, "b_data": data}
        self._change(connection, self._rewrite, parameters)

    def touch(
        self,
        connection: Connection,
        id: bytes,
        record: Record,
        last_seen: int,
        purge_after: int,
    ) -> bool:
        """Record activity, without writing the data and without waiting for a lock.

        False if another request has locked the row, has written or touched it since the *record*
        was read, or has ended the session.
        """
        loaded = {"b_id": id, "b_version": record.version, "b_before": record.times.last_seen}
        touched = {"b_last_seen": last_seen, "b_purge_after": purge_after}
        if connection.dialect.name not in MYSQL:
            return self._hits(connection, self._touch, loaded | touched)
        # SKIP LOCKED has no effect inside an UPDATE there
        if self.execute(connection, self._lock_untouched, loaded).first() is None:
            return False
        return self._hits(connection, self._touch_locked, loaded | touched)


def _prefixed(values: Mapping[str, Any]) -> dict[str, Any]:
    # SQLAlchemy reserves the plain names of the columns
    return {f"b_{name}": value for name, value in values.items()}
