"""A column of type JSON, read and written as text.

What an engine, or its driver, makes of JSON is the application's choice: decimals, or integers
where a float was. A session is to come back as it was, so its own serializer reads and writes the
text.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnElement, Text, bindparam, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine


def is_sent_as_text(type_: TypeEngine[Any]) -> bool:
    """Whether that can be done: a type of the application's has a form of its own."""
    return isinstance(type_, JSON) and type(type_).__module__.startswith("sqlalchemy.")


def read_as_text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What a SELECT asks for in place of the column, as far as that makes a difference."""
    return cast(column, Text) if is_sent_as_text(column.type) else column


def written_as_text(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """A parameter for a value of the column, as its text where that makes a difference."""
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
