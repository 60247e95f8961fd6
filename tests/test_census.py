"""The figures about a table of sessions, for every kind of data column on every database."""

from __future__ import annotations

import json
import runpy
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, text
from support.apps import EPOCH, SessionRow
from support.servers import Backend

from pyramid_sqlsession import SessionTableError
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.census import Census, Figures

MODELS = Path(__file__).parents[1] / "docs" / "examples" / "models.py"
HOUR, DAY = 3600, 86400


@pytest.fixture
def models() -> Iterator[dict[str, Any]]:
    """The models of the docs, which are forgotten afterwards."""
    names = runpy.run_path(str(MODELS))
    yield names
    names["Base"].registry.dispose()


def census(model: Any, **options: Any) -> Census:
    return Census(Rows(model), Lifetime(Settings(**options)), lambda: EPOCH)


def take(engine: Engine, model: Any, **options: Any) -> Figures:
    with engine.connect() as connection:
        return census(model, **options).take(connection)


def fill(engine: Engine, model: Any, *rows: dict[str, Any]) -> None:
    """Store rows in a new table; what they do not say is that of a live, anonymous session."""
    columns = Rows(model).columns
    defaults = {"user_id": None, "data": b"{}", "version": 1, "created": EPOCH - 90 * DAY}
    model.metadata.create_all(engine, tables=[model.__table__])
    with engine.begin() as connection:
        for row in rows:
            values = {
                **defaults,
                "id": secrets.token_bytes(32),
                "lineage": secrets.token_bytes(16),
                "last_seen": EPOCH,
                "purge_after": EPOCH + 1,
                **row,
            }
            named = {columns[name]: value for name, value in values.items()}
            connection.execute(insert(model.__table__).values(named))


@pytest.fixture
def table(models: dict[str, Any]) -> Any:
    return models["RenamedSession"]


def test_live_sessions_are_told_from_expired_ones_as_a_request_tells_them(
    engine: Engine, table: Any
) -> None:
    fill(
        engine,
        table,
        {"last_seen": EPOCH - HOUR + 1},
        {"last_seen": EPOCH - HOUR},
        {"last_seen": EPOCH - HOUR, "max_age": HOUR + 1},
        {"last_seen": EPOCH - 60, "max_age": 60},
    )
    figures = take(engine, table, ttl=HOUR)
    assert (figures.live, figures.expired) == (2, 2)


def test_the_absolute_timeout_counts_too(engine: Engine, table: Any) -> None:
    fill(engine, table, {"created": EPOCH - DAY}, {"created": EPOCH - DAY + 1})
    figures = take(engine, table, absolute_ttl=DAY)
    assert (figures.live, figures.expired) == (1, 1)


def test_only_live_sessions_are_signed_in_or_anonymous(engine: Engine, table: Any) -> None:
    gone = {"last_seen": 1}
    users = [{"user_id": "alice"}, {"user_id": "alice"}, {"user_id": "bob"}]
    fill(engine, table, *users, {}, {"user_id": "alice", **gone}, gone)
    figures = take(engine, table)
    assert (figures.live, figures.signed_in, figures.anonymous) == (4, 3, 1)


def test_the_row_that_a_new_token_has_replaced_is_no_session(engine: Engine, table: Any) -> None:
    replaced = {"replaced": EPOCH - 5, "user_id": "alice", "max_age": 30}
    gone = {"last_seen": EPOCH - 30}
    fill(engine, table, {}, replaced, {**replaced, "user_id": None}, {**replaced, **gone})
    figures = take(engine, table)
    assert (figures.live, figures.signed_in, figures.anonymous) == (1, 0, 1)
    assert (figures.replaced, figures.expired) == (2, 1)
    assert sum(figures.ages.values()) == 1
    assert sum(figures.sizes.values()) == 4


def test_a_purge_would_delete_what_has_expired_and_is_past_its_time(
    engine: Engine, table: Any
) -> None:
    fill(
        engine,
        table,
        {"last_seen": 1, "purge_after": EPOCH},
        {"last_seen": 1, "purge_after": EPOCH + 1},
        {"last_seen": EPOCH, "purge_after": EPOCH},
    )
    figures = take(engine, table)
    assert (figures.expired, figures.purgeable) == (2, 1)


def test_each_live_session_is_in_one_class_of_age(engine: Engine, table: Any) -> None:
    ages = [-5, 0, HOUR, HOUR + 1, DAY, DAY + 1, 7 * DAY, 7 * DAY + 1, 30 * DAY, 30 * DAY + 1]
    fill(engine, table, *({"last_seen": EPOCH - age} for age in ages), {"last_seen": 1})
    figures = take(engine, table, ttl=60 * DAY)
    assert figures.ages == {"hour": 3, "day": 2, "week": 2, "month": 2, "older": 1}
    assert sum(figures.ages.values()) == figures.live


def test_each_row_is_in_one_class_of_size(engine: Engine, table: Any) -> None:
    limits = [2**10, 10 * 2**10, 100 * 2**10, 2**20]
    sizes = [2, *limits, *(limit + 1 for limit in limits)]
    fill(engine, table, *({"data": bytes(size)} for size in sizes), {"last_seen": 1})
    figures = take(engine, table)
    assert figures.sizes == {"1 KiB": 3, "10 KiB": 2, "100 KiB": 2, "1 MiB": 2, "more": 1}
    assert figures.bytes == sum(sizes) + 2
    assert figures.mean == round(figures.bytes / 10)


def test_an_empty_table_has_zeros(engine: Engine, table: Any) -> None:
    fill(engine, table)
    figures = take(engine, table)
    assert (figures.live, figures.expired, figures.bytes, figures.mean) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "data", "size"),
    [
        ("Session", "é€".encode(), 5),
        ("TextSession", "é€", 5),
        ("JSONSession", {"k": "é€"}, 14),
    ],
)
def test_the_size_is_that_of_the_bytes_not_of_the_characters(
    name: str, data: Any, size: int, models: dict[str, Any], backend: Backend
) -> None:
    def dumps(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    engine = create_engine(backend.url, json_serializer=dumps)
    fill(engine, models[name], {"data": data}, {"data": data})
    figures = take(engine, models[name])
    assert (figures.bytes, figures.mean) == (2 * size, size)
    engine.dispose()


def test_postgresql_counts_without_reading_the_data(postgresql: Backend) -> None:
    engine = create_engine(postgresql.url)
    SessionRow.metadata.create_all(engine)
    fill(engine, SessionRow, *({"data": secrets.token_bytes(200_000)} for _ in range(10)))
    query = census(SessionRow).statement(engine.dialect).params(b_now=EPOCH)
    sql = query.compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        explained = connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"))
        plan = explained.scalar_one()[0]["Plan"]
        pages = connection.scalar(text("SELECT pg_relation_size('sqlsession') / 8192"))
    assert take(engine, SessionRow).bytes == 2_000_000
    # the data are some 250 pages more
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= pages
    scans = json.dumps(plan).count('"Relation Name": "sqlsession"')
    assert scans == 1
    engine.dispose()


def test_a_table_that_is_missing_is_an_error_that_says_so(engine: Engine, table: Any) -> None:
    with pytest.raises(SessionTableError, match="renamed_session"):
        take(engine, table)


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_numbers_that_make_no_sense_are_counted_too(engine: Engine, number: int) -> None:
    rows = [{column: number} for column in ("created", "last_seen", "purge_after")]
    fill(engine, SQLSessionRow, *rows)
    figures = take(engine, SQLSessionRow)
    assert figures.live + figures.expired == 3
    assert sum(figures.ages.values()) == figures.live
