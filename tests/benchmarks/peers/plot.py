"""The plot of docs/performance.rst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from ..plot import BLUE, GREY, ORANGE, STYLE
from . import names
from .contender import Workload
from .results import Results

OURS = (names.OWN, names.SHARED)
BARE = (names.FLOOR, names.CALLED, names.BEGUN, names.CORE)


def write(results: Results, folder: Path, name: str = "peers.svg") -> None:
    """Draw what sessions cost on PostgreSQL."""
    style: Any = {**STYLE, "svg.hashsalt": "peers", "axes.grid.axis": "x"}
    with mpl.rc_context(style):
        layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
        figure = Figure(figsize=(10, 4.2), layout=layout)
        left, right = figure.subplots(1, 2, sharey=True)
        _bars(left, results, Workload.READ, "A request that reads the session")
        _bars(right, results, Workload.WRITE, "A request that changes the session")
        figure.savefig(folder / name, metadata={"Date": None, "Creator": None}, dpi=110)


def _bars(axes: Axes, results: Results, workload: Workload, title: str) -> None:
    axes.set_title(title)
    found = results.costs["PostgreSQL"]
    for place, name in enumerate(reversed(found)):
        value = 1e6 * found[name][workload].median
        colour = BLUE if name in OURS else GREY if name in BARE else ORANGE
        axes.barh(place, value, 0.7, color=colour)
        axes.annotate(
            f"{value:,.0f}", (value, place), (3, 0), va="center", textcoords="offset points",
            fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(found)), list(reversed(found)), fontsize=8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.12)
    axes.set_xlabel("µs that the session adds")
