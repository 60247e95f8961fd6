"""Rows that cannot be deleted, and rows that a purge leaves alone."""

from __future__ import annotations

import logging
from contextlib import closing
from secrets import token_bytes
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, text
from sqlalchemy.exc import DBAPIError
from support import ini_apps
from support.apps import EPOCH, TABLE, Base, Clock, SessionRow, listening, rows
from support.servers import Backend, on_servers

from pyramid_sqlsession.cli.main import main
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

HOUR = 3600


@pytest.fixture
def table(engine: Engine) -> Any:
    """The application's table, created."""
    Base.metadata.create_all(engine)
    return TABLE


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def add(engine: Engine, *numbers: int, **values: Any) -> None:
    """Rows that expired an hour ago and are due, but for these values."""
    row = {
        "data": b"{}", "version": 1, "created": EPOCH - 3 * HOUR, "last_seen": EPOCH - 2 * HOUR,
        "purge_after": EPOCH - HOUR, **values,
    }  # fmt: skip
    with engine.begin() as connection:
        stored = [{"id": id_of(one), "lineage": token_bytes(16), **row} for one in numbers]
        connection.execute(insert(TABLE), stored)


def purge_of(clock: Clock | None = None) -> Purge:
    lifetime = Lifetime(Settings.from_options({"ttl": HOUR}))
    return Purge(Rows(SessionRow), lifetime, clock or Clock())


def purge(engine: Engine, size: int = 500) -> int:
    return sum(purge_of().batches(engine, size))


def left(engine: Engine) -> set[int]:
    return {int.from_bytes(row["id"], "big") for row in rows(engine)}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING]


# ---- poisoned ones: version 666


REFUSING = {
    "sqlite": [
        (
            "CREATE TRIGGER refuse BEFORE DELETE ON sqlsession WHEN old.version = 666 "
            "BEGIN SELECT RAISE(ABORT, 'poison'); END"
        )
    ],
    "postgresql": [
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF old.version = 666 THEN RAISE EXCEPTION 'poison'; END IF; RETURN old; END $$"
        ),
        "CREATE TRIGGER refuse BEFORE DELETE ON sqlsession FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
    "mysql": [
        (
            "CREATE TRIGGER refuse BEFORE DELETE ON sqlsession FOR EACH ROW "
            "IF old.version = 666 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poison'; END IF"
        )
    ],
}
IGNORING = {
    "sqlite": [("CREATE TRIGGER keep BEFORE DELETE ON sqlsession WHEN old.version = 666 "
               "BEGIN SELECT RAISE(IGNORE); END")],
    "postgresql": [
        ("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF old.version = 666 THEN RETURN NULL; END IF; RETURN old; END $$"),
        "CREATE TRIGGER keep BEFORE DELETE ON sqlsession FOR EACH ROW EXECUTE FUNCTION keep()",
    ],
}  # fmt: skip


