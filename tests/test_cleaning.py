"""Deleting expired sessions: what is deleted, and who notices."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from secrets import token_bytes
from typing import Any

import pytest
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Engine, create_engine, event, insert, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from support.apps import (
    EPOCH,
    TABLE,
    Base,
    Clock,
    SessionRow,
    configurator,
    own_configurator,
    plain_engine,
    put,
    rows,
    serve,
    show,
    statements,
)
from support.patience import at_once
from support.races import Gate
from support.servers import Backend, on_servers
from webtest import TestApp

from pyramid_sqlsession import SessionTableError, SQLSessionFactory
from pyramid_sqlsession.cookie import id_of
from pyramid_sqlsession.database.aside import maintaining
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep import cleanup
from pyramid_sqlsession.upkeep.purge import Purge

HOUR = 3600
TTL = HOUR
PATIENCE = 20


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(engine: Engine) -> Any:
    """The application's table, created."""
    Base.metadata.create_all(engine)
    return TABLE


def purge_of(clock: Clock, **options: Any) -> Purge:
    settings = Settings.from_options({"ttl": TTL, **options})
    return Purge(Rows(SessionRow), Lifetime(settings), clock)


def add(engine: Engine, *names: str, **values: Any) -> None:
    """Rows that expired an hour ago and are due, but for these values."""
    row = {
        "data": b'{"n":1}',
        "version": 1,
        "created": EPOCH - 3 * HOUR,
        "last_seen": EPOCH - 2 * HOUR,
        "purge_after": EPOCH - HOUR,
        **values,
    }
    with engine.begin() as connection:
        stored = [{"id": id_of(token(name)), "lineage": token_bytes(16), **row} for name in names]
        connection.execute(insert(TABLE), stored)


def token(name: str) -> str:
    return name.rjust(43, "-")


def left(engine: Engine, *names: str) -> set[str]:
    """Which of these rows are there."""
    ids = {row["id"] for row in rows(engine)}
    return {name for name in names if id_of(token(name)) in ids}


def delete(purge: Purge, engine: Engine, size: int = 500) -> int:
    return sum(purge.batches(engine, size))


# ---- what is deleted


def test_only_rows_that_have_expired_and_are_due_are_deleted(
    engine: Engine, table: Any, clock: Clock
) -> None:
    add(engine, "expired")
    add(engine, "expired-this-second", last_seen=EPOCH - TTL, purge_after=EPOCH)
    add(engine, "one-second-left", last_seen=EPOCH - TTL + 1)
    add(engine, "not-due", purge_after=EPOCH + 1)
    add(engine, "remembered", max_age=3 * HOUR)
    add(engine, "own-lifetime-over", max_age=60, last_seen=EPOCH - 60)
    names = ("one-second-left", "not-due", "remembered")
    purge = purge_of(clock)
    with maintaining(engine) as connection:
        assert purge.count(connection) == 3
    assert delete(purge, engine) == 3
    assert len(rows(engine)) == 3
    assert left(engine, *names) == set(names)


def test_the_absolute_timeout_ends_a_session_that_is_in_use(
    engine: Engine, table: Any, clock: Clock
) -> None:
    add(engine, "old", created=EPOCH - HOUR, last_seen=EPOCH)
    add(engine, "younger", created=EPOCH - HOUR + 1, last_seen=EPOCH)
    assert delete(purge_of(clock), engine) == 0
    assert delete(purge_of(clock, absolute_ttl="1h"), engine) == 1
    assert left(engine, "old", "younger") == {"younger"}


def test_the_lifetime_of_the_cookie_counts_as_it_does_for_a_visitor(
    engine: Engine, table: Any, clock: Clock
) -> None:
    add(engine, "a")
    assert delete(purge_of(clock, cookie_max_age="3h"), engine) == 0
    assert delete(purge_of(clock, cookie_max_age="1h"), engine) == 1


