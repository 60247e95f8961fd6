"""What the commands do. Each returns its exit code."""

from __future__ import annotations

import json
import logging
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, inspect, select
from sqlalchemy.exc import DBAPIError

from ..database.aside import maintaining
from ..driver_errors import reason
from ..events import SessionEnded
from ..store import Store
from ..table.sessions import Sessions
from ..table.storage import create_table
from ..table.told import Ended
from ..upkeep.census import AGES, SIZES, Census, Figures
from ..upkeep.purge import GENTLE, Purge
from .terminal import bar, complain, is_terminal, say, show_figures, show_rows, terminable

DONE, FAILED, MISUSED = 0, 1, 2
TERMINATED = 143
"""As a shell tells it of a process that SIGTERM has ended."""

_ISO = "%Y-%m-%dT%H:%M:%SZ"
_MINUTE = "%Y-%m-%d %H:%M"

log = logging.getLogger("pyramid_sqlsession")


@dataclass(frozen=True)
class Opened:
    """An application's sessions, opened for a command.

    ``created``
      Receives the table when it is created, by whatever code.
    """

    store: Store
    engine: Engine
    created: list[Any]


class Misuse(Exception):
    """Wrong usage or configuration; the message says what is wrong."""


def create(opened: Opened, arguments: Namespace) -> int:
    """Create the table and its missing indexes."""
    table, engine = opened.store.rows.table, opened.engine
    create_table(table, engine)
    told = "created table {}" if opened.created else "table {} already exists"
    _result(arguments, told.format(table.fullname))
    for name in _create_indexes(table, engine):
        _result(arguments, f"created missing index {name}")
    with engine.connect() as connection:
        opened.store.rows.execute(connection, select(table).limit(0), {})
    return DONE


def _create_indexes(table: Table, engine: Engine) -> Iterator[str]:
    found = inspect(engine).get_indexes(table.name, schema=table.schema)
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        names = [column.name for column in index.columns]
        # compared by columns: a migration may have named it differently
        if not any(other["column_names"][: len(names)] == names for other in found):
            index.create(engine, checkfirst=True)
            yield str(index.name)


def purge(opened: Opened, arguments: Namespace) -> int:
    """Delete expired sessions, or count them."""
    limit = arguments.limit or sys.maxsize
    if arguments.dry_run:
        say(f"{_sessions(min(_expired(opened), limit), 'expired')} would be deleted")
        return DONE
    total = _expired_if_countable(opened)
    total = None if total is None else min(total, limit)
    batch = arguments.batch or min(GENTLE, opened.store.settings.cleanup_batch)
    shown = nullcontext(_ignore) if arguments.quiet else bar("expired sessions deleted", total)
    began, deleted, is_terminated = time.monotonic(), 0, False
    try:
        with terminable() as is_told, shown as advance:
            for count in _deletions(opened.store.purge, opened.engine, batch, limit):
                deleted += count
                advance(count)
                if is_terminated := is_told():
                    break
    finally:
        # also after Ctrl-C: the batches before it are committed
        seconds = time.monotonic() - began
        _result(arguments, f"{_sessions(deleted, 'expired')} deleted in {seconds:,.1f} seconds")
    if is_terminated:
        complain("terminated")
        return TERMINATED
    return DONE


def _ignore(_count: int) -> None:
    """Progress that nobody wants to see."""


def _result(arguments: Namespace, line: str) -> None:
    if not arguments.quiet:
        say(line)


def _expired(opened: Opened) -> int:
    with maintaining(opened.engine) as connection:
        return opened.store.purge.count(connection)


def _expired_if_countable(opened: Opened) -> int | None:
    try:
        return _expired(opened)
    except DBAPIError as error:
        if error.statement is None or error.connection_invalidated:
            # no connection: deleting would fail too
            raise
        complain(
            f"cannot count the expired sessions ({reason(error)}); deleting them without a count"
        )
        return None


def _deletions(purge: Purge, engine: Engine, batch: int, limit: int) -> Iterator[int]:
    """Delete *batch* rows at a time, at most *limit* in all; yield the number of each batch."""
    left = limit
    while left:
        size = min(batch, left)
        for count in purge.batches(engine, size):
            yield count
            left -= count
            if left < size:
                break
        else:
            return


