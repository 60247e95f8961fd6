"""Views that fail, the pages that visitors see then, and what was stored and logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from sqlalchemy import Engine
from support.apps import Broken, Resource, order, refuse, rows


def fail(request: Any) -> Any:
    order(request)
    raise Broken("the view is broken")


def fail_at_vote(request: Any) -> Any:
    order(request)
    request.tm.get().join(Resource(refuse))
    return {}


def on_error(
    config: Configurator, page: Callable[[Any], Any], context: type[Exception] = Exception
) -> Configurator:
    def view(error: Any, request: Any) -> Any:
        return page(request)

    config.add_view(view, context=context, renderer="json")
    return config


def error_page(request: Any) -> Any:
    """What error pages do: render the flash messages and a form with a CSRF token."""
    session = request.session
    session.flash("sorry")
    token = session.get_csrf_token()
    return {
        "cart": session.get("cart"),
        "flash": session.pop_flash(),
        "token": session.get_csrf_token() == token and len(token) > 10,
    }


def stored(engine: Engine) -> list[Any]:
    """The data of the committed sessions."""
    return [json.loads(row["data"]) for row in rows(engine)]


def warnings(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "pyramid_sqlsession" and record.levelno >= level
    ]
