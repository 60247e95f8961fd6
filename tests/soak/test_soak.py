"""Random visitors for minutes, while the workers of the web server are killed at random."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from support.apps import Base, notes, rows
from support.patience import working
from support.processes import Fetch, web_server
from support.servers import Backend, free_port
from support.soak.visitors import Stored, Visitor, complaints
from support.trials import Trials

TESTS = Path(__file__).parents[1]
VISITORS = 6


@contextmanager
def visiting(port: int) -> Iterator[list[Visitor]]:
    """Visitors, busy until the block ends."""
    over = threading.Event()
    visitors = [Visitor(f"visitor{number}", port, over) for number in range(VISITORS)]
    with working(visitors, over):
        yield visitors


def kill_workers(fetch: Fetch, seconds: float) -> int:
    """Kill one worker after the other until the time is up; how many."""
    kills, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        # the time passes for other processes, which do real work meanwhile
        time.sleep(random.uniform(0.1, 1))
        # the worker that is asked may be gone before it answers
        with suppress(OSError):
            os.kill(int(fetch("/pid")), signal.SIGKILL)
            kills += 1
    return kills


def stored(engine: Engine, way: str) -> Stored:
    sessions = [row for row in rows(engine) if row["replaced"] is None]
    return Stored(
        {row["id"]: json.loads(row["data"]) for row in sessions},
        {row["user_id"] for row in sessions},
        set(notes(engine)) if way == "dbsession" else None,
    )


@pytest.mark.timeout(0)
@pytest.mark.parametrize("way", ["dbsession", "own engine"])
def test_what_visitors_were_told_is_true_whoever_is_killed(
    postgresql: Backend, way: str, seconds: float, trials: Trials
) -> None:
    engine, port = create_engine(postgresql.url), free_port()
    Base.metadata.create_all(engine)
    command = (sys.executable, "-m", "gunicorn", "--preload", "--workers=3", "--threads=4")
    options = ("--log-level=critical", f"--bind=127.0.0.1:{port}")
    with (
        web_server(
            [*command, *options, "support.soak.app:application()"],
            port,
            cwd=TESTS,
            env={"DATABASE_URL": postgresql.url, "WAY": way},
            exit_code=0,
        ) as fetch,
        visiting(port) as visitors,
    ):
        kills = kill_workers(fetch, seconds)
    assert [visitor.surprises for visitor in visitors] == [[]] * VISITORS
    found = stored(engine, way)
    engine.dispose()
    visits = [visit for visitor in visitors for visit in visitor.visits]
    wrong = [complaint for visit in visits for complaint in complaints(visit, found)]
    sys.stderr.write("".join(f"{complaint}\n" for complaint in wrong))
    fault, lost = "workers of gunicorn killed at random", len(wrong)
    confirmed = sum(visitor.confirmed for visitor in visitors)
    promised = "what was acknowledged is there, what was ended is not"
    trials.record(fault, promised, "PostgreSQL", confirmed, lost=lost)
    if found.notes is not None:
        trials.record(fault, "session and application agree", "PostgreSQL", kills, lost=lost)
    assert kills > 0
