"""Rows that somebody has made to do harm: they cost little, and their sessions are empty."""

from __future__ import annotations

import json
import marshal
import pickle
import time
import tracemalloc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import JSON, Engine, LargeBinary, Text, TypeDecorator, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support.apps import configurator, own_configurator, put, serve, show
from support.failing import warnings
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionMixin

MEGABYTE = 1_000_000
LARGE = 100 * MEGABYTE


def type_of(kind: str) -> Any:
    """The type of a data column."""
    return {"bytes": LargeBinary(), "text": Text(), "json": JSON(), "own type": Readable()}[kind]


@pytest.fixture(params=["own", "application"])
def make(
    request: pytest.FixtureRequest, sqlite_engine: Engine, base: type[DeclarativeBase]
) -> Callable[..., TestApp]:
    """Makes a browser with a stored session, of each of the two ways to a database."""

    def browser(kind: str = "bytes", **options: Any) -> TestApp:
        class Model(SessionMixin, base):  # type: ignore[valid-type, misc]  # made for the test
            data: Mapped[Any] = mapped_column(type_of(kind))

        base.metadata.create_all(sqlite_engine)
        if request.param == "own":
            config = own_configurator(str(sqlite_engine.url), model=Model, **options)
        else:
            config = configurator(sqlite_engine, model=Model, **options)
        app = serve(config, put=put, show=show)
        app.get("/put")
        return app

    return browser


def change(engine: Engine, expression: str, *values: Any) -> None:
    """Store something in all rows, past the types of the model."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE sqlsession SET {expression}", values)


def assert_harmless(app: TestApp, caplog: pytest.LogCaptureFixture) -> str:
    """See that a session is empty, that a new one works, and what is said of it."""
    caplog.clear()
    began = time.process_time()
    assert app.get("/show").json == {}
    assert time.process_time() - began < 1
    (line,) = warnings(caplog)
    assert len(line) < 300
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}
    return line


@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_a_row_that_is_too_long_is_held_once_and_not_looked_into(
    make: Callable[..., TestApp],
    kind: str,
    sqlite_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make(kind)
    value = f"zeroblob({LARGE})"
    if kind == "text":
        value = f"replace(hex(zeroblob({LARGE // 2})), '00', 'xx')"
    change(sqlite_engine, f"data = {value}")
    tracemalloc.start()
    try:
        line = assert_harmless(app, caplog)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line.endswith(f"its data has {LARGE} bytes, sqlsession.max_size allows 1048576")
    assert peak < 1.1 * LARGE


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("kind", ["bytes", "text", "json"])
def test_the_longest_session_that_is_read_is_the_longest_that_is_stored(
    make: Callable[..., TestApp],
    kind: str,
    excess: int,
    sqlite_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make(kind, max_size=1024)
    data = {"x": "x" * (1024 - 8 + excess)}
    stored: Any = json.dumps(data, separators=(",", ":"))
    change(sqlite_engine, "data = ?", stored.encode() if kind == "bytes" else stored)
    if excess:
        assert_harmless(app, caplog)
    else:
        assert app.get("/show").json == data


def test_a_text_that_is_longer_in_utf_8_is_too_long(
    make: Callable[..., TestApp], sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    app = make("text", max_size=1024)
    change(sqlite_engine, "data = ?", '{"x":"%s"}' % ("\u20ac" * 1000))
    assert "its data has 3008 bytes" in assert_harmless(app, caplog)


@pytest.mark.parametrize(
    "data",
    [
        b'{"n":%s}' % (b"9" * MEGABYTE),
        b'{"n":%s.5e999}' % (b"9" * MEGABYTE),
        b'{"n":0.%se-999999999}' % (b"9" * 100) + b" " * MEGABYTE + b"]",
        b'{"d":%s' % (b"[" * MEGABYTE),
        b'{"d":%s%s}' % (b"[" * 500_000, b"]" * 500_000),
        b'{"d":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"secret%s":NaN}' % (b"t" * MEGABYTE),
        b'{"secret":"%s' % (b"t" * MEGABYTE),
        b'{"secret":"%s\xff"}' % (b"t" * MEGABYTE),
    ],
    ids=["integer", "float", "small", "open", "lists", "dicts", "nan", "text", "bytes"],
)
def test_data_that_is_made_to_be_hard_to_read_costs_little(
    make: Callable[..., TestApp],
    data: bytes,
    sqlite_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make(max_size="2 MiB")
    change(sqlite_engine, "data = ?", data)
    # the row's name may hold anything
    why = assert_harmless(app, caplog).partition("treated as empty")[2]
    assert not any(shown in why for shown in ("secret", "ttt", "999", "[[["))


@pytest.mark.parametrize("value", ["NaN", "1e999", "[" * 5000, "9" * 5000], ids=lambda it: it[:5])
def test_a_json_column_with_what_is_no_session_costs_little(
    make: Callable[..., TestApp],
    value: str,
    sqlite_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make("json")
    change(sqlite_engine, "data = ?", f'{{"secret{"t" * 1000}":{value}}}')
    assert "secret" not in assert_harmless(app, caplog)


@pytest.mark.parametrize("column", ["version", "created", "last_seen", "max_age", "purge_after"])
def test_a_column_with_a_text_of_any_length_is_named_and_not_shown(
    make: Callable[..., TestApp],
    column: str,
    sqlite_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make()
    change(sqlite_engine, f"{column} = ?", "secret" * 1000)
    line = assert_harmless(app, caplog)
    assert line.endswith(f": these columns hold invalid values: {column}")


def test_a_lineage_of_any_length_is_named_and_not_shown(
    make: Callable[..., TestApp], sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    app = make()
    change(sqlite_engine, "lineage = ?", bytes(MEGABYTE))
    assert assert_harmless(app, caplog).endswith("these columns hold invalid values: lineage")


class Secretive:
    """A serializer whose errors show what it was given."""

    def dumps(self, data: dict[Any, Any]) -> bytes:
        return json.dumps(data).encode()

    def loads(self, stored: bytes) -> Any:
        if b"secret" in stored:
            raise ValueError(stored)
        return json.loads(stored)


def test_what_a_serializer_says_of_a_row_is_not_logged(
    make: Callable[..., TestApp], sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(serializer=Secretive())
    change(sqlite_engine, "data = ?", b"secret" * 1000)
    assert assert_harmless(app, caplog).endswith(": its data is not a session (ValueError)")


class Readable(TypeDecorator[str]):
    """A type of an application whose errors show what it was given."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        if "secret" in value:
            raise ValueError(value)
        return value


