"""The settings of an engine of its own: texts of an ini file, and URLs that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.exceptions import ConfigurationError
from sqlalchemy.pool import NullPool, QueuePool
from support.apps import own_configurator, put, serve, show
from support.servers import Backend

from pyramid_sqlsession.database.engine import make_engine


def options(**given: Any) -> dict[str, Any]:
    return {f"sqlalchemy.{name}": value for name, value in given.items()}


@pytest.mark.parametrize("name", ["NullPool", "sqlalchemy.pool.NullPool", NullPool])
def test_the_class_of_the_pool_is_named_in_the_ini_file(backend: Backend, name: Any) -> None:
    app = serve(own_configurator(backend.url, **options(poolclass=name)), put=put, show=show)
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}
    assert type(make_engine({"url": backend.url, "poolclass": name})[0].pool) is NullPool


def test_arguments_of_the_driver_are_a_json_object(sqlite: Backend) -> None:
    app = serve(own_configurator(sqlite.url, **options(connect_args='{"timeout": 3}')), put=put)
    app.get("/put")
    engine, _ = make_engine({"url": sqlite.url, "connect_args": '{"timeout": 3}'})
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 3000
    engine.dispose()


def test_other_arguments_of_the_driver_leave_sqlites_patience_as_it_is(sqlite: Backend) -> None:
    engine, _ = make_engine({"url": sqlite.url, "connect_args": {"cached_statements": 10}})
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000
    engine.dispose()


def test_numbers_and_names_are_texts_too(sqlite: Backend) -> None:
    engine, _ = make_engine(
        {
            "url": sqlite.url,
            "poolclass": "QueuePool",
            "pool_size": "3",
            "max_overflow": "-1",
            "pool_recycle": "3600",
            "query_cache_size": "100",
            "plugins": "",
            "execution_options": '{"schema_translate_map": {"web": null}}',
            "json_serializer": "json.dumps",
        }
    )
    assert (type(engine.pool), engine.pool.size()) == (QueuePool, 3)  # type: ignore[attr-defined]
    assert engine.get_execution_options()["schema_translate_map"] == {"web": None}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("poolclass", "StaticPool", "with several connections"),
        ("poolclass", "sqlalchemy.pool.SingletonThreadPool", "with several connections"),
        ("poolclass", "nowhere.Pool", "with several connections"),
        ("poolclass", "json.dumps", "with several connections"),
        ("poolclass", "builtins.dict", "with several connections"),
        ("pool_size", "five", "a whole number"),
        ("pool_pre_ping", "perhaps", "true or false"),
        ("creator", "nowhere.connect", "a function, or its dotted name"),
    ],
)
def test_a_text_that_makes_no_sense_says_what_would(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_engine({"url": "sqlite:///file", name: value})
    assert str(caught.value).startswith(
        f"sqlsession.sqlalchemy.{name} = {value!r} is not valid: expected "
    )
    assert allowed in str(caught.value)


@pytest.mark.parametrize("value", ["password=hunter2", '["hunter2"]', "{'password': 'hunter2'}"])
def test_what_is_no_json_object_is_not_shown(value: str) -> None:
    with pytest.raises(
        ConfigurationError, match="connect_args is not valid: expected a JSON object"
    ) as caught:
        make_engine({"url": "sqlite:///file", "connect_args": value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres://me:hunter2@host/db", "postgres+psycopg://host/db"])
def test_the_old_name_of_postgresql_says_the_right_one(url: str) -> None:
    right = url.partition(":")[0].replace("postgres", "postgresql")
    with pytest.raises(ConfigurationError) as caught:
        make_engine({"url": url})
    wrong = url.partition(":")[0]
    assert str(caught.value).endswith(f"url: use {right}:// instead of {wrong}://")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql+asyncpg",
        "postgresql+psycopg_async",
        "sqlite+aiosqlite",
        "mysql+aiomysql",
        "mysql+asyncmy",
    ],
)
def test_an_asynchronous_driver_is_an_error_that_names_others(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="asynchronous driver: use a synchronous one"):
        make_engine({"url": f"{scheme}://me:hunter2@host/db"})


@pytest.mark.parametrize(
    ("scheme", "module", "package"),
    [
        ("postgresql+psycopg2", "psycopg2", "psycopg2-binary"),
        ("postgresql+psycopg", "psycopg", r"'psycopg\[binary\]'"),
        ("postgresql+pg8000", "pg8000", "pg8000"),
        ("mysql+pymysql", "pymysql", "PyMySQL"),
        ("mysql+mysqldb", "MySQLdb", "mysqlclient"),
        ("mysql+mysqlconnector", "mysql", "mysql-connector-python"),
        ("mariadb+mariadbconnector", "mariadb", "mariadb"),
    ],
)
def test_a_driver_that_is_not_installed_names_the_package_to_install(
    scheme: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(module, monkeypatch)
    with pytest.raises(
        ConfigurationError, match=f"{module} is not installed: pip install {package}"
    ):
        make_engine({"url": f"{scheme}://host/db"})


def hide(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a module was not installed."""
    import builtins

    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


def test_a_driver_that_is_broken_says_it_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def broken(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "psycopg":
            raise ImportError("no pq wrapper available")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ConfigurationError, match=r"sqlalchemy\.\*: no pq wrapper available"):
        make_engine({"url": "postgresql+psycopg://host/db"})
