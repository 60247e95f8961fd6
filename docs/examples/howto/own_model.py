"""Sessions in the application's own model: a foreign key, other columns, and JSON data."""

from typing import Any

import zope.sqlalchemy
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.security import remember
from sqlalchemy import JSON, BigInteger, ForeignKey, String, engine_from_config, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)


class Session(SessionMixin, Base):
    __tablename__ = "web_sessions"

    # deleting a user deletes the user's sessions
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    # the mixin's columns under other names
    created: Mapped[int] = mapped_column("started_at", BigInteger, nullable=False)
    last_seen: Mapped[int] = mapped_column("seen_at", BigInteger, nullable=False)
    # data that SQL can query
    data: Mapped[dict[str, Any]] = mapped_column(
        JSON().with_variant(JSONB(), "postgresql"), nullable=False
    )
    # additional columns
    address: Mapped[str | None] = mapped_column(String(45))
    agent: Mapped[str | None] = mapped_column(String(200))


def where_from(request, session):
    """Fill the additional columns: sqlsession.extra_columns."""
    return {"address": request.client_addr, "agent": (request.user_agent or "")[:200]}


class SecurityPolicy:
    """Users are identified by their primary key."""

    helper = SessionAuthenticationHelper()

    def authenticated_userid(self, request):
        return self.helper.authenticated_userid(request)

    def remember(self, request, userid, **kw):
        return self.helper.remember(request, userid, **kw)


def sign_in(request):
    # checking the password is left out here
    user = request.dbsession.scalars(select(User).where(User.name == request.POST["name"])).one()
    request.response.headers.extend(remember(request, user.id))
    return {}


def add(request):
    request.session.setdefault("cart", []).append(request.POST["product"])
    return {}


def show(request):
    return {"user": request.authenticated_userid, "cart": request.session.get("cart", [])}


def close_account(request):
    user = request.dbsession.get(User, int(request.POST["user"]))
    request.dbsession.delete(user)
    return {}


def first_products(request):
    """How often each product comes first in a cart."""
    first = Session.data["cart"][0].as_string()
    counted = select(first, func.count()).where(first.is_not(None)).group_by(first)
    return dict(request.dbsession.execute(counted).all())


def main(global_config, **settings):
    engine = engine_from_config(settings)
    Base.metadata.create_all(engine)  # a real application leaves this to Alembic
    make_session = sessionmaker(engine)

    def dbsession(request):
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    with Configurator(settings=settings, security_policy=SecurityPolicy()) as config:
        config.registry["dbsession_factory"] = make_session
        config.add_request_method(dbsession, reify=True)
        config.include("pyramid_sqlsession")
        for view in (sign_in, add, show, close_account, first_products):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
    return config.make_wsgi_app()
