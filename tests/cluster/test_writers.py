"""Requests that use one session through several nodes of a cluster at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyramid.threadlocal import get_current_request
from pyramid_retry import IRetryableError
from sqlalchemy import func, update
from support.apps import Note, notes
from support.cluster.cluster import Cluster, Places, number_of, started
from support.races import Action, Flight, Gate, Site, add, both, put
from support.trials import Trials

from pyramid_sqlsession import SessionConflicted

MANY = 50
"""Attempts, where no request is to be given up."""


def send(site: Site, action: Action, token: str) -> Flight:
    """A request that stops nowhere."""
    return site.request(action, token).start().finish()


def send_at_once(
    sites: list[Site], actions: Callable[[int, int], Action], token: str, rounds: range
) -> list[Flight]:
    """Through each node one request after the other, and through all of them at once."""

    def client(node: int) -> list[Flight]:
        return [send(sites[node], actions(node, number), token) for number in rounds]

    with ThreadPoolExecutor(len(sites)) as pool:
        return [flight for flights in pool.map(client, range(len(sites))) for flight in flights]


def all_succeed(flights: list[Flight]) -> None:
    """No request was given up, or failed in a way that is not run again."""
    failed = [(flight.error, flight.attempts) for flight in flights if not flight.ok]
    assert not failed


# ---- at once


@pytest.mark.parametrize("patient", [False, True])
def test_every_key_that_was_acknowledged_is_there(
    cluster: Cluster, places: Places, way: str, patient: bool, trials: Trials
) -> None:
    sites = [place.serve(MANY) for place in places(way, patient=patient)]
    token = started(cluster, sites[0], n=0)

    def own_key(node: int, number: int) -> Action:
        return put(f"{node}-{number}", number)

    flights = send_at_once(sites, own_key, token, trials.times(20))
    all_succeed(flights)
    cluster.agree()
    wanted = {f"{node}-{number}" for node in range(3) for number in trials.times(20)}
    lost = sum(len(wanted - site.data(token).keys()) for site in sites)
    fault = "writes of one session on all nodes at once"
    trials.record(fault, "what was acknowledged is there", cluster.title, len(flights), lost=lost)


def test_increments_of_one_counter_add_up(
    cluster: Cluster, places: Places, way: str, trials: Trials
) -> None:
    sites = [place.serve(MANY) for place in places(way)]
    token = started(cluster, sites[0], n=0)
    flights = send_at_once(sites, lambda node, number: add("n"), token, trials.times(20))
    all_succeed(flights)
    # some were told by the database to come again
    assert sum(flight.attempts for flight in flights) > len(flights)
    cluster.agree()
    lost = len(flights) - sites[0].data(token)["n"]
    fault = "increments of one counter on all nodes at once"
    trials.record(fault, "they add up", cluster.title, len(flights), lost=lost)


# ---- step by step


def test_a_conflict_between_two_nodes_is_run_again(
    cluster: Cluster, places: Places, way: str, trials: Trials
) -> None:
    sites = [place.serve(MANY) for place in places(way)]
    token = started(cluster, sites[0], n=0)
    lost = 0
    for number in trials.times(5):
        first, second = (site.request(add("n"), token).load() for site in sites[:2])
        first.save()
        second.save().finish()
        assert first.finish().ok, first.error
        # its node has rolled it back, perhaps again before the other one's change had arrived
        assert first.attempts > 1
        assert second.attempts == 1
        cluster.agree()
        lost += 2 * (number + 1) - sites[0].data(token)["n"]
    fault = "two transactions on two nodes change one row"
    trials.record(fault, "the loser is run again", cluster.title, len(trials.times(5)), lost=lost)


def test_a_conflict_that_is_not_run_again_stores_nothing_and_says_so(
    cluster: Cluster, places: Places, way: str
) -> None:
    sites = [place.serve(1) for place in places(way)]
    token = started(cluster, sites[0], n=0)
    first, second = (
        site.request(action, token).load()
        for site, action in zip(
            sites, (both(*new_notes(way), put("first", 1)), put("second", 1)), strict=False
        )
    )
    first.save()
    second.save().finish()
    assert number_of(first.finish().error) in cluster.conflicts
    assert IRetryableError.providedBy(first.error)
    cluster.agree()
    assert sites[0].data(token) == {"n": 0, "second": 1}
    assert notes(sites[0].engine) == []
    # the connection is of use again
    assert sites[0].visit(add("n"), token).ok


def test_a_conflict_of_the_session_that_another_node_interrupts_is_run_again(
    cluster: Cluster, places: Places, way: str
) -> None:
    """Galera answers the ROLLBACK of whoever lost a lock with an error of its own."""
    sites = [place.serve(3) for place in places(way)]
    token = started(cluster, sites[0], n=0)
    raised = Gate()
    sites[0].app.registry.registerHandler(lambda event: raised.stop(), (SessionConflicted,))
    first = sites[0].request(add("n"), token).load()
    sites[0].visit(add("n"), token)
    first.release()
    raised.wait()
    cluster.agree()
    sites[1].visit(add("n"), token)
    cluster.agree()
    raised.open()
    assert first.finish().ok, first.error
    assert first.attempts == 2
    assert sites[0].data(token) == {"n": 3}


def test_the_version_catches_what_another_node_has_written_since_it_was_read(
    cluster: Cluster, places: Places, way: str, trials: Trials
) -> None:
    """At REPEATABLE READ a node itself says nothing: the UPDATE would overwrite."""
    sites = [place.serve(3) for place in places(way)]
    token = started(cluster, sites[0], n=0)
    lost = 0
    for number in trials.times(5):
        first = sites[0].request(both(add("n"), put(f"first {number}", 1)), token).load()
        sites[1].visit(add("n"), token)
        cluster.agree()
        assert first.finish().ok, first.error
        assert first.attempts == 2
        lost += 2 * (number + 1) - sites[0].data(token)["n"]
        cluster.agree()
    fault = "read on one node, written on another meanwhile"
    trials.record(fault, "both changes are kept", cluster.title, len(trials.times(5)), lost=lost)


@pytest.mark.parametrize("way", ["dbsession"], indirect=True)
def test_a_transaction_that_another_node_has_aborted_stores_no_session_alone(
    cluster: Cluster, places: Places, way: str
) -> None:
    """The error comes with whatever the loser says next: here the session's statement."""
    sites = [place.serve(3) for place in places(way)]
    token = started(cluster, sites[0], n=0)
    sites[0].visit(new_note, token)
    cluster.agree()
    written = Gate()
    first = sites[0].request(
        both(lengthen("first"), lambda session: written.stop(), add("n")), token
    )
    first.load().release()
    written.wait()
    sites[1].visit(lengthen("second"), token)
    cluster.agree()
    written.open()
    assert first.finish().ok, first.error
    assert first.attempts == 2
    assert notes(sites[0].engine) == ["note second first"]
    assert sites[0].data(token) == {"n": 1}


def new_note(session: Any) -> None:
    get_current_request().dbsession.add(Note(text="note"))


def new_notes(way: str) -> list[Action]:
    """What an application writes, where it has a database session."""
    return [new_note] if way == "dbsession" else []


def lengthen(more: str) -> Action:
    def action(session: Any) -> None:
        longer = update(Note).values(text=func.concat(Note.text, " ", more))
        get_current_request().dbsession.execute(longer)

    return action
