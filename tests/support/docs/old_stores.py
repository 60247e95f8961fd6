"""Session stores that visitors come from, each run by its own code as far as that runs."""

from __future__ import annotations

import abc
import base64
import hmac
import importlib
import pickle
import secrets
import subprocess
import sys
import time
import uuid
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from beaker.session import Session as BeakerSession
from benchmarks.peers.servers import Redis
from pyramid.config import Configurator
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session
from support.servers import unavailable
from webob.cookies import SignedSerializer
from webtest import TestApp

SECRET = "a secret of the tests'"

Data = dict[str, Any]
Release = tuple[Any, Any]


class OldStore(abc.ABC):
    """A session store as it was before, and how visitors leave it.

    :cvar module: the example that moves its sessions.
    :cvar revokes: an old session can be ended; else its cookie opens it as long as it lives.
    """

    module: ClassVar[str]
    cookie_name: ClassVar[str] = "session"
    revokes: ClassVar[bool] = True
    settings: dict[str, Any]

    @abc.abstractmethod
    def begin(self, data: Data, message: str) -> tuple[str, str]:
        """A live session with a message in its flash queue: its cookie and its CSRF token."""

    @abc.abstractmethod
    def read(self, cookie: str) -> Data:
        """What the old application finds in a session."""

    @abc.abstractmethod
    def expire(self, cookie: str) -> str:
        """The cookie of the same session when its time is over."""

    @abc.abstractmethod
    def spoil(self, cookie: str) -> str:
        """The cookie of the same session when it cannot be read any more."""

    def stored(self) -> object:
        """Everything that is stored."""
        return None


class FactoryStore(OldStore):
    """A store with a session factory that runs: an old application uses it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        config = Configurator(settings=dict(settings))
        self.set_up(config)
        for view in (_fill, _show):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__)
        self.app = config.make_wsgi_app()

    @abc.abstractmethod
    def set_up(self, config: Configurator) -> None:
        """Set the old session factory."""

    def begin(self, data: Data, message: str) -> tuple[str, str]:
        browser = TestApp(self.app)
        environ = {"old.data": data, "old.message": message}
        token = browser.get("/_fill", extra_environ=environ).text
        return browser.cookies[self.cookie_name], token

    def read(self, cookie: str) -> Data:
        headers = {"Cookie": f"{self.cookie_name}={cookie}"}
        found: Data = pickle.loads(TestApp(self.app).get("/_show", headers=headers).body)  # noqa: S301  # ours
        return found


def _fill(request: Any) -> Any:
    request.session.update(request.environ["old.data"])
    request.session.flash(request.environ["old.message"])
    request.response.text = request.session.get_csrf_token()
    return request.response


def _show(request: Any) -> Any:
    request.response.body = pickle.dumps(dict(request.session))
    return request.response


class SignedCookies(FactoryStore):
    """Pyramid's own sessions, which live in the cookie."""

    module = "moving.from_signed_cookies"
    revokes = False

    def __init__(self) -> None:
        super().__init__({"session.secret": SECRET})

    def set_up(self, config: Configurator) -> None:
        config.set_session_factory(SignedCookieSessionFactory(SECRET))

    def expire(self, cookie: str) -> str:
        serializer = SignedSerializer(SECRET, "pyramid.session.", "sha512")
        renewed, created, data = serializer.loads(cookie.encode())
        value: bytes = serializer.dumps((renewed - 1201, created - 1201, data))
        return value.decode()

    def spoil(self, cookie: str) -> str:
        return cookie[:-4] + ("AAAA" if not cookie.endswith("AAAA") else "BBBB")


class EncryptedCookies(FactoryStore):
    """pyramid_nacl_session, whose sessions live in the cookie, encrypted."""

    module = "moving.from_nacl"
    revokes = False

    def __init__(self, package: ModuleType) -> None:
        self.secret = secrets.token_bytes(32)
        self.serializer: Any = package.EncryptedSerializer(self.secret)
        super().__init__({"session.secret": self.secret.hex()})

    def set_up(self, config: Configurator) -> None:
        config.include("pyramid_nacl_session")

    def expire(self, cookie: str) -> str:
        renewed, created, data = self.serializer.loads(cookie.encode())
        value: bytes = self.serializer.dumps((renewed - 1201, created - 1201, data))
        return value.decode()

    def spoil(self, cookie: str) -> str:
        return cookie[:-4] + ("AAAA" if not cookie.endswith("AAAA") else "BBBB")


