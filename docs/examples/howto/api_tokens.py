"""An API with tokens beside pages with sessions."""

import hashlib

import zope.sqlalchemy
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.csrf import get_csrf_token
from pyramid.httpexceptions import HTTPForbidden, HTTPSeeOther
from pyramid.security import remember
from sqlalchemy import LargeBinary, String, engine_from_config, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    pass


class Session(SessionMixin, Base):
    pass


class Token(Base):
    """An API token, stored as a hash."""

    __tablename__ = "tokens"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    user: Mapped[str] = mapped_column(String(40))


class SecurityPolicy:
    """A request with an Authorization header never uses the session."""

    helper = SessionAuthenticationHelper()

    def authenticated_userid(self, request):
        if request.authorization is None:
            return self.helper.authenticated_userid(request)
        scheme, token = request.authorization
        if scheme.lower() != "bearer" or not isinstance(token, str):
            return None
        digest = hashlib.sha256(token.encode()).digest()
        return request.dbsession.scalar(select(Token.user).where(Token.hash == digest))

    def remember(self, request, userid, **kw):
        return self.helper.remember(request, userid, **kw)


def needs_csrf_token(request):
    """Other sites can't make a browser send an Authorization header of their choice."""
    return request.authorization is None


def order(request):
    """For forms and for API clients."""
    if request.authenticated_userid is None:
        raise HTTPForbidden
    return {"ordered by": request.authenticated_userid}


def form(request):
    return {"csrf_token": get_csrf_token(request)}


def sign_in(request):
    headers = remember(request, request.POST["name"])  # the password is left out here
    return HTTPSeeOther("/form", headers=headers)


def main(global_config, **settings):
    engine = engine_from_config(settings)
    Base.metadata.create_all(engine)  # a real application leaves this to Alembic
    make_session = sessionmaker(engine)

    def dbsession(request):
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    with Configurator(settings=settings, security_policy=SecurityPolicy()) as config:
        config.add_request_method(dbsession, reify=True)
        config.include("pyramid_sqlsession")
        config.set_default_csrf_options(require_csrf=True, callback=needs_csrf_token)
        for view, method in ((order, "POST"), (form, "GET"), (sign_in, "POST")):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, request_method=method, renderer="json")
    return config.make_wsgi_app()
