"""Reduce the inventory of another project (``objects.inv``) to what these pages may refer to.

``python reduce.py objects.inv python.inv`` keeps the Python objects of the modules in ``MODULES``,
without their parameters. It leaves out the version, which a link would show although it leads to
the current documentation.
"""

from __future__ import annotations

import builtins
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

MODULES = {
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "enum",
    "hashlib",
    "hmac",
    "http",
    "json",
    "logging",
    "os",
    "pathlib",
    "pickle",
    "pyramid",
    "secrets",
    "sqlalchemy",
    "sqlite3",
    "threading",
    "time",
    "transaction",
    "types",
    "typing",
    "unittest",
    "uuid",
    "warnings",
    "webob",
    "zlib",
    *dir(builtins),
}
# several times the size of all others, and not referred to
EXCEPT = re.compile(
    r"sqlalchemy\.(dialects|ext(?!\.declarative|\.mutable))|unittest(?!\.mock)|.*\.__\w+__$"
)
HEADER = 4


def reduced(entries: Iterable[str]) -> Iterator[str]:
    """The entries to keep; an interface (Zope's) is referred to as a class."""
    for entry in entries:
        name, kind, rest = entry.split(" ", 2)
        known = name.partition(".")[0] in MODULES and not EXCEPT.match(name)
        if known and kind.startswith("py:") and kind != "py:parameter":
            yield " ".join([name, kind.replace("interface", "class"), rest])


def main(source: Path, target: Path) -> None:
    """Write the reduced inventory."""
    *header, packed = source.read_bytes().split(b"\n", HEADER)
    header[2] = b"# Version: "
    text = "\n".join(reduced(zlib.decompress(packed).decode().splitlines())) + "\n"
    target.write_bytes(b"\n".join([*header, zlib.compress(text.encode(), 9)]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
