"""The benchmarks run, and say what they are to say; how long things take is not tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.peers import names
from benchmarks.peers.contender import Site, Visitor, Workload
from benchmarks.peers.rounds import check, once
from support.servers import find_program, temporary_directory

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
SCALE = "--sessions=200 --smallest=20 --reads=40 --writes=8 --touches=20 --rounds=1"
PEERS = "--requests=4 --block=2 --kept=100 --seconds=1"

PLOTS = sorted((DOCS / "performance").glob("*.svg"))

PHONE = 350
"""Pixels that a picture is wide on a phone of 390."""

# what is not measured: the driver has no request, and a large session does not fit into a cookie
NONE = "—"


def run(benchmark: str, options: str, folder: Path) -> Path:
    """Run a benchmark; what it has written is in the folder."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", *options.split(), f"--output={folder}"],
        env={**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": temporary_directory()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=270,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a benchmark of a few sessions has written."""
    find_program("postgres")
    return run("scale", SCALE, tmp_path_factory.mktemp("scale"))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a comparison of a few requests has written."""
    for program in ("postgres", "mariadbd", "redis-server", "wrk"):
        find_program(program)
    return run("peers", PEERS, tmp_path_factory.mktemp("peers"))


def rows(report: Path, name: str) -> list[list[str]]:
    """The cells of a table's body; names of ours are marked."""
    parts = re.split(r"^ *=[= ]+\n", (report / f"{name}.rst").read_text(), flags=re.MULTILINE)
    lines = [line.strip().replace("**", "") for line in parts[-2].splitlines()]
    return [re.split(r" {2,}", line) for line in lines]


def shown(*pages: str) -> set[str]:
    """The files that pages of the documentation show."""
    pattern = r"^\.\. (?:include|image):: (?:\.\./)?performance/(.+)"
    text = "".join((DOCS / page).read_text() for page in pages)
    return set(re.findall(pattern, text, re.MULTILINE))


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "").rstrip(" %")) for cell in cells]


