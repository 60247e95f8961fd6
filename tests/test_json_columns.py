"""Data columns of type JSON and JSONB: what is read back is what was stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from pyramid.config import Configurator
from sqlalchemy import JSON, Engine, create_engine, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support.apps import configurator, own_configurator, serve
from support.servers import Backend

from pyramid_sqlsession import SessionDataError, SessionMixin


def whole(digits: str) -> float:
    """What makes no difference between 1.0 and 1."""
    number = float(digits)
    return int(number) if number.is_integer() else number


DESERIALIZERS: dict[str, Any] = {
    "plain": None,
    "decimals": partial(json.loads, parse_float=Decimal),
    "whole": partial(json.loads, parse_float=whole, parse_int=float),
    "broken": lambda stored: {"n": "not what is stored"},
}
KINDS: dict[str, tuple[str, Any]] = {
    "postgresql-json": ("postgresql", JSON()),
    "postgresql-jsonb": ("postgresql", JSONB()),
    "postgresql-variant": ("postgresql", JSON().with_variant(JSONB(), "postgresql")),
    "mariadb": ("mariadb", JSON()),
    "mysql": ("mysql", JSON()),
    "sqlite": ("sqlite", JSON()),
}
VALUES: list[Any] = [
    1.0, 0.1, -2.5, 1e15, 1e16, -1e16, 1e22, 1.25e300, 1.7976931348623157e308, 5e-324, 1e-7, 0.0,
    123456789012345678.0, 0, 1, -1, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), True, None,
    0.30000000000000004, 1763970412.1234567, 6.02214076e23, 3.141592653589793e100,
    "1e+16", "\\\"", "Zo\u00eb \U0001f36a", [1.0, 1, [1e16]], {"b": 1.0, "aa": {"c": 1e17}},
]  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which column on which database."""
    return str(request.param)


@pytest.fixture
def backend(kind: str, request: pytest.FixtureRequest) -> Backend:
    """A fresh database for it."""
    found: Backend = request.getfixturevalue(KINDS[kind][0])
    return found


@pytest.fixture
def model(base: type[DeclarativeBase], kind: str, backend: Backend) -> Any:
    """A model with such a column, whose table is there."""

    class JSONSession(SessionMixin, base):  # type: ignore[valid-type,misc]
        data: Mapped[Any] = mapped_column(KINDS[kind][1], nullable=False)

    engine = create_engine(backend.url)
    base.metadata.create_all(engine)
    engine.dispose()
    return JSONSession


@pytest.fixture(params=["dbsession", "own"])
def configured(
    request: pytest.FixtureRequest, backend: Backend, model: Any
) -> Iterator[Callable[..., Configurator]]:
    """Makes an application whose engine has these options, in either way."""
    engines: list[Engine] = []

    def configure(**options: Any) -> Configurator:
        if request.param == "own":
            more = {f"sqlalchemy.{name}": value for name, value in options.items()}
            return own_configurator(backend.url, None, model=model, **more)
        engines.append(create_engine(backend.url, **options))
        return configurator(engines[-1], {"sqlsession.model": model}, create=False)

    yield configure
    for engine in engines:
        engine.dispose()


def typed(value: Any) -> str:
    """A value with the types in it: 1.0 equals 1."""
    return repr(value)


@pytest.mark.parametrize("deserializer", DESERIALIZERS)
def test_every_number_comes_back_as_it_was(
    configured: Callable[..., Configurator], deserializer: str
) -> None:
    chosen = DESERIALIZERS[deserializer]
    options = {} if chosen is None else {"json_deserializer": chosen}

    def put(request: Any) -> None:
        request.session["all"] = VALUES

    def show(request: Any) -> Any:
        return [typed(value) for value in request.session["all"]]

    def change(request: Any) -> None:
        # as a merge, and a regenerated token, read and write what is stored
        request.session["n"] = request.session.get("n", 0) + 1
        request.session.regenerate()

    app = serve(configured(**options), put=put, show=show, change=change)
    app.get("/put")
    app.get("/change")
    # JSONB has an order of its own
    expected = [typed(value) for value in VALUES[:-1]]
    shown = app.get("/show").json
    assert shown[:-1] == expected
    assert shown[-1] in ("{'b': 1.0, 'aa': {'c': 1e+17}}", "{'aa': {'c': 1e+17}, 'b': 1.0}")


