"""The shop's tables, and the database session of a request."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.request import Request
from sqlalchemy import Engine, ForeignKey, MetaData, String, engine_from_config, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker
from sqlalchemy.orm import Session as DBSession
from transaction import TransactionManager

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    """The metadata of all tables of the shop, sessions included."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Product(Base):
    """Something to buy."""

    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    description: Mapped[str] = mapped_column(String(200))
    picture: Mapped[str] = mapped_column(String(20))
    #: in cents
    price: Mapped[int]


class Order(Base):
    """Some pieces of one product that somebody has ordered."""

    __tablename__ = "order"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str | None] = mapped_column(String(40), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    quantity: Mapped[int]
    #: in cents, for all pieces
    price: Mapped[int]
    created: Mapped[datetime] = mapped_column(default=lambda: datetime.now(timezone.utc))

    product: Mapped[Product] = relationship(lazy="joined")


class Session(SessionMixin, Base):
    """The visitors' sessions: one table among the others, with a column of the shop's own."""

    agent: Mapped[str | None] = mapped_column(String(200))


def where_from(request: Request, _session: Any) -> dict[str, Any]:
    """Return what goes into the shop's own column whenever the row is written."""
    return {"agent": (request.user_agent or "")[:200]}


PRODUCTS = [
    ("Country bread", "Sourdough, baked at five this morning.", "bread", 480),
    ("Meadow honey", "From the hives behind the church.", "honey", 750),
    ("Red apples", "A kilogram, picked by hand.", "apple", 320),
    ("Mountain cheese", "Half a pound, nine months old.", "cheese", 690),
    ("Breakfast tea", "Strong enough for two cups.", "tea", 550),
    ("Fresh milk", "A litre in a bottle we take back.", "milk", 210),
]


def create_tables(engine: Engine) -> None:
    """Make the tables, and put the products on the shelves.

    This lets the demo start with one command. A real application leaves it to Alembic: its tables
    outlive many versions of the code, and ``create_all`` never changes one that is already there.
    The table of sessions takes part like every other: its model is one of the application's.
    """
    Base.metadata.create_all(engine)
    with DBSession(engine) as dbsession, dbsession.begin():
        if dbsession.scalar(select(Product.id).limit(1)) is None:
            for name, description, picture, price in PRODUCTS:
                dbsession.add(
                    Product(name=name, description=description, picture=picture, price=price)
                )


def get_tm_session(
    session_factory: sessionmaker[DBSession],
    transaction_manager: TransactionManager,
    request: Request | None = None,
) -> DBSession:
    """Return a database session that takes part in the transactions of a transaction manager."""
    dbsession = session_factory(info={"request": request})
    zope.sqlalchemy.register(dbsession, transaction_manager=transaction_manager)
    return dbsession


def includeme(config: Configurator) -> None:
    """Give every request a transaction and a ``request.dbsession`` in it."""
    config.include("pyramid_tm")
    config.include("pyramid_retry")

    engine = engine_from_config(config.get_settings(), "sqlalchemy.")
    create_tables(engine)
    session_factory = sessionmaker(bind=engine)
    config.registry["dbsession_factory"] = session_factory

    def dbsession(request: Request) -> Any:
        # the tests of an application put a session of their own here
        given = request.environ.get("app.dbsession")
        return given or get_tm_session(session_factory, request.tm, request)

    config.add_request_method(dbsession, reify=True)
