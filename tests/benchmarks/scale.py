"""What a table of many sessions costs: ``make bench-scale`` or ``make bench-scale N=10000000``.

Starts a PostgreSQL server, fills tables of 10,000 sessions and more, a tenth of them expired, and
measures requests that read and write sessions, also while the expired ones are purged. Writes a
plot and the tables of docs/scale.rst.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection
from support.servers import Server, serving

from pyramid_sqlsession.cookie import id_of

from . import durable, plot, tables, wal
from .population import SHARE, Space, administering, explain, insert, settle, token, weigh
from .purging import Purged, Purging, in_a_process, in_a_thread
from .results import Beside, Growth, Results
from .visitors import Site

log = logging.getLogger("scale")

SIZE = 500
Way = Callable[[Site, str], AbstractContextManager[Callable[[], Purging]]]

WAYS: dict[str, Way] = {
    "process": in_a_process,
    "process, 500 a batch": partial(in_a_process, batch=500),
    "thread": in_a_thread,
}


@dataclass
class Place:
    """A table with many sessions, and an application that uses it."""

    url: str
    site: Site
    connection: Connection
    filled: Space

    def purge(self) -> Purged:
        """Purge it while nothing else is done."""
        with in_a_process(self.site, self.url) as begin:
            return self.checked(begin().result())

    def checked(self, purged: Purged) -> Purged:
        """A purge that has deleted everything that it should."""
        assert purged.rows == self.site.sessions // SHARE, f"only {purged.rows} rows were deleted"
        return purged

    def refill(self) -> None:
        """Put back what was purged."""
        insert(self.connection, self.site.sessions, SIZE, only_expired=True)
        settle(self.connection)


def main() -> None:
    """Measure, and write the files."""
    options = parse()
    logging.basicConfig(format="%(relativeCreated)8d ms  %(message)s", level=logging.INFO)
    # the package says where sessions are whenever an application begins
    logging.getLogger("pyramid_sqlsession").setLevel(logging.WARNING)
    durable.choose_disk()
    with serving(durable.Durable) as server:
        results = measure(server, options)
    options.output.mkdir(parents=True, exist_ok=True)
    tables.write(results, options.output)
    plot.write(results, options.output)
    log.info("the plot and the tables are in %s", options.output)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-scale")
    for name, default, meaning in (
        ("--sessions", 1_000_000, "in the largest table"),
        ("--smallest", 10_000, "sessions in the smallest table"),
        ("--reads", 20_000, "requests that read, in each phase"),
        ("--writes", 4_000, "requests that write, for each table"),
        ("--touches", 300, "sessions that are updated for the log"),
        ("--rounds", 1, "over which these are spread"),
    ):
        parser.add_argument(name, type=int, default=default, help=f"{meaning} ({default})")
    parser.add_argument("--output", type=Path, default=Path("docs/performance"), help="a folder")
    return parser.parse_args()


def measure(server: Server, options: argparse.Namespace) -> Results:
    """Everything."""
    machine = durable.describe(server)
    log.info("touching and writing %s sessions", options.touches)
    updates = wal.measure(server, options.touches)
    with ExitStack() as stack:
        places = {}
        for sessions in sizes(options.smallest, options.sessions):
            log.info("filling a table with %s sessions", sessions)
            places[sessions] = stack.enter_context(filled(server, sessions))
        found = growth(places, options)
        largest = places[options.sessions]
        during, space = beside(largest, options)
    return Results(machine, f"N={options.sessions}", found, during, space, updates)


def sizes(smallest: int, largest: int) -> list[int]:
    """The numbers of sessions to measure, each ten times the one before."""
    found = []
    while smallest < largest:
        found.append(smallest)
        smallest *= 10
    return [*found, largest]


@contextmanager
def filled(server: Server, sessions: int) -> Iterator[Place]:
    """A table with so many sessions."""
    with (
        server.database() as url,
        administering(url) as connection,
        closing(Site(url, sessions, SIZE)) as site,
    ):
        insert(connection, sessions, SIZE)
        settle(connection)
        yield Place(url, site, connection, weigh(connection))


def growth(places: dict[int, Place], options: argparse.Namespace) -> dict[int, Growth]:
    """What a read, a write and a purge cost in each table, which take turns."""
    found = {}
    for sessions, place in places.items():
        statement, site = place.site.lookup(), place.site
        handles = [id_of(token(site.someone())) for _ in range(options.touches)]
        # whatever is done for the first time is done here
        site.reads(options.reads // 10)
        found[sessions] = Growth(explain(place.connection, statement, handles), place.filled)
        site.writes(options.writes // 10)
    for turn in range(options.rounds):
        for sessions, place in places.items():
            log.info("round %s: %s sessions", turn + 1, sessions)
            measured = found[sessions]
            measured.reads += place.site.reads(options.reads // options.rounds)
            measured.writes += place.site.writes(options.writes // options.rounds)
            measured.purges.append(place.purge())
            place.refill()
    return found


def beside(place: Place, options: argparse.Namespace) -> tuple[dict[str, Beside], dict[str, Space]]:
    """Reads before, during and after purges in a process and in a thread, which take turns."""
    found, space = {way: Beside() for way in WAYS}, {"filled": place.filled}
    count = options.reads // options.rounds
    for turn in range(options.rounds):
        for way, measured in found.items():
            log.info("round %s: purging in a %s beside reads", turn + 1, way)
            with WAYS[way](place.site, place.url) as begin:
                measured.before += place.site.reads(count)
                purging = begin()
                measured.during += place.site.reads_while(purging.busy)
                measured.purges.append(place.checked(purging.result()))
                measured.after += place.site.reads(count)
            space["purged"] = weigh(place.connection)
            place.refill()
            space["refilled"] = weigh(place.connection)
    return found, space


if __name__ == "__main__":
    main()
