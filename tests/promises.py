"""What must be true when two requests of one browser have met, whatever the order of their steps.

Each promise is a function that looks at the committed rows and at both responses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orders import Ending, SteppedFlight
from pyramid_tm import IRetryableError

from pyramid_sqlsession import SessionConflict

USER = "auth.userid"
CSRF = "_csrft_"
QUEUE = "_f_"
ANONYMOUS: dict[str, Any] = {
    "kept": "yes", "same": "as it was", "cart": ["tea"], QUEUE: ["old"], CSRF: "form",
}  # fmt: skip
SIGNED_IN = {**ANONYMOUS, USER: "alice"}

Data = dict[str, Any]


@dataclass(frozen=True)
class Action:
    """What a view does to its session.

    :ivar do: does it; the request's number makes the values its own.
    :ivar is_kept: whether data still shows that this request, beside that one, has done it.
    :ivar user: whom it signs in.
    :ivar ends: it ends the session, or leaves its user.
    :ivar renews: the session goes on with another token.
    :ivar starts: the sessions that it makes sense for.
    """

    name: str
    do: Callable[[Any, int], Any]
    is_kept: Callable[[Data, Party, Party], bool] | None = None
    user: str | None = None
    ends: bool = False
    renews: bool = False
    starts: tuple[str, ...] = ("anonymous", "signed in")

    @property
    def is_about_the_token(self) -> bool:
        """Whether the cookie's token opens the session no longer, once it is committed."""
        return self.ends or self.renews


