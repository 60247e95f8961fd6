"""A visitor's cart in the session, merged into the user's at the sign-in."""

import zope.sqlalchemy
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import forget, remember
from sqlalchemy import String, engine_from_config, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    pass


class Session(SessionMixin, Base):
    pass


class Item(Base):
    """An item in a user's cart."""

    __tablename__ = "items"

    user: Mapped[str] = mapped_column(String(40), primary_key=True)
    product: Mapped[str] = mapped_column(String(40), primary_key=True)
    quantity: Mapped[int]


class SecurityPolicy:
    helper = SessionAuthenticationHelper()

    def authenticated_userid(self, request):
        return self.helper.authenticated_userid(request)

    def remember(self, request, userid, **kw):
        return self.helper.remember(request, userid, **kw)

    def forget(self, request, **kw):
        return self.helper.forget(request, **kw)


def put(request, user, product, quantity):
    """Add to a user's cart."""
    item = request.dbsession.get(Item, (user, product), with_for_update=True)
    if item is None:
        item = Item(user=user, product=product, quantity=0)
        request.dbsession.add(item)
    item.quantity += quantity


def add(request):
    user, product = request.authenticated_userid, request.POST["product"]
    if user is None:
        cart = request.session.setdefault("cart", {})
        cart[product] = cart.get(product, 0) + 1
    else:
        put(request, user, product, 1)
    return HTTPSeeOther("/cart")


def sign_in(request):
    user = request.POST["name"]  # the password is left out here
    headers = remember(request, user)
    for product, quantity in request.session.get("cart", {}).items():
        put(request, user, product, quantity)
    request.session["cart"] = {}
    return HTTPSeeOther("/cart", headers=headers)


def sign_out(request):
    return HTTPSeeOther("/cart", headers=forget(request))


def cart(request):
    user = request.authenticated_userid
    if user is None:
        return request.session.get("cart", {})
    items = select(Item.product, Item.quantity).where(Item.user == user)
    return dict(request.dbsession.execute(items).all())


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
        config.include("pyramid_retry")
        config.include("pyramid_sqlsession")
        for view in (add, sign_in, sign_out, cart):
            config.add_route(view.__name__, f"/{view.__name__}")
            method = "GET" if view is cart else "POST"
            config.add_view(view, route_name=view.__name__, request_method=method, renderer="json")
    return config.make_wsgi_app()
