"""The how-to pages: what they show is run, and what they say about it is so."""

from __future__ import annotations

import configparser
import http.client
import importlib
import json
import re
import shlex
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.interfaces import ISessionFactory
from pyramid.paster import bootstrap
from pyramid.request import Request
from sqlalchemy import Engine, create_engine, insert, inspect, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker
from support.apps import Clock, configurator, listening, own_configurator, put, serve, show
from support.docs.howto import (
    EXAMPLES,
    PAGES,
    Example,
    Opened,
    another,
    blocks,
    count,
    execute,
    post,
    set_clock,
    sign_in,
    statements_of,
    users,
    written,
)
from support.docs.pages import DOCS, blocks_of
from support.docs.pages import execute as evaluate
from support.docs.programs import environ, printed
from support.patience import wait_until
from support.places import Place
from support.processes import web_server
from support.servers import (
    HOST,
    Backend,
    PostgreSQL,
    Server,
    Standby,
    find_program,
    free_port,
    on_servers,
    serving,
)
from webtest import TestApp

from pyramid_sqlsession import SQLSessionFactory
from pyramid_sqlsession.cli.main import main
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.sqlsessions import SQLSessions
from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

PSHELL, PSERVE = (Path(sys.executable).with_name(name) for name in ("pshell", "pserve"))
# Pyramid 2.0 imports it, which setuptools remarks upon
QUIET = {"PYTHONWARNINGS": "ignore:pkg_resources is deprecated"}

only_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


# ---- all pages


def test_every_block_on_the_pages_has_a_name_so_that_it_has_a_test_of_its_own() -> None:
    for page in PAGES.glob("*.rst"):
        assert all("name" in block.options for block in blocks_of(page)), page.name


def test_every_page_is_in_the_index_and_every_example_on_a_page() -> None:
    index = (PAGES / "index.rst").read_text()
    shown = "".join(page.read_text() for page in PAGES.glob("*.rst"))
    pages = {page.stem for page in PAGES.glob("*.rst")} - {"index"}
    assert {page for page in pages if not re.search(rf"^   {page}$", index, re.MULTILINE)} == set()
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in shown] == []


# ---- your own model


