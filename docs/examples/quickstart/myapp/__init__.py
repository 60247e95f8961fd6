from pyramid.config import Configurator


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include(".models")
        config.include("pyramid_sqlsession")
        config.add_route("notes", "/")
        config.scan(".views")
    return config.make_wsgi_app()
