"""PostgreSQL behind PgBouncer in transaction mode: whoever commits may get another connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError
from support.apps import Base, SessionRow
from support.faults.bouncer import FollowingPgBouncer, PgBouncer
from support.faults.shop import Customer, Shop, more_from_each, ordering
from support.patience import at_once
from support.servers import Server, serving
from support.trials import Trials

from pyramid_sqlsession.driver_errors import reason
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

DATABASE = "PostgreSQL behind pgbouncer"
POOL = 2
CUSTOMERS = 6

# PgBouncer hands the server's connections around, with or without what a client has prepared
UNPREPARED = {"connect_args": {"prepare_threshold": None}}

both_ways = pytest.mark.parametrize("own", [False, True], ids=["dbsession", "own-engine"])


@pytest.fixture(scope="module")
def bouncer(postgresql_server: Server) -> Iterator[PgBouncer]:
    with serving(PgBouncer, postgresql_server, POOL) as server:
        yield server


@pytest.fixture(scope="module")
def following(postgresql_server: Server) -> Iterator[FollowingPgBouncer]:
    with serving(FollowingPgBouncer, postgresql_server, POOL) as server:
        yield server


@pytest.fixture
def url(bouncer: PgBouncer) -> Iterator[str]:
    """A database with its tables, by way of PgBouncer."""
    with bouncer.database() as url:
        engine = create_engine(url, **UNPREPARED)
        Base.metadata.create_all(engine)
        yield url


def open_shop(url: str, *, own: bool, **options: Any) -> tuple[Shop, list[Customer]]:
    shop = Shop(url, own=own, **options)
    return shop, [shop.customer() for _ in range(CUSTOMERS)]


@both_ways
def test_sessions_work_behind_pgbouncer(
    bouncer: PgBouncer, url: str, own: bool, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    """More requests at once than the server has connections, with everything that sessions do."""
    shop, customers = open_shop(url, own=own, **UNPREPARED)
    with ordering(customers):
        for _ in trials.times(1):
            more_from_each(customers, 20)
        assert 0 < len(bouncer.execute("SHOW SERVERS")) <= POOL
    assert shop.errors == []

    shop.clock.advance(1000)
    assert at_once(Customer.look, customers) == [customer.told for customer in customers]
    assert {row["last_seen"] for row in shop.rows} == {shop.clock.now}
    assert "was not recorded" not in caplog.text
    trials.record(
        "more requests than connections",
        "nothing is lost, all activity is recorded",
        DATABASE,
        shop.told,
        lost=shop.lost(),
    )


@both_ways
def test_expired_and_revoked_sessions_go_behind_pgbouncer(url: str, own: bool) -> None:
    shop, customers = open_shop(url, own=own, **UNPREPARED)
    assert all(customer.order() for customer in customers)
    at_once(Customer.enter, customers)
    assert customers[0].leave() == CUSTOMERS
    # nor is anything left of the sessions in which they have ordered first
    assert shop.rows == []
    assert [customer.look() for customer in customers] == [[]] * CUSTOMERS

    assert all(customer.order() for customer in customers)
    shop.clock.advance(400 * 86400)
    engine = create_engine(url, **UNPREPARED)
    purge = Purge(Rows(SessionRow), Lifetime(Settings()), shop.clock)
    assert sum(purge.batches(engine, 2)) == CUSTOMERS
    assert shop.rows == []


@both_ways
def test_what_psycopg_prepares_by_itself_is_an_error_behind_an_old_pgbouncer(
    bouncer: PgBouncer, url: str, own: bool
) -> None:
    """Nothing is promised then: a name may even mean what another client has prepared.

    From version 1.21 on PgBouncer can follow, if ``max_prepared_statements`` says so.
    """
    shop, customers = open_shop(url, own=own)
    for _ in range(50):
        at_once(Customer.order, customers)
        if shop.errors:
            break
    assert shop.errors or bouncer.version >= (1, 21)
    assert all(isinstance(error, DBAPIError) for error in shop.errors)
    assert all("prepared statement" in reason(error) for error in shop.errors)


@both_ways
def test_prepared_statements_work_behind_a_pgbouncer_that_follows_them(
    following: FollowingPgBouncer, own: bool, trials: Trials
) -> None:
    assert following.version >= (1, 21)
    with following.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        shop, customers = open_shop(url, own=own)
        with ordering(customers):
            for _ in trials.times(1):
                more_from_each(customers, 30)
        assert shop.errors == []
        # they did prepare some
        assert any(prepared for *_, prepared, _ in following.execute("SHOW CLIENTS"))
        trials.record(
            "more requests than connections, statements are prepared",
            "nothing is lost",
            DATABASE,
            shop.told,
            lost=shop.lost(),
        )


@both_ways
def test_connections_killed_behind_pgbouncer_are_replaced(
    postgresql_server: Server,
    url: str,
    own: bool,
    trials: Trials,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop, customers = open_shop(url, own=own, **UNPREPARED)
    with ordering(customers):
        for _ in trials.times(3):
            more_from_each(customers, 3)
            postgresql_server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{make_url(url).database}'"
            )
        more_from_each(customers, 3)
    trials.record(
        "server connections terminated",
        "what was acknowledged is there",
        DATABASE,
        shop.told,
        lost=shop.lost(unsure=True),
    )
    assert all(isinstance(error, DBAPIError) for error in shop.errors)
    assert not shop.leaks(caplog.text)


@both_ways
def test_a_killed_pgbouncer_that_is_back_is_used_again(
    bouncer: PgBouncer, url: str, own: bool, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    shop, customers = open_shop(url, own=own, **UNPREPARED)
    with ordering(customers):
        for _ in trials.times(3):
            more_from_each(customers, 3)
            bouncer.kill()
            bouncer.start()
        more_from_each(customers, 3)
    trials.record(
        "pgbouncer killed",
        "what was acknowledged is there",
        DATABASE,
        shop.told,
        lost=shop.lost(unsure=True),
    )
    assert shop.errors
    assert all(isinstance(error, DBAPIError) for error in shop.errors)
    assert not shop.leaks(caplog.text)
