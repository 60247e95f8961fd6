"""The application that gunicorn serves in the soak test.

What a request stores in its session under a key, it stores as a note too, where the application has
a database session.
"""

from __future__ import annotations

import os
from typing import Any

from pyramid.response import Response
from sqlalchemy import create_engine
from support.apps import Broken, Note, SessionRow, add_views, configurator, own_configurator


def application() -> Any:
    """The application, as ``DATABASE_URL`` and ``WAY`` in the environment say."""
    url, settings = os.environ["DATABASE_URL"], {"retry.attempts": "20"}
    if os.environ["WAY"] == "dbsession":
        config = configurator(create_engine(url), settings, retry=True, create=False)
    else:
        config = own_configurator(url, model=SessionRow)
        config.add_settings(settings)
        config.include("pyramid_retry")
    config.add_exception_view(apologize, context=Broken)
    views = (put, flash, pop, broken, sign_in, sign_out, pid)
    return add_views(config, **{view.__name__: view for view in views}).make_wsgi_app()


def note(request: Any) -> str:
    key = str(request.params["key"])
    if hasattr(request, "dbsession"):
        request.dbsession.add(Note(text=key))
    return key


def put(request: Any) -> Any:
    request.session[note(request)] = 1


def flash(request: Any) -> Any:
    request.session.flash(note(request))


def pop(request: Any) -> Any:
    return request.session.pop_flash()


def broken(request: Any) -> Any:
    put(request)
    raise Broken


def sign_in(request: Any) -> Any:
    request.session["auth.userid"] = request.params["key"]


def sign_out(request: Any) -> Any:
    request.session.invalidate()


def pid(request: Any) -> int:
    """The worker's, which is to be killed."""
    return os.getpid()


def apologize(error: Any, request: Any) -> Response:
    return Response("sorry", status=500)
