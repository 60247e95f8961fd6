"""Requests of one browser that have met: what each did, and what they have left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from support.histories.steps import Ending, SteppedFlight

from pyramid_sqlsession import SessionConflicted, SessionEnded

USER = "auth.userid"
CSRF = "_csrft_"
QUEUE = "_f_"
ANONYMOUS: dict[str, Any] = {
    "kept": "yes", "same": "as it was", "cart": ["tea"], QUEUE: ["old"], CSRF: "form",
}  # fmt: skip
SIGNED_IN = {**ANONYMOUS, USER: "alice"}

Data = dict[str, Any]


@dataclass(frozen=True)
class CheckedAction:
    """An action of one of the requests, and what has to come of it.

    :ivar do: does it; the request's number makes the values its own.
    :ivar is_kept: whether data still shows that this request, beside those, has done it.
    :ivar user: whom it signs in.
    :ivar ends: it ends the session, or leaves its user.
    :ivar renews: the session goes on with another token.
    :ivar starts: the sessions that it makes sense for.
    """

    name: str
    do: Callable[[Any, int], Any]
    is_kept: Callable[[Data, Party, Parties], bool] | None = None
    user: str | None = None
    ends: bool = False
    renews: bool = False
    starts: tuple[str, ...] = ("anonymous", "signed in")

    @property
    def is_about_the_token(self) -> bool:
        """Whether the cookie's token opens the session no longer, once it is committed."""
        return self.ends or self.renews


class Party:
    """One of the requests, when it is over."""

    def __init__(self, number: int, action: CheckedAction, flight: SteppedFlight) -> None:
        self.number = number
        self.action = action
        self.flight = flight
        self.found = flight.found
        self.value = f"by {number}"

    @property
    def acknowledged(self) -> bool:
        """Whether the browser was told that all went well, and nobody had wanted an abort."""
        return self.flight.ok and self.flight.ending is Ending.COMMIT

    @cached_property
    def token(self) -> str | None:
        """The token that it has sent."""
        return None if self.removed or not self.flight.cookies else self.flight.token

    @property
    def removed(self) -> bool:
        """Whether it has removed the browser's cookie."""
        return any("Max-Age=0" in cookie for cookie in self.flight.cookies)

    @property
    def dropped(self) -> bool:
        """Whether the application was told that nothing was stored of what it changed."""
        return any(event.outcome == "dropped" for event in self._conflicts())

    def won(self, key: str | None = None) -> bool:
        """Whether the application was told that it overwrote what another one has stored."""
        won = (event for event in self._conflicts() if event.outcome == "won")
        return any(key is None or key in event.keys for event in won)

    def _conflicts(self) -> Iterator[SessionConflicted]:
        return (event for event in self.flight.told if isinstance(event, SessionConflicted))

    @property
    def has_ended(self) -> bool:
        """Whether it has ended the session that they came with: the application was told."""
        ended = (event for event in self.flight.told if isinstance(event, SessionEnded))
        return self.acknowledged and any(ended)

    def popped(self, message: str) -> bool:
        """Whether the browser has seen a message in this response."""
        return self.acknowledged and message in (self.flight.result or ())


Parties = Sequence[Party]


@dataclass(frozen=True)
class Meeting:
    """Requests that came with one token, and what they have left.

    :ivar start: ``anonymous`` or ``signed in``: the session that they came with.
    :ivar lineage: that session's.
    :ivar refusing: the database may refuse a write because of another one.
    :ivar attempts: those of pyramid_retry; None without it.
    :ivar rows: what is committed.
    :ivar alone: what is committed, and the result, if only this party had come; None for nobody.
    """

    start: str
    token: str
    lineage: bytes
    parties: Parties
    refusing: bool
    attempts: int | None
    rows: list[dict[str, Any]]
    alone: Callable[[Party | None], tuple[Any, Any]]

    def each(self) -> Iterator[tuple[Party, list[Party]]]:
        """Each request that was acknowledged, and the other ones."""
        for one in self.acknowledged:
            yield one, [other for other in self.parties if other is not one]

    @property
    def acknowledged(self) -> list[Party]:
        return [party for party in self.parties if party.acknowledged]

    @cached_property
    def live(self) -> dict[str, Data]:
        """The data of each live session whose token the browser ever had."""
        tokens = [self.token, *filter(None, (party.token for party in self.parties))]
        rows = {row["id"]: row for row in self.live_rows}
        found = ((token, rows.get(identity(token))) for token in tokens)
        return {token: json.loads(row["data"]) for token, row in found if row is not None}

    @property
    def live_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["replaced"] is None]

    @property
    def markers(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["replaced"] is not None]

    @property
    def is_ended(self) -> bool:
        """Whether somebody has ended the session that they came with."""
        return has_ended(self.parties)


def has_ended(parties: Parties) -> bool:
    """Whether one of them has ended the session that they came with."""
    return any(party.has_ended for party in parties)


def identity(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def state(rows: list[dict[str, Any]]) -> list[tuple[bool, Any, Any]]:
    """What rows mean, without what differs each time."""
    kept = ((row["replaced"] is None, json.loads(row["data"]), row["user_id"]) for row in rows)
    return sorted(kept, key=repr)
