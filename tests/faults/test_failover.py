"""A PostgreSQL server that dies, and a hot standby that takes its place."""

from __future__ import annotations

import logging
import time

import pytest
from sqlalchemy.exc import DBAPIError
from support.faults.shop import Shop, more_from_each, ordering
from support.faults.standby import pair
from support.patience import wait_until
from support.servers import PostgreSQL
from support.trials import Trials

log = logging.getLogger(__name__)

both_ways = pytest.mark.parametrize("own", [False, True], ids=["dbsession", "own-engine"])


SYNCHRONOUS = (
    "ALTER SYSTEM SET synchronous_standby_names = '*'",
    # a session that was acknowledged can be read there too
    "ALTER SYSTEM SET synchronous_commit = 'remote_apply'",
    "SELECT pg_reload_conf()",
)


def is_synchronous(primary: PostgreSQL) -> bool:
    return primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)]


@both_ways
def test_nothing_acknowledged_is_lost_with_a_synchronous_standby(
    own: bool,
    trials: Trials,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in trials.times(1):
        with pair(*SYNCHRONOUS) as (primary, standby, url):
            wait_until(lambda: is_synchronous(primary))
            shop = Shop(url, own=own)
            customers = [shop.customer() for _ in range(4)]
            with ordering(customers):
                more_from_each(customers, 10)
                primary.kill()
                died = time.monotonic()
                standby.promote()
                more_from_each(customers, 1)
                log.info("no order was acknowledged for %.2f seconds", time.monotonic() - died)
                more_from_each(customers, 10)
            trials.record(
                "failover to a synchronous standby",
                "what was acknowledged is there",
                "PostgreSQL",
                shop.told,
                lost=shop.lost(unsure=True),
            )
            assert all(isinstance(error, DBAPIError) for error in shop.errors)
            assert not shop.leaks(caplog.text)


@both_ways
def test_an_asynchronous_standby_may_be_behind_but_has_nothing_by_halves(
    own: bool, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had not received when the primary died is lost, and customers go on without."""
    for _ in trials.times(1):
        with pair() as (primary, standby, url):
            shop = Shop(url, own=own)
            regular, newcomer = shop.customer(), shop.customer()
            assert regular.order()
            standby.catch_up()
            received = list(regular.told)
            standby.stop()
            assert regular.order()
            assert newcomer.order()
            cookie = newcomer.token
            primary.kill()
            standby.start()
            standby.promote()
            # the rest is missing in the session and in the application's table alike
            regular.told, newcomer.told = received, []
            # an engine of its own notices that its connection is dead, the application's does not
            assert regular.order() is own
            assert regular.look() == regular.told
            assert newcomer.look() == []
            assert regular.order()
            assert newcomer.order()
            assert newcomer.token != cookie
            trials.record(
                "failover to an asynchronous standby",
                "what it had received is there, nothing by halves",
                "PostgreSQL",
                shop.told,
                lost=shop.lost(unsure=True),
            )
            assert not shop.leaks(caplog.text)
