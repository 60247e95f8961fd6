"""The tables of docs/performance.rst and docs/project/targets.rst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..tables import Row, numbers, table
from . import names
from .contender import EVERY
from .kept import PAIRS, Memory
from .load import PAGES, Rates
from .results import Costs, Results, Seconds, targets

NONE = "—"


def write(
    folder: Path, machine: Mapping[str, str], results: Results, memory: Memory, rates: Rates
) -> None:
    """Write one file for each table."""
    for name, text in (
        ("machine", table("", "", rows=machine.items())),
        ("targets", reached(results)),
        ("costs", costs(results)),
        ("ratios", ratios(results)),
        ("fastest", fastest(results)),
        ("databases", databases(results)),
        ("requests", requests(results)),
        ("memory", kept_by_process(memory)),
        ("growth", kept_by_requests(memory)),
        ("load", load(rates)),
    ):
        (folder / f"peers-{name}.rst").write_text(text, "utf-8")


def reached(results: Results) -> str:
    """The targets, and what became of them."""
    rows = [
        (
            target.text,
            *(f"{each:.2f}" for each in (target.limit, target.median, target.fastest)),
            "reached" if target.reached else "missed",
        )
        for target in targets(results)
    ]
    return numbers("Ratio", "At most", "Median", "Fastest", "By the median", rows=rows)


def costs(results: Results) -> str:
    """Microseconds, on PostgreSQL."""
    found = results.costs["PostgreSQL"]
    return _by_workload("PostgreSQL", found, lambda cost, _: _microseconds(cost.median))


def ratios(results: Results) -> str:
    """How many times what the driver takes, on PostgreSQL."""
    return _by_workload("PostgreSQL", results.costs["PostgreSQL"], _times_median)


def fastest(results: Results) -> str:
    """The same by the fastest requests."""
    return _by_workload("PostgreSQL", results.costs["PostgreSQL"], _times_fastest)


def databases(results: Results) -> str:
    """Microseconds, and how many times what the driver takes, on the other databases."""
    return "\n".join(
        _by_workload(database, results.costs[database], _both)
        for database in results.costs
        if database != "PostgreSQL"
    )


def requests(results: Results) -> str:
    """What the applications take without sessions."""
    rows = [
        (name, _microseconds(taken.median), _microseconds(results.noise[name]))
        for name, taken in results.requests.items()
    ]
    return numbers("Application", "Request", "Noise", rows=rows)


def kept_by_process(memory: Memory) -> str:
    """What including the package keeps in a process."""
    rows = []
    for way, without in PAIRS.items():
        first, last = (memory.traced[way][n] for n in (1, -1))
        before = memory.traced[without][-1].traced
        grown = (last.traced - first.traced) / (last.requests - first.requests)
        rows.append(
            (
                names.marked(way),
                _mebibytes(before),
                _mebibytes(last.traced - before),
                f"{grown:.1f}",
            )
        )
    return numbers(
        "Sessions", "Application, MiB", "Sessions, MiB", "Bytes kept per request", rows=rows
    )


def kept_by_requests(memory: Memory) -> str:
    """What is there after so many requests."""
    rows = [
        (
            names.marked(way),
            *(f"{number:,}" for number in (kept.requests, kept.blocks, kept.objects)),
        )
        for way, measured in memory.long.items()
        for kept in measured
    ]
    return numbers("Sessions", "Requests", "Blocks", "Objects", rows=rows)


def load(rates: Rates) -> str:
    """Requests per second."""
    rows = [
        (names.marked(name), *(f"{rates[program][name]:,.0f}" for program in rates))
        for name in PAGES
    ]
    return numbers("Requests per second", *rates, rows=rows)


Cell = Callable[[Seconds, Seconds | None], str]


def _by_workload(title: str, found: Costs, cell: Cell) -> str:
    """A row for each contender; *cell* gets its cost and the driver's."""
    rows: list[Row] = []
    for name, its in found.items():
        cells = (
            cell(its[each], found[names.FLOOR].get(each)) if each in its else NONE for each in EVERY
        )
        rows.append((names.marked(name), *cells))
    return numbers(title, *(each.value for each in EVERY), rows=rows)


def _times_median(cost: Seconds, lowest: Seconds | None) -> str:
    return f"{cost.median / lowest.median:.2f}" if lowest else NONE


def _times_fastest(cost: Seconds, lowest: Seconds | None) -> str:
    return f"{cost.fastest / lowest.fastest:.2f}" if lowest else NONE


def _both(cost: Seconds, lowest: Seconds | None) -> str:
    ratio = f" ({_times_median(cost, lowest)})" if lowest else ""
    return _microseconds(cost.median) + ratio


def _microseconds(seconds: float) -> str:
    return f"{round(1e6 * seconds):,}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.2f}"
