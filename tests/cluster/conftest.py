"""Fixtures: clusters, one after the other, and applications each on a node of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url
from support.apps import Base
from support.cluster.cluster import WAYS, Cluster, Places
from support.cluster.galera import galera
from support.cluster.group import group
from support.places import Place


@pytest.fixture(scope="session", params=[galera, group])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes."""
    with request.param(3) as cluster:
        yield cluster


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How the applications use the database."""
    return str(request.param)


@pytest.fixture
def places(cluster: Cluster) -> Iterator[Places]:
    """Makes a place for each node, all of one new database; every place has its own pool."""
    made: list[Place] = []

    def make(way: str, *, patient: bool = False) -> list[Place]:
        init = {"init_command": cluster.waits} if patient else {}
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
