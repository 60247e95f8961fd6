"""Making the session table on a node of a cluster."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, inspect
from support.apps import own_configurator, put, serve, show
from support.cluster.cluster import Cluster

from pyramid_sqlsession import SessionTableError


def test_a_table_that_every_application_makes_at_its_start_ends_no_group(cluster: Cluster) -> None:
    with cluster.database() as urls:
        for url in urls:
            app = serve(own_configurator(url), put=put, show=show)
            if cluster.shares_creations:
                app.get("/put")
                assert app.get("/show").json == {"cart": [1]}
                cluster.agree()
                continue
            with pytest.raises(SessionTableError, match="on one member"):
                app.get("/put")
            engine = create_engine(url)
            assert inspect(engine).get_table_names() == []
            engine.dispose()
        cluster.agree()
