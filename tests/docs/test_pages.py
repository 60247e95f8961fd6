"""The documentation builds, and what it shows works as it says."""

from __future__ import annotations

import configparser
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPForbidden, HTTPFound, HTTPSeeOther
from pyramid.interfaces import ISessionFactory
from pyramid.request import Request, apply_request_extensions
from sqlalchemy import Engine, ForeignKey, create_engine, event, inspect, select, text, update
from sqlalchemy.orm import mapped_column
from support.apps import Note, SessionRow, configurator
from support.apps import serve as serve_views
from support.apps import show as show_session
from support.docs.pages import (
    DOCS,
    EXAMPLES,
    PAGES,
    ROOT,
    TESTS,
    blocks_of,
    code_block,
    code_blocks,
    execute,
    is_taken,
    named_blocks,
    prose_of,
)
from support.docs.programs import SERVED, Browser, python, query, run, serving
from webtest import TestApp

import pyramid_sqlsession
from pyramid_sqlsession import (
    SessionClosed,
    SessionDataError,
    SessionMixin,
    SQLSessionFactory,
)
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

README = ROOT / "README.rst"


# ---- the build


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    pytest.importorskip("sphinx_copybutton")
    html = tmp_path / "html"
    options = ["-n", "-W", "-q", "-b", "html", "-d", str(tmp_path / "doctrees")]
    run("sphinx", *options, str(DOCS), str(html), cwd=tmp_path)
    assert "What it promises" in (html / "index.html").read_text()
    for page in html.rglob("*.html"):
        assert loaded_from_elsewhere(page.read_text()) == [], page


def loaded_from_elsewhere(page: str) -> list[str]:
    """What a browser would ask other hosts for to show a page; where links lead is not that."""
    tags = re.findall(r"<(?!a\b)[^>]*(?:src|href|srcset)=\"(?:https?:)?//[^>]*>", page)
    return tags + re.findall(r"@import[^;]*|url\([\"']?(?:https?:)?//[^)]*", page)


@pytest.mark.parametrize("inventory", sorted(DOCS.glob("_inventories/*.inv")), ids=lambda p: p.name)
def test_the_names_of_other_projects_are_in_the_tree(inventory: Path) -> None:
    listed = (inventory.parent / "README.rst").read_text()
    assert f"\n{inventory.name} " in listed
    assert f'"{inventory.stem}": "https://' in (DOCS / "conf.py").read_text()


def test_no_table_has_a_header_that_begins_with_an_empty_cell() -> None:
    # it would be taken for the rest of a row above it, and be left out
    header = re.compile(r"^ *=+ [= ]+\n {12}.*\n *=+ [= ]+$", re.MULTILINE)
    for page in DOCS.rglob("*.rst"):
        assert not header.search(page.read_text()), page


@pytest.mark.parametrize("page", [README, ROOT / "CHANGES.rst"], ids=lambda page: page.name)
def test_the_package_index_can_render_it(page: Path) -> None:
    core = pytest.importorskip("docutils.core")
    settings = {
        "report_level": 1,
        "halt_level": 2,
        "raw_enabled": False,
        "file_insertion_enabled": False,
    }
    core.publish_doctree(page.read_text(), settings_overrides=settings)


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "api.rst").read_text()
    documented = re.findall(r"^\.\. auto(?:class|exception|function):: (\w+)", text, re.MULTILINE)
    assert sorted(documented) == sorted(pyramid_sqlsession.__all__)


def test_every_symbol_in_the_changelog_exists() -> None:
    names = re.findall(r"``(pyramid_sqlsession\.[\w.]+)``", (ROOT / "CHANGES.rst").read_text())
    assert names
    for name in names:
        _, symbol, *attributes = name.split(".")
        owner = getattr(pyramid_sqlsession, symbol)
        assert all(hasattr(owner, attribute) for attribute in attributes), name


def test_every_example_is_shown_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for example in EXAMPLES.glob("*.py"):
        assert f"examples/{example.name}" in text


# ---- every block


every_page = pytest.mark.parametrize(
    "page", [*PAGES, README], ids=lambda page: page.relative_to(ROOT).as_posix()
)


@every_page
def test_every_block_of_code_is_taken_by_a_test(page: Path) -> None:
    assert [block.text for block in blocks_of(page) if not is_taken(page, block)] == []


