"""Applications that ini files name, for the command line."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from sqlalchemy import create_engine
from support.apps import configurator


def shared(global_config: Any, **settings: Any) -> Any:
    """Sessions through the application's own database session, ``request.dbsession``."""
    engine = create_engine(settings["sqlalchemy.url"])
    return configurator(engine, settings, create=False).make_wsgi_app()


def own(global_config: Any, **settings: Any) -> Any:
    """Sessions through an engine of its own, or what else the settings say."""
    config = Configurator(settings=settings)
    config.include("pyramid_sqlsession")
    return config.make_wsgi_app()


def foreign(global_config: Any, **settings: Any) -> Any:
    """No sessions of ours."""
    return Configurator(settings=settings).make_wsgi_app()


def by_prefix(loader: Any, global_config: Any, **prefixes: str) -> Any:
    """Several applications behind one, as Paste's urlmap has them."""
    served = {prefix: loader.get_app(name, global_conf=global_config)
              for prefix, name in prefixes.items()}  # fmt: skip
    return lambda environ, start_response: served["/"](environ, start_response)
