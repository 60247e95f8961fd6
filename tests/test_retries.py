"""The database's errors for one of two requests at once: run again, and never taken for done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pyramid.response import Response
from pyramid.threadlocal import get_current_request
from pyramid_retry import RetryableException
from sqlalchemy import Connection, Engine, create_engine, func, insert, select, text, update
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from support.apps import (
    TABLE,
    Base,
    Note,
    configurator,
    listening,
    notes,
    prefixed,
    rows,
)
from support.apps import serve as browser_of
from support.races import Action, Flight, Gate, Site, add, both, put, view
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionConflict

Serve = Callable[..., Site]
USER = "auth.userid"

with_and_without_catch_all = pytest.mark.parametrize(
    "catch_all", [False, True], ids=["no exception view", "catch-all exception view"]
)
mysql_drivers = pytest.mark.parametrize("driver", ["mysql+pymysql", "mysql+mysqldb"])


class Retried(Flight):
    """A request whose second attempt stops before it does anything."""

    def __init__(self, app: Any, token: str | None, action: Action) -> None:
        super().__init__(app, token, action)
        self._again = Gate()

    def view(self, request: Any) -> Any:
        if self.attempts == 1:
            self._again.stop()
        return super().view(request)

    def fail_once(self) -> Flight:
        """Go on until the first attempt has failed, and the second one is about to start."""
        self.release()
        self.start()
        self._again.wait()
        assert self.attempts == 1, "the first attempt was the last"
        return self

    def release(self) -> Flight:
        """Go on; the second attempt waits for :meth:`finish`."""
        return super().release()

    def finish(self) -> Flight:
        self._again.open()
        return super().finish()

    def _run(self) -> None:
        super()._run()
        self._again.leave()


class Witness:
    """Another resource of a transaction: it knows whether that was committed."""

    committed = False

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return "witness"

    def abort(self, transaction: Any) -> None: ...

    tpc_begin = commit = tpc_vote = tpc_abort = abort

    def tpc_finish(self, transaction: Any) -> None:
        self.committed = True


def dbsession() -> Session:
    """The running request's."""
    session: Session = get_current_request().dbsession
    return session


def write(number: int, more: str) -> Action:
    """Lengthen a note."""

    def action(session: Any) -> None:
        dbsession().execute(
            update(Note).where(Note.id == number).values(text=func.concat(Note.text, more))
        )

    return action


def new_note(content: str) -> Action:
    def action(session: Any) -> None:
        dbsession().add(Note(text=content))
        dbsession().flush()

    return action


def apologize(error: Any, request: Any) -> Response:
    """A catch-all exception view."""
    return Response("sorry", 500)


