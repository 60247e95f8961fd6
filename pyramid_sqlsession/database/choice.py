"""Which database the settings and the application choose."""

from __future__ import annotations

import logging
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import IRequestExtensions, IRequestFactory
from pyramid.request import Request

from ..exceptions import see
from ..settings.options import Settings
from ..table.rows import Rows
from .application import AppDatabase
from .base import Database
from .engine import memory_url
from .own import OwnDatabase

log = logging.getLogger("pyramid_sqlsession")

_FOUR_WAYS = """pyramid_sqlsession has no database to store sessions in. Do one of these:
  * add a SQLAlchemy session to requests as request.dbsession, as Pyramid's cookiecutter does
  * set sqlsession.dbsession = NAME if that request attribute has another name
  * set sqlsession.sqlalchemy.url = URL for an engine of its own{url}
  * set sqlsession.fallback_memory = true for development"""


def choose_database(settings: Settings, registry: Any, model: Any, rows: Rows) -> Database:
    """The database to keep sessions in.

    :param registry: the application's, whose requests may have a database session.
    :raises ConfigurationError: if there is no way to one; the message lists them.
    """
    if settings.sqlalchemy:
        create = settings.create_table is not False
        if _requests_have(registry, "dbsession"):
            log.warning(
                "sqlsession.sqlalchemy.url bypasses request.dbsession: sessions are stored through "
                "another engine, not in the application's transactions. Remove the setting to "
                "store both in one transaction"
            )
        return OwnDatabase(settings.sqlalchemy, rows, create=create)
    attribute = settings.dbsession or "dbsession"
    if settings.dbsession or _requests_have(registry, attribute):
        create = bool(settings.create_table)
        return AppDatabase(attribute, model, rows, create=create)
    if settings.fallback_memory:
        log.warning(
            "sqlsession.fallback_memory = true: all sessions are lost when this process ends"
        )
        return OwnDatabase({"url": memory_url()}, rows, create=True)
    has_url = "sqlalchemy.url" in (registry.settings or {})
    url = " (here: sqlsession.sqlalchemy.url = %(sqlalchemy.url)s)" if has_url else ""
    raise ConfigurationError(f"{_FOUR_WAYS.format(url=url)}\n{see('trouble-start')}")


def _requests_have(registry: Any, attribute: str) -> bool:
    extensions = registry.queryUtility(IRequestExtensions)
    if extensions is not None and attribute in {*extensions.descriptors, *extensions.methods}:
        return True
    return hasattr(registry.queryUtility(IRequestFactory, default=Request), attribute)