def test_it_has_requests_before_during_and_after_a_purge(report: Path) -> None:
    found = rows(report, "scale-purge")
    assert [row[1] for row in found] == ["before", "during", "after"] * (len(found) // 3)
    assert {row[0] for row in found} >= {"in a process", "in a thread"}
    for row in found:
        count, p50, p95, p99, *_ = numbers(row[2:])
        assert count > 0
        assert 0 < p50 <= p95 <= p99


def test_it_has_the_rows_purged_per_second(report: Path) -> None:
    assert all(rate > 0 for row in rows(report, "scale-batches") for rate in numbers(row[1:2]))


def test_it_has_costs_for_each_power_of_ten(report: Path) -> None:
    found = [numbers(row) for row in rows(report, "scale-growth")]
    assert [row[0] for row in found] == [20, 200]
    assert all(cost > 0 for row in found for cost in row)


def test_it_has_the_size_of_the_table_and_of_each_index(report: Path) -> None:
    found = rows(report, "scale-space")
    assert [row[0] for row in found] == [
        "table", "index on id", "index on lineage", "index on user_id", "index on purge_after",
        "all",
    ]  # fmt: skip
    assert all(size > 0 for row in found for size in numbers(row[1:]))


def test_a_touch_does_not_rewrite_data_and_a_data_write_does(report: Path) -> None:
    found = rows(report, "scale-log")
    assert len(found) == 12
    for row in found:
        size, _, _, second, *_ = numbers(row[1:])
        assert second < 500 if row[0] == "touch" else second > size


def test_the_page_shows_everything_that_is_written(report: Path) -> None:
    assert shown("scale.rst") == {path.name for path in report.iterdir()}


def test_the_plots_tell_no_date(report: Path) -> None:
    for plot in report.glob("*.svg"):
        assert_is_a_plot(plot)


def assert_is_a_plot(path: Path) -> None:
    """A picture without a date, whose text can be read on a phone, on a dark page too."""
    text = path.read_text()
    (width,) = map(float, re.findall(r'<svg [^>]*\bwidth="([\d.]+)pt"', text))
    assert "dc:date" not in text
    assert "prefers-color-scheme: dark" in text
    # of text as matplotlib draws it: 1 is a point
    smallest = min(map(float, re.findall(r"scale\(([\d.]+) -[\d.]+\)", text))) * 100
    assert smallest * PHONE / width >= 10


# ---- beside the peers

SLOW = pytest.mark.timeout(300)


@SLOW
def test_it_has_a_cost_for_each_store_and_each_kind_of_request(comparison: Path) -> None:
    expected = {
        names.FLOOR: [Workload.UNUSED],
        names.CALLED: [Workload.UNUSED],
        names.BEGUN: [Workload.UNUSED],
        names.OWN: [],
        names.CORE: [Workload.UNUSED],
        names.SHARED: [],
        names.REDIS: [],
        names.REDIS_GET: [],
        names.BEAKER: [],
        names.FLASK: [],
        names.DJANGO: [],
        names.COOKIE: [Workload.LARGE],
    }
    for table in ("peers-costs", "peers-ratios", "peers-fastest"):
        found = {name: cells for name, *cells in rows(comparison, table)}
        assert list(found) == list(expected)
        for name, cells in found.items():
            for workload, cell in zip(Workload, cells, strict=True):
                # there is no driver's time to divide by
                absent = {Workload.UNUSED} if table != "peers-costs" else set()
                assert (cell == NONE) == (workload in {*expected[name], *absent}), (name, workload)
                assert cell == NONE or numbers([cell])


@SLOW
def test_it_says_which_targets_are_reached(comparison: Path) -> None:
    found = rows(comparison, "peers-targets")
    assert len(found) == 11
    for _, *cells, verdict in found:
        limit, median, _ = numbers(cells)
        assert verdict == ("reached" if median <= limit else "missed")


@SLOW
def test_it_has_the_memory_after_so_many_requests(comparison: Path) -> None:
    assert [name for name, *_ in rows(comparison, "peers-memory")] == [names.OWN, names.SHARED]
    found = rows(comparison, "peers-growth")
    assert [numbers(row[1:2]) for row in found] == [[1], [10], [50], [100]] * 2
    assert all(number > 0 for row in found for number in numbers(row[1:]))


@SLOW
def test_it_has_requests_per_second_with_and_without_sessions(comparison: Path) -> None:
    found = {name: numbers(cells) for name, *cells in rows(comparison, "peers-load")}
    assert set(found) == {names.TRANSACTIONAL, names.OWN, names.ASKING, names.SHARED}
    assert all(rate > 0 for rates in found.values() for rate in rates)


@SLOW
def test_the_pages_show_everything_that_is_compared(comparison: Path) -> None:
    written = {path.name for path in comparison.iterdir()}
    assert shown("performance.rst", "project/targets.rst") == written


@SLOW
def test_the_plot_of_the_comparison_tells_no_date(comparison: Path) -> None:
    assert_is_a_plot(comparison / "peers.svg")


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.stem)
def test_a_plot_in_the_documentation_can_be_read_on_a_phone(plot: Path) -> None:
    assert_is_a_plot(plot)


def forgetful(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An application that gives everybody the same session."""
    start_response("200 OK", [("Set-Cookie", "session=1; Path=/")])
    return [b"somebody's"]


def test_a_request_that_answers_with_another_session_is_not_measured() -> None:
    site = Site("forgetful", forgetful)
    site.welcome()
    with pytest.raises(AssertionError, match=r"READ of <Site forgetful> gave b\"somebody's\""):
        once(site, Workload.READ)


class Echoing(Site):
    """A site that answers as it should, and stores whatever it is told to store."""

    def __init__(self, stores: Callable[[Workload], bool]) -> None:
        self.rows: list[str] = []
        super().__init__("echoing", forgetful, stored=lambda: list(self.rows))
        self._stores = stores

    def request(self, workload: Workload, visitor: Visitor, data: Any) -> Callable[[], bytes]:
        visitor.key = "session=1"

        def answer() -> bytes:
            if self._stores(workload):
                self.rows.append(visitor.mark)
            return b"nothing" + visitor.mark.encode()

        return answer


WRITES = (Workload.WRITE, Workload.NEW)


@pytest.mark.parametrize(
    ("stores", "blamed"),
    [
        (lambda workload: workload in (*WRITES, Workload.READ), "READ"),
        (lambda workload: workload is Workload.NEW, "WRITE"),
        (lambda workload: workload is Workload.WRITE, "NEW"),
    ],
)
def test_a_read_that_writes_and_a_write_that_does_not_are_not_measured(
    stores: Callable[[Workload], bool], blamed: str
) -> None:
    site = Echoing(stores)
    site.welcome()
    with pytest.raises(AssertionError, match=rf"{blamed} of <Echoing echoing>"):
        check(site)