def execute(engine: Engine, statements: list[str]) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("size", [1, 2, 7, 500])
def test_a_row_whose_deletion_raises_is_logged_and_holds_up_no_other(
    backend: Backend, engine: Engine, table: Any, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    execute(engine, REFUSING[backend.dialect])
    # all due in one second, the poisoned ones among them and first
    add(engine, *range(0, 20, 3), version=666)
    add(engine, *(number for number in range(20) if number % 3))
    add(engine, 20, purge_after=EPOCH)
    assert purge(engine, size) == 14
    assert left(engine) == set(range(0, 20, 3))
    lines = warnings(caplog)
    assert all("skipping them" in line and "poison" in line and "\n" not in line for line in lines)
    assert sum(int(line.split()[2]) for line in lines) == 7


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("size", [1, 500])
def test_so_is_one_that_is_kept_without_an_error(
    backend: Backend, engine: Engine, table: Any, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    execute(engine, IGNORING[backend.name])
    add(engine, 1, 2, version=666)
    add(engine, 3, 4)
    assert purge(engine, size) == 2
    assert left(engine) == {1, 2}
    assert all("reported no error" in line for line in warnings(caplog))


def test_one_that_is_refused_at_the_commit_is_passed_by(
    postgresql: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    add(engine, 1, 2, 3)
    execute(engine, [
        ("CREATE TABLE device (session BYTEA REFERENCES sqlsession (id) DEFERRABLE "
        "INITIALLY DEFERRED)"),
        "INSERT INTO device SELECT id FROM sqlsession WHERE id = decode(lpad('2', 64, '0'), 'hex')",
    ])  # fmt: skip
    assert purge(engine) == 2
    assert left(engine) == {2}
    assert "needs ON DELETE CASCADE or SET NULL" in warnings(caplog)[0]


def test_a_single_poisoned_row_costs_few_transactions(sqlite: Backend) -> None:
    engine = create_engine(sqlite.url)
    Base.metadata.create_all(engine)
    execute(engine, REFUSING["sqlite"])
    add(engine, *range(500))
    with engine.begin() as connection:
        connection.execute(TABLE.update().where(TABLE.c.id == id_of(321)).values(version=666))
    attempts = []

    def count(connection: Any) -> None:
        attempts.append(connection)

    with listening(engine, "begin", count):
        assert purge(engine) == 499
    # nine halvings, and not five hundred attempts
    assert len(attempts) <= 22


def test_a_database_that_can_only_be_read_is_asked_once(postgresql: Backend) -> None:
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    add(engine, *range(20))
    execute(engine, [
        f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on"
    ])  # fmt: skip
    engine.dispose()
    with pytest.raises(DBAPIError, match="read-only"):
        purge(engine)


def test_a_mariadb_that_can_only_be_read_is_asked_once(mariadb: Backend) -> None:
    engine = create_engine(mariadb.url)
    Base.metadata.create_all(engine)
    add(engine, *range(20))
    deletions = []

    def begin_read_only(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE"):
            deletions.append(statement)

    def read_only(connection: Any, record: Any) -> None:
        with closing(connection.cursor()) as cursor:
            cursor.execute("SET SESSION tx_read_only = 1")

    reading = create_engine(mariadb.url)
    event.listen(reading, "connect", read_only)
    event.listen(reading, "before_cursor_execute", begin_read_only)
    with pytest.raises(DBAPIError, match=r"(?i)read.only"):
        purge(reading)
    assert len(deletions) <= 1


# ---- statements that may not take long


def impatient(backend: Backend, milliseconds: int) -> Engine:
    """An engine whose server ends statements that take longer."""
    if backend.name == "postgresql":
        options = {"options": f"-c statement_timeout={milliseconds}"}
        return create_engine(backend.url, connect_args=options)
    limit = {
        "mariadb": f"SET max_statement_time = {milliseconds / 1000}",
        "mysql": f"SET max_execution_time = {milliseconds}",
    }[backend.name]
    return create_engine(backend.url, connect_args={"init_command": limit})


def slow_down_deletions(engine: Engine, seconds: float) -> None:
    """Have the deletion of each row take so long, on PostgreSQL."""
    function = (
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN old; END $$"
    )
    trigger = "CREATE TRIGGER dawdle BEFORE DELETE ON sqlsession FOR EACH ROW "
    execute(engine, [function, f"{trigger} EXECUTE FUNCTION dawdle()"])


def test_a_statement_timeout_shortens_the_batches(
    postgresql: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    slow_down_deletions(engine, 0.03)
    add(engine, *range(40))
    batches = list(purge_of().batches(impatient(postgresql, 300), 16))
    assert sum(batches) == 40
    # 16 take too long and eight do not, which is known from then on
    assert batches[0] == 16
    assert max(batches[1:]) <= 8
    assert warnings(caplog) == []


def test_what_is_left_of_a_batch_is_shortened_too(postgresql: Backend) -> None:
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    slow_down_deletions(engine, 0.2)
    add(engine, *range(8))
    slow, sizes = impatient(postgresql, 700), list[int]()

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.startswith("DELETE"):
            sizes.append(sum(name.startswith("b_ids") for name in parameters))

    event.listen(slow, "before_cursor_execute", note)
    assert purge(slow, 8) == 8
    # eight and four take too long; of what is left no four are tried again
    assert sizes == [8, 4, 2, 2, 2, 2]


@on_servers
def test_so_does_one_that_ends_the_search(backend: Backend, engine: Engine, table: Any) -> None:
    add(engine, *range(20))
    slow = impatient(backend, 100)
    sleep = "sleep(5)" if backend.dialect == "mysql" else "pg_sleep(5)"
    sizes = []

    def dawdle(
        connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any
    ) -> tuple[str, Any]:
        values = parameters.values() if isinstance(parameters, dict) else parameters
        if "ORDER BY" in statement:
            (limit,) = [value for value in values if value in (16, 8, 4)]
            sizes.append(limit)
            if limit > 4:
                return f"SELECT {sleep} FROM sqlsession", ()
        return statement, parameters

    event.listen(slow, "before_cursor_execute", dawdle, retval=True)
    assert purge(slow, 16) == 20
    assert sizes[:3] == [16, 8, 4]


@on_servers
def test_a_search_that_always_takes_too_long_is_an_error(
    backend: Backend, engine: Engine, table: Any
) -> None:
    add(engine, 1)
    slow = impatient(backend, 50)
    sleep = "sleep(5)" if backend.dialect == "mysql" else "pg_sleep(5)"

    def dawdle(
        connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any
    ) -> tuple[str, Any]:
        return f"SELECT {sleep} FROM sqlsession", ()

    event.listen(slow, "before_cursor_execute", dawdle, retval=True)
    with pytest.raises(DBAPIError):
        purge(slow, 4)


# ---- locks


@on_servers
def test_a_purge_locks_no_row_that_it_does_not_delete(
    backend: Backend, engine: Engine, table: Any
) -> None:
    live = 2000
    # due but live ones, around and between the expired ones: the planner uses the index
    for start in (0, 1000):
        add(engine, *range(start, start + 1000), last_seen=EPOCH - 1, purge_after=EPOCH - HOUR)
    add(engine, *range(live, live + 5), purge_after=EPOCH - HOUR - 1)
    add(engine, *range(live + 5, live + 10), purge_after=EPOCH - HOUR + 1)
    add(engine, *range(live + 10, live + 3000), last_seen=EPOCH, purge_after=EPOCH + HOUR)
    analyze = "ANALYZE TABLE sqlsession" if backend.dialect == "mysql" else "ANALYZE sqlsession"
    execute(engine, [analyze])
    free: list[int] = []

    def look(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        # its search, its locks and its deletions
        if statement.startswith(("SELECT", "DELETE")):
            with other.connect() as visitor:
                found = text("SELECT id FROM sqlsession WHERE last_seen > :then "
                             "FOR UPDATE SKIP LOCKED")  # fmt: skip
                free.append(len(visitor.execute(found, {"then": EPOCH - 2}).all()))

    other = create_engine(engine.url, isolation_level="READ COMMITTED")
    event.listen(engine, "after_cursor_execute", look)
    assert purge(engine) == 10
    assert set(free) == {live + 2990}


@on_servers
def test_a_row_that_is_used_between_its_search_and_its_lock_is_locked_no_longer(
    backend: Backend, engine: Engine, table: Any
) -> None:
    add(engine, *range(100))
    free: list[int] = []
    other = create_engine(engine.url, isolation_level="READ COMMITTED")

    def meddle(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "ORDER BY" in statement:
            with other.begin() as visitor:
                visitor.execute(text("UPDATE sqlsession SET last_seen = :now WHERE id < :ten"),
                                {"now": EPOCH, "ten": id_of(10)})  # fmt: skip
        if statement.startswith("DELETE"):
            with other.begin() as visitor:
                found = text("SELECT id FROM sqlsession WHERE id < :ten FOR UPDATE SKIP LOCKED")
                free.append(len(visitor.execute(found, {"ten": id_of(10)}).all()))

    event.listen(engine, "after_cursor_execute", meddle)
    assert purge(engine) == 90
    assert set(free) == {10}


# ---- the command line


@pytest.mark.parametrize("way", ["shared", "own"])
def test_a_purge_that_cannot_count_deletes_all_the_same(
    way: str, backend: Backend, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = create_engine(backend.url)
    Base.metadata.create_all(engine)
    # long ago by the system's clock too
    add(engine, *range(30), created=1, last_seen=1, purge_after=1)
    key = "sqlalchemy.url" if way == "shared" else "sqlsession.sqlalchemy.url"
    ini = tmp_path / "app.ini"
    ini.write_text(
        f"[app:main]\nuse = call:{ini_apps.__name__}:{way}\n{key} = {backend.url}\n"
        "sqlsession.model = support.apps.SessionRow\nsqlsession.cleanup_interval = false\n"
        "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n"
        "[logger_root]\nhandlers =\n"
    )

    def fail(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "count(" in statement:
            connection.exec_driver_sql("SELECT no_such_function(1)")

    with listening(Engine, "before_cursor_execute", fail):
        code = main([str(ini), "purge"])
        out, err = capsys.readouterr()
        assert (code, rows(engine)) == (0, [])
        assert "30 expired sessions deleted" in out
        assert "cannot count the expired sessions" in err
        assert main([str(ini), "purge", "--dry-run"]) == 1