def commit_all(request: Any, response: Any) -> bool:
    """A commit veto that never says no."""
    return False


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes applications on an engine."""
    sites: list[Site] = []

    def make(
        engine: Engine,
        attempts: int | None = 3,
        *,
        catch_all: bool = False,
        veto: bool = False,
        **settings: Any,
    ) -> Site:
        values: dict[str, Any] = prefixed(settings)
        if attempts is not None:
            values["retry.attempts"] = attempts
        if veto:
            values["tm.commit_veto"] = commit_all
        config = configurator(engine, values, retry=attempts is not None)
        config.add_route("view", "/")
        config.add_view(view, route_name="view", renderer="json")
        if catch_all:
            config.add_exception_view(apologize, context=Exception)
        site = Site(config.make_wsgi_app(), engine)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()
        site.engine.dispose()


@contextmanager
def holding(engine: Engine, *statements: Any) -> Iterator[Connection]:
    """Another client, in a transaction with these statements."""
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(statement)
        yield connection
        connection.rollback()


@contextmanager
def errors_of(engine: Engine) -> Iterator[list[str | None]]:
    """The statements that fail meanwhile; None is a COMMIT."""
    failed: list[str | None] = []

    def note(context: ExceptionContext) -> None:
        failed.append(context.statement)

    with listening(engine, "handle_error", note):
        yield failed


# ---- run again


@with_and_without_catch_all
@pytest.mark.parametrize("used", [True, False], ids=["later", "in the very first requests"])
def test_a_serialization_failure_at_commit_is_run_again(
    postgresql: Backend, serve: Serve, catch_all: bool, used: bool
) -> None:
    engine = create_engine(postgresql.url, isolation_level="SERIALIZABLE")
    site = serve(engine, catch_all=catch_all)
    token = site.start(n=0) if used else None

    def count(session: Any) -> Any:
        before = dbsession().scalar(select(func.count()).select_from(Note))
        new_note(f"{before} before")(session)
        return before

    first, second = site.load(token, count, count)
    with errors_of(engine) as failed:
        first.save()
        second.save()
        assert first.finish().result == 0
        assert second.finish().result == 1
    assert failed == [None]
    assert second.attempts == 2
    assert notes(engine) == ["0 before", "1 before"]


def deadlock(site: Site) -> None:
    """Two requests that lock two notes crosswise."""
    token = site.start(n=0)
    gates = Gate(), Gate()

    def crossing(gate: Gate, mine: int, other: int, more: str) -> Action:
        return both(write(mine, more), lambda session: gate.stop(), write(other, more))

    first, second = site.load(token, crossing(gates[0], 1, 2, "a"), crossing(gates[1], 2, 1, "b"))
    first.release()
    second.release()
    for gate in gates:
        gate.wait()
    for gate in gates:
        gate.open()
    assert first.finish().ok, first.error
    assert second.finish().ok, second.error
    # whoever was sent away may come back too early, and be sent away again
    assert first.attempts + second.attempts >= 3
    assert {"".join(sorted(note)) for note in notes(site.engine)} == {"ab"}


def two_notes(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Note), [{"id": 1, "text": ""}, {"id": 2, "text": ""}])


@with_and_without_catch_all
def test_a_deadlock_on_postgresql_is_run_again(
    postgresql: Backend, serve: Serve, catch_all: bool
) -> None:
    options = {"options": "-c deadlock_timeout=20"}
    engine = create_engine(postgresql.url, connect_args=options)
    two_notes(engine)
    deadlock(serve(engine, 20, catch_all=catch_all))


@with_and_without_catch_all
@mysql_drivers
def test_a_deadlock_on_mariadb_is_run_again(
    mariadb: Backend, serve: Serve, catch_all: bool, driver: str
) -> None:
    engine = create_engine(mariadb.with_driver(driver))
    two_notes(engine)
    deadlock(serve(engine, 20, catch_all=catch_all))


PATIENCE: dict[str, dict[str, Any]] = {
    "postgresql+psycopg": {"options": "-c lock_timeout=500"},
    "mysql+pymysql": {"init_command": "SET innodb_lock_wait_timeout = 1"},
    "mysql+mysqldb": {"init_command": "SET innodb_lock_wait_timeout = 1"},
}


@pytest.fixture(params=PATIENCE)
def impatient(request: pytest.FixtureRequest) -> Engine:
    """An engine whose statements wait for a lock, but not for long."""
    server = "postgresql" if request.param.startswith("postgresql") else "mariadb"
    backend: Backend = request.getfixturevalue(server)
    url = backend.with_driver(request.param)
    return create_engine(url, connect_args=PATIENCE[request.param])


def test_a_lock_wait_timeout_of_the_applications_statement_is_run_again(
    impatient: Engine, serve: Serve
) -> None:
    two_notes(impatient)
    site = serve(impatient, catch_all=True)
    token = site.start(n=0)
    flight = site.request(both(write(1, "mine"), add("n")), token, Retried)
    assert isinstance(flight, Retried)
    with holding(impatient, update(Note).values(text="other")):
        flight.fail_once()
    assert flight.finish().ok
    assert sorted(notes(impatient)) == ["", "mine"]
    assert site.data(token) == {"n": 1}


def test_a_lock_wait_timeout_of_the_sessions_statement_is_run_again(
    impatient: Engine, serve: Serve
) -> None:
    site = serve(impatient, catch_all=True)
    token = site.start(n=0)
    flight = site.request(both(new_note("mine"), add("n")), token, Retried)
    assert isinstance(flight, Retried)
    with holding(impatient, select(TABLE).with_for_update()):
        flight.fail_once()
    assert flight.finish().ok
    assert notes(impatient) == ["mine"]
    assert site.data(token) == {"n": 1}


def test_a_lock_wait_timeout_on_the_last_attempt_stores_nothing(
    impatient: Engine, serve: Serve
) -> None:
    site = serve(impatient, None)
    token = site.start(n=0)
    flight = site.request(both(new_note("mine"), add("n")), token).load()
    with holding(impatient, select(TABLE).with_for_update()):
        flight.finish()
    assert isinstance(flight.error, SessionConflict)
    assert notes(impatient) == []
    assert site.data(token) == {"n": 0}


def at_once(session: Any) -> None:
    dbsession().execute(select(Note).with_for_update(nowait=True))


def test_an_application_that_asks_what_is_locked_gets_its_answer_once(
    impatient: Engine, serve: Serve
) -> None:
    two_notes(impatient)
    site = serve(impatient)
    flight = site.request(at_once, site.start(n=0)).load()
    with holding(impatient, update(Note).values(text="other")):
        flight.finish()
    assert flight.attempts == 1
    assert isinstance(flight.error, OperationalError)


def test_a_row_that_changed_since_the_snapshot_is_a_conflict_on_mariadb_too(
    mariadb: Backend, serve: Serve
) -> None:
    init = {"init_command": "SET innodb_snapshot_isolation = ON"}
    engine = create_engine(mariadb.url, connect_args=init)
    site = serve(engine)
    token = site.start(n=0)
    first, second = site.load(token, add("n"), put("m", 1))
    assert first.finish().ok
    assert second.finish().ok
    assert second.attempts == 2
    assert site.data(token) == {"n": 1, "m": 1}


SQLITE_BUSY = {
    "the session is read": ("BEGIN EXCLUSIVE", add("n"), "SELECT"),
    "the application writes": ("BEGIN IMMEDIATE", both(new_note("mine"), add("n")), "INSERT"),
    "the session is written": ("BEGIN IMMEDIATE", add("n"), "UPDATE"),
    "the transaction commits": ("BEGIN", add("n"), None),
}


@with_and_without_catch_all
@pytest.mark.parametrize("when", SQLITE_BUSY)
def test_a_busy_sqlite_database_is_tried_again(
    sqlite: Backend, serve: Serve, catch_all: bool, when: str
) -> None:
    begin, action, statement = SQLITE_BUSY[when]
    engine = create_engine(sqlite.url, connect_args={"timeout": 0.05})
    site = serve(engine, catch_all=catch_all)
    token = site.start(n=0)
    flight = site.request(action, token, Retried)
    assert isinstance(flight, Retried)
    with errors_of(engine) as failed:
        # in rollback journal mode, whoever reads keeps others from committing
        with holding(engine, text(begin), *([text("SELECT * FROM note")] * (begin == "BEGIN"))):
            flight.fail_once()
        assert flight.finish().ok
    (failure,) = failed
    assert (failure and failure.split()[0]) == statement
    assert site.data(token) == {"n": 1}


def test_what_a_busy_commit_did_not_store_is_not_stored_by_a_later_request(
    sqlite: Backend, serve: Serve
) -> None:
    engine = create_engine(sqlite.url, connect_args={"timeout": 0.05})
    site = serve(engine, None)
    token = site.start(n=0)
    flight = site.request(both(new_note("mine"), add("n")), token).load()
    with holding(engine, text("BEGIN"), text("SELECT * FROM note")):
        assert isinstance(flight.finish().error, OperationalError)
    site.visit(put("m", 1), token)
    assert site.data(token) == {"n": 0, "m": 1}
    assert notes(engine) == []


@with_and_without_catch_all
def test_a_conflict_of_the_session_is_run_again_whatever_exception_views_there_are(
    backend: Backend, serve: Serve, catch_all: bool
) -> None:
    site = serve(create_engine(backend.url), catch_all=catch_all)
    token = site.start(n=0)
    first, second = site.load(token, add("n"), both(new_note("mine"), add("n")))
    assert first.finish().ok
    assert second.finish().ok
    assert second.attempts == 2
    assert site.data(token) == {"n": 2}
    assert notes(site.engine) == ["mine"]


@pytest.mark.parametrize("catch_all", [False, True], ids=["no page", "a page for everything"])
@pytest.mark.parametrize("wanted", ["step up", "sign out"])
def test_an_attempt_that_fails_in_its_view_tells_the_next_one_whom_it_had_found(
    engine: Engine, wanted: str, catch_all: bool
) -> None:
    """A revoked user is not brought back, and a sign-out not forgotten."""

    def enter(request: Any) -> Any:
        request.session[USER] = "alice"
        return {}

    def change(request: Any) -> Any:
        attempts.append(len(request.session))
        if wanted == "step up":
            request.session[USER] = "alice"
        else:
            request.session.pop(USER, None)
        if len(attempts) == 1:
            if wanted == "step up":
                other.get("/revoke")
            else:
                other.get("/enter")
            raise RetryableException
        return {}

    def revoke(request: Any) -> Any:
        return request.sqlsessions.revoke_user("alice")

    attempts: list[int] = []
    config = configurator(engine, {"retry.attempts": 3}, retry=True)
    if catch_all:
        config.add_exception_view(lambda request: Response("sorry"), Exception)
    app = browser_of(config, enter=enter, change=change, revoke=revoke)
    app.get("/enter")
    other = TestApp(app.app)
    other.set_cookie("session", app.cookies["session"].strip('"'))
    app.get("/change")
    assert attempts[0] == 1
    live = [row for row in rows(engine) if row["replaced"] is None]
    assert [row["user_id"] for row in live] == []


def test_the_exception_view_renders_a_conflict_that_is_not_run_again(
    backend: Backend, serve: Serve
) -> None:
    site = serve(create_engine(backend.url), None, catch_all=True, veto=True, conflict="strict")
    token = site.start(n=0)
    first, second = site.load(token, add("n"), both(new_note("mine"), add("n")))
    assert first.finish().ok
    second.finish()
    assert second.response.status_int == 500
    assert second.response.text == "sorry"
    # the veto said "commit"
    assert site.data(token) == {"n": 1}
    assert notes(site.engine) == []


# ---- never taken for done


def hasty(postgresql: Backend) -> Engine:
    """Statements that find something locked fail, and with them their transactions."""
    return create_engine(postgresql.url, connect_args={"options": "-c lock_timeout=50"})


with_and_without_veto = pytest.mark.parametrize(
    "veto", [False, True], ids=["no veto", "a veto that commits"]
)


@with_and_without_catch_all
@with_and_without_veto
def test_a_save_that_fails_fails_the_request(
    postgresql: Backend, serve: Serve, catch_all: bool, veto: bool
) -> None:
    engine = hasty(postgresql)
    site = serve(engine, None, catch_all=catch_all, veto=veto)
    token = site.start(n=0)
    witness = Witness()
    flight = site.request(both(joined(witness), new_note("mine"), add("n")), token).load()
    with holding(engine, select(TABLE).with_for_update()):
        flight.finish()
    assert not flight.ok
    assert not witness.committed
    assert notes(engine) == []
    assert site.data(token) == {"n": 0}


def joined(witness: Witness) -> Action:
    def action(session: Any) -> None:
        get_current_request().tm.get().join(witness)

    return action


class LateReader(Flight):
    """A request that reads its session last."""

    def view(self, request: Any) -> Any:
        self.attempts += 1
        return self.action(request.session)


def careless(session: Any) -> None:
    try:
        session.get("n")
    except SessionConflict:
        return
    raise AssertionError("the session could be read")


def plain(session: Any) -> None:
    session.get("n")


@pytest.mark.parametrize("read", [careless, plain], ids=["swallowed", "raised"])
@with_and_without_catch_all
@with_and_without_veto
def test_a_read_that_fails_leaves_no_transaction_that_commits_nothing(
    postgresql: Backend, serve: Serve, read: Action, catch_all: bool, veto: bool
) -> None:
    engine = hasty(postgresql)
    site = serve(engine, None, catch_all=catch_all, veto=veto)
    token = site.start(n=0)
    witness = Witness()
    action = both(joined(witness), new_note("mine"), read)
    flight = site.request(action, token, LateReader)
    with holding(engine, text(f"LOCK TABLE {TABLE.name} IN ACCESS EXCLUSIVE MODE")):
        flight.start()
        flight.finish()
    stored = notes(engine) == ["mine"]
    # other resources, a mail that is to be sent, are told the truth
    assert witness.committed is stored