def stats(opened: Opened, arguments: Namespace) -> int:
    """Count the sessions."""
    store = opened.store
    with maintaining(opened.engine) as connection:
        figures = Census(store.rows, store.lifetime, store.clock).take(connection)
    if arguments.json:
        say(json.dumps(_as_json(figures), indent=2))
    else:
        show_figures(f"sessions in {store.rows.table.fullname}", _as_sections(figures))
    return DONE


def _as_json(figures: Figures) -> dict[str, Any]:
    return {**asdict(figures), "mean": figures.mean}


def _as_sections(figures: Figures) -> list[list[tuple[str, str]]]:
    counts = [
        ("live", figures.live),
        ("  signed in", figures.signed_in),
        ("  anonymous", figures.anonymous),
        ("replaced", figures.replaced),
        ("expired", figures.expired),
        ("  due for purge", figures.purgeable),
    ]
    ages = [
        (f"  {'earlier' if limit is None else f'in the last {name}'}", figures.ages[name])
        for name, limit in AGES.items()
    ]
    sizes = [
        (f"  {'larger' if limit is None else f'up to {name}'}", figures.sizes[name])
        for name, limit in SIZES.items()
    ]
    space = [("bytes of data", figures.bytes), ("  mean", figures.mean)]
    return [
        [(label, f"{number:,}") for label, number in counts],
        [("last visit of live sessions", ""), *((label, f"{n:,}") for label, n in ages)],
        [("size of the data", ""), *((label, f"{n:,}") for label, n in sizes)],
        [(label, f"{number:,}") for label, number in space],
    ]


def list_sessions(opened: Opened, arguments: Namespace) -> int:
    """Show the live sessions of a user."""
    sessions = opened.store.sessions
    with maintaining(opened.engine) as connection:
        entries = sessions.of_user(connection, _user_id(sessions, connection, arguments.user))
    if not entries:
        complain("this user has no live session")
        return DONE
    # programs get whole timestamps; on a terminal a session fits one line of 80 columns
    formats = ("%Y-%m-%d", _MINUTE, _MINUTE) if is_terminal() else (_ISO, _ISO, _ISO)
    times = [(entry.created, entry.last_seen, entry.expires_at) for entry in entries]
    rows = [
        (entry.handle, *map(datetime.strftime, moments, formats))
        for entry, moments in zip(entries, times, strict=True)
    ]
    show_rows(("handle", "created", "last seen (UTC)", "expires (UTC)"), rows)
    return DONE


def revoke(opened: Opened, arguments: Namespace) -> int:
    """End sessions by their handles, or all sessions of a user."""
    sessions = opened.store.sessions
    if arguments.user is not None:
        with maintaining(opened.engine) as connection:
            user_id = _user_id(sessions, connection, arguments.user)
            ended = sessions.end_user(connection, user_id)
        _note(ended)
        _result(arguments, f"{_sessions(len(ended))} revoked")
        return DONE
    revoked = 0
    # a handle given twice is ended once, and is not unknown the second time
    wanted = dict.fromkeys(handle.lower() for handle in arguments.handles)
    for handle in wanted:
        with maintaining(opened.engine) as connection:
            found = sessions.end(connection, [bytes.fromhex(handle)])
        _note(found)
        revoked += len(found)
        if not found:
            complain(f"no session {handle} (already ended?)")
    _result(arguments, f"{_sessions(revoked)} revoked")
    return DONE if revoked == len(wanted) else FAILED


def _note(ended: list[Ended]) -> None:
    """Write the audit lines that the application logs when a request ends sessions."""
    for session in ended:
        log.info("%s", SessionEnded(None, session.lineage.hex(), "command", session.user_id))


def _user_id(sessions: Sessions, connection: Connection, text: str) -> Any:
    try:
        return sessions.converted(connection, text)
    except ValueError as error:
        # the value is not shown: it may be a token
        raise Misuse("--user ID is not a valid value of the column user_id") from error


def _sessions(number: int, kind: str = "") -> str:
    return f"{number:,} {kind}{' ' if kind else ''}session{'' if number == 1 else 's'}"
