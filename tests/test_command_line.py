"""The command line, run as operators run it: with ini files, on real databases."""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import os
import pty
import re
import runpy
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import plaster
import pytest
from pyramid.paster import bootstrap
from sqlalchemy import (
    Engine,
    Integer,
    create_engine,
    insert,
    inspect,
    text,
)
from sqlalchemy.orm import mapped_column
from support import ini_apps
from support.apps import TABLE, Base, listening, rows
from support.docs.pages import DOCS, code_blocks
from support.servers import Backend, free_port

from pyramid_sqlsession import SessionMixin
from pyramid_sqlsession.cli import application, terminal
from pyramid_sqlsession.cli.main import main
from pyramid_sqlsession.table.model import SQLSessionRow

TESTS = Path(__file__).parent
PATH = f"{TESTS}:{TESTS.parent}"
COMMAND = Path(sys.executable).with_name("pyramid_sqlsession")
DAY = 86400
NOW = int(time.time())
EXPIRED = {"last_seen": NOW - 40 * DAY, "purge_after": NOW - DAY}
# the row of an old token
REPLACED = {"replaced": NOW - 5}
WAYS = ["shared", "own"]

Run = Callable[..., tuple[int, str, str]]
Ini = Callable[..., str]


@pytest.fixture
def ini(tmp_path: Path) -> Ini:
    """Writes an ini file for one of the applications in support/ini_apps.py; its path."""

    def write(application: str, settings: dict[str, str], *more: str) -> str:
        lines = [f"{name} = {value.replace('%', '%%')}" for name, value in settings.items()]
        path = tmp_path / "production.ini"
        use = f"use = call:support.ini_apps:{application}"
        path.write_text("\n".join(["[app:main]", use, *lines, *more, ""]))
        return str(path)

    return write


def settings_for(way: str, url: str, model: str = "support.apps.SessionRow") -> dict[str, str]:
    key = "sqlalchemy.url" if way == "shared" else "sqlsession.sqlalchemy.url"
    return {key: url, "sqlsession.model": model}


@pytest.fixture
def uri(backend: Backend, ini: Ini) -> str:
    """An application with a database session, and an empty table."""
    engine = create_engine(backend.url)
    Base.metadata.create_all(engine)
    engine.dispose()
    return ini("shared", settings_for("shared", backend.url))


@pytest.fixture
def sqlite_uri(sqlite: Backend, ini: Ini) -> str:
    """The same on SQLite only, where the database does not matter."""
    return ini(
        "own", settings_for("own", sqlite.url, "pyramid_sqlsession.table.model.SQLSessionRow")
    )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: its exit code, output and messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as error:
            code = int(str(error.code))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


NO_HOST = "postgresql+psycopg://shop:hunter2/shop"

# Pyramid 2.0 imports it, which setuptools remarks upon
ENVIRON = {**os.environ, "PYTHONWARNINGS": "ignore:pkg_resources is deprecated"}


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The installed command, as a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    environ = {**ENVIRON, "PYTHONPATH": PATH, "TERM": "xterm", "COLUMNS": "100"}
    return subprocess.Popen([COMMAND, *arguments], env=environ, **options)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def fill(url: str, *given: dict[str, Any], table: Any = TABLE) -> list[str]:
    """Store rows, live and anonymous where they say nothing else; their handles."""
    defaults = {"user_id": None, "data": b"{}", "version": 1, "created": NOW - 50 * DAY}
    times = {"last_seen": NOW, "purge_after": NOW + 15 * DAY, "max_age": None, "replaced": None}
    stored = [
        {"id": secrets.token_bytes(32), "lineage": secrets.token_bytes(16)}
        | {**defaults, **times, **row}
        for row in given
    ]
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(table), stored)
    engine.dispose()
    return [row["lineage"].hex() for row in stored]


def handles(url: str) -> set[str]:
    """The handles of the stored rows."""
    engine = create_engine(url)
    found = {row["lineage"].hex() for row in rows(engine)}
    engine.dispose()
    return found


