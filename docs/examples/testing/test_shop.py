import time

import pytest
from pyramid.interfaces import ISessionFactory
from webtest import TestApp

from shop import main


class Clock:
    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
def app():
    return main({}, **{"sqlsession.fallback_memory": "true", "sqlsession.ttl": "2h"})


@pytest.fixture
def browser(app):
    return TestApp(app)


@pytest.fixture
def clock(app):
    """The sessions' clock, which stands still until a test sets it."""
    factory = app.registry.getUtility(ISessionFactory)
    factory.clock = Clock()
    return factory.clock


def test_a_product_is_in_the_cart(browser):
    page = browser.post("/", {"product": "tea"}).follow()
    assert page.json == {"cart": ["tea"], "messages": ["It is in your cart."]}
    assert browser.get("/").json == {"cart": ["tea"], "messages": []}


def test_a_cart_is_kept_for_two_hours(browser, clock):
    browser.post("/", {"product": "tea"})
    clock.now += 7199
    assert browser.get("/").json["cart"] == ["tea"]
    clock.now += 7200
    assert browser.get("/").json["cart"] == []
