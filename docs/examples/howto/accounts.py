"""Accounts: sign-in, remember me, and logging out everywhere."""

import hashlib
import hmac
import secrets
import time

import zope.sqlalchemy
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.csrf import get_csrf_token
from pyramid.httpexceptions import HTTPForbidden, HTTPSeeOther
from pyramid.security import forget, remember
from sqlalchemy import LargeBinary, String, engine_from_config
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from pyramid_sqlsession import SessionMixin

MONTH = 30 * 86400
QUARTER_OF_AN_HOUR = 15 * 60


class Base(DeclarativeBase):
    pass


class Session(SessionMixin, Base):
    pass


class User(Base):
    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    password: Mapped[bytes] = mapped_column(LargeBinary(80))
    disabled: Mapped[bool] = mapped_column(default=False)

    def set_password(self, password):
        salt = secrets.token_bytes(16)
        self.password = salt + digest(password, salt)

    def accepts(self, password):
        salt, stored = self.password[:16], self.password[16:]
        is_right = hmac.compare_digest(stored, digest(password, salt))
        return is_right and not self.disabled


def digest(password, salt):
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


# nobody knows this password; checking it makes unknown names take as long as wrong passwords
NOBODY = User(name="", disabled=True)
NOBODY.set_password(secrets.token_hex())


class SecurityPolicy:
    """Keeps the user in ``session["auth.userid"]``, as Pyramid's helper does."""

    helper = SessionAuthenticationHelper()

    def authenticated_userid(self, request):
        return self.helper.authenticated_userid(request)

    def remember(self, request, userid, **kw):
        return self.helper.remember(request, userid, **kw)

    def forget(self, request, **kw):
        return self.helper.forget(request, **kw)


def sign_in(request):
    # lock the row: nobody can disable the user before the session is stored
    user = request.dbsession.get(User, request.POST["name"], with_for_update=True)
    if not (user or NOBODY).accepts(request.POST["password"]):
        return HTTPForbidden()
    headers = remember(request, user.name)
    request.session.max_age = MONTH if "remember_me" in request.POST else None
    return HTTPSeeOther(request.route_path("home"), headers=headers)


def sign_out(request):
    return HTTPSeeOther(request.route_path("home"), headers=forget(request))


def home(request):
    return {"user": request.authenticated_userid, "csrf_token": get_csrf_token(request)}


def change_password(request):
    name = request.authenticated_userid
    user = request.dbsession.get(User, name, with_for_update=True) if name else NOBODY
    # finding the browser open must not be enough to take over the account
    if not user.accepts(request.POST["old"]):
        return HTTPForbidden()
    user.set_password(request.POST["new"])
    # end all other sessions, in the same transaction
    request.sqlsessions.revoke_user(name, keep=request.session.id)
    # and give this one a new token
    request.session.regenerate()
    return HTTPSeeOther(request.route_path("home"))


def log_out_everywhere(request):
    request.sqlsessions.revoke_user(request.authenticated_userid)
    return HTTPSeeOther(request.route_path("home"))


def disable(request):
    """Disable an account; in a real application, only administrators may do this."""
    user = request.dbsession.get(User, request.POST["name"])
    user.disabled = True
    return {"ended": request.sqlsessions.revoke_user(user.name)}


def transfer(request):
    """Requires a recent sign-in, however long the user is remembered."""
    is_fresh = time.time() - request.session.created < QUARTER_OF_AN_HOUR
    # an anonymous session may be recent too
    if request.authenticated_userid is None or not is_fresh:
        return HTTPSeeOther(request.route_path("sign_in"))
    return {"done": True}


def main(global_config, **settings):
    engine = engine_from_config(settings)
    make_session = sessionmaker(engine)

    def dbsession(request):
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    changing = (sign_in, sign_out, change_password, log_out_everywhere, disable, transfer)
    with Configurator(settings=settings, security_policy=SecurityPolicy()) as config:
        config.registry["dbsession_factory"] = make_session
        config.add_request_method(dbsession, reify=True)
        config.include("pyramid_retry")
        config.include("pyramid_sqlsession")
        config.set_default_csrf_options(require_csrf=True)
        for view in (home, *changing):
            name, method = view.__name__, "POST" if view in changing else "GET"
            config.add_route(name, f"/{name}")
            config.add_view(view, route_name=name, request_method=method, renderer="json")
    Base.metadata.create_all(engine)  # a real application leaves this to Alembic
    return config.make_wsgi_app()
