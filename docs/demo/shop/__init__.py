"""A corner shop: the application that the documentation walks through.

It is laid out as the official Pyramid cookiecutter with SQLAlchemy lays one out. Its sessions are
rows of its own database, and each of them is written in the transaction of the request it served.
"""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.csrf import SessionCSRFStoragePolicy
from pyramid.router import Router

from .security import ShopSecurityPolicy

__all__ = ["main"]


def main(_global_config: dict[str, Any], **settings: Any) -> Router:
    """Return the WSGI application; the ini file names this function."""
    with Configurator(settings=settings) as config:
        config.include("pyramid_jinja2")
        config.include(".models")
        config.include("pyramid_sqlsession")
        config.include(".routes")
        config.set_security_policy(ShopSecurityPolicy())
        config.set_csrf_storage_policy(SessionCSRFStoragePolicy())
        config.set_default_csrf_options(require_csrf=True)
        config.scan()
    return config.make_wsgi_app()
