"""Two requests that lock the same rows in opposite order: the database ends one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pyramid.threadlocal import get_current_request
from sqlalchemy import insert, make_url, update
from sqlalchemy.exc import DBAPIError
from support.apps import Note, notes, rows
from support.faults.stepped_shop import SHOPS, SteppedShop, in_shops
from support.races import TIMEOUT, Action, Flight, Site
from support.trials import Trials

from pyramid_sqlsession import SessionConflict
from pyramid_sqlsession.driver_errors import is_conflict

SERIAL = "one request at least is acknowledged, the other one is run again or stores nothing"


@pytest.fixture
def site(shop: SteppedShop) -> Site:
    url = make_url(shop.url)
    if url.get_backend_name() == "postgresql":
        # it waits a second before it looks for a deadlock
        url = url.update_query_dict({"options": "-c deadlock_timeout=20"})
    return shop.serve(url.render_as_string(hide_password=False))


def first(lock: Callable[[Any], Any], then: Action, everybody: threading.Barrier) -> Action:
    """Lock something; go on when everybody has, at the first attempt."""
    met = False

    def action(session: Any) -> None:
        nonlocal met
        lock(get_current_request())
        if not met:
            met = True
            everybody.wait(TIMEOUT)
        then(session)

    return action


def revoke(handle: str) -> Callable[[Any], Any]:
    return lambda request: request.sqlsessions.revoke(handle)


def sign(name: str) -> Callable[[Any], Any]:
    """Lock the application's row, and write a name into it."""
    return lambda request: request.dbsession.execute(update(Note).values(text=name))


def fight(site: Site, actions: dict[str, Action], tokens: dict[str, str]) -> dict[str, Flight]:
    flights = {name: site.request(actions[name], tokens[name]) for name in actions}
    for flight in flights.values():
        flight.start().release()
    for flight in flights.values():
        flight.finish()
    return flights


def check_outcome(shop: SteppedShop, flights: dict[str, Flight]) -> dict[str, Flight]:
    """Those who were acknowledged."""
    winners = {name: flight for name, flight in flights.items() if flight.ok}
    if shop.retry:
        assert len(winners) == 2, [flight.error for flight in flights.values()]
        # more than one more, if they meet again
        assert sum(flight.attempts for flight in flights.values()) >= 3
        return winners
    (loser,) = [flight for flight in flights.values() if not flight.ok]
    assert isinstance(loser.error, SessionConflict | DBAPIError)
    assert isinstance(loser.error, SessionConflict) or is_conflict(loser.error.orig)
    assert "deadlock" in str(loser.error).lower()
    assert loser.cookies == []
    return winners


@in_shops(SHOPS)
def test_of_two_sessions_that_end_each_other_one_is_ended(
    shop: SteppedShop, site: Site, trials: Trials
) -> None:
    for _ in (rounds := trials.times(2)):
        tokens = {name: site.start(n=0) for name in ("one", "two")}
        handles = {name: site.handle(token) for name, token in tokens.items()}
        both = threading.Barrier(2)
        actions = {
            "one": first(revoke(handles["two"]), lambda session: session.update(n=1), both),
            "two": first(revoke(handles["one"]), lambda session: session.update(n=1), both),
        }
        flights = fight(site, actions, tokens)
        winners = check_outcome(shop, flights)
        if len(winners) == 1:
            ((winner, _),) = winners.items()
            (loser,) = {"one", "two"} - {winner}
            assert site.data(tokens[winner]) == {"n": 1}
            assert site.row(tokens[loser]) is None
        else:
            assert site.row(tokens["one"]) is None
            assert site.row(tokens["two"]) is None
            # whoever found itself signed out has started anew
            started = [flight for flight in flights.values() if flight.cookies]
            assert [site.data(flight.token) for flight in started] == [{"n": 1}] * len(started)
            assert len(rows(shop.engine)) == len(started)
        shop.clear()
    trials.record("deadlock of two sessions", SERIAL, shop.title, len(rounds))


@in_shops([name for name in SHOPS if "own" not in name])
def test_of_a_deadlock_with_the_applications_row_nothing_half_is_left(
    shop: SteppedShop, site: Site, trials: Trials
) -> None:
    for _ in (rounds := trials.times(2)):
        with shop.engine.begin() as connection:
            connection.execute(insert(Note).values(text="nobody"))
        tokens = {"writer": site.start(name="nobody"), "admin": site.start(name="admin")}
        both = threading.Barrier(2)
        end_the_writers = revoke(site.handle(tokens["writer"]))
        actions = {
            "writer": first(sign("writer"), lambda session: session.update(name="writer"), both),
            "admin": first(end_the_writers, lambda _: sign("admin")(get_current_request()), both),
        }
        flights = fight(site, actions, tokens)
        winners = check_outcome(shop, flights)
        if "admin" not in winners:
            assert notes(shop.engine) == ["writer"]
            assert site.data(tokens["writer"]) == {"name": "writer"}
        elif "writer" not in winners:
            assert notes(shop.engine) == ["admin"]
            assert site.row(tokens["writer"]) is None
        else:
            assert notes(shop.engine) in (["admin"], ["writer"])
            assert site.row(tokens["writer"]) is None
        shop.clear()
    fault = "deadlock of a session and the application's row"
    trials.record(fault, SERIAL, shop.title, len(rounds))
