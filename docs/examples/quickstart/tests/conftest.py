import pytest
import transaction
import webtest
import zope.sqlalchemy
from pyramid.paster import get_appsettings
from sqlalchemy import engine_from_config

from myapp import main
from myapp.models.meta import Base


@pytest.fixture(scope="session")
def app():
    settings = get_appsettings("development.ini")
    engine = engine_from_config(settings, "sqlalchemy.")
    Base.metadata.create_all(engine)
    yield main({}, dbengine=engine, **settings)
    engine.dispose()


@pytest.fixture
def tm():
    tm = transaction.TransactionManager(explicit=True)
    tm.begin()
    tm.doom()
    yield tm
    tm.abort()


@pytest.fixture
def dbsession(app, tm):
    session = app.registry["dbsession_factory"]()
    zope.sqlalchemy.register(session, transaction_manager=tm)
    return session


@pytest.fixture
def testapp(app, tm, dbsession):
    environ = {"tm.active": True, "tm.manager": tm, "app.dbsession": dbsession}
    return webtest.TestApp(app, extra_environ=environ)
