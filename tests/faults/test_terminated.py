"""A server that ends connections: while a request uses them, and while they wait in the pool."""

from __future__ import annotations

import pytest
from support.faults.stepped_shop import (
    SHOPS,
    WITHOUT_RETRIES,
    SteppedCustomer,
    SteppedShop,
    in_shops,
    is_clear,
    order_at_once,
)
from support.trials import Trials

KEPT = "what was acknowledged is there, nothing else is"
RECOVERS = "no request fails on an engine of its own, one at most on the application's"


@in_shops(SHOPS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "first-visit"])
def test_a_request_whose_connection_the_server_ends_stores_all_or_nothing(
    shop: SteppedShop, when: str, known: bool, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    broken = 0
    for number in (rounds := trials.times(2)):
        site, customer = shop.serve(), SteppedCustomer(f"customer{number}")
        if known:
            assert customer.buy(site)
        flight = customer.order(site).load()
        if when == "after":
            flight.save()
        ended = shop.terminate()
        if customer.learn(flight.finish()):
            assert when == "before", "a COMMIT on a lost connection was taken for one"
        else:
            assert ended
            assert is_clear(customer.errors[0], customer.token), customer.errors
        assert all(customer.buy(site) for _ in range(3)), customer.errors
        broken += shop.broken_promises(customer)
        assert customer.token
        assert customer.token not in caplog.text
    fault = f"connection ended by the server {when} the session is saved"
    trials.record(fault, KEPT, shop.title, len(rounds), lost=broken)


@in_shops(WITHOUT_RETRIES)
@pytest.mark.parametrize("ping", [False, True], ids=["", "pre-ping"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "first-visit"])
def test_a_pool_whose_connections_the_server_has_ended_recovers(
    shop: SteppedShop, ping: bool, known: bool, trials: Trials
) -> None:
    broken = 0
    for number in (rounds := trials.times(1)):
        site = shop.serve(pool_pre_ping=ping)
        before = [SteppedCustomer(f"before{number}.{it}") for it in range(4)]
        order_at_once(site, before)
        assert shop.terminate() >= len(before)
        customers = before if known else [SteppedCustomer(f"after{number}.{it}") for it in range(4)]
        for customer in customers:
            customer.buy(site)
        errors = [error for customer in customers for error in customer.errors]
        assert len(errors) <= (0 if ping or shop.own else 1), errors
        assert all(is_clear(error) for error in errors), errors
        assert all(customer.buy(site) for customer in customers)
        broken += shop.broken_promises(*before, *customers)
    fault = "idle connections ended by the server"
    trials.record(fault, RECOVERS, shop.title, len(rounds), lost=broken)
