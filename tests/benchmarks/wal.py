"""What a touch and a data write cost in PostgreSQL's write-ahead log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from typing import Any

from sqlalchemy import Connection, text
from support.patience import wait_until
from support.servers import Server

from .population import administering, insert, settle
from .visitors import Site

SIZES = (500, 8_000, 100_000)
FILLFACTORS = (100, 85)
INTERVAL = 300


@dataclass(frozen=True)
class Update:
    """What updating each session once costs.

    :ivar log: bytes of log for each.
    :ivar hot: the share of them that left the indexes alone.
    """

    log: float
    hot: float


@dataclass(frozen=True)
class Updates:
    """The updates of a table of sessions of one size: twice after a checkpoint.

    The first ones log whole pages, the second ones only what has changed.
    """

    kind: str
    fillfactor: int
    size: int
    first: Update
    second: Update


def measure(server: Server, sessions: int) -> list[Updates]:
    """Touch that many sessions, then write them, for each fillfactor and size."""
    cases = product(FILLFACTORS, SIZES)
    return [updates for case in cases for updates in _measure(server, sessions, *case)]


def _measure(server: Server, sessions: int, fillfactor: int, size: int) -> list[Updates]:
    with (
        server.database() as url,
        administering(url) as connection,
        closing(Site(url, sessions, size, INTERVAL)) as site,
    ):
        # what the server does by itself would be counted
        connection.execute(text(
            f"ALTER TABLE sqlsession SET (fillfactor = {fillfactor}, autovacuum_enabled = off, "
            "toast.autovacuum_enabled = off)"
        ))  # fmt: skip
        insert(connection, sessions, size, oldest=0)
        found = []
        for kind, request in (("touch", site.read), ("write", site.write)):
            settle(connection)
            first, second = (_update(connection, site, request) for _ in range(2))
            found.append(Updates(kind, fillfactor, size, first, second))
        return found


def _update(connection: Connection, site: Site, request: Callable[[int], Any]) -> Update:
    """Make a request for each session, an interval after its last one."""
    site.advance(INTERVAL + 1)
    sessions = site.everyone()
    updates, hot = _counted(connection, site)
    # the one that opens the connection: its catalog look-ups may write hint bits
    site.read(sessions.pop())
    before = _position(connection)
    for number in sessions:
        request(number)
    log = (_position(connection) - before) / len(sessions)
    updated, hot_updated = _counted(connection, site)
    assert updated - updates == len(sessions) + 1, "not every session was updated once"
    return Update(log, (hot_updated - hot) / (updated - updates))


def _position(connection: Connection) -> float:
    return float(connection.scalars(text("SELECT pg_current_wal_insert_lsn() - '0/0'")).one())


def _counted(connection: Connection, site: Site) -> tuple[int, int]:
    # a process of the server's may count what it did only when it ends
    site.close()
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    wait_until(lambda: not connection.scalar(text(others)))
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sqlsession'"
    updates, hot = connection.execute(text(query)).one()
    return updates, hot
