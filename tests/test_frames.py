"""What error trackers record of an error: no variable of the package shows a token or data."""

from __future__ import annotations

import base64
import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from traceback import TracebackException, walk_tb
from types import FrameType
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPFound
from pyramid.response import Response
from sqlalchemy import Engine, Text, create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support.apps import (
    VETO,
    Base,
    Broken,
    SessionRow,
    configurator,
    own_configurator,
    prefixed,
    serve,
)
from support.servers import Backend

from pyramid_sqlsession import (
    CookieRejected,
    SessionCreated,
    SessionMixin,
    SessionRegenerated,
    SQLSessionFactory,
    cookie,
)
from pyramid_sqlsession.data import encryption
from pyramid_sqlsession.data.codec import Decoded
from pyramid_sqlsession.frames import discreet
from pyramid_sqlsession.lifetime import Times
from pyramid_sqlsession.request import writer
from pyramid_sqlsession.session.found import Marker
from pyramid_sqlsession.session.merge import Merged
from pyramid_sqlsession.table.record import Record
from pyramid_sqlsession.table.rows import Rows

CANARY = "the-canary-of-alice"
KEY = base64.b64encode(bytes(range(32))).decode()
NEW_TOKEN = "NewT" * 10 + "xyz"
USER = "auth.userid"
DATA = {"secret": CANARY}


# ---- what a tracker records


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_serializer(frame: FrameType) -> bool:
    return frame.f_code in (Choosy.dumps.__code__, Choosy.loads.__code__)


def recorded(error: BaseException) -> str:
    """The texts of an error and its causes, and all variables of our frames.

    Those of SQLAlchemy, json and a serializer count too, which we have given what they hold.
    """
    texts = ["".join(TracebackException.from_exception(error).format())]
    roots = []
    for one in chain(error):
        for frame, line in walk_tb(one.__traceback__):
            root = str(frame.f_globals.get("__name__")).partition(".")[0]
            if root in ("pyramid_sqlsession", "sqlalchemy", "json") or is_serializer(frame):
                roots.append(root)
                variables = (f"{name} = {value!r}" for name, value in frame.f_locals.items())
                texts += [f"{frame.f_code.co_filename}:{line} {shown}" for shown in variables]
    assert "pyramid_sqlsession" in roots
    return "\n".join(texts)


@dataclass
class Tracker:
    """Records errors where they are shown, by an exception view, or where the server gets them."""

    has_page: bool
    seen: list[str] = field(default_factory=list)

    def page(self, error: Exception, request: Any) -> Response:
        """An exception view."""
        self.seen.append(recorded(error))
        return Response("sorry", status=500)


# ---- the application


class Choosy:
    """A serializer that does not store everything."""

    def dumps(self, data: dict[Any, Any]) -> bytes:
        if "refused" in data:
            raise ValueError("there is something that is not stored")
        return json.dumps(data).encode()

    def loads(self, stored: bytes) -> Any:
        return json.loads(stored)


def fill(request: Any) -> Any:
    request.session["secret"] = CANARY
    return {}


def change(request: Any) -> Any:
    request.session["other"] = CANARY
    request.session.flash(CANARY)
    return {}


def sign_in(request: Any) -> Any:
    request.session[USER] = "alice"
    request.session["other"] = CANARY
    return {}


def sign_in_with_message(request: Any) -> Any:
    change(request)
    return sign_in(request)


def spoil(request: Any) -> Any:
    request.session["refused"] = object()
    return {}


def read(request: Any) -> Any:
    return request.session.get("secret")


def late(request: Any) -> Any:
    def change_late(request: Any, response: Any) -> None:
        request.session["late"] = CANARY

    request.add_response_callback(change_late)
    return {}


def late_flash(request: Any) -> Any:
    request.add_response_callback(lambda request, response: request.session.flash(CANARY))
    return {}


def late_update(request: Any) -> Any:
    def change_late(request: Any, response: Any) -> None:
        session = request.session
        session |= {"late": CANARY}

    request.add_response_callback(change_late)
    return {}


def redirect(request: Any) -> Any:
    spoil(request)
    raise HTTPFound("/read")


class Down(Exception):
    """What a view raises."""


def break_down(request: Any) -> Any:
    request.session["other"] = CANARY
    raise Down("a view")


def spoil_more(request: Any) -> Any:
    """An exception view that spoils what the session held before."""
    request.session["secret"] = object()
    return Response("sorry", status=302)


VIEWS = (
    fill, change, sign_in, sign_in_with_message, spoil, read, late, late_flash, late_update,
    redirect, break_down,
)  # fmt: skip


