"""The model: one row a session.

An application adds the table to its own metadata, and so to its migrations, with::

    class Session(SessionMixin, Base):
        pass

It may choose another ``__tablename__`` or a schema, add columns, and declare a column again under
another name or with another type (``data`` as ``Text``, ``JSON`` or ``JSONB``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from pyramid.exceptions import ConfigurationError
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    inspect,
)
from sqlalchemy.dialects.mysql import BINARY, MEDIUMBLOB, VARCHAR
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..exceptions import see

# MySQL cannot index a BLOB, PostgreSQL and SQLite have no BINARY
ID = LargeBinary(32).with_variant(BINARY(32), "mysql", "mariadb")
"""The type of a session's id, 32 bytes."""

LINEAGE = LargeBinary(16).with_variant(BINARY(16), "mysql", "mariadb")
"""The type of a session's lineage, 16 bytes."""

# MySQL's usual collations take Alice for alice
USER = String(255).with_variant(
    VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)
"""The type of a user's id."""

# MySQL's BLOB ends at 64 KiB
DATA = LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")
"""The type of a session's data."""


class SessionMixin:
    """The columns of a session, for a declarative model of the application's own.

    A model may set ``__tablename__``, which is ``sqlsession`` by default, add columns, and declare
    a column again under another name or with another type.
    """

    if TYPE_CHECKING:
        # a plain attribute to type checkers, to which a model may assign a name
        __tablename__: Any
    else:

        @declared_attr.directive
        @classmethod
        def __tablename__(cls) -> str:
            return "sqlsession"

    id: Mapped[bytes] = mapped_column(ID, primary_key=True)
    """SHA-256 of the cookie's token."""

    lineage: Mapped[bytes] = mapped_column(LINEAGE, nullable=False, index=True)
    """Stays the same from the start of a session to its end, whatever token it has. Its hex digits
    are the public handle, :attr:`SQLSession.id`."""

    user_id: Mapped[Any] = mapped_column(USER, index=True, nullable=True)
    """Who is signed in; NULL for nobody. You may declare it again, for instance as a foreign key.
    """

    data: Mapped[Any] = mapped_column(DATA, nullable=False)
    """The serialized session, and nothing else."""

    version: Mapped[int] = mapped_column(Integer, nullable=False)
    """Raised by every write of the data: optimistic concurrency."""

    created: Mapped[int] = mapped_column(BigInteger, nullable=False)
    """When the session started, in epoch seconds."""

    last_seen: Mapped[int] = mapped_column(BigInteger, nullable=False)
    """The last recorded activity, in epoch seconds. It never moves backwards."""

    max_age: Mapped[int | None] = mapped_column(Integer)
    """The session's own lifetime in seconds, if it has one."""

    purge_after: Mapped[int] = mapped_column(BigInteger, nullable=False, index=True)
    """When an expired row may be deleted, in epoch seconds; not before it expires."""

    replaced: Mapped[int | None] = mapped_column(BigInteger)
    """When the row's token was replaced, in epoch seconds. The row is then a marker, by which late
    requests are recognized; it opens no session."""


MIXED_IN = tuple(SessionMixin.__annotations__)
"""The names of the mixin's columns."""

# they are for type checkers: of an annotation SQLAlchemy makes a field where the application's base
# is a MappedAsDataclass, and refuses one of a class that is no dataclass
SessionMixin.__annotations__ = {}


class _Base(DeclarativeBase):
    """The metadata of the model that is used where the application has none."""


# another engine may be the server's default, and lack transactions
_OPTIONS = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}


class SQLSessionRow(SessionMixin, _Base):
    """The model that is used where the application declares none."""

    __table_args__ = _OPTIONS


@cache
def built_in_model(table: str) -> type:
    """The model that is used where the application declares none, with another table."""

    class _OtherBase(DeclarativeBase):
        pass

    options = {"__tablename__": table, "__table_args__": _OPTIONS}
    return type("SQLSessionRow", (SessionMixin, _OtherBase), options)


def is_built_in(model: Any) -> bool:
    """Whether a model is one of the package's own."""
    return bool(model.__module__ == __name__)


def _mapped(cls: type) -> Iterator[type]:
    subclasses: list[type] = cls.__subclasses__()
    for subclass in subclasses:
        if not is_built_in(subclass) and isinstance(inspect(subclass, raiseerr=False), Mapper):
            yield subclass
        yield from _mapped(subclass)


def resolve_model(model: Any, table: str | None = None) -> Any:
    """The model to use.

    :param model: the configured one, or None to look for the application's.
    :param table: the configured name for the table of the built-in model.
    :raises ConfigurationError: if the model lacks the columns of :class:`SessionMixin`, or if
        several classes use it and none was configured.
    """
    if table is not None:
        return built_in_model(table)
    if model is None:
        found = list(dict.fromkeys(_mapped(SessionMixin)))
        if len(found) > 1:
            names = ", ".join(sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in found))
            raise ConfigurationError(
                f"several models use SessionMixin: {names}; choose one with sqlsession.model "
                f"{see('trouble-start')}"
            )
        return found[0] if found else SQLSessionRow
    mapper = inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper) or not issubclass(model, SessionMixin):
        raise ConfigurationError(
            f"sqlsession.model = {model!r} is not valid: expected a mapped class based on "
            "pyramid_sqlsession.SessionMixin"
        )
    return model


def underlying(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type that a column has beneath every :class:`~sqlalchemy.types.TypeDecorator`."""
    while isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    return type_


def unique_columns(table: Table) -> set[Any]:
    """The columns that belong to a unique constraint or index."""
    constraints = [it.columns for it in table.constraints if isinstance(it, UniqueConstraint)]
    indexes = [index.columns for index in table.indexes if index.unique]
    return {column for columns in (*constraints, *indexes) for column in columns}


def is_copied(column: Column[Any], unique: set[Any]) -> bool:
    """Whether a row that replaces another one may copy its value in this column."""
    is_generated = column.computed is not None or column.identity is not None
    return not (is_generated or column in unique)