def test_so_it_does_whatever_the_engine_serializes_with(
    configured: Callable[..., Configurator],
) -> None:
    def put(request: Any) -> None:
        request.session["f"] = [1e16, 1.0]

    config = configured(json_serializer=lambda value: json.dumps({"not": "this"}))
    app = serve(config, put=put, show=lambda request: repr(dict(request.session)))
    app.get("/put")
    assert app.get("/show").json == "{'f': [1e+16, 1.0]}"


def test_an_integer_beyond_64_bits_is_an_error_and_changes_nothing(
    configured: Callable[..., Configurator],
) -> None:
    def put(request: Any) -> None:
        request.session["n"] = 1

    def put_large(request: Any) -> None:
        request.session["n"] = [2**64]

    app = serve(configured(), put=put, put_large=put_large,
                show=lambda request: dict(request.session))  # fmt: skip
    app.get("/put")
    with pytest.raises(SessionDataError, match=r"session\['n'\]\[0\] is an integer of more than"):
        app.get("/put_large")
    assert app.get("/show").json == {"n": 1}


def test_an_equal_dict_in_another_order_writes_nothing(
    configured: Callable[..., Configurator], backend: Backend, model: Any
) -> None:
    def put(request: Any) -> None:
        request.session["bb"] = {"x": 1.0, "aa": 1e16}
        request.session["a"] = 1

    def put_again(request: Any) -> None:
        request.session.clear()
        request.session["a"] = 1
        request.session["bb"] = {"aa": 1e16, "x": 1.0}

    def version() -> int:
        engine = create_engine(backend.url)
        with engine.connect() as connection:
            return int(connection.scalar(select(model.version)) or 0)

    app = serve(configured(), put=put, put_again=put_again)
    app.get("/put")
    app.get("/put_again")
    assert version() == 1
    app.get("/put")
    assert version() == 1


def test_the_data_can_be_queried_in_sql(
    configured: Callable[..., Configurator], backend: Backend, model: Any
) -> None:
    def put(request: Any) -> None:
        request.session["cart"] = ["tea", "Zo\u00eb"]

    serve(configured(), put=put).get("/put")
    engine = create_engine(backend.url)
    with engine.connect() as connection:
        for position, word in enumerate(["tea", "Zo\u00eb"]):
            found = select(model.version).where(model.data["cart"][position].as_string() == word)
            assert connection.scalars(found).all() == [1]
        assert connection.scalar(select(model.data)) == {"cart": ["tea", "Zo\u00eb"]}


def test_an_own_column_of_type_json_is_the_applications(
    backend: Backend, kind: str, base: type[DeclarativeBase]
) -> None:
    class Located(SessionMixin, base):  # type: ignore[valid-type,misc]
        where: Mapped[Any] = mapped_column(KINDS[kind][1], nullable=True)

    engine = create_engine(backend.url)
    base.metadata.create_all(engine)

    def locate(request: Any, session: Any) -> dict[str, Any]:
        return {"where": request.params.get("where") or {"ip": "192.0.2.1", "n": 1.0}}

    def put(request: Any) -> None:
        request.session["n"] = request.session.get("n", 0) + 1

    def regenerate(request: Any) -> None:
        request.session.regenerate()

    config = configurator(engine, model=Located, extra_columns=locate, create=False)
    app = serve(config, put=put, regenerate=regenerate)

    def stored() -> Any:
        with engine.connect() as connection:
            return connection.scalars(select(Located.where).where(Located.replaced.is_(None))).one()

    for path in ("put", "put", "regenerate"):
        app.get(f"/{path}")
        assert stored() == {"ip": "192.0.2.1", "n": 1.0}
    app.get("/regenerate?where=hello")
    assert stored() == "hello"
    engine.dispose()