class Site:
    """An application whose session holds a secret."""

    def __init__(self, config: Configurator, engine: Engine, tracker: Tracker) -> None:
        self.engine, self.tracker = engine, tracker
        self.subscriber_fails = False
        self.listener: Callable[[Any], None] | None = None
        for event in (SessionCreated, SessionRegenerated, CookieRejected):
            config.add_subscriber(self._subscriber, event)
        config.add_view(lambda _, request: spoil_more(request), context=Down)
        if tracker.has_page:
            config.add_view(tracker.page, context=Exception)
        self.app = serve(config, **{view.__name__: view for view in VIEWS})
        self.app.get("/fill")
        self.token = self.app.cookies["session"].strip('"')

    def _subscriber(self, event: Any) -> None:
        if self.subscriber_fails:
            raise Broken("a subscriber")
        if self.listener is not None:
            self.listener(event)

    def sql(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def fail(self, path: str) -> str:
        """What is recorded of a page that fails."""
        before = len(self.tracker.seen)
        try:
            assert self.app.get(path, expect_errors=True).status_int == 500
        except Exception as error:  # noqa: BLE001  # whatever it is
            self.tracker.seen.append(recorded(error))
        assert len(self.tracker.seen) == before + 1
        return self.tracker.seen[-1]

    def assert_quiet(self, text: str) -> None:
        for secret in (CANARY, self.token, NEW_TOKEN, KEY):
            assert secret not in text


@pytest.fixture(params=["own", "application"])
def make(request: pytest.FixtureRequest, sqlite: Backend) -> Iterator[Callable[..., Site]]:
    """Makes a site, of each of the two ways to a database."""
    engine = create_engine(sqlite.url)
    Base.metadata.create_all(engine)

    def site(ini: Any = None, *, has_page: bool = False, **options: Any) -> Site:
        if request.param == "own":
            config = own_configurator(sqlite.url, ini, model=SessionRow, **options)
        else:
            config = configurator(engine, {**(ini or {}), **prefixed(options)})
        return Site(config, engine, Tracker(has_page))

    yield site
    engine.dispose()


# ---- the failures


def no_json(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    return "/spoil"


def no_serializer(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    return "/spoil"


def no_insert(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.sql("CREATE TRIGGER no BEFORE INSERT ON sqlsession BEGIN SELECT RAISE(ABORT, 'no'); END")
    return "/sign_in"


def no_update(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.sql("CREATE TRIGGER no BEFORE UPDATE ON sqlsession BEGIN SELECT RAISE(ABORT, 'no'); END")
    return "/change"


def no_column(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.sql("CREATE TRIGGER no BEFORE UPDATE ON sqlsession BEGIN SELECT x FROM y; END")
    return "/change"


def busy(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.sql(
        "CREATE TRIGGER no BEFORE UPDATE ON sqlsession "
        "BEGIN SELECT RAISE(ABORT, 'database is locked'); END"
    )
    return "/change"


def unsealable(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    class Tired:
        def __init__(self, key: bytes) -> None:
            """As AESGCM does."""

        def encrypt(self, nonce: bytes, data: bytes, bound_to: bytes) -> bytes:
            raise Broken("no cipher")

    monkeypatch.setattr(encryption, "AESGCM", Tired)
    return "/sign_in"


def no_extra_columns(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Columns, "fail", True)
    return "/change"


def no_subscriber(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.subscriber_fails = True
    return "/sign_in"


def no_subscriber_of_a_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.subscriber_fails = True
    site.app.reset()
    site.app.set_cookie("session", "x" * 43)
    return "/change"


def no_table(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.sql("DROP TABLE sqlsession")
    return "/read"


def no_table_for_a_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    site.sql("DROP TABLE sqlsession")
    return "/change"


class Columns:
    """What fills the application's own columns."""

    fail = False

    def __call__(self, request: Any, session: Any) -> dict[str, Any]:
        if self.fail:
            raise Broken("no columns")
        return {}


FAILURES = (
    no_json, no_serializer, no_insert, no_update, no_column, busy, unsealable, no_extra_columns,
    no_subscriber, no_subscriber_of_a_read, no_table, no_table_for_a_change,
)  # fmt: skip
OPTIONS: dict[Any, dict[str, Any]] = {
    no_serializer: {"serializer": Choosy()},
    unsealable: {"seal": True, "encryption_keys": KEY},
}


@pytest.mark.parametrize("has_page", [True, False], ids=["page", "server"])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda it: it.__name__)
def test_no_variable_of_ours_shows_a_token_or_data_when_something_fails(
    make: Callable[..., Site],
    failure: Callable[[Site, pytest.MonkeyPatch], str],
    has_page: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = make(has_page=has_page, extra_columns=Columns(), **OPTIONS.get(failure, {}))
    monkeypatch.setattr(writer, "new_token", lambda: NEW_TOKEN)
    site.assert_quiet(site.fail(failure(site, monkeypatch)))


@pytest.mark.parametrize("path", ["/late", "/late_flash", "/late_update"])
def test_no_variable_of_ours_shows_what_a_change_that_comes_too_late_would_store(
    make: Callable[..., Site], path: str
) -> None:
    site = make()
    text = site.fail(path)
    assert "SessionClosed" in text
    site.assert_quiet(text)


@pytest.mark.parametrize("path", ["/redirect", "/break_down"])
def test_what_is_logged_of_a_save_beside_an_error_page_shows_no_token_or_data(
    make: Callable[..., Site], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = make(VETO)
    assert site.app.get(path).status_int == 302
    (error,) = (it.exc_info[1] for it in caplog.records if it.exc_info)
    assert error is not None
    site.assert_quiet(recorded(error))


def test_no_variable_of_ours_shows_the_token_of_a_cookie_that_cannot_be_made(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make()

    def fail(*given: Any, **named: Any) -> str:
        raise Broken("no cookie")

    monkeypatch.setattr(cookie, "make_cookie", fail)
    monkeypatch.setattr(writer, "new_token", lambda: NEW_TOKEN)
    site.assert_quiet(site.fail("/sign_in"))


def test_the_error_of_a_statement_shows_none_of_its_parameters(
    sqlite_engine: Engine, base: type[DeclarativeBase]
) -> None:
    class Model(SessionMixin, base):  # type: ignore[valid-type, misc]  # a base made for the test
        data: Mapped[str] = mapped_column(Text)

    values = {"lineage": bytes(16), "user_id": None, "created": 1, "data": CANARY,
              "last_seen": 1, "max_age": None, "purge_after": 1}  # fmt: skip
    base.metadata.create_all(sqlite_engine)
    with sqlite_engine.connect() as connection:
        Rows(Model).insert(connection, bytes(32), values, {})
        with pytest.raises(IntegrityError, match="SQL parameters hidden") as caught:
            Rows(Model).insert(connection, bytes(32), values, {})
    assert CANARY not in str(caught.value)


URL = "postgresql+nodriver://me:hunter2@db/x"


@pytest.mark.parametrize(
    "options",
    [{"encryption_keys": [KEY, KEY]}, {"sqlalchemy": {"url": URL}, "ttl": "never"}],
    ids=["key", "password"],
)
def test_no_variable_of_ours_shows_a_password_or_a_key_when_the_settings_are_wrong(
    options: dict[str, Any],
) -> None:
    def from_keywords(settings: dict[str, Any]) -> SQLSessionFactory:
        return SQLSessionFactory(**settings)

    for make, settings in (
        (from_keywords, options),
        (SQLSessionFactory.from_ini, prefixed(options)),
    ):
        with pytest.raises(ConfigurationError) as caught:
            make(settings)
        text = recorded(caught.value)
        assert KEY not in text
        assert "hunter2" not in text


def test_no_variable_of_ours_shows_the_password_of_an_engine_that_cannot_be_made() -> None:
    with pytest.raises(ConfigurationError, match="cannot create an engine") as caught:
        own_configurator(URL).make_wsgi_app()
    assert "hunter2" not in recorded(caught.value)


# ---- the objects


def test_no_object_of_ours_shows_a_token_or_data(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make(VETO, seal=True, encryption_keys=KEY)
    monkeypatch.setattr(writer, "new_token", lambda: NEW_TOKEN)
    shown: set[tuple[str, str]] = set()

    def look(event: Any) -> None:
        for it in gc.get_objects():
            if str(type(it).__module__).startswith("pyramid_sqlsession"):
                shown.add((type(it).__qualname__, repr(it)))

    site.listener = look
    site.app.get("/sign_in_with_message")
    names = {"Loaded", "Record", "State", "SQLSession", "Visit", "Writer", "Columns", "FlashQueue",
             "Codec", "Encryption", "Cookie", "Settings", "Store"}  # fmt: skip
    assert names <= {name for name, _ in shown}
    site.assert_quiet("\n".join(text for _, text in shown))


@pytest.mark.parametrize(
    "it",
    [
        Marker(Record(1, Times(1, 1, None, False), 1, DATA, None, bytes(16), 1), DATA, DATA),
        Decoded(CANARY.encode(), DATA, as_configured=True),
        Merged(DATA, ["secret"]),
    ],
    ids=lambda it: type(it).__name__,
)
def test_what_is_rarely_there_shows_no_data_either(it: Any) -> None:
    assert CANARY not in repr(it)


# ---- the frames


def test_the_variables_of_an_application_stay() -> None:
    # its developers need them
    def fail(secret: str) -> None:
        raise Broken(secret)

    with pytest.raises(Broken) as caught:
        discreet(fail)(CANARY)
    *_, (frame, _) = walk_tb(caught.value.__traceback__)
    assert frame.f_locals == {"secret": CANARY}


def test_errors_that_are_each_others_causes_are_looked_at_once() -> None:
    def fail() -> None:
        one, other = Broken("one"), Broken("other")
        one.__cause__, other.__context__ = other, one
        raise one

    with pytest.raises(Broken, match="one"):
        discreet(fail)()


def test_a_discreet_function_is_called_as_the_function_itself() -> None:
    @discreet
    def add(one: int, other: int = 2) -> int:
        """Add two numbers."""
        return one + other

    assert (add(1), add(1, other=5), add.__doc__) == (3, 6, "Add two numbers.")
