"""What each driver has to do: for the application's database session, and an engine of its own.

The drivers differ in how they tell errors, and in what they notice of a lost connection. Everything
else is tested with one or two of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pyramid.interfaces import ISessionFactory
from pyramid.threadlocal import get_current_request
from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import DBAPIError
from support.apps import EPOCH, TABLE, Clock, SessionRow
from support.patience import wait_until
from support.places import BY_DRIVER, Place, in_places
from support.races import Site, add, drop, put
from support.servers import Server

from pyramid_sqlsession import SessionConflict, SessionTableError
from pyramid_sqlsession.driver_errors import is_timeout, reason
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

every_driver = in_places(BY_DRIVER)
every_servers_driver = in_places(name for name in BY_DRIVER if "sqlite" not in name)
every_driver_of_mysql = in_places(name for name in BY_DRIVER if name.startswith("m"))
# MySQL limits neither what changes rows nor a transaction that does nothing
where_the_server_is_impatient = in_places(
    name for name in BY_DRIVER if name.startswith(("postgresql", "mariadb"))
)

TEXT = "žluť 🐎 \\ ' \" % %s ? :x \0" * 1000

MYSQL = ["1020", "1205", "1213", "3101", "1180 Got error 149 - 'Lock deadlock; Retry ...'"]
CONFLICTS = {"postgresql": ["40001", "40P01", "55P03"], "mariadb": MYSQL, "mysql": MYSQL}
LOST = ["1047 not ready", "1180 Got error 6 - 'No such device or address'"]

LIMITS = {
    ("postgresql", "lock"): ("lock_timeout", 200, 0),
    ("postgresql", "statement"): ("statement_timeout", 200, 0),
    ("postgresql", "idle transaction"): ("idle_in_transaction_session_timeout", 200, 0),
    ("mariadb", "lock"): ("innodb_lock_wait_timeout", 1, 50),
    ("mysql", "lock"): ("innodb_lock_wait_timeout", 1, 50),
    ("mariadb", "statement"): ("max_statement_time", 0.2, 0),
    ("mariadb", "idle transaction"): ("idle_transaction_timeout", 1, 0),
}
TRANSACTIONS = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'",
    "mariadb": "SELECT 1 FROM information_schema.innodb_trx",
}

# its extension in C hides its socket, so that nothing is noticed before it is used
HIDES_ITS_SOCKET = "mysqlconnector"


@pytest.fixture
def database(place: Place) -> str:
    """The name of the kind of database."""
    return place.name.partition("-")[0]


@pytest.fixture
def server(request: pytest.FixtureRequest, database: str) -> Server:
    """The server of the place's database."""
    server: Server = request.getfixturevalue(f"{database}_server")
    return server


def execute(place: Place, *statements: str) -> None:
    """Execute statements, each committed by itself."""
    with place.watching() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@contextlib.contextmanager
def refusing(place: Place, error: str) -> Iterator[None]:
    """A database whose every UPDATE of a session fails with this code and message."""
    code, _, message = error.partition(" ")
    on = f"refusing BEFORE UPDATE ON {TABLE.name} FOR EACH ROW"
    if place.engine.dialect.name == "postgresql":
        execute(
            place,
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$",
            f"CREATE TRIGGER {on} EXECUTE FUNCTION refuse()",
        )
        undo = ["DROP FUNCTION refuse() CASCADE"]
    else:
        signal = f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}"
        says = f'MESSAGE_TEXT = "{message}"'
        execute(place, f"CREATE TRIGGER {on} {signal}, {says}")
        undo = ["DROP TRIGGER refusing"]
    try:
        yield
    finally:
        execute(place, *undo)


@contextlib.contextmanager
def limited(place: Place, database: str, what: str) -> Iterator[None]:
    """A server that gives new connections little time: a name of :data:`LIMITS`."""
    name, short, usual = LIMITS[database, what]
    scope = f"ALTER DATABASE {place.engine.url.database} SET"
    if database != "postgresql":
        scope = "SET GLOBAL"
    execute(place, f"{scope} {name} = {short}")
    place.engine.dispose()
    try:
        yield
    finally:
        execute(place, f"{scope} {name} = {usual}")
        place.engine.dispose()


