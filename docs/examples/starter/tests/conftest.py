import alembic.command
import alembic.config
import pytest
import transaction
import webtest
from pyramid.paster import get_appsettings

from myapp import main, models
from myapp.models.meta import Base

INI = "testing.ini"


@pytest.fixture(scope="session")
def app_settings():
    return get_appsettings(INI)


@pytest.fixture(scope="session")
def dbengine(app_settings):
    engine = models.get_engine(app_settings)
    migrations = alembic.config.Config(INI)
    Base.metadata.drop_all(bind=engine)
    alembic.command.stamp(migrations, None, purge=True)
    alembic.command.upgrade(migrations, "head")
    yield engine
    Base.metadata.drop_all(bind=engine)
    alembic.command.stamp(migrations, None, purge=True)
    engine.dispose()


@pytest.fixture(scope="session")
def app(app_settings, dbengine):
    return main({}, dbengine=dbengine, **app_settings)


@pytest.fixture
def tm():
    tm = transaction.TransactionManager(explicit=True)
    tm.begin()
    tm.doom()
    yield tm
    tm.abort()


@pytest.fixture
def dbsession(app, tm):
    return models.get_tm_session(app.registry["dbsession_factory"], tm)


@pytest.fixture
def testapp(app, tm, dbsession):
    environ = {
        "HTTP_HOST": "example.com",
        "tm.active": True,
        "tm.manager": tm,
        "app.dbsession": dbsession,
    }
    return webtest.TestApp(app, extra_environ=environ)