@contextmanager
def deletes() -> Iterator[list[str]]:
    """The DELETE statements of every engine meanwhile."""
    seen: list[str] = []

    def record(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE"):
            seen.append(statement)

    with listening(Engine, "before_cursor_execute", record):
        yield seen


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C counts, also for processes started now: in the background shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        self._read: list[bytes] = []
        self._reader = Thread(target=self._drain)
        self._reader.start()

    def _drain(self) -> None:
        try:
            while data := os.read(self._master, 4096):
                self._read.append(data)
        except OSError:
            """The end, on Linux."""

    def close(self) -> str:
        os.close(self.slave)
        self._reader.join(30)
        os.close(self._master)
        return b"".join(self._read).decode()


@contextmanager
def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, *, term: str = "xterm", columns: int = 100
) -> Iterator[list[str]]:
    """Output goes to a terminal meanwhile; afterwards the list holds what it has shown."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Terminal()
    shown: list[str] = []
    with open(os.dup(screen.slave), "w") as stdout:  # noqa: PTH123  # no path
        monkeypatch.setattr(sys, "stdout", stdout)
        yield shown
    monkeypatch.undo()
    shown.append(screen.close())


# ---- create-table


@pytest.mark.parametrize("way", WAYS)
def test_create_table_says_whether_the_table_was_there(
    way: str, backend: Backend, ini: Ini, run: Run
) -> None:
    model = "pyramid_sqlsession.table.model.SQLSessionRow"
    uri = ini(way, settings_for(way, backend.url, model))
    assert run(uri, "create-table") == (0, "created table sqlsession\n", "")
    assert run(uri, "create-table") == (0, "table sqlsession already exists\n", "")
    engine = create_engine(backend.url)
    indexed = [index["column_names"] for index in inspect(engine).get_indexes("sqlsession")]
    engine.dispose()
    assert sorted(indexed, key=str) == [["lineage"], ["purge_after"], ["user_id"]]


def test_create_table_says_so_too_where_the_application_makes_the_table_itself(
    sqlite: Backend, ini: Ini, run: Run
) -> None:
    settings = settings_for("shared", sqlite.url, "pyramid_sqlsession.table.model.SQLSessionRow")
    uri = ini("shared", {**settings, "sqlsession.create_table": "true"})
    assert run(uri, "create-table")[1] == "created table sqlsession\n"


def test_create_table_makes_a_missing_index_but_none_that_has_another_name(
    backend: Backend, uri: str, run: Run
) -> None:
    engine = create_engine(backend.url)
    on = " ON sqlsession" if backend.dialect == "mysql" else ""
    with engine.begin() as connection:
        connection.execute(text(f"DROP INDEX ix_sqlsession_lineage{on}"))
        connection.execute(text(f"DROP INDEX ix_sqlsession_purge_after{on}"))
        connection.execute(text(f"DROP INDEX ix_sqlsession_user_id{on}"))
        connection.execute(text("CREATE INDEX by_user ON sqlsession (user_id, created)"))
    engine.dispose()
    assert run(uri, "create-table")[1].splitlines() == [
        "table sqlsession already exists",
        "created missing index ix_sqlsession_lineage",
        "created missing index ix_sqlsession_purge_after",
    ]
    assert len(run(uri, "create-table")[1].splitlines()) == 1


def test_create_table_fails_where_the_table_lacks_a_column(
    backend: Backend, uri: str, run: Run
) -> None:
    engine = create_engine(backend.url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE sqlsession DROP COLUMN replaced"))
    engine.dispose()
    code, _, err = run(uri, "create-table")
    assert code == 1
    assert "does not match its model" in err
    assert "replaced" in err
    assert len(err.splitlines()) == 1


# ---- purge


def test_purge_deletes_the_expired_sessions_only(backend: Backend, uri: str, run: Run) -> None:
    fill(backend.url, *[EXPIRED] * 3)
    live = fill(backend.url, {}, {"purge_after": NOW - DAY})
    code, out, err = run(uri, "purge")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"3 expired sessions deleted in \d+\.\d seconds\n", out)
    assert handles(backend.url) == set(live)


def test_purge_deletes_as_many_rows_at_once_as_batch_says(
    backend: Backend, uri: str, run: Run
) -> None:
    fill(backend.url, *[EXPIRED] * 5)
    with deletes() as seen:
        run(uri, "purge", "--batch", "2")
    assert len(seen) == 3


@pytest.mark.parametrize(("setting", "expired", "statements"), [("1", 5, 5), ("2000", 101, 2)])
def test_purge_deletes_as_many_rows_at_once_as_the_setting_says_and_at_most_a_hundred(
    setting: str, expired: int, statements: int, sqlite: Backend, ini: Ini, run: Run
) -> None:
    engine = create_engine(sqlite.url)
    Base.metadata.create_all(engine)
    engine.dispose()
    fill(sqlite.url, *[EXPIRED] * expired)
    settings = settings_for("own", sqlite.url)
    with deletes() as seen:
        run(ini("own", {**settings, "sqlsession.cleanup_batch": setting}), "purge")
    assert len(seen) == statements


@pytest.mark.parametrize(("limit", "batch", "statements"), [("5", "2", 3), ("4", "9", 1)])
def test_purge_stops_exactly_at_its_limit(
    limit: str, batch: str, statements: int, backend: Backend, uri: str, run: Run
) -> None:
    fill(backend.url, *[EXPIRED] * 7)
    with deletes() as seen:
        _, out, _ = run(uri, "purge", "--limit", limit, "--batch", batch)
    assert out.splitlines()[-1].startswith(f"{limit} expired sessions deleted")
    assert len(handles(backend.url)) == 7 - int(limit)
    assert len(seen) == statements


def test_purge_ends_by_itself_below_its_limit(backend: Backend, uri: str, run: Run) -> None:
    fill(backend.url, *[EXPIRED] * 3)
    assert run(uri, "purge", "--limit", "99", "--batch", "3")[0] == 0
    assert not handles(backend.url)


def test_a_dry_run_only_counts(backend: Backend, uri: str, run: Run) -> None:
    fill(backend.url, EXPIRED, EXPIRED, {})
    with deletes() as seen:
        assert run(uri, "purge", "--dry-run")[1] == "2 expired sessions would be deleted\n"
        assert run(uri, "purge", "--dry-run", "--limit", "1")[1] == (
            "1 expired session would be deleted\n"
        )
    assert not seen
    assert len(handles(backend.url)) == 3


def test_a_long_purge_writes_ten_lines(backend: Backend, uri: str, run: Run) -> None:
    fill(backend.url, *[EXPIRED] * 60)
    *lines, last = run(uri, "purge", "--batch", "1")[1].splitlines()
    assert lines == [f"{n} of 60 expired sessions deleted" for n in range(6, 60, 6)]
    assert last.startswith("60 expired sessions deleted in ")


def test_a_purge_on_a_terminal_shows_a_bar(
    uri: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(backend.url, *[EXPIRED] * 60)
    with on_a_terminal(monkeypatch) as shown:
        assert main([uri, "purge", "--batch", "1"]) == 0
    assert "60/60" in shown[0]
    assert "\x1b[?25h" in shown[0], "the cursor is shown again"
    assert "of 60 expired sessions deleted" not in shown[0]
    assert "60 expired sessions deleted in " in shown[0].splitlines()[-1]


def test_a_terminal_that_can_only_print_lines_gets_lines(
    sqlite: Backend, sqlite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([sqlite_uri, "create-table"])
    fill(sqlite.url, *[EXPIRED] * 2, table=SQLSessionRow.__table__)
    with on_a_terminal(monkeypatch, term="dumb") as shown:
        assert main([sqlite_uri, "purge", "--batch", "1"]) == 0
    assert shown[0].splitlines()[0] == "1 of 2 expired sessions deleted"
    assert "\x1b" not in shown[0]


def test_an_interrupted_purge_says_how_many_it_has_deleted(
    interruptible: None, backend: Backend, uri: str, run: Run
) -> None:
    fill(backend.url, *[EXPIRED] * 20)

    def interrupt(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE") and len(seen) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with deletes() as seen, listening(Engine, "before_cursor_execute", interrupt):
        code, out, err = run(uri, "purge", "--batch", "1")
    assert (code, err) == (130, "pyramid_sqlsession: interrupted\n")
    assert out.splitlines()[-1].startswith("4 expired sessions deleted in ")
    assert len(handles(backend.url)) == 16


def test_ctrl_c_ends_the_process_of_a_purge_without_a_traceback(
    interruptible: None, postgresql: Backend, ini: Ini
) -> None:
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    engine.dispose()
    fill(postgresql.url, *[EXPIRED] * 5000)
    process = start(ini("own", settings_for("own", postgresql.url)), "purge", "--batch", "1")
    assert process.stdout is not None
    assert process.stdout.readline() == "500 of 5,000 expired sessions deleted\n"
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, err) == (130, "pyramid_sqlsession: interrupted\n")
    said = re.search(r"^([\d,]+) expired sessions deleted in", out, re.MULTILINE)
    assert said
    deleted = int(said[1].replace(",", ""))
    # the one that was being committed may be stored without having been counted
    assert 5000 - len(handles(postgresql.url)) - deleted in (0, 1)
    assert 500 <= deleted < 5000


@pytest.fixture
def five_thousand_expired(sqlite: Backend, ini: Ini) -> str:
    """An application with so many expired sessions that a purge takes a while."""
    engine = create_engine(sqlite.url)
    Base.metadata.create_all(engine)
    engine.dispose()
    fill(sqlite.url, *[EXPIRED] * 5000)
    return ini("own", settings_for("own", sqlite.url))


def test_sigterm_ends_a_purge_between_two_batches(
    five_thousand_expired: str, sqlite: Backend
) -> None:
    process = start(five_thousand_expired, "purge", "--batch", "1")
    assert process.stdout is not None
    assert process.stdout.readline() == "500 of 5,000 expired sessions deleted\n"
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, err) == (143, "pyramid_sqlsession: terminated\n")
    said = re.search(r"^([\d,]+) expired sessions deleted in", out, re.MULTILINE)
    assert said
    deleted = int(said[1].replace(",", ""))
    assert 500 <= deleted < 5000
    # no batch was cut short, and none went uncounted
    assert len(handles(sqlite.url)) == 5000 - deleted


def test_sigterm_ends_a_quiet_purge_with_one_line(
    five_thousand_expired: str, sqlite: Backend
) -> None:
    process = start(five_thousand_expired, "purge", "--batch", "1", "--quiet")
    deadline = time.monotonic() + 60
    while len(handles(sqlite.url)) == 5000 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (143, "", "pyramid_sqlsession: terminated\n")


def test_sigterm_during_a_batch_ends_the_purge_after_it(
    five_thousand_expired: str, sqlite: Backend, run: Run
) -> None:
    def terminate(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("DELETE") and len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with deletes() as seen, listening(Engine, "before_cursor_execute", terminate):
        code, out, err = run(five_thousand_expired, "purge", "--batch", "3")
    assert (code, err) == (143, "pyramid_sqlsession: terminated\n")
    assert out.splitlines()[-1].startswith("6 expired sessions deleted in ")
    assert len(handles(sqlite.url)) == 4994


def test_a_second_sigterm_does_not_wait_for_the_batch() -> None:
    program = (
        "import os, signal; from pyramid_sqlsession.cli.terminal import terminable\n"
        "with terminable() as is_told:\n"
        "    assert not is_told()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert is_told()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    environ = {**ENVIRON, "PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, check=False)
    assert done.returncode == -signal.SIGTERM


def test_a_purge_leaves_the_handling_of_sigterm_as_it_was(sqlite_uri: str, run: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(sqlite_uri, "purge")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_purge_in_another_thread_leaves_signals_alone(sqlite_uri: str) -> None:
    codes: list[int] = []
    thread = Thread(target=lambda: codes.append(main([sqlite_uri, "purge"])))
    thread.start()
    thread.join(30)
    assert codes == [0]


# ---- stats


def fill_for_the_figures(url: str) -> None:
    alice = {"user_id": "alice", "data": bytes(2000)}
    fill(url, {}, alice, EXPIRED, {**alice, **REPLACED}, {**REPLACED, **EXPIRED})


def test_stats_are_the_figures_of_the_table_as_json(backend: Backend, uri: str, run: Run) -> None:
    fill_for_the_figures(backend.url)
    code, out, err = run(uri, "stats", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "live": 2,
        "expired": 2,
        "replaced": 1,
        "signed_in": 1,
        "anonymous": 1,
        "purgeable": 2,
        "ages": {"hour": 2, "day": 0, "week": 0, "month": 0, "older": 0},
        "sizes": {"1 KiB": 3, "10 KiB": 2, "100 KiB": 0, "1 MiB": 0, "more": 0},
        "bytes": 4006,
        "mean": 801,
    }


def figures(shown: str) -> list[tuple[str, str]]:
    found = re.findall(r"^ *(\w[\w ]*?\w)(?: {2,}([\d,]+))? *\r?$", shown, re.MULTILINE)
    return [(label, value) for label, value in found if value]


EXPECTED = [
    ("live", "2"), ("signed in", "1"), ("anonymous", "1"), ("replaced", "1"),
    ("expired", "2"), ("due for purge", "2"),
    ("in the last hour", "2"), ("in the last day", "0"), ("in the last week", "0"),
    ("in the last month", "0"), ("earlier", "0"),
    ("up to 1 KiB", "3"), ("up to 10 KiB", "2"), ("up to 100 KiB", "0"), ("up to 1 MiB", "0"),
    ("larger", "0"), ("bytes of data", "4,006"), ("mean", "801"),
]  # fmt: skip


def test_stats_are_lines_in_a_file_and_a_table_on_a_terminal(
    backend: Backend, uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_for_the_figures(backend.url)
    code, out, err = run(uri, "stats")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "sessions in sqlsession"
    assert figures(out) == EXPECTED
    with on_a_terminal(monkeypatch) as shown:
        assert main([uri, "stats"]) == 0
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown[0])
    assert figures(plain) == EXPECTED
    assert shown[0] != plain


# ---- list


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def test_list_shows_the_live_sessions_of_one_user(backend: Backend, uri: str, run: Run) -> None:
    older, newer, short, *_ = fill(
        backend.url,
        {"user_id": "alice", "last_seen": NOW - 2 * DAY},
        {"user_id": "alice", "last_seen": NOW - DAY, "created": NOW - 2 * DAY},
        {"user_id": "alice", "last_seen": NOW - 3 * DAY, "max_age": 20 * DAY},
        {"user_id": "bob"},
        # the usual collations of MariaDB take these for the same
        *({"user_id": other} for other in ("Alice", "alicé", "ALICE")),
        {"user_id": "alice", **EXPIRED},
        {"user_id": "alice", **REPLACED},
        {},
    )
    code, out, err = run(uri, "list", "--user", "alice")
    assert (code, err) == (0, "")
    began = NOW - 50 * DAY
    assert [line.split() for line in out.splitlines()] == [
        [newer, iso(NOW - 2 * DAY), iso(NOW - DAY), iso(NOW + 13 * DAY)],
        [older, iso(began), iso(NOW - 2 * DAY), iso(NOW + 12 * DAY)],
        [short, iso(began), iso(NOW - 3 * DAY), iso(NOW + 17 * DAY)],
    ]


def test_list_is_a_table_on_a_terminal_that_breaks_no_handle(
    backend: Backend, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fill(backend.url, *[{"user_id": "alice"}] * 2)
    with on_a_terminal(monkeypatch) as shown:
        assert main([uri, "list", "--user", "alice"]) == 0
    assert all(handle in shown[0] for handle in found)
    assert shown[0].count(iso(NOW + 14 * DAY)[:16].replace("T", " ")) == 2
    headings = ("handle", "created", "last seen (UTC)", "expires (UTC)")
    assert all(heading in shown[0] for heading in headings)


def test_list_of_nobody_says_so(uri: str, run: Run) -> None:
    assert run(uri, "list", "--user", "nobody") == (
        0, "", "pyramid_sqlsession: this user has no live session\n"
    )  # fmt: skip


def test_nonsense_in_one_row_does_not_hide_the_others(backend: Backend, uri: str, run: Run) -> None:
    fill(backend.url, {"user_id": "alice", "last_seen": 2**61}, {"user_id": "alice"})
    code, out, _ = run(uri, "list", "--user", "alice")
    assert code == 0
    assert len(out.splitlines()) == 2
    # the last second that there is a time for
    assert out.splitlines()[0].split()[2:] == ["9999-12-31T23:59:59Z"] * 2


@pytest.fixture
def numbered(base: Any, sqlite: Backend, ini: Ini, monkeypatch: pytest.MonkeyPatch) -> str:
    """An application whose users have numbers."""

    class Numbered(SessionMixin, base):  # type: ignore[misc]
        user_id = mapped_column(Integer, index=True)

    monkeypatch.setattr(ini_apps, "Numbered", Numbered, raising=False)
    engine = create_engine(sqlite.url)
    base.metadata.create_all(engine)
    engine.dispose()
    fill(sqlite.url, {"user_id": 7}, {"user_id": 7}, {"user_id": 8}, table=Numbered.__table__)
    return ini("shared", settings_for("shared", sqlite.url, "support.ini_apps.Numbered"))


def test_the_user_is_found_whose_id_is_a_number(numbered: str, run: Run) -> None:
    assert len(run(numbered, "list", "--user", "7")[1].splitlines()) == 2
    assert run(numbered, "revoke", "--user", "7")[1] == "2 sessions revoked\n"
    assert len(run(numbered, "list", "--user", "8")[1].splitlines()) == 1


@pytest.mark.parametrize("command", ["list", "revoke"])
@pytest.mark.parametrize("user", ["alice", "", "7.5", str(2**63), "\udcff"])
def test_a_user_who_cannot_be_is_an_error_of_usage(
    user: str, command: str, numbered: str, run: Run
) -> None:
    code, out, err = run(numbered, command, f"--user={user}")
    assert (code, out) == (2, "")
    assert err == ("pyramid_sqlsession: --user ID is not a valid value of the column user_id\n")


def test_a_user_who_is_no_text_is_an_error_of_usage(uri: str, run: Run) -> None:
    assert run(uri, "list", "--user", "\udcff")[0] == 2


# ---- revoke


def test_revoke_ends_the_sessions_with_these_handles(backend: Backend, uri: str, run: Run) -> None:
    first, second, other = fill(backend.url, {}, {}, {})
    assert run(uri, "revoke", first, second.upper(), first) == (0, "2 sessions revoked\n", "")
    assert handles(backend.url) == {other}


def test_an_unknown_handle_fails_and_the_known_ones_are_revoked(
    backend: Backend, uri: str, run: Run
) -> None:
    (known,) = fill(backend.url, {})
    unknown = secrets.token_hex(16)
    code, out, err = run(uri, "revoke", unknown, known)
    assert (code, out) == (1, "1 session revoked\n")
    assert unknown in err
    assert len(err.splitlines()) == 1
    assert not handles(backend.url)


TOKENS = [
    secrets.token_urlsafe(32),
    "-" + secrets.token_urlsafe(32)[1:],
    "--" + secrets.token_urlsafe(32)[2:],
    "-h" + secrets.token_urlsafe(32)[2:],
]


@pytest.mark.parametrize("token", TOKENS, ids=["token", "dash", "dashes", "help"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("revoke",), ("revoke", "--user", "alice"), ("stats",), ("list", "--user", "alice"),
        ("purge", "--limit"), ("purge", "--batch"), ("list", "--user"), (),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_token_pasted_by_mistake_is_never_shown(
    arguments: tuple[str, ...], token: str, sqlite_uri: str, run: Run
) -> None:
    code, out, err = run(sqlite_uri, *arguments, token)
    if token.startswith("-h"):
        # newer versions of Python take it for -h and show the help
        assert code in (0, 2)
    else:
        assert code == (0 if arguments == ("list", "--user") and token[0] != "-" else 2)
    assert token[2:] not in out + err


@pytest.mark.parametrize("handle", ["abc", "g" * 32, "a" * 31, "a" * 33, "a" * 64, ""])
def test_a_malformed_handle_is_an_error_of_usage(
    handle: str, backend: Backend, uri: str, run: Run
) -> None:
    (known,) = fill(backend.url, {})
    code, out, err = run(uri, "revoke", known, handle)
    assert (code, out) == (2, "")
    assert "HANDLE 2 is not a valid handle: expected 32 hex digits" in err
    assert handles(backend.url) == {known}


@pytest.mark.parametrize(
    "order", [["--user", "alice", "a" * 32], ["a" * 32, "--user", "alice"], []]
)
def test_revoke_takes_handles_or_a_user(order: list[str], sqlite_uri: str, run: Run) -> None:
    code, _, err = run(sqlite_uri, "revoke", *order)
    assert code == 2
    assert "give either HANDLE or --user ID" in err


def test_revoke_logs_a_user_out_everywhere(backend: Backend, uri: str, run: Run) -> None:
    fill(backend.url, {"user_id": "alice"}, {"user_id": "alice", **EXPIRED})
    others = fill(backend.url, {"user_id": "bob"}, {})
    # one has ended by itself, and its row goes with the other's
    assert run(uri, "revoke", "--user", "alice") == (0, "1 session revoked\n", "")
    assert handles(backend.url) == set(others)
    assert run(uri, "revoke", "--user", "alice") == (0, "0 sessions revoked\n", "")


def test_what_is_revoked_is_a_line_in_the_applications_log(
    sqlite_uri: str, sqlite: Backend, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run(sqlite_uri, "create-table")
    alice, bob = fill(sqlite.url, {"user_id": "alice"}, {"user_id": "bob"})
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    run(sqlite_uri, "revoke", "--user", "alice")
    run(sqlite_uri, "revoke", bob)
    shown = [it.getMessage() for it in caplog.records if " ended: " in it.getMessage()]
    assert shown == [
        f"session {alice} ended: command, user 'alice'",
        f"session {bob} ended: command, user 'bob'",
    ]


def test_revoke_ends_a_session_that_appears_meanwhile(backend: Backend, uri: str, run: Run) -> None:
    fill(backend.url, {"user_id": "alice"})
    # SQLite is locked before it is looked for what is to be deleted, elsewhere that was done
    verb, after = ("UPDATE", 0) if backend.name == "sqlite" else ("DELETE", 1)

    def sign_in(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(verb) and len(seen) == after:
            fill(backend.url, {"user_id": "alice"})

    with deletes() as seen, listening(Engine, "before_cursor_execute", sign_in):
        assert run(uri, "revoke", "--user", "alice")[1] == "2 sessions revoked\n"
    assert len(seen) == (2 if after else 1)
    assert not handles(backend.url)


def test_revoke_ends_a_session_whatever_tokens_it_had(backend: Backend, uri: str, run: Run) -> None:
    handle, other = fill(backend.url, {"user_id": "alice"}, {})
    fill(backend.url, {"user_id": "alice", "lineage": bytes.fromhex(handle), **REPLACED})
    assert run(uri, "revoke", handle) == (0, "1 session revoked\n", "")
    assert handles(backend.url) == {other}


def test_revoke_does_not_count_the_row_of_an_old_token(
    backend: Backend, uri: str, run: Run
) -> None:
    lineage = {"lineage": secrets.token_bytes(16)}
    fill(backend.url, {"user_id": "alice", **lineage}, {"user_id": "alice", **REPLACED, **lineage})
    assert run(uri, "revoke", "--user", "alice") == (0, "1 session revoked\n", "")
    assert not handles(backend.url)


# ---- what can be wrong


def test_a_database_that_does_not_answer_is_one_line(ini: Ini, run: Run) -> None:
    url = f"postgresql+psycopg://somebody:hidden@127.0.0.1:{free_port()}/shop"
    for way in WAYS:
        uri = ini(way, settings_for(way, url))
        for command in ("create-table", "purge", "stats"):
            code, out, err = run(uri, command)
            assert (code, out) == (1, "")
            assert err.startswith("pyramid_sqlsession: database error (")
            assert f"its URL in {uri}" in err
            assert len(err.splitlines()) == 1
            assert "hidden" not in err


@pytest.mark.parametrize(
    "command", [["purge"], ["stats"], ["list", "--user", "a"], ["revoke", "a" * 32],
                ["revoke", "--user", "a"]], ids=" ".join
)  # fmt: skip
def test_a_missing_table_is_one_line_that_says_how_to_make_it(
    command: list[str], backend: Backend, ini: Ini, run: Run
) -> None:
    uri = ini("shared", settings_for("shared", backend.url))
    code, out, err = run(uri, *command)
    assert (code, out) == (1, "")
    assert "or run: pyramid_sqlsession CONFIG_URI create-table" in err
    assert len(err.splitlines()) == 1


def test_a_refusal_of_the_database_is_told_without_its_details(
    postgresql: Backend, ini: Ini, run: Run
) -> None:
    uri = ini("shared", settings_for("shared", postgresql.url))
    engine = create_engine(postgresql.url)
    Base.metadata.create_all(engine)
    fill(postgresql.url, {"user_id": "alice"})
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE audit (id bytea REFERENCES sqlsession)"))
        connection.execute(text("INSERT INTO audit SELECT id FROM sqlsession"))
    engine.dispose()
    code, _, err = run(uri, "revoke", "--user", "alice")
    assert code == 1
    assert "violates foreign key constraint" in err
    # they may quote what a row holds
    assert "DETAIL" not in err


def test_a_locked_database_is_one_line_that_says_to_try_again(
    sqlite: Backend, sqlite_uri: str, run: Run, ini: Ini
) -> None:
    run(sqlite_uri, "create-table")
    fill(sqlite.url, EXPIRED, table=SQLSessionRow.__table__)
    locking = create_engine(sqlite.url)
    with locking.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        url = f"{sqlite.url}?timeout=0.1"
        uri = ini(
            "shared", settings_for("shared", url, "pyramid_sqlsession.table.model.SQLSessionRow")
        )
        code, out, err = run(uri, "purge")
    locking.dispose()
    assert code == 1
    assert out.startswith("0 expired sessions deleted")
    assert err == ("pyramid_sqlsession: database conflict: database is locked; try again\n")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nowhere.ini", "cannot load nowhere.ini: no such file: nowhere.ini"),
        ("{ini}#other", "No section 'other'"),
        ("{ini}#foreign", r"uses another session factory.*config\.include"),
        ("{ini}#broken", r"production\.ini#broken: sqlsession.ttl = 'soon' is not valid"),
        ("{ini}#memory", "in the memory of this process, which no other process can reach"),
        ("{ini}#in_memory", "which no other process can reach"),
        ("{ini}#nameless", "request.db is missing"),
        ("{ini}#absent", "ModuleNotFoundError|ImportError"),
        ("{ini}#url", "parse SQLAlchemy URL"),
        ("{ini}#percent", r"sqlalchemy\.url in \[app:percent\] has a %"),
    ],
)
def test_a_wrong_configuration_is_one_line(uri: str, message: str, ini: Ini, run: Run) -> None:
    memory = "sqlalchemy.url = sqlite://\nsqlsession.model = support.apps.SessionRow"
    path = ini(
        "own",
        {},
        "[app:foreign]\nuse = call:support.ini_apps:foreign",
        "[app:broken]\nuse = call:support.ini_apps:own\nsqlsession.ttl = soon",
        "[app:memory]\nuse = call:support.ini_apps:own\nsqlsession.fallback_memory = true\n"
        "sqlsession.model = support.apps.SessionRow",
        f"[app:in_memory]\nuse = call:support.ini_apps:shared\n{memory}",
        f"[app:nameless]\nuse = call:support.ini_apps:shared\n{memory}\nsqlsession.dbsession = db",
        "[app:absent]\nuse = call:no_such_module:main",
        "[app:url]\nuse = call:support.ini_apps:shared\nsqlalchemy.url = nonsense",
    )
    if "percent" in uri:
        path = ini("own", {}, "[app:percent]\nuse = call:support.ini_apps:own\n"
                   "sqlsession.sqlalchemy.url = postgresql://me:10%secret@localhost/x")  # fmt: skip
    code, out, err = run(uri.format(ini=path), "stats")
    assert (code, out) == (2, "")
    assert re.search(message, err), err
    assert len(err.splitlines()) == 1
    assert "secret" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["stats"], ["nonsense"], ["purge", "--batch", "0"], ["purge", "--batch", "10001"],
        ["purge", "--batch", "many"], ["purge", "--limit", "0"], ["purge", "--limit", "-1"],
        ["purge", "--dry"], ["list"], ["stats", "variable"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_a_message_and_the_usage(
    arguments: list[str], sqlite_uri: str, run: Run
) -> None:
    given = arguments if arguments == ["stats"] else [sqlite_uri, *arguments]
    code, out, err = run(*given)
    assert (code, out) == (2, "")
    assert err.startswith("usage: pyramid_sqlsession")
    assert "error: " in err


@pytest.mark.parametrize("order", [["{v}", "--user", "a"], ["--user", "a", "{v}"]])
@pytest.mark.parametrize("command", ["list", "revoke"])
def test_variables_reach_the_ini_file(
    command: str, order: list[str], sqlite: Backend, ini: Ini, run: Run
) -> None:
    uri = ini("own", {"sqlsession.model": "pyramid_sqlsession.table.model.SQLSessionRow"},
              "sqlsession.sqlalchemy.url = %(db)s")  # fmt: skip
    arguments = [argument.format(v=f"db={sqlite.url}") for argument in order]
    code, *_ = run(uri, command, *arguments)
    assert code == 0
    assert run(uri, command, "--user", "a")[0] == 2


def test_everything_is_closed_at_the_end(
    backend: Backend, uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    closed: list[Any] = []

    def connect(connection: Any, record: Any) -> None:
        opened.append(connection)

    def close(connection: Any, record: Any) -> None:
        closed.append(connection)

    with listening(Engine, "connect", connect), listening(Engine, "close", close):
        run(uri, "stats")
    assert opened
    assert closed == opened


WITHOUT_RICH = (
    "import sys; sys.modules['rich'] = None; "
    "from pyramid_sqlsession.cli.main import main; sys.exit(main())"
)


def without_rich(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command where rich is not installed."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environ = {**ENVIRON, "PYTHONPATH": PATH, "TERM": "xterm"}
    program = [sys.executable, "-c", WITHOUT_RICH, *arguments]
    return subprocess.run(program, text=True, env=environ, timeout=60, **options)


def test_every_command_works_where_rich_is_not_installed(
    sqlite: Backend, sqlite_uri: str, run: Run
) -> None:
    done = without_rich(sqlite_uri, "create-table")
    assert (done.returncode, done.stdout, done.stderr) == (0, "created table sqlsession\n", "")
    alice, *_ = fill(
        sqlite.url, {"user_id": "alice"}, *[EXPIRED] * 2, table=SQLSessionRow.__table__
    )
    assert without_rich(sqlite_uri, "stats").stdout == run(sqlite_uri, "stats")[1]
    shown = without_rich(sqlite_uri, "list", "--user", "alice").stdout
    assert shown == run(sqlite_uri, "list", "--user", "alice")[1]
    assert alice in shown
    lines = without_rich(sqlite_uri, "purge", "--batch", "1").stdout.splitlines()
    assert lines[0] == "1 of 2 expired sessions deleted"
    assert lines[1].startswith("2 expired sessions deleted in ")
    assert without_rich(sqlite_uri, "revoke", alice).stdout == "1 session revoked\n"


def test_without_rich_a_purge_on_a_terminal_prints_lines(
    sqlite: Backend, sqlite_uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sqlite_uri, "create-table")
    fill(sqlite.url, *[EXPIRED] * 2, table=SQLSessionRow.__table__)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rich", None)
        importlib.reload(terminal)
    try:
        with on_a_terminal(monkeypatch) as shown:
            assert main([sqlite_uri, "purge", "--batch", "1"]) == 0
    finally:
        importlib.reload(terminal)
    assert shown[0].splitlines()[0] == "1 of 2 expired sessions deleted"
    assert "\x1b" not in shown[0]


def test_without_rich_a_terminal_gets_plain_aligned_text(
    sqlite: Backend, sqlite_uri: str, run: Run
) -> None:
    run(sqlite_uri, "create-table")
    older = {"user_id": "alice", "last_seen": NOW - DAY}
    fill(sqlite.url, {"user_id": "alice"}, older, table=SQLSessionRow.__table__)
    screen = Terminal()
    without_rich(sqlite_uri, "list", "--user", "alice", stdout=screen.slave)
    heading, *lines = screen.close().splitlines()
    assert heading.split() == ["handle", "created", "last", "seen", "(UTC)", "expires", "(UTC)"]
    assert len(lines) == 2
    assert {line.index("  2") for line in lines} == {32}
    assert all(len(line) <= 80 for line in (heading, *lines))
    screen = Terminal()
    without_rich(sqlite_uri, "stats", stdout=screen.slave)
    assert figures(screen.close())[0] == ("live", "2")


def test_a_handle_and_its_times_fit_80_columns(
    sqlite: Backend, sqlite_uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sqlite_uri, "create-table")
    (handle,) = fill(sqlite.url, {"user_id": "alice"}, table=SQLSessionRow.__table__)
    with on_a_terminal(monkeypatch, columns=80) as shown:
        assert main([sqlite_uri, "list", "--user", "alice"]) == 0
    heading, line = re.sub(r"\x1b\[[\d;]*m", "", shown[0]).splitlines()
    assert len(line.rstrip()) <= 80
    assert len(heading.rstrip()) <= 80
    (_, day, *_) = line.split()
    assert line.startswith(handle)
    assert day == iso(NOW - 50 * DAY)[:10]


COMMANDS = ["create-table", "purge", "stats", "list", "revoke"]


@pytest.mark.parametrize("command", [[], *([it] for it in COMMANDS)], ids=str)
def test_the_help_fits_80_columns(
    command: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(*(["app.ini", *command] if command else []), "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "%%" not in out


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version") == (0, f"pyramid_sqlsession {version('pyramid_sqlsession')}\n", "")


@pytest.mark.parametrize("before", [True, False], ids=["--quiet COMMAND", "COMMAND --quiet"])
def test_quiet_prints_errors_only(before: bool, sqlite: Backend, sqlite_uri: str, run: Run) -> None:
    def quietly(command: str, *rest: str) -> tuple[int, str, str]:
        if before:
            return run("--quiet", sqlite_uri, command, *rest)
        return run(sqlite_uri, command, "-q", *rest)

    assert quietly("create-table") == (0, "", "")
    (handle, *_) = fill(sqlite.url, {}, *[EXPIRED] * 20, table=SQLSessionRow.__table__)
    assert quietly("purge", "--batch", "1") == (0, "", "")
    assert quietly("revoke", handle) == (0, "", "")
    assert quietly("revoke", "--user", "alice") == (0, "", "")
    code, out, err = quietly("revoke", handle)
    assert (code, out) == (1, "")
    assert err == f"pyramid_sqlsession: no session {handle} (already ended?)\n"


def test_quiet_keeps_what_was_asked_for(sqlite: Backend, sqlite_uri: str, run: Run) -> None:
    run(sqlite_uri, "create-table")
    fill(sqlite.url, {"user_id": "alice"}, EXPIRED, table=SQLSessionRow.__table__)
    assert json.loads(run("-q", sqlite_uri, "stats", "--json")[1])["live"] == 1
    assert len(run("-q", sqlite_uri, "list", "--user", "alice")[1].splitlines()) == 1
    assert json.loads(run(sqlite_uri, "stats", "--json", "-q")[1])["live"] == 1
    assert len(run(sqlite_uri, "list", "--user", "alice", "-q")[1].splitlines()) == 1
    shown = run("-q", sqlite_uri, "purge", "--dry-run")[1]
    assert shown == "1 expired session would be deleted\n"


def test_a_file_that_nothing_reads_is_one_line(
    sqlite_uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plaster.loaders, "find_loaders", lambda *_, **__: [])
    code, _, err = run(sqlite_uri, "stats")
    assert code == 2
    assert err.endswith("no installed package reads this kind of file: expected an ini file\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_traceback(
    sqlite_uri: str, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setattr(sys, stream, None)
    assert main([sqlite_uri, "purge"]) == 0
    assert main([sqlite_uri, "revoke", "0" * 32]) == 1


FULL = "pyramid_sqlsession: cannot write the output: [Errno 28] No space left on device\n"


def test_an_output_that_cannot_be_written_is_one_line(
    sqlite_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main([sqlite_uri, "stats"]) == 1
    assert capsys.readouterr().err == FULL


def test_an_output_that_cannot_be_written_is_one_line_at_the_end_of_the_process_too(
    sqlite_uri: str,
) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(sqlite_uri, "stats", stdout=full, stderr=subprocess.PIPE, text=True)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, FULL)


def test_ctrl_c_while_the_command_starts_is_no_traceback(
    sqlite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "pyramid_sqlsession.cli.application":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "pyramid_sqlsession.cli.application", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert main([sqlite_uri, "stats"]) == 130


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[app:main]\nuse = call:support.ini_apps:own\nhunter2\n",
            "line 3 is neither [section] nor KEY = VALUE",
        ),
        ("sqlalchemy.url = postgresql://shop:hunter2@h/shop\n", "line 1 is neither"),
        (
            f"[app:main]\nuse = call:support.ini_apps:own\nsqlsession.sqlalchemy.url = {NO_HOST}\n",
            "sqlsession.sqlalchemy.url is not a URL: expected DIALECT+DRIVER://USER:",
        ),
        (
            f"[app:main]\nuse = call:support.ini_apps:shared\nsqlalchemy.url = {NO_HOST}\n",
            "ValueError; set the logger pyramid_sqlsession to DEBUG",
        ),
    ],
    ids=["stray line", "no section", "own url", "url of the application"],
)
def test_a_password_in_a_broken_ini_file_is_not_repeated(
    tmp_path: Path, run: Run, text: str, said: str
) -> None:
    path = tmp_path / "broken.ini"
    path.write_text(text)
    code, out, err = run(str(path), "stats")
    assert (code, out) == (2, "")
    assert said in err
    assert "hunter2" not in err
    assert len(err.splitlines()) == 1


def test_a_reader_who_goes_away_is_no_traceback(
    sqlite_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stdout, monkeypatch.context() as patch:  # noqa: PTH123  # no path
        patch.setattr(sys, "stdout", stdout)
        assert main([sqlite_uri, "stats"]) == 1
    assert capsys.readouterr().err == ""


# ---- as a process


def test_the_installed_command_says_nothing_when_its_reader_goes_away(sqlite_uri: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(sqlite_uri, "stats", stdout=writer)
    os.close(writer)
    code, _, err = finish(process)
    assert (code, err) == (1, "")


def test_the_installed_command_works_on_a_terminal(sqlite_uri: str) -> None:
    screen = Terminal()
    process = start(sqlite_uri, "stats", stdout=screen.slave)
    code, _, err = finish(process)
    shown = screen.close()
    assert (code, err) == (0, "")
    assert "\x1b[" in shown
    assert "bytes of data" in shown


LOGGING = """
[loggers]
keys = root, ours
[handlers]
keys = console, file
[formatters]
keys = generic
[logger_root]
level = INFO
handlers = console, file
[logger_ours]
level = %(level)s
handlers =
qualname = pyramid_sqlsession
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[handler_file]
class = FileHandler
args = (%(file)r,)
formatter = generic
[formatter_generic]
format = LOG %%(message)s
"""
CHOICE = "LOG sessions are stored in table sqlsession, through an engine of its own"


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_lines_below_warning_go_to_the_log_file_but_not_to_the_terminal(
    level: str, sqlite: Backend, ini: Ini, tmp_path: Path
) -> None:
    file = tmp_path / "app.log"
    logging_ = LOGGING % {"level": level, "file": str(file)}
    uri = ini("own", settings_for("own", sqlite.url), logging_)
    code, out, err = finish(start(uri, "create-table"))
    assert (code, out) == (0, "created table sqlsession\n")
    # who sets the logger to DEBUG looks for something
    assert err.startswith(CHOICE) if level == "DEBUG" else not err
    assert file.read_text().startswith(CHOICE)


def test_a_warning_goes_to_the_terminal_too(sqlite: Backend, ini: Ini, tmp_path: Path) -> None:
    logging_ = LOGGING % {"level": "INFO", "file": str(tmp_path / "app.log")}
    settings = {**settings_for("own", sqlite.url), "sqlsession.serializer": "pickle"}
    err = finish(start(ini("own", settings, logging_), "create-table"))[2]
    assert err.startswith("LOG sqlsession.serializer")


def test_the_audit_line_of_a_revocation_goes_to_the_log_file(
    sqlite: Backend, ini: Ini, tmp_path: Path
) -> None:
    file = tmp_path / "app.log"
    logging_ = LOGGING % {"level": "INFO", "file": str(file)}
    model = "pyramid_sqlsession.table.model.SQLSessionRow"
    uri = ini("own", settings_for("own", sqlite.url, model), logging_)
    finish(start(uri, "create-table"))
    (handle,) = fill(sqlite.url, {}, table=SQLSessionRow.__table__)
    assert finish(start(uri, "revoke", handle)) == (0, "1 session revoked\n", "")
    assert f"LOG session {handle} " in file.read_text()


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_a_handler_is_hushed_only_while_a_command_runs(
    level: int, sqlite_uri: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "pyramid_sqlsession")
    logging.getLogger().addHandler(handler := logging.StreamHandler(sys.stderr))
    try:
        err = run(sqlite_uri, "create-table")[2]
        assert handler.level == logging.NOTSET
    finally:
        logging.getLogger().removeHandler(handler)
    assert ("sessions are stored in table" in err) == (level == logging.DEBUG)


# ---- several applications in one ini file


COMPOSITE = """
[composite:main]
use = call:support.ini_apps:by_prefix
/ = shop
{more}
[composite:nested]
use = call:support.ini_apps:by_prefix
/ = shop
/again = shop
[composite:elsewhere]
use = call:support.ini_apps:by_prefix
/ = config:other.ini
[app:admin]
use = call:support.ini_apps:foreign
[app:shop]
use = call:support.ini_apps:own
sqlsession.sqlalchemy.url = {url}
sqlsession.model = pyramid_sqlsession.table.model.SQLSessionRow
"""


@pytest.fixture
def composite(tmp_path: Path, sqlite: Backend) -> Callable[[str], str]:
    """Writes an ini file whose main section serves several applications; its path."""

    def write(more: str) -> str:
        path = tmp_path / "production.ini"
        path.write_text(COMPOSITE.format(more=more, url=sqlite.url))
        return str(path)

    return write


def test_a_composite_of_one_application_says_which_it_takes(
    composite: Callable[[str], str], run: Run
) -> None:
    path = composite("/again = nested")
    said = f"using {path}#shop, the only application of [composite:main]"
    assert run(path, "create-table") == (
        0, "created table sqlsession\n", f"pyramid_sqlsession: {said}\n"
    )  # fmt: skip
    assert run(path, "create-table", "--quiet") == (0, "", "")


def test_a_composite_of_several_applications_asks_for_one(
    composite: Callable[[str], str], run: Run
) -> None:
    path = composite("/admin = admin")
    code, out, err = run(path, "stats")
    assert (code, out) == (2, "")
    assert err == (
        f"pyramid_sqlsession: [composite:main] in {path} serves several applications: use "
        f"{path}#shop or {path}#admin\n"
    )
    assert run(f"{path}#shop", "create-table") == (0, "created table sqlsession\n", "")
    assert "uses another session factory" in run(f"{path}#admin", "stats")[2]


def test_a_composite_of_an_application_in_another_file_serves_that_one(
    composite: Callable[[str], str], run: Run, tmp_path: Path
) -> None:
    path = composite("")
    own = Path(path).read_text().partition("[app:shop]")[2]
    (tmp_path / "other.ini").write_text(f"[app:main]{own}")
    done = run(f"{path}#elsewhere", "create-table")
    assert done == (0, "created table sqlsession\n", "")


def test_what_an_application_prints_is_no_result(
    sqlite_uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sqlite_uri, "create-table")

    def talkative(*arguments: Any, **options: Any) -> Any:
        sys.stdout.write("loading\n")
        return bootstrap(*arguments, **options)

    monkeypatch.setattr(application, "bootstrap", talkative)
    code, out, err = run(sqlite_uri, "stats", "--json")
    assert (code, json.loads(out)["live"], err) == (0, 0, "loading\n")


def test_the_package_is_a_program_too(
    sqlite_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pyramid_sqlsession", sqlite_uri, "stats", "--json"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("pyramid_sqlsession", run_name="__main__")
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["live"] == 0


# ---- the page


PAGE = DOCS / "command_line.rst"


def transcript() -> list[tuple[list[str], str]]:
    """The commands on the page, and what it shows that they print."""
    command = re.compile(r"^\$ pyramid_sqlsession production.ini (.+)\n", re.MULTILINE)
    _, *parts = command.split("\n".join(code_blocks(PAGE, "console")))
    shown = (part.strip("\n") for part in parts[1::2])
    return [(line.split(), text) for line, text in zip(parts[::2], shown, strict=True)]


def varying(text: str) -> str:
    """A text without what is different each time: times and durations."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    return re.sub(r"in \d+\.\d seconds", "in SOME seconds", text)


