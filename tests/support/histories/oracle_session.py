"""A session as the oracle's views use it: what it holds, and what was done to it."""

from __future__ import annotations

import json
from collections import UserDict
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

USER = "auth.userid"
CSRF = "_csrft_"
FLASH = "_f_"

Data = dict[str, Any]


@dataclass
class Queue:
    """What a request did to a flash queue: forgot what it found, and flashed these messages."""

    popped: bool = False
    flashed: list[tuple[Any, bool]] = field(default_factory=list)

    def replay(self, loaded: list[Any], theirs: list[Any]) -> list[Any]:
        """Do it again to a queue that others have changed since."""
        result = list(theirs)
        if self.popped:
            for message in loaded:
                if message in result:
                    result.remove(message)
        for message, allow_duplicate in self.flashed:
            if allow_duplicate or message not in result:
                result.append(message)
        return result


class Session(UserDict[str, Any]):
    """A session as a view uses it.

    :ivar id: its handle, None if it is not stored, or has another token by now.
    :ivar given: what the browser was given where chance decides: a CSRF token.
    """

    def __init__(
        self,
        data: Data,
        now: int,
        id: str | None = None,
        created: int | None = None,
        last_seen: int | None = None,
        max_age: int | None = None,
    ) -> None:
        super().__init__()
        self.now = now
        self.id = id
        self.new = id is None
        self.created = now if created is None else created
        self.last_seen = now if last_seen is None else last_seen
        self.given: Any = None
        self.invalidated = False
        self._open(data, max_age)

    def _open(self, data: Data, max_age: int | None) -> None:
        self.base, self.data = deepcopy(data), deepcopy(data)
        self.assigned: set[str] = set()
        self.queues: dict[str, Queue] = {}
        self.user_assigned = self.regenerated = self.max_age_assigned = False
        self.loaded_max_age = self._max_age = max_age

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.assigned.add(key)
        self._notice(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.assigned.discard(key)
        self._notice(key)

    def _notice(self, key: str) -> None:
        # a queue that is changed directly is an ordinary key
        self.queues.pop(key, None)
        if key == USER:
            self.user_assigned = True
            self._forget_the_csrf_token()

    def _forget_the_csrf_token(self) -> None:
        # whoever planted the session knows it, unless it was made just now
        if CSRF not in self.assigned:
            self.data.pop(CSRF, None)

    @property
    def max_age(self) -> int | None:
        """The session's own lifetime."""
        return self._max_age

    @max_age.setter
    def max_age(self, value: int | None) -> None:
        self._max_age, self.max_age_assigned = value, True

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        done = any(
            queue.flashed or (queue.popped and self.base.get(key))
            for key, queue in self.queues.items()
        )
        return bool(
            json.dumps(self.data) != json.dumps(self.base)
            or done
            or self.max_age != self.loaded_max_age
        )

    def flash(self, message: Any, queue: str = "", allow_duplicate: bool = True) -> None:
        """Append a message."""
        key = FLASH + queue
        self.queues.setdefault(key, Queue()).flashed.append((message, allow_duplicate))
        messages = [*self.get(key, [])]
        if allow_duplicate or message not in messages:
            messages.append(message)
        self.data[key] = messages

    def pop_flash(self, queue: str = "") -> list[Any]:
        """All messages, which are gone then."""
        self.queues[FLASH + queue] = Queue(popped=True)
        messages: list[Any] = self.data.pop(FLASH + queue, [])
        return messages

    def peek_flash(self, queue: str = "") -> list[Any]:
        """All messages."""
        messages: list[Any] = self.get(FLASH + queue, [])
        return messages

    def get_csrf_token(self) -> str:
        """The session's token, made when it is asked for."""
        return self[CSRF] if CSRF in self else self.new_csrf_token()

    def new_csrf_token(self) -> str:
        """Another token than before."""
        assert isinstance(self.given, str)
        assert self.given != self.get(CSRF) != ""
        self[CSRF] = self.given
        return self.given

    def regenerate(self) -> None:
        """Ask for a new token."""
        self.regenerated = True
        self._forget_the_csrf_token()

    def invalidate(self) -> None:
        """End it and start with nothing."""
        self._open({}, None)
        self.id, self.new, self.invalidated = None, True, True
        self.created = self.last_seen = self.now

    def set_here(self) -> Data:
        """What this request set: all that a user who leaves it leaves behind."""
        data = {key: self[key] for key in self if key in self.assigned}
        for key, queue in self.queues.items():
            if messages := queue.replay([], []):
                data[key] = messages
        return data

    def merged(self, theirs: Data) -> tuple[Data, set[str]]:
        """My changes on top of what is stored now, and the keys that both changed."""
        result, conflicts = deepcopy(theirs), set()
        keys = {**self.base, **self.data}
        if (self.user_assigned or self.regenerated) and CSRF not in self.assigned:
            # also one that was made by the other
            for each in (result, keys):
                each.pop(CSRF, None)
        missing = object()
        for key in keys:
            loaded = self.base.get(key, [])
            queue = self.queues.get(key)
            # one that was cleared and filled again is an ordinary key
            if queue is not None and queue.replay(loaded, loaded) == self.get(key, []):
                messages = queue.replay(loaded, theirs.get(key, []))
                result.pop(key, None)
                if messages:
                    result[key] = messages
                continue
            was, mine, is_now = (each.get(key, missing) for each in (self.base, self.data, theirs))
            if mine == was:
                continue
            if is_now != was:
                conflicts.add(key)
            if mine is missing:
                result.pop(key, None)
            else:
                result[key] = mine
        return result, conflicts
