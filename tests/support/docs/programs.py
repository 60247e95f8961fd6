"""What the pages show, run as programs of their own, and a visitor for those that serve."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.docs.pages import ROOT
from support.processes import web_server
from support.servers import free_port

SERVED = 'listen="127.0.0.1:6543"'


def run(*arguments: str, cwd: Path) -> str:
    """What a Python module prints when it is run with these arguments."""
    return python("-m", *arguments, cwd=cwd)


def environ(folder: Path) -> dict[str, str]:
    """The environment of a program whose application is in a folder."""
    path = os.pathsep.join((str(folder), str(ROOT)))
    # the settings of this run of the tests are not those of a run inside
    outside = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return {**outside, "PYTHONPATH": path, "COLUMNS": "80"}


def python(*arguments: str, cwd: Path) -> str:
    """What Python prints with these arguments."""
    return printed(sys.executable, *arguments, cwd=cwd, env=environ(cwd))


def printed(*command: str | Path, cwd: Path, env: Mapping[str, str], stdin: str = "") -> str:
    """What a program prints that ends without an error."""
    done = subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


Reply = tuple[int, Any, str]


class Browser:
    """A visitor of a real server, with a cookie jar."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.jar = CookieJar()
        cookies = urllib.request.HTTPCookieProcessor(self.jar)
        self._opener = urllib.request.build_opener(cookies)

    def request(self, **form: str) -> Reply:
        """GET, or POST if there is a form: the status, the headers and the text."""
        data = urlencode(form).encode() if form else None
        try:
            with self._opener.open(self.url, data, timeout=20) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()


@contextmanager
def serving(program: str, folder: Path) -> Iterator[str]:
    """The URL of a program that serves on port 6543, moved to a free port."""
    port = free_port()
    assert SERVED in program
    (folder / "app.py").write_text(program.replace(SERVED, SERVED.replace("6543", str(port))))
    env = {"PYTHONPATH": str(ROOT)}
    with web_server([sys.executable, "app.py"], port, cwd=folder, env=env):
        yield f"http://127.0.0.1:{port}/"


def query(database: Path, sql: str) -> list[Any]:
    """What a database of SQLite answers."""
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
