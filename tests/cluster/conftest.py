"""Fixtures: a Galera cluster for the whole run, and applications each on a node of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url
from support.apps import Base
from support.cluster.galera import WAYS, Cluster, Places, clustering
from support.places import Place


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes."""
    with clustering(3) as cluster:
        yield cluster


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How the applications use the database."""
    return str(request.param)


@pytest.fixture
def places(cluster: Cluster) -> Iterator[Places]:
    """Makes a place for each node, all of one new database; every place has its own pool."""
    made: list[Place] = []

    def make(way: str, sync_wait: int = 0) -> list[Place]:
        init = {"init_command": f"SET SESSION wsrep_sync_wait = {sync_wait}"}
        for node, url in enumerate(urls, 1):
            whole = make_url(url).update_query_dict(init)
            place = Place(f"node {node}", create_engine(whole), own=way == "own engine")
            made.append(place)
        return made[-len(urls) :]

    with cluster.database() as urls:
        engine = create_engine(urls[0])
        Base.metadata.create_all(engine)
        engine.dispose()
        cluster.agree()
        yield make
        for place in made:
            for site in place.sites:
                site.close()
            for factory in place.factories:
                factory.close()
            place.engine.dispose()
