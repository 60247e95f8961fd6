"""The tables of docs/scale.rst."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import indent

from .results import Results, latency, latency_on_free_cores, rate
from .visitors import Latency

Row = Sequence[object]


def write(results: Results, folder: Path) -> None:
    """Write one file for each table."""
    for name, make in (
        ("machine", machine),
        ("purge", purge),
        ("batches", batches),
        ("growth", growth),
        ("space", space),
        ("log", log),
    ):
        (folder / f"scale-{name}.rst").write_text(make(results), "utf-8")


def machine(results: Results) -> str:
    """What it ran on."""
    command = f"``make bench-scale {results.arguments}``"
    return table("", "", rows=[("Command", command), *results.machine.items()])


def purge(results: Results) -> str:
    """Reads before, during and after a purge."""
    rows: list[Row] = []
    for way, beside in results.beside.items():
        for name, requests in beside.phases().items():
            seen, free = latency(requests), latency_on_free_cores(requests)
            rows.append((
                f"in a {way}",
                name,
                f"{seen.count:,}",
                *times(seen),
                f"{seen.p99 / latency(beside.before).p99:.2f}",
                f"{free.p99:.2f}",
                f"{free.p99 / latency_on_free_cores(beside.before).p99:.2f}",
            ))  # fmt: skip
    return numbers(
        "Purge", "Reads", "Number", "p50", "p95", "p99", "÷ before", "p99 less waits", "÷ before",
        rows=rows, texts=2,
    )  # fmt: skip


def batches(results: Results) -> str:
    """How fast rows were purged."""
    runs = {f"in a {way}, beside reads": beside.purges for way, beside in results.beside.items()}
    runs["in a process, alone"] = results.growth[max(results.growth)].purges
    rows: list[Row] = []
    for name, purges in runs.items():
        taken = Latency.of(seconds for purged in purges for seconds in purged.batches)
        rows.append((name, f"{rate(purges):,.0f}", *times(taken)))
    return numbers("Purge", "Rows per second", "p50", "p95", "p99", rows=rows)


def growth(results: Results) -> str:
    """How costs grow with the number of sessions."""
    rows: list[Row] = []
    smallest = latency(results.growth[min(results.growth)].reads)
    for sessions, measured in results.growth.items():
        read, written = latency(measured.reads), latency(measured.writes)
        rows.append((
            f"{sessions:,}",
            f"{read.p50:.2f}",
            f"{read.p50 / smallest.p50:.2f}",
            *(f"{value:.2f}" for value in (read.p99, written.p50, written.p99)),
            f"{measured.lookup.pages:.2f}",
            f"{measured.lookup.microseconds:.0f}",
            f"{rate(measured.purges):,.0f}",
        ))  # fmt: skip
    return numbers(
        "Sessions",
        "Read p50",
        "÷ first",
        "p99",
        "Write p50",
        "p99",
        "Pages",
        "SELECT",
        "Purged",
        rows=rows,
    )


def space(results: Results) -> str:
    """Bytes per session."""
    parts = ("table", *(f"index on {name}" for name in results.space["filled"].indexes))
    weights = {
        done: [size / weighed.sessions for size in (weighed.table, *weighed.indexes.values())]
        for done, weighed in results.space.items()
    }
    rows = [
        (part, *(f"{sizes[n]:,.0f}" for sizes in weights.values())) for n, part in enumerate(parts)
    ]
    total = ("all", *(f"{sum(sizes):,.0f}" for sizes in weights.values()))
    return numbers("Bytes per session", *weights, rows=[*rows, total])


def log(results: Results) -> str:
    """Bytes of log per update."""
    rows = [
        (
            {"touch": "touch", "write": "data write"}[update.kind],
            f"{update.size:,}",
            update.fillfactor,
            *(f"{each.log:,.0f}" for each in (update.first, update.second)),
            *(f"{each.hot:.1%}".replace("%", " %") for each in (update.first, update.second)),
        )
        for update in sorted(results.updates, key=lambda update: (update.size, update.kind))
    ]
    return numbers(
        "Update", "Data", "fillfactor", "Log, first", "Log, second", "HOT, first", "HOT, second",
        rows=rows,
    )  # fmt: skip


def times(latency: Latency) -> list[str]:
    """The three percentiles."""
    return [f"{value:.2f}" for value in (latency.p50, latency.p95, latency.p99)]


def numbers(*header: str, rows: Iterable[Row], texts: int = 1) -> str:
    """A table whose columns are numbers, which its style aligns, but for the first *texts*."""
    style = f"numbers after-{texts}" if texts > 1 else "numbers"
    body = indent(table(*header, rows=rows), "   ")
    return f".. table::\n   :class: {style}\n\n{body}"


def table(*header: str, rows: Iterable[Row]) -> str:
    """A table in reStructuredText; numbers are already text. No header if it is empty."""
    lines = [[str(cell) for cell in row] for row in rows]
    if any(header):
        lines.insert(0, list(header))
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if any(header):
        text.insert(1, rule)
    return "\n".join([rule, *text, rule, ""])
