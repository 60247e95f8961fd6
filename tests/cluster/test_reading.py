"""Reading on one node of a cluster what was written on another one a moment ago."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text
from support.cluster.cluster import Cluster, Places
from support.patience import wait_until
from support.races import Site, put
from support.servers import Backend, MariaDB
from support.trials import Trials

from pyramid_sqlsession.database.engine import make_engine

USER = "auth.userid"


@contextmanager
def behind(node: MariaDB) -> Iterator[None]:
    """A node that receives what the others commit, and applies it only when the block ends."""
    with node.connect() as connection, connection.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        yield
        cursor.execute("UNLOCK TABLES")


def is_waiting(node: MariaDB, site: Site) -> bool:
    """Whether one of an application's queries has no answer yet."""
    name = site.engine.url.database
    query = "SELECT count(*) FROM information_schema.processlist"
    return node.execute(f"{query} WHERE db = '{name}' AND command = 'Query'") != [(0,)]


def read(session: Any) -> Any:
    return dict(session)


def end(session: Any) -> None:
    session.invalidate()


def test_a_node_that_lags_behind_does_not_know_a_new_session_unless_it_waits(
    cluster: Cluster, places: Places, way: str
) -> None:
    hasty, patient = (
        [place.serve(3) for place in places(way, patient=patient)] for patient in (False, True)
    )
    hasty[0].visit(put(USER, "anna"))
    cluster.agree()
    with behind(cluster.nodes[1]):
        token = patient[0].start(**{USER: "anna"})
        assert hasty[1].visit(read, token).result == {}
        waiting = patient[1].request(read, token).release().start()
        wait_until(lambda: is_waiting(cluster.nodes[1], patient[1]))
    assert waiting.finish().result == {USER: "anna"}


def test_a_node_that_lags_behind_shows_an_ended_session_unless_it_waits(
    cluster: Cluster, places: Places, way: str
) -> None:
    hasty, patient = (
        [place.serve(3) for place in places(way, patient=patient)] for patient in (False, True)
    )
    token = patient[0].start(**{USER: "anna"})
    cluster.agree()
    with behind(cluster.nodes[1]):
        patient[0].visit(end, token)
        assert hasty[1].visit(read, token).result == {USER: "anna"}
        waiting = patient[1].request(read, token).release().start()
        wait_until(lambda: is_waiting(cluster.nodes[1], patient[1]))
    assert waiting.finish().result == {}


def test_a_node_that_waits_misses_nothing(
    cluster: Cluster, places: Places, way: str, trials: Trials
) -> None:
    sites = [place.serve(3) for place in places(way, patient=True)]
    missed = revived = 0
    for number in trials.times(50):
        here, there = sites[number % 3], sites[(number + 1) % 3]
        token = here.start(**{USER: "anna"})
        missed += there.visit(read, token).result == {}
        here.visit(end, token)
        revived += there.visit(read, token).result != {}
    count = len(trials.times(50))
    fault = f"signed in on one node, seen on another, {cluster.waiting}"
    trials.record(fault, "the user is signed in", cluster.title, count, lost=missed)
    fault = f"signed out on one node, seen on another, {cluster.waiting}"
    trials.record(fault, "the user is signed out", cluster.title, count, lost=revived)


@pytest.mark.parametrize("driver", ["mysql+pymysql", "mysql+mysqldb"])
def test_the_settings_of_the_page_have_a_node_wait(cluster: Cluster, driver: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / cluster.page).read_text("utf-8")
    (block,) = re.findall(r"code-block:: ini\n\n((?:   .*\n)+)", page)
    parser = ConfigParser()
    parser.read_string(f"[app:main]\n{block}")
    written = make_url(parser["app:main"]["sqlsession.sqlalchemy.url"])
    node = cluster.nodes[0]
    here = make_url(Backend(node.name, node.url("mysql"), node).with_driver(driver))
    engine, _ = make_engine({"url": here.update_query_dict(written.query)})
    variable, value = cluster.waiting.split("=")
    with engine.connect() as connection:
        assert str(connection.scalar(text(f"SELECT @@{variable}"))) == value
