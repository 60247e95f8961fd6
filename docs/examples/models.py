"""Session models of an application's own. One application uses one of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, String, Text, func
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pyramid_sqlsession import SessionMixin


class Base(DeclarativeBase):
    pass


class Session(SessionMixin, Base):
    __tablename__ = "web_session"

    note: Mapped[str | None] = mapped_column(String(80))
    written: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class RenamedSession(SessionMixin, Base):
    __tablename__ = "renamed_session"

    created: Mapped[int] = mapped_column("started", BigInteger, nullable=False)
    purge_after: Mapped[int] = mapped_column("expires", BigInteger, nullable=False, index=True)


class SchemaSession(SessionMixin, Base):
    __table_args__ = {"schema": "web"}


class TextSession(SessionMixin, Base):
    __tablename__ = "text_session"

    # MySQL's TEXT ends at 64 KiB
    data: Mapped[str] = mapped_column(
        Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb"), nullable=False
    )


class JSONSession(SessionMixin, Base):
    __tablename__ = "json_session"

    data: Mapped[dict[str, Any]] = mapped_column(
        JSON().with_variant(JSONB(), "postgresql"), nullable=False
    )
