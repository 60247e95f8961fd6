"""Orders in one database, sessions in another; requests have a database session for each."""

import zope.sqlalchemy
from pyramid.config import Configurator
from sqlalchemy import String, engine_from_config, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from pyramid_sqlsession import SessionMixin


class ShopBase(DeclarativeBase):
    """The tables of the shop's database."""


class Order(ShopBase):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String(40))


class Base(DeclarativeBase):
    """The tables of the other database."""


class Session(SessionMixin, Base):
    pass


def add_database(config, name, base):
    """Add request.NAME, a database session for the URL in the setting NAME.url."""
    engine = engine_from_config(config.get_settings(), f"{name}.")
    base.metadata.create_all(engine)  # a real application leaves this to Alembic
    make_session = sessionmaker(engine)

    def dbsession(request):
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, name, reify=True)


def order(request):
    request.shop.add(Order(product=request.POST["product"]))
    request.session.setdefault("ordered", []).append(request.POST["product"])
    return {}


def show(request):
    orders = request.shop.scalar(select(func.count()).select_from(Order))
    return {"orders": orders, "ordered by you": request.session.get("ordered", [])}


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_tm")
        config.include("pyramid_retry")
        add_database(config, "shop", ShopBase)
        if "web.url" in settings:
            add_database(config, "web", Base)
        config.include("pyramid_sqlsession")
        for view in (order, show):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
    return config.make_wsgi_app()
