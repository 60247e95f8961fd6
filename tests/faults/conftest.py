"""Fixtures: a shop whose database the test breaks, and the network on the way to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.faults.proxy import Proxy, proxied
from support.faults.stepped_shop import SteppedShop, open_shop


@pytest.fixture(scope="module")
def opened_shop(request: pytest.FixtureRequest) -> Iterator[SteppedShop]:
    """A shop for all tests of a module."""
    with open_shop(request, request.param) as shop:
        yield shop


@pytest.fixture
def shop(opened_shop: SteppedShop) -> Iterator[SteppedShop]:
    """An empty shop, whose server runs."""
    yield opened_shop
    opened_shop.server.start()
    opened_shop.clear()


@pytest.fixture
def proxy(shop: SteppedShop) -> Iterator[Proxy]:
    """A proxy before the shop's server."""
    with proxied(shop.server.host, shop.server.port) as proxy:
        yield proxy