class Party:
    """One of the two requests, when it is over."""

    def __init__(self, number: int, action: Action, flight: SteppedFlight) -> None:
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
        return any(event.outcome == "dropped" for event in self.flight.told)

    def won(self, key: str | None = None) -> bool:
        """Whether the application was told that it overwrote what the other has stored."""
        told = (event for event in self.flight.told if event.outcome == "won")
        return any(key is None or key in event.keys for event in told)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended the session that both requests came with."""
        return self.acknowledged and self.action.ends and bool(self.flight.cookies)

    def popped(self, message: str) -> bool:
        """Whether the browser has seen a message in this response."""
        return self.acknowledged and message in (self.flight.result or ())


@dataclass(frozen=True)
class Meeting:
    """Two requests that came with one token, and what they have left.

    :ivar start: ``anonymous`` or ``signed in``: the session that they came with.
    :ivar refusing: the database may refuse a write because of another one.
    :ivar attempts: those of pyramid_retry; None without it.
    :ivar rows: what is committed.
    :ivar alone: what is committed, and the result, if only this party had come; None for nobody.
    """

    start: str
    token: str
    parties: tuple[Party, Party]
    refusing: bool
    attempts: int | None
    rows: list[dict[str, Any]]
    alone: Callable[[Party | None], tuple[Any, Any]]

    def each(self) -> Iterator[tuple[Party, Party]]:
        """Each request that was acknowledged, and the other one."""
        for one, other in (self.parties, self.parties[::-1]):
            if one.acknowledged:
                yield one, other

    @property
    def acknowledged(self) -> list[Party]:
        return [one for one, _ in self.each()]

    @cached_property
    def live(self) -> dict[str, Data]:
        """The data of each live session whose token the browser ever had."""
        tokens = [self.token, *filter(None, (party.token for party in self.parties))]
        rows = {row["id"]: row for row in self.live_rows}
        found = ((token, rows.get(identity(token))) for token in tokens)
        return {token: json.loads(row["data"]) for token, row in found if row is not None}

    @property
    def live_rows(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["successor"] is None]

    @property
    def markers(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["successor"] is not None]

    @property
    def is_ended(self) -> bool:
        """Whether somebody has ended the session that both came with."""
        return any(party.has_ended for party in self.parties)


def identity(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def state(rows: list[dict[str, Any]]) -> list[tuple[bool, Any, Any]]:
    """What rows mean, without what differs each time."""
    kept = ((row["successor"] is None, json.loads(row["data"]), row["user_id"]) for row in rows)
    return sorted(kept, key=repr)


# ---- no lost key


def no_acknowledged_change_is_lost(met: Meeting) -> bool:
    return all(
        _is_kept(met, one, other) for one, other in met.each() if one.action.is_kept is not None
    )


def _is_kept(met: Meeting, one: Party, other: Party) -> bool:
    if one.dropped:
        # the one exception: whoever holds the old token must not write into the new session
        return other.acknowledged and other.action.is_about_the_token
    home = one.token or (other.token if other.acknowledged else None) or met.token
    if home not in met.live:
        return other.has_ended
    is_anew = home == other.token and other.has_ended
    assert one.action.is_kept is not None
    return is_anew or one.action.is_kept(met.live[home], one, other)


def what_nobody_changed_stays(met: Meeting) -> bool:
    # a sign-in with the old token of a user finds nothing
    fresh = {
        party.token for party in met.parties if not party.found and met.start == "signed in"
    }  # fmt: skip
    return met.is_ended or all(
        _has_the_rest(met, data) for token, data in met.live.items() if token not in fresh
    )


def _has_the_rest(met: Meeting, data: Data) -> bool:
    done = {party.action.name for party in met.acknowledged}
    is_shown = any(party.popped("old") for party in met.parties)
    return (
        ("kept" in data or "delete" in done)
        and data.get("cart", [])[:1] == ["tea"]
        and (data.get("same") == "as it was" or "put the same key" in done)
        and ("old" in data.get(QUEUE, []) or is_shown)
    )


def a_change_wins_only_in_the_last_attempt(met: Meeting) -> bool:
    return met.attempts is None or not any(party.won() for party in met.parties)


# ---- no revived session


def an_ended_session_is_not_revived(met: Meeting) -> bool:
    if not met.is_ended:
        return True
    loaded = [json.dumps(value) for key, value in ANONYMOUS.items() if key != "same"]
    stored = [json.dumps(value) for data in met.live.values() for value in data.values()]
    return met.token not in met.live and not any(
        # a list may have more in it by now
        value.startswith(old.removesuffix("]"))
        for old in loaded
        for value in stored
    )


def who_has_signed_out_is_not_signed_in(met: Meeting) -> bool:
    # whoever signs in without having found the session has shown credentials of their own
    fresh = {party.token for party in met.parties if party.action.user and not party.found}
    return (
        not met.is_ended
        or met.start == "anonymous"
        or not any(data.get(USER) == "alice" for token, data in met.live.items()
                   if token not in fresh)
    )  # fmt: skip


def an_end_that_was_acknowledged_takes_effect(met: Meeting) -> bool:
    return all(
        one.has_ended
        or other.has_ended
        or (
            # it had another token by then: whoever is anonymous does nothing to a user's session
            other.acknowledged
            and other.action.renews
            and (met.start == "anonymous" or not one.found)
        )
        for one, other in met.each()
        if one.action.ends
    )


# ---- a sign-in always takes effect


def a_sign_in_takes_effect(met: Meeting) -> bool:
    return all(_is_signed_in(met, one, other) for one, other in met.each() if one.action.user)


def _is_signed_in(met: Meeting, one: Party, other: Party) -> bool:
    if one.token in met.live:
        return bool(met.live[one.token].get(USER) == one.action.user)
    # a sign-out beside a step-up, or of the session that has the new token, wins
    return met.start == "signed in" and other.has_ended and (one.dropped or one.token is not None)


# ---- no cookie without a committed row


def every_cookie_names_a_committed_row(met: Meeting) -> bool:
    return all(
        one.token is None or one.token in met.live or other.has_ended for one, other in met.each()
    ) and not any(party.flight.cookies for party in met.parties if not party.acknowledged)


def every_live_row_has_a_cookie(met: Meeting) -> bool:
    return len(met.live) == len(met.live_rows)


# ---- no write of an aborted request


def an_aborted_request_has_changed_nothing(met: Meeting) -> bool:
    if len(met.acknowledged) == 2:
        return True
    survivor = next(iter(met.acknowledged), None)
    result = None if survivor is None else survivor.flight.result
    return (state(met.rows), result) == met.alone(survivor)


def a_request_fails_only_by_a_conflict(met: Meeting) -> bool:
    return all(
        party.acknowledged
        or (
            met.refusing
            and (
                isinstance(party.flight.error, SessionConflict)
                or IRetryableError.providedBy(party.flight.error)
            )
        )
        for party in met.parties
        if party.flight.ending is Ending.COMMIT
    )


# ---- the rows


def there_is_one_live_session(met: Meeting) -> bool:
    signed_in = [party for party in met.acknowledged if party.action.user]
    if not any(party.action.is_about_the_token for party in met.acknowledged):
        return list(met.live) == [met.token]
    at_least = 0 if met.is_ended else 1
    # a sign-in always takes effect, and starts a session of its own if it has to
    at_most = 2 if signed_in and len(met.acknowledged) == 2 else 1
    return at_least <= len(met.live_rows) <= at_most


def the_column_says_who_is_signed_in(met: Meeting) -> bool:
    return all(row["user_id"] == json.loads(row["data"]).get(USER) for row in met.live_rows)


def markers_hold_what_they_may(met: Meeting) -> bool:
    return all(_is_right_marker(met, marker) for marker in met.markers)


def _is_right_marker(met: Meeting, marker: dict[str, Any]) -> bool:
    sent = [identity(party.token) for party in met.acknowledged if party.token]
    data = json.loads(marker["data"])
    is_bare = data == {CSRF: "form"}
    is_bare_by_rule = met.start == "signed in" or met.is_ended
    return (
        marker["id"] == identity(met.token)
        and marker["successor"] in sent
        and marker["user_id"] == ("alice" if met.start == "signed in" else None)
        and is_bare == is_bare_by_rule
    )


PROMISES: tuple[Callable[[Meeting], bool], ...] = (
    no_acknowledged_change_is_lost,
    what_nobody_changed_stays,
    a_change_wins_only_in_the_last_attempt,
    an_ended_session_is_not_revived,
    who_has_signed_out_is_not_signed_in,
    an_end_that_was_acknowledged_takes_effect,
    a_sign_in_takes_effect,
    every_cookie_names_a_committed_row,
    every_live_row_has_a_cookie,
    an_aborted_request_has_changed_nothing,
    a_request_fails_only_by_a_conflict,
    there_is_one_live_session,
    the_column_says_who_is_signed_in,
    markers_hold_what_they_may,
)
