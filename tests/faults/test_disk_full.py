"""A full disk: what cannot be stored is refused, and nothing else happens."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from support.apps import Base
from support.faults.shop import Shop
from support.faults.volumes import Volume, mounted
from support.patience import wait_until
from support.servers import MariaDB, PostgreSQL, Server, serving
from support.trials import Trials
from webtest import AppError

from pyramid_sqlsession.driver_errors import reason

MEGABYTE = 2**20

both_ways = pytest.mark.parametrize("own", [False, True], ids=["dbsession", "own-engine"])


@dataclass
class Small:
    """A database on a small disk.

    :ivar says: the driver's words when the disk is full.
    """

    name: str
    url: str
    volume: Volume
    says: str = ""


@contextlib.contextmanager
def on_postgresql(request: pytest.FixtureRequest) -> Iterator[Small]:
    """A tablespace is on the small disk, the server's log of changes is not."""
    server: Server = request.getfixturevalue("postgresql_server")
    name = f"test_{secrets.token_hex(8)}"
    with mounted(server.directory / name, 64 * MEGABYTE, server.account) as volume:
        server.execute(
            f"CREATE TABLESPACE {name} LOCATION '{volume.path}'",
            f"CREATE DATABASE {name} TEMPLATE template0 TABLESPACE {name}",
        )
        try:
            says = "could not extend file .* No space left on device"
            yield Small("PostgreSQL", server.url(name), volume, says)
        finally:
            server.drop(name)
            server.execute(f"DROP TABLESPACE {name}")


@contextlib.contextmanager
def on_sqlite(request: pytest.FixtureRequest) -> Iterator[Small]:
    """The file is on the small disk, with what SQLite writes beside it."""
    path: Path = request.getfixturevalue("tmp_path") / "volume"
    with mounted(path, 16 * MEGABYTE) as volume:
        url = f"sqlite:///{path / 'database.sqlite'}"
        yield Small("SQLite", url, volume, "database or disk is full")


@pytest.fixture(params=[on_sqlite, on_postgresql])
def small(request: pytest.FixtureRequest) -> Iterator[Small]:
    """A database on a small disk."""
    with request.param(request) as small:
        make_tables(small.url)
        yield small


def make_tables(url: str) -> None:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()


@both_ways
def test_what_a_full_disk_refuses_is_stored_nowhere_and_reads_go_on(
    small: Small, own: bool, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(small.url, own=own)
    regulars = [shop.customer() for _ in range(3)]
    lost = 0
    for _ in trials.times(3):
        assert all(customer.order() for customer in regulars)
        small.volume.fill(room=100_000)
        before = len(shop.errors)
        while len(shop.errors) < before + 10:
            for customer in regulars:
                customer.order(weight=100_000)
                customer.order(copies=400)
        newcomer = shop.customer()
        assert not newcomer.order(weight=900_000)
        assert shop.orders(newcomer) == []

        caplog.clear()
        shop.clock.advance(1000)
        assert [customer.look() for customer in regulars] == [it.told for it in regulars]
        touched = [row["last_seen"] for row in shop.rows].count(shop.clock.now)
        assert touched + caplog.text.count("was not recorded") == len(regulars)

        lost += shop.lost()
        small.volume.clear()
        assert all(customer.order() for customer in shop.customers)
        lost += shop.lost()
    trials.record(
        "disk full",
        "what is refused is stored nowhere, reads go on",
        small.name,
        len(shop.errors),
        lost=lost,
    )
    assert {type(error) for error in shop.errors} == {OperationalError}
    assert all(re.search(small.says, reason(error)) for error in shop.errors)
    assert not shop.leaks(caplog.text)


@contextlib.contextmanager
def postgresql_without_log() -> Iterator[tuple[Small, Server]]:
    """The server's log of changes is on the small disk."""
    with serving(PostgreSQL) as server:
        server.execute(
            *server.create_statements("shop"),
            # a checkpoint is to keep no more of the log than it must
            "ALTER SYSTEM SET min_wal_size = '32MB'",
        )
        server.stop()
        log, copy = server.directory / "data" / "pg_wal", server.directory / "copy"
        server.run("cp", "-a", str(log), str(copy))
        with mounted(log, 128 * MEGABYTE, server.account) as volume:
            server.run("cp", "-a", f"{copy}/.", str(log))
            server.start()
            yield Small("PostgreSQL", server.url("shop"), volume), server


@contextlib.contextmanager
def mariadb_without_data() -> Iterator[tuple[Small, Server]]:
    """The database's directory is on the small disk."""
    with serving(MariaDB) as server:
        server.execute(*server.create_statements("shop"))
        directory = server.directory / "data" / "shop"
        with mounted(directory, 20 * MEGABYTE, server.account) as volume:
            yield Small("MariaDB", server.url("shop"), volume), server


def bring_back(server: Server) -> None:
    """Start a server that is down, or about to go down, or up again by itself."""

    def is_up() -> bool:
        server.start()
        return server.answers()

    wait_until(is_up)


@pytest.mark.parametrize("opened", [postgresql_without_log, mariadb_without_data])
@both_ways
def test_a_server_that_may_go_down_on_a_full_disk_has_what_it_acknowledged(
    opened: Callable[[], Any], own: bool, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL does for want of its log of changes, MariaDB sometimes for want of its tables."""
    with opened() as (small, server):
        make_tables(small.url)
        shop = Shop(small.url, own=own, pool_pre_ping=True)
        customer = shop.customer()
        lost, went_down = 0, False
        for _ in trials.times(1):
            assert customer.order()
            small.volume.fill(room=100_000)
            while customer.order(copies=500, weight=900_000):
                pass
            for _ in range(3):
                customer.order()
                with contextlib.suppress(AppError):
                    assert customer.told[-1] in customer.look()
            went_down = went_down or not server.answers()
            small.volume.clear()
            bring_back(server)
            if small.name == "PostgreSQL":
                # the log may be forgotten up to here
                server.execute("CHECKPOINT")
            assert customer.order()
            lost += shop.lost(unsure=went_down)
        trials.record(
            "disk full, the server goes down" if went_down else "disk full",
            "what was acknowledged is there",
            small.name,
            shop.told,
            lost=lost,
        )
        assert {type(error) for error in shop.errors} == {OperationalError}
        assert not shop.leaks(caplog.text)
