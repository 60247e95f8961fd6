"""Requests per second, over HTTP: real web servers, and wrk, which puts load on them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from support.processes import web_server
from support.servers import HOST, Server, find_program, free_port

from . import names
from .contender import NOTHING, Site
from .served import URL, WAY, make

TESTS = Path(__file__).parents[2]
CONNECTIONS = 8
"""Requests that are under way at any time."""

PAGES = {
    names.TRANSACTIONAL: "unused",
    names.OWN: "read",
    names.ASKING: "unused",
    names.SHARED: "read",
}
"""The applications, and what is asked of them."""


Rates = dict[str, dict[str, float]]


class Program(NamedTuple):
    """A web server.

    :ivar command: with a place for the port.
    :ivar exit_code: what it says when it is told to end.
    """

    name: str
    command: str
    exit_code: int


PROGRAMS = (
    Program(
        "waitress, 4 threads",
        f"waitress --threads=4 --listen={HOST}:{{port}} --call "
        "benchmarks.peers.served:from_environment",
        -signal.SIGTERM,
    ),
    Program(
        "gunicorn, 4 sync workers",
        f"gunicorn --workers=4 --bind={HOST}:{{port}} --log-level=warning "
        "benchmarks.peers.served:from_environment()",
        0,
    ),
)


def measure(server: Server, seconds: int) -> Rates:
    """Requests per second, by web server and application.

    :param seconds: how long each is under load.
    """
    return {
        program.name: {way: _measure(server, program, way, seconds) for way in PAGES}
        for program in PROGRAMS
    }


def _measure(server: Server, program: Program, way: str, seconds: int) -> float:
    page = PAGES[way]
    with server.database() as url:
        visitor = Site(way, make(way, url)).arrive() if page == "read" else None
        port = free_port()
        environment = {WAY: way, URL: url, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
        command = [sys.executable, "-m", *program.command.format(port=port).split()]
        with web_server(command, port, cwd=TESTS, env=environment, exit_code=program.exit_code):
            address = f"http://{HOST}:{port}/{page}"
            headers = {"Cookie": visitor.key} if visitor else {}
            with urlopen(Request(address, headers=headers), timeout=30) as response:
                expected = visitor.mark.encode() if visitor else NOTHING
                assert response.read() == expected
            # whatever is done for the first time is done in the first second
            _put_load_on(address, headers, 1)
            return _put_load_on(address, headers, seconds)


def _put_load_on(address: str, headers: dict[str, str], seconds: int) -> float:
    done = subprocess.run(
        [
            find_program("wrk"),
            *("--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"),
            *(part for name in headers for part in ("--header", f"{name}: {headers[name]}")),
            address,
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    (rate,) = re.findall(r"Requests/sec: +([\d.]+)", done.stdout)
    return float(rate)
