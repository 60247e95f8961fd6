"""Another resource of the transaction that refuses, when the session is saved and not committed."""

from __future__ import annotations

from typing import Any

from support.apps import Broken, Resource, refuse
from support.faults.stepped_shop import (
    SHOPS,
    Order,
    SteppedCustomer,
    SteppedShop,
    in_shops,
    one_more,
)
from support.trials import Trials

KEPT = "nothing of the request is stored"


class Refused(Order):
    """An order with a mail that cannot be sent."""

    def view(self, request: Any) -> Any:
        request.tm.get().join(Resource(refuse))
        return super().view(request)


@in_shops(SHOPS)
def test_what_was_refused_is_not_stored_by_the_next_request_on_its_connection(
    shop: SteppedShop, trials: Trials
) -> None:
    site = shop.serve(pool_size=1, max_overflow=0, pool_timeout=5)
    customer, new = SteppedCustomer("customer"), SteppedCustomer("new")
    assert customer.buy(site)
    for _ in (rounds := trials.times(2)):
        for who in (customer, new):
            refused = site.request(one_more(who.name), who.token, kind=Refused)
            assert not who.learn(refused.start().finish())
            assert isinstance(who.errors[-1], Broken)
            assert shop.count() == customer.acknowledged
            assert customer.buy(site), customer.errors
            assert shop.count() == customer.acknowledged
    lost = shop.broken_promises(customer, new)
    fault, count = "another resource refuses to commit", 2 * len(rounds)
    trials.record(fault, KEPT, shop.title, count, lost=lost)
