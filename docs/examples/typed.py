"""An application that passes mypy --strict and pyright."""

from typing import Any

import pyramid.request
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pyramid_sqlsession import SessionMixin, SQLSession, SQLSessionFactory, SQLSessions


class Base(DeclarativeBase):
    pass


class WebSession(SessionMixin, Base):
    __tablename__ = "web_session"

    agent: Mapped[str | None] = mapped_column(String(200))


class Request(pyramid.request.Request):  # type: ignore[misc]
    session: SQLSession  # pyright: ignore[reportIncompatibleVariableOverride]
    sqlsessions: SQLSessions


def add(request: Request) -> HTTPSeeOther:
    cart: list[str] = request.session.setdefault("cart", [])
    cart.append(request.params["product"])
    return HTTPSeeOther(request.route_path("devices"))


def devices(request: Request) -> dict[str, Any]:
    sessions = request.sqlsessions.of_user(request.authenticated_userid)
    return {"seen": [session.last_seen.isoformat() for session in sessions]}


def columns(request: Request, session: SQLSession) -> dict[str, Any]:
    return {"agent": (request.user_agent or "")[:200]}


def main(global_config: Any, **settings: Any) -> Any:
    with Configurator(settings=settings) as config:
        config.include("pyramid_sqlsession")
        factory = SQLSessionFactory(
            ttl="12h",
            model=WebSession,
            extra_columns=columns,
            sqlalchemy={"url": "sqlite:///sessions.sqlite"},
        )
        config.set_session_factory(factory)
        config.add_route("add", "/add")
        config.add_view(add, route_name="add", request_method="POST")
        config.add_route("devices", "/devices")
        config.add_view(devices, route_name="devices", renderer="json")
        return config.make_wsgi_app()
