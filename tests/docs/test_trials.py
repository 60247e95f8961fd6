"""The record of what the suites under fault have tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.trials import Trials, main


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "trials.jsonl"


def test_a_table_adds_up_what_several_tests_have_tried(report: Path, tmp_path: Path) -> None:
    for count in (2, 1_000):
        Trials(1, report, 0).record("server killed", "nothing lost", "SQLite", count)
    Trials(1, report, 0).record("server killed", "nothing lost", "MariaDB", 7)
    main(str(report), str(tmp_path / "table.rst"))
    table = (tmp_path / "table.rst").read_text()
    rows = [line.split("  ") for line in table.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["server killed", "nothing lost", "MariaDB", "7", "0"] in cells
    assert ["server killed", "nothing lost", "SQLite", "1,002", "0"] in cells


def test_a_broken_promise_is_written_down_and_fails_the_test(report: Path) -> None:
    with pytest.raises(AssertionError, match="1 of 3 broke the promise"):
        Trials(1, report, 0).record("server killed", "nothing lost", "SQLite", 3, lost=1)
    assert '"lost": 1' in report.read_text()


def test_a_trial_that_never_happened_is_no_success() -> None:
    with pytest.raises(AssertionError, match="nothing was tried"):
        Trials(1, None, 0).record("server killed", "nothing lost", "SQLite", 0)


def test_a_scale_multiplies_the_rounds() -> None:
    assert len(Trials(20, None, 0).times(3)) == 60
