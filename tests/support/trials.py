"""How much is tried, and the record of it: docs/project/trials.rst shows what was run.

``pytest --record=FILE`` adds what the tests tried to a file, a line of JSON each;
``python -m support.trials FILE TABLE`` makes a table of it. ``--scale=N`` has everything tried N
times as often.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.tables import numbers


@dataclass(frozen=True)
class Trial:
    """What was tried: a fault, or the way in which requests met.

    :ivar database: where, such as ``PostgreSQL``.
    :ivar count: how often.
    :ivar lost: how often a promise was broken.
    """

    fault: str
    promised: str
    database: str
    count: int
    lost: int


class Trials:
    """What one run of the tests tries.

    :param scale: how many times as often as usual.
    :param report: where to write what was tried.
    :param seed: what is chosen at random is chosen from it.
    """

    def __init__(self, scale: int, report: Path | None, seed: int) -> None:
        self.scale, self.seed = scale, seed
        self._report = report

    def times(self, count: int) -> range:
        """As many rounds as usual, or more."""
        return range(count * self.scale)

    def record(
        self, fault: str, promised: str, database: str, count: int, *, lost: int = 0
    ) -> None:
        """Say what was tried; a promise that was broken fails the test, once it is written down."""
        if self._report is not None:
            line = json.dumps(asdict(Trial(fault, promised, database, count, lost))) + "\n"
            # several workers append to one file: a short write at its end is not torn
            descriptor = os.open(self._report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        assert count > 0, f"nothing was tried: {fault}"
        assert lost == 0, f"{fault}, {database}: {lost} of {count} broke the promise: {promised}"


def tabulate(report: Path) -> str:
    """A table of everything that was tried."""
    counts: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for line in report.read_text("utf-8").splitlines():
        trial = Trial(**json.loads(line))
        total = counts[trial.fault, trial.promised, trial.database]
        total[0] += trial.count
        total[1] += trial.lost
    rows = [(*what, f"{count:,}", f"{lost:,}") for what, (count, lost) in sorted(counts.items())]
    return numbers("Fault", "Promised", "Database", "Trials", "Lost", rows=rows, texts=3)


def main(report: str, output: str) -> None:
    """Write the table of a report."""
    Path(output).write_text(tabulate(Path(report)), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