def test_rows_that_were_due_before_ttl_was_raised_are_kept_and_passed_once(
    backend: Backend, engine: Engine, table: Any, clock: Clock
) -> None:
    live = [f"live-{number}" for number in range(30)]
    dead = [f"dead-{number}" for number in range(10)]
    # live ones come first, and among them: a batch of the oldest ones would hold no other
    add(engine, *live[:20], last_seen=EPOCH - HOUR, purge_after=EPOCH - 2 * HOUR)
    add(engine, *live[20:], last_seen=EPOCH - HOUR)
    add(engine, *dead)
    begins = []

    def watch(connection: Any, statement: Any, several: Any, parameters: Any, _: Any) -> None:
        begins.extend([parameters["b_begin"]] if "b_begin" in parameters else [])

    event.listen(engine, "before_execute", watch)
    with statements(engine) as seen:
        assert list(purge_of(clock, ttl="90m").batches(engine, 4)) == [4, 4, 2]
    assert left(engine, *live, *dead) == set(live)
    # the storage engine is looked at once in a process
    verbs = [it.split()[0] for it in seen if "information_schema" not in it]
    lock = [] if backend.name == "sqlite" else ["SELECT"]
    assert verbs == ["SELECT", *lock, "DELETE"] * 3
    assert begins == [-(2**63), EPOCH - HOUR, EPOCH - HOUR]


def test_a_batch_is_a_transaction_of_its_own(engine: Engine, table: Any, clock: Clock) -> None:
    add(engine, *(str(number) for number in range(10)))
    batches = purge_of(clock).batches(engine, 3)
    seen = [(deleted, len(rows(engine))) for deleted in batches]
    assert seen == [(3, 7), (3, 4), (3, 1), (1, 0)]


def test_the_last_batch_may_be_empty(engine: Engine, table: Any, clock: Clock) -> None:
    add(engine, "a", "b")
    assert list(purge_of(clock).batches(engine, 2)) == [2]
    assert list(purge_of(clock).batches(engine, 2)) == []


def test_a_trigger_that_keeps_a_row_does_not_keep_the_purge_for_ever(
    sqlite: Backend, clock: Clock
) -> None:
    engine = create_engine(sqlite.url)
    Base.metadata.create_all(engine)
    add(engine, *(str(number) for number in range(5)))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER keep BEFORE DELETE ON sqlsession WHEN old.version = 1 "
            "BEGIN SELECT RAISE(IGNORE); END"
        )
    add(engine, "later", purge_after=EPOCH, version=2)
    assert delete(purge_of(clock), engine, 2) == 1
    assert len(rows(engine)) == 5


