"""Other frameworks with their own sessions in the same database, and without."""

from __future__ import annotations

from typing import Any

import django
import flask
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import HttpResponse
from django.urls import path
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.engine import make_url

from .contender import NOTHING, Wsgi
from .pyramids import SECRET


def flask_apps(url: str) -> tuple[Wsgi, Wsgi]:
    """Flask without sessions, and with Flask-Session."""
    return _flask(url, sessions=False), _flask(url, sessions=True)


def _flask(url: str, *, sessions: bool) -> Wsgi:
    app = flask.Flask("bench")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    database = SQLAlchemy(app)

    @app.get("/unused")
    def unused() -> bytes:
        return NOTHING

    @app.get("/read")
    def read() -> str:
        return str(flask.session["mark"])

    @app.get("/write")
    def write() -> str:
        mark = flask.session["mark"] = flask.request.environ["bench.mark"]
        return str(mark)

    @app.get("/new")
    def new() -> str:
        flask.session.update(flask.request.environ["bench.payload"])
        return str(flask.request.environ["bench.mark"])

    if sessions:
        app.config.update(
            SESSION_TYPE="sqlalchemy",
            SESSION_SQLALCHEMY=database,
            # else every request writes
            SESSION_REFRESH_EACH_REQUEST=False,
        )
        Session(app)
    return app


def django_apps(url: str) -> tuple[Wsgi, Wsgi]:
    """Django without sessions, and with those in its database."""
    place = make_url(url)
    settings.configure(
        ALLOWED_HOSTS=["localhost"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": place.host,
                "PORT": place.port,
                "NAME": place.database,
                "USER": place.username,
                "PASSWORD": place.password,
                # one connection for good, as everybody has here
                "CONN_MAX_AGE": None,
            }
        },
        INSTALLED_APPS=["django.contrib.sessions"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=SECRET,
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    without = WSGIHandler()
    # a handler reads it once
    settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
    return without, WSGIHandler()


def _unused(request: Any) -> HttpResponse:
    return HttpResponse(NOTHING)


def _read(request: Any) -> HttpResponse:
    return HttpResponse(request.session["mark"])


def _write(request: Any) -> HttpResponse:
    mark = request.session["mark"] = request.environ["bench.mark"]
    return HttpResponse(mark)


def _new(request: Any) -> HttpResponse:
    request.session.update(request.environ["bench.payload"])
    return HttpResponse(request.environ["bench.mark"])


urlpatterns = [
    path("unused", _unused),
    path("read", _read),
    path("write", _write),
    path("new", _new),
]
