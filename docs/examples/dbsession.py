"""An application with a database session of its own: orders and sessions are one transaction."""

import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPConflict
from sqlalchemy import String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from waitress import serve

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str] = mapped_column(String(40))


class Session(SessionMixin, Base):
    """The sessions: one table among the application's."""


def show(request):
    orders = request.dbsession.scalar(select(func.count()).select_from(Order))
    return {"ordered by you": request.session.get("ordered", []), "orders": orders}


def order(request):
    product = request.POST["product"]
    request.dbsession.add(Order(product=product))
    request.session.setdefault("ordered", []).append(product)
    if product == "moon":
        raise HTTPConflict("Sold out.")
    return {"ordered": product}


def main(global_config, **settings):
    engine = create_engine(settings["sqlalchemy.url"])
    Base.metadata.create_all(engine)  # a real application leaves this to Alembic
    make_session = sessionmaker(engine)

    def dbsession(request):
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    with Configurator(settings=settings) as config:
        config.add_request_method(dbsession, reify=True)
        config.include("pyramid_sqlsession")
        config.add_route("orders", "/")
        config.add_view(show, route_name="orders", request_method="GET", renderer="json")
        config.add_view(order, route_name="orders", request_method="POST", renderer="json")
    return config.make_wsgi_app()


if __name__ == "__main__":
    settings = {
        "tm.manager_hook": "pyramid_tm.explicit_manager",
        "sqlalchemy.url": "sqlite:///orders.sqlite",
    }
    serve(main({}, **settings), listen="127.0.0.1:6543")
