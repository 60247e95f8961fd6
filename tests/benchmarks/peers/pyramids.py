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
MODEL = "pyramid_sqlsession.table.model.SQLSessionRow"
EXPLICIT = {"tm.manager_hook": "pyramid_tm.explicit_manager"}
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
    return _including("pyramid_tm", EXPLICIT)


def own_engine(url: str) -> Configurator:
    """This package with an engine of its own."""
    settings = {"sqlalchemy.url": url, "model": MODEL, "cleanup_interval": 0}
    return _including("pyramid_sqlsession", EXPLICIT | _prefixed("sqlsession", settings))


def redis(url: str, **options: Any) -> Configurator:
    """pyramid_session_redis."""
    settings = {"secret": SECRET, "redis_url": url, **options}
    return _including("pyramid_session_redis", _prefixed("redis.sessions", settings))


def beaker(url: str) -> Configurator:
    """pyramid_beaker, which keeps sessions in a database."""
    settings = {"type": "ext:database", "url": url, "secret": SECRET, "save_accessed_time": "false"}
    return _including("pyramid_beaker", _prefixed("session", settings))


def _including(package: str, settings: dict[str, Any]) -> Configurator:
    config = Configurator(settings=settings)
    config.include(package)
    return config


def _prefixed(prefix: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in settings.items()}


def signed_cookie() -> Configurator:
    """Pyramid's own session, which lives in the cookie."""
    factory = SignedCookieSessionFactory(SECRET, serializer=JSONSerializer(), reissue_time=300)
    return Configurator(session_factory=factory)
