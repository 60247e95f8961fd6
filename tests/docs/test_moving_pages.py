"""What the pages about moving say of other packages, and show to copy, is so."""

from __future__ import annotations

import configparser
import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from beaker.session import Session as BeakerSession
from benchmarks.peers.servers import Redis
from pyramid.session import JSONSerializer, SignedCookieSessionFactory
from pyramid_session_redis import RedisSessionFactory
from pyramid_session_redis.exceptions import RawDeserializationError
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from support.apps import add_views, configurator, show
from support.docs.old_stores import (
    BeakerRows,
    RedisSessions,
    Release,
    Rows,
    SignedCookies,
    download,
    pyramid_nacl_session,
    pyramid_sqlalchemy_sessions,
)
from support.servers import Backend, serving
from webtest import TestApp

from pyramid_sqlsession.settings.options import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples" / "moving"
PAGES = sorted((DOCS / "moving").glob("*.rst"))


def block(name: str) -> str:
    """A code block of the first page, by its name."""
    page = (DOCS / "moving" / "index.rst").read_text()
    (found,) = re.findall(rf"^   :name: {name}\n\n((?:   .*\n|\n)+)", page, re.MULTILINE)
    return textwrap.dedent(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip puts the release of pyramid_sqlalchemy_sessions."""
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="module")
def release(folder: Path) -> Release:
    """What runs of it."""
    return pyramid_sqlalchemy_sessions(folder)


@pytest.fixture
def myapp(tmp_path: Path) -> Iterator[Path]:
    """An application that has copied the recipe."""
    shutil.copytree(EXAMPLES, tmp_path / "myapp" / "moving")
    sys.path.insert(0, str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "myapp":
            del sys.modules[name]


@pytest.mark.parametrize("explicit", [False, True], ids=["implicit tweens", "explicit tweens"])
def test_an_application_that_copies_the_recipe_moves_sessions(
    myapp: Path, sqlite: Backend, explicit: bool
) -> None:
    ini = configparser.ConfigParser()
    ini.read_string("[app:main]\n" + block("cookie-name") + block("tweens") * explicit)
    old = SignedCookies()
    settings = {**old.settings, **ini["app:main"]}
    config = configurator(create_engine(sqlite.url), settings, include=False)
    include = block("include").replace("from_redis", "from_signed_cookies")
    exec(include, {"config": config})  # noqa: S102  # the page's
    browser = TestApp(add_views(config, show=show).make_wsgi_app())
    cookie, _ = old.begin({"cart": ["tea"]}, "Welcome")
    browser.get("/show", headers={"Cookie": f"session={cookie}"})
    assert browser.get("/show").json["cart"] == ["tea"]


def test_every_file_of_the_recipe_is_shown() -> None:
    shown = "".join(page.read_text() for page in PAGES)
    for path in EXAMPLES.glob("*.py"):
        assert f".. literalinclude:: ../examples/moving/{path.name}\n" in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_setting_that_takes_the_place_of_another_exists(page: Path) -> None:
    named = set(re.findall(r":setting:`(\w+)`", page.read_text()))
    assert named
    assert named <= {option.name for option in fields(Settings)}


def table(page: str) -> dict[str, str | None]:
    """The settings in the first table of a page, with the defaults that it gives as literals."""
    text = (DOCS / "moving" / f"{page}.rst").read_text()
    rows = text.split(".. list-table::")[1]
    cells = re.findall(r"^   \* - ((?:.*\n)(?:       .*\n)*)", rows, re.MULTILINE)
    found: dict[str, str | None] = {}
    for cell in cells:
        for names, default in re.findall(r"((?:``\w+``,?\s*)+)(?:: ``([^`]+)``)?", cell):
            found |= dict.fromkeys(re.findall(r"``(\w+)``", names), default or None)
    return found


TABLES: list[tuple[str, Callable[..., Any], set[str]]] = [
    ("signed_cookies", SignedCookieSessionFactory, set()),
    ("redis", RedisSessionFactory, set()),
    (
        "beaker",
        BeakerSession,
        {"auto", "constant_csrf_token", "cookie_on_exception", "lock_dir", "url"},
    ),
]


@pytest.mark.parametrize(("page", "factory", "others"), TABLES, ids=[it[0] for it in TABLES])
def test_a_table_has_every_setting_of_the_other_factory_with_its_default(
    page: str, factory: Callable[..., Any], others: set[str]
) -> None:
    shown = table(page)
    parameters = dict(inspect.signature(factory).parameters)
    for name in ("request", "namespace_args"):
        parameters.pop(name, None)
    assert set(shown) - others == set(parameters)
    for name in set(shown) - others:
        default = parameters[name].default
        if default is not inspect.Parameter.empty and not callable(default):
            assert shown[name] == repr(default), name


def test_pyramid_nacl_session_has_the_settings_of_signed_cookies_without_two(
    tmp_path: Path,
) -> None:
    factory = pyramid_nacl_session(tmp_path).EncryptedCookieSessionFactory
    shown = table("signed_cookies")
    for name, parameter in inspect.signature(factory).parameters.items():
        default = shown.pop(name)
        assert parameter.default is inspect.Parameter.empty or repr(parameter.default) == default
    assert set(shown) == {"hashalg", "salt"}


def test_their_json_stores_what_ours_refuses() -> None:
    stored = JSONSerializer().dumps({"a": {1: "one"}, "b": float("nan")})
    assert json.loads(stored)["a"] == {"1": "one"}


def test_beaker_leaves_a_session_that_is_invalidated_in_its_store(sqlite: Backend) -> None:
    old = BeakerRows(sqlite.url)
    cookie, _ = old.begin({"cart": ["tea"]}, "Welcome")
    session = old.open(cookie)
    session.invalidate()
    session.save()
    assert old.read(cookie)["cart"] == ["tea"]


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
def test_with_one_of_its_settings_pyramid_session_redis_cannot_read_a_session() -> None:
    options = {"redis.sessions.set_redis_ttl_readheavy": "true"}
    with serving(Redis) as server:
        old = RedisSessions(server, {**options, "redis.sessions.python_expires": "false"})
        cookie, _ = old.begin({"cart": ["tea"]}, "Welcome")
        with pytest.raises(RawDeserializationError):
            old.read(cookie)


def test_pyramid_redis_sessions_cannot_be_imported(tmp_path: Path) -> None:
    download(tmp_path, "pyramid_redis_sessions==1.0.1")
    command = [sys.executable, "-W", "ignore", "-c", "import pyramid_redis_sessions"]
    env = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    (quoted,) = re.findall(r"\(``(cannot .+?)``\)", (DOCS / "moving" / "redis.rst").read_text())
    assert f"ImportError: {quoted} from 'pyramid.session'" in done.stderr


def test_the_release_of_pyramid_sqlalchemy_sessions_cannot_be_imported(
    folder: Path, release: Release
) -> None:
    program = "import pyramid_sqlalchemy_sessions"
    command = [sys.executable, "-c", program]
    env = {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert "No module named 'pyramid_sqlalchemy_sessions.config'" in done.stderr
    (metadata,) = folder.glob("pyramid_sqlalchemy_sessions-*.dist-info/METADATA")
    assert "Requires-Dist: pyramid (<2)" in metadata.read_text()


@pytest.mark.filterwarnings("ignore:TypeDecorator:sqlalchemy.exc.SAWarning")
def test_its_model_cannot_read_what_it_has_written_to_postgresql(
    postgresql: Backend, release: Release
) -> None:
    old = Rows(release, postgresql.url)
    cookie, _ = old.begin({"cart": ["tea"]}, "Welcome")
    with Session(old.engine) as session, pytest.raises(AttributeError, match="UUID"):
        session.query(old.model).all()
    assert old.read(cookie) == {"cart": ["tea"]}
