"""What the commands of the command line do. Each gives its exit code."""

from __future__ import annotations

import json
import logging
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
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
from ..upkeep.purge import Purge
from .terminal import complain, progress, say, show_figures, show_rows

DONE, FAILED, MISUSED = 0, 1, 2

log = logging.getLogger("pyramid_sqlsession")


@dataclass(frozen=True)
class Opened:
    """An application's sessions, as a command finds them.

    ``created``
      Receives the table when it is made, by whomever.
    """

    store: Store
    engine: Engine
    created: list[Any]


class Misuse(Exception):
    """The command cannot be done as it was asked for; the message says why."""


def create(opened: Opened, arguments: Namespace) -> int:  # noqa: ARG001  # as every command
    """Make the table and the indexes that are missing."""
    table, engine = opened.store.rows.table, opened.engine
    create_table(table, engine)
    say(f"the table {table.fullname} {'was made' if opened.created else 'is there already'}")
    for name in _create_indexes(table, engine):
        say(f"the index {name} was missing and was made")
    with engine.connect() as connection:
        opened.store.rows.execute(connection, select(table).limit(0), {})
    return DONE


def _create_indexes(table: Table, engine: Engine) -> Iterator[str]:
    found = inspect(engine).get_indexes(table.name, schema=table.schema)
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        names = [column.name for column in index.columns]
        # by their columns: a migration may have given it another name
        if not any(other["column_names"][: len(names)] == names for other in found):
            index.create(engine, checkfirst=True)
            yield str(index.name)


def purge(opened: Opened, arguments: Namespace) -> int:
    """Delete expired sessions, or count them."""
    began, deleted = time.monotonic(), 0
    purge, limit = opened.store.purge, arguments.limit or sys.maxsize
    if arguments.dry_run:
        say(f"{_sessions(min(_expired(opened), limit), 'expired')} would be deleted")
        return DONE
    total = _expired_if_countable(opened)
    total = None if total is None else min(total, limit)
    batch = arguments.batch or opened.store.settings.cleanup_batch
    try:
        with progress("expired sessions deleted", total) as advance:
            for count in _deletions(purge, opened.engine, batch, limit):
                deleted += count
                advance(count)
    finally:
        # an interrupted purge has deleted something too
        seconds = time.monotonic() - began
        say(f"{_sessions(deleted, 'expired')} deleted in {seconds:,.1f} seconds")
    return DONE


def _expired(opened: Opened) -> int:
    with maintaining(opened.engine) as connection:
        return opened.store.purge.count(connection)


def _expired_if_countable(opened: Opened) -> int | None:
    try:
        return _expired(opened)
    except DBAPIError as error:
        if error.statement is None or error.connection_invalidated:
            # there is no connection to delete on either
            raise
        complain(
            f"expired sessions cannot be counted ({reason(error)}), deleting them all the same"
        )
        return None


def _deletions(purge: Purge, engine: Engine, batch: int, limit: int) -> Iterator[int]:
    """Delete *batch* rows at a time, and *limit* at most; yield how many it were."""
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
        ("  deleted by a purge now", figures.purgeable),
    ]
    ages = [
        (f"  {'before that' if limit is None else f'in the last {name}'}", figures.ages[name])
        for name, limit in AGES.items()
    ]
    sizes = [
        (f"  {name if limit is None else f'up to {name}'}", figures.sizes[name])
        for name, limit in SIZES.items()
    ]
    space = [("bytes of data", figures.bytes), ("  mean", figures.mean)]
    return [
        [(label, f"{number:,}") for label, number in counts],
        [("last visit of the live ones", ""), *((label, f"{n:,}") for label, n in ages)],
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
    times = ((_iso(e.created), _iso(e.last_seen), _iso(e.expires_at)) for e in entries)
    rows = [(entry.handle, *shown) for entry, shown in zip(entries, times, strict=True)]
    show_rows(("handle", "created", "last seen", "expires"), rows)
    return DONE


def revoke(opened: Opened, arguments: Namespace) -> int:
    """End sessions by their handles, or all of a user."""
    sessions = opened.store.sessions
    if arguments.user is not None:
        with maintaining(opened.engine) as connection:
            user_id = _user_id(sessions, connection, arguments.user)
            ended = sessions.end_user(connection, user_id)
        _note(ended)
        say(f"{_sessions(len(ended))} revoked")
        return DONE
    revoked = 0
    # the same handle twice is no unknown one
    wanted = dict.fromkeys(handle.lower() for handle in arguments.handles)
    for handle in wanted:
        with maintaining(opened.engine) as connection:
            found = sessions.end(connection, [bytes.fromhex(handle)])
        _note(found)
        revoked += len(found)
        if not found:
            complain(f"there is no session {handle}: it has ended already, or the handle is wrong")
    say(f"{_sessions(revoked)} revoked")
    return DONE if revoked == len(wanted) else FAILED


def _note(ended: list[Ended]) -> None:
    """The lines that the application's log has of sessions that a request ends."""
    for session in ended:
        log.info("%s", SessionEnded(None, session.lineage.hex(), "command", session.user_id))


def _user_id(sessions: Sessions, connection: Connection, text: str) -> Any:
    try:
        return sessions.converted(connection, text)
    except ValueError as error:
        # not what was given: it may be anything
        raise Misuse("--user takes a value of the column user_id, which this is not") from error


def _sessions(number: int, kind: str = "") -> str:
    return f"{number:,} {kind}{' ' if kind else ''}session{'' if number == 1 else 's'}"


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