@every_page
def test_code_is_shown_in_no_other_way_than_in_blocks_that_tests_can_take(page: Path) -> None:
    directives = r"^ *\.\. (?:code|code-block|parsed-literal|prompt)::.*"
    other = rf"^ *(?!\.\. )\S.*::$|{directives}|^ *>>> .*"
    assert re.findall(other, prose_of(page), re.MULTILINE) == []


@every_page
def test_every_file_that_a_page_shows_is_an_example_that_tests_run(page: Path) -> None:
    tests = "".join(module.read_text() for module in TESTS.rglob("*.py"))
    for name in re.findall(r"\.\. literalinclude:: (\S+)", page.read_text()):
        folder, example, *_ = name.removeprefix("../").split("/")
        assert (page.parent / name).is_file()
        assert folder == "demo" or f'"{example}' in tests or f'"{Path(example).stem}"' in tests


# ---- the first page


def test_the_lines_on_the_first_page_are_all_that_is_needed(base: Any, engine: Engine) -> None:
    (block,) = code_blocks(DOCS / "index.rst", "python")
    model, include, use = block.rsplit("\n\n", 2)
    session = execute(model, Base=base)["Session"]
    base.metadata.create_all(engine)

    def shop(request: Any) -> Any:
        execute(use, request=request)
        return dict(request.session)

    settings = {"sqlsession.model": session}
    config = configurator(engine, settings, create=False, include=False)
    execute(include, config=config)
    assert serve_views(config, shop=shop).get("/shop").json == {"cart": ["tea"]}
    with engine.connect() as connection:
        assert connection.scalar(select(session.version)) == 1


def test_the_package_on_the_first_page_is_this_one() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    name = re.search(r'^name = "(.+)"$', project, re.MULTILINE)
    assert name
    assert code_blocks(DOCS / "index.rst", "console") == [f"$ pip install {name[1]}\n"]


PICTURES = [DOCS / "pictures/request.svg", DOCS / "_static/request-narrow.svg"]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_described_and_loads_nothing(picture: Path) -> None:
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(picture).getroot()  # noqa: S314  # our own
    described = [root.find(f"{space}{tag}") for tag in ("title", "desc")]
    assert all(element is not None and element.text for element in described)
    assert root.get("aria-labelledby") == "title desc"
    assert "prefers-color-scheme: dark" in picture.read_text()
    assert re.findall(r"href|@import|url\((?!#)", picture.read_text()) == []


def test_the_picture_for_phones_shows_the_same_steps() -> None:
    wide, narrow = (re.findall(r'"say.*?>(.*?)<', picture.read_text()) for picture in PICTURES)
    assert len(narrow) > 7
    # the last one is shorter
    assert narrow[:-1] == wide[:-1]


# ---- commands


def test_tests_are_run_as_the_page_for_contributors_says() -> None:
    for block in code_blocks(ROOT / "CONTRIBUTING.rst", "console"):
        program, *arguments = block.removeprefix("$ ").split()
        assert program == ".venv/bin/python"
        assert arguments.pop(0) == "-m"
        collected = run(*arguments, "--collect-only", "-q", "-q", cwd=ROOT)
        assert "test_session.py" in collected or "test_state_machine.py" in collected


def test_every_target_of_make_that_a_page_names_is_there() -> None:
    shown = [
        *code_blocks(DOCS / "demo.rst", "console"),
        code_block(DOCS / "project/trials.rst", "console", "make"),
    ]
    prose = "".join(page.read_text() for page in (*PAGES, README))
    named = set(re.findall(r"(?:\$ |``)make ([a-z-]+)", "".join(shown) + prose))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "reliability"} <= named <= targets


def test_the_faults_are_tried_with_the_options_on_the_page() -> None:
    block = code_block(DOCS / "project/trials.rst", "console", "--scale")
    command = re.search(r"-m (pytest .+?) +#", block)
    assert command
    collected = run(*command[1].split(), "--collect-only", "-q", cwd=ROOT)
    assert re.search(r"\d+ tests collected", collected)


def test_the_command_on_the_page_makes_a_key() -> None:
    block = code_block(DOCS / "encryption.rst", "console", "python -c")
    _, _, _, program = shlex.split(block)
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    settings = Settings.from_ini({"sqlsession.encryption_keys": made.stdout})
    assert [len(key) for key in settings.encryption_keys] == [32]


# ---- the ways to a database


