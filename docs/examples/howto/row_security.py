"""Tell PostgreSQL who is signed in, for row-level security."""

import zope.sqlalchemy
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.security import remember
from sqlalchemy import String, engine_from_config, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    pass


class Session(SessionMixin, Base):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    text: Mapped[str] = mapped_column(String(200))


class SecurityPolicy:
    helper = SessionAuthenticationHelper()

    def authenticated_userid(self, request):
        return self.helper.authenticated_userid(request)

    def remember(self, request, userid, **kw):
        return self.helper.remember(request, userid, **kw)


def user_tween_factory(handler, registry):
    """A tween under pyramid_tm's, in the request's transaction."""

    def tween(request):
        # this reads the session, and usually begins the transaction
        user = request.authenticated_userid
        if user is not None:
            request.dbsession.execute(select(func.set_config("shop.user", user, True)))
        return handler(request)

    return tween


def limit_statements(dbsession, transaction, connection):
    connection.exec_driver_sql("SET LOCAL statement_timeout = '5s'")


def sign_in(request):
    request.response.headers.extend(remember(request, request.POST["name"]))
    return {}


def add(request):
    request.dbsession.add(Note(owner=request.POST["owner"], text=request.POST["text"]))
    return {}


def notes(request):
    return request.dbsession.scalars(select(Note.text)).all()


def main(global_config, **settings):
    make_session = sessionmaker(engine_from_config(settings))
    event.listen(make_session, "after_begin", limit_statements)

    def dbsession(request):
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    with Configurator(settings=settings, security_policy=SecurityPolicy()) as config:
        config.registry["dbsession_factory"] = make_session
        config.add_request_method(dbsession, reify=True)
        config.include("pyramid_sqlsession")
        config.add_tween("row_security.user_tween_factory", under="pyramid_tm.tm_tween_factory")
        for view in (sign_in, add, notes):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
    return config.make_wsgi_app()
