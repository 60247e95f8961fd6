"""A server that is killed, and started again."""

from __future__ import annotations

import random
import threading

import pytest
from support.faults.proxy import End, Lost, proxied
from support.faults.stepped_shop import (
    SHOPS,
    SteppedCustomer,
    SteppedShop,
    in_shops,
    is_clear,
    order_at_once,
)
from support.races import Site
from support.trials import Trials

KEPT = "what was acknowledged is there, the application and the session agree"
UPDATE, INSERT = "UPDATE sqlsession", "INSERT INTO sqlsession"


@in_shops(SHOPS)
def test_a_server_killed_between_the_save_and_the_commit(
    shop: SteppedShop, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    broken = 0
    site = shop.serve()
    for number in (rounds := trials.times(1)):
        known, new = SteppedCustomer(f"known{number}"), SteppedCustomer(f"new{number}")
        assert known.buy(site)
        flights = {customer: customer.order(site).load().save() for customer in (known, new)}
        shop.server.kill()
        for customer, flight in flights.items():
            assert not customer.learn(flight.finish())
            assert is_clear(customer.errors[0], customer.token), customer.errors
        assert not known.buy(site), "an order was acknowledged while the server was down"
        assert is_clear(known.errors[1], known.token), known.errors
        shop.server.start()
        assert shop.count() == known.acknowledged
        assert all(customer.buy(site) for customer in (known, new, known)), known.errors
        broken += shop.broken_promises(known, new)
        assert known.token
        assert known.token not in caplog.text
        shop.clear()
    trials.record("server killed before COMMIT", KEPT, shop.title, len(rounds), lost=broken)


@in_shops(SHOPS)
@pytest.mark.parametrize("known", [True, False], ids=["known", "first-visit"])
def test_a_server_killed_before_it_could_answer_a_commit(
    shop: SteppedShop, known: bool, trials: Trials
) -> None:
    """The order is stored, and neither the application nor the customer knows."""
    broken = 0
    with proxied(shop.server.host, shop.server.port) as proxy:
        site = shop.serve(proxy.url(shop.url))
        for number in (rounds := trials.times(1)):
            customer = SteppedCustomer(f"customer{number}")
            if known:
                assert customer.buy(site)
            words = [UPDATE if known else INSERT, "COMMIT"]
            trap = proxy.trap(*words, lost=Lost.ANSWER, end=End.SILENCE)
            flight = customer.order(site).start().release()
            trap.wait()
            shop.server.kill()
            proxy.cut(End.RESET)
            assert not customer.learn(flight.finish())
            assert is_clear(customer.errors[0], customer.token), customer.errors
            shop.server.start()
            assert shop.count() == customer.acknowledged + 1
            assert all(customer.buy(site) for _ in range(2)), customer.errors
            broken += shop.broken_promises(customer)
            shop.clear()
    fault = "server killed after COMMIT, before its answer"
    trials.record(fault, KEPT, shop.title, len(rounds), lost=broken)


class Rush:
    """Customers who order, each in a thread, until one of their orders fails."""

    def __init__(self, site: Site, customers: list[SteppedCustomer]) -> None:
        self._site = site
        self._acknowledged = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._order, args=[customer], daemon=True)
            for customer in customers
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Come back when so many orders more are acknowledged."""
        for _ in range(count):
            assert self._acknowledged.acquire(timeout=20), "nothing is acknowledged any more"

    def join(self) -> None:
        """Come back when everybody has had an error."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a request hangs"

    def _order(self, customer: SteppedCustomer) -> None:
        while customer.buy(self._site):
            self._acknowledged.release()


@in_shops(SHOPS)
def test_a_server_killed_while_many_requests_write(shop: SteppedShop, trials: Trials) -> None:
    site = shop.serve(pool_size=4, max_overflow=0, pool_timeout=5)
    orders = broken = 0
    for number in trials.times(2):
        customers = [SteppedCustomer(f"customer{number}.{it}") for it in range(4)]
        assert customers[0].buy(site)
        rush = Rush(site, customers)
        rush.wait_for(random.randint(1, 80))
        shop.server.kill()
        rush.join()
        for customer in customers:
            assert is_clear(customer.errors[0], customer.token), customer.errors
        shop.server.start()
        broken += shop.broken_promises(*customers)
        # every place in the pool is there for somebody
        order_at_once(site, customers)
        broken += shop.broken_promises(*customers)
        orders += sum(customer.acknowledged for customer in customers)
        shop.clear()
    trials.record("server killed while requests write", KEPT, shop.title, orders, lost=broken)