@on_servers
@pytest.mark.parametrize("size", [2, 500])
def test_rows_that_other_rows_refer_to_are_left_and_do_not_stop_the_purge(
    backend: Backend,
    engine: Engine,
    table: Any,
    clock: Clock,
    size: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind = "BYTEA" if backend.name == "postgresql" else "BINARY(32)"
    kept = ["kept-1", "kept-2", "kept-3"]
    add(engine, *kept)
    add(engine, "gone", "gone-too", purge_after=EPOCH - 1)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE device (session {kind}, "
            "FOREIGN KEY (session) REFERENCES sqlsession (id))"
        )
        for name in kept:
            row = text("INSERT INTO device VALUES (:id)")
            connection.execute(row, {"id": id_of(token(name))})
    assert delete(purge_of(clock), engine, size) == 2
    assert left(engine, *kept, "gone", "gone-too") == set(kept)
    line = log_lines(caplog, logging.WARNING)[-1]
    assert "skipping them" in line
    assert "needs ON DELETE CASCADE or SET NULL" in line
    assert "\n" not in line
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE device")


def test_rows_that_are_due_in_the_same_second_are_walked_in_the_order_of_the_index(
    postgresql: Backend, clock: Clock
) -> None:
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    add(engine, *(str(number) for number in range(5000)))
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE sqlsession")
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and not plans:
            plan = connection.connection.cursor().execute("EXPLAIN " + statement, parameters)
            plans.append("\n".join(line for (line,) in plan))

    event.listen(engine, "before_cursor_execute", explain)
    assert delete(purge_of(clock), engine) == 5000
    assert "Index Scan using ix_sqlsession_purge_after" in plans[0]
    # sorting would read all rows of that second for each batch
    assert "Sort" not in plans[0]


def test_what_expires_while_a_purge_runs_is_left_for_the_next_one(
    engine: Engine, table: Any, clock: Clock
) -> None:
    add(engine, "a", "b")
    add(engine, "soon", purge_after=EPOCH + 1)
    batches = purge_of(clock).batches(engine, 1)
    assert next(batches) == 1
    clock.advance(1)
    assert list(batches) == [1]
    assert left(engine, "soon") == {"soon"}


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_numbers_that_make_no_sense_do_not_stop_a_purge(
    engine: Engine, table: Any, clock: Clock, number: int
) -> None:
    add(engine, "a", "b")
    for column in ("created", "last_seen", "purge_after"):
        add(engine, column, **{column: number})
    add(engine, "max-age", max_age=2**31 - 1)
    add(engine, "negative", max_age=-(2**31))
    purge = purge_of(clock, absolute_ttl="5h")
    delete(purge, engine, 1)
    assert left(engine, "a", "b", "negative") == set()
    if number > 0:
        assert left(engine, "last_seen", "purge_after") == {"last_seen", "purge_after"}
    else:
        assert rows(engine)[0]["id"] == id_of(token("max-age"))


def test_a_missing_table_is_an_error_that_says_so(engine: Engine, clock: Clock) -> None:
    with pytest.raises(SessionTableError, match="'sqlsession' is missing"):
        delete(purge_of(clock), engine)
    with maintaining(engine) as connection, pytest.raises(SessionTableError):
        purge_of(clock).count(connection)


# ---- at the same time


@pytest.fixture
def strict(backend: Backend) -> Iterator[Engine]:
    """An engine whose statements do not wait for a lock: they fail."""
    options: dict[str, Any] = {
        "postgresql": {"options": "-c lock_timeout=500"},
        "mysql": {"init_command": "SET innodb_lock_wait_timeout = 1"},
        "sqlite": {"timeout": 10},
    }
    engine = create_engine(backend.url, connect_args=options[backend.dialect])
    yield engine
    engine.dispose()


class Halt:
    """Stops a thread's purge between the rows' being found and their deletion."""

    def __init__(self, engine: Engine) -> None:
        self.gate = Gate()
        self.main = threading.current_thread()
        event.listen(engine, "before_cursor_execute", self)

    def __call__(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if threading.current_thread() is not self.main and statement.startswith("DELETE"):
            self.gate.stop()


class Parallel:
    """A purge in a thread."""

    def __init__(self, purge: Purge, engine: Engine, size: int = 500) -> None:
        self.deleted: int | None = None
        self.error: Exception | None = None
        self._purge = purge
        self._engine = engine
        self._size = size
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.deleted = delete(self._purge, self._engine, self._size)
        except Exception as error:  # noqa: BLE001  # the test looks at it
            self.error = error

    def end(self) -> int:
        """Come back when it is done: how many rows it deleted."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the purge hangs"
        assert self.error is None, self.error
        assert self.deleted is not None
        return self.deleted


def refresh(connection: Any, name: str) -> None:
    connection.execute(
        update(TABLE).where(TABLE.c.id == id_of(token(name))).values(last_seen=EPOCH)
    )


@on_servers
def test_a_session_that_is_being_refreshed_is_skipped_without_waiting(
    engine: Engine, strict: Engine, table: Any, clock: Clock
) -> None:
    add(engine, "other", "refreshed", "third")
    with engine.begin() as connection:
        refresh(connection, "refreshed")
        # it would fail if it waited
        assert delete(purge_of(clock), strict) == 2
        assert left(engine, "refreshed", "other", "third") == {"refreshed"}
    assert delete(purge_of(clock), strict) == 0


def test_a_session_that_is_refreshed_before_its_deletion_is_kept(
    backend: Backend, engine: Engine, strict: Engine, table: Any, clock: Clock
) -> None:
    if backend.name == "sqlite":
        # as SQLAlchemy recommends: a SELECT begins a transaction too
        event.listen(strict, "begin", lambda begun: begun.exec_driver_sql("BEGIN"))
    add(engine, "other", "refreshed")
    halt = Halt(strict)
    purge = Parallel(purge_of(clock), strict)
    halt.gate.wait()
    if backend.name == "sqlite":
        with engine.begin() as connection:
            refresh(connection, "refreshed")
        halt.gate.open()
        assert purge.end() == 1
        assert left(engine, "refreshed", "other") == {"refreshed"}
    else:
        # the purge has the rows: a refresh comes too late, and waits
        with pytest.raises(DBAPIError, match=r"(?i)lock"), strict.begin() as connection:
            refresh(connection, "refreshed")
        halt.gate.open()
        assert purge.end() == 2


def test_a_deletion_checks_the_expiry_again(engine: Engine, table: Any, clock: Clock) -> None:
    add(engine, "other", "refreshed")
    purge = purge_of(clock)

    def refresh_at_once(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE"):
            cursor.execute(f"UPDATE sqlsession SET last_seen = {EPOCH} WHERE version = 2")

    with engine.begin() as connection:
        connection.execute(
            update(TABLE).where(TABLE.c.id == id_of(token("refreshed"))).values(version=2)
        )
    event.listen(engine, "before_cursor_execute", refresh_at_once)
    assert delete(purge, engine) == 1
    assert left(engine, "refreshed", "other") == {"refreshed"}


def test_visitors_do_not_notice_a_purge_in_its_transaction(
    backend: Backend, engine: Engine, strict: Engine, clock: Clock
) -> None:
    def remember_briefly(request: Any) -> None:
        request.session["n"] = 2
        # due for deletion soon, in the gap between the rows that are and those that are not
        request.session.max_age = 1

    app = serve(
        configurator(strict, clock=clock, ttl="1h", touch_interval="1m"),
        put=put, show=show, brief=remember_briefly,
    )  # fmt: skip
    # rows that are due but live are passed by the purge too
    add(engine, "live", "read", "written", "ended", last_seen=EPOCH - 600)
    add(engine, "expired", purge_after=EPOCH - HOUR - 1)
    add(engine, "expired-too", purge_after=EPOCH - HOUR + 1)
    halt = Halt(strict)
    purge = Parallel(purge_of(clock), strict)
    halt.gate.wait()
    for name, path, expected in (
        ("read", "/show", {"n": 1}),
        ("written", "/put", {}),
        ("expired", "/show", {}),
        ("new", "/brief", None),
    ):
        browser = TestApp(app.app)
        browser.set_cookie("session", token(name))
        assert browser.get(path).json == expected
    halt.gate.open()
    assert purge.end() == 2
    seen = {row["id"]: row["last_seen"] for row in rows(engine)}
    assert (seen[id_of(token("read"))], seen[id_of(token("written"))]) == (EPOCH, EPOCH)
    assert len(seen) == 5


def test_purges_at_once_share_the_work(
    backend: Backend, engine: Engine, table: Any, clock: Clock
) -> None:
    add(engine, *(str(number) for number in range(300)))
    engines = [create_engine(backend.url) for _ in range(3)]
    deleted = at_once(lambda own: sum(purge_of(clock).batches(own, 10)), engines)
    delete(purge_of(clock), engine)
    assert rows(engine) == []
    assert sum(deleted) <= 300


@on_servers
def test_a_purge_passes_what_another_one_is_deleting(
    engine: Engine, strict: Engine, table: Any, clock: Clock
) -> None:
    add(engine, *(str(number) for number in range(10)))
    halt = Halt(strict)
    other = Parallel(purge_of(clock), strict, 4)
    halt.gate.wait()
    # it would fail if it waited
    assert delete(purge_of(clock), strict, 4) == 6
    halt.gate.open()
    assert other.end() == 4


# ---- the thread


class Ticks:
    """Stands in for chance: the thread cleans when the test says so, without a pause."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []
        self._asked = threading.Semaphore(0)
        self._answer = threading.Semaphore(0)
        self._is_over = False

    def __call__(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        self._asked.release()
        if not self._is_over:
            assert self._answer.acquire(timeout=PATIENCE)
        return 60 if self._is_over else 0

    def wait(self) -> None:
        """Come back when the thread is about to pause."""
        assert self._asked.acquire(timeout=PATIENCE)

    def go(self) -> None:
        """Let the thread clean, without anybody waiting for it."""
        self._answer.release()

    def clean(self) -> None:
        """Let the thread clean once."""
        self.go()
        self.wait()

    def close(self) -> None:
        """Let the thread pause for long."""
        self._is_over = True
        self._answer.release()


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    ticks = Ticks()
    monkeypatch.setattr(cleanup, "uniform", ticks)
    yield ticks
    ticks.close()


def cleaning_threads() -> int:
    names = [thread.name for thread in threading.enumerate()]
    return names.count("pyramid_sqlsession cleanup")


def log_lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and "expired sessions" in record.getMessage()
    ]


def start(config: Any, ticks: Ticks) -> TestApp:
    """An application whose thread is about to pause for the first time."""
    app = serve(config, put=put, show=show)
    assert cleaning_threads() == 0
    # a request that uses its session shows the engine
    app.get("/show", headers={"Cookie": f"session={token('unknown')}"})
    ticks.wait()
    return app


def test_the_first_request_starts_one_thread_that_deletes_expired_sessions(
    engine: Engine, clock: Clock, ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = start(configurator(engine, clock=clock, ttl=TTL, cleanup_interval="15m"), ticks)
    add(engine, "expired", "another")
    for _ in range(3):
        app.get("/show")
    assert cleaning_threads() == 1
    ticks.clean()
    assert rows(engine) == []
    (line,) = log_lines(caplog, logging.INFO)
    assert re.match(r"2 expired sessions deleted in \d+\.\d seconds", line)
    ticks.clean()
    assert len(log_lines(caplog, logging.INFO)) == 1
    assert len(log_lines(caplog, logging.DEBUG)) == 1
    assert ticks.asked == [(0, 900), (450, 1350), (450, 1350)]


def test_an_engine_of_our_own_is_cleaned_too(
    backend: Backend, engine: Engine, ticks: Ticks
) -> None:
    app = start(own_configurator(backend.url, cleanup_interval="1h", ttl="10"), ticks)
    app.get("/put")
    factory: SQLSessionFactory = app.app.registry.getUtility(ISessionFactory)
    now = factory.clock()
    factory.clock = lambda: now + 7200
    ticks.clean()
    assert rows(engine, SQLSessionRow.__table__) == []
    assert app.get("/show").json == {}


def test_it_is_cleaned_every_15_minutes_unless_the_ini_file_says_otherwise(
    engine: Engine, ticks: Ticks
) -> None:
    start(configurator(engine, {"sqlsession.cleanup_interval": "10m"}), ticks)
    assert ticks.asked == [(0, 600)]
    assert Settings().cleanup_interval == 900
    assert Settings().cleanup_batch == 500


@pytest.mark.parametrize("off", ["0", "false", "none", "", "no", "off", 0, False, None])
def test_it_can_be_switched_off(off: Any) -> None:
    assert Settings.from_options({"cleanup_interval": off}).cleanup_interval is None


def test_no_thread_is_started_where_it_is_switched_off(engine: Engine) -> None:
    app = serve(configurator(engine, {"sqlsession.cleanup_interval": "0"}), show=show)
    app.get("/show")
    assert cleaning_threads() == 0


def test_closing_the_factory_ends_the_thread_and_a_request_starts_another(
    engine: Engine, ticks: Ticks
) -> None:
    app = start(configurator(engine, {"sqlsession.cleanup_interval": "1h"}), ticks)
    ticks.close()
    factory = app.app.registry.getUtility(ISessionFactory)
    factory.close()
    assert cleaning_threads() == 0
    factory.close()
    app.get("/show")
    ticks.wait()
    assert cleaning_threads() == 1


def test_a_thread_that_is_told_to_end_finishes_its_batch_only(
    engine: Engine, clock: Clock, ticks: Ticks
) -> None:
    config = configurator(engine, clock=clock, ttl=TTL, cleanup_interval=60, cleanup_batch=1)
    app = start(config, ticks)
    add(engine, *(str(number) for number in range(5)))
    halt = Halt(engine)
    ticks.go()
    halt.gate.wait()
    ticks.close()
    factory = app.app.registry.getUtility(ISessionFactory)
    ending = threading.Thread(target=factory.close)
    ending.start()
    assert factory._store.cleaner._stopping.wait(PATIENCE)
    halt.gate.open()
    ending.join(PATIENCE)
    assert cleaning_threads() == 0
    assert len(rows(engine)) == 4


@pytest.mark.parametrize(("taken", "rest"), [(0.1, 0.9), (60, 5)])
def test_the_thread_rests_nine_times_as_long_as_each_batch_took_and_not_for_long(
    engine: Engine,
    clock: Clock,
    ticks: Ticks,
    monkeypatch: pytest.MonkeyPatch,
    taken: float,
    rest: float,
) -> None:
    config = configurator(engine, clock=clock, ttl=TTL, cleanup_interval=60, cleanup_batch=2)
    start(config, ticks)
    add(engine, *(str(number) for number in range(5)))
    wait, rests = threading.Event.wait, []

    def hardly_wait(event: threading.Event, timeout: float | None = None) -> bool:
        is_cleaner = threading.current_thread().name == "pyramid_sqlsession cleanup"
        # 60 seconds are the pause in which the thread is stopped
        if is_cleaner and timeout != 60:
            rests.append(timeout)
            timeout = 0
        return wait(event, timeout)

    seconds = iter(range(1000))
    monkeypatch.setattr(threading.Event, "wait", hardly_wait)
    # so much passes between two looks at it
    monkeypatch.setattr(cleanup, "monotonic", lambda: next(seconds) * taken)
    ticks.clean()
    assert rows(engine) == []
    # three batches, and before them the pause
    assert rests == pytest.approx([0, rest, rest, rest])


def test_requests_that_start_it_at_once_start_one_thread(
    engine: Engine, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = serve(configurator(engine, {"sqlsession.cleanup_interval": "1h"}), show=show)
    looks, runs = [], cleanup.Cleaner._runs

    def look_while_another_request_starts_it(cleaner: cleanup.Cleaner) -> bool:
        looks.append(answer := runs(cleaner))
        if len(looks) == 1:
            other = threading.Thread(target=cleaner.start)
            other.start()
            other.join(PATIENCE)
        return answer

    monkeypatch.setattr(cleanup.Cleaner, "_runs", look_while_another_request_starts_it)
    app.get("/show")
    assert looks[0] is False
    assert cleaning_threads() == 1


def test_a_request_does_not_wait_for_another_one_that_is_starting_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = serve(configurator(engine, {"sqlsession.cleanup_interval": "1h"}), show=show)
    looks, runs = [], cleanup.Cleaner._runs

    def let_another_request_come_by(cleaner: cleanup.Cleaner) -> bool:
        looks.append(cleaner)
        # the second look is made behind the lock
        if len(looks) == 2:
            other = threading.Thread(target=cleaner.start)
            other.start()
            other.join(PATIENCE)
            assert not other.is_alive()
        return runs(cleaner)

    monkeypatch.setattr(cleanup.Cleaner, "_runs", let_another_request_come_by)
    app.get("/show")
    assert len(looks) == 3
    assert cleaning_threads() == 1


def test_a_thread_that_cannot_be_started_is_a_log_line_and_no_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    app = serve(configurator(engine, {"sqlsession.cleanup_interval": "1h"}), put=put, show=show)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    app.get("/put")
    monkeypatch.undo()
    assert app.get("/show").json == {"cart": [1]}
    (line,) = log_lines(caplog, logging.WARNING)
    assert line.endswith("cannot start a thread: can't start new thread")


@on_servers
@pytest.mark.parametrize("own", [False, True], ids=["dbsession", "own engine"])
def test_a_database_that_is_down_is_one_log_line_and_another_try_later(
    backend: Backend, engine: Engine, ticks: Ticks, caplog: pytest.LogCaptureFixture, own: bool
) -> None:
    assert backend.server is not None
    if own:
        app = start(own_configurator(backend.url, cleanup_interval="1h", ttl=5), ticks)
    else:
        app = start(
            configurator(engine, {"sqlsession.cleanup_interval": "1h", "sqlsession.ttl": 5}), ticks
        )
    app.get("/put")
    factory = app.app.registry.getUtility(ISessionFactory)
    now = factory.clock()
    factory.clock = lambda: now + 7200
    backend.server.stop()
    try:
        for number in (1, 2):
            ticks.clean()
            lines = log_lines(caplog, logging.WARNING)
            assert len(lines) == number
            assert all("trying again later" in line and "\n" not in line for line in lines)
        assert backend.server.password not in caplog.text
    finally:
        backend.server.start()
    ticks.clean()
    assert rows(engine, SQLSessionRow.__table__ if own else TABLE) == []
    assert len(log_lines(caplog, logging.WARNING)) == 2


def test_an_engine_with_one_connection_is_the_applications_alone(
    ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    engine = plain_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    app = start(configurator(engine, {"sqlsession.cleanup_interval": "1h"}), ticks)
    app.get("/put")
    with statements(engine) as seen:
        ticks.clean()
    assert seen == []
    (line,) = log_lines(caplog, logging.WARNING)
    assert "there is no engine with several connections" in line


def test_an_engine_that_is_seen_later_is_cleaned(
    engine: Engine, clock: Clock, ticks: Ticks
) -> None:
    sessions: list[Any] = []

    def given(request: Any) -> Any:
        return sessions[-1]

    config = configurator(engine, clock=clock, dbsession="given", ttl=TTL, cleanup_interval="1h")
    config.add_request_method(given, reify=True)
    add(engine, "expired")
    with engine.connect() as connection:
        sessions.append(Session(connection))
        app = start(config, ticks)
        sessions.pop().close()
    ticks.clean()
    assert left(engine, "expired") == {"expired"}
    with Session(engine) as session:
        sessions.append(session)
        app.get("/show", headers={"Cookie": f"session={token('unknown')}"})
    ticks.clean()
    assert left(engine, "expired") == set()
