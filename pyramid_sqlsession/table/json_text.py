"""Reads and writes a column of type JSON as text.

An application may configure how its engine or driver decodes JSON: as decimals, or as integers
instead of floats. A session must come back unchanged, so its own serializer handles the text.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnElement, Text, bindparam, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine


def is_sent_as_text(type_: TypeEngine[Any]) -> bool:
    """Whether the type allows that: an application's own type may have another format."""
    return isinstance(type_, JSON) and type(type_).__module__.startswith("sqlalchemy.")


def read_as_text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The expression to select instead of the column, if it is read as text."""
    return cast(column, Text) if is_sent_as_text(column.type) else column


def written_as_text(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """A parameter for a value of the column, as text if it is written as text."""
    if not is_sent_as_text(column.type):
        return bindparam(name)
    given = bindparam(name, type_=Text())
    return _FromText(given, cast(given, column.type))


class _FromText(FunctionElement[Any]):
    """The text itself, or a cast of it; PostgreSQL takes no text for JSON without one."""

    inherit_cache = True


@compiles(_FromText)
def _as_it_is(element: _FromText, compiler: Any, **options: Any) -> str:
    plain, _ = element.clauses
    return str(compiler.process(plain, **options))


@compiles(_FromText, "postgresql")
def _on_postgresql(element: _FromText, compiler: Any, **options: Any) -> str:
    _, converted = element.clauses
    return str(compiler.process(converted, **options))
