"""A table full of sessions, made by the server itself, and what it weighs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from sqlalchemy import Connection, create_engine, text

TTL = 14 * 86400
SHARE = 10
"""Of so many sessions one has expired."""

FRAME = len('{"data":""}')

# one random() for each session: its ages must agree; base64 because it does not compress
_INSERT = r"""
INSERT INTO sqlsession
    (id, lineage, user_id, data, version, created, last_seen, max_age, purge_after)
SELECT
    sha256(convert_to('scale-' || lpad(n::text, 37, '0'), 'UTF8')),
    decode(md5(n::text), 'hex'),
    CASE WHEN n % 2 = 0 THEN 'user-' || n END,
    convert_to('{"data":"' || left(noise, :length) || '"}', 'UTF8'),
    1, seen - 3600, seen, NULL, seen + :ttl + :ttl / 10
FROM (
    SELECT
        n,
        extract(epoch FROM now())::bigint - (:ttl * CASE
            WHEN n % :share = 0 THEN 1.2 + random() ELSE cast(:oldest AS float) * random()
        END)::bigint AS seen,
        (
            SELECT string_agg(
                translate(encode(sha512(convert_to(n || ' ' || m, 'UTF8')), 'base64'), E'\n', ''),
                ''
            )
            FROM generate_series(0, :length / 88) m
        ) AS noise
    FROM generate_series(cast(:first AS bigint), :last, :step) n
) sessions
"""


@dataclass(frozen=True)
class Space:
    """Bytes that the table and each of its indexes take."""

    sessions: int
    table: int
    indexes: dict[str, int]


@dataclass(frozen=True)
class Lookup:
    """What one SELECT costs the server: pages, exactly, and microseconds."""

    pages: float
    microseconds: float


def token(number: int) -> str:
    """The cookie of a session."""
    return f"scale-{number:037d}"


def is_live(number: int) -> bool:
    """Whether a session has not expired."""
    return number % SHARE != 0


@contextmanager
def administering(url: str) -> Iterator[Connection]:
    """A connection for what is not measured, each statement in a transaction of its own."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def random_text(size: int) -> str:
    """What a session of so many bytes holds; it does not compress."""
    return secrets.token_urlsafe(size)[: size - FRAME]


def insert(
    connection: Connection,
    sessions: int,
    size: int,
    *,
    oldest: float = 0.8,
    only_expired: bool = False,
) -> None:
    """Insert sessions 1 to *sessions*, each with data of *size* bytes.

    :param oldest: of the live ones, in lifetimes.
    """
    step = SHARE if only_expired else 1
    numbers = {"first": step, "last": sessions, "step": step, "share": SHARE, "oldest": oldest}
    connection.execute(text(_INSERT), {**numbers, "length": size - FRAME, "ttl": TTL})


def settle(connection: Connection) -> None:
    """Do now what the server would do in the background at some later time."""
    connection.execute(text("VACUUM ANALYZE sqlsession"))
    connection.execute(text("CHECKPOINT"))


def weigh(connection: Connection) -> Space:
    """The size of the table, with what it keeps outside of its rows, and of its indexes."""
    sessions, table = connection.execute(
        text("SELECT count(*), pg_table_size('sqlsession') FROM sqlsession")
    ).one()
    indexes = connection.execute(text(
        "SELECT a.attname, pg_relation_size(i.indexrelid) FROM pg_index i JOIN pg_attribute a "
        "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
        "WHERE i.indrelid = 'sqlsession'::regclass ORDER BY a.attnum"
    ))  # fmt: skip
    return Space(sessions, table, {row.attname: row.pg_relation_size for row in indexes})


def explain(connection: Connection, statement: str, handles: Sequence[bytes]) -> Lookup:
    """Have the server say what a statement of the store's costs it for each of these sessions."""
    pages, times = [], []
    for handle in handles:
        query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        (report,) = connection.exec_driver_sql(query, {"b_id": handle}).scalar_one()
        plan: dict[str, Any] = report["Plan"]
        assert plan["Actual Rows"] == 1
        pages.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
        times.append(1000 * plan["Actual Total Time"])
    return Lookup(mean(pages), median(times))
