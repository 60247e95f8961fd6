"""Deletes expired rows, and calls the application's ``on_expired`` first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, delete, not_, select
from sqlalchemy.exc import IntegrityError

from ..database.aside import maintaining
from ..driver_errors import MYSQL, is_busy_sqlite, is_timeout, reason, refuses_writes
from ..lifetime import Lifetime
from ..table.rows import Rows

log = logging.getLogger("pyramid_sqlsession")

_KEPT = "the database kept it and reported no error"

OnExpired = Callable[[Connection, "Sequence[ExpiredSession]"], object]


@dataclass(frozen=True)
class ExpiredSession:
    """An expired session that is about to be deleted, as ``sqlsession.on_expired`` gets it."""

    handle: str
    """The public handle; what :attr:`SQLSession.id` was."""

    user_id: Any
    """Whose session it was; None for an anonymous one."""

    columns: Mapping[str, Any]
    """The values of the columns that your model has added, by their names."""


class Deletion:
    """Deletes rows in transactions as large as the database allows.

    :param on_expired: the application's function; see ``sqlsession.on_expired``.
    """

    def __init__(self, rows: Rows, lifetime: Lifetime, on_expired: OnExpired | None) -> None:
        columns = rows.columns
        self._rows = rows
        self._on_expired = on_expired
        expired = lifetime.expired(columns)
        these = columns["id"].in_(bindparam("b_ids", expanding=True))
        names = ("id", "lineage", "user_id", "replaced", *(rows.own_columns if on_expired else ()))
        self._lock = (
            select(*(columns[name] for name in names))
            .where(these, expired)
            .with_for_update(skip_locked=True)
        )
        # by the primary key: a scan of a small table would lock other rows too, if not for long
        for dialect in MYSQL:
            self._lock = self._lock.with_hint(rows.table, "FORCE INDEX (PRIMARY)", dialect)
        lineage = columns["lineage"]
        theirs = lineage.in_(bindparam("b_lineages", expanding=True))
        self._left = select(lineage).where(theirs, not_(these))
        self._find = select(columns["id"]).where(these)
        self._delete = delete(rows.table).where(and_(these, expired))
        this = columns["id"] == bindparam("b_id", type_=columns["id"].type)
        self._delete_one = delete(rows.table).where(and_(this, expired))

    def run(
        self, engine: Engine, now: int, ids: Sequence[bytes], size: int
    ) -> tuple[set[bytes], int]:
        """Delete rows by their ids; returns the deleted ids, and the batch size that works.

        Rows that are live again, or locked, are skipped. A batch that fails is split, so that a row
        that cannot be deleted is logged and does not hold up the others.

        :param size: how many rows a transaction deletes at most.
        """
        deleted: set[bytes] = set()
        kept, pieces = _Kept(), [ids]
        while pieces:
            piece = pieces.pop()
            half = len(piece) // 2
            if len(piece) > size:
                pieces += [piece[size:], piece[:size]]
                continue
            gone, error = self._delete_piece(engine, now, piece)
            deleted |= gone
            if error is not None and half:
                size = half if is_timeout(error) else size
                pieces += [piece[half:], piece[:half]]
            elif error is not None:
                kept.add(piece[0], error)
        kept.tell()
        return deleted, size

    def _delete_piece(
        self, engine: Engine, now: int, ids: Sequence[bytes]
    ) -> tuple[set[bytes], Exception | None]:
        """The ids of the deleted rows, or the error if none was deleted.

        :raises Exception: if other rows would fail likewise.
        """
        found: Sequence[Any] | None = None
        try:
            with maintaining(engine) as connection:
                if connection.dialect.name == "sqlite" and self._on_expired is None:
                    found = ids
                    gone = self._delete_unlocked(connection, now, ids)
                else:
                    found = self._locked(connection, now, ids)
                    self._tell(connection, found)
                    gone = {row[0] for row in found}
                    self._delete_locked(connection, now, list(gone))
        except Exception as error:
            may_be_about_a_row = found is not None or is_timeout(error)
            if not may_be_about_a_row or _is_useless(error):
                raise
            return set(), error
        return gone, None

    def _delete_unlocked(
        self, connection: Connection, now: int, ids: Sequence[bytes]
    ) -> set[bytes]:
        parameters = {"b_now": now, "b_ids": ids}
        deleted = self._rows.execute(connection, self._delete, parameters).rowcount
        if deleted == len(ids):
            return set(ids)
        # whoever has begun to delete is alone in SQLite's database
        if self._rows.execute(connection, self._lock, parameters).first() is not None:
            raise _NotDeletedError(_KEPT)
        alive = {row[0] for row in self._rows.execute(connection, self._find, {"b_ids": ids})}
        # of the others it does not matter who has deleted which
        return set([one for one in ids if one not in alive][:deleted])

    def _locked(self, connection: Connection, now: int, ids: Sequence[bytes]) -> Sequence[Any]:
        if connection.dialect.name == "sqlite":
            # a transaction that has read cannot wait for its turn to write
            self._rows.execute(connection, self._delete, {"b_now": now, "b_ids": []})
        parameters = {"b_now": now, "b_ids": ids}
        found: Sequence[Any] = self._rows.execute(connection, self._lock, parameters).all()
        return found

    def _tell(self, connection: Connection, found: Sequence[Any]) -> None:
        if self._on_expired is None:
            return
        # a row that another token opens may be left of a session, or its marker
        by_lineage = {row[1]: row for row in sorted(found, key=lambda row: row[3] is None)}
        others = {"b_lineages": list(by_lineage), "b_ids": [row[0] for row in found]}
        left = set(self._rows.execute(connection, self._left, others).scalars())
        own = self._rows.own_columns
        sessions = [
            ExpiredSession(lineage.hex(), user_id, dict(zip(own, values, strict=True)))
            for lineage, (_, _, user_id, _, *values) in by_lineage.items()
            if lineage not in left
        ]
        if sessions:
            self._on_expired(connection, sessions)

    def _delete_locked(self, connection: Connection, now: int, ids: Sequence[bytes]) -> None:
        if connection.dialect.name in MYSQL:
            # a list of many ids becomes a scan of a small table, which waits for every lock in it
            one_by_one = [{"b_now": now, "b_id": one} for one in ids]
            result = self._rows.execute(connection, self._delete_one, one_by_one) if ids else None
        else:
            result = self._rows.execute(connection, self._delete, {"b_now": now, "b_ids": ids})
        if result is not None and result.rowcount != len(ids):
            raise _NotDeletedError(_KEPT)


class _NotDeletedError(Exception):
    """A trigger or a policy of the database keeps a row."""


class _Kept:
    """The rows that could not be deleted, logged with one line per reason."""

    def __init__(self) -> None:
        self._by_reason: dict[str, list[bytes]] = {}

    def add(self, id: bytes, error: Exception) -> None:
        why = reason(error) or type(error).__name__
        if isinstance(error, IntegrityError):
            why += " (a foreign key to sessions needs ON DELETE CASCADE or SET NULL)"
        self._by_reason.setdefault(why, []).append(id)

    def tell(self) -> None:
        for why, ids in self._by_reason.items():
            log.warning(
                "cannot delete %d expired sessions, skipping them (row %s for example): %s",
                len(ids),
                ids[0].hex(),
                why,
            )


def _is_useless(error: Exception) -> bool:
    """Whether other rows would fail too: the database is gone, busy or read-only."""
    is_gone = bool(getattr(error, "connection_invalidated", False))
    return is_gone or refuses_writes(error) or is_busy_sqlite(error)
