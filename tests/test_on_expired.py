"""``sqlsession.on_expired``: an application frees what its expired sessions held."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from support.apps import (
    EPOCH,
    TABLE,
    Base,
    Broken,
    Clock,
    Note,
    SessionRow,
    configurator,
    notes,
    rows,
    serve,
)
from support.docs.pages import DOCS, code_block, execute
from support.servers import Backend

from pyramid_sqlsession import ExpiredSession, SQLSessionFactory
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

HOUR = 3600


@pytest.fixture
def table(engine: Engine) -> Any:
    """The application's table, created."""
    Base.metadata.create_all(engine)
    return TABLE


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def lineage_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def add(engine: Engine, *numbers: int, **values: Any) -> None:
    """Rows that expired an hour ago and are due, but for these values.

    Each has a note, and is a session by itself.
    """
    row = {
        "data": b"{}", "version": 1, "created": EPOCH - 3 * HOUR, "last_seen": EPOCH - 2 * HOUR,
        "purge_after": EPOCH - HOUR, "replaced": None, **values,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(Note), [{"id": one, "text": f"of {one}"} for one in numbers])
        connection.execute(
            insert(TABLE),
            [
                {"id": id_of(one), "lineage": lineage_of(one), "note_id": one, **row}
                for one in numbers
            ],
        )


def purge(engine: Engine, on_expired: Any, size: int = 500) -> int:
    lifetime = Lifetime(Settings.from_options({"ttl": HOUR}))
    return sum(Purge(Rows(SessionRow), lifetime, Clock(), on_expired).batches(engine, size))


def left(engine: Engine) -> set[int]:
    return {int.from_bytes(row["id"], "big") for row in rows(engine)}


@pytest.mark.parametrize("size", [1, 2, 500])
def test_it_is_told_of_each_session_that_is_deleted_and_of_no_other(
    engine: Engine, table: Any, size: int
) -> None:
    add(engine, 1, 2, user_id="alice")
    add(engine, 3)
    add(engine, 4, last_seen=EPOCH)
    add(engine, 5, purge_after=EPOCH + 1)
    told: list[ExpiredSession] = []
    assert purge(engine, lambda _, sessions: told.extend(sessions), size) == 3
    assert left(engine) == {4, 5}
    assert sorted(told, key=lambda it: it.handle) == [
        ExpiredSession(lineage_of(number).hex(), user, {"note_id": number})
        for number, user in ((1, "alice"), (2, "alice"), (3, None))
    ]


ROW_THAT_IS_LEFT = {
    "a row that lives": {"last_seen": EPOCH},
    "a row that is not due": {"purge_after": EPOCH + 1},
    "a marker": {"replaced": EPOCH, "max_age": 2 * HOUR, "last_seen": EPOCH},
}


@pytest.mark.parametrize("left_over", ROW_THAT_IS_LEFT.values(), ids=ROW_THAT_IS_LEFT)
def test_it_is_not_told_of_a_session_while_another_row_of_it_is_left(
    engine: Engine, table: Any, left_over: dict[str, Any]
) -> None:
    add(engine, 1, 4, lineage=lineage_of(7), user_id="alice")
    add(engine, 2, lineage=lineage_of(7), **left_over)
    add(engine, 3)
    told: list[ExpiredSession] = []
    assert purge(engine, lambda _, sessions: told.extend(sessions)) == 3
    assert left(engine) == {2}
    assert [session.handle for session in told] == [lineage_of(3).hex()]
    # until that one goes too
    with engine.begin() as connection:
        gone = {"last_seen": EPOCH - 2 * HOUR, "purge_after": EPOCH - HOUR, "max_age": None}
        connection.execute(update(TABLE).values(gone))
    assert purge(engine, lambda _, sessions: told.extend(sessions)) == 1
    assert [session.handle for session in told[1:]] == [lineage_of(7).hex()]


@pytest.mark.parametrize("size", [1, 2, 500])
def test_the_last_row_of_a_session_tells_of_it_once(engine: Engine, table: Any, size: int) -> None:
    add(engine, 1, 2, 3, lineage=lineage_of(7), user_id="alice")
    told: list[ExpiredSession] = []
    assert purge(engine, lambda _, sessions: told.extend(sessions), size) == 3
    assert [(it.handle, it.user_id) for it in told] == [(lineage_of(7).hex(), "alice")]


def test_a_row_that_was_a_session_speaks_for_it_and_its_marker_does_not(
    engine: Engine, table: Any
) -> None:
    # the marker of an anonymous session that somebody has signed in from
    add(engine, 1, 9, lineage=lineage_of(7), replaced=EPOCH - 2 * HOUR)
    add(engine, 5, lineage=lineage_of(7), user_id="alice")
    told: list[ExpiredSession] = []
    assert purge(engine, lambda _, sessions: told.extend(sessions)) == 3
    assert told == [ExpiredSession(lineage_of(7).hex(), "alice", {"note_id": 5})]