@pytest.fixture
def foreign_keys(backend: Backend) -> Iterator[None]:
    """SQLite follows foreign keys, as the page says how."""

    def follow(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    if backend.name != "sqlite":
        yield
        return
    with listening(Engine, "connect", follow):
        yield


@pytest.fixture
def own_model(
    example: Example, opened: Opened, backend: Backend, engine: Engine, foreign_keys: None
) -> TestApp:
    """A browser for the application with a model of its own, which has users."""
    example("own_model")
    browser = opened(blocks("own_model")["own-model-ini"], sqlalchemy__url=backend.url)
    execute(engine, "INSERT INTO users (id, name) VALUES (7, 'alice'), (8, 'bob')")
    return browser


def test_a_user_who_is_deleted_takes_all_sessions_along(own_model: TestApp, engine: Engine) -> None:
    alice, bob = own_model, another(own_model)
    elsewhere = another(own_model)
    for browser, name in ((alice, "alice"), (elsewhere, "alice"), (bob, "bob")):
        browser.post("/sign_in", {"name": name})
    assert alice.get("/show").json == {"user": 7, "cart": []}
    bob.post("/close_account", {"user": "7"})
    assert count(engine, "web_sessions") == 1
    assert [it.get("/show").json["user"] for it in (alice, elsewhere, bob)] == [None, None, 8]
    execute(engine, "DELETE FROM users")
    assert count(engine, "web_sessions") == 0


@on_servers
def test_a_request_in_a_session_whose_user_is_deleted_stores_nothing(
    own_model: TestApp, engine: Engine
) -> None:
    own_model.post("/sign_in", {"name": "alice"})

    def delete(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE web_sessions"):
            execute(engine, "DELETE FROM users WHERE id = 7")

    with listening(Engine, "before_cursor_execute", delete):
        response = own_model.post("/add", {"product": "tea"})
    assert response.headers.getall("Set-Cookie") == []
    assert count(engine, "web_sessions") == 0


def test_the_columns_of_the_model_are_as_the_page_says(own_model: TestApp, engine: Engine) -> None:
    own_model.post("/add", {"product": "tea"}, headers={"User-Agent": "x" * 999},
                   extra_environ={"REMOTE_ADDR": "192.0.2.1"})  # fmt: skip
    columns = inspect(engine).get_columns("web_sessions")
    names = {column["name"] for column in columns}
    assert {"started_at", "seen_at", "address", "agent"} <= names
    assert not {"created", "last_seen"} & names
    query = "SELECT address, agent, user_id FROM web_sessions"
    assert execute(engine, query) == [("192.0.2.1", "x" * 200, None)]


def test_what_all_sessions_hold_is_asked_by_the_orm(own_model: TestApp) -> None:
    for product in ("tea", "milk", "tea"):
        another(own_model).post("/add", {"product": product})
    own_model.post("/sign_in", {"name": "alice"})
    assert own_model.get("/first_products").json == {"tea": 2, "milk": 1}


@only_postgresql
def test_an_index_on_the_data_answers_the_query_and_costs_hot_updates(
    own_model: TestApp, engine: Engine
) -> None:
    page = blocks("own_model")
    (query,) = statements_of(page["jsonb-query"])
    execute(engine, *statements_of(page["jsonb-index"]))
    clock = set_clock(own_model)
    for product in ("tea", "milk"):
        another(own_model).post("/add", {"product": product})
    own_model.post("/add", {"product": "tea"})
    with engine.connect() as connection:
        assert connection.exec_driver_sql(query).scalar() == 2
        connection.exec_driver_sql("SET enable_seqscan = off")
        plan = connection.exec_driver_sql(f"EXPLAIN {query}").scalars().all()
    assert any("ix_web_sessions_data" in line for line in plan)

    def changes() -> tuple[int, int]:
        return updates(own_model, engine, "web_sessions")

    before = changes()
    for _ in range(5):
        clock.advance(301)
        own_model.get("/show")
    touched = changes()
    assert (touched[0] - before[0], touched[1] - before[1]) == (5, 5)
    for _ in range(5):
        own_model.post("/add", {"product": "tea"})
    after = changes()
    assert (after[0] - touched[0], after[1] - touched[1]) == (5, 0)


def updates(browser: TestApp, engine: Engine, table: str = "sqlsession") -> tuple[int, int]:
    """How many rows of a table PostgreSQL has updated, and how many of these updates were HOT."""
    # a process of the server's may count what it did only when it ends
    browser.app.registry["dbsession_factory"].kw["bind"].dispose()
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    wait_until(lambda: execute(engine, others) == [(0,)])
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :table"
    ((updated, hot),) = execute(engine, query, table=table)
    return updated, hot


# ---- several databases


@pytest.fixture
def two_databases(example: Example) -> Any:
    """The application with two databases; its own tables are forgotten afterwards."""
    module = example("two_databases")
    yield module
    module.ShopBase.registry.dispose()


def shop_on(postgresql: Backend, mariadb: Backend, name: str) -> dict[str, str]:
    """The databases of a block: orders on PostgreSQL, sessions on MariaDB."""
    web = {"named": "web__url", "beside": "sqlsession__sqlalchemy__url"}[name]
    return {"shop__url": postgresql.url, web: mariadb.url}


@pytest.mark.parametrize("name", ["named", "beside"])
def test_orders_and_sessions_are_in_two_databases(
    name: str, two_databases: Any, postgresql: Backend, mariadb: Backend, opened: Opened
) -> None:
    browser = opened(blocks("several_databases")[name], **shop_on(postgresql, mariadb, name))
    browser.post("/order", {"product": "tea"})
    assert browser.get("/show").json == {"orders": 1, "ordered by you": ["tea"]}
    assert another(browser).get("/show").json == {"orders": 1, "ordered by you": []}
    shop, web = (create_engine(backend.url) for backend in (postgresql, mariadb))
    assert inspect(shop).get_table_names() == ["orders"]
    assert inspect(web).get_table_names() == ["sqlsession"]


def refusing_commits(engine: Engine, table: str, code: str = "P0001") -> None:
    """Let PostgreSQL refuse the COMMIT of whoever inserts or updates a row of a table."""
    execute(
        engine,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'not at COMMIT' USING ERRCODE = '{code}'; END $$",
        f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON {table} "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


def test_a_failing_commit_of_the_application_takes_the_session_along(
    two_databases: Any, postgresql: Backend, mariadb: Backend, opened: Opened
) -> None:
    page = blocks("several_databases")
    browser = opened(page["beside"], **shop_on(postgresql, mariadb, "beside"))
    shop, web = (create_engine(backend.url) for backend in (postgresql, mariadb))
    refusing_commits(shop, "orders")
    with pytest.raises(DBAPIError, match="not at COMMIT"):
        browser.post("/order", {"product": "tea"})
    assert browser.cookies == {}
    assert (count(shop, "orders"), count(web)) == (0, 0)


@pytest.mark.parametrize("code", ["P0001", "40001"], ids=["error", "conflict"])
def test_a_failing_commit_of_the_session_leaves_one_order_and_is_logged(
    code: str,
    two_databases: Any,
    postgresql: Backend,
    postgresql_server: Server,
    opened: Opened,
    caplog: pytest.LogCaptureFixture,
) -> None:
    page = blocks("several_databases")
    with postgresql_server.database() as url:
        urls = {"shop__url": postgresql.url, "sqlsession__sqlalchemy__url": url}
        browser = opened(page["beside"], **urls)
        shop, web = (create_engine(each) for each in urls.values())
        browser.get("/show")
        two_databases.Base.metadata.create_all(web)
        refusing_commits(web, "sqlsession", code)
        assert browser.post("/order", {"product": "tea"}).status_int == 200
        assert browser.cookies == {}
        assert (count(shop, "orders"), count(web)) == (1, 0)
        assert "ERROR" in {record.levelname for record in caplog.records}
        assert "the session was not stored" in caplog.text
        browser.app.registry.getUtility(ISessionFactory).close()
        web.dispose()


def test_sessions_are_read_from_the_primary_beside_a_replica(
    example: Example, opened: Opened
) -> None:
    example("replica")
    with serving(PostgreSQL) as primary, serving(Standby, primary) as standby:
        primary.execute(*primary.create_statements("shop"))
        browser = opened(
            blocks("several_databases")["replica"],
            primary__url=primary.url("shop"),
            replica__url=standby.url("shop"),
        )
        standby.catch_up()
        standby.execute("SELECT pg_wal_replay_pause()")
        browser.post("/order", {"product": "tea"})
        assert browser.get("/show").json == {"orders": 0, "ordered by you": ["tea"]}
        standby.execute("SELECT pg_wal_replay_resume()")
        standby.catch_up()
        assert browser.get("/show").json == {"orders": 1, "ordered by you": ["tea"]}


# ---- accounts: log out everywhere, remember me


@pytest.fixture
def signed_in(accounts: Callable[..., TestApp]) -> list[TestApp]:
    """Three browsers in which alice is signed in, and one of bob's."""
    first = accounts(blocks("log_out_everywhere")["limit"])
    browsers = [first, *(another(first) for _ in range(3))]
    for browser, name in zip(browsers, ("alice", "alice", "alice", "bob"), strict=True):
        sign_in(browser, name)
    return browsers


def test_who_logs_out_everywhere_is_signed_in_nowhere(signed_in: list[TestApp]) -> None:
    post(signed_in[0], "/log_out_everywhere")
    assert signed_in[0].cookies == {}
    assert users(*signed_in) == [None, None, None, "bob"]


def test_a_change_of_the_password_leaves_one_session_with_a_new_token(
    signed_in: list[TestApp],
) -> None:
    sign_in(signed_in[0], "alice", remember_me="on")
    before = signed_in[0].cookies["session"]
    page = post(signed_in[0], "/change_password", old="demo", new="better")
    assert users(*signed_in) == ["alice", None, None, "bob"]
    assert signed_in[0].cookies["session"] != before
    # it is still the session that is remembered
    assert "Max-Age=2592000;" in page.headers["Set-Cookie"]
    post(another(signed_in[0]), "/sign_in", 403, name="alice", password="demo")


def test_who_does_not_know_the_old_password_changes_nothing(signed_in: list[TestApp]) -> None:
    post(signed_in[0], "/change_password", 403, old="guessed", new="mine")
    post(another(signed_in[0]), "/change_password", 403, old="demo", new="mine")
    assert users(*signed_in) == ["alice", "alice", "alice", "bob"]
    sign_in(another(signed_in[0]), "bob")


def test_a_new_token_after_a_change_of_the_password_is_no_sign_in(
    signed_in: list[TestApp],
) -> None:
    clock = set_clock(signed_in[0])
    clock.now = int(time.time()) - 16 * 60
    sign_in(signed_in[0], "alice")
    clock.now = int(time.time())
    post(signed_in[0], "/change_password", old="demo", new="better")
    assert post(signed_in[0], "/transfer").location.endswith("/sign_in")


def test_another_site_cannot_send_a_form(signed_in: list[TestApp]) -> None:
    for path in ("/sign_in", "/sign_out", "/change_password", "/log_out_everywhere", "/disable"):
        form = {"name": "bob", "password": "demo", "old": "demo", "new": "mine"}
        signed_in[0].post(path, form, status=400)
    assert users(*signed_in) == ["alice", "alice", "alice", "bob"]


def test_a_name_that_nobody_has_costs_as_much_as_a_wrong_password(
    accounts: Callable[..., TestApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = accounts(blocks("log_out_everywhere")["limit"])
    module: Any = importlib.import_module("accounts")
    digest, digests = module.digest, []

    def counted(password: str, salt: bytes) -> bytes:
        digests.append(password)
        result: bytes = digest(password, salt)
        return result

    monkeypatch.setattr(module, "digest", counted)
    post(browser, "/sign_in", 403, name="alice", password="wrong")
    post(browser, "/sign_in", 403, name="nobody", password="wrong")
    post(browser, "/disable", 200, name="bob")
    digests.clear()
    post(browser, "/sign_in", 403, name="bob", password="demo")
    assert digests == ["demo"]


def test_who_is_disabled_is_signed_out_and_cannot_sign_in(signed_in: list[TestApp]) -> None:
    assert post(signed_in[3], "/disable", 200, name="alice").json == {"ended": 3}
    assert users(*signed_in) == [None, None, None, "bob"]
    post(signed_in[0], "/sign_in", 403, name="alice", password="demo")


@on_servers
@pytest.mark.parametrize(
    ("path", "status", "form"),
    [
        ("/disable", 200, {"name": "alice"}),
        ("/change_password", 303, {"old": "demo", "new": "better"}),
    ],
)
def test_a_sign_in_at_the_same_moment_is_ended_too(
    accounts: Callable[..., TestApp],
    backend: Backend,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    status: int,
    form: dict[str, str],
) -> None:
    other = accounts(blocks("log_out_everywhere")["limit"], sqlalchemy__url=backend.url)
    sign_in(other, "alice")
    late = another(other)
    user = importlib.import_module("accounts").User
    accepts, place = user.accepts, Place("dbsession", engine)
    ending = threading.Thread(target=post, args=(other, path, status), kwargs=form)

    def is_waiting_or_done() -> bool:
        with place.watching() as connection:
            return place.waiting(connection) > 0 or not ending.is_alive()

    def accept_late(self: Any, password: str) -> bool:
        """Look at the flag, and then be slow."""
        is_accepted = bool(accepts(self, password))
        # the change of the password looks at the old one too
        if threading.current_thread() is not ending:
            ending.start()
            wait_until(is_waiting_or_done)
        return is_accepted

    monkeypatch.setattr(user, "accepts", accept_late)
    sign_in(late, "alice")
    ending.join()
    assert users(late) == [None]


@pytest.mark.parametrize(
    ("path", "status", "form"),
    [
        pytest.param("/disable", 200, {"name": "alice"}, id="disable"),
        pytest.param("/change_password", 303, {"old": "demo", "new": "better"}, id="password"),
        pytest.param("/log_out_everywhere", 303, {}, id="everywhere"),
    ],
)
def test_who_is_active_at_the_same_moment_is_signed_out_under_snapshot_isolation_too(
    accounts: Callable[..., TestApp],
    mariadb: Backend,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    status: int,
    form: dict[str, str],
) -> None:
    # the default from MariaDB 11.6 on
    isolated = {"init_command": "SET innodb_snapshot_isolation = ON"}
    url = make_url(mariadb.url).update_query_dict(isolated).render_as_string(hide_password=False)
    browser = accounts(blocks("log_out_everywhere")["limit"], sqlalchemy__url=url)
    sign_in(browser, "alice")
    elsewhere = another(browser)
    sign_in(elsewhere, "alice")
    engine = create_engine(mariadb.url)
    revoke_user, attempts = SQLSessions.revoke_user, []

    def revoke_late(self: SQLSessions, user: Any, **options: Any) -> int:
        attempts.append(user)
        if len(attempts) == 1:
            # alice looks at another page
            execute(engine, "UPDATE sqlsession SET last_seen = last_seen + 1")
        return revoke_user(self, user, **options)

    monkeypatch.setattr(SQLSessions, "revoke_user", revoke_late)
    post(browser, path, status, **form)
    assert attempts == ["alice"] * 2
    assert users(elsewhere) == [None]


def test_a_fourth_sign_in_ends_the_session_whose_sign_in_was_first(
    signed_in: list[TestApp],
) -> None:
    clock = set_clock(signed_in[0])
    clock.now = int(time.time()) + 600
    for browser in (signed_in[0], signed_in[2]):
        sign_in(browser, "alice")
    clock.now += 600
    # who was there last does not count
    users(signed_in[1])
    fourth = another(signed_in[0])
    sign_in(fourth, "alice")
    assert users(*signed_in, fourth) == ["alice", None, "alice", "bob", "alice"]


def test_the_operator_ends_the_sessions_of_a_user_as_on_the_page(
    signed_in: list[TestApp], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    post(signed_in[2], "/sign_out")
    shown = blocks("log_out_everywhere")["command-line"]
    printed = ""
    for line in shown.splitlines():
        if line.startswith("$ "):
            _, _, *arguments = line.removeprefix("$ ").split()
            assert main([str(tmp_path / "production.ini"), *arguments]) == 0
            output = capsys.readouterr()
            printed += f"{line}\n{output.out}{output.err}"
    assert printed == shown
    assert users(*signed_in) == [None, None, None, "bob"]


@pytest.fixture
def remembering(accounts: Callable[..., TestApp]) -> TestApp:
    """A browser of the application that remembers."""
    return accounts(blocks("remember_me")["remember"])


def test_only_who_ticks_the_box_is_remembered_for_a_month(remembering: TestApp) -> None:
    clock = set_clock(remembering)
    forgotten = another(remembering)
    assert (
        "Max-Age=2592000;" in sign_in(remembering, "alice", remember_me="on").headers["Set-Cookie"]
    )
    assert "Max-Age" not in sign_in(forgotten, "alice").headers["Set-Cookie"]
    clock.advance(2 * 3600)
    assert users(remembering, forgotten) == ["alice", None]
    clock.advance(29 * 86400)
    assert users(remembering) == ["alice"]
    clock.advance(29 * 86400)
    assert users(remembering) == ["alice"]


def test_nobody_is_remembered_for_longer_than_the_absolute_timeout(remembering: TestApp) -> None:
    clock = set_clock(remembering)
    sign_in(remembering, "alice", remember_me="on")
    for _ in range(3):
        clock.advance(29 * 86400)
        assert users(remembering) == ["alice"]
    clock.advance(3 * 86400)
    assert users(remembering) == [None]


def test_signing_out_forgets_the_lifetime(remembering: TestApp) -> None:
    sign_in(remembering, "alice", remember_me="on")
    post(remembering, "/sign_out")
    assert "Max-Age" not in sign_in(remembering, "bob").headers["Set-Cookie"]


def test_a_transfer_wants_a_fresh_password(remembering: TestApp) -> None:
    clock = set_clock(remembering)
    clock.now = int(time.time()) - 16 * 60
    token = sign_in(remembering, "alice", remember_me="on").headers["Set-Cookie"]
    post(remembering, "/transfer", 303)
    clock.now = int(time.time())
    assert sign_in(remembering, "alice", remember_me="on").headers["Set-Cookie"] != token
    assert post(remembering, "/transfer", 200).json == {"done": True}
    # a new session is as young as can be, and nobody's
    post(another(remembering), "/transfer", 303)


# ---- scripts and pshell


def run(*command: str | Path, folder: Path, stdin: str = "", path: Path = EXAMPLES) -> str:
    """What a program prints that finds the modules of a folder, else the examples."""
    return printed(*command, cwd=folder, env=environ(path) | QUIET, stdin=stdin)


@pytest.fixture
def alice(accounts: Callable[..., TestApp]) -> TestApp:
    """A browser in which alice is signed in, of the application that pshell opens."""
    browser = accounts(blocks("scripts")["shell"])
    sign_in(browser, "alice")
    return browser


def same_session(printed: str, shown: str) -> bool:
    """Whether a text shows what another one does, but for handles and times."""
    others = re.compile(r"\b[0-9a-f]{8}\b|\d{4}-\d\d-\d\d \d\d:\d\d")
    return others.sub("*", printed) == others.sub("*", shown)


def test_the_script_shows_and_ends_the_sessions_of_a_user(alice: TestApp, tmp_path: Path) -> None:
    command, *shown = blocks("scripts")["script"].splitlines(keepends=True)
    program, *arguments = command.removeprefix("$ python ").split()
    printed = run(sys.executable, EXAMPLES / program, *arguments, folder=tmp_path)
    assert same_session(printed, "".join(shown))
    assert users(alice) == [None]


def test_what_a_script_revokes_is_ended_whatever_becomes_of_a_transaction(
    alice: TestApp, tmp_path: Path
) -> None:
    with bootstrap(str(tmp_path / "production.ini")) as env:
        request = env["request"]
        request.tm.begin()
        assert request.sqlsessions.revoke_user("alice") == 1
        request.tm.abort()
    assert users(alice) == [None]


def test_the_shell_finds_reads_and_ends_sessions_as_on_the_page(
    alice: TestApp, tmp_path: Path
) -> None:
    page = blocks("scripts")
    token = alice.cookies["session"]
    shown = re.sub(r"[\w-]{43}", token, page["row"] + page["session"])
    lines = [line.removeprefix(">>> ") for line in shown.splitlines() if line.startswith(">>> ")]
    answers = [line for line in shown.splitlines() if not line.startswith(">>> ")]
    printed = run(
        PSHELL, "-p", "python", "production.ini", folder=tmp_path, stdin="\n".join([*lines, ""])
    )
    # between its greeting and its farewell the shell shows its prompt, and what it answers
    given = [line for line in printed.replace(">>> ", "").splitlines() if line][:-1]
    assert same_session("\n".join(given[-len(answers) :]), "\n".join(answers))
    assert users(alice) == [None]


# ---- behind a proxy


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for this machine, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    run(
        find_program("openssl"),
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=shop.example.com", "-addext", f"subjectAltName=IP:{HOST}"),
        *("-keyout", "shop.key", "-out", "shop.pem"),
        folder=folder,
    )
    return folder


@contextmanager
def nginx(certificate: Path, folder: Path, behind: int) -> Iterator[int]:
    """The port of a real nginx with the configuration on the page, before this port."""
    port, server = free_port(), blocks("proxy")["nginx"]
    for shown, here in (
        ("443", f"{HOST}:{port}"),
        ("/etc/ssl", str(certificate)),
        (":6543", f":{behind}"),
    ):
        assert shown in server
        server = server.replace(shown, here)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{server}}}\n"
    )
    command: list[str | Path] = [
        find_program("nginx"),
        "-e",
        "stderr",
        "-p",
        folder,
        "-c",
        configuration,
    ]
    with web_server(command, port, cwd=folder, exit_code=0):
        yield port


@contextmanager
def web_application(name: str, folder: Path, url: str, **settings: str) -> Iterator[int]:
    """The port of the application on the page, in this web server."""
    page, port = blocks("proxy"), free_port()
    application = page["waitress"].split("[server:main]")[0]
    server = page["waitress" if name == "gunicorn" else name].split("[server:main]")[1]
    ini = f"{application}[server:main]{server}"
    settings |= {"listen": f"{HOST}:{port}", "sqlsession__sqlalchemy__url": url}
    command: list[str | Path] = [PSERVE, written(folder, ini, **settings)]
    if name == "gunicorn":
        shown = page["gunicorn"].removeprefix("$ gunicorn ").replace("6543", str(port))
        command = [sys.executable, "-m", "gunicorn", *shown.split()]
    env = environ(DOCS / "examples") | QUIET
    exit_code = 0 if name == "gunicorn" else -signal.SIGTERM
    with web_server(command, port, cwd=folder, env=env, exit_code=exit_code):
        yield port


def fetched(
    port: int,
    certificate: Path | None = None,
    *,
    source: str = HOST,
    headers: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """The Set-Cookie header and the page of a real request, over https with a certificate."""
    if certificate is None:
        connection = http.client.HTTPConnection(HOST, port, 30, (source, 0))
    else:
        context = ssl.create_default_context(cafile=certificate / "shop.pem")
        connection = http.client.HTTPSConnection(HOST, port, timeout=30, context=context)
    with closing(connection):
        connection.request("GET", "/", headers=headers or {})
        response = connection.getresponse()
        return response.headers["Set-Cookie"] or "", response.read().decode()


@pytest.mark.parametrize("name", ["waitress", "url-scheme", "gunicorn"])
@pytest.mark.parametrize("cookie", ["session", "__Host-session"])
def test_the_cookie_is_secure_behind_nginx(
    name: str, cookie: str, certificate: Path, sqlite: Backend, tmp_path: Path
) -> None:
    with (
        web_application(name, tmp_path, sqlite.url, sqlsession__cookie_name=cookie) as behind,
        nginx(certificate, tmp_path, behind) as port,
    ):
        header, page = fetched(port, certificate)
        assert page == '{"visits": 1}'
        (shown,) = (
            line.removeprefix("Set-Cookie: ")
            for line in blocks("proxy")["look"].splitlines()
            if line.startswith("Set-Cookie: ")
        )
        token = re.compile(r"[\w-]{43}")
        shown = token.sub("*", shown).replace("__Host-session", cookie)
        assert token.sub("*", header) == shown
        assert fetched(port, certificate, headers={"Cookie": header})[1] == '{"visits": 2}'


@pytest.mark.parametrize("name", ["waitress", "gunicorn"])
def test_nobody_but_the_proxy_can_say_that_a_request_came_over_https(
    name: str, sqlite: Backend, tmp_path: Path
) -> None:
    with web_application(name, tmp_path, sqlite.url, sqlsession__cookie_name="session") as port:
        told = {"X-Forwarded-Proto": "https"}
        assert "secure" in fetched(port, headers=told)[0]
        assert "secure" not in fetched(port)[0]
        assert "secure" not in fetched(port, source="127.0.0.2", headers=told)[0]


# ---- several hosts


@pytest.fixture
def hosts(sqlite: Backend) -> Callable[..., tuple[TestApp, TestApp]]:
    """Two hosts with one database and these settings; the browser's cookies are the same."""

    def hosts(*settings: dict[str, Any]) -> tuple[TestApp, TestApp]:
        first, second = (
            serve(own_configurator(sqlite.url, **it), put=put, show=show, name=name)
            for it in settings
        )
        second.cookiejar = first.cookiejar
        return first, second

    return hosts


def name(request: Any) -> Any:
    """A view that keeps a text, and reads nothing else."""
    return request.session.setdefault("name", "alice")


def both_know_a_visitor_of_either(first: TestApp, second: TestApp) -> bool:
    """Whether each host knows what the other one stores, and adds to it."""
    known = True
    for one, other in ((first, second), (second, first)):
        one.reset()
        one.get("/put")
        known &= other.get("/show").json == {"cart": [1]}
        other.get("/put")
        known &= one.get("/show").json == {"cart": [1, 1]}
    return known


DIFFERENCES = {
    "conflict": ("merge", "strict"),
    "touch_interval": ("10s", "1m"),
    "cleanup_interval": ("1h", "0"),
    "cleanup_batch": ("10", "100"),
    "max_size": ("64 KiB", "1 MiB"),
    "max_sessions_per_user": ("2", "none"),
    "cookie_samesite": ("Lax", "Strict"),
    "cookie_httponly": ("true", "false"),
    "cookie_secure": ("false", "auto"),
}


def test_hosts_that_differ_in_these_settings_know_each_others_visitors(
    hosts: Callable[..., tuple[TestApp, TestApp]],
) -> None:
    assert both_know_a_visitor_of_either(*hosts({}, {}))
    page = (PAGES / "several_hosts.rst").read_text()
    for name, values in DIFFERENCES.items():
        assert f":setting:`{name}`" in page or name.startswith("cookie_")
        assert both_know_a_visitor_of_either(*hosts(*({name: value} for value in values))), name


@pytest.mark.parametrize("name", ["ttl", "absolute_ttl", "cookie_max_age"])
def test_a_host_with_a_shorter_lifetime_ends_the_others_sessions(
    name: str, hosts: Callable[..., tuple[TestApp, TestApp]], sqlite: Backend
) -> None:
    long, short = hosts({name: "10d", "touch_interval": "1m"}, {name: "1d", "touch_interval": "1m"})
    clock = set_clock(long)
    short.app.registry.getUtility(ISessionFactory).clock = clock
    long.get("/put")
    clock.advance(2 * 86400)
    assert short.get("/show").json == {}
    assert long.get("/show").json == {"cart": [1]}
    engine = create_engine(sqlite.url)
    execute(
        engine,
        "UPDATE sqlsession SET last_seen = :then, purge_after = :then",
        then=clock.now - 2 * 86400,
    )
    purge = Purge(Rows(SQLSessionRow), Lifetime(Settings.from_options({name: "1d"})), clock)
    assert sum(purge.batches(engine, 10)) == 1


def test_hosts_with_different_cookies_do_not_know_each_others_visitors(
    hosts: Callable[..., tuple[TestApp, TestApp]],
) -> None:
    first, second = hosts({"cookie_name": "one"}, {"cookie_name": "two"})
    first.get("/put")
    assert second.get("/show").json == {}


def step(name: str) -> dict[str, str]:
    """The one setting of a step on the page."""
    parser = configparser.ConfigParser({"OLD_KEY": OLD_KEY, "NEW_KEY": NEW_KEY})
    parser.read_string("[app:main]\n" + blocks("several_hosts")[name])
    found = dict(parser["app:main"])
    return {key.removeprefix("sqlsession."): found[key] for key in found if "." in key}


OLD_KEY, NEW_KEY = (b64encode(bytes([number]) * 32).decode() for number in (1, 2))
BEFORE = {"key-1": {"encryption_keys": OLD_KEY}, "first-step": {}}


@pytest.mark.parametrize("steps", [
    (None, "first-step"), ("first-step", "second-step"),
    (None, "key-1"), ("key-1", "key-2"), ("key-2", "key-3"),
], ids=lambda steps: steps[1])  # fmt: skip
def test_hosts_of_two_steps_know_each_others_visitors(
    steps: tuple[str | None, str],
    example: Example,
    hosts: Callable[..., tuple[TestApp, TestApp]],
) -> None:
    example("compressed")
    before = BEFORE[steps[1]] if steps[0] is None else step(steps[0])
    assert both_know_a_visitor_of_either(*hosts(before, step(steps[1])))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_session_stays_in_the_old_format_while_only_texts_are_read(
    example: Example, hosts: Callable[..., tuple[TestApp, TestApp]], engine: Engine
) -> None:
    example("compressed")
    first, second = hosts(step("first-step"), step("second-step"))
    clock = set_clock(first)
    second.app.registry.getUtility(ISessionFactory).clock = clock

    def formats() -> list[tuple[bytes, int]]:
        found = execute(engine, "SELECT data, last_seen FROM sqlsession")
        return [(data[:1], last_seen) for data, last_seen in found]

    first.get("/name")
    clock.advance(301)
    assert second.get("/name").json == "alice"
    assert formats() == [(b"{", clock.now)]
    first.get("/put")
    assert formats() == [(b"{", clock.now)]
    assert second.get("/show").json == {"name": "alice", "cart": [1]}
    assert formats() == [(b"z", clock.now)]


@pytest.mark.parametrize(("before", "after"), [
    ({}, "second-step"), (BEFORE["key-1"], "key-2"), (BEFORE["key-1"], "key-3"), ({}, "key-3"),
], ids=["serializer", "key-1", "two-steps", "on"])  # fmt: skip
def test_a_step_that_is_left_out_signs_visitors_out(
    before: dict[str, str],
    after: str,
    example: Example,
    hosts: Callable[..., tuple[TestApp, TestApp]],
) -> None:
    example("compressed")
    settings = step(after)
    if not before and "encryption_keys" in settings:
        settings["encryption_migrate"] = "true"
    old, new = hosts(before, settings)
    new.get("/put")
    assert old.get("/show").json == {}


# ---- high availability


def test_visitors_see_a_page_during_a_failover_and_go_on_afterwards(
    example: Example, opened: Opened
) -> None:
    example("outage")
    page = blocks("high_availability")
    with serving(PostgreSQL) as primary, serving(Standby, primary) as standby:
        primary.execute(*primary.create_statements("shop"))
        primary.execute(*statements_of(page["synchronous"]))
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: primary.execute(state) == [("sync",)])
        (shown,) = re.findall(r"\?.*$", page["failover"], re.MULTILINE)
        # the one that may not be written comes first, so that it has to be passed over
        for number, server in enumerate((standby, primary), 1):
            shown = shown.replace(f"db{number}.example.com:5432", f"{server.host}:{server.port}")
        assert "example.com" not in shown
        url = make_url(primary.url("shop")).set(host=None, port=None)
        url = make_url(url.render_as_string(hide_password=False) + shown)
        browser = opened(
            page["failover"], sqlsession__sqlalchemy__url=url.render_as_string(hide_password=False)
        )
        assert [browser.post("/").json["visits"] for _ in range(2)] == [1, 2]
        token = browser.cookies["session"]
        primary.kill()
        away = browser.post("/", status=503)
        assert (away.headers["Retry-After"], "Set-Cookie" in away.headers) == ("5", False)
        assert browser.get("/", status=503).headers["Retry-After"] == "5"
        assert another(browser).get("/").json == {"visits": 0}
        assert browser.get("/alive").text == "alive\n"
        standby.promote()
        assert browser.post("/").json == {"visits": 3}
        assert browser.cookies["session"] == token


def test_an_error_of_commit_is_the_same_page_and_a_conflict_is_run_again(
    example: Example, opened: Opened, postgresql: Backend
) -> None:
    example("outage")
    ini = blocks("high_availability")["failover"]
    browser = opened(ini, sqlsession__sqlalchemy__url=postgresql.url)
    browser.post("/")
    engine = create_engine(postgresql.url)
    execute(
        engine,
        "CREATE SEQUENCE commits",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF nextval('commits') = 1 THEN RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END IF; "
        "IF currval('commits') = 3 THEN RAISE EXCEPTION 'gone' USING ERRCODE = '57P01'; END IF; "
        "RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON sqlsession "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    assert browser.post("/").json == {"visits": 2}
    assert execute(engine, "SELECT last_value FROM commits") == [(2,)]
    assert browser.post("/", status=503).headers["Retry-After"] == "5"
    assert browser.post("/").json == {"visits": 3}


# ---- monitoring


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    """A socket that receives what is sent to a StatsD server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as received:
        received.bind((HOST, 0))
        received.settimeout(30)
        yield received


def test_each_event_is_counted(
    accounts: Callable[..., TestApp], example: Example, statsd: socket.socket
) -> None:
    example("counters")
    page = blocks("monitoring")
    browser = accounts(page["counters"], statsd=f"{HOST}:{statsd.getsockname()[1]}")
    with closing(browser.app.registry["counters"].socket):
        sign_in(browser, "alice")
        sign_in(browser, "alice")
        another(browser).get("/home", headers={"Cookie": "session=nonsense"})
        post(browser, "/sign_out")
    lines = page["counted"].splitlines()
    assert [statsd.recv(1000).decode() for _ in lines] == lines


SESSIONS: list[dict[str, Any]] = [
    {"user_id": "alice"},
    {"user_id": "alice", "last_seen": -5000},
    {},
    {"max_age": 60, "last_seen": -5000},
    {"last_seen": -20 * 86400, "max_age": 30 * 86400},
    {"last_seen": -25 * 86400, "max_age": 30 * 86400},
    {"last_seen": -20 * 86400, "purge_after": -7200},
    {"replaced": -5, "user_id": "alice"},
]


@pytest.fixture
def operated(backend: Backend, engine: Engine, tmp_path: Path) -> Path:
    """An ini file of an application with sessions of all kinds, live, expired and replaced."""
    now = int(time.time())
    SQLSessionRow.metadata.create_all(engine)
    row = {"data": b"{}", "version": 1, "created": -9999, "last_seen": -5, "purge_after": 9999}
    row |= {"user_id": None, "max_age": None, "replaced": None}
    with engine.begin() as connection:
        for number, given in enumerate(SESSIONS):
            values = {"id": bytes([number]) * 32, "lineage": bytes([number]) * 16, **row, **given}
            for name in ("created", "last_seen", "purge_after", "replaced"):
                if values[name] is not None:
                    values[name] += now
            connection.execute(insert(SQLSessionRow), values)
    ini = blocks("high_availability")["failover"]
    return written(tmp_path, ini, sqlsession__sqlalchemy__url=backend.url)


def figures(ini: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command stats says."""
    assert main([str(ini), "stats", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def queries(dialect: str) -> list[str]:
    """The page's queries: of live sessions, of active ones, of the lag, and of the table."""
    page = blocks("monitoring")
    if dialect == "postgresql":
        names = ("live-postgresql", "active-postgresql", "lag-postgresql", "table-postgresql")
        return [page[name] for name in names]
    text = " ".join((PAGES / "monitoring.rst").read_text().split())
    ((theirs, ours),) = re.findall(r"write ``(.+?)`` for ``(.+?)`` in the first three", text)
    first = queries("postgresql")[:3]
    assert all(ours in query for query in first)
    return [*(query.replace(ours, theirs) for query in first), page["table-mariadb"]]


@on_servers
def test_the_queries_for_dashboards_say_what_stats_says(
    backend: Backend,
    engine: Engine,
    operated: Path,
    example: Example,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example("outage")
    live, active, lag, table = queries(backend.dialect)
    found = figures(operated, capsys)
    assert execute(engine, live) == [(found["signed_in"], found["anonymous"])] == [(2, 3)]
    assert execute(engine, active) == [(1, 2)]
    ((due, seconds),) = execute(engine, lag)
    assert due == found["purgeable"] == 1
    assert 7200 <= seconds < 7300
    analyze = "ANALYZE TABLE sqlsession" if backend.dialect == "mysql" else "ANALYZE sqlsession"

    def measured() -> tuple[int, int]:
        execute(engine, analyze)
        ((size, stored, *_),) = execute(engine, table)
        return size, stored

    # a connection of PostgreSQL's tells a while later what it has inserted, which counts twice then
    wait_until(lambda: measured()[1] == len(SESSIONS))
    assert measured()[0] > 8192


@only_postgresql
def test_the_lag_of_the_cleaning_is_answered_by_an_index(engine: Engine, operated: Path) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        plan = connection.exec_driver_sql(f"EXPLAIN {blocks('monitoring')['lag-postgresql']}")
        assert "ix_sqlsession_purge_after" in "".join(plan.scalars())


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_figures_become_metrics(operated: Path) -> None:
    command = blocks("monitoring")["textfile"].removeprefix("$ ").strip()
    command = command.replace("python textfile.py", f"{sys.executable} {EXAMPLES / 'textfile.py'}")
    program = Path(sys.executable).with_name("pyramid_sqlsession")
    command = command.replace("pyramid_sqlsession ", f"{program} ")
    run("sh", "-ec", command, folder=operated.parent)
    lines = (operated.parent / "sessions.prom").read_text().splitlines()
    assert lines == [
        'sqlsession_sessions{state="signed_in"} 2',
        'sqlsession_sessions{state="anonymous"} 3',
        'sqlsession_sessions{state="replaced"} 1',
        'sqlsession_sessions{state="expired"} 2',
        'sqlsession_sessions{state="purgeable"} 1',
        "sqlsession_data_bytes 16",
        "sqlsession_data_bytes_mean 2",
    ]


# ---- tuning


def held(engine: Engine, work: Callable[[], Any]) -> int:
    """How many connections of an engine are in use at once, at most, during some work."""
    most = now = 0

    def taken(*_: Any) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)

    def given_back(*_: Any) -> None:
        nonlocal now
        now -= 1

    with listening(engine, "checkout", taken), listening(engine, "checkin", given_back):
        work()
    return most


def own_engine(browser: TestApp) -> Engine:
    """The application's session store has an engine of its own: that one."""
    factory = browser.app.registry.getUtility(ISessionFactory)
    engine = factory.visit(Request.blank("/")).store.database.engine(None)
    assert isinstance(engine, Engine)
    return engine


def everything(browser: TestApp, clock: Clock) -> None:
    """Requests that store, read, touch, sign in, revoke and end sessions."""
    for path in ("put", "show", "enter", "put", "devices", "leave", "show"):
        browser.get(f"/{path}")
        clock.advance(301)


@pytest.mark.parametrize("own", [True, False], ids=["own", "dbsession"])
def test_a_request_holds_one_connection_at_a_time(
    own: bool, backend: Backend, engine: Engine
) -> None:
    def enter(request: Any) -> None:
        request.session["auth.userid"] = "alice"

    def devices(request: Any) -> int:
        return len(request.sqlsessions.of_user("alice"))

    def leave(request: Any) -> int:
        ended: int = request.sqlsessions.revoke_user("alice")
        return ended

    views = {"put": put, "show": show, "enter": enter, "devices": devices, "leave": leave}
    clock = Clock()
    if own:
        browser = serve(own_configurator(backend.url), **views)
        browser.app.registry.getUtility(ISessionFactory).clock = clock
        engine = own_engine(browser)
    else:
        browser = serve(configurator(engine, clock=clock), **views)
    assert held(engine, lambda: everything(browser, clock)) == 1
    purge = Purge(Rows(SQLSessionRow), Lifetime(Settings()), clock)
    assert held(engine, lambda: sum(purge.batches(engine, 10))) == 1


def test_the_pool_is_as_large_as_the_page_says(
    example: Example, opened: Opened, postgresql: Backend
) -> None:
    example("outage")
    url = f"sqlsession.sqlalchemy.url = {postgresql.url}"
    manager = "tm.manager_hook = pyramid_tm.explicit_manager"
    ini = ["[app:main]", "use = call:outage:main", manager, url, blocks("tuning")["pool"]]
    browser = opened("\n".join(ini))
    assert browser.post("/").json == {"visits": 1}
    pool: Any = own_engine(browser).pool
    assert (pool.size(), pool._max_overflow) == (5, 0)


ATTEMPTS = re.compile(r"\* - ([A-Z ]+)\n +- (\d)\n +- (\d)\n")


def attempts_of_two_changes(url: str, level: str) -> int:
    """How often two requests run that change different keys of one session at once."""
    block = blocks("tuning")["isolation"].replace("READ COMMITTED", level)
    settings = {"sqlalchemy.url": url}
    engine = evaluate(block, create_engine=create_engine, settings=settings)["engine"]
    attempts: list[str] = []

    def change(request: Any) -> None:
        attempts.append(request.params["key"])
        dict(request.session)
        if len(attempts) == 1:
            other.get("/change", {"key": "b"})
        request.session[request.params["key"]] = 1

    browser = serve(configurator(engine, retry=True), change=change, show=show, put=put)
    browser.get("/put")
    other = another(browser)
    other.cookiejar = browser.cookiejar
    browser.get("/change", {"key": "a"})
    assert browser.get("/show").json == {"cart": [1], "a": 1, "b": 1}
    return len(attempts)


@on_servers
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_two_changes_take_as_many_attempts_as_the_page_says(level: str, backend: Backend) -> None:
    found = ATTEMPTS.findall((PAGES / "tuning.rst").read_text())
    shown = {name: {"postgresql": int(one), "mysql": int(two)} for name, one, two in found}
    assert len(shown) == 2
    assert attempts_of_two_changes(backend.url, level) == shown[level][backend.dialect]


def test_postgresql_refuses_the_later_change_at_serializable(postgresql: Backend) -> None:
    assert attempts_of_two_changes(postgresql.url, "SERIALIZABLE") == 3


def test_mariadb_refuses_the_later_change_with_snapshot_isolation(mariadb: Backend) -> None:
    url = make_url(mariadb.url).update_query_dict(
        {"init_command": "SET innodb_snapshot_isolation = ON"}
    )
    text = url.render_as_string(hide_password=False)
    assert attempts_of_two_changes(text, "REPEATABLE READ") == 3


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("index", [None, "last_seen"])
def test_an_index_on_the_last_visit_costs_hot_updates(
    index: str | None, backend: Backend, engine: Engine
) -> None:
    clock = Clock()
    browser = serve(configurator(engine, clock=clock), put=put, show=show)
    browser.app.registry["dbsession_factory"] = sessionmaker(engine)
    execute(engine, *statements_of(blocks("tuning")["fillfactor"]))
    if index:
        execute(engine, f"CREATE INDEX ix_own ON sqlsession ({index})")
    browser.get("/put")
    before = updates(browser, engine)
    for _ in range(5):
        clock.advance(301)
        browser.get("/show")
    for _ in range(5):
        browser.get("/put")
    after = updates(browser, engine)
    # the writes are HOT with that index too: the second is the same
    assert (after[0] - before[0], after[1] - before[1]) == (10, 5 if index else 10)


@pytest.fixture
def forgetful() -> Iterator[PostgreSQL]:
    """A server that takes its time to write what nobody waits for."""
    with serving(PostgreSQL) as server:
        server.execute(
            *server.create_statements("web"),
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "SELECT pg_reload_conf()",
        )
        yield server


@pytest.mark.parametrize("waiting", [True, False])
def test_a_sign_out_that_nobody_waited_for_is_undone_by_a_crash(
    waiting: bool, forgetful: PostgreSQL
) -> None:
    (query,) = re.findall(r"\?.*$", blocks("tuning")["synchronous-commit"], re.MULTILINE)
    url = forgetful.url("web") + ("" if waiting else query)

    def leave(request: Any) -> None:
        request.session.invalidate()

    browser = serve(own_configurator(url), put=put, show=show, leave=leave)
    with own_engine(browser).connect() as connection:
        (value,) = connection.exec_driver_sql("SHOW synchronous_commit").one()
        assert value == ("on" if waiting else "off")
    undone = []
    # the server writes every ten seconds what nobody waited for: perhaps just then
    for _ in range(3):
        browser.reset()
        browser.get("/put")
        token = browser.cookies["session"]
        forgetful.execute("CHECKPOINT")
        browser.get("/leave")
        forgetful.kill()
        forgetful.start()
        browser.set_cookie("session", token)
        undone.append(browser.get("/show").json == {"cart": [1]})
    assert any(undone) is not waiting


def test_mariadb_takes_the_setting_of_the_page(mariadb: Backend) -> None:
    (statement,) = statements_of(blocks("tuning")["flush-log"])
    assert mariadb.server is not None
    mariadb.server.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1", statement)
    shown = mariadb.server.execute("SELECT @@innodb_flush_log_at_trx_commit")
    assert [str(value) for value in shown[0]] == re.findall(r"\d", statement)


def test_the_program_measures_writes_as_the_page_shows(postgresql: Backend, tmp_path: Path) -> None:
    command, *shown = blocks("tuning")["measure"].splitlines()
    program, *urls = shlex.split(command.removeprefix("$ python "))
    here = [re.sub(r"^[^?]+", postgresql.url, url) for url in urls]
    printed = run(sys.executable, EXAMPLES / program, *here, folder=tmp_path)
    times = re.compile(r"\d+\.\d\d ms$", re.MULTILINE)
    assert times.sub("*", printed).splitlines() == [times.sub("*", line) for line in shown]


# ---- testing


def test_the_tests_on_the_page_pass_in_a_cookiecutter_application(tmp_path: Path) -> None:
    folder = tmp_path / "quickstart"
    ignored = shutil.ignore_patterns("__pycache__", "*.sqlite")
    shutil.copytree(DOCS / "examples" / "quickstart", folder, ignore=ignored)
    shutil.copy(EXAMPLES / "test_visitors.py", folder / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    assert "6 passed" in run(*command, folder=folder, path=folder)


def test_the_tests_of_an_application_without_a_database_pass(tmp_path: Path) -> None:
    folder = tmp_path / "testing"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(DOCS / "examples" / "testing", folder, ignore=ignored)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert "2 passed" in run(*command, folder=folder, path=folder)


def test_the_clock_is_a_keyword() -> None:
    config, clock = Configurator(), Clock()
    names = {"config": config, "SQLSessionFactory": SQLSessionFactory, "clock": clock}
    evaluate(blocks("testing")["clock"], **names)
    config.commit()
    factory: Any = config.registry.getUtility(ISessionFactory)
    assert (factory.clock, factory.settings.ttl) == (clock, 7200)


def test_the_setting_on_the_page_turns_the_cleaning_off() -> None:
    name, value = blocks("testing")["no-cleaning"].split(" = ")
    assert Settings.from_ini({name: value.strip()}).cleanup_interval is None


def test_a_secure_cookie_comes_back_to_the_browser_on_the_page(sqlite: Backend) -> None:
    app = serve(own_configurator(sqlite.url, cookie_name="__Host-session"), put=put, show=show).app
    expression = blocks("testing")["https"]
    browser = eval(expression, {"TestApp": TestApp, "app": app})  # noqa: S307  # an example of ours
    browser.get("/put")
    assert browser.get("/show").json == {"cart": [1]}
    plain = TestApp(app)
    plain.get("/put")
    assert plain.get("/show").json == {}
