"""The server that is measured, and what it runs on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from support.servers import PostgreSQL, Server

GIBIBYTE = 2**30


class Durable(PostgreSQL):
    """A PostgreSQL server that keeps what it commits, with the memory its manual recommends."""

    def command(self) -> tuple[str, ...]:
        # the last of two settings counts
        return (
            *super().command(),
            *("-c", "fsync=on"),
            *("-c", f"shared_buffers={memory() // 4 // 2**20}MB"),
        )


def memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def choose_disk() -> None:
    """Have the server's files on a disk, not in memory: commits are to cost what they cost."""
    if "TMPDIR" not in os.environ and Path("/var/tmp").is_dir():
        os.environ["TMPDIR"] = "/var/tmp"


def describe(server: Server) -> dict[str, str]:
    """The machine and the versions, in words that name neither the machine nor its owner."""
    ((postgresql,), (buffers,)) = (
        server.execute(f"SHOW {name}")[0] for name in ("server_version", "shared_buffers")
    )
    return {
        "Processor": f"{platform.machine()}, {cores()} cores",
        "Memory": f"{memory() / GIBIBYTE:.0f} GiB",
        "PostgreSQL": f"{postgresql.split()[0]}, shared_buffers = {buffers}, fsync = on",
        "Python": platform.python_version(),
        "SQLAlchemy": version("SQLAlchemy"),
        "Driver": f"psycopg {version('psycopg')}",
        "Pyramid": version("pyramid"),
        "Load before": f"{os.getloadavg()[0]:.1f} processes in the last minute",
    }
