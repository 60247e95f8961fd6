"""The application under test."""

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther


def show(request):
    return {"cart": request.session.get("cart", []), "messages": request.session.pop_flash()}


def add(request):
    request.session.setdefault("cart", []).append(request.POST["product"])
    request.session.flash("It is in your cart.")
    return HTTPSeeOther(request.route_path("cart"))


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_sqlsession")
        config.add_route("cart", "/")
        config.add_view(show, route_name="cart", request_method="GET", renderer="json")
        config.add_view(add, route_name="cart", request_method="POST")
    return config.make_wsgi_app()
