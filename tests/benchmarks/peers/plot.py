"""The plot of docs/performance.rst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from ..plot import BLUE, ORANGE, PALE, PALE_ORANGE, STYLE, empty, save
from . import names
from .contender import Workload
from .results import Results

COLOURS = {True: (BLUE, PALE[0]), False: (ORANGE, PALE_ORANGE)}
"""Of a read and of a write: for what is ours, and for what is not."""


def write(results: Results, folder: Path, name: str = "peers.svg") -> None:
    """Draw what session stores cost on PostgreSQL."""
    style: Any = {**STYLE, "svg.hashsalt": "peers", "axes.grid.axis": "x"}
    with mpl.rc_context(style):
        figure, axes = empty(5.4)
        _bars(axes, results)
        save(figure, folder / name)


def _bars(axes: Axes, results: Results) -> None:
    found = results.costs["PostgreSQL"]
    stores = [name for name in found if name not in names.BARE]
    axes.set_title("What a session adds to a request, µs")
    for place, name in enumerate(reversed(stores)):
        axes.annotate(
            name, (0, place + 0.24), (2, 0), va="center", textcoords="offset points",
            fontweight="bold" if name in names.OURS else "normal",
        )  # fmt: skip
        for shift, workload, colour in zip(
            (-0.05, -0.3), (Workload.READ, Workload.WRITE), COLOURS[name in names.OURS], strict=True
        ):
            value = 1e6 * found[name][workload].median
            axes.barh(place + shift, value, 0.23, color=colour)
            axes.annotate(
                f"{value:,.0f}", (value, place + shift), (3, 0), va="center",
                textcoords="offset points",
            )  # fmt: skip
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(-0.5, len(stores) - 0.55)
    axes.margins(x=0.14)
    axes.legend(
        [Patch(color=BLUE), Patch(color=PALE[0])], ["read", "write"], loc="lower right",
        handlelength=1, ncols=2,
    )  # fmt: skip
