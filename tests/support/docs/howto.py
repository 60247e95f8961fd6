"""The how-to pages, and the applications on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyramid.interfaces import ISessionFactory
from sqlalchemy import Engine, text
from webtest import TestApp

from ..apps import Clock
from .pages import DOCS, named_blocks

PAGES = DOCS / "howto"
EXAMPLES = DOCS / "examples" / "howto"
DEFAULT_MODEL = "pyramid_sqlsession.table.model.SQLSessionRow"

Example = Callable[[str], Any]
Opened = Callable[..., TestApp]


def blocks(page: str) -> dict[str, str]:
    """The blocks of a page, by their names."""
    return named_blocks(PAGES / f"{page}.rst")


def written(folder: Path, ini: str, **settings: str) -> Path:
    """An ini file of a page, with other values where this machine has others."""
    for name, value in settings.items():
        name, value = name.replace("__", "."), value.replace("%", "%%")
        ini, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", ini, flags=re.MULTILINE)
        assert count == 1, name
    if "sqlsession.model" not in ini:
        # elsewhere it is found by itself, but in this process the tests' models are found too
        ini = ini.replace("[app:main]", f"[app:main]\nsqlsession.model = {DEFAULT_MODEL}")
    path = folder / "production.ini"
    path.write_text(ini)
    return path


def another(browser: TestApp) -> TestApp:
    """Another browser for the same application."""
    return TestApp(browser.app)


def set_clock(browser: TestApp) -> Clock:
    """The clock of the application's sessions, which stands still from now on."""
    factory = browser.app.registry.getUtility(ISessionFactory)
    factory.clock = Clock()
    clock: Clock = factory.clock
    return clock


def execute(engine: Engine, *statements: str, **parameters: Any) -> list[Any]:
    """Run statements, each in a transaction of its own; the rows of the last one."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            result = connection.execute(text(statement), parameters)
        return list(result.all()) if result.returns_rows else []


def count(engine: Engine, table: str = "sqlsession") -> int:
    """How many rows a table has."""
    ((number,),) = execute(engine, f"SELECT count(*) FROM {table}")
    return int(number)


def statements_of(block: str) -> list[str]:
    """The SQL statements of a block."""
    return [statement.strip() for statement in block.split(";\n") if statement.strip()]


def post(browser: TestApp, path: str, status: int = 303, **form: str) -> Any:
    """Send a form of the application's."""
    form["csrf_token"] = browser.get("/home").json["csrf_token"]
    return browser.post(path, form, status=status)


def sign_in(browser: TestApp, name: str, **form: str) -> Any:
    return post(browser, "/sign_in", 303, name=name, password="demo", **form)


def users(*browsers: TestApp) -> list[str | None]:
    """Who is signed in there."""
    return [browser.get("/home").json["user"] for browser in browsers]
