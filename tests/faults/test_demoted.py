"""A primary that is demoted while connections to it stay open, and another one that takes over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import create_engine, insert, make_url, select
from sqlalchemy.exc import DBAPIError
from support.apps import Base
from support.faults.proxy import proxied
from support.faults.shop import Shop, more_from_each, ordering
from support.faults.standby import pair
from support.servers import MariaDB, PostgreSQL, Standby, serving
from support.trials import Trials


@dataclass
class Switch:
    """Two servers.

    :ivar url: of the one that may be written.
    :ivar do: demotes the first one and has the second one take over; connections stay open.
    """

    title: str
    url: str
    do: Callable[[], None]


def demote(primary: PostgreSQL, standby: Standby) -> None:
    """Change over, as far as PostgreSQL can without a restart."""
    standby.catch_up()
    primary.execute(
        "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"
    )
    standby.promote()


@contextlib.contextmanager
def postgresql_hosts() -> Iterator[Switch]:
    """Both hosts in the URL."""
    with pair() as (primary, standby, url):
        yield Switch("PostgreSQL", url, lambda: demote(primary, standby))


@contextlib.contextmanager
def postgresql_proxy() -> Iterator[Switch]:
    """A proxy, or a name, that stands for whoever may be written."""
    with pair() as (primary, standby, _), proxied(primary.host, primary.port) as proxy:

        def do() -> None:
            demote(primary, standby)
            proxy.target = (standby.host, standby.port)

        yield Switch("PostgreSQL", proxy.url(primary.url("shop")), do)


@contextlib.contextmanager
def mariadb_proxy() -> Iterator[Switch]:
    """The same on MariaDB, where ``read_only`` binds who is no administrator."""
    with serving(MariaDB) as primary, serving(MariaDB) as other:
        for server in (primary, other):
            server.execute(
                "CREATE DATABASE shop",
                f"CREATE USER shop@'{server.host}' IDENTIFIED BY '{primary.password}'",
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO shop@'{server.host}'",
            )
            Base.metadata.create_all(create_engine(server.url("shop")))
        with proxied(primary.host, primary.port) as proxy:
            url = make_url(proxy.url(primary.url("shop"))).set(username="shop")

            def do() -> None:
                primary.execute("SET GLOBAL read_only = ON")
                replicate(primary, other)
                proxy.target = (other.host, other.port)

            yield Switch("MariaDB", url.render_as_string(hide_password=False), do)


def replicate(source: MariaDB, target: MariaDB) -> None:
    """Copy what is stored."""
    reading, writing = (create_engine(server.url("shop")) for server in (source, target))
    with reading.connect() as here, writing.begin() as there:
        for table in Base.metadata.sorted_tables:
            for row in here.execute(select(table)).mappings():
                there.execute(insert(table), dict(row))


SWITCHES = (postgresql_hosts, postgresql_proxy, mariadb_proxy)


@pytest.fixture(params=SWITCHES, ids=lambda switch: switch.__name__)
def switch(request: pytest.FixtureRequest) -> Iterator[Switch]:
    with request.param() as switch:
        yield switch


def test_one_request_fails_at_most_until_an_engine_of_its_own_finds_the_new_primary(
    switch: Switch, trials: Trials
) -> None:
    shop = Shop(switch.url, own=True)
    customers = [shop.customer() for _ in range(4)]
    # at once, so that there are several connections
    with ordering(customers):
        more_from_each(customers, 3)
    switch.do()
    answers = [customer.order() for _ in range(3) for customer in customers]
    assert answers.count(False) == 1
    assert isinstance(shop.errors[0], DBAPIError)
    assert all(customer.look() == customer.told for customer in customers)
    promise = "one request of an engine of its own fails, then all works"
    trials.record("primary demoted", promise, switch.title, len(answers), lost=shop.lost())


def test_an_activity_that_cannot_be_recorded_finds_it_too(switch: Switch) -> None:
    shop = Shop(switch.url, own=True)
    customer = shop.customer()
    assert customer.order()
    switch.do()
    shop.clock.advance(1000)
    assert customer.look() == customer.told
    assert customer.order()


def test_the_applications_engine_keeps_its_connections(switch: Switch) -> None:
    """It cannot be told from a transaction that the application has made read-only."""
    shop = Shop(switch.url, own=False)
    customer = shop.customer()
    assert customer.order()
    switch.do()
    assert not any(customer.order() for _ in range(3))
    for error in shop.errors:
        assert isinstance(error, DBAPIError)
        assert not error.connection_invalidated
    assert customer.look() == customer.told
