"""Move the sessions of pyramid_sqlalchemy_sessions, whose own code no longer runs."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from time import time
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    JSON,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    PickleType,
    Table,
    Uuid,
    engine_from_config,
)

from . import CSRF, OldSessions, move_from

ID = LargeBinary(16).with_variant(Uuid(), "postgresql")
# BaseMixin's columns first; leave out those of mixins that your model does not have
SESSION = Table(
    "session",
    MetaData(),
    Column("id", ID, primary_key=True),
    Column("data", PickleType),
    Column("flash", JSON),
    Column("userid", Integer),
    Column("csrf_token", LargeBinary),
    Column("idle_expire", Integer),
    Column("absolute_expire", Integer),
    Column("renewal_id", ID),
    Column("renewal_next", ID),
)


class RowSessions(OldSessions):
    """Rows of a table. A cookie is a row's id, encrypted with AES-GCM."""

    def __init__(self, engine, secret_key, userid_key="auth.userid", **attributes):
        super().__init__(None, **attributes)
        self.engine = engine
        self.cipher = AESGCM(urlsafe_b64decode(secret_key))
        self.userid_key = userid_key

    def open(self, request):
        """The row of a request's cookie; None if there is none, or it has expired."""
        try:
            sealed = urlsafe_b64decode(self.cookies(request)[-1])
            nonce, tag, text = sealed[:16], sealed[16:32], sealed[32:]
            opened = self.cipher.decrypt(nonce, text + tag, None)
        except (InvalidTag, ValueError):
            return None
        key, *renewal = (self._key(opened[at : at + 16]) for at in range(0, len(opened), 16))
        with self.engine.connect() as connection:
            row = connection.execute(SESSION.select().where(SESSION.c.id == key)).one_or_none()
        if row is None or _has_expired(row):
            return None
        return row if not renewal or renewal[0] in (row.renewal_id, row.renewal_next) else None

    def read(self, row):
        """What an old session holds, under the keys of Pyramid's own sessions."""
        if row is None:
            return {}
        data = {**row.data, **{f"_f_{queue}": row.flash[queue] for queue in row.flash}}
        if row.csrf_token is not None:
            data[CSRF] = urlsafe_b64encode(row.csrf_token).decode()
        if row.userid is not None:
            data[self.userid_key] = row.userid
        return data

    def end(self, row):
        """Delete an old session's row."""
        if row is not None:
            with self.engine.begin() as connection:
                connection.execute(SESSION.delete().where(SESSION.c.id == row.id))

    def _key(self, value):
        return UUID(bytes=value) if self.engine.dialect.name == "postgresql" else value


def _has_expired(row):
    ends = [row.idle_expire, row.absolute_expire]
    return any(end is not None and time() > end for end in ends)


def includeme(config):
    settings = config.registry.settings
    engine = engine_from_config(settings, "sqlalchemy.")
    move_from(config, RowSessions(engine, settings["session.secret_key"]))
