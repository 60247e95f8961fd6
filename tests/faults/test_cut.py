"""Connections that a network cuts, delays, or forgets about."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support.faults.proxy import End, Lost, Proxy, proxied
from support.faults.stepped_shop import (
    SHOPS,
    WITHOUT_RETRIES,
    SteppedCustomer,
    SteppedShop,
    in_shops,
    is_clear,
)
from support.trials import Trials

KEPT = "what was acknowledged is there, the application and the session agree"


ONE_DRIVER_EACH = ["dbsession-postgresql", "dbsession-mariadb", "own-postgresql", "own-mariadb"]
SELECT, INSERT, UPDATE = "SELECT sqlsession", "INSERT INTO sqlsession", "UPDATE sqlsession"


@in_shops(SHOPS)
@pytest.mark.parametrize("lost", [Lost.REQUEST, Lost.ANSWER], ids=["request-lost", "answer-lost"])
@pytest.mark.parametrize(
    "words",
    [[SELECT], [UPDATE], [INSERT], [UPDATE, "COMMIT"], [INSERT, "COMMIT"]],
    ids=["SELECT", "UPDATE", "INSERT", "UPDATE-COMMIT", "INSERT-COMMIT"],
)
def test_a_connection_cut_within_a_request_stores_all_or_nothing(
    shop: SteppedShop,
    proxy: Proxy,
    words: list[str],
    lost: Lost,
    trials: Trials,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site, broken = shop.serve(proxy.url(shop.url)), 0
    # a read outside of a transaction is repeated on another connection
    is_harmless = shop.own and words == [SELECT]
    for number in (rounds := trials.times(2)):
        customer = SteppedCustomer(f"customer{number}")
        if INSERT not in words:
            assert customer.buy(site)
        trap = proxy.trap(*words, lost=lost, end=(End.CLOSE, End.RESET)[number % 2])
        assert customer.buy(site) is is_harmless
        trap.wait()
        assert all(is_clear(error, customer.token) for error in customer.errors), customer.errors
        is_stored = lost is Lost.ANSWER and "COMMIT" in words
        assert shop.count() == customer.acknowledged + is_stored
        assert all(customer.buy(site) for _ in range(2)), customer.errors
        assert customer.token
        assert customer.token not in caplog.text
        broken += shop.broken_promises(customer)
        shop.clear()
    statement = words[-1].split()[0]
    what = f"the answer to {statement}" if lost is Lost.ANSWER else statement
    trials.record(f"connection cut, {what} is lost", KEPT, shop.title, len(rounds), lost=broken)


@in_shops(WITHOUT_RETRIES)
@pytest.mark.parametrize("last", ["COMMIT", "ROLLBACK"])
def test_a_connection_cut_right_after_the_commit_costs_nothing(
    shop: SteppedShop, proxy: Proxy, last: str, trials: Trials
) -> None:
    """Not even its place in the pool, which some roll back for good measure."""
    ping = not shop.own
    site = shop.serve(
        proxy.url(shop.url), pool_size=1, max_overflow=0, pool_timeout=5, pool_pre_ping=ping
    )
    customer = SteppedCustomer("customer")
    assert customer.buy(site)
    for _ in (rounds := trials.times(2)):
        words = dict.fromkeys([UPDATE, "COMMIT", last])
        trap = proxy.trap(*words, lost=Lost.NOTHING, end=End.CLOSE)
        assert customer.buy(site), customer.errors
        if last == "COMMIT":
            trap.wait()
    assert all(customer.buy(site) for _ in range(2)), customer.errors
    lost = shop.broken_promises(customer)
    trials.record("connection cut after COMMIT", KEPT, shop.title, len(rounds), lost=lost)


@in_shops(ONE_DRIVER_EACH)
def test_a_slow_network_loses_nothing(shop: SteppedShop, proxy: Proxy, trials: Trials) -> None:
    site = shop.serve(proxy.url(shop.url))
    customers = [SteppedCustomer(f"customer{number}") for number in range(4)]
    proxy.delay = 0.004
    for _ in (rounds := trials.times(3)):
        flights = [customer.order(site).start() for customer in customers]
        for customer, flight in zip(customers, flights, strict=True):
            assert customer.learn(flight.finish()), customer.errors
    orders = len(rounds) * len(customers)
    assert shop.count() == orders
    lost = shop.broken_promises(*customers)
    trials.record("every packet delayed", KEPT, shop.title, orders, lost=lost)


# what the documentation tells applications to set, with a second for each; libpq takes 1 for 2
TIMEOUTS = {
    "postgresql": {"connect_timeout": "2", "tcp_user_timeout": "1000"},
    "mysql": {"connect_timeout": "1", "read_timeout": "1", "write_timeout": "1"},
}
BOUND = 20


@pytest.fixture
def impatient(shop: SteppedShop) -> Iterator[tuple[Proxy, str]]:
    """A proxy that takes little before the server gets it; a URL through it, with timeouts."""
    with proxied(shop.server.host, shop.server.port, window=4096) as proxy:
        yield proxy, proxy.url(shop.url, **TIMEOUTS[shop.engine.dialect.name])


@in_shops(ONE_DRIVER_EACH)
def test_a_silent_network_fails_requests_in_bounded_time(
    shop: SteppedShop, impatient: tuple[Proxy, str], trials: Trials
) -> None:
    proxy, url = impatient
    broken = 0
    for number in (rounds := trials.times(1)):
        # whose pool has no connection that was cut
        site = shop.serve(url, settings={"max_size": 2**21})
        customer = SteppedCustomer(f"customer{number}", ballast=2**20)
        assert customer.buy(site)
        trap = proxy.trap(UPDATE, lost=Lost.REQUEST, end=End.SILENCE)
        proxy.silent = True
        began = time.monotonic()
        # once on the connection that has fallen silent, once on a new one
        assert [customer.buy(site) for _ in range(2)] == [False, False]
        trap.wait()
        assert time.monotonic() - began < BOUND
        assert all(is_clear(error, customer.token) for error in customer.errors), customer.errors
        assert shop.count() == customer.acknowledged
        proxy.silent = False
        assert customer.buy(site), customer.errors
        # until then the server keeps the locks of whoever has fallen silent
        proxy.cut(End.RESET)
        broken += shop.broken_promises(customer)
        shop.clear()
    fault = "network falls silent, the driver's timeouts are set"
    promised = f"an error in bounded time; {KEPT}"
    trials.record(fault, promised, shop.title, len(rounds), lost=broken)
