"""What a session costs a request, beside what people would choose instead: ``make bench``.

Starts a PostgreSQL, a MariaDB and a Redis server, and calls web applications with and without
sessions in this process, in turns. Then measures the memory that they keep, and puts load on web
servers. Writes a plot and the tables of docs/performance.rst, and prints the targets.
"""

from __future__ import annotations

import argparse
import logging
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.servers import Server, serving

from .. import durable
from . import kept, load, plot, tables
from .field import Field, on_mariadb, on_postgresql, on_sqlite
from .results import Results
from .rounds import Times, check, measure
from .servers import DurableMariaDB, Redis

log = logging.getLogger("peers")

PEERS = ("pyramid_session_redis", "redis", "pyramid_beaker", "Beaker", "Flask-Session", "Django")
WEB_SERVERS = ("waitress", "gunicorn")


def main() -> None:
    """Measure, and write the files."""
    options = parse()
    logging.basicConfig(format="%(relativeCreated)8d ms  %(message)s", level=logging.INFO)
    # the package says where sessions are whenever an application begins
    logging.getLogger("pyramid_sqlsession").setLevel(logging.WARNING)
    durable.choose_disk()
    with (
        serving(durable.Durable) as postgresql,
        serving(DurableMariaDB) as mariadb,
        serving(Redis) as redis,
    ):
        machine = describe(postgresql, mariadb, redis)
        with everybody(postgresql, mariadb, redis) as fields:
            chosen = fields[:1] if options.quick else fields
            results = Results.of(chosen, in_process(chosen, options.requests, options.block))
        sys.stdout.write(tables.costs(results) + tables.ratios(results) + tables.reached(results))
        if options.quick:
            return
        log.info("putting load on web servers")
        rates = load.measure(postgresql, options.seconds)
    log.info("making %s requests, and tracing fewer, to see what is kept", options.kept)
    memory = kept.measure(options.kept)
    command = {"Command": f"``make bench REQUESTS={options.requests}``"}
    options.output.mkdir(parents=True, exist_ok=True)
    tables.write(options.output, command | machine, results, memory, rates)
    plot.write(results, options.output)
    log.info("the plot and the tables are in %s", options.output)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench")
    for name, default, meaning in (
        ("--requests", 1_000, "of each kind, for each contender"),
        ("--block", 50, "of these, one after the other"),
        ("--kept", 100_000, "requests, to see what memory is kept"),
        ("--seconds", 4, "for which each web server is under load"),
    ):
        parser.add_argument(name, type=int, default=default, help=f"{meaning} ({default})")
    parser.add_argument("--quick", action="store_true", help="PostgreSQL only, and write nothing")
    parser.add_argument("--output", type=Path, default=Path("docs/performance"), help="a folder")
    return parser.parse_args()


def describe(postgresql: Server, mariadb: Server, redis: Server) -> dict[str, str]:
    """The machine and the versions."""
    ((maria,),) = mariadb.execute("SELECT version()")
    information: Any = redis.execute("INFO server")[0]
    return {
        **durable.describe(postgresql),
        "MariaDB": f"{maria.split('-')[0]}, innodb_flush_log_at_trx_commit = 1",
        "SQLite": f"{sqlite3.sqlite_version}, journal_mode = WAL, synchronous = NORMAL",
        "Redis": f"{information['redis_version']}, appendonly = yes, appendfsync = everysec",
        "Peers": ", ".join(f"{name} {version(name)}" for name in PEERS),
        "Web servers": ", ".join(f"{name} {version(name)}" for name in WEB_SERVERS),
    }


@contextmanager
def everybody(postgresql: Server, mariadb: Server, redis: Server) -> Iterator[list[Field]]:
    """Everybody on every database, PostgreSQL first."""
    with (
        TemporaryDirectory() as folder,
        on_postgresql(postgresql, redis) as first,
        on_mariadb(mariadb) as second,
        on_sqlite(Path(folder)) as third,
    ):
        yield [first, second, third]


def in_process(fields: list[Field], requests: int, block: int) -> Times:
    """What requests take."""
    contenders = [one for field in fields for one in (*field.baselines, *field.peers)]
    for contender in contenders:
        contender.welcome()
        check(contender)
    # whatever is done for the first time is done here
    measure(contenders, block, block)
    log.info("making %s requests of each kind", requests)
    return measure(contenders, requests, block)


if __name__ == "__main__":
    main()
