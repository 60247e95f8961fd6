"""The plots of docs/scale.rst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from .results import Results, latency, latency_on_free_cores

BLUE, ORANGE, GREEN, GREY = "#33618f", "#d9822b", "#4d8f5b", "#8a8f98"
INK, PAPER, GRID = "#1d2733", "#ffffff", "#e3e5e8"
PALE = ("#a9c1da", "#6d93b8", BLUE)
PALE_ORANGE = "#f0cda8"

DARK = {
    BLUE: "#5f9bd6",
    PALE[0]: "#2c4763",
    PALE[1]: "#44709c",
    PALE_ORANGE: "#7a5226",
    INK: "#cfd3d8",
    PAPER: "#131416",
    GRID: "#303335",
}
"""What the colours are where the reader prefers dark pages."""

SHORT = {"before": "bef.", "during": "dur.", "after": "aft."}

WIDTH = 4.6
"""Inches. On a phone, where that is about 350 pixels, the text is still larger than 10."""

STYLE: Any = {
    # the same figures are to give the same file
    "svg.hashsalt": "scale",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.facecolor": PAPER,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
}


def write(results: Results, folder: Path) -> None:
    """Draw what was measured, one file for each plot."""
    for name, height, draw in (
        ("scale-purge.svg", 3.2, _purge),
        ("scale-growth.svg", 2.9, _requests),
        ("scale-log.svg", 2.9, _log),
    ):
        with mpl.rc_context(STYLE):
            figure, axes = empty(height)
            draw(axes, results)
            save(figure, folder / name)


def empty(height: float) -> tuple[Figure, Axes]:
    """A figure with one plot."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    return figure, figure.subplots()


def save(figure: Figure, path: Path) -> None:
    """Write a figure that follows what the reader prefers, light or dark."""
    figure.savefig(path, metadata={"Date": None, "Creator": None}, dpi=110)
    rules = "".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important }}\n'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>\n"
    before, end, after = path.read_text("utf-8").partition(" <defs>\n")
    path.write_text(before + style + end + after, "utf-8")


def _purge(axes: Axes, results: Results) -> None:
    axes.set_title(
        f"Reads before, during and after a purge\n{_short(max(results.growth))} sessions"
    )
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
                f"{percentiles.p99:.1f}", (position, percentiles.p99), (0, 2), ha="center",
                textcoords="offset points",
            )  # fmt: skip
            ticks.append((position, phase))
            position += 1
        middle = position - 2
        axes.annotate(
            f"in a {way}".replace(", ", ",\n"), (middle, 0), (0, -22), ha="center", va="top",
            textcoords="offset points", xycoords=("data", "axes fraction"), annotation_clip=False,
        )  # fmt: skip
        position += 0.6
    axes.set_xticks([at for at, _ in ticks], [SHORT[phase] for _, phase in ticks])
    axes.set_ylabel("ms per request")
    axes.margins(x=0.02, y=0.12)
    axes.legend(loc="upper right", handlelength=1)


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
                          textcoords="offset points")  # fmt: skip
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
