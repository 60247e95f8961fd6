"""The benchmarks run, and say what they are to say; how long things take is not tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import find_program, temporary_directory

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "scale.rst"
OPTIONS = "--sessions=200 --smallest=20 --reads=40 --writes=8 --touches=20 --rounds=1"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a benchmark of a few sessions has written."""
    find_program("postgres")
    folder = tmp_path_factory.mktemp("performance")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *OPTIONS.split(), f"--output={folder}"],
        env={**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": temporary_directory()},
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return folder


def rows(report: Path, name: str) -> list[list[str]]:
    """The cells of a table's body."""
    parts = re.split(r"^=[= ]+\n", (report / f"scale-{name}.rst").read_text(), flags=re.MULTILINE)
    return [re.split(r" {2,}", line) for line in parts[-2].splitlines()]


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "").rstrip(" %")) for cell in cells]


def test_it_has_requests_before_during_and_after_a_purge(report: Path) -> None:
    found = rows(report, "purge")
    assert [row[1] for row in found] == ["before", "during", "after"] * (len(found) // 3)
    assert {row[0] for row in found} >= {"in a process", "in a thread"}
    for row in found:
        count, p50, p95, p99, *_ = numbers(row[2:])
        assert count > 0
        assert 0 < p50 <= p95 <= p99


def test_it_has_the_rows_purged_per_second(report: Path) -> None:
    assert all(rate > 0 for row in rows(report, "batches") for rate in numbers(row[1:2]))


def test_it_has_costs_for_each_power_of_ten(report: Path) -> None:
    found = [numbers(row) for row in rows(report, "growth")]
    assert [row[0] for row in found] == [20, 200]
    assert all(cost > 0 for row in found for cost in row)


def test_it_has_the_size_of_the_table_and_of_each_index(report: Path) -> None:
    found = rows(report, "space")
    assert [row[0] for row in found] == [
        "table", "index on id", "index on user_id", "index on purge_after", "all"
    ]  # fmt: skip
    assert all(size > 0 for row in found for size in numbers(row[1:]))


def test_a_touch_does_not_rewrite_data_and_a_data_write_does(report: Path) -> None:
    found = rows(report, "log")
    assert len(found) == 12
    for row in found:
        size, _, _, second, *_ = numbers(row[1:])
        assert second < 500 if row[0] == "touch" else second > size


def test_the_page_shows_everything_that_is_written(report: Path) -> None:
    pattern = r"^\.\. (?:include|image):: performance/(.+)"
    shown = set(re.findall(pattern, PAGE.read_text(), re.MULTILINE))
    assert shown == {path.name for path in report.glob("scale*")}


def test_the_plot_tells_no_date(report: Path) -> None:
    text = (report / "scale.svg").read_text()
    assert "<svg" in text
    assert "dc:date" not in text
