from alembic import context
from pyramid.paster import get_appsettings
from sqlalchemy import engine_from_config

from myapp import models  # noqa: F401
from myapp.models.meta import Base

settings = get_appsettings(context.config.config_file_name)
engine = engine_from_config(settings, "sqlalchemy.")

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()

engine.dispose()
