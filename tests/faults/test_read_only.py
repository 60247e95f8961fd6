"""A database that takes no writes: reads go on, and a write is a clear error."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError
from support.apps import Base
from support.faults.shop import Customer, Shop
from support.servers import Backend, PostgreSQL, Server, Standby, serving
from support.trials import Trials

from pyramid_sqlsession.driver_errors import reason

READ_ONLY = "cannot execute .* in a read-only transaction"

Switch = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass
class Case:
    """A database that can be written by one URL, and not by the other while it is closed.

    :ivar says: the driver's words when something is to be written.
    :ivar closed: makes it read-only, if it is not so in any case by that URL.
    """

    database: str
    says: str
    url: str
    read_only_url: str
    closed: Switch = field(default=contextlib.nullcontext)


@contextlib.contextmanager
def sqlite_mode_ro(request: pytest.FixtureRequest) -> Iterator[Case]:
    url = request.getfixturevalue("sqlite").url
    read_only = f"sqlite:///file:{make_url(url).database}?mode=ro&uri=true"
    yield Case("SQLite", "attempt to write a readonly database", url, read_only)


@contextlib.contextmanager
def postgresql_default(request: pytest.FixtureRequest) -> Iterator[Case]:
    """``default_transaction_read_only``, which new connections get to know."""
    backend = request.getfixturevalue("postgresql")
    name = make_url(backend.url).database

    @contextlib.contextmanager
    def closed() -> Iterator[None]:
        for value in ("on", "off"):
            backend.server.execute(
                f"ALTER DATABASE {name} SET default_transaction_read_only = {value}",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            )
            if value == "on":
                yield

    yield Case("PostgreSQL", READ_ONLY, backend.url, backend.url, closed)


@contextlib.contextmanager
def postgresql_standby(request: pytest.FixtureRequest) -> Iterator[Case]:
    with serving(PostgreSQL) as primary, serving(Standby, primary) as standby:
        primary.execute(*primary.create_statements("shop"))

        @contextlib.contextmanager
        def closed() -> Iterator[None]:
            standby.catch_up()
            yield

        yield Case("PostgreSQL", READ_ONLY, primary.url("shop"), standby.url("shop"), closed)


@contextlib.contextmanager
def mariadb_user(request: pytest.FixtureRequest) -> Iterator[Case]:
    """A user that may only read."""
    backend = request.getfixturevalue("mariadb")
    with user(backend.server, backend.url, "SELECT") as url:
        yield Case("MariaDB", r"\(1142, ", backend.url, url)


@contextlib.contextmanager
def mariadb_read_only(request: pytest.FixtureRequest) -> Iterator[Case]:
    """``read_only``, which administrators are free of."""
    backend = request.getfixturevalue("mariadb")

    @contextlib.contextmanager
    def closed() -> Iterator[None]:
        backend.server.execute("SET GLOBAL read_only = ON")
        try:
            yield
        finally:
            backend.server.execute("SET GLOBAL read_only = OFF")

    with user(backend.server, backend.url, "SELECT, INSERT, UPDATE, DELETE") as url:
        yield Case("MariaDB", r"\(1290, ", backend.url, url, closed)


CASES = (sqlite_mode_ro, postgresql_default, postgresql_standby, mariadb_user, mariadb_read_only)


@contextlib.contextmanager
def user(server: Server, url: str, privileges: str) -> Iterator[str]:
    """Another user of a MariaDB database: its URL."""
    parsed = make_url(url)
    name = f"shop@'{server.host}'"
    server.execute(
        f"CREATE USER {name} IDENTIFIED BY '{server.password}'",
        f"GRANT {privileges} ON {parsed.database}.* TO {name}",
    )
    try:
        yield parsed.set(username="shop").render_as_string(hide_password=False)
    finally:
        server.execute(f"DROP USER {name}")


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with request.param(request) as case:
        engine = create_engine(case.url)
        Base.metadata.create_all(engine)
        yield case


def moved(customer: Customer, shop: Shop) -> Customer:
    """The same customer with the same cookie, in another shop on the same database."""
    other = shop.customer()
    assert other.name == customer.name
    other.browser.set_cookie("session", customer.token)
    other.told.extend(customer.told)
    return other


@pytest.mark.parametrize("own", [False, True], ids=["dbsession", "own-engine"])
def test_a_read_only_database_is_read_and_every_write_is_an_error(
    case: Case, own: bool, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(case.url, own=own, pool_pre_ping=True)
    customer = shop.customer()
    read_only = Shop(case.read_only_url, own=own, pool_pre_ping=True)
    lost = tried = 0
    assert customer.order()
    moving = moved(customer, read_only)
    for _ in trials.times(3):
        with case.closed():
            caplog.clear()
            read_only.clock.advance(1000)
            assert moving.look() == moving.told
            assert re.search(rf"was not recorded: .*{case.says}", caplog.text)
            assert not moving.order()
            newcomer = read_only.customer()
            assert newcomer.look() == []
            assert not newcomer.order()
            assert not newcomer.token
            tried += 3
            assert not read_only.leaks(caplog.text)
            lost += read_only.lost()
        # the customer goes on with the shop that may write
        assert customer.order()
        moving.told.append(customer.told[-1])
        if case.url == case.read_only_url:
            assert newcomer.order()
    trials.record(
        "read-only database",
        "reads go on, a write is an error, nothing is stored",
        case.database,
        tried,
        lost=lost,
    )
    assert all(isinstance(error, DBAPIError) for error in read_only.errors)
    assert all(re.search(case.says, reason(error)) for error in read_only.errors)


def test_a_read_only_file_that_is_not_in_wal_mode_is_read(sqlite: Backend) -> None:
    """An engine of its own would put it into that mode, which is a write."""
    Base.metadata.create_all(create_engine(sqlite.url))
    customer = Shop(sqlite.url, own=False).customer()
    assert customer.order()
    path = make_url(sqlite.url).database
    reader = Shop(f"sqlite:///file:{path}?mode=ro&uri=true", own=True).customer()
    reader.browser.set_cookie("session", customer.token)
    assert reader.look() == customer.told