def test_the_example_with_a_database_session_keeps_orders_and_sessions_together(
    tmp_path: Path,
) -> None:
    with serving((EXAMPLES / "dbsession.py").read_text(), tmp_path) as url:
        browser = Browser(url)
        assert browser.request(product="tea")[0] == 200
        assert browser.request(product="moon")[0] == 409
        assert browser.request()[2] == '{"ordered by you": ["tea"], "orders": 1}'
        assert Browser(url).request()[2] == '{"ordered by you": [], "orders": 1}'
    assert query(tmp_path / "orders.sqlite", "SELECT count(*) FROM sqlsession") == [(1,)]


def test_the_example_with_an_engine_of_its_own_counts_visits(tmp_path: Path) -> None:
    with serving((EXAMPLES / "own_engine.py").read_text(), tmp_path) as url:
        browser = Browser(url)
        assert [browser.request()[2] for _ in range(2)] == ['{"visits": 1}', '{"visits": 2}']
    with serving((EXAMPLES / "own_engine.py").read_text(), tmp_path) as again:
        browser.url = again
        assert browser.request()[2] == '{"visits": 3}'


def test_the_example_in_memory_counts_visits(tmp_path: Path) -> None:
    with serving((EXAMPLES / "memory.py").read_text(), tmp_path) as url:
        browser = Browser(url)
        assert [browser.request()[2] for _ in range(3)] == [f'{{"visits": {n}}}' for n in (1, 2, 3)]
        assert Browser(url).request()[2] == '{"visits": 1}'


# ---- models


@pytest.fixture
def models() -> Iterator[dict[str, Any]]:
    """The names of examples/models.py; its models are forgotten afterwards."""
    names = runpy.run_path(str(EXAMPLES / "models.py"))
    yield names
    # other tests look for "the one model that uses SessionMixin"
    names["Base"].registry.dispose()


@pytest.fixture
def engine_with(tmp_path: Path) -> Iterator[Callable[[Any], Any]]:
    """A function: an engine on a SQLite database with a schema called web, and a model's table."""
    engine = create_engine(f"sqlite:///{tmp_path / 'models.sqlite'}")

    @event.listens_for(engine, "connect")
    def attach(connection: Any, record: Any) -> None:
        connection.execute(f"ATTACH '{tmp_path / 'web.sqlite'}' AS web")

    def with_table(model: Any) -> Any:
        model.__table__.create(engine)
        return engine

    yield with_table
    engine.dispose()


def counting(engine: Any, model: Any) -> TestApp:
    """An application with this model that counts visits, and fills a cart."""

    def count(request: Any) -> Any:
        request.session["visits"] = request.session.get("visits", 0) + 1
        request.session["cart"] = ["tea"]
        return request.session["visits"]

    config = configurator(engine, {"sqlsession.model": model}, create=False)
    return serve_views(config, count=count)


@pytest.mark.parametrize(
    "name", ["Session", "RenamedSession", "SchemaSession", "TextSession", "JSONSession"]
)
def test_each_model_on_the_page_keeps_sessions(
    name: str, models: dict[str, Any], engine_with: Callable[[Any], Any]
) -> None:
    model = models[name]
    engine = engine_with(model)
    browser = counting(engine, model)
    assert [browser.get("/count").json for _ in range(3)] == [1, 2, 3]
    with engine.connect() as connection:
        assert connection.scalar(select(model.version)) == 3


def test_the_renamed_columns_have_their_new_names(models: dict[str, Any]) -> None:
    columns = models["RenamedSession"].__table__.columns
    assert {"started", "expires"} <= set(columns.keys())
    assert not {"created", "purge_after"} & set(columns.keys())
    assert columns["expires"].index


def test_the_model_in_a_schema_is_in_that_schema(
    models: dict[str, Any], engine_with: Callable[[Any], Any]
) -> None:
    engine = engine_with(models["SchemaSession"])
    assert inspect(engine).get_table_names(schema="web") == ["sqlsession"]


def test_the_own_columns_have_their_defaults_and_take_a_value(
    models: dict[str, Any], engine_with: Callable[[Any], Any]
) -> None:
    model = models["Session"]
    engine = engine_with(model)
    block = code_block(DOCS / "databases.rst", "python", "values(note=")

    def start(request: Any) -> None:
        request.session["started"] = True

    def note(request: Any) -> None:
        request.session["noted"] = True
        execute(block, request=request, Session=model, update=update)

    config = configurator(engine, {"sqlsession.model": model}, create=False)
    browser = serve_views(config, start=start, note=note)
    TestApp(browser.app).get("/start")
    browser.get("/start")
    browser.get("/note")
    with engine.connect() as connection:
        other, row = connection.execute(select(model.__table__).order_by(model.version)).all()
    assert (other.note, other.data) == (None, b'{"started":true}')
    assert (row.note, row.data) == ("asked for a call", b'{"started":true,"noted":true}')
    assert row.written is not None


