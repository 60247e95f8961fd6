"""A PostgreSQL server and its hot standby, for shops that use the one that may be written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import create_engine, make_url
from support.apps import Base
from support.servers import PostgreSQL, Standby, serving


@contextlib.contextmanager
def pair(*settings: str) -> Iterator[tuple[PostgreSQL, Standby, str]]:
    """A primary with these settings, its standby, and a URL of both: of the one that may write."""
    with serving(PostgreSQL) as primary, serving(Standby, primary) as standby:
        primary.execute(*primary.create_statements("shop"), *settings)
        url = make_url(primary.url("shop")).set(host=None, port=None)
        hosts = [f"{server.host}:{server.port}" for server in (primary, standby)]
        url = url.update_query_dict(
            {"host": hosts, "target_session_attrs": "read-write", "connect_timeout": "5"}
        )
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()
        standby.catch_up()
        yield primary, standby, url.render_as_string(hide_password=False)