def fill_the_shop_of_the_page(url: str) -> None:
    (handle,) = {part for command, _ in transcript() for part in command if len(part) == 32}
    other = handle[::-1]
    ages = [60] * 700 + [8 * 3600] * 1900 + [3 * DAY] * 3100 + [10 * DAY] * 2400
    sizes = [180, 900, 900, 2_400, 30_000]
    live = [
        {"user_id": f"user{n}" if n % 3 else None, "last_seen": NOW - age, "data": bytes(size)}
        for n, (age, size) in enumerate(zip(ages, itertools.cycle(sizes), strict=False))
    ]
    alice = {"user_id": "alice", "created": NOW - 9 * DAY}
    fill(
        url,
        *live,
        {"lineage": bytes.fromhex(handle), **alice, "last_seen": NOW - 300},
        {"lineage": bytes.fromhex(other), **alice, "last_seen": NOW - 5 * DAY},
        *[{**REPLACED, "user_id": "user1"}] * 3,
        *[EXPIRED] * 4000,
        *[{"last_seen": NOW - 14 * DAY - 60, "purge_after": NOW + DAY}] * 210,
        table=SQLSessionRow.__table__,
    )


def test_every_command_on_the_page_prints_what_the_page_shows(
    sqlite: Backend, sqlite_uri: str, run: Run
) -> None:
    (create, shown), *others = transcript()
    assert run(sqlite_uri, *create)[1].strip() == shown
    fill_the_shop_of_the_page(sqlite.url)
    for command, shown in others:
        _, out, err = run(sqlite_uri, *command)
        assert varying(err + out).strip("\n") == varying(shown), command
    assert {command[0] for command, _ in others} == {"purge", "stats", "list", "revoke"}


def test_the_exit_codes_on_the_page_are_those_of_the_commands(sqlite_uri: str, run: Run) -> None:
    codes = [run(sqlite_uri, *command)[0] for command, _ in transcript()]
    # nobody is there to be revoked here
    assert codes == [0, 0, 0, 0, 0, 1, 0, 1]


def test_the_jobs_on_the_page_are_commands(sqlite_uri: str, run: Run) -> None:
    jobs = re.findall(
        r"/bin/pyramid_sqlsession \S+production.ini (.+)", "\n".join(code_blocks(PAGE, "text"))
    )
    assert jobs == ["purge -q", "purge"]
    assert all(run(sqlite_uri, *job.split())[0] == 0 for job in jobs)
