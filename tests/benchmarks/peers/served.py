"""Applications for a process of their own, which imports nothing but what they need."""

from __future__ import annotations

import logging
import os
from typing import Any

from pyramid.config import Configurator

from . import names, pyramids

URL, WAY = "BENCHMARK_URL", "BENCHMARK_WAY"


def make(way: str, url: str) -> Any:
    """The application of this name, with or without sessions in this database."""
    if way == names.TRANSACTIONAL:
        return pyramids.application(pyramids.transactional())
    if way == names.OWN:
        return pyramids.application(pyramids.own_engine(url))
    config = pyramids.transactional()
    _add_dbsession(config, url)
    if way == names.SHARED:
        config.add_settings(
            {
                "sqlsession.create_table": True,
                "sqlsession.model": pyramids.MODEL,
                "sqlsession.cleanup_interval": 0,
            }
        )
        config.include("pyramid_sqlsession")
    return pyramids.application(config, {name: _asking(v) for name, v in pyramids.VIEWS.items()})


def _add_dbsession(config: Configurator, url: str) -> None:
    import zope.sqlalchemy
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    make_session = sessionmaker(create_engine(url))

    def dbsession(request: Any) -> Any:
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, reify=True)


def _asking(view: pyramids.View) -> pyramids.View:
    from sqlalchemy import literal, select

    question = select(literal(1))

    def ask_and_answer(request: Any) -> Any:
        assert request.dbsession.scalar(question) == 1
        return view(request)

    return ask_and_answer


def from_environment() -> Any:
    """The application that a web server serves."""
    # a line for each request that waits would be work too
    logging.getLogger("waitress").setLevel(logging.ERROR)
    return make(os.environ[WAY], os.environ[URL])
