"""Two requests at once, step by step: real threads on real database connections.

A request stops in its view when it has read its session, and goes on when the test says so: every
interleaving is a list of steps, and nothing depends on who is faster.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine
from support.apps import rows, session_cookies
from webtest import TestApp

TIMEOUT = 20

# what a request does to its session, if only to read it
Action = Callable[[Any], Any]


# ---- two requests, step by step


class Gate:
    """Where a request stops until the test opens it; open ever after."""

    def __init__(self) -> None:
        self._here = threading.Event()
        self._open = threading.Event()

    def stop(self) -> None:
        """Called by the request."""
        self._here.set()
        if not self._open.wait(TIMEOUT):
            raise TimeoutError("the test never opened this gate")

    def leave(self) -> None:
        """Called when the request ended without coming here."""
        self._here.set()

    def open(self) -> None:
        """Let the request go on, now or when it comes here."""
        self._open.set()

    def wait(self) -> None:
        """Come back when the request is here."""
        assert self.is_reached(TIMEOUT), "the request did not get here"

    def is_reached(self, seconds: float) -> bool:
        """Whether the request is here, or comes within so many seconds."""
        return self._here.wait(seconds)


class Flight:
    """A request in a thread of its own.

    It stops in its view when it has read its session, then once more between the session's
    statements and the COMMIT. Further attempts of pyramid_retry stop nowhere.

    :ivar response: what the browser got; None if the request raised.
    :ivar error: what it raised.
    :ivar attempts: how often the view was called.
    """

    def __init__(self, app: Any, token: str | None, action: Action) -> None:
        self.response: Any = None
        self.error: BaseException | None = None
        self.attempts = 0
        self.action = action
        self._app = app
        self._token = token
        self._loaded, self._saved = Gate(), Gate()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Flight:
        """Start, without anybody waiting for it."""
        self._thread.start()
        return self

    def load(self) -> Flight:
        """Start; come back when the view has read the session."""
        self.start()
        self._loaded.wait()
        return self

    def save(self) -> Flight:
        """Go on until the session is saved, but nothing committed; or until the request failed."""
        self._loaded.open()
        self._saved.wait()
        return self

    def release(self) -> Flight:
        """Go on to the end, without anybody waiting for it."""
        self._loaded.open()
        self._saved.open()
        return self

    def finish(self) -> Flight:
        """Go on; come back when the response is there."""
        self.release()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the request hangs"
        return self

    @property
    def ok(self) -> bool:
        """Whether the browser was told that all went well."""
        return self.response is not None and self.response.status_int == 200

    @property
    def result(self) -> Any:
        """What the action returned."""
        assert self.ok, self.error
        return self.response.json

    @property
    def cookies(self) -> list[str]:
        """The session cookies that the browser got."""
        return [] if self.response is None else session_cookies(self.response)

    @property
    def token(self) -> str:
        """The token that the browser got."""
        (cookie,) = self.cookies
        return cookie.removeprefix("session=").partition(";")[0]

    def view(self, request: Any) -> Any:
        """The view of every application here."""
        self.attempts += 1
        len(request.session)
        self._loaded.stop()
        result = self.action(request.session)
        request.tm.get().addBeforeCommitHook(self._saved.stop)
        return result

    def _run(self) -> None:
        headers = {} if self._token is None else {"Cookie": f"session={self._token}"}
        browser = TestApp(self._app, extra_environ={"tests.flight": self})
        try:
            self.response = browser.get("/", headers=headers, expect_errors=True)
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.error = error
        finally:
            self._loaded.leave()
            self._saved.leave()


def view(request: Any) -> Any:
    return request.environ["tests.flight"].view(request)


class Site:
    """One application, and its visitors."""

    def __init__(self, app: Any, engine: Engine) -> None:
        self.app = app
        self.engine = engine
        self._flights: list[Flight] = []

    def request(
        self, action: Action, token: str | None = None, kind: type[Flight] = Flight
    ) -> Flight:
        """A request that is about to start."""
        flight = kind(self.app, token, action)
        self._flights.append(flight)
        return flight

    def load(self, token: str | None, *actions: Action) -> list[Flight]:
        """Requests that have all read the session, and wait in their views."""
        return [self.request(action, token).load() for action in actions]

    def visit(self, action: Action, token: str | None = None) -> Flight:
        """A request that nothing gets in the way of."""
        flight = self.request(action, token).load().finish()
        assert flight.ok, flight.error
        return flight

    def start(self, **data: Any) -> str:
        """A new session with this data: its token."""
        return self.visit(lambda session: session.update(data)).token

    def row(self, token: str) -> dict[str, Any] | None:
        """The committed row of a token."""
        wanted = hashlib.sha256(token.encode()).digest()
        return next((row for row in rows(self.engine) if row["id"] == wanted), None)

    def handle(self, token: str) -> str:
        """The public name of the session that a token's row, which must be there, belongs to."""
        row = self.row(token)
        assert row is not None
        return str(row["lineage"].hex())

    def data(self, token: str) -> dict[str, Any]:
        """The committed data of a token's row, which must be there."""
        row = self.row(token)
        assert row is not None
        data: dict[str, Any] = json.loads(row["data"])
        return data

    def close(self) -> None:
        """End the requests that a failed test has left."""
        for flight in self._flights:
            flight.release()


# ---- actions


def put(key: str, value: Any) -> Action:
    def action(session: Any) -> None:
        session[key] = value

    return action


def drop(key: str) -> Action:
    def action(session: Any) -> None:
        session.pop(key, None)

    return action


def add(key: str, amount: int = 1) -> Action:
    def action(session: Any) -> Any:
        session[key] = session.get(key, 0) + amount
        return session[key]

    return action


def both(*actions: Action) -> Action:
    def action(session: Any) -> None:
        for one in actions:
            one(session)

    return action
