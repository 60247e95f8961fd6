"""An SQLite file that another process has locked."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyramid_retry import BeforeRetry
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError
from support.apps import Base
from support.faults.shop import Shop
from support.servers import Backend
from support.trials import Trials

from pyramid_sqlsession import SessionConflict

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
# what is changed goes to the file before the commit
connection.execute("PRAGMA cache_size = 1")
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("locked", flush=True)
input()
"""
WRITE = "BEGIN IMMEDIATE"
EVERYTHING = "BEGIN EXCLUSIVE"
# a reader: where there is no WAL it keeps others from committing
READ = ("BEGIN", "SELECT count(*) FROM sqlsession")
SPOILED = 500_000
SPOIL = (WRITE, f"UPDATE sqlsession SET data = zeroblob({SPOILED})", "DELETE FROM note")

PATIENT, IMPATIENT = 20, 0.1
"""Seconds that a connection waits for a lock."""


class Locker:
    """Another process, which holds a lock on a database until it is told to go, or is killed."""

    def __init__(self, url: str, *statements: str) -> None:
        command = [sys.executable, "-c", LOCK, str(make_url(url).database), *statements]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "locked\n"

    def go(self) -> None:
        """Have it roll back and end."""
        self._process.communicate("\n")

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def locked(url: str, *statements: str) -> Iterator[Locker]:
    locker = Locker(url, *statements)
    try:
        yield locker
    finally:
        locker.kill()


@pytest.fixture(params=["rollback", "wal", "own-engine"])
def way(request: pytest.FixtureRequest, sqlite: Backend) -> str:
    """The application's database session in either journal mode, or an engine of its own."""
    engine = create_engine(sqlite.url)
    with engine.connect() as connection:
        mode = "DELETE" if request.param == "rollback" else "WAL"
        connection.exec_driver_sql(f"PRAGMA journal_mode = {mode}")
    Base.metadata.create_all(engine)
    return str(request.param)


def open_shop(backend: Backend, way: str, patience: float, *, retry: bool = False) -> Shop:
    options = {"connect_args": {"timeout": patience}}
    return Shop(backend.url, own=way == "own-engine", retry=retry, **options)


def test_a_write_waits_for_a_lock_that_is_released_in_time(
    sqlite: Backend, way: str, trials: Trials
) -> None:
    shop = open_shop(sqlite, way, PATIENT)
    customer = shop.customer()
    assert customer.order()
    for _ in trials.times(2):
        with locked(sqlite.url, WRITE) as locker:
            request = threading.Thread(target=customer.order)
            request.start()
            # nothing else tells that it waits
            request.join(0.1)
            assert request.is_alive()
            locker.go()
            request.join(PATIENT)
            assert not request.is_alive()
    trials.record(
        "SQLite locked by another process for a short time",
        "the write waits and is stored",
        "SQLite",
        len(customer.told),
        lost=shop.lost() + len(customer.errors),
    )


def test_a_lock_that_is_not_released_is_a_conflict_and_stores_nothing(
    sqlite: Backend, way: str, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    shop = open_shop(sqlite, way, IMPATIENT)
    customer, newcomer = shop.customer(), shop.customer()
    assert customer.order()
    locks = [(WRITE,), (EVERYTHING,)] + [READ] * (way == "rollback")
    for _ in trials.times(1):
        for lock in locks:
            with locked(sqlite.url, *lock):
                assert not customer.order()
                assert not newcomer.order()
                assert not newcomer.token
            assert customer.order()
    trials.record(
        "SQLite locked by another process",
        "a conflict, and nothing is stored",
        "SQLite",
        len(shop.errors),
        lost=shop.lost(),
    )
    # where a statement of the application's came first, the error is SQLAlchemy's
    kinds = {SessionConflict} if way == "own-engine" else {SessionConflict, OperationalError}
    assert {type(error) for error in shop.errors} <= kinds
    assert all("database is locked" in str(error) for error in shop.errors)
    assert not shop.leaks(caplog.text)


def test_pyramid_retry_runs_a_request_again_until_the_lock_is_released(
    sqlite: Backend, way: str, trials: Trials
) -> None:
    shop = open_shop(sqlite, way, IMPATIENT, retry=True)
    customer = shop.customer()
    assert customer.order()
    lockers: list[Locker] = []
    released: list[BeforeRetry] = []

    def release(event: BeforeRetry) -> None:
        released.append(event)
        lockers.pop().go()

    shop.app.registry.registerHandler(release, [BeforeRetry])
    locks = [(WRITE,), (EVERYTHING,)] + [READ] * (way == "rollback")
    for _ in trials.times(1):
        for lock in locks:
            with locked(sqlite.url, *lock) as locker:
                lockers.append(locker)
                assert customer.order()
    assert len(released) == trials.scale * len(locks)
    trials.record(
        "SQLite locked by another process, with pyramid_retry",
        "the request is run again and stored once",
        "SQLite",
        len(released),
        lost=shop.lost(),
    )


def test_reads_go_on_beside_a_writer_and_a_touch_hardly_waits(
    sqlite: Backend, way: str, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pyramid_sqlsession")
    shop = open_shop(sqlite, way, PATIENT)
    customer = shop.customer()
    assert customer.order()
    for _ in trials.times(3):
        caplog.clear()
        # without WAL, whoever locks everything locks readers out
        with locked(sqlite.url, WRITE if way == "rollback" else EVERYTHING):
            shop.clock.advance(1000)
            began = time.monotonic()
            assert customer.look() == customer.told
            assert time.monotonic() - began < PATIENT / 2
        assert "database is locked" in caplog.text
    trials.record(
        "SQLite locked by another process",
        "reads go on, activity is not recorded",
        "SQLite",
        trials.scale * 3,
        lost=shop.lost(),
    )
    assert customer.look() == customer.told
    assert [row["last_seen"] for row in shop.rows] == [shop.clock.now]
    assert not shop.leaks(caplog.text)


def test_what_a_killed_process_has_left_in_the_file_is_undone(
    sqlite: Backend, way: str, trials: Trials, tmp_path: Path
) -> None:
    shop = open_shop(sqlite, way, IMPATIENT)
    customer = shop.customer()
    for _ in trials.times(3):
        assert customer.order()
        with locked(sqlite.url, *SPOIL) as locker:
            assert not customer.order()
            locker.kill()
        # the database and its journal
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) > SPOILED
        assert customer.look() == customer.told
    trials.record(
        "another process killed while it wrote to the SQLite file",
        "what was acknowledged is there",
        "SQLite",
        len(customer.told),
        lost=shop.lost(),
    )
