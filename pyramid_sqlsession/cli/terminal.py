"""What the commands show: bars and tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_PARTS = 10


def say(line: str) -> None:
    """A line of output, at once: whoever reads it may be waiting for it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    """One line for whoever has to do something about it."""
    sys.stderr.write(f"pyramid_sqlsession: {' '.join(message.split())}\n")


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far something has come; yields the function that says how many more are done.

    :param what: what is done to *total* things, for instance ``sessions deleted``; None if nobody
        knows to how many.
    """
    console = _console()
    if console is None:
        yield _Tenths(what, total).advance
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


class _Tenths:
    """Plain lines about progress, at most nine however much there is: cron sends them by mail."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total or 0
        self._done = 0

    def advance(self, count: int) -> None:
        before, self._done = self._done, self._done + count
        # nobody needs to be told that it ends
        if self._part(before) < self._part(self._done) and self._done < self._total:
            say(f"{self._done:,} of {self._total:,} {self._what}")

    def _part(self, done: int) -> int:
        return done * _PARTS // max(self._total, 1)


def show_figures(title: str, sections: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Sections of labels and values; the first row of a section is its heading."""
    console = _console()
    if console is None:
        rows = [row for section in sections for row in section]
        left, right = max(len(label) for label, _ in rows), max(len(value) for _, value in rows)
        say(title)
        for section in sections:
            say("")
            for label, value in section:
                say(f"{label:{left}}  {value:>{right}}".rstrip())
        return
    table = Table(title=title, box=SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for section in sections:
        for label, value in section:
            table.add_row(label, value)
        table.add_section()
    console.print(table)


def show_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows with headings; elsewhere than on a terminal without, for programs that read them."""
    console = _console()
    if console is None:
        for row in rows:
            say("  ".join(row))
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # whoever copies a value wants all of it, however narrow the window
    everything = console.options.update(max_width=sys.maxsize)
    console.width = max(console.width, console.measure(table, options=everything).maximum)
    console.print(table)


def _console() -> Console | None:
    """A console if the output is a terminal that can do more than print lines."""
    # not rich's own guess, which other settings of the environment can turn around
    if not sys.stdout.isatty():
        return None
    console = Console(force_terminal=True, highlight=False)
    return None if console.is_dumb_terminal else console
