"""The plot of docs/scale.rst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from .results import Results, latency, latency_on_free_cores, rate

BLUE, ORANGE, GREEN, GREY = "#33618f", "#d9822b", "#4d8f5b", "#8a8f98"
INK = "#1d2733"
PALE = ("#a9c1da", "#6d93b8", BLUE)

STYLE: Any = {
    # the same figures are to give the same file
    "svg.hashsalt": "scale",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e3e5e8",
    "xtick.color": "#40454d",
    "ytick.color": "#40454d",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


def write(results: Results, folder: Path, name: str = "scale.svg") -> None:
    """Draw what was measured."""
    with mpl.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
        figure = Figure(figsize=(10, 6.6), layout=layout)
        ((first, second), (third, fourth)) = figure.subplots(2, 2, width_ratios=(4, 3))
        _purge(first, results)
        _requests(second, results)
        _purged(third, results)
        _log(fourth, results)
        figure.savefig(folder / name, metadata={"Date": None, "Creator": None}, dpi=110)


def _purge(axes: Axes, results: Results) -> None:
    axes.set_title(f"Reads beside a purge, {_short(max(results.growth))} sessions")
    position, ticks = 0.0, []
    for way, beside in results.beside.items():
        for phase, requests in beside.phases().items():
            percentiles = latency(requests)
            for colour, percentile in zip(PALE, ("p99", "p95", "p50"), strict=True):
                height = getattr(percentiles, percentile)
                label = percentile if not position else None
                axes.bar(position, height, 0.8, color=colour, label=label)
            axes.plot(
                position, latency_on_free_cores(requests).p99, "D", color=INK, markersize=4,
                label=None if position else "p99 less waits",
            )  # fmt: skip
            axes.annotate(
                f"{percentiles.p99:.2f}", (position, percentiles.p99), (0, 2), ha="center",
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
            ticks.append((position, phase))
            position += 1
        middle = position - 2
        axes.annotate(
            f"purge in a {way}".replace(", ", ",\n"), (middle, 0), (0, -20), ha="center", va="top",
            textcoords="offset points", xycoords=("data", "axes fraction"), annotation_clip=False,
            fontsize=8,
        )  # fmt: skip
        position += 0.6
    axes.set_xticks([at for at, _ in ticks], [phase for _, phase in ticks], fontsize=8)
    axes.set_ylabel("ms per request")
    axes.margins(y=0.24)
    axes.legend(loc="upper center", ncols=4, handlelength=1, columnspacing=1)


def _requests(axes: Axes, results: Results) -> None:
    axes.set_title("A request, by the number of sessions")
    sizes = list(results.growth)
    for name, colour, requests in (
        ("write", ORANGE, [growth.writes for growth in results.growth.values()]),
        ("read", BLUE, [growth.reads for growth in results.growth.values()]),
    ):
        latencies = [latency(each) for each in requests]
        for percentile, style in (("p99", ":"), ("p50", "-")):
            values = [getattr(each, percentile) for each in latencies]
            axes.plot(sizes, values, style, color=colour, marker="o", markersize=4,
                      label=f"{name} {percentile}")  # fmt: skip
    _by_sessions(axes, sizes)
    axes.set_ylabel("ms per request")
    axes.legend(ncols=2, loc="upper left", bbox_to_anchor=(0, 1.02))
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])


def _purged(axes: Axes, results: Results) -> None:
    axes.set_title("Rows purged, by the number of sessions")
    sizes = list(results.growth)
    rates = [rate(growth.purges) for growth in results.growth.values()]
    axes.plot(sizes, rates, color=GREEN, marker="o", markersize=4)
    _by_sessions(axes, sizes)
    axes.set_ylabel("rows per second")
    axes.set_ylim(0, 1.2 * max(rates))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _log(axes: Axes, results: Results) -> None:
    axes.set_title("Written to the log, by the size of the data")
    chosen = [update for update in results.updates if update.fillfactor == 100]
    sizes = sorted({update.size for update in chosen})
    for shift, kind, label, colour in (
        (-0.2, "touch", "touch", GREEN),
        (0.2, "write", "data write", ORANGE),
    ):
        values = [update.second.log for update in chosen if update.kind == kind]
        axes.bar([n + shift for n in range(len(sizes))], values, 0.36, color=colour, label=label)
        for n, value in enumerate(values):
            axes.annotate(f"{value:,.0f}", (n + shift, value), (0, 2), ha="center",
                          textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(10, 1_000_000)
    axes.set_xticks(range(len(sizes)), [f"{size:,} bytes" for size in sizes])
    axes.set_ylabel("bytes of WAL per update")
    axes.legend(loc="upper left")


def _by_sessions(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sizes, [_short(size) for size in sizes])


def _short(number: int) -> str:
    for unit, name in ((1_000_000, " million"), (1_000, ",000")):
        if number >= unit and number % unit == 0:
            return f"{number // unit:,}{name}"
    return f"{number:,}"