class RedisSessions(FactoryStore):
    """pyramid_session_redis."""

    module = "moving.from_redis"

    def __init__(self, server: Redis, options: dict[str, str] | None = None) -> None:
        self.server = server
        known = {"redis.sessions.secret": SECRET, "redis.sessions.redis_url": server.url("")}
        super().__init__({**known, **(options or {})})

    def set_up(self, config: Configurator) -> None:
        config.include("pyramid_session_redis")

    def key(self, cookie: str) -> str:
        """The key of a session."""
        from pyramid_session_redis.util import _StringSerializer

        signed = SignedSerializer(
            SECRET, "pyramid_session_redis.", "sha512", serializer=_StringSerializer()
        )
        key: str = signed.loads(cookie.encode())
        return key

    def expire(self, cookie: str) -> str:
        with self.server.client() as client:
            assert client.pexpire(self.key(cookie), 0)
        return cookie

    def spoil(self, cookie: str) -> str:
        with self.server.client() as client:
            client.set(self.key(cookie), b"spoilt")
        return cookie

    def stored(self) -> object:
        with self.server.client() as client:
            return {key: (client.get(key), client.expiretime(key)) for key in client.scan_iter()}


class PickledKeys(OldStore):
    """pyramid_redis_sessions, which runs on Pyramid 1 only: what it stores is made here."""

    module = "moving.from_redis_sessions"

    def __init__(self, server: Redis) -> None:
        self.server = server
        self.settings = {"redis.sessions.secret": SECRET, "redis.sessions.url": server.url("")}

    def begin(self, data: Data, message: str) -> tuple[str, str]:
        key, token = secrets.token_hex(32), secrets.token_hex(20)
        stored = {**data, "_f_": [message], "_csrft_": token}
        self.put(key, {"managed_dict": stored, "created": time.time(), "timeout": 1200})
        pickled = pickle.dumps(key)
        signature = hmac.new(SECRET.encode(), pickled, "sha1").hexdigest()
        return signature + base64.b64encode(pickled).decode(), token

    def put(self, key: str, value: object) -> None:
        """Store what a session holds under its key."""
        with self.server.client() as client:
            client.setex(key, 1200, value if isinstance(value, bytes) else pickle.dumps(value))

    def key(self, cookie: str) -> str:
        """The key of a session."""
        key: str = pickle.loads(base64.b64decode(cookie[40:]))  # noqa: S301  # ours
        return key

    def read(self, cookie: str) -> Data:
        with self.server.client() as client:
            value = client.get(self.key(cookie))
        data: Data = {} if value is None else pickle.loads(value)["managed_dict"]  # noqa: S301
        return data

    def expire(self, cookie: str) -> str:
        with self.server.client() as client:
            assert client.pexpire(self.key(cookie), 0)
        return cookie

    def spoil(self, cookie: str) -> str:
        self.put(self.key(cookie), b"spoilt")
        return cookie

    def stored(self) -> object:
        with self.server.client() as client:
            return {key: (client.get(key), client.expiretime(key)) for key in client.scan_iter()}


class BeakerSessions(FactoryStore):
    """pyramid_beaker."""

    module = "moving.from_beaker"
    cookie_name = "beaker.session.id"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__({"session.secret": SECRET, "session.timeout": "1200", **settings})

    def set_up(self, config: Configurator) -> None:
        config.include("pyramid_beaker")

    def open(self, cookie: str) -> Any:
        """A session as Beaker opens it."""
        options = {key.removeprefix("session."): self.settings[key] for key in self.settings}
        options = {**options, "timeout": 1200, "key": self.cookie_name}
        return BeakerSession({"cookie": f"{self.cookie_name}={cookie}"}, **options)

    def _store(self, session: Any, value: object) -> None:
        session.namespace.acquire_write_lock()
        try:
            session.namespace["session"] = value
        finally:
            session.namespace.release_write_lock()

    def expire(self, cookie: str) -> str:
        session = self.open(cookie)
        data = {**session, "_accessed_time": time.time() - 1201}
        self._store(session, session._encrypt_data(data))
        return cookie

    def spoil(self, cookie: str) -> str:
        self._store(self.open(cookie), base64.b64encode(b"spoilt"))
        return cookie


class BeakerRows(BeakerSessions):
    """pyramid_beaker with a database."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        super().__init__({"session.type": "ext:database", "session.url": url})

    def stored(self) -> object:
        with self.engine.connect() as connection:
            return connection.exec_driver_sql("SELECT * FROM beaker_cache").fetchall()


class BeakerFiles(BeakerSessions):
    """pyramid_beaker with files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__({"session.type": "file", "session.data_dir": str(folder)})

    def stored(self) -> object:
        return {path: path.read_bytes() for path in self.folder.rglob("*.cache")}


