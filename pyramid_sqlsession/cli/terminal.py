"""The terminal: tables and bars if rich is installed, else plain lines; and SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

# cron needs neither tables nor bars
HAS_RICH = find_spec("rich") is not None

_PARTS = 10


def say(line: str) -> None:
    """Print one line of output and flush it: a program may be waiting for it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    """Print one line on stderr about something that needs attention."""
    sys.stderr.write(f"pyramid_sqlsession: {' '.join(message.split())}\n")


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress; yields a function that takes how many more are done.

    :param what: what is done, for instance ``sessions deleted``.
    :param total: how many there are; None if unknown.
    """
    rich = _console()
    if rich is None:
        yield _Tenths(what, total).advance
        return
    from rich import progress

    columns = (
        progress.TextColumn(what),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=rich, transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda count: shown.advance(task, count)


class _Tenths:
    """Progress as plain lines, at most nine of them: cron sends them by mail."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total or 0
        self._done = 0

    def advance(self, count: int) -> None:
        before, self._done = self._done, self._done + count
        # the last tenth has a line of its own: the result
        if self._part(before) < self._part(self._done) and self._done < self._total:
            say(f"{self._done:,} of {self._total:,} {self._what}")

    def _part(self, done: int) -> int:
        return done * _PARTS // max(self._total, 1)


def show_figures(title: str, sections: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Print sections of labels and values; the first row of a section is its heading."""
    rich = _console()
    if rich is None:
        rows = [row for section in sections for row in section]
        left, right = max(len(label) for label, _ in rows), max(len(value) for _, value in rows)
        say(title)
        for section in sections:
            say("")
            for label, value in section:
                say(f"{label:{left}}  {value:>{right}}".rstrip())
        return
    from rich import box, table

    shown = table.Table(title=title, box=box.SIMPLE_HEAD, show_header=False)
    shown.add_column()
    shown.add_column(justify="right")
    for section in sections:
        for label, value in section:
            shown.add_row(label, value)
        shown.add_section()
    rich.print(shown)


def show_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns, on a terminal under their headings."""
    rich = _console()
    if rich is None:
        lines = [headings, *rows] if is_terminal() else rows
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
            say("  ".join(cells).rstrip())
        return
    from rich import table

    shown = table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        shown.add_column(heading, no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    # a handle is copied whole, however narrow the window
    everything = rich.options.update(max_width=sys.maxsize)
    rich.width = max(rich.width, rich.measure(shown, options=everything).maximum)
    rich.print(shown)


def is_terminal() -> bool:
    """Whether the output goes to somebody who reads it as it comes."""
    return sys.stdout.isatty()


def _console() -> Any:
    """A console of rich, if that is installed and the output is a terminal with a cursor."""
    # not rich's own guess, which other environment variables change
    if not HAS_RICH or not is_terminal():
        return None
    from rich import console

    found = console.Console(force_terminal=True, highlight=False)
    return None if found.is_dumb_terminal else found


@contextmanager
def terminable() -> Iterator[Callable[[], bool]]:
    """Put off SIGTERM; yields a function that tells whether it came.

    A second one ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        # only the main thread may handle signals
        yield lambda: False
        return
    came = False

    def note(_number: int, _frame: Any) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)
