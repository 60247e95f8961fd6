"""Programs that the tests start for real, on the loopback interface."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

from support.servers import free_port

DEMO = Path(__file__).parents[2] / "docs" / "demo"

Fetch = Callable[[str], str]


@contextmanager
def web_server(
    command: Sequence[str | Path],
    port: int,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    exit_code: int = -signal.SIGTERM,
) -> Iterator[Fetch]:
    """A program that serves a port while the block runs; yields a function that gets a path.

    :param stop_signal: ends it, at once.
    :param exit_code: what it is to say then.
    """
    process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **(env or {})})

    def fetch(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as page:
            return str(page.read().decode())

    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None, "the server ended by itself"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)  # no event tells when another process listens
        yield fetch
        process.send_signal(stop_signal)
        assert process.wait(30) == exit_code
    finally:
        process.kill()
        process.wait(30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def served_demo(
    pserve: Path, folder: Path, port: int | None = None, **settings: str
) -> Iterator[Fetch]:
    """A copy of the demo in a folder, as it is but for its port and these settings."""
    port = port or free_port()
    ini = copy_demo(folder, port, settings)
    env = {"PYTHONPATH": str(ini.parent)}
    with web_server([pserve, ini], port, cwd=folder, env=env) as fetch:
        yield fetch


def copy_demo(folder: Path, port: int, settings: Mapping[str, str]) -> Path:
    """The ini file of a copy of the demo, in a folder of its own."""
    copy = folder / "demo"
    shutil.copytree(DEMO, copy, ignore=shutil.ignore_patterns("*.sqlite*", "__pycache__"))
    ini = copy / "development.ini"
    parser = ConfigParser(interpolation=None)
    parser.read(ini)
    parser["app:main"].update(settings)
    parser["server:main"]["listen"] = f"127.0.0.1:{port}"
    with ini.open("w") as file:
        parser.write(file)
    return ini
