"""Formats values as readable text without tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from typing import Any

MASK = "***"

_MAYBE_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])", re.ASCII)
_LONGEST = 1000
"""Characters of a value that are shown."""
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def moment(seconds: int, now: int) -> str:
    """A time, absolute and relative."""
    # not a datetime, which ends with the year 9999
    absolute = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    return f"{absolute} ({_away(seconds - now)})"


def _away(seconds: int) -> str:
    if seconds == 0:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"


def duration(seconds: int) -> str:
    """A duration in its two largest units, as in ``13 d 23 h``."""
    counts = []
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            counts.append(f"{count} {unit}")
    return " ".join(counts[:2])


def parameter(name: str, value: Any) -> str:
    """A parameter of a statement: the first digits of an id or lineage, the size of data."""
    if isinstance(value, bytes) and len(value) in (16, 32) and name != "data":
        return f"{name} = {value.hex()[:12]}…"
    if isinstance(value, bytes):
        return f"{name} = {len(value)} bytes"
    if name == "data":
        return f"{name} = …"
    return f"{name} = {represented(value)}"


def represented(value: Any) -> str:
    """The repr of an application's value, which may be of any class."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  # nothing of it fails the request
        return f"<{type(value).__name__}: repr() raised {type(error).__name__}>"


def described(error: BaseException | None) -> str:
    """An error of the application; it may be of any class."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as another:  # noqa: BLE001  # nothing of it fails the request
        return f"{type(error).__name__}, whose str() raised {type(another).__name__}"


def masked(report: Any, secrets: Collection[str]) -> Any:
    """Mask secrets in all texts of a structure of lists and dicts, and shorten long texts.

    Every word that may be a token is masked.
    """
    if isinstance(report, str):
        # half a surrogate pair cannot be encoded on a page
        report = report.encode(errors="backslashreplace").decode()
        for secret in secrets:
            report = report.replace(secret, MASK)
        report = _MAYBE_TOKEN.sub(MASK, report)
        return report if len(report) <= _LONGEST else f"{report[:_LONGEST]}…"
    if isinstance(report, dict):
        return {key: masked(value, secrets) for key, value in report.items()}
    if isinstance(report, list):
        return [masked(value, secrets) for value in report]
    return report