def test_it_is_not_told_of_a_session_while_another_row_of_it_is_locked(
    postgresql: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    add(engine, 1, 2, lineage=lineage_of(7))
    told: list[ExpiredSession] = []
    with engine.begin() as other:
        other.execute(select(TABLE).where(TABLE.c.id == id_of(1)).with_for_update())
        assert purge(engine, lambda _, sessions: told.extend(sessions)) == 1
    assert told == []
    assert purge(engine, lambda _, sessions: told.extend(sessions)) == 1
    assert [session.handle for session in told] == [lineage_of(7).hex()]
    engine.dispose()


def test_what_it_does_is_committed_with_the_deletion(engine: Engine, table: Any) -> None:
    add(engine, 1, 2)
    with engine.begin() as connection:
        connection.execute(insert(Note), {"id": 9, "text": "another"})

    def free(connection: Connection, sessions: Sequence[ExpiredSession]) -> None:
        held = [session.columns["note_id"] for session in sessions]
        # the rows are there still, so that others may refer to them
        assert len(connection.execute(select(TABLE)).all()) == 2
        connection.execute(TABLE.update().values(note_id=None))
        connection.execute(delete(Note).where(Note.id.in_(held)))

    assert purge(engine, free) == 2
    assert notes(engine) == ["another"]


@pytest.mark.parametrize("own", [False, True], ids=["driver's default", "autocommit"])
def test_what_it_did_is_undone_with_the_deletion(engine: Engine, table: Any, own: bool) -> None:
    options = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True} if own else {}
    used = create_engine(engine.url, **options)
    add(engine, 1)

    def note_and_fail(connection: Connection, sessions: Sequence[ExpiredSession]) -> None:
        connection.execute(insert(Note), {"id": 9, "text": "half"})
        raise Broken

    assert purge(used, note_and_fail) == 0
    assert notes(engine) == ["of 1"]
    assert left(engine) == {1}
    # and nothing waits for what is left of it
    assert purge(used, None) == 1


@pytest.mark.parametrize("size", [1, 3, 500])
def test_a_session_for_which_it_raises_is_passed_by(
    engine: Engine, table: Any, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    add(engine, *range(1, 11))
    done: set[str] = set()

    def refuse(connection: Connection, sessions: Sequence[ExpiredSession]) -> None:
        for session in sessions:
            if session.columns["note_id"] in (3, 4):
                raise Broken("not this one")
        done.update(session.handle for session in sessions)

    assert purge(engine, refuse, size) == 8
    assert left(engine) == {3, 4}
    assert len(done) == 8
    lines = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    assert all("skipping them" in line and "not this one" in line for line in lines)
    assert sum(int(line.split()[2]) for line in lines) == 2


def test_a_visitor_who_comes_back_before_it_is_called_keeps_the_session(
    engine: Engine, table: Any
) -> None:
    add(engine, 1, 2)
    told: list[ExpiredSession] = []
    transactions = iter(range(10))

    def come_back(connection: Any) -> None:
        # after the search, before the lock
        if next(transactions) == 1:
            with engine.begin() as other:
                seen = TABLE.update().where(TABLE.c.note_id == 1).values(last_seen=EPOCH)
                other.execute(seen)

    watched = create_engine(engine.url)
    event.listen(watched, "begin", come_back)
    assert purge(watched, lambda _, sessions: told.extend(sessions)) == 1
    assert [session.columns["note_id"] for session in told] == [2]
    assert left(engine) == {1}


def test_the_function_on_the_page_frees_what_it_says(engine: Engine, base: Any) -> None:
    class Seat(base):  # type: ignore[misc]  # a fixture makes it
        __table__ = Table(
            "seat",
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column("taken", Boolean, nullable=False),
        )

    seats: Any = Seat.__table__
    block = code_block(DOCS / "lifetime.rst", "python", "def free")
    free = execute(block, Seat=Seat, update=update)["free"]
    expired = ExpiredSession("", None, {"seat_id": 1})
    with engine.begin() as connection:
        seats.create(connection)
        connection.execute(insert(seats), [{"id": n, "taken": True} for n in (1, 2)])
        free(connection, [expired])
        assert connection.execute(select(seats).order_by(seats.c.id)).all() == [
            (1, False),
            (2, True),
        ]
        seats.drop(connection)


def log_out(connection: Connection, sessions: Sequence[ExpiredSession]) -> None:
    """What an ini file names."""


def test_an_ini_file_names_it(sqlite_engine: Engine) -> None:
    config = configurator(sqlite_engine, {"sqlsession.on_expired": f"{__name__}.log_out"})
    serve(config)
    factory: Any = config.registry.getUtility(ISessionFactory)
    assert factory.settings.on_expired is log_out


@pytest.mark.parametrize("wrong", ["no.such.module", f"{__name__}.HOUR"])
def test_what_cannot_be_called_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=r"on_expired = .* expected a function"):
        SQLSessionFactory(on_expired=wrong)
