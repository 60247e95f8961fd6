"""Actions for random histories: the real session understands them, and so does the oracle's."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st
from support.histories.oracle_session import USER


class RandomAction(Protocol):
    """Something done to ``request.session`` or ``request.sqlsessions``: returns what was seen."""

    def __call__(self, request: Any) -> Any: ...


@dataclass(frozen=True)
class Read:
    def __call__(self, request: Any) -> Any:
        return dict(request.session)


@dataclass(frozen=True)
class Facts:
    """What a view can ask about the session."""

    def __call__(self, request: Any) -> Any:
        session = request.session
        return session.id, session.new, session.created, session.last_seen, session.max_age


@dataclass(frozen=True)
class Put:
    key: str
    value: Any

    def __call__(self, request: Any) -> Any:
        request.session[self.key] = deepcopy(self.value)


@dataclass(frozen=True)
class Drop:
    key: str

    def __call__(self, request: Any) -> Any:
        return deepcopy(request.session.pop(self.key, None))


@dataclass(frozen=True)
class Append:
    """A change inside a value."""

    key: str

    def __call__(self, request: Any) -> Any:
        value = request.session.get(self.key)
        if isinstance(value, list):
            value.append(len(value))


@dataclass(frozen=True)
class Clear:
    def __call__(self, request: Any) -> Any:
        request.session.clear()


@dataclass(frozen=True)
class Flash:
    message: str
    queue: str
    allow_duplicate: bool

    def __call__(self, request: Any) -> Any:
        request.session.flash(self.message, self.queue, self.allow_duplicate)


@dataclass(frozen=True)
class PopFlash:
    queue: str

    def __call__(self, request: Any) -> Any:
        return list(request.session.pop_flash(self.queue))


@dataclass(frozen=True)
class PeekFlash:
    queue: str

    def __call__(self, request: Any) -> Any:
        return list(request.session.peek_flash(self.queue))


@dataclass(frozen=True)
class Csrf:
    new: bool

    def __call__(self, request: Any) -> Any:
        session = request.session
        return session.new_csrf_token() if self.new else session.get_csrf_token()


@dataclass(frozen=True)
class Remember:
    seconds: int | None

    def __call__(self, request: Any) -> Any:
        request.session.max_age = self.seconds


@dataclass(frozen=True)
class SignIn:
    """Sign in, step up or change the user."""

    user: str | None

    def __call__(self, request: Any) -> Any:
        request.session[USER] = self.user


@dataclass(frozen=True)
class SignOut:
    def __call__(self, request: Any) -> Any:
        return request.session.pop(USER, None)


@dataclass(frozen=True)
class Regenerate:
    def __call__(self, request: Any) -> Any:
        request.session.regenerate()


@dataclass(frozen=True)
class Invalidate:
    def __call__(self, request: Any) -> Any:
        request.session.invalidate()


@dataclass(frozen=True)
class Revoke:
    """End the session with this handle, or only if it is this user's."""

    handle: str
    user: str | None

    def __call__(self, request: Any) -> Any:
        whose = {} if self.user is None else {"user_id": self.user}
        return request.sqlsessions.revoke(self.handle, **whose)


@dataclass(frozen=True)
class RevokeUser:
    """End all sessions of a user, or all but the request's own."""

    user: str
    keep: bool

    def __call__(self, request: Any) -> Any:
        keep = request.session.id if self.keep else None
        return request.sqlsessions.revoke_user(self.user, keep=keep)


@dataclass(frozen=True)
class OfUser:
    """List the sessions of a user."""

    user: str

    def __call__(self, request: Any) -> Any:
        found = request.sqlsessions.of_user(self.user)
        return sorted((it.handle, it.created, it.last_seen, it.current) for it in found)


KEYS = st.sampled_from("ab")
VALUES = st.sampled_from([0, 1, [], ["x"], {"y": []}])
QUEUES = st.sampled_from(["", "q"])
USERS = st.sampled_from(["alice", "bob"])

Strategy = st.SearchStrategy[RandomAction]

READS: Strategy = st.one_of(st.builds(Read), st.builds(Facts), st.builds(PeekFlash, QUEUES))
CHANGES: Strategy = st.one_of(
    st.builds(Put, KEYS, VALUES),
    st.builds(Drop, KEYS),
    st.builds(Append, KEYS),
    st.builds(Flash, st.sampled_from("mn"), QUEUES, st.booleans()),
    st.builds(PopFlash, QUEUES),
    st.builds(Csrf, st.booleans()),
    st.builds(Remember, st.sampled_from([None, 300, 3000])),
)
USER_CHANGES: Strategy = st.one_of(
    st.builds(SignIn, USERS),
    st.builds(SignIn, st.none()),
    st.builds(SignOut),
)
ENDS: Strategy = st.sampled_from([Regenerate(), Invalidate(), Clear()])
ACTIONS: Strategy = st.one_of(READS, CHANGES, CHANGES, USER_CHANGES, ENDS)
ADMINISTRATION: Strategy = st.one_of(
    st.builds(RevokeUser, USERS, st.booleans()),
    st.builds(OfUser, USERS),
)
