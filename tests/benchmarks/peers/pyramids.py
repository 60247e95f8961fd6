"""The same Pyramid application with each way to keep a session, and with none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.session import JSONSerializer, SignedCookieSessionFactory

from .contender import NOTHING

SECRET = "a secret of the benchmark's"
# named, because a process may have another model too
MODEL = "pyramid_sqlsession.model.SQLSessionRow"
View = Callable[[Any], Any]


def nothing(request: Any) -> Response:
    """Leave the session alone."""
    return Response(NOTHING)


def read(request: Any) -> Response:
    """Read from the session."""
    return Response(request.session["mark"])


def write(request: Any) -> Response:
    """Change the session."""
    mark = request.session["mark"] = request.environ["bench.mark"]
    return Response(mark)


def new(request: Any) -> Response:
    """Fill a new session."""
    request.session.update(request.environ["bench.payload"])
    return Response(request.environ["bench.mark"])


def call(request: Any) -> Response:
    """Do what the environ says."""
    return Response(request.environ["bench.call"]())


VIEWS: dict[str, View] = {"unused": nothing, "read": read, "write": write, "new": new}


def application(config: Configurator, views: dict[str, View] = VIEWS) -> Any:
    """Serve each view at its name."""
    for name, view in views.items():
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name)
    return config.make_wsgi_app()


def plain() -> Configurator:
    """Nothing but Pyramid."""
    return Configurator()


def transactional() -> Configurator:
    """Pyramid with pyramid_tm."""
    config = Configurator(settings={"tm.manager_hook": "pyramid_tm.explicit_manager"})
    config.include("pyramid_tm")
    return config


def own_engine(url: str) -> Configurator:
    """This package with an engine of its own."""
    config = Configurator(
        settings={
            "tm.manager_hook": "pyramid_tm.explicit_manager",
            "sqlsession.sqlalchemy.url": url,
            "sqlsession.model": MODEL,
            "sqlsession.cleanup_interval": 0,
        }
    )
    config.include("pyramid_sqlsession")
    return config


def redis(url: str, **options: Any) -> Configurator:
    """pyramid_session_redis."""
    config = Configurator(
        settings={
            "redis.sessions.secret": SECRET,
            "redis.sessions.redis_url": url,
            **{f"redis.sessions.{name}": value for name, value in options.items()},
        }
    )
    config.include("pyramid_session_redis")
    return config


def beaker(url: str) -> Configurator:
    """pyramid_beaker, which keeps sessions in a database."""
    config = Configurator(
        settings={
            "session.type": "ext:database",
            "session.url": url,
            "session.secret": SECRET,
            "session.save_accessed_time": "false",
        }
    )
    config.include("pyramid_beaker")
    return config


def signed_cookie() -> Configurator:
    """Pyramid's own session, which lives in the cookie."""
    factory = SignedCookieSessionFactory(SECRET, serializer=JSONSerializer(), reissue_time=300)
    return Configurator(session_factory=factory)
