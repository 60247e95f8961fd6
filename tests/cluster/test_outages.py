"""Nodes of a cluster that die and come back, while others go on or cannot."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyramid.threadlocal import get_current_request
from support.apps import Note, notes, rows
from support.cluster.cluster import WAYS, Cluster, Places, number_of, started
from support.patience import wait_until, working
from support.places import Place
from support.races import Flight, Site, add
from support.trials import Trials


class Visitor(threading.Thread):
    """Sends one request after the other through one node, each with the next number.

    :ivar acknowledged: the numbers that the application has confirmed.
    :ivar errors: what it has said otherwise.
    """

    def __init__(self, site: Site, token: str, node: str, way: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.acknowledged: list[int] = []
        self.errors: list[BaseException | None] = []
        self._site, self._token, self._way, self._over = site, token, way, over

    def run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            flight = self._site.request(self._change(number), self._token).start().finish()
            if flight.ok:
                self.acknowledged.append(number)
            else:
                self.errors.append(flight.error)
                self._over.wait(0.05)  # a node that is away says so at once

    def lost(self, notes: list[str]) -> set[Any]:
        """What was confirmed and is not there, or is there by half."""
        data = self._site.data(self._token)
        lost = {number for number in self.acknowledged if number > data["n"]}
        if self._way == "dbsession":
            written = [note.split()[-1] for note in notes if note.startswith(data["name"])]
            lost |= set(self.acknowledged) - set(map(int, written))
            lost |= {data["n"]} - {max(map(int, written))}
        return lost

    def _change(self, number: int) -> Callable[[Any], None]:
        def action(session: Any) -> None:
            session["n"] = number
            if self._way == "dbsession":
                note = Note(text=f"{session['name']} {number}")
                get_current_request().dbsession.add(note)

        return action


@contextmanager
def visiting(cluster: Cluster, places: Mapping[str, list[Place]]) -> Iterator[list[Visitor]]:
    """Visitors, one in each way on each node, busy until the block ends."""
    over = threading.Event()
    visitors = []
    for way in places:
        for place in places[way]:
            site = place.serve(10)
            token = started(cluster, site, name=f"{place.name} {way}")
            visitors.append(Visitor(site, token, place.name, way, over))
    with working(visitors, over):
        yield visitors


def progress(visitors: list[Visitor]) -> Callable[[], bool]:
    """Tells whether each of them has been confirmed something since now."""
    before = [len(visitor.acknowledged) for visitor in visitors]
    return lambda: all(
        len(visitor.acknowledged) > count + 5
        for visitor, count in zip(visitors, before, strict=True)
    )


def test_a_killed_node_takes_nothing_with_it_and_its_applications_recover(
    cluster: Cluster, places: Places, trials: Trials
) -> None:
    used = {way: places(way) for way in WAYS}
    with visiting(cluster, used) as visitors:
        for number in trials.times(1):
            wait_until(progress(visitors))
            victim = number % 3
            here = [visitor for visitor in visitors if visitor.node == f"node {victim + 1}"]
            others = [visitor for visitor in visitors if visitor not in here]
            for visitor in others:
                visitor.errors.clear()
            cluster.nodes[victim].kill()
            wait_until(progress(others))
            # they had to wait, and to come again
            errors = {number_of(error) for visitor in others for error in visitor.errors}
            assert errors <= cluster.stalled
            cluster.nodes[victim].start()
            wait_until(progress(here))
    cluster.agree()
    engines = [place.engine for place in used["dbsession"]]
    stored = [(in_order(rows(engine)), notes(engine)) for engine in engines]
    assert stored[0] == stored[1] == stored[2]
    lost = sum(len(visitor.lost(stored[0][1])) for visitor in visitors)
    kills, fault = len(trials.times(1)), "a node killed and brought back"
    trials.record(fault, "what was acknowledged is there", cluster.title, kills, lost=lost)


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: bytes(row["id"]))


def send(site: Site, token: str) -> Flight:
    """A request that adds one, and stops nowhere."""
    return site.request(add("n"), token).start().finish()


def test_without_a_quorum_nothing_is_stored_and_the_pools_recover_after_it(
    cluster: Cluster, places: Places, trials: Trials
) -> None:
    survivor, *others = cluster.nodes
    sites, bystanders = ([places(way)[0].serve(3) for way in WAYS] for _ in range(2))
    tokens = [started(cluster, site, n=0) for site in sites]
    # each holds the lock of its session's row
    waiting = [
        site.request(add("n"), token).load().save()
        for site, token in zip(sites, tokens, strict=True)
    ]
    for node in others:
        node.kill()
    for flight in waiting:
        assert number_of(flight.finish().error) in cluster.cut_off
    with survivor.connect() as connection:
        for _ in trials.times(5):
            for site, token in zip(sites, tokens, strict=True):
                assert number_of(send(site, token).error) in cluster.cut_off
            # what pool_pre_ping asks is answered as if nothing was wrong
            connection.ping(reconnect=False)
    cluster.restore_quorum()
    wrong = 0
    for site, bystander, token in zip(sites, bystanders, tokens, strict=True):
        # neither a lock that nobody releases, nor a connection that is of no use
        assert send(bystander, token).ok
        assert send(site, token).ok
        wrong += site.data(token) != {"n": 2}
    count, fault = 2 * len(trials.times(6)), "two of three nodes killed, quorum lost"
    trials.record(fault, "nothing is stored, the pools recover", cluster.title, count, lost=wrong)


def test_a_node_woken_from_a_pause_brings_no_ended_session_back(
    cluster: Cluster, places: Places, trials: Trials
) -> None:
    """It takes itself for a member of the cluster until it hears otherwise."""
    sites = {way: [place.serve(3) for place in places(way, patient=True)] for way in WAYS}
    revived = 0
    for _ in trials.times(1):
        tokens = {way: started(cluster, sites[way][0], n=0) for way in WAYS}
        for way in WAYS:
            sites[way][2].visit(add("n"), tokens[way])
        node = cluster.nodes[2]
        os.kill(node.pid, signal.SIGSTOP)
        try:
            for way in WAYS:
                sites[way][0].visit(lambda session: session.invalidate(), tokens[way])
        finally:
            os.kill(node.pid, signal.SIGCONT)
        for way in WAYS:
            flights = [sites[way][2].request(dict, tokens[way]).start().finish()]
            while not flights[-1].ok:
                assert number_of(flights[-1].error) in cluster.woken, flights[-1].error
                flights.append(sites[way][2].request(dict, tokens[way]).start().finish())
            revived += flights[-1].result != {}
    fault = f"a node woken from a pause, {cluster.waiting}"
    count = len(WAYS) * len(trials.times(1))
    trials.record(fault, "what was ended stays ended", cluster.title, count, lost=revived)
