"""Cleaning in real processes: it starts after a fork, and never holds up an exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from support.patience import PATIENCE, wait_until
from support.processes import Fetch, web_server
from support.servers import Backend, free_port, on_servers

from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.storage import create_table

TABLE: Any = SQLSessionRow.__table__

APPLICATION = """
import logging, os, sys, threading
from pyramid.config import Configurator

logging.basicConfig(level="INFO", format="%(process)d %(name)s %(message)s")

def count():
    names = [thread.name for thread in threading.enumerate()]
    return names.count("pyramid_sqlsession cleanup")

def show(request):
    len(request.session)
    return {"pid": os.getpid(), "cleaning": count()}

config = Configurator(settings={
    "sqlsession.sqlalchemy.url": os.environ["DATABASE_URL"],
    "sqlsession.cleanup_interval": os.environ["CLEANUP_INTERVAL"],
})
config.include("pyramid_sqlsession")
config.add_route("show", "/")
config.add_view(show, route_name="show", renderer="json")
app = config.make_wsgi_app()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the application."""
    (tmp_path / "application.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def expired(engine: Engine) -> Callable[[], int]:
    """A table with expired sessions; tells how many are left."""
    create_table(TABLE, engine)
    row = {"data": b"{}", "version": 1, "created": 1, "last_seen": 1, "purge_after": 1}
    with engine.begin() as connection:
        connection.execute(
            insert(TABLE),
            [{"id": bytes([n]) * 32, "lineage": bytes([n]) * 16, **row} for n in range(100)],
        )

    def count() -> int:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM sqlsession")).scalar_one())

    return count


def environment(backend: Backend, interval: str = "1") -> dict[str, str]:
    return {"DATABASE_URL": backend.url, "CLEANUP_INTERVAL": interval}


def answer(fetch: Fetch) -> tuple[int, int]:
    """Which process answers, and how many cleaning threads it has."""
    page = json.loads(fetch("/"))
    return page["pid"], page["cleaning"]


# ---- servers


def test_each_worker_of_a_preloading_gunicorn_cleans_and_ends_at_once(
    backend: Backend, folder: Path, expired: Callable[[], int]
) -> None:
    port = free_port()
    command = (sys.executable, "-m", "gunicorn", "--preload", "--workers=2", "--threads=2")
    with web_server(
        [*command, f"--bind=127.0.0.1:{port}", "application:app"],
        port,
        cwd=folder,
        env=environment(backend),
        exit_code=0,
    ) as fetch:
        assert expired() == 100
        seen: dict[int, int] = {}

        def all_have_answered() -> bool:
            seen.update([answer(fetch)])
            return len(seen) == 2

        wait_until(all_have_answered)
        assert set(seen.values()) == {1}
        wait_until(lambda: expired() == 0)


def test_waitress_cleans_and_ends_at_once(
    backend: Backend, folder: Path, expired: Callable[[], int]
) -> None:
    port = free_port()
    program = (
        f"import application, waitress; waitress.serve(application.app, listen='127.0.0.1:{port}')"
    )
    with web_server(
        [sys.executable, "-c", program],
        port,
        cwd=folder,
        env=environment(backend),
        stop_signal=signal.SIGINT,
        exit_code=0,
    ) as fetch:
        assert answer(fetch)[1] == 1
        wait_until(lambda: expired() == 0)


# ---- the end of a process


REQUEST = """
import atexit
from application import app, count
# called after what was registered later
atexit.register(lambda: print(count(), flush=True))
from webtest import TestApp
print(TestApp(app).get("/").json["cleaning"], flush=True)
"""


def test_a_process_ends_at_once_while_the_thread_pauses(backend: Backend, folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REQUEST],
        cwd=folder,
        env={**os.environ, **environment(backend, "1h")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "1\n0\n"), ended.stderr


@on_servers
def test_a_process_ends_soon_while_the_thread_waits_for_the_database(
    backend: Backend, engine: Engine, folder: Path, expired: Callable[[], int]
) -> None:
    lock, is_waiting = {
        "postgresql": (
            "LOCK TABLE sqlsession IN ACCESS EXCLUSIVE MODE",
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        ),
        "mysql": (
            "LOCK TABLES sqlsession WRITE",
            "SELECT count(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for%'",
        ),
    }[backend.dialect]
    with engine.connect() as holder:
        holder.execute(text(lock))
        process = subprocess.Popen(
            [sys.executable, "-c", REQUEST + "input()"],
            cwd=folder,
            env={**os.environ, **environment(backend, "1")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with engine.connect() as observer:
                observer.execution_options(isolation_level="AUTOCOMMIT")
                wait_until(lambda: observer.execute(text(is_waiting)).scalar_one())
            output, errors = process.communicate("\n", timeout=10)
        finally:
            process.kill()
            process.wait(PATIENCE)
            holder.invalidate()
    assert (process.returncode, output) == (0, "1\n1\n"), errors
    assert expired() == 100
