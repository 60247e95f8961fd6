"""An application without a database session: the store makes an engine, a model and the table."""

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
    settings = {
        "sqlsession.sqlalchemy.url": "sqlite:///sessions.sqlite",
        "sqlsession.sqlalchemy.pool_size": "10",
    }
    serve(main({}, **settings), listen="127.0.0.1:6543")