def transactions(connection: Connection, database: str) -> int:
    """How many transactions there are."""
    # whoever asks more often is answered from a cache, on MariaDB
    time.sleep(0.2)
    return len(connection.exec_driver_sql(TRANSACTIONS[database]).all())


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """All sessions, locked by somebody else."""
    with place.engine.connect() as connection:
        connection.execute(update(TABLE).values(version=TABLE.c.version))
        yield
        connection.rollback()


def sign_in(session: Any) -> None:
    session["auth.userid"] = "alice"


def of_alice(site: Site) -> int:
    """How many rows belong to the user that :func:`sign_in` signs in."""
    with site.engine.connect() as connection:
        return len(connection.execute(select(TABLE.c.id).where(TABLE.c.user_id == "alice")).all())


# ---- reading and writing


@every_driver
def test_what_was_written_is_read_again(place: Place) -> None:
    site = place.serve()
    token = site.start(text=TEXT, n=0)
    assert [site.visit(add("n"), token).result for _ in range(3)] == [1, 2, 3]
    assert site.visit(lambda session: session["text"], token).result == TEXT
    site.visit(drop("text"), token)
    assert site.data(token) == {"n": 3}


@every_driver
def test_whoever_signs_in_has_another_token_and_whoever_signs_out_no_row(place: Place) -> None:
    site = place.serve()
    before = site.start(n=0)
    token = site.visit(sign_in, before).token
    assert token != before
    assert of_alice(site) == 1
    site.visit(lambda session: session.invalidate(), token)
    assert of_alice(site) == 0
    assert site.visit(dict, token).result == {}


@every_driver
def test_two_requests_at_once_are_merged(place: Place) -> None:
    site = place.serve()
    token = site.start(n=0)
    first, second = site.load(token, put("first", 1), put("second", 2))
    assert first.finish().ok, first.error
    assert second.finish().ok, second.error
    assert site.data(token) == {"n": 0, "first": 1, "second": 2}


@every_driver
def test_activity_is_recorded_and_what_has_expired_is_deleted(place: Place) -> None:
    site, clock = place.serve(), Clock()
    site.app.registry.getUtility(ISessionFactory).clock = clock
    token = site.start(n=0)
    for somebody, recorded in ((locked(place), False), (contextlib.nullcontext(), True)):
        clock.advance(3600)
        with somebody:
            assert site.visit(dict, token).result == {"n": 0}
        row = site.row(token)
        assert row is not None
        assert row["last_seen"] == (clock.now if recorded else EPOCH)
    clock.advance(365 * 24 * 3600)
    purge = Purge(Rows(SessionRow), Lifetime(Settings.from_options({})), clock)
    assert list(purge.batches(place.engine, 10)) == [1]


@every_driver
def test_a_database_error_that_the_application_catches_loses_no_session(place: Place) -> None:
    def catch(session: Any) -> None:
        dbsession = getattr(get_current_request(), "dbsession", None)
        if dbsession is not None:
            with contextlib.suppress(DBAPIError):
                dbsession.execute(text("SELECT * FROM nowhere"))
        session["n"] = 1

    site = place.serve()
    token = site.start(n=0)
    site.visit(catch, token)
    assert site.data(token) == {"n": 1}


@every_driver
def test_a_table_that_is_missing_is_an_error_or_made_as_the_settings_say(place: Place) -> None:
    TABLE.drop(place.engine)
    flight = place.serve(create_table="false").request(put("n", 1)).load().finish()
    assert isinstance(flight.error, SessionTableError), flight.error
    place.serve(create_table="true").start(n=0)


# ---- conflicts


@every_servers_driver
def test_each_conflict_that_the_server_reports_is_run_again(place: Place, database: str) -> None:
    site = place.serve(attempts=3)
    token = site.start(n=0)
    for error in CONFLICTS[database]:
        with refusing(place, error):
            flight = site.request(add("n"), token).load().finish()
        assert isinstance(flight.error, SessionConflict), (error, flight.error)
        assert flight.attempts == 3, error
    assert site.data(token) == {"n": 0}
    assert site.visit(add("n"), token).result == 1


