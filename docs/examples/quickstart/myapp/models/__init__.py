import zope.sqlalchemy
from sqlalchemy import engine_from_config
from sqlalchemy.orm import sessionmaker

from .note import Note  # noqa: F401
from .session import Session  # noqa: F401


def includeme(config):
    settings = config.get_settings()
    settings["tm.manager_hook"] = "pyramid_tm.explicit_manager"
    config.include("pyramid_tm")
    config.include("pyramid_retry")

    engine = settings.get("dbengine") or engine_from_config(settings, "sqlalchemy.")
    make_session = config.registry["dbsession_factory"] = sessionmaker(engine)

    def dbsession(request):
        session = request.environ.get("app.dbsession")
        if session is None:
            session = make_session()
            zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, reify=True)
