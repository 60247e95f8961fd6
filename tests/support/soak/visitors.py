"""Random visitors of a real web server, who remember what it has confirmed to them."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode


class Lost(Exception):
    """No answer came: the request may have been done, or not."""


class Refused(Exception):
    """The answer was an error page."""


class Browser:
    """A browser, with its cookies."""

    def __init__(self, port: int) -> None:
        self._site = f"http://127.0.0.1:{port}"
        self._jar = CookieJar()
        processor = urllib.request.HTTPCookieProcessor(self._jar)
        self._opener = urllib.request.build_opener(processor)

    @property
    def token(self) -> str | None:
        """The session's cookie."""
        return next((str(cookie.value) for cookie in self._jar), None)

    def send(self, view: str, key: str = "") -> Any:
        """What a view answers.

        :raises Lost: if nothing came, or not all of it.
        :raises Refused: if an error page came.
        """
        try:
            with self._opener.open(f"{self._site}/{view}?{urlencode({'key': key})}") as page:
                return json.loads(page.read())
        except urllib.error.HTTPError as error:
            error.close()
            raise Refused(f"{view}: {error.code}") from None
        except (OSError, HTTPException) as error:
            raise Lost(f"{view}: {error}") from None


@dataclass
class Visit:
    """What one browser did, and what is to be in the database because of it.

    :ivar keys: keys that were confirmed.
    :ivar messages: flashed messages that were confirmed, and not shown yet.
    :ivar aborted: keys and messages of requests that were answered by an error page.
    :ivar sent: keys that were sent with a cookie, confirmed or not.
    :ivar signed_in: whether the answer to a sign-in was received.
    :ivar unseen: whether a session may live whose cookie was lost on its way.
    """

    name: str
    token: str = ""
    keys: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    aborted: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    signed_in: bool = False
    signed_out: bool = False
    unseen: bool = False

    @property
    def id(self) -> bytes:
        """The id of the session's row."""
        return hashlib.sha256(self.token.encode()).digest()


class Visitor(threading.Thread):
    """Visits a site again and again, each time with a browser that has no cookie.

    :ivar visits: all that were begun.
    :ivar confirmed: how many requests were answered as they should be.
    :ivar surprises: error pages, and answers that are wrong.
    """

    def __init__(self, name: str, port: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.visits: list[Visit] = []
        self.confirmed = 0
        self.surprises: list[str] = []
        self._name, self._port, self._over = name, port, over
        self._random = random.Random(name)

    def run(self) -> None:
        try:
            while not self._over.is_set():
                visit = Visit(f"{self._name}-{len(self.visits)}")
                self.visits.append(visit)
                self._visit(visit, Browser(self._port))
        except Exception as error:  # noqa: BLE001  # told by whoever waits for this thread
            self.surprises.append(repr(error))

    def _visit(self, visit: Visit, browser: Browser) -> None:
        self._count = 0
        while browser.token is None:
            self._put(visit, browser)
        steps = {
            self._put: 5,
            self._put_several: 3,
            self._flash: 2,
            self._pop: 1,
            self._break: 1,
            self._sign_in: 2,
        }
        for _ in range(self._random.randrange(12)):
            (step,) = self._random.choices(list(steps), weights=list(steps.values()))
            step(visit, browser)
        visit.token = browser.token or ""
        if self._random.random() < 0.5:
            self._sign_out(visit, browser)

    def _new_key(self, visit: Visit) -> str:
        self._count += 1
        return f"{visit.name}-{self._count}"

    def _ask(self, browser: Browser, view: str, key: str = "") -> Any:
        answer = browser.send(view, key)
        self.confirmed += 1
        return answer

    def _put(self, visit: Visit, browser: Browser) -> None:
        self._put_one(visit, browser, self._new_key(visit))

    def _put_several(self, visit: Visit, browser: Browser) -> None:
        """Several requests at once, as the parts of a page send them."""
        keys = [self._new_key(visit) for _ in range(3)]
        with ThreadPoolExecutor(len(keys)) as pool:
            list(pool.map(lambda key: self._put_one(visit, browser, key), keys))

    def _put_one(self, visit: Visit, browser: Browser, key: str) -> None:
        if browser.token is not None:
            visit.sent.add(key)
        with suppress(Lost):
            self._ask(browser, "put", key)
            visit.keys.add(key)
            visit.sent.add(key)

    def _flash(self, visit: Visit, browser: Browser) -> None:
        key = self._new_key(visit)
        with suppress(Lost):
            self._ask(browser, "flash", key)
            visit.messages.add(key)

    def _pop(self, visit: Visit, browser: Browser) -> None:
        expected, visit.messages = visit.messages, set()
        try:
            shown = self._ask(browser, "pop")
        except Lost:
            return
        if missing := expected.difference(shown):
            self.surprises.append(f"{visit.name}: messages were not shown: {missing}")

    def _break(self, visit: Visit, browser: Browser) -> None:
        key = self._new_key(visit)
        visit.aborted.add(key)
        try:
            self._ask(browser, "broken", key)
        except (Lost, Refused):
            return
        self.surprises.append(f"{key} was confirmed, and was to be aborted")

    def _sign_in(self, visit: Visit, browser: Browser) -> None:
        tries = 0
        while not visit.signed_in:
            tries += 1
            with suppress(Lost):
                self._ask(browser, "sign_in", visit.name)
                visit.signed_in = True
        visit.unseen |= tries > 1

    def _sign_out(self, visit: Visit, browser: Browser) -> None:
        while not visit.signed_out:
            with suppress(Lost):
                self._ask(browser, "sign_out")
                visit.signed_out = True


@dataclass(frozen=True)
class Stored:
    """What the database holds in the end.

    :ivar sessions: the data of each live session.
    :ivar users: whose they are.
    :ivar notes: what the application has stored beside them; None if it stores nothing.
    """

    sessions: Mapping[bytes, Mapping[str, Any]]
    users: set[str]
    notes: set[str] | None


def complaints(visit: Visit, stored: Stored) -> list[str]:
    """What is not as the visitor was told."""
    data = stored.sessions.get(visit.id, {})
    messages = set(data.get("_f_", ()))
    wrong = {
        "aborted, and stored": visit.aborted & (data.keys() | messages | (stored.notes or set())),
    }
    if visit.signed_out:
        wrong["signed out, and the session lives"] = {visit.name} & (
            (set() if visit.unseen else stored.users)
            | ({visit.name} if visit.id in stored.sessions else set())
        )
    else:
        wrong["confirmed, and lost"] = visit.keys - data.keys()
        wrong["flashed, and lost"] = visit.messages - messages
        if stored.notes is not None:
            wrong["stored by half"] = visit.sent & (data.keys() ^ stored.notes)
    return [f"{what}: {sorted(keys)}" for what, keys in wrong.items() if keys]
