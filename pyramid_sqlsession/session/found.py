"""What a cookie opens: a live session, a marker, or one that is shut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from pyramid.interfaces import ICSRFStoragePolicy

from ..data.codec import Codec
from ..exceptions import SessionDataError
from ..table.record import Record

CSRF = "_csrft_"
"""The key of Pyramid's CSRF token in a session."""


def csrf_keys_of(registry: Any) -> frozenset[str]:
    """The keys of CSRF tokens: the usual one, and that of another storage policy."""
    policy = registry.queryUtility(ICSRFStoragePolicy)
    return frozenset({CSRF, getattr(policy, "key", CSRF)})


@dataclass(frozen=True)
class Loaded:
    """A live session as it was read.

    ``data`` is what the request then works on; ``serialized`` stays what was loaded.
    ``as_configured`` is false if it has to be encrypted anew.
    """

    id: bytes
    record: Record
    serialized: bytes = field(repr=False)
    data: dict[Any, Any] = field(repr=False)
    as_configured: bool = True


@dataclass(frozen=True)
class Marker:
    """What a late request finds after its token was replaced.

    ``visible``
      What it sees: the CSRF token, so that a form that is sent twice passes its check.
    ``kept``
      What a sign-in takes over.
    """

    record: Record
    visible: dict[Any, Any] = field(repr=False)
    kept: dict[Any, Any] = field(repr=False)

    @property
    def data(self) -> dict[Any, Any]:
        """All of it."""
        return {**self.kept, **self.visible}


@dataclass(frozen=True)
class Shut:
    """A session that is not opened because it has expired or cannot be read.

    Another host with another clock, settings or keys may open it, so it can still be ended.
    """

    record: Record
    has_expired: bool = False


Found = Loaded | Marker | Shut


def marker_of(codec: Codec, csrf_keys: Iterable[str], token: str, record: Record) -> Marker:
    """What is left of a session in a row that was replaced; nothing if it cannot be read."""
    try:
        kept = codec.from_column(record.data, token).data
    except SessionDataError:
        kept = {}
    visible = {key: kept.pop(key) for key in csrf_keys if key in kept}
    return Marker(record, visible, kept)


class Fate(Enum):
    """What a request did to its session as a whole."""

    LIVE = auto()
    ENDED = auto()
    """The request ended it; the row is deleted at save."""
    REVOKED = auto()
    """The request ended it, and the row is already deleted."""