def test_what_a_type_of_a_column_says_of_a_row_is_not_logged(
    make: Callable[..., TestApp], sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    app = make("own type")
    change(sqlite_engine, "data = ?", "secret" * 1000)
    assert assert_harmless(app, caplog).endswith(": a column's type cannot read it (ValueError)")


# ---- serializers that run code


@pytest.fixture
def started(sqlite: Backend, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Starts an application with a serializer; what it warns about."""
    engine = create_engine(sqlite.url)

    def start(serializer: Any) -> list[str]:
        caplog.clear()
        serve(configurator(engine, serializer=serializer))
        return warnings(caplog)

    yield start
    engine.dispose()


@pytest.mark.parametrize(
    "serializer",
    [pickle, marshal, "pickle", SimpleNamespace(dumps=pickle.dumps, loads=pickle.loads)],
    ids=["pickle", "marshal", "name", "wrapped"],
)
def test_a_serializer_that_runs_code_is_warned_about(
    started: Callable[[Any], list[str]], serializer: Any
) -> None:
    (line,) = started(serializer)
    assert "which can execute code" in line


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pyramids_own_pickle_serializer_is_warned_about_too(
    started: Callable[[Any], list[str]],
) -> None:
    from pyramid.session import PickleSerializer

    (line,) = started(PickleSerializer())
    assert "pyramid.session.PickleSerializer.loads" in line


@pytest.mark.parametrize("serializer", ["json", json, Secretive()], ids=["name", "json", "own"])
def test_any_other_serializer_is_not_warned_about(
    started: Callable[[Any], list[str]], serializer: Any
) -> None:
    assert started(serializer) == []