@every_servers_driver
def test_a_lock_that_is_not_free_in_time_is_a_conflict(place: Place, database: str) -> None:
    with limited(place, database, "lock"):
        site = place.serve()
        token = site.start(n=0)
        flight = site.request(add("n"), token).load()
        with locked(place):
            flight.finish()
        assert isinstance(flight.error, SessionConflict), flight.error
        assert site.data(token) == {"n": 0}
        assert site.visit(add("n"), token).result == 1


@where_the_server_is_impatient
def test_a_statement_that_takes_too_long_is_an_error_and_the_next_request_works(
    place: Place, database: str
) -> None:
    with limited(place, database, "statement"):
        site = place.serve(attempts=3)
        token = site.start(n=0)
        flight = site.request(add("n"), token).load()
        with locked(place):
            flight.finish()
        assert isinstance(flight.error, DBAPIError), flight.error
        assert is_timeout(flight.error)
        assert flight.attempts == 1
        assert site.data(token) == {"n": 0}
        assert site.visit(add("n"), token).result == 1


@in_places(name for name in BY_DRIVER if name.startswith("postgresql"))
def test_no_driver_says_what_a_row_holds(place: Place) -> None:
    """PostgreSQL does, in the detail of an error."""
    site = place.serve()
    execute(place, f"ALTER TABLE {TABLE.name} ADD CHECK (octet_length(data) < 100)")
    flight = site.request(put("secret", "hidden" * 100)).load().finish()
    assert isinstance(flight.error, DBAPIError), flight.error
    assert "check constraint" in reason(flight.error)
    assert b"hidden".hex() not in reason(flight.error)
    TABLE.drop(place.engine)
    TABLE.create(place.engine)


# ---- lost connections


@every_driver_of_mysql
def test_a_node_without_its_quorum_is_a_lost_connection(place: Place) -> None:
    site = place.serve(attempts=3)
    token = site.start(n=0)
    for error in LOST:
        with refusing(place, error):
            flight = site.request(add("n"), token).load().finish()
        assert isinstance(flight.error, DBAPIError), flight.error
        assert flight.error.connection_invalidated
        assert flight.attempts == 1
    assert site.visit(add("n"), token).result == 1


@every_servers_driver
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_request_whose_connection_is_lost_stores_nothing(
    place: Place, server: Server, when: str
) -> None:
    site = place.serve()
    token = site.start(n=0)
    flight = site.request(add("n"), token).load()
    if when == "after":
        flight.save()
    server.terminate(str(place.engine.url.database))
    flight.finish()
    if place.own:
        place.engine.dispose()
    if flight.ok:
        assert (place.own, when) == (True, "before")
    else:
        assert isinstance(flight.error, DBAPIError)
    site.request(dict, token).load().finish()
    assert site.data(token) == {"n": int(flight.ok)}
    assert site.visit(add("n"), token).result == int(flight.ok) + 1


@every_servers_driver
def test_a_pool_whose_connections_were_closed_recovers(place: Place, server: Server) -> None:
    site = place.serve()
    token = site.start(n=0)
    for flight in [it.save() for it in site.load(None, put("a", 1), put("b", 2))]:
        flight.finish()
    server.terminate(str(place.engine.url.database))
    if place.own:
        place.engine.dispose()
    flights = [site.request(put("c", number), token).load().finish() for number in range(4)]
    failed = [flight.error for flight in flights if not flight.ok]
    notices = place.own and HIDES_ITS_SOCKET not in place.name
    assert len(failed) <= (0 if notices else 1), failed
    assert all(isinstance(error, DBAPIError) for error in failed), failed
    assert site.data(token)["c"] == 3


@where_the_server_is_impatient
def test_a_transaction_that_was_idle_for_too_long_is_a_lost_connection(
    place: Place, database: str
) -> None:
    with limited(place, database, "idle transaction"):
        site = place.serve(attempts=3)
        token = site.start(n=0)
        loaded, saved = site.load(token, add("n"), sign_in)
        saved.save()
        with place.watching() as connection:
            wait_until(lambda: not transactions(connection, database))
        for flight in (loaded, saved):
            flight.finish()
            assert flight.ok is (place.own and flight is loaded)
            assert flight.ok or isinstance(flight.error, DBAPIError), flight.error
        assert site.data(token) == {"n": int(loaded.ok)}
        assert site.visit(add("n"), token).result == int(loaded.ok) + 1
