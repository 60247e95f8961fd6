"""Reads go to a replica, writes to the primary; sessions always use the primary."""

import zope.sqlalchemy
from pyramid.config import Configurator
from sqlalchemy import String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql import Select

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String(40))


class WebSession(SessionMixin, Base):
    pass


class RoutingSession(Session):
    """Sends a SELECT to the replica, and everything else to the primary."""

    def get_bind(self, mapper=None, *, clause=None, **kw):
        is_read = isinstance(clause, Select) and not self._flushing
        return self.info["replica" if is_read else "primary"]


def order(request):
    request.dbsession.add(Order(product=request.POST["product"]))
    request.session.setdefault("ordered", []).append(request.POST["product"])
    return {}


def show(request):
    orders = request.dbsession.scalar(select(func.count()).select_from(Order))
    return {"orders": orders, "ordered by you": request.session.get("ordered", [])}


def main(global_config, **settings):
    engines = {name: create_engine(settings[f"{name}.url"]) for name in ("primary", "replica")}
    Base.metadata.create_all(engines["primary"])  # a real application leaves this to Alembic

    def dbsession(request):
        session = RoutingSession(info=engines)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    with Configurator(settings=settings) as config:
        config.add_request_method(dbsession, reify=True)
        config.include("pyramid_sqlsession")
        for view in (order, show):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
    return config.make_wsgi_app()
