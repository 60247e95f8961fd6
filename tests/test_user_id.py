"""Who is signed in, as a value of the column ``user_id``."""

from __future__ import annotations

import enum
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Date,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Unicode,
    Uuid,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from pyramid_sqlsession.table.model import USER, underlying
from pyramid_sqlsession.table.user_id import to_user_id

UUID_TEXT = "12345678-1234-1234-1234-123456789abc"


class Name(TypeDecorator[str]):
    """A type of an application that wraps a short String."""

    impl = String(5)
    cache_ok = True


class Number(TypeDecorator[int]):
    """A type of an application that wraps Integer."""

    impl = Integer
    cache_ok = True


class Deeper(TypeDecorator[int]):
    """A type that wraps a type that wraps another."""

    impl = Number
    cache_ok = True


class Point(UserDefinedType[Any]):
    """A type that does not say what it is in Python."""


class Color(enum.Enum):
    """Users are seldom colors."""

    RED = 1


TYPES = (
    String(), String(5), Text(), Unicode(5), USER, Name(), Integer(), BigInteger(), SmallInteger(),
    Number(), Deeper(), Uuid(), Uuid(as_uuid=False), postgresql.UUID(), mysql.BIGINT(), Numeric(),
    Float(), Date(), Enum(Color), LargeBinary(), Point(),
)  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("user", "type_", "expected"),
    [
        ("alice", String(), "alice"),
        ("alice", Text(), "alice"),
        ("alice", USER, "alice"),
        ("alice", String(5), "alice"),
        ("alice", Name(), "alice"),
        ("Zo\u00eb\U0001f600", String(5), "Zo\u00eb\U0001f600"),
        ("", String(), ""),
        (7, String(), "7"),
        (7, Integer(), 7),
        ("7", Integer(), 7),
        ("-7", Integer(), -7),
        ("7", Number(), 7),
        ("7", Deeper(), 7),
        (2**63 - 1, BigInteger(), 2**63 - 1),
        (str(2**63 - 1), mysql.BIGINT(), 2**63 - 1),
        (1 - 2**63, BigInteger(), 1 - 2**63),
        (UUID_TEXT, Uuid(), UUID(UUID_TEXT)),
        (UUID(UUID_TEXT), Uuid(), UUID(UUID_TEXT)),
        (UUID_TEXT.upper(), postgresql.UUID(), UUID(UUID_TEXT)),
        (UUID_TEXT, Uuid(as_uuid=False), UUID_TEXT),
        (UUID(UUID_TEXT), Uuid(as_uuid=False), UUID_TEXT),
        (UUID(UUID_TEXT).hex, Uuid(as_uuid=False), UUID_TEXT),
        (UUID_TEXT, String(36), UUID_TEXT),
        ("1.50", Numeric(), Decimal("1.50")),
        (Color.RED, Enum(Color), Color.RED),
        (b"\0\xff", LargeBinary(), b"\0\xff"),
    ],
)
def test_a_user_becomes_what_the_column_holds(
    user: Any, type_: TypeEngine[Any], expected: Any
) -> None:
    converted = to_user_id(user, type_)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("user", "type_"),
    [
        ("alice!", String(5)),
        ("alice!", Name()),
        ("a" * 256, USER),
        (123456, String(5)),
        ("a\0b", String()),
        ("a\0b", Text()),
        ("\ud800", String()),
        ("a\udfffb", Text()),
        ("alice", Integer()),
        ("", Integer()),
        ("7.0", Integer()),
        ("0x7", Integer()),
        (2**63, BigInteger()),
        (-(2**63), BigInteger()),
        (str(2**63), BigInteger()),
        # so many digits are an error of Python itself
        ("9" * 5000, Integer()),
        ("alice", Uuid()),
        ("", Uuid()),
        (7, Uuid()),
        (UUID_TEXT[:-1], Uuid()),
        ("z" * 32, postgresql.UUID()),
        # a text for Python, and not for PostgreSQL
        ("alice", Uuid(as_uuid=False)),
        ("\ud800" * 32, Uuid(as_uuid=False)),
        ("alice", Numeric()),
        ("alice", Float()),
        (10**400, Float()),
        ("alice", Enum(Color)),
        ("2020-01-01", Date()),
        (7, LargeBinary()),
        # which would take a gigabyte or two
        (2**31, LargeBinary()),
        ("alice", LargeBinary()),
        ("alice", Point()),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_user_whom_the_column_cannot_hold_is_an_error(user: Any, type_: TypeEngine[Any]) -> None:
    with pytest.raises(ValueError, match=r"^(cannot convert this |it |'utf-8' codec)"):
        to_user_id(user, type_)


class Account:
    """A user as an object, whose text would be a name of nobody's."""


@pytest.mark.parametrize(
    ("user", "type_"),
    [
        (7.0, Integer()),
        (float("nan"), Integer()),
        (float("inf"), BigInteger()),
        (True, Integer()),
        (False, Number()),
        (True, String()),
        (True, Uuid()),
        (False, Float()),
        (True, Numeric()),
        (b"7", Integer()),
        (b"alice", String()),
        (b"alice", USER),
        (b"0123456789abcdef", Uuid()),
        ([7], Integer()),
        ({"id": 7}, Deeper()),
        ({"id": 7}, USER),
        (("alice", 1), String()),
        (["alice"], String()),
        (1.5, String()),
        (None, String()),
        (None, Integer()),
        (Account(), String()),
        (Account(), Integer()),
        (Account(), Uuid()),
        (Account(), Numeric()),
        (date(2020, 1, 1), String()),
        (date(2020, 1, 1), Point()),
    ],
    ids=lambda value: repr(value)[:30].partition(" object")[0],
)
def test_what_names_no_user_is_a_type_error_that_shows_only_its_kind(
    user: Any, type_: TypeEngine[Any]
) -> None:
    with pytest.raises(
        TypeError, match=r"^a user ID must be a string, an integer, a UUID"
    ) as caught:
        to_user_id(user, type_)
    assert f", not {type(user).__name__}:" in str(caught.value)


@pytest.mark.parametrize(
    ("user", "type_"),
    [(date(2020, 1, 1), Date()), (1.5, Float()), (Decimal("1.5"), Numeric())],
    ids=repr,
)
def test_what_the_column_is_made_for_is_a_user(user: Any, type_: TypeEngine[Any]) -> None:
    assert to_user_id(user, type_) == user


@pytest.mark.parametrize("type_", TYPES, ids=repr)
def test_the_error_does_not_show_the_user(type_: TypeEngine[Any]) -> None:
    secret = "Zebra\0\ud800" + "x" * 300
    with pytest.raises(ValueError, match=r".") as caught:
        to_user_id(secret, type_)
    assert "Zebra" not in str(caught.value)


@pytest.mark.parametrize("type_", [Uuid(), Uuid(as_uuid=False), postgresql.UUID()], ids=repr)
def test_the_error_does_not_show_what_is_as_long_as_a_uuid(type_: TypeEngine[Any]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        to_user_id("Zebra".ljust(32, "0"), type_)
    assert "Zebra" not in str(caught.value)


@given(JSON_VALUES)
@pytest.mark.parametrize("type_", TYPES, ids=repr)
def test_whatever_json_holds_is_a_user_or_an_error(type_: TypeEngine[Any], user: Any) -> None:
    try:
        converted = to_user_id(user, type_)
    except (TypeError, ValueError):
        return
    assert isinstance(user, (str, int, float))
    assert not isinstance(user, bool)
    # and never one that is silently another length, or a flag
    length = getattr(underlying(type_), "length", None)
    if isinstance(converted, str):
        assert "\0" not in converted
        converted.encode()
        assert length is None or len(converted) <= length
    if isinstance(converted, int):
        assert type(converted) is int
        assert abs(converted) < 2**63


def test_a_type_is_looked_through_however_often_it_is_wrapped() -> None:
    assert isinstance(underlying(Name()), String)
    assert type(underlying(Number())) is Integer
    assert type(underlying(Deeper())) is Integer
    assert type(underlying(Integer())) is Integer