class Rows(OldStore):
    """pyramid_sqlalchemy_sessions: the release as published cannot be imported as a whole.

    What runs of it is its model and the serializer of its cookie; they make the rows and cookies.
    """

    module = "moving.from_sqlalchemy_sessions"

    def __init__(self, release: Release, url: str) -> None:
        model, serializer = release

        class Base(DeclarativeBase):
            pass

        class OldSession(model.FullyFeaturedSession, Base):  # type: ignore[misc, name-defined]
            __tablename__ = "session"

        self.model: Any = OldSession
        self.engine: Engine = create_engine(url)
        Base.metadata.create_all(self.engine)
        secret = secrets.token_bytes(32)
        self.serializer = serializer.AESGCMBytestore(secret)
        key = base64.urlsafe_b64encode(secret).decode()
        self.settings = {"sqlalchemy.url": url, "session.secret_key": key}

    def begin(self, data: Data, message: str) -> tuple[str, str]:
        row, renewal, csrf = uuid.uuid4(), uuid.uuid4(), secrets.token_bytes(20)
        rest = {key: value for key, value in data.items() if key != "auth.userid"}
        now = int(time.time())
        with Session(self.engine) as session, session.begin():
            session.add(
                self.model(
                    id=row,
                    created=now,
                    data=rest,
                    flash={"": [message]},
                    userid=data.get("auth.userid"),
                    csrf_token=csrf,
                    cookie_path="/",
                    cookie_secure=False,
                    cookie_httponly=True,
                    idle_expire=now + 1200,
                    idle_timeout=1200,
                    extension_chance=100,
                    extension_deadline=1,
                    renewal_id=renewal,
                    renewed=now,
                    renewal_tried=now,
                    renewal_timeout=600,
                    renewal_try_every=5,
                )
            )
        cookie: bytes = self.serializer.dumps(row.bytes + renewal.bytes)
        return cookie.decode(), base64.urlsafe_b64encode(csrf).decode()

    def read(self, cookie: str) -> Data:
        # not by the model, which cannot read what it has written to PostgreSQL
        with self.engine.connect() as connection:
            found = connection.execute(
                text(f"SELECT data FROM session WHERE id = {self._id(cookie)}")
            )
            row = found.one_or_none()
        data: Data = {} if row is None else pickle.loads(row.data)  # noqa: S301  # ours
        return data

    def _id(self, cookie: str) -> str:
        """A session's id in SQL."""
        digits = self.serializer.loads(cookie.encode())[:16].hex()
        return f"'{digits}'" if self.engine.dialect.name == "postgresql" else f"x'{digits}'"

    def _set(self, cookie: str, column: str, value: str) -> str:
        statement = f"UPDATE session SET {column} = {value} WHERE id = {self._id(cookie)}"
        with self.engine.begin() as connection:
            assert connection.execute(text(statement)).rowcount == 1
        return cookie

    def expire(self, cookie: str) -> str:
        return self._set(cookie, "idle_expire", str(int(time.time()) - 1))

    def renew(self, cookie: str) -> str:
        """The cookie of the same session when its second part was changed."""
        return self._set(cookie, "renewal_id", self._id(cookie))

    def spoil(self, cookie: str) -> str:
        return self._set(cookie, "data", "'spoilt'")

    def stored(self) -> object:
        with self.engine.connect() as connection:
            return connection.execute(text("SELECT * FROM session")).fetchall()


def pyramid_sqlalchemy_sessions(folder: Path) -> Release:
    """The model and the serializer of the release on PyPI, which pip puts into a folder.

    Its own requirements (Pyramid before 2.0) are left out, and so is its ``__init__``, which
    imports a subpackage that the release lacks.
    """
    name = "pyramid_sqlalchemy_sessions"
    download(folder, f"{name}==0.1.0")
    if name not in sys.modules:
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(folder / name)]
    model, serializer = (importlib.import_module(f"{name}.{it}") for it in ("model", "serializer"))
    return model, serializer


def pyramid_nacl_session(folder: Path) -> ModuleType:
    """The release that pip puts into a folder; the tests' own environment has the rest."""
    download(folder, "pyramid_nacl_session==1.0.0", "PyNaCl")
    sys.path.append(str(folder))
    try:
        with warnings.catch_warnings():
            # of Pyramid's PickleSerializer
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("pyramid_nacl_session")
    finally:
        sys.path.remove(str(folder))


def download(folder: Path, *packages: str) -> None:
    """Have pip put packages into a folder, without what they require."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    done = subprocess.run([*command, str(folder), *packages], capture_output=True, text=True)
    if done.returncode:
        unavailable(f"{', '.join(packages)} cannot be installed: {done.stderr}")