def test_sessions_with_json_data_are_found_by_what_they_hold(
    models: dict[str, Any], backend: Any
) -> None:
    model = models["JSONSession"]
    engine = create_engine(backend.url)
    model.__table__.create(engine)
    block = code_block(DOCS / "data.rst", "python", "JSONSession")

    def fill(request: Any) -> None:
        request.session["cart"] = [request.params["product"]]

    def found(request: Any) -> int:
        names = execute(block, request=request, JSONSession=model, select=select)
        return len(names["found"].all())

    config = configurator(engine, {"sqlsession.model": model}, create=False)
    app = serve_views(config, fill=fill, found=found)
    for product in ("tea", "milk", "tea"):
        TestApp(app.app).get("/fill", {"product": product})
    assert app.get("/found").json == 2
    engine.dispose()


def test_several_models_are_an_error_that_names_them(models: dict[str, Any]) -> None:
    config = Configurator(settings={"sqlsession.fallback_memory": "true"})
    config.include("pyramid_sqlsession")
    with pytest.raises(ConfigurationError, match=r"TextSession.*sqlsession\.model"):
        config.make_wsgi_app()


# ---- settings, transactions, caveats


@pytest.mark.parametrize(
    "block",
    [
        code_block(DOCS / "settings.rst", "python", "set_session_factory"),
    ],
    ids=["settings"],
)
def test_the_session_factory_made_in_python_is_the_one_in_use(block: str) -> None:
    config = Configurator()
    execute(block, config=config, SQLSessionFactory=SQLSessionFactory, clock=time.time)
    config.commit()
    factory = config.registry.getUtility(ISessionFactory)
    assert factory.settings.ttl in (12 * 3600, 2 * 3600)


def ini_examples() -> Iterator[Any]:
    """The ini blocks of all pages, without those that have a name: these have their own tests."""
    for page in PAGES:
        path = page.relative_to(DOCS).with_suffix("")
        blocks = [block for block in blocks_of(page) if block.language == "ini"]
        for n, block in enumerate(blocks):
            if "name" not in block.options:
                yield pytest.param(block.text, id=f"{path}-{n}")


@pytest.mark.parametrize("block", list(ini_examples()))
def test_every_ini_example_is_accepted(block: str, models: dict[str, Any]) -> None:
    # what the command line of pserve adds
    parser = configparser.ConfigParser({"SESSION_KEYS": b64encode(bytes(32)).decode()})
    parser.read_string(f"[app]\n{block}")
    settings: dict[str, Any] = dict(parser["app"])
    stand_ins = {"sqlsession.model": models["Session"], "sqlsession.serializer": load_serializer()}
    settings.update({name: value for name, value in stand_ins.items() if name in settings})
    settings.setdefault("sqlsession.model", models["Session"])
    if "sqlsession.dbsession" not in settings:
        settings["sqlsession.fallback_memory"] = "true"
    config = Configurator(settings=settings)
    config.include("pyramid_sqlsession")
    config.make_wsgi_app()


@pytest.mark.parametrize(
    "block",
    [
        code_block(DOCS / "encryption.rst", "python", "os.environ"),
        code_block(DOCS / "reliability.rst", "python", "prepare_threshold"),
    ],
    ids=["encryption", "reliability"],
)
def test_settings_that_main_makes_are_accepted(block: str) -> None:
    settings = {"sqlsession.sqlalchemy.url": "postgresql+psycopg://localhost/shop"}
    os_with_key = SimpleNamespace(environ={"SESSION_KEYS": b64encode(bytes(32)).decode()})
    execute(block, settings=settings, os=os_with_key)
    made = Settings.from_ini(settings)
    assert made.encryption_keys or made.sqlalchemy["connect_args"] == {"prepare_threshold": None}


