"""A group one of whose members takes writes, the primary, and what only such a group allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from support.apps import Base, own_configurator, serve, show, users_and_sessions
from support.cluster.cluster import Cluster, number_of
from support.cluster.group import group
from support.faults.proxy import proxied
from support.places import Place
from support.races import add
from support.trials import Trials

only_groups = pytest.mark.parametrize("cluster", [group], indirect=True)


@contextmanager
def single_primary(cluster: Cluster) -> Iterator[None]:
    """Let the first node be the only one that takes writes."""
    first, switch = cluster.nodes[0], "SELECT group_replication_switch_to_"
    first.execute(f"{switch}single_primary_mode(@@server_uuid)")
    try:
        yield
    finally:
        first.execute(f"{switch}multi_primary_mode()")


def change_over(cluster: Cluster, number: int) -> None:
    """Let another node be the primary."""
    ((uuid,),) = cluster.nodes[number].execute("SELECT @@server_uuid")
    cluster.nodes[number].execute(f"SELECT group_replication_set_as_primary('{uuid}')")


@only_groups
def test_an_engine_of_its_own_follows_a_switchover_that_keeps_its_connections(
    cluster: Cluster, trials: Trials
) -> None:
    failed = sent = 0
    with cluster.database() as urls, single_primary(cluster):
        first = cluster.nodes[0]
        with proxied(first.host, first.port) as proxy:
            engine = create_engine(proxy.url(urls[0]))
            Base.metadata.create_all(engine)
            place = Place("proxy", engine, own=True)
            site = place.serve()
            token = site.start(n=0)
            for number, _ in enumerate(trials.times(2)):
                primary = cluster.nodes[1 - number % 2]
                change_over(cluster, 1 - number % 2)
                cluster.agree()
                proxy.target = (primary.host, primary.port)
                flights = [site.request(add("n"), token).start().finish() for _ in range(5)]
                errors = [number_of(flight.error) for flight in flights if not flight.ok]
                assert errors in ([], [1290])
                failed, sent = failed + len(errors), sent + len(flights)
            place.engine.dispose()
            lost = sent - failed - site.data(token)["n"]
            place.start_again()
            place.engine.dispose()
    fault = "a switchover behind something that keeps connections"
    trials.record(
        fault, "one request fails at most", cluster.title, len(trials.times(2)), lost=lost
    )


@only_groups
def test_a_foreign_key_that_cascades_is_for_groups_with_one_primary(
    cluster: Cluster, base: Any
) -> None:
    _, session_model = users_and_sessions(base)

    def put(request: Any) -> Any:
        request.session["n"] = 1
        return {}

    with cluster.database() as urls:
        engine = create_engine(urls[0])
        base.metadata.create_all(engine)
        app = serve(own_configurator(urls[0], model=session_model), put=put, show=show)
        with pytest.raises(DBAPIError) as caught:
            app.get("/put")
        assert number_of(caught.value) == 3098
        with single_primary(cluster):
            app.get("/put")
            assert app.get("/show").json == {"n": 1}
        engine.dispose()
