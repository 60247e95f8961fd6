"""No database at all: sessions that live as long as the process."""

from pyramid.config import Configurator
from waitress import serve


def count(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return {"visits": request.session["visits"]}


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_sqlsession")
        config.add_route("home", "/")
        config.add_view(count, route_name="home", renderer="json")
    return config.make_wsgi_app()


if __name__ == "__main__":
    serve(main({}, **{"sqlsession.fallback_memory": "true"}), listen="127.0.0.1:6543")
