"""What type checkers make of the package, and of the application on the page about typing."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from support.docs.pages import DOCS, EXAMPLES, ROOT, code_block, execute
from webtest import TestApp

from pyramid_sqlsession import SQLSessionOptions
from pyramid_sqlsession.data.serializer import JSONSerializer, Serializer
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow

MISSPELLED = code_block(DOCS / "typing.rst", "python", "tll")
MESSAGES = code_block(DOCS / "typing.rst", "text", "tll").splitlines()
PASSED_ON = code_block(DOCS / "typing.rst", "python", "Unpack")

# each line that is an error says so
PROGRAM = f"""
from typing import Any
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from pyramid_sqlsession import SessionMixin, SQLSession, SQLSessionFactory
{PASSED_ON}
class Base(DeclarativeBase):
    pass

class Named(SessionMixin, Base):
    __tablename__ = "named"
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))

def view(session: SQLSession) -> list[str]:
    session.max_age = 5
    session["x"] = session.get("y", 1)
    session.max_age = "5"  # error
    flashed: int = session.pop_flash()  # error
    return session.id  # error

def columns(request: Any, session: SQLSession) -> dict[str, Any]:
    return {{}}

SQLSessionFactory(ttl="12h", cookie_secure="auto", conflict="merge", clock=lambda: 1.5)
SQLSessionFactory(model=Named, extra_columns=columns, on_expired=None, max_size=1024)
make_factory(ttl=60)
make_factory(tll=60)  # error
{MISSPELLED.strip()}  # error
SQLSessionFactory(ttl=1.5)  # error
SQLSessionFactory(conflict="mrge")  # error
SQLSessionFactory(model=str)  # error
SQLSessionFactory(seal="yes")  # error
SQLSessionFactory(on_expired=columns)  # error
"""
WRONG = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# error" in line]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def checked_by(*command: str) -> str:
    """What a type checker prints with the configuration of this project."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.stdout


# ---- the package


def test_mypy_knows_the_types_of_the_package(program: Path) -> None:
    pytest.importorskip("mypy")
    shown = checked_by("mypy", "--strict", "--no-error-summary", str(program))
    errors = re.findall(r"program\.py:(\d+): (error: .*)", shown)
    assert [int(line) for line, _ in errors] == WRONG
    assert MESSAGES[0] in dict(errors)[str(line_of(MISSPELLED))]


def test_pyright_knows_the_types_of_the_package(program: Path) -> None:
    pytest.importorskip("basedpyright")
    shown = checked_by("basedpyright", "--outputjson", "--pythonpath", sys.executable, str(program))
    found = {
        it["range"]["start"]["line"] + 1: f"{it['severity']}: {it['message']} ({it['rule']})"
        for it in json.loads(shown)["generalDiagnostics"]
    }
    assert sorted(found) == WRONG
    assert found[line_of(MISSPELLED)] == MESSAGES[1]


def line_of(statement: str) -> int:
    (line,) = (
        number
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if line.startswith(statement.strip())
    )
    return line


# ---- the options of the factory


def test_the_factory_has_a_keyword_for_each_setting_of_the_type_that_is_declared() -> None:
    typed = {
        name: annotation.__forward_arg__.replace("'", '"')
        for name, annotation in SQLSessionOptions.__annotations__.items()
    }
    assert typed == {option.name: option.metadata["type"] for option in fields(Settings)}
    assert SQLSessionOptions.__required_keys__ == frozenset()


@pytest.mark.parametrize("option", fields(Settings), ids=lambda option: option.name)
def test_a_setting_takes_what_its_type_says(option: Field[Any]) -> None:
    type_ = get_type_hints(SQLSessionOptions)[option.name]
    is_union = get_origin(type_) in (Union, UnionType)
    for member in get_args(type_) if is_union else (type_,):
        for value in values_of(member, option):
            option.metadata["convert"](value)


TEXTS = {
    "model": "pyramid_sqlsession.table.model.SQLSessionRow",
    "serializer": "marshal",
    "on_expired": "os.getcwd",
    "extra_columns": "os.getcwd",
    "encryption_keys": b64encode(bytes(32)).decode(),
    "encryption_migrate": "2030-12-31",
}


def values_of(type_: Any, option: Field[Any]) -> list[Any]:
    """Some values of a type, as an option would be given them."""
    kind, arguments = get_origin(type_) or type_, get_args(type_)
    example = option.metadata["example"].partition(" = ")[2]
    values: dict[Any, Callable[[], list[Any]]] = {
        NoneType: lambda: [None],
        bool: lambda: [True, False],
        int: lambda: [option.metadata["convert"](example)],
        str: lambda: [TEXTS.get(option.name, example)],
        bytes: lambda: [bytes(32)],
        date: lambda: [date(2030, 12, 31)],
        type: lambda: [SQLSessionRow],
        Serializer: lambda: [JSONSerializer()],
        Literal: lambda: list(arguments),
        Callable: lambda: [len],
        Mapping: lambda: [{"url": "sqlite://"}],
        Sequence: lambda: [
            [value] for it in get_args(arguments[0]) for value in values_of(it, option)
        ],
    }
    return values[kind]()


# ---- the page


def read_toml(text: str) -> Any:
    """What is configured for tools."""
    return pytest.importorskip("tomllib").loads(text)["tool"]


def test_the_function_on_the_page_passes_options_on() -> None:
    make_factory = execute(PASSED_ON)["make_factory"]
    assert make_factory().settings.ttl == 12 * 3600
    assert make_factory(ttl=60).settings.ttl == 60


def test_mypy_is_configured_on_the_page_as_here() -> None:
    shown = read_toml(code_block(DOCS / "typing.rst", "toml", "mypy"))["mypy"]
    ours = read_toml((ROOT / "pyproject.toml").read_text())["mypy"]
    assert shown.pop("strict") is ours["strict"] is True
    (override,) = shown.pop("overrides")
    (other,) = ours["overrides"]
    assert set(override.pop("module")) < set(other["module"])
    assert override == {"ignore_missing_imports": True}
    assert not shown


def test_the_typed_application_is_checked_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = read_toml((ROOT / "pyproject.toml").read_text())
    assert "docs/examples/typed.py" in ours["mypy"]["files"]
    assert "docs/examples/typed.py" in ours["pyright"]["include"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    typed = importlib.import_module("typed")
    try:
        app = TestApp(typed.main({}))
        app.post("/add", {"product": "tea"}, status=303)
        assert app.cookies["session"]
        assert app.get("/devices").json == {"seen": []}
    finally:
        del sys.modules["typed"]
        # other tests look for "the one model that uses SessionMixin"
        typed.Base.registry.dispose()