def test_an_explicit_list_of_tweens_without_ours_shows_the_lines_of_the_page() -> None:
    block = code_block(DOCS / "transactions.rst", "ini", "pyramid.tweens")
    lines = [line.strip() for line in block.splitlines()[1:]]
    settings = {"pyramid.tweens": lines[0], "sqlsession.fallback_memory": "true"}
    config = Configurator(settings=settings)
    config.include("pyramid_sqlsession")
    with pytest.raises(ConfigurationError) as error:
        config.make_wsgi_app()
    assert all(line in str(error.value) for line in lines)


def memory_app(
    settings: dict[str, Any], *, policy: Any = None, **views: Callable[[Any], Any]
) -> TestApp:
    values = {"sqlsession.fallback_memory": "true", "sqlsession.model": SessionRow, **settings}
    config = Configurator(settings=values, security_policy=policy)
    config.include("pyramid_sqlsession")
    return serve_views(config, **views)


@pytest.mark.parametrize(("settings", "kept"), [
    ({}, []), ({"tm.commit_veto": "pyramid_tm.default_commit_veto"}, ["Saved."])
])  # fmt: skip
def test_a_raised_redirect_keeps_its_flash_only_with_the_veto(
    settings: dict[str, Any], kept: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    block = code_block(DOCS / "caveats.rst", "python", "raise HTTPFound")

    def save(request: Any) -> None:
        execute(block, request=request, HTTPFound=HTTPFound)

    def home(request: Any) -> Any:
        return request.session.pop_flash()

    browser = memory_app(settings, save=save, home=home)
    assert browser.get("/save").follow().json == kept
    assert ("tm.commit_veto" in caplog.text) == (not kept)


def test_a_subrequest_can_share_the_session_as_the_page_says() -> None:
    block = code_block(DOCS / "transactions.rst", "python", "subrequest")

    def outer(request: Any) -> Any:
        return execute(block, request=request, Request=Request)["response"].json

    def part(request: Any) -> Any:
        request.session["n"] = request.session.get("n", 0) + 1
        return request.session["n"]

    browser = memory_app({}, outer=outer, part=part)
    assert [browser.get("/outer").json for _ in range(2)] == [1, 2]


def test_a_subrequest_with_tweens_shares_the_transaction_as_the_page_says() -> None:
    block = code_block(DOCS / "caveats.rst", "python", "subrequest")

    def outer(request: Any) -> Any:
        request.session["outer"] = 1
        subrequest = Request.blank("/inner")
        execute(block, request=request, subrequest=subrequest)
        before = request.tm.get()
        request.invoke_subrequest(subrequest, use_tweens=True)
        return request.tm.get() is before

    def inner(request: Any) -> None:
        """Whatever it does is part of the outer transaction."""

    def show(request: Any) -> Any:
        return dict(request.session)

    browser = memory_app({}, outer=outer, inner=inner, show=show)
    assert browser.get("/outer").json is True
    assert browser.get("/show").json == {"outer": 1}


def enter_alice(request: Any) -> None:
    request.session["auth.userid"] = "alice"


def is_alice(request: Any) -> bool:
    return "auth.userid" in request.session


class AlicePolicy:
    """Says that alice is signed in."""

    def authenticated_userid(self, request: Any) -> str:
        return "alice"


def test_the_views_for_devices_on_the_page_list_and_end_sessions() -> None:
    def remember(request: Any, userid: str) -> None:
        request.session["auth.userid"] = userid

    block = code_block(DOCS / "signing_in.rst", "python", "def devices")
    views = execute(block, remember=remember, HTTPSeeOther=HTTPSeeOther)

    def handles(request: Any) -> list[str]:
        return [session.handle for session in views["devices"](request)["sessions"]]

    app = memory_app(
        {},
        devices=handles,
        sign_out_device=views["sign_out_device"],
        change_password=views["change_password"],
        log_out_everywhere=views["log_out_everywhere"],
        home=is_alice,
        enter=enter_alice,
        show=is_alice,
        handle=lambda request: request.session.id,
        policy=AlicePolicy(),
    )
    others = [TestApp(app.app) for _ in range(3)]
    for browser in (app, *others):
        browser.get("/enter")
    (gone,) = set(app.get("/devices").json) - set(_others_of(app, others[0]))
    app.post("/sign_out_device", {"handle": gone})
    assert not others[0].get("/show").json
    app.get("/change_password")
    assert [browser.get("/show").json for browser in (app, *others)] == [True, False, False, False]
    app.get("/log_out_everywhere")
    assert not app.get("/show").json


def _others_of(app: TestApp, browser: TestApp) -> list[str]:
    own = browser.get("/handle").json
    return [handle for handle in app.get("/devices").json if handle != own]


def test_a_forbidden_view_signs_in_as_the_page_says() -> None:
    def remember(request: Any, userid: str) -> None:
        request.session["auth.userid"] = userid

    block = code_block(DOCS / "signing_in.rst", "python", "check_csrf_token")
    names = {"remember": remember, "HTTPSeeOther": HTTPSeeOther, "user_of": lambda post: "mia"}
    login = execute(block, **names)["login"]

    def private(request: Any) -> Any:
        if request.session.get("auth.userid") is None:
            raise HTTPForbidden
        return request.session["auth.userid"]

    values = {"sqlsession.fallback_memory": "true", "sqlsession.model": SessionRow}
    config = Configurator(settings=values)
    config.include("pyramid_sqlsession")
    config.add_forbidden_view(login, renderer="json")
    browser = serve_views(config, private=private)
    token = browser.post("/private").json["token"]
    assert browser.post("/private", {"csrf_token": token}).follow().json == "mia"


def test_columns_are_filled_as_the_page_about_signing_in_says() -> None:
    block = code_block(DOCS / "signing_in.rst", "python", "def where_from")
    where_from = execute(block)["where_from"]
    request = Request.blank("/", user_agent="x" * 999, environ={"REMOTE_ADDR": "192.0.2.1"})
    assert where_from(request, {}) == {"address": "192.0.2.1", "agent": "x" * 200}


def test_a_model_with_users_that_are_rows_is_declared_as_on_the_page(base: Any) -> None:
    names = {
        "SessionMixin": SessionMixin,
        "Base": base,
        "mapped_column": mapped_column,
        "ForeignKey": ForeignKey,
    }
    block = code_block(DOCS / "signing_in.rst", "python", "ondelete")
    model = execute(block, **names)["Session"]
    (key,) = model.__table__.c.user_id.foreign_keys
    assert (key.target_fullname, key.ondelete) == ("users.id", "CASCADE")


def shell_request(app: TestApp) -> Any:
    """A request as pshell makes it."""
    registry = app.app.registry
    request = Request.blank("/")
    request.registry = registry
    apply_request_extensions(request)
    return request


def test_a_shell_reads_and_stores_a_session_as_the_page_says(engine: Any) -> None:
    read = code_block(DOCS / "transactions.rst", "python", "TOKEN")
    store = code_block(DOCS / "transactions.rst", "python", "save_tween_factory")

    def fill(request: Any) -> None:
        request.session["cart"] = ["tea"]

    def show(request: Any) -> Any:
        return dict(request.session)

    browser = serve_views(configurator(engine), fill=fill, show=show)
    browser.get("/fill")
    request = shell_request(browser)
    request.tm.begin()
    execute(read, request=request, TOKEN=browser.cookies["session"])
    request.session["shell"] = 1
    request.dbsession.add(Note(text="from the shell"))
    request.dbsession.flush()
    request.tm.commit()
    assert browser.get("/show").json == {"cart": ["tea"]}
    execute(store, request=request)
    assert browser.get("/show").json == {"cart": ["tea"], "shell": 1}
    with pytest.raises(SessionClosed):
        request.session["late"] = 1
    with engine.connect() as connection:
        assert connection.scalar(select(Note.text)) == "from the shell"


# ---- lifetime and operating


def test_remember_me_and_the_time_left_are_as_on_the_page(engine: Any) -> None:
    remember, ask, *_ = code_blocks(DOCS / "lifetime.rst", "python")

    def sign_in(request: Any) -> None:
        request.session["user"] = "me"
        execute(remember, request=request)

    def left(request: Any) -> Any:
        return execute(ask, request=request, time=time)["seconds_left"]

    browser = serve_views(configurator(engine), sign_in=sign_in, left=left)
    browser.post("/sign_in", {"remember": "yes"})
    assert 30 * 86400 - 60 < browser.get("/left").json <= 30 * 86400


def test_the_settings_on_the_page_about_lifetimes_are_accepted() -> None:
    lifetimes, _ = code_blocks(DOCS / "lifetime.rst", "ini")
    settings = Settings.from_ini(read_ini(lifetimes))
    assert (settings.ttl, settings.absolute_ttl) == (1800, 12 * 3600)
    for page in ("lifetime", "command_line"):
        block = code_blocks(DOCS / f"{page}.rst", "ini")[-1]
        assert Settings.from_ini(read_ini(block)).cleanup_interval is None


def read_ini(block: str) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read_string("[app:main]\n" + block)
    return dict(parser["app:main"])


def test_the_statement_on_the_page_deletes_sessions_of_the_future(engine: Any) -> None:
    _, statement = code_blocks(DOCS / "lifetime.rst", "sql")
    browser = serve_views(configurator(engine), start=lambda request: request.session.update(a=1))
    for _ in range(3):
        browser.reset()
        browser.get("/start")
    now = int(time.time()) + 60
    with engine.begin() as connection:
        first, second, _ = connection.scalars(select(SessionRow.id)).all()
        row = update(SessionRow)
        connection.execute(row.where(SessionRow.id == first).values(last_seen=now + 1))
        connection.execute(row.where(SessionRow.id == second).values(created=now + 1))
        assert connection.execute(text(statement), {"now": now}).rowcount == 2


def test_a_shorter_ttl_is_followed_by_deletions_after_the_statement_on_the_page(
    engine: Any,
) -> None:
    statement, _ = code_blocks(DOCS / "lifetime.rst", "sql")

    def remember(request: Any) -> None:
        request.session.max_age = 86400
        request.session["a"] = 1

    config = configurator(engine)
    start = lambda request: request.session.update(a=1)  # noqa: E731  # a view
    browser = serve_views(config, start=start, remember=remember)
    for path in ("/start", "/remember"):
        browser.reset()
        browser.get(path)
    lifetime, now = Lifetime(Settings(ttl=60)), int(time.time()) + 120
    purge = Purge(Rows(SessionRow), lifetime, lambda: now)
    assert sum(purge.batches(engine, 10)) == 0
    with engine.begin() as connection:
        assert connection.execute(text(statement), {"ttl": 60}).rowcount == 1
    assert sum(purge.batches(engine, 10)) == 1


def test_closing_the_factory_as_on_the_page_works(engine: Any) -> None:
    (close,) = code_blocks(DOCS / "operating.rst", "python")
    browser = serve_views(configurator(engine), start=lambda request: request.session.update(a=1))
    execute(close, registry=browser.app.registry)


def test_every_line_of_the_log_on_the_page_is_in_the_code() -> None:
    page = (DOCS / "operating.rst").read_text()
    table = page[page.index("======= ===") :]
    shown = re.findall(r"^(INFO|WARNING|ERROR) +(.+?)  ", table, re.MULTILINE)
    assert len(shown) == 18
    code = "".join(path.read_text() for path in (ROOT / "pyramid_sqlsession").rglob("*.py"))
    code = re.sub(r'"\n\s+f?"', "", code)
    for _, line in shown:
        pattern = re.sub(r"\\\*\w+\\\*", r"(?:%[.0-9]*[sdrf]|\\{[^}]+\\})", re.escape(line))
        assert re.search(pattern, code), line


# ---- data


def load_serializer() -> Any:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("serializer")
    finally:
        sys.path.remove(str(EXAMPLES))


def test_the_serializer_on_the_page_stores_dates() -> None:
    def store(request: Any) -> None:
        request.session["when"] = [date(2030, 1, 2)]

    def show(request: Any) -> Any:
        return repr(request.session["when"])

    def fail(request: Any) -> None:
        request.session["price"] = Decimal("1.5")

    browser = memory_app(
        {"sqlsession.serializer": load_serializer()}, store=store, show=show, fail=fail
    )
    browser.get("/store")
    assert browser.get("/show").json == "[datetime.date(2030, 1, 2)]"
    with pytest.raises(SessionDataError, match=r"Decimal\('1.5'\) cannot be stored"):
        browser.get("/fail")
    assert browser.get("/show").json == "[datetime.date(2030, 1, 2)]"


def load_compressing() -> Any:
    return runpy.run_path(str(EXAMPLES / "howto" / "compressed.py"))["second_step"]


@pytest.mark.parametrize("size", [200_000, 100_000_000])
def test_the_compressing_serializer_on_the_page_uses_no_more_memory_than_is_allowed(
    engine: Any, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"sqlsession.serializer": load_compressing(), "sqlsession.max_size": "99 KiB"}
    config = configurator(engine, settings)
    browser = serve_views(
        config, start=lambda request: request.session.update(a=1), show=show_session
    )
    browser.get("/start")
    bomb = b"z" + zlib.compress(b'{"a":"' + b"0" * size + b'"}', 9)
    assert len(bomb) < 99 * 1024
    with engine.begin() as connection:
        connection.execute(update(SessionRow).values(data=bomb))
    tracemalloc.start()
    try:
        assert browser.get("/show").json == {}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 1024**2
    assert "cannot read row" in caplog.text


def test_the_compressing_serializer_on_the_page_reads_all_that_it_stores_and_nothing_else() -> None:
    bounded, larger = (load_compressing().bounded_by(size) for size in (1024, 2048))
    longest = {"a": "0" * (1024 - 8)}
    stored = bounded.dumps(longest)
    assert len(stored) < 100
    assert bounded.loads(stored) == longest
    with pytest.raises(ValueError, match="1025 bytes are more than 1024"):
        bounded.dumps({"a": "0" * (1024 - 7)})
    for wrong in (larger.dumps({"a": "0" * (1024 - 7)}), stored[:-1]):
        with pytest.raises(ValueError, match="more than 1024 bytes"):
            bounded.loads(wrong)


def test_the_message_about_strict_json_is_the_one_on_the_page() -> None:
    def fail(request: Any) -> None:
        request.session["cart"] = [Decimal("1.5")]

    with pytest.raises(SessionDataError) as error:
        memory_app({}, fail=fail).get("/fail")
    (shown,) = code_blocks(DOCS / "data.rst", "text")
    assert str(error.value) == " ".join(shown.split())


# ---- quickstart


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """A copy of the quickstart's application."""
    ignored = shutil.ignore_patterns("__pycache__", "*.sqlite")
    return Path(shutil.copytree(EXAMPLES / "quickstart", tmp_path / "quickstart", ignore=ignored))


def test_the_quickstart_migrates_with_the_commands_on_the_page(quickstart: Path) -> None:
    _, migrate = code_blocks(DOCS / "quickstart.rst", "console")
    for line in migrate.splitlines():
        run(*line.removeprefix("$ ").replace('"', "").split(), cwd=quickstart)
    (migration,) = (quickstart / "myapp" / "alembic" / "versions").glob("*.py")
    assert "op.create_table('sqlsession'" in migration.read_text()
    assert migration.read_text().count("op.create_index(") == 3
    checked = run("alembic", "-c", "development.ini", "check", cwd=quickstart)
    assert "No new upgrade operations detected" in checked


def test_the_quickstart_says_what_happens_where_the_model_is_not_imported(quickstart: Path) -> None:
    models, main = (quickstart / "myapp" / name for name in ("models/__init__.py", "__init__.py"))
    models.write_text(
        models.read_text().replace("from .session import Session  # noqa: F401\n", "")
    )
    program = """
        import logging, sys
        from pyramid.paster import get_app
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        get_app("development.ini")
        """
    ini = quickstart / "development.ini"
    ini.write_text(re.sub("(?m)^sqlsession.model.*", "", ini.read_text()))
    alembic = "alembic", "-c", "development.ini", "revision", "--autogenerate"
    run(*alembic, cwd=quickstart)
    (migration,) = (quickstart / "myapp" / "alembic" / "versions").glob("*.py")
    assert "op.create_table('notes'" in migration.read_text()
    assert "sqlsession" not in migration.read_text()
    shown = named_blocks(DOCS / "quickstart.rst")["log-without-model"].strip()
    assert shown not in python("-c", textwrap.dedent(program), cwd=quickstart)
    main.write_text(main.read_text().replace("config.scan()", 'config.scan(".views")'))
    assert shown in python("-c", textwrap.dedent(program), cwd=quickstart)


def test_the_quickstart_passes_its_own_tests(quickstart: Path) -> None:
    assert "3 passed" in run("pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=quickstart)


def test_the_quickstart_runs_from_its_ini_file(quickstart: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(quickstart)!r}]
        from pyramid.paster import get_app
        from sqlalchemy import create_engine
        from waitress import serve
        app = get_app({str(quickstart / "development.ini")!r})
        from myapp.models.meta import Base
        Base.metadata.create_all(create_engine("sqlite:///{quickstart / "myapp.sqlite"}"))
        serve(app, {SERVED})
        """)
    with serving(program, quickstart) as url:
        browser = Browser(f"{url}notes")
        assert browser.request(text="Buy milk")[2] == (
            '{"notes": ["Buy milk"], "messages": ["Your note is stored."]}'
        )
        assert browser.request()[2] == '{"notes": ["Buy milk"], "messages": []}'
