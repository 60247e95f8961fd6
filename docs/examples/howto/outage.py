"""Show visitors a page while the database is down."""

from pyramid.config import Configurator
from pyramid.response import Response
from pyramid_retry import is_error_retryable
from sqlalchemy.exc import OperationalError


def away_tween_factory(handler, registry):
    """A tween over pyramid_tm's, so that it also sees errors of COMMIT."""

    def tween(request):
        try:
            return handler(request)
        except OperationalError as error:
            if is_error_retryable(request, error):
                raise  # a conflict: pyramid_retry runs the request again
            page = Response("We will be back in a moment. Nothing was stored.\n", status=503)
            page.headers["Retry-After"] = "5"
            return page

    return tween


def show(request):
    return {"visits": request.session.get("visits", 0)}


def count(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return {"visits": request.session["visits"]}


def alive(request):
    """For the load balancer; needs no database."""
    return Response("alive\n")


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_retry")
        config.include("pyramid_sqlsession")
        config.add_tween("outage.away_tween_factory", over="pyramid_tm.tm_tween_factory")
        config.add_route("home", "/")
        config.add_view(show, route_name="home", request_method="GET", renderer="json")
        config.add_view(count, route_name="home", request_method="POST", renderer="json")
        config.add_route("alive", "/alive")
        config.add_view(alive, route_name="alive")
    return config.make_wsgi_app()
