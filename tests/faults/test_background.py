"""What happens beside requests while the database fails: activity is recorded, rows are deleted."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Engine
from support.apps import Clock, listening, rows
from support.faults.proxy import End, Lost, proxied
from support.faults.stepped_shop import WITHOUT_RETRIES, SteppedCustomer, SteppedShop, in_shops
from support.patience import wait_until
from support.races import TIMEOUT, Flight, Gate, Site
from support.trials import Trials

from pyramid_sqlsession.upkeep import cleanup

DAY = 86_400


def set_clock(site: Site) -> Clock:
    """A clock for the application."""
    clock = site.app.registry.getUtility(ISessionFactory).clock = Clock()
    return clock


def read(session: Any) -> Any:
    return session["count"]


class Reader(Flight):
    """A request that stops once more when its transaction has ended."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.done = Gate()

    def view(self, request: Any) -> Any:
        request.add_response_callback(lambda *_: self.done.stop())
        return super().view(request)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of the package."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "pyramid_sqlsession" and record.levelno >= logging.WARNING
    ]


@in_shops(WITHOUT_RETRIES)
def test_activity_that_cannot_be_recorded_because_the_server_was_killed_is_a_log_line(
    shop: SteppedShop, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    site, lost = shop.serve(pool_pre_ping=True), 0
    clock = set_clock(site)
    for number in (rounds := trials.times(1)):
        customer = SteppedCustomer(f"customer{number}")
        assert customer.buy(site)
        clock.advance(DAY)
        caplog.clear()
        flight = site.request(read, customer.token, kind=Reader)
        assert isinstance(flight, Reader)
        flight.start().release()
        flight.done.wait()
        shop.server.kill()
        flight.done.open()
        assert flight.finish().ok, flight.error
        (warning,) = warnings(caplog)
        assert re.fullmatch(r"activity of session [0-9a-f]{32} was not recorded: .+", warning)
        assert customer.token
        assert customer.token not in caplog.text
        shop.server.start()
        assert rows(site.engine)[0]["last_seen"] < clock.now
        assert site.request(read, customer.token).load().finish().ok
        lost += rows(site.engine)[0]["last_seen"] != clock.now
        lost += shop.broken_promises(customer)
        shop.clear()
    fault = "server killed before activity is recorded"
    promised = "the response stands, the next request records it"
    trials.record(fault, promised, shop.title, len(rounds), lost=lost)


@in_shops(WITHOUT_RETRIES)
@pytest.mark.parametrize("lost", [Lost.REQUEST, Lost.ANSWER], ids=["request-lost", "answer-lost"])
def test_a_connection_cut_while_activity_is_recorded_is_a_log_line(
    shop: SteppedShop, lost: Lost, trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    with proxied(shop.server.host, shop.server.port) as proxy:
        site = shop.serve(proxy.url(shop.url), pool_size=1, max_overflow=0, pool_timeout=5)
        clock = set_clock(site)
        customer = SteppedCustomer("customer")
        assert customer.buy(site)
        for _ in (rounds := trials.times(2)):
            clock.advance(DAY)
            caplog.clear()
            trap = proxy.trap("UPDATE sqlsession", lost=lost, end=End.RESET)
            flight = site.request(read, customer.token).load().finish()
            assert flight.ok, flight.error
            trap.wait()
            (warning,) = warnings(caplog)
            assert "was not recorded" in warning
            assert flight.cookies == []
            assert customer.buy(site), customer.errors
    broken = shop.broken_promises(customer)
    fault, promised = "connection cut while activity is recorded", "the response stands"
    trials.record(fault, promised, shop.title, len(rounds), lost=broken)


@contextmanager
def deletions() -> Iterator[threading.Semaphore]:
    """Something to acquire for each statement that has deleted sessions."""
    done = threading.Semaphore(0)

    def see(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE FROM sqlsession"):
            done.release()

    with listening(Engine, "after_cursor_execute", see):
        yield done


@in_shops(WITHOUT_RETRIES)
def test_the_cleaning_outlives_a_server_that_is_killed_while_rows_are_deleted(
    shop: SteppedShop,
    trials: Trials,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cleanup, "uniform", lambda low, high: 0.01)
    settings = {"cleanup_interval": 60, "cleanup_batch": 1}
    site = shop.serve(
        settings=settings, pool_size=2, max_overflow=0, pool_timeout=5, pool_pre_ping=True
    )
    clock, lost = set_clock(site), 0
    for number in (rounds := trials.times(1)):
        for it in range(10):
            assert SteppedCustomer(f"old{number}.{it}").buy(site)
        with deletions() as deleted:
            clock.advance(30 * DAY)
            staying = SteppedCustomer(f"staying{number}")
            assert staying.buy(site)
            assert all(deleted.acquire(timeout=TIMEOUT) for _ in range(3))
            caplog.clear()
            shop.server.kill()
        wait_until(
            lambda: any("cannot delete expired sessions now" in line for line in warnings(caplog))
        )
        shop.server.start()
        wait_until(lambda: len(rows(site.engine)) == 1)
        assert staying.buy(site)
        lost += shop.count() != staying.acknowledged
        assert staying.token
        assert staying.token not in caplog.text
        shop.clear()
    fault = "server killed while expired sessions are deleted"
    promised = "they are deleted later, no others are"
    trials.record(fault, promised, shop.title, len(rounds), lost=lost)
